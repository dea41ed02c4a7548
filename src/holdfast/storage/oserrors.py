"""What the operating system's refusals mean to the person who reads them."""

from __future__ import annotations

import errno
import os

from holdfast.kernel.errors import Corrupt, Denied, HoldfastError, Invalid, NoSpace, NotFound, Unavailable

_MEANING: dict[int, tuple[type[HoldfastError], str]] = {
    errno.ENOSPC: (NoSpace, "Free some space there (prune old snapshots, remove other files) and run this again."),
    errno.EDQUOT: (NoSpace, "The disk quota is used up: free some space there or have the quota raised."),
    errno.EACCES: (Denied, "Check the owner and the permissions, and which user runs this."),
    errno.EPERM: (Denied, "Check the owner and whether the file is marked immutable or append-only (lsattr)."),
    errno.EROFS: (
        Denied,
        "The file system is mounted read-only: after an error Linux does that by itself (see dmesg).",
    ),
    errno.ENOENT: (NotFound, "Check the path, and whether the disk that should be there is mounted."),
    errno.ENOTDIR: (Invalid, "A part of the path is a file where a folder is needed."),
    errno.EEXIST: (Invalid, "A file or a broken link is where a folder is needed."),
    errno.EISDIR: (Invalid, "A folder is where a file is needed."),
    errno.ELOOP: (Invalid, "A symbolic link is where a file is needed, or links lead in a circle."),
    errno.ENAMETOOLONG: (Invalid, "Choose a shorter path."),
    errno.EFBIG: (Invalid, "The file system, or a limit (ulimit -f), does not allow files of this size."),
    errno.EIO: (
        Unavailable,
        "The disk or the connection to it fails: look at dmesg and at the disk's health (smartctl).",
    ),
    errno.ESTALE: (Unavailable, "The network share was changed or restarted: mount it again."),
    errno.ENOTCONN: (Unavailable, "The program behind this mount has ended: unmount it and mount it again."),
    errno.ENODEV: (Unavailable, "The disk is gone: connect and mount it again."),
    errno.ENXIO: (Unavailable, "The disk is gone: connect and mount it again."),
    errno.ETIMEDOUT: (Unavailable, "The server behind this mount does not answer: check the network."),
    errno.EHOSTDOWN: (Unavailable, "The server behind this mount does not answer: check the network."),
    errno.EHOSTUNREACH: (Unavailable, "The server behind this mount cannot be reached: check the network."),
    errno.EMFILE: (Unavailable, "This process has too many files open: raise the limit (ulimit -n)."),
    errno.ENFILE: (Unavailable, "The machine has too many files open."),
    errno.ENOMEM: (Unavailable, "The machine is out of memory."),
    errno.EBADMSG: (Corrupt, "The file system found a wrong checksum: check it (fsck, scrub)."),
    getattr(errno, "EUCLEAN", -1): (Corrupt, "The file system itself is damaged: check it (fsck)."),
}


def printable(path: str | bytes) -> str:
    r"""A path for people: bytes that are no UTF-8 are shown as ``\xNN``, so that it can always be printed."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def translated(error: OSError, doing: str, path: str | bytes) -> HoldfastError:
    """The error to raise instead of ``error``: "cannot <doing> <path>: <reason>", with a hint for the person.

    An unknown reason becomes ``Unavailable``.
    """
    kind, hint = _MEANING.get(error.errno or 0, (Unavailable, "Try again; if it stays, look at the system's log."))
    shown = printable(path)
    reason = (os.strerror(error.errno) if error.errno else str(error)).lower()
    return kind(f"cannot {doing} {shown}: {reason}", hint=hint, path=shown, errno=errno.errorcode.get(error.errno or 0))
