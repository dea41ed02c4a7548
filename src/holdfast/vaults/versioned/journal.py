"""Making changes happen: a step is durable and in the manifest before the first current file is touched, and whatever
a crash leaves undone of it is done by the next run.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sqlite3
from collections.abc import Callable, Iterable

from holdfast.files.safepath import Directories, check_name, translated
from holdfast.files.syncing import sync_file_system
from holdfast.vaults.versioned import manifest
from holdfast.vaults.versioned.current import open_current_folder
from holdfast.vaults.versioned.index import Index, discard, expect, rebuild, usable
from holdfast.vaults.versioned.layout import Layout, flush_folder, place, step_name
from holdfast.vaults.versioned.model import Change, Step, join
from holdfast.vaults.versioned.staging import dress

Tell = Callable[[str, bytes, str], None]
"""(``failed``, ``warning`` or ``damage``; path; why)."""


def commit(
    layout: Layout,
    index: Index,
    step: Step,
    *,
    listings: dict[bytes, bytes | None],
    refreshed: Iterable[tuple[bytes, object]] = (),
    tell: Tell,
) -> None:
    """Make ``step`` part of the vault and carry it out. Raises the errors of ``translated``.

    Killed before the manifest has it: nothing happened, and its files are removed by the next run. Killed later: the
    next run carries it out to the end.
    """
    try:
        flush(layout)
        manifest.write_step(layout, step)
        carry_out(layout, index, step.number, step.changes, tell)
        with index.transaction():
            ended = (change.before.history if change.before is not None else None for change in step.changes)
            index.record(step.number, zip(step.changes, ended, strict=True), step.snapshot)
            index.refresh(refreshed)  # type: ignore[arg-type]
            index.set_listings(listings)
        _dress_folders(layout, index, step.changes)
        clear(layout.stage(step.number))
    except OSError as error:
        raise translated(error, "write to the vault", layout.root) from error


def flush(layout: Layout) -> None:
    """Return when everything that was written to the vault's file system is on the medium. Raises ``OSError``."""
    fd = os.open(layout.staging, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        sync_file_system(fd)
    finally:
        os.close(fd)


def carry_out(layout: Layout, index: Index, number: int, changes: Iterable[Change], tell: Tell) -> None:
    """Put the vault's tree into the state after these changes. Doing so again, or the rest of it, is harmless."""
    changes = list(changes)
    placing = _Placing(layout, number, tell)
    try:
        for change in changes:
            if change.after is None:
                placing.remove(join(change.folder, change.name))
        for change in changes:
            if change.after is not None:
                placing.put(change)
    finally:
        placing.close()


class _Placing:
    """One step's work on the vault's tree. Foreign things that are in the way are moved aside, never deleted."""

    def __init__(self, layout: Layout, number: int, tell: Tell) -> None:
        self._layout = layout
        self._number = number
        self._tell = tell
        self._directories = Directories(os.open(layout.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC), replace=True)
        self._staging = -1
        with contextlib.suppress(FileNotFoundError):
            self._staging = os.open(layout.stage(number), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def close(self) -> None:
        self._directories.close()
        if self._staging >= 0:
            os.close(self._staging)

    def remove(self, path: bytes) -> None:
        above, _, name = place(path).rpartition(b"/")
        try:
            parent = self._directories.get(above, make=False)
            try:
                os.unlink(name, dir_fd=parent)
            except (IsADirectoryError, PermissionError):
                self._directories.forget(place(path))
                self._clear_folder(self._directories.get(above, make=False), name, path)
        except (FileNotFoundError, NotADirectoryError):
            return

    def put(self, change: Change) -> None:
        path = join(change.folder, change.name)
        here = place(path)
        above, _, name = here.rpartition(b"/")
        check_name(name)
        assert change.after is not None
        if change.after.is_dir:
            self._directories.get(here, make=True)
        elif change.staged:
            self._rename(change.staged, above, name, path)
        else:
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                parent = self._directories.get(above, make=False)
                os.stat(name, dir_fd=parent, follow_symlinks=False)
                dress(parent, name, change.after)

    def _rename(self, staged: int, above: bytes, name: bytes, path: bytes) -> None:
        if self._staging < 0:
            return  # it was all done before a crash
        parent = self._directories.get(above, make=True)
        number = b"%d" % staged
        try:
            os.rename(number, name, src_dir_fd=self._staging, dst_dir_fd=parent)
        except FileNotFoundError:
            return  # it has its place already
        except (IsADirectoryError, FileExistsError):
            self._directories.forget(place(path))
            self._clear_folder(parent, name, path)
            os.rename(number, name, src_dir_fd=self._staging, dst_dir_fd=parent)

    def _clear_folder(self, parent: int, name: bytes, path: bytes) -> None:
        try:
            os.rmdir(name, dir_fd=parent)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
            os.makedirs(self._layout.aside, mode=0o700, exist_ok=True)
            aside = self._layout.aside + b"/%b-%b" % (step_name(self._number), os.urandom(4).hex().encode())
            os.rename(name, aside, src_dir_fd=parent)
            self._tell("warning", path, f"things that the vault does not know were in it; now in {os.fsdecode(aside)}")


def _dress_folders(layout: Layout, index: Index, changes: Iterable[Change]) -> None:
    """Folders get their metadata last, deepest first: every change in them moves their times."""
    touched = {change.folder for change in changes}
    touched |= {join(change.folder, change.name) for change in changes if change.after and change.after.is_dir}
    for path in sorted(touched, key=len, reverse=True):
        folder, _, name = path.rpartition(b"/")
        version = index.one(folder, name) if path else None
        if version is None or not version.is_dir:
            continue
        with contextlib.suppress(OSError):  # gone meanwhile: check will tell
            fd = open_current_folder(layout.root, path)
            try:
                dress(fd, None, version)
            finally:
                os.close(fd)


def clear(folder: bytes) -> None:
    """Remove a folder of ours with everything in it. Raises ``OSError``."""
    try:
        os.rmdir(folder)  # nearly always it is empty by now, or not there
    except FileNotFoundError:
        return
    except OSError:
        import shutil  # 4 ms, with the compressors that it brings along

        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(folder)


def is_clean(layout: Layout) -> bool:
    """Whether nothing has to be done before the vault can be read: the index is whole and of the newest step, and no
    step waits to be carried out."""
    try:
        if os.listdir(layout.staging) or not usable(layout):
            return False
        base, steps = manifest.files(layout)
        index = Index.open(layout, write=False)
        try:
            return index.fact("step") == (steps[-1][0] if steps else base[0] if base else 0)
        finally:
            index.close()
    except (OSError, sqlite3.Error):
        return False


def recover(layout: Layout, tell: Tell) -> Index:
    """Bring the vault into the state of its manifest's last step and open its index; under an exclusive lock.

    Raises ``Corrupt`` for a damaged manifest, and the errors of ``translated``.
    """
    try:
        fresh = not usable(layout)
        if fresh:
            discard(layout)
        index = Index.open(layout, write=True)
        try:
            _catch_up(layout, index, fresh, tell)
        except BaseException:
            index.close()
            raise
        return index
    except OSError as error:
        raise translated(error, "open the vault", layout.root) from error


def _catch_up(layout: Layout, index: Index, fresh: bool, tell: Tell) -> None:
    os.makedirs(layout.staging, mode=0o700, exist_ok=True)
    waiting = {int(name): name for name in os.listdir(layout.staging) if name.isdigit()}
    done = index.fact("step")
    if fresh:
        rebuild(layout, index)
        done = index.fact("step")
    _, steps = manifest.files(layout)
    for number, path in steps:
        unsure = fresh and number == steps[-1][0]  # a lost index does not tell whether it was carried out
        if number <= done and number not in waiting and not unsure:
            continue
        records, snapshot = manifest.read_step(path, number)
        changes = list(manifest.changes_of(path, records, number))
        carry_out(layout, index, number, [change for change, _ in changes], tell)
        if number > done:
            expect(index, number, path)
            with index.transaction():
                index.record(number, changes, snapshot)
                index.set_listings({change.folder: None for change, _ in changes})
        _dress_folders(layout, index, [change for change, _ in changes])
    for name in waiting.values():
        clear(layout.staging + b"/" + name)
    _clear_unborn(layout, index.fact("step"))
    for path in manifest.obsolete(layout):
        os.unlink(path)
        flush_folder(layout.manifest)


def _clear_unborn(layout: Layout, newest: int) -> None:
    """History of a step that never became one."""
    for name in os.listdir(layout.history):
        if name.isdigit() and int(name) > newest:
            clear(layout.history + b"/" + name)
