"""Bigger files: their blobs are written wherever they belong, by several processes at once, into one temporary file."""

from __future__ import annotations

import os
from collections import OrderedDict
from contextlib import suppress
from hashlib import sha256
from operator import itemgetter

from holdfast.files.placing import TEMPORARY
from holdfast.files.safepath import translated
from holdfast.files.sparse import write_at, write_sparse
from holdfast.files.target import Target
from holdfast.kernel.errors import HoldfastError, Invalid
from holdfast.vaults.archive.restore.files import CREATE, finish_file, read_back
from holdfast.vaults.archive.restore.packs import PackReader
from holdfast.vaults.archive.restore.survey import Job
from holdfast.vaults.archive.restore.tasks import Big, Finish, WriteParts, Written
from holdfast.vaults.base import Overwrite
from holdfast.vaults.witness import Witness

Identity = tuple[int, int]
"""Device and inode of a temporary file, by which another process knows that it opened the right one."""

_OPEN_AT_ONCE = 64  # files; macOS allows a process 256, and directories need some


class Temporaries:
    """The temporary files of bigger files, by the path that they will have. Few are open at a time."""

    def __init__(self, job: Job, target: Target) -> None:
        self._target = target
        self._token = job.token
        self._open: OrderedDict[bytes, int] = OrderedDict()

    def create(self, big: Big) -> Identity:
        """Make the file, all hole, in its full length."""
        try:
            directory = self._target.directory(big.folder)
            fd = os.open(self._name(big.path), CREATE, 0o600, dir_fd=directory)
            self._keep(big.path, fd)
            os.ftruncate(fd, big.size)
            st = os.fstat(fd)
        except OSError as error:
            raise translated(error, "write", big.path) from error
        return st.st_dev, st.st_ino

    def opened(self, path: bytes, identity: Identity) -> int:
        """A descriptor of the file that :meth:`create` made, here or in another process. Good until the next call."""
        fd = self._open.get(path)
        if fd is not None:
            self._open.move_to_end(path)
            return fd
        try:
            directory = self._target.directory(path.rpartition(b"/")[0])
            fd = os.open(self._name(path), os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory)
        except OSError as error:
            raise translated(error, "write", path) from error
        st = os.fstat(fd)
        if (st.st_dev, st.st_ino) != identity:
            os.close(fd)
            raise Invalid(f"another file took the place of {os.fsdecode(path)}", hint="Who else writes to the target?")
        self._keep(path, fd)
        return fd

    def finish(self, big: Big, identity: Identity, owner: bool | None, *, replace: bool, verify: bool) -> list[str]:
        """Give the written file its metadata and name; returns problems with the metadata."""
        fd = self.opened(big.path, identity)
        try:
            if verify:
                read_back(fd, big.content)
            directory = self._target.directory(big.folder)
            del self._open[big.path]
            return finish_file(directory, self._name(big.path), fd, big.name, big.meta, owner=owner, replace=replace)
        except OSError as error:
            raise translated(error, "finish", big.path) from error

    def abandon(self, path: bytes) -> None:
        """Remove the temporary file, if it is there."""
        self.close(path)
        with suppress(HoldfastError, OSError):
            os.unlink(self._name(path), dir_fd=self._target.directory(path.rpartition(b"/")[0]))

    def close(self, path: bytes | None = None) -> None:
        """Close one file, or all; they stay where they are."""
        for known in list(self._open) if path is None else [path]:
            if known in self._open:
                os.close(self._open.pop(known))

    def _name(self, path: bytes) -> bytes:
        return b"%b%b-%b" % (TEMPORARY, self._token, sha256(path).hexdigest()[:16].encode())

    def _keep(self, path: bytes, fd: int) -> None:
        while len(self._open) >= _OPEN_AT_ONCE:
            os.close(self._open.popitem(last=False)[1])
        self._open[path] = fd


class PartWriter:
    """Does the tasks of one process that concern bigger files."""

    def __init__(self, job: Job, temporaries: Temporaries, reader: PackReader, witness: Witness | None = None) -> None:
        self._cancel = job.cancel
        self._options = job.options
        self._temporaries = temporaries
        self._reader = reader
        self._witness = witness
        self._bigs: dict[bytes, Big] = {}
        self._write = write_sparse if job.options.sparse else write_at

    def write(self, task: WriteParts, written: Written) -> None:
        """Write the parts in this pack; files that are wholly in this task are finished, of the others is told."""
        written.current = task.bigs[-1].path
        self._bigs = {big.path: big for big in task.bigs}
        failed = dict.fromkeys(task.failed, "given up")
        identities = dict(task.shared)
        for big in task.bigs:
            if big.path not in identities:
                try:
                    identities[big.path] = self._temporaries.create(big)
                except HoldfastError as error:
                    failed[big.path] = error.message
                    written.fail(big.path, error)
        self._write_parts(task, identities, failed, written)
        for big in task.bigs:
            path = big.path
            if path in task.shared:
                written.parts.append((path, failed.get(path, "")))
            elif path in failed:
                self._temporaries.abandon(path)
            else:
                self._finish(big, identities[path], written)

    def finish(self, task: Finish, written: Written) -> None:
        """Finish a file whose parts are all written."""
        written.current = task.big.path
        self._finish(task.big, task.identity, written)

    def _write_parts(
        self, task: WriteParts, identities: dict[bytes, Identity], failed: dict[bytes, str], written: Written
    ) -> None:
        for found, users in self._reader.blobs(task.pack, sorted(task.parts, key=itemgetter(0))):
            if self._cancel.requested:
                failed.update(dict.fromkeys(identities, "cancelled"))
                return
            for _, _, _, _, path, at in users:
                if path in failed:
                    continue
                if isinstance(found, HoldfastError):
                    failed[path] = written.damaged(path, found)
                    continue
                try:
                    self._put(path, identities[path], at, found)
                except HoldfastError as error:
                    failed[path] = error.message
                    written.fail(path, error)

    def _put(self, path: bytes, identity: Identity, at: int, data: bytes) -> None:
        fd = self._temporaries.opened(path, identity)
        try:
            self._write(fd, at, data)
            if self._witness is not None:
                big = self._bigs[path]
                self._witness.part(fd, path, at, data, big.size, big.meta[3])
        except OSError as error:
            raise translated(error, "write", path) from error

    def _finish(self, big: Big, identity: Identity, written: Written) -> None:
        options = self._options
        replace = options.overwrite != Overwrite.NEVER
        try:
            problems = self._temporaries.finish(big, identity, options.owner, replace=replace, verify=options.verify)
        except HoldfastError as error:
            self._temporaries.abandon(big.path)
            written.fail(big.path, error)
            return
        if self._witness is not None:
            self._witness.finished(big.path, big.size, big.meta[3])
        written.files += 1
        written.size += big.size
        written.notes += [("failed", big.path, problem) for problem in problems]
