"""Begin a backup: the directories above the targets, and the first tasks."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Sequence

from holdfast.sources.base import ROOT as PLACE
from holdfast.sources.directory import Item, Lister, open_directory
from holdfast.vaults.archive.backup import roots
from holdfast.vaults.archive.backup.assembly import ROOT, Assembly
from holdfast.vaults.archive.backup.frames import Frame
from holdfast.vaults.archive.backup.lookback import Parent
from holdfast.vaults.archive.backup.roots import Target, Top
from holdfast.vaults.archive.backup.saver import Saver
from holdfast.vaults.archive.backup.streams import Folder, Grafting
from holdfast.vaults.archive.backup.tasks import OldTree, Task, Visit, Walk
from holdfast.vaults.base import BackupOptions

_KIND, _FILE, _DIR = 0o170000, 0o100000, 0o040000


def begin(
    targets: Sequence[Target],
    options: BackupOptions,
    parent: Parent,
    saver: Saver,
    assembly: Assembly,
    submit: Callable[[Task, bool], None],
    tell: Callable[[str, bytes, str], None],
    streams: Folder | None = None,
    *,
    lister: Lister,
    now: int,
) -> None:
    """Give ``assembly`` a frame for every directory above the targets,
    and submit a visit for every target directory, and a task for everything in ``streams`` (made at ``now``, in ns).
    """
    start = _Start(options, saver, assembly, submit, tell, streams, now)
    whole = [target for target in targets if not target.parts]
    if whole and streams is not None:  # the root's tree holds what "/" holds, and the streams beside it
        start.level(_inside(whole[0], options, lister, tell), ROOT, 0, parent.tree)
        return
    if whole:  # "/" or ".": the listing of that directory is the root tree itself
        scope = options.rules.root(whole[0].path)
        submit(Walk([Visit(ROOT, 0, whole[0].path, b"", scope, parent.tree)]), False)
        return
    start.level(roots.arrange(targets), ROOT, 0, parent.tree)


class _Start:
    """Walks down the directories above the targets."""

    def __init__(
        self,
        options: BackupOptions,
        saver: Saver,
        assembly: Assembly,
        submit: Callable[[Task, bool], None],
        tell: Callable[[str, bytes, str], None],
        streams: Folder | None,
        now: int,
    ) -> None:
        self._streams = streams
        self._grafting = Grafting(saver, assembly, submit, self._ticket, now)
        self._options = options
        self._saver = saver
        self._assembly = assembly
        self._submit = submit
        self._tell = tell
        self._next = 1

    def _ticket(self) -> int:
        self._next += 1
        return self._next - 1

    def level(self, top: Top, above: int, order: int, old: OldTree) -> None:
        """One directory above targets: its frame waits for everything below it."""
        frame = Frame(self._ticket(), above, order, b"")
        frame.memoize = False
        frame.old_tree = self._saver.entries.old_trees.resolve(old)
        below: list[tuple[bytes, Top | Target, int]] = []
        grafted = -1
        for name in sorted(top if self._streams is None or above != ROOT else [*top, PLACE]):
            if name == PLACE and above == ROOT and self._streams is not None:
                grafted = len(frame.subtrees)
                frame.subtrees.append((len(frame.parts), None))
                frame.missing += 1
                frame.parts.append(self._grafting.head(name))
                continue
            value = top[name]
            path = value.path if isinstance(value, Target) else _place(value)
            part, is_dir = self._part(name, path, frame)
            if is_dir:
                below.append((name, value, len(frame.subtrees)))
                frame.subtrees.append((len(frame.parts), None))
                frame.missing += 1
            frame.parts.append(part)
        self._assembly.expect(frame)
        if grafted >= 0 and self._streams is not None:
            inner: OldTree = None if frame.old_tree is None else (frame.old_tree, PLACE)
            self._grafting.level(self._streams, b"/" + PLACE, frame.ticket, grafted, inner)
        for name, value, position in below:
            deeper: OldTree = None if frame.old_tree is None else (frame.old_tree, name)
            if isinstance(value, Target):
                inside = b"" if value.around is None else name
                scope = value.around or self._options.rules.root(value.path)
                self._submit(Walk([Visit(frame.ticket, position, value.path, inside, scope, deeper)]), False)
            else:
                self.level(value, frame.ticket, position, deeper)

    def _part(self, name: bytes, path: bytes, frame: Frame) -> tuple[bytes | None, bool]:
        """The node of one entry above or at a target; for a directory its head."""
        try:
            st = os.lstat(path)
            kind = st.st_mode & _KIND
            if kind == _DIR:
                return self._saver.entries.directory_head(name, st, path), True
            if kind == _FILE:
                known = self._saver.entries.old_trees.nodes(frame.old_tree)
                return self._saver.entries.save_file(Item(name, st), path, known), False
            return self._saver.entries.save_other(Item(name, st), path, None), False
        except OSError as error:
            missing = error.errno == errno.ENOENT
            self._tell(
                "warning" if missing else "failed", path, "vanished" if missing else error.strerror or str(error)
            )
            return None, False


def _inside(target: Target, options: BackupOptions, lister: Lister, tell: Callable[[str, bytes, str], None]) -> Top:
    """Everything in a directory, as targets of their own."""
    fd = open_directory(target.path)
    try:
        scope, listing = lister.look(fd, options.rules.root(target.path), b"", target.path)
    finally:
        os.close(fd)
    top: Top = {item.name: Target((item.name,), b"/" + item.name, scope) for item in listing.items}
    if top.pop(PLACE, None) is not None:
        tell("failed", b"/" + PLACE, "was left out: its place in the snapshot is that of databases")
    return top


def _place(top: Top) -> bytes:
    """The directory on this machine that ``top`` stands for: as many levels above a target as it is in the snapshot."""
    depth = 0
    value: Top | Target = top
    while not isinstance(value, Target):
        value = next(iter(value.values()))
        depth += 1
    path = value.path
    for _ in range(depth):
        path = os.path.dirname(path)
    return path
