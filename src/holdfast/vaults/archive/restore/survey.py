"""Look at the trees of a snapshot and at what is in the target already, and tell what has to be done.
Changes nothing.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress
from typing import Any

from holdfast.files.safepath import Directories
from holdfast.format.node import Node, node_from_json
from holdfast.kernel.cancel import Cancel
from holdfast.kernel.errors import Corrupt, Denied, HoldfastError, NotFound, Unavailable
from holdfast.kernel.ids import BlobId
from holdfast.kernel.values import dataclass
from holdfast.repository import Repository
from holdfast.sources.sqlite import JOURNAL, LOG_MAGIC, WAL, file_head
from holdfast.vaults.archive.restore.nodes import PlainFile, is_possible, split_plain
from holdfast.vaults.archive.restore.rows import Rows
from holdfast.vaults.archive.restore.tasks import (
    Folder,
    Linked,
    Meta,
    Survey,
    Surveyed,
    Visit,
    join,
    meta_of,
)  # fmt: skip
from holdfast.vaults.archive.restore.trees import TreeReader
from holdfast.vaults.base import Overwrite, RestoreOptions
from holdfast.vaults.overwriting import verdict

NODES_PER_TASK = 3000  # after so many a worker hands back the folders that it has not begun

_OTHERS = frozenset(("symlink", "dev", "chardev", "fifo"))
Present = dict[bytes, os.stat_result]


@dataclass(frozen=True, slots=True)
class Job:
    """What all processes of one restore have in common; made before the fork.

    ``root`` is the directory that everything goes below, ``base`` the path in the snapshot that it stands for.
    ``saved``: the paths in the snapshot, relative to ``base``, that the backup was asked to save. ``token`` is in the
    name of every unfinished file of this run. ``keep`` are (device, inode) of folders that are never deleted: the
    vault itself and those around it. ``elsewhere``: folders of the snapshot that never were on a disk.
    """

    repository: Repository
    options: RestoreOptions
    root: bytes
    base: bytes
    saved: frozenset[bytes]
    token: bytes
    keep: frozenset[tuple[int, int]]
    cancel: Cancel
    is_root: bool
    elsewhere: frozenset[bytes] = frozenset()


class Surveyor:
    """Does the ``Survey`` tasks of one process."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._options = job.options
        self._target: Directories | None = None
        with suppress(OSError):  # not there yet, or it cannot be opened: the writing will tell
            self._target = Directories(os.open(job.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC), replace=False)
        self._rows = Rows(job.repository.index, keep_content=job.options.verify)
        self._trees = TreeReader(job.repository)
        self._answer = Surveyed([])
        self._walked = 0

    def survey(self, task: Survey) -> Surveyed:
        """Walk on from the folders of ``task`` until enough was seen."""
        stack = task.visits
        self._walked = 0
        while stack and self._walked < NODES_PER_TASK and not self._job.cancel.requested:
            for visit, nodes in self._trees.read(stack):
                stack += self._visit(visit, nodes)
        answer, self._answer = self._answer, Surveyed([])
        rows = self._rows
        answer.visits = stack
        answer.small = rows.take_small()
        answer.plain = rows.take_plain()
        answer.parts, rows.parts = rows.parts, {}
        answer.bigs, rows.bigs = rows.bigs, []
        answer.files, answer.size = rows.files, rows.size
        rows.files = rows.size = 0
        return answer

    def plan_item(self, visit: Visit, node: Node) -> list[Visit]:
        """One node alone, without the folder around it: what the user named. Call :meth:`survey` for the answer."""
        present = self._present(visit) if visit.there else {}
        return self._plan_nodes(visit, [node], present, sound=False)

    def plan_chain(self, folder: Folder) -> None:
        """A folder that leads to what the user named."""
        self._answer.folders.append(folder)

    def has_folder(self, path: bytes) -> bool:
        """Whether the target holds the folder ``path`` by now."""
        try:
            return self._target is not None and self._target.get(path, make=False) >= 0
        except OSError as error:
            return error.errno == errno.EACCES

    def _visit(self, visit: Visit, listed: list[dict[str, Any]] | HoldfastError) -> list[Visit]:
        """One folder: its entries become rows, its subfolders are returned."""
        self._walked += 1
        try:
            if isinstance(listed, HoldfastError):
                raise listed
            self._walked += len(listed)
            if not visit.there and visit.selection is None and not self._options.dry_run:
                split = split_plain(listed)
                if split is not None:
                    return self._plan_plain(visit, *split)
            nodes = [node_from_json(fields) for fields in listed]
        except (Corrupt, NotFound, Denied, Unavailable) as error:
            self._note("damage", visit.path, f"this folder is damaged in the vault: {error.message}")
            return []
        present = self._present(visit) if visit.there else {}
        before = self._planned
        inner = self._plan_nodes(visit, nodes, present, sound=True)
        if visit.selection is not None and self._planned > before:
            self._answer.used.append(visit.path)
        return inner

    def _plan_plain(self, visit: Visit, files: list[PlainFile], others: list[Node]) -> list[Visit]:
        """A sound folder that is wanted whole, into a place where nothing is yet: most of them."""
        folder, add = visit.path, self._rows.add_file
        for name, blob, meta in files:
            if why := add(folder, name, (BlobId(blob),), meta):
                self._note("damage", join(folder, name), why)
        inner: list[Visit] = []
        for node in others:
            if node.type == "dir":
                inner += self._plan_folder(visit, node, {})
            else:
                self._plan_item(folder, node, None)
        return inner

    @property
    def _planned(self) -> int:
        """A number that grows with every item."""
        return self._rows.files + len(self._rows.plain) + len(self._answer.linked)

    def _plan_nodes(self, visit: Visit, nodes: list[Node], present: Present, *, sound: bool) -> list[Visit]:
        """``sound``: these are all nodes of the folder, so what is not among them may be deleted."""
        folder, selection = visit.path, visit.selection
        previous = b""
        seen: set[bytes] | None = None
        inner: list[Visit] = []
        for node in nodes:
            name = node.name
            if not is_possible(name):
                self._note("failed", join(folder, name), "no file can have this name; nothing was written for it")
                continue
            if name <= previous:  # never in a sound tree
                if seen is None:
                    seen = {earlier.name for earlier in nodes[: nodes.index(node)]}
                if name in seen:
                    self._note("failed", join(folder, name), "the snapshot holds it twice; only the first counts")
                    continue
            if seen is not None:
                seen.add(name)
            previous = max(previous, name)
            if node.type == "dir":
                inner += self._plan_folder(visit, node, present)
            elif selection is None or selection.child(name, False)[0]:
                self._plan_item(folder, node, present.get(name) if present else None)
        self._plan_stale_logs(visit, nodes, present)
        if sound and self._options.delete and present and visit.saved:
            self._plan_deletes(visit, {node.name for node in nodes}, present)
        return inner

    def _plan_folder(self, visit: Visit, node: Node, present: Present) -> list[Visit]:
        path = join(visit.path, node.name)
        if path in self._job.elsewhere:
            return []
        wanted, selection = True, None
        if visit.selection is not None:
            wanted, selection = visit.selection.child(node.name, True)
            if selection is None:
                return []
            if selection.include is None and selection.exclude is None:
                selection = None
        found = present.get(node.name)
        there = found is not None and stat.S_ISDIR(found.st_mode)
        saved = visit.saved or path in self._job.saved
        if found is not None and not there:
            if self._options.overwrite == Overwrite.NEVER:
                self._note("failed", path, "something else than a folder has its name in the target")
                return []
            self._answer.removals.append(path)
        # Folders above what was saved were only passed through by the backup, and those that "never" finds are kept.
        untouched = there and (self._options.overwrite == Overwrite.NEVER or not (saved or not self._options.in_place))
        self._answer.folders.append(Folder(path, None if untouched else meta_of(node), wanted, there))
        if node.subtree is None:
            self._note("damage", path, "the snapshot does not tell what is in this folder")
            return []
        return [Visit(path, node.subtree, selection, there, saved)]

    def _plan_item(self, folder: bytes, node: Node, found: os.stat_result | None) -> None:
        """A file, link, device or pipe that is wanted; ``found`` is what has its name in the target."""
        kind = node.type
        if kind == "socket":
            return
        state = "write" if found is None else self._compare(folder, node, found)
        if self._options.dry_run and state:
            verb = {"write": "restore" if found is None else "replace", "same": "metadata", "keep": "keep"}[state]
            self._action(verb, join(folder, node.name))
        if state in ("keep", "same"):
            self._answer.skipped += 1
        meta = meta_of(node)
        if kind == "file":
            content = node.content
            if content is None:
                self._note("damage", join(folder, node.name), "the snapshot does not tell what is in this file")
            elif node.links > 1 and node.inode:
                inode = (node.device_id, node.inode)
                self._answer.linked.append(Linked(inode, folder, node.name, content, state, meta))
            elif state == "write":
                why = self._rows.add_file(folder, node.name, content, meta)
                if why:
                    self._note("damage", join(folder, node.name), why)
            elif state == "same":
                self._rows.plain.append(("repair", folder, node.name, b"", 0, *meta))
        elif kind not in _OTHERS:
            self._note("failed", join(folder, node.name), f"nothing of the type {kind!r} can be restored")
        elif state == "write":
            self._plan_other(folder, node, meta)

    def _plan_other(self, folder: bytes, node: Node, meta: Meta) -> None:
        path = join(folder, node.name)
        if node.type in ("dev", "chardev") and not self._job.is_root:
            self._note("failed", path, "only root can make devices")
        elif node.type == "symlink" and not node.linktarget:
            self._note("damage", path, "the snapshot does not tell where this link leads")
        else:
            self._rows.plain.append((node.type, folder, node.name, node.linktarget or b"", node.device, *meta))
            if node.type == "symlink":
                self._answer.links += 1
            else:
                self._answer.others += 1

    def _compare(self, folder: bytes, node: Node, found: os.stat_result) -> str:
        """What to do with an item whose name is taken: ``write``, ``same`` or ``keep``."""
        overwrite = self._options.overwrite
        if overwrite == Overwrite.NEVER:
            return "keep"
        if stat.S_ISDIR(found.st_mode):
            if (found.st_dev, found.st_ino) in self._job.keep:
                self._note("failed", join(folder, node.name), "the vault is in the folder that has its name")
                return "keep"
            if self._options.delete:
                self._answer.removals.append(join(folder, node.name))
            return "write"  # an empty folder gives way, a full one is a problem then
        return verdict(overwrite, found, node.st_mode, node.mtime, node.size)

    def _plan_deletes(self, visit: Visit, known: set[bytes], present: Present) -> None:
        for name in sorted(present.keys() - known):
            found = present[name]
            is_dir = stat.S_ISDIR(found.st_mode)
            if visit.selection is not None and not visit.selection.child(name, is_dir)[0]:
                continue
            path = join(visit.path, name)
            if (found.st_dev, found.st_ino) in self._job.keep:
                self._note("warning", path, "not deleted, because the vault is in it")
                continue
            self._answer.removals.append(path)
            if self._options.dry_run:
                self._action("delete", path)

    def _plan_stale_logs(self, visit: Visit, nodes: list[Node], present: Present) -> None:
        """Remove a log of SQLite that the snapshot does not hold: it would be played into the database that comes back.

        A backup saves databases with what is in their logs, and without the logs.
        """
        logs = [name for name in present if name.endswith((WAL, JOURNAL))]
        if not logs or self._target is None or self._options.overwrite == Overwrite.NEVER:
            return
        known = {node.name: node for node in nodes}
        for name in logs:
            base = name.rpartition(b"-")[0]
            node, found = known.get(base), present.get(base)
            if node is None or name in known or (visit.selection and not visit.selection.child(base, False)[0]):
                continue
            if self._options.overwrite == Overwrite.IF_NEWER and found and node.mtime <= found.st_mtime_ns:
                continue
            with suppress(OSError):
                if file_head(name, self._target.get(visit.path, make=False), 4) in LOG_MAGIC:
                    self._answer.removals.append(join(visit.path, name))
                    if self._options.dry_run:
                        self._action("delete", join(visit.path, name))

    def _present(self, visit: Visit) -> Present:
        """What is in that folder of the target by now."""
        if self._target is None:
            return {}
        try:
            fd = self._target.get(visit.path, make=False)
            with os.scandir(fd) as found:
                return {os.fsencode(entry.name): entry.stat(follow_symlinks=False) for entry in found}
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                self._note("warning", visit.path, f"could not look at what is there: {error.strerror}")
            return {}

    def _note(self, kind: str, path: bytes, why: str) -> None:
        self._answer.notes.append((kind, path, why))

    def _action(self, verb: str, path: bytes) -> None:
        self._answer.actions.append((verb, path))
