"""Which kind of file system a path is on, as Linux tells it."""

from __future__ import annotations

import re
import sys

_NETWORK = re.compile(
    r"fuse(?:\..+)?|nfs4?|cifs|smb3|smbfs|9p|virtiofs|ceph|glusterfs|afs|lustre|beegfs|orangefs|pvfs2|coda|ncpfs|ncp"
    r"|gpfs|davfs|vboxsf|vmhgfs|prl_fs|drvfs|autofs"
)
_WITHOUT_LINKS = frozenset(
    {"vfat", "msdos", "exfat", "cifs", "smb3", "smbfs", "vboxsf", "vmhgfs", "fuse.sshfs", "davfs"}
)
_OCTAL = re.compile(r"\\([0-7]{3})")


def file_system_kind(path: str, mountinfo: str) -> str:
    """The type (``ext4``, ``nfs4``, ...) of the file system that holds the absolute, link-free ``path``.

    ``mountinfo`` is the text of ``/proc/self/mountinfo`` (proc_pid_mountinfo(5)): field 5 is the mount point with
    blanks as octal escapes, the type follows the lone hyphen. The longest mount point wins, of equal ones the last (it
    covers the others). Empty if none fits.
    """
    best, kind = -1, ""
    for line in mountinfo.splitlines():
        fields = line.split(" ")
        point = _OCTAL.sub(lambda match: chr(int(match[1], 8)), fields[4])
        if len(point) >= best and (path == point or path.startswith(point.rstrip("/") + "/")):
            best, kind = len(point), fields[fields.index("-", 6) + 1]
    return kind


def kind_of(path: str) -> str | None:
    """Like :func:`file_system_kind` for a path of this machine; None where this cannot be known (not on Linux)."""
    if sys.platform != "linux":
        return None
    try:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
            text = file.read()
    except OSError:
        return ""
    return file_system_kind(path, text)


def lists_at_once(kind: str | None) -> bool:
    """Whether every machine sees a new file at once: not on network file systems, whose clients cache listings.

    Not being on Linux counts as local; on Linux an unknown place counts as network: that costs one short wait.
    """
    return kind is None or (kind != "" and _NETWORK.fullmatch(kind) is None)


def has_hard_links(kind: str | None) -> bool:
    """Whether the file system is not known for lacking hard links."""
    return kind not in _WITHOUT_LINKS
