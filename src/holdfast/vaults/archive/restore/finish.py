"""What a restore does around its files: a look at the free space, links, folders, sweeping up after a stop."""

from __future__ import annotations

import os
from contextlib import suppress

from holdfast.files.metadata import apply_metadata
from holdfast.files.placing import TEMPORARY
from holdfast.files.safepath import Directories, translated
from holdfast.files.sparse import write_sparse
from holdfast.files.target import Target
from holdfast.files.xattrs import read_xattrs
from holdfast.vaults.archive.restore.plan import Plan
from holdfast.vaults.archive.restore.survey import Job
from holdfast.vaults.archive.restore.tasks import Folder
from holdfast.vaults.archive.restore.write import Writer


def warn_of_space(root: bytes, needed: int) -> str:
    """A sentence if the file system of ``root`` has less than ``needed`` bytes free for us; else an empty text.

    Only a warning: what is overwritten gives space back, sparse and compressed files need less.
    """
    place = root
    while not os.path.isdir(place) and place != os.path.dirname(place):
        place = os.path.dirname(place)
    try:
        found = os.statvfs(place)
    except OSError:
        return ""
    free = found.f_bavail * found.f_frsize
    if needed <= free:
        return ""
    return f"{needed:,} bytes are to be written, but only {free:,} are free at {os.fsdecode(place)}"


def apply_folder(writer: Writer, folder: Folder, owner: bool | None) -> list[str]:
    """Give a folder its metadata, making it if it is still missing; returns problems. Raises as ``Target`` does."""
    fd = writer.target.directory(folder.path)
    if folder.meta is None:
        return []
    mode, uid, gid, mtime, atime, xattrs = folder.meta
    return apply_metadata(
        fd, None, kind="dir", st_mode=mode, uid=uid, gid=gid, mtime_ns=mtime, atime_ns=atime, xattrs=xattrs, owner=owner
    )


def link_or_copy(target: Target, path: bytes, existing: bytes, owner: bool | None) -> list[str]:
    """Make ``path`` another name of ``existing``, or a copy where the file system has no (more) links.

    Returns problems with a copy's metadata. Raises as ``Target`` does.
    """
    return [] if target.hardlink(path, existing) else _copy(target, path, existing, owner)


def _copy(target: Target, path: bytes, existing: bytes, owner: bool | None) -> list[str]:
    above, _, name = existing.rpartition(b"/")
    try:
        source = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=target.directory(above))
        try:
            st = os.fstat(source)
            with target.create_file(path, st.st_size) as copy:
                at = 0
                while piece := os.pread(source, 1 << 20, at):
                    write_sparse(copy.fd, at, piece)
                    at += len(piece)
                problems = apply_metadata(
                    copy.fd,
                    None,
                    kind="file",
                    st_mode=st.st_mode,
                    uid=st.st_uid,
                    gid=st.st_gid,
                    mtime_ns=st.st_mtime_ns,
                    atime_ns=st.st_mtime_ns,
                    xattrs=read_xattrs(source),
                    owner=owner,
                )
                copy.commit()
        finally:
            os.close(source)
    except OSError as error:
        raise translated(error, "copy to", path) from error
    return problems


def sweep_temporaries(job: Job, plan: Plan) -> None:
    """Remove the unfinished files of this run from all folders that it may have written to. Never raises."""
    ours = TEMPORARY + job.token
    with suppress(OSError):
        directories = Directories(os.open(job.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC), replace=False)
        for path in (b"", *(folder.path for folder in plan.folders)):
            with suppress(OSError):
                fd = directories.get(path, make=False)
                for name in map(os.fsencode, os.listdir(fd)):
                    if name.startswith(ours):
                        os.unlink(name, dir_fd=fd)
        directories.close()
