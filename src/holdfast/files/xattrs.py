"""Extended attributes, POSIX access control lists among them, read and written as the operating system holds them."""

from __future__ import annotations

import errno
import os
import sys

Xattrs = tuple[tuple[bytes, bytes], ...]
"""Names and values in the order in which the operating system lists them."""

_UNSUPPORTED = frozenset({errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS})
_GONE = frozenset({getattr(errno, "ENODATA", errno.ENOENT), getattr(errno, "ENOATTR", errno.ENOENT)})

if sys.platform == "linux":

    def read_xattrs(target: int | bytes, *, follow: bool = False, problems: list[str] | None = None) -> Xattrs:
        """Every attribute of ``target`` (an open descriptor or a path), in the system's order.

        Empty when there are none and where the file system has none. ``follow`` counts for paths only: False reads
        a symbolic link's own attributes. An attribute that is removed while we read is left out. One whose value is
        refused is left out and told in ``problems``; without such a list it raises ``OSError``, as does a target
        that is gone or cannot be looked at.
        """
        try:
            # An empty answer is nearly every answer: one call without keywords is the whole cost for a descriptor.
            names = os.listxattr(target) if target.__class__ is int else os.listxattr(target, follow_symlinks=follow)
        except OSError as error:
            if error.errno in _UNSUPPORTED:
                return ()
            raise
        if not names:
            return ()
        return tuple(_values(target, names, follow or isinstance(target, int), problems))

    def _values(
        target: int | bytes, names: list[str], follow: bool, problems: list[str] | None
    ) -> list[tuple[bytes, bytes]]:
        found = []
        for name in names:
            raw = os.fsencode(name)
            try:
                found.append((raw, os.getxattr(target, raw, follow_symlinks=follow)))
            except OSError as error:
                if error.errno in _GONE:
                    continue
                if problems is None:
                    raise
                problems.append(f"extended attribute {name!r} could not be read: {error.strerror}")
        return found

    def write_xattrs(target: int | bytes, wanted: Xattrs, *, follow: bool = False) -> list[str]:
        """Give ``target`` exactly the attributes ``wanted``: others are removed, equal ones left alone.

        Returns a sentence for each that could not be set or removed; raises nothing. Attributes whose name space
        the caller may not write (``trusted.*`` without privileges) are such problems. ``security.*`` attributes
        that the system itself put on a new file (an SELinux label) are not removed.
        """
        follow = follow or isinstance(target, int)
        try:
            present = {os.fsencode(name) for name in os.listxattr(target, follow_symlinks=follow)}
        except OSError as error:
            if not wanted:
                return []
            return [f"extended attributes could not be restored: {error.strerror}"]
        problems = []
        for name in present.difference(name for name, _ in wanted):
            if not name.startswith(b"security."):
                try:
                    os.removexattr(target, name, follow_symlinks=follow)
                except OSError as error:
                    if error.errno not in _GONE:
                        problems.append(f"extended attribute {_shown(name)} could not be removed: {error.strerror}")
        for name, value in wanted:
            try:
                if name not in present or os.getxattr(target, name, follow_symlinks=follow) != value:
                    os.setxattr(target, name, value, follow_symlinks=follow)
            except (OSError, ValueError) as error:  # a NUL inside a name is a ValueError
                reason = error.strerror if isinstance(error, OSError) else str(error)
                problems.append(f"extended attribute {_shown(name)} could not be set: {reason}")
        return problems

else:

    def read_xattrs(target: int | bytes, *, follow: bool = False, problems: list[str] | None = None) -> Xattrs:
        """Nothing: Python reads extended attributes on Linux only."""
        return ()

    def write_xattrs(target: int | bytes, wanted: Xattrs, *, follow: bool = False) -> list[str]:
        """Nothing is written; a problem is returned when there was something to write."""
        return ["extended attributes are not restored on this operating system"] if wanted else []


def _shown(name: bytes) -> str:
    return repr(os.fsdecode(name))
