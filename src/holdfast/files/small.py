"""A small file written whole in one call: content, owner, permissions, times and name."""

from __future__ import annotations

import os

try:
    from holdfast import _native
except ImportError:  # no compiler was there: the callers' way in several steps serves
    _native = None  # type: ignore[assignment]

LARGEST = 1 << 20
"""Bytes: above, the calls that are saved do not matter."""

_PAGE = 4096
_SET_ID = 0o6000
_MOST = (1 << 63) - 1


def write_small(
    directory: int,
    temporary: bytes,
    name: bytes,
    data: bytes,
    *,
    st_mode: int,
    uid: int,
    gid: int,
    mtime_ns: int,
    atime_ns: int,
    owner: bool | None = None,
) -> int:
    """Make the file ``name`` in an open directory, atomically under a ``temporary`` name first (an empty ``name``: only
    that); returns its inode.

    0: it could not be made so, and nothing is there; whoever asks does it in steps, and is told then what is wrong.
    That is so without the extension, where a file of that name cannot be replaced, and for what is no ordinary file:
    with set-id bits, pages of zeros, numbers that the system does not take, or attributes that its directory gives it.
    ``owner``: see ``apply_metadata``.
    """
    if _native is None or st_mode & _SET_ID or len(data) > LARGEST or 0 in data[_PAGE - 1 :: _PAGE]:
        return 0
    if not (0 <= uid < 0xFFFFFFFF and 0 <= gid < 0xFFFFFFFF and max(abs(mtime_ns), abs(atime_ns)) <= _MOST):
        return 0
    must_own = owner is True or (owner is None and os.geteuid() == 0)
    if owner is False:
        uid = gid = -1
    elif not must_own:
        uid = -1
    return _native.write_small(
        directory, temporary, name, data, st_mode & 0o1777, uid, gid, must_own, atime_ns, mtime_ns
    )
