"""Go's os.FileMode, which trees store, and the st_mode of POSIX, both ways."""

from __future__ import annotations

from stat import S_IFBLK, S_IFCHR, S_IFDIR, S_IFIFO, S_IFLNK, S_IFMT, S_IFREG, S_IFSOCK, S_ISGID, S_ISUID, S_ISVTX

_SETUID = 1 << 23
_SETGID = 1 << 22
_STICKY = 1 << 20
_IRREGULAR = 1 << 19
_CHAR_DEVICE = 1 << 26 | 1 << 21

_GO_TYPES = {
    S_IFREG: 0,
    S_IFDIR: 1 << 31,
    S_IFLNK: 1 << 27,
    S_IFBLK: 1 << 26,
    S_IFIFO: 1 << 25,
    S_IFSOCK: 1 << 24,
    S_IFCHR: _CHAR_DEVICE,
}
_POSIX_TYPES = {go: posix for posix, go in _GO_TYPES.items()}
_GO_TYPE_MASK = 1 << 31 | 1 << 27 | 1 << 26 | 1 << 25 | 1 << 24 | 1 << 21 | _IRREGULAR

TYPE_NAMES = {
    S_IFREG: "file",
    S_IFDIR: "dir",
    S_IFLNK: "symlink",
    S_IFBLK: "dev",
    S_IFCHR: "chardev",
    S_IFIFO: "fifo",
    S_IFSOCK: "socket",
}
"""The type of a node for each file type of POSIX."""

POSIX_TYPES = {name: posix for posix, name in TYPE_NAMES.items()}
"""The file type of POSIX for each type of a node; ``irregular`` has none."""


def go_mode(st_mode: int) -> int:
    """Go's FileMode of an ``st_mode``. Types that Go does not know become irregular."""
    mode = st_mode & 0o777 | _GO_TYPES.get(S_IFMT(st_mode), _IRREGULAR)
    if st_mode & 0o7000:
        mode |= _SETUID if st_mode & S_ISUID else 0
        mode |= _SETGID if st_mode & S_ISGID else 0
        mode |= _STICKY if st_mode & S_ISVTX else 0
    return mode


def posix_permissions(mode: int) -> int:
    """The twelve permission bits (0o7777) of a Go FileMode."""
    permissions = mode & 0o777
    permissions |= S_ISUID if mode & _SETUID else 0
    permissions |= S_ISGID if mode & _SETGID else 0
    permissions |= S_ISVTX if mode & _STICKY else 0
    return permissions


def posix_mode(mode: int) -> int:
    """The ``st_mode`` of a Go FileMode; the file type is 0 if POSIX has none for it."""
    return posix_permissions(mode) | _POSIX_TYPES.get(mode & _GO_TYPE_MASK, 0)
