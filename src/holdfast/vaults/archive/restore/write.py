"""One process's part of a restore: looking at trees, writing files, and making what has no content."""

from __future__ import annotations

import marshal
import stat
from collections.abc import Iterator
from operator import itemgetter

from holdfast.files.metadata import apply_metadata
from holdfast.files.target import Target
from holdfast.kernel.errors import HoldfastError, Invalid
from holdfast.vaults.archive.restore.files import FileWriter
from holdfast.vaults.archive.restore.packs import PackReader
from holdfast.vaults.archive.restore.parts import PartWriter, Temporaries
from holdfast.vaults.archive.restore.survey import Job, Surveyor
from holdfast.vaults.archive.restore.tasks import (
    Answer,
    Finish,
    Meta,
    Plain,
    Small,
    Survey,
    Task,
    WriteParts,
    WritePlain,
    WriteSmall,
    Written,
    join,
)  # fmt: skip
from holdfast.vaults.base import Overwrite
from holdfast.vaults.witness import Witness

_FORMATS = {"dev": stat.S_IFBLK, "chardev": stat.S_IFCHR}
_EMPTY_ID = bytes.fromhex("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")  # SHA-256 of nothing


class Hand:
    """Handles the tasks of one process: ``answers`` is what a pool worker calls."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self._surveyor: Surveyor | None = None
        self._writer: Writer | None = None

    @property
    def surveyor(self) -> Surveyor:
        """What looks at trees."""
        if self._surveyor is None:
            self._surveyor = Surveyor(self.job)
        return self._surveyor

    @property
    def writer(self) -> Writer:
        """What writes. It makes the target when it is first asked for."""
        if self._writer is None:
            self._writer = Writer(self.job)
        return self._writer

    def answers(self, task: Task) -> Iterator[Answer]:
        """Do one task. After a cancel, files that are not begun are left out without a problem."""
        if isinstance(task, Survey):
            yield self.surveyor.survey(task)
        else:
            yield self.writer.write(task)

    def close(self) -> None:
        """Give back descriptors."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None


class Writer:
    """Does the writing tasks of one process."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self.owner = job.options.owner
        self.target = Target(job.root, replace=job.options.overwrite != Overwrite.NEVER)
        self.temporaries = Temporaries(job, self.target)
        self._reader = PackReader(job.repository)
        proving = job.options.proving
        self._witness = None if proving is None else Witness(proving, job.base)
        self._files = FileWriter(job, self.target, self._witness)
        self._parts = PartWriter(job, self.temporaries, self._reader, self._witness)

    def write(self, task: Task) -> Written:
        """Do one task."""
        written = Written()
        self._files.leave()
        if isinstance(task, WriteSmall):
            self._small(task, written)
        elif isinstance(task, WriteParts):
            self._parts.write(task, written)
        elif isinstance(task, Finish):
            self._parts.finish(task, written)
        elif isinstance(task, WritePlain):
            self._plain(task, written)
        written.read, self._reader.bytes_read = self._reader.bytes_read, 0
        if self._witness is not None:
            written.proven = self._witness.take()
        return written

    def close(self) -> None:
        """Close all files and directories."""
        self.temporaries.close()
        self.target.close()

    def _small(self, task: WriteSmall, written: Written) -> None:
        rows: list[Small] = []
        for chunk in task.rows:
            rows += marshal.loads(chunk)
        rows.sort(key=itemgetter(0))
        written.current = join(*rows[-1][4:6])
        cancel, write = self._job.cancel, self._files.write
        for found, users in self._reader.blobs(task.pack, rows):
            if cancel.requested:
                return
            for row in users:
                if isinstance(found, HoldfastError):
                    written.damaged(join(row[4], row[5]), found)
                    continue
                try:
                    problems = write(row[4], row[5], found, row[6:], row[3])
                except HoldfastError as error:
                    written.fail(join(row[4], row[5]), error)
                    continue
                written.files += 1
                written.size += len(found)
                if problems:
                    written.notes += [("failed", join(row[4], row[5]), problem) for problem in problems]

    def _plain(self, task: WritePlain, written: Written) -> None:
        rows: list[Plain] = marshal.loads(task.rows)
        for row in rows:
            if self._job.cancel.requested:
                return
            written.current = join(row[1], row[2])
            try:
                problems = self._make(row, written)
            except HoldfastError as error:
                written.fail(written.current, error)
                continue
            written.notes += [("failed", written.current, problem) for problem in problems]

    def _make(self, row: Plain, written: Written) -> list[str]:
        kind, folder, name, linktarget, device, *_ = row
        if kind == "file":
            problems = self._files.write(folder, name, b"", row[5:], _EMPTY_ID)
            written.files += 1
            return problems
        self._files.leave()
        path = join(folder, name)
        if kind == "symlink":
            self.target.symlink(path, linktarget)
            written.links += 1
        elif kind == "fifo":
            self.target.mkfifo(path)
            written.others += 1
        elif kind in _FORMATS:
            self._mknod(path, _FORMATS[kind], device)
            written.others += 1
        return self._apply(kind, folder, name, row[5:])

    def _mknod(self, path: bytes, kind: int, device: int) -> None:
        try:
            self.target.mknod(path, kind, device)
        except OverflowError:
            raise Invalid(f"no device has the number {device}", hint="The snapshot is damaged here.") from None

    def _apply(self, kind: str, folder: bytes, name: bytes, meta: Meta) -> list[str]:
        mode, uid, gid, mtime, atime, xattrs = meta
        return apply_metadata(
            self.target.directory(folder),
            name,
            kind="file" if kind == "repair" else kind,
            st_mode=mode,
            uid=uid,
            gid=gid,
            mtime_ns=mtime,
            atime_ns=atime,
            xattrs=xattrs,
            owner=self.owner,
        )
