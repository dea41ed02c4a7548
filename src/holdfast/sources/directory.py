"""Read one directory: its entries in byte order with what ``stat`` says of them, and a hash over all of it."""

from __future__ import annotations

import errno
import os
import stat
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from hashlib import blake2b
from typing import TYPE_CHECKING, NamedTuple

from holdfast.files.rules import Rules, Scope
from holdfast.kernel.values import dataclass
from holdfast.sources.records import pack, unpack

if TYPE_CHECKING:
    from holdfast.format.node import Stat
    from holdfast.sources.onescan import Found, OneScan

from holdfast.kernel.native import native as _native

LONG_PATH = 3800  # the system takes 4,095 bytes at once, a name has up to 255
_IGNORE_FILE_LIMIT = 1 << 20
_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
_HERE = -2 if sys.platform == "darwin" else -100  # AT_FDCWD
_NOATIME = getattr(os, "O_NOATIME", 0)

_KEYED = ("mode", "mtime_ns", "ctime_ns", "ino", "dev", "uid", "gid", "nlink", "rdev", "size")

Keep = Callable[["list[Item]", int, tuple[bytes, ...], bytes | None, bytes | None], None]

NOTHING = b"\xff" * 16
"""The key of a directory that is not looked into."""


class Item(NamedTuple):
    """One entry of a directory."""

    name: bytes
    stat: Stat


class Listing(NamedTuple):
    """What is to be saved of a directory. ``key`` hashes everything that its tree depends on but its subtrees'
    content. ``at_ns``: when an earlier backup read it; None: it was read just now.
    """

    items: list[Item]
    key: bytes
    excluded: int
    reasons: tuple[tuple[bytes, str], ...] = ()
    at_ns: int | None = None


class Surveyed(NamedTuple):
    """A directory as it is, whatever the rules say, but for sockets. ``key``: that of a :class:`Listing` of all of it.
    ``folders``: name, device and inode; ``files``: all other names. ``linked``: some file has several names.
    ``regular``: how many regular files there are; ``size``: their bytes. ``packed``: one record an entry."""

    key: bytes
    files: list[bytes]
    folders: list[tuple[bytes, int, int]]
    linked: bool
    regular: int
    size: int
    packed: bytes


def open_directory(path: bytes) -> int:
    """Open a directory, also below a path longer than the system takes at once (4,096 bytes)."""
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        return os.open(path, flags)
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
    cut = path.rfind(b"/", 0, 3000)
    fd = os.open(path[: cut or 1], flags)
    rest = path[cut + 1 :]
    while rest:
        if len(rest) > 3000:
            cut = rest.rfind(b"/", 0, 3000)
            part, rest = rest[:cut], rest[cut + 1 :]
        else:
            part, rest = rest, b""
        try:
            deeper = os.open(part, flags, dir_fd=fd)
        finally:
            os.close(fd)
        fd = deeper
    return fd


def open_file(name: bytes, dir_fd: int | None = None) -> int:
    """Open a regular file to be read, without following a link, waiting for a FIFO,
    or (if it is ours) touching its atime.
    """
    try:
        return os.open(name, _OPEN | _NOATIME, dir_fd=dir_fd)
    except PermissionError:
        return os.open(name, _OPEN, dir_fd=dir_fd)


def read_ignore_file(fd: int, name: bytes) -> bytes | None:
    """The text of an ignore file in the directory ``fd``, or None. Longer than 1 MiB is not an ignore file."""
    try:
        file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=fd)
    except OSError:
        return None
    try:
        if not stat.S_ISREG(os.fstat(file).st_mode):
            return None
        text = os.read(file, _IGNORE_FILE_LIMIT + 1)
        return text if len(text) <= _IGNORE_FILE_LIMIT else None
    except OSError:
        return None
    finally:
        os.close(file)


@dataclass(frozen=True, slots=True)
class Lister:
    """Lists directories as one backup wants them.

    ``salt``: see :func:`listing_key`. ``skip``: (device, inode) of directories that are never listed.
    ``devices``: what lies on other file systems is left out; empty: go anywhere. ``scan``: what other backups of the
    same run found under the same rules, and want to know.
    """

    rules: Rules
    salt: bytes
    skip: frozenset[tuple[int, int]]
    devices: frozenset[int] = frozenset()
    explain: bool = False
    scan: OneScan | None = None

    def look(
        self, fd: int, scope: Scope, name: bytes, path: bytes, seen: Surveyed | None = None
    ) -> tuple[Scope, Listing]:
        """The scope inside of an open directory, and what is to be saved of it.

        ``scope`` is that of the directory around it, and ``name`` its name there; an empty name means that ``scope``
        is its own already. ``path`` is where it is. ``seen``: what it holds, if it was surveyed just now. Raises
        ``OSError``.
        """
        if self.devices and os.fstat(fd).st_dev not in self.devices:
            return scope, Listing([], NOTHING, 0)  # a mount point is kept as an empty folder, as restic does
        scan, packed = self.scan, None if seen is None else seen.packed
        if scan is None:
            return self._read(fd, scope, name, None, packed)
        depth = len(scope.path) + 1 + len(name) if name and scope.path else len(scope.path) + len(name)
        found = scan.find(path, depth, fd)
        if found is not None:
            return self._again(fd, scope, name, found)
        begun = scan.begin(fd)
        return self._read(fd, scope, name, None if begun is None else partial(scan.keep, path, depth, begun), packed)

    @property
    def may_take_all(self) -> bool:
        """Whether :meth:`takes_all` is worth asking: no more than names decides, and no other backup wants to know."""
        others = self.scan is not None and self.scan.has_others
        return not (self.devices or self.explain or others or self.rules.larger_than is not None)

    def takes_all(self, scope: Scope, name: bytes, seen: Surveyed) -> Scope | None:
        """The scope inside of the directory ``name`` in that of ``scope``, if everything in it is to be saved as it was
        surveyed. None: perhaps not, call :meth:`look`."""
        ignore_name = self.rules.ignore_file
        if not self.may_take_all or (ignore_name and ignore_name in seen.files):
            return None
        if any((device, inode) in self.skip for _, device, inode in seen.folders):
            return None
        inner = _inside(scope, name, None)
        return inner if inner.takes_all(seen.files, [folder[0] for folder in seen.folders]) else None

    def _read(
        self, fd: int, scope: Scope, name: bytes, keep: Keep | None, packed: bytes | None = None
    ) -> tuple[Scope, Listing]:
        """Read a directory; ``keep`` is told what was found, before it is this vault's."""
        found, packed = entries(fd, packed)
        names = [item.name for item in found]
        ignore_name = self.rules.ignore_file
        text = read_ignore_file(fd, ignore_name) if ignore_name and ignore_name in names else None
        inner = _inside(scope, name, text)
        kept = inner.keeps_only(set(names), fd)
        if kept is not None:
            found, packed = [item for item in found if item.name == kept], None
        listing = _chosen(found, packed, inner, self.rules.larger_than, self.salt)
        if kept is not None:
            listing = listing._replace(excluded=listing.excluded + len(names) - 1)
        if keep is not None:
            left_out: tuple[bytes, ...] = ()
            if self.explain and len(listing.items) != len(names):
                saved = {item.name for item in listing.items}
                left_out = tuple(one for one in names if one not in saved)
            keep(listing.items, listing.excluded, left_out, kept, text)
        return inner, self._own(listing, names, fd, inner, kept)

    def _again(self, fd: int, scope: Scope, name: bytes, found: Found) -> tuple[Scope, Listing]:
        """What an earlier backup found, as this vault wants it."""
        inner = _inside(scope, name, found.ignore_text)
        items = list(map(Item._make, found.entries))
        listing = Listing(items, listing_key(items, self.salt), found.excluded, (), found.at_ns)
        names = [*found.left_out, *(item.name for item in items)] if self.explain else []
        return inner, self._own(listing, names, fd, inner, found.kept)

    def _own(self, listing: Listing, names: list[bytes], fd: int, scope: Scope, kept: bytes | None) -> Listing:
        """The listing without what this vault leaves out, and why anything is."""
        if self.skip or self.devices:
            listing = self._without_foreign(listing)
        if self.explain and listing.excluded:
            listing = listing._replace(reasons=self._reasons(names, listing, fd, scope, kept))
        return listing

    def _reasons(
        self, names: list[bytes], listing: Listing, fd: int, scope: Scope, kept: bytes | None
    ) -> tuple[tuple[bytes, str], ...]:
        saved, limit = {item.name for item in listing.items}, self.rules.larger_than
        reasons: list[tuple[bytes, str]] = []
        for name in sorted(names):
            if name in saved:
                continue
            try:
                st = os.lstat(name, dir_fd=fd)
            except OSError:
                continue
            is_dir = stat.S_ISDIR(st.st_mode)
            if stat.S_ISSOCK(st.st_mode):
                continue
            if kept is not None:
                why = f"made by a program, as {os.fsdecode(kept)} says"
            elif (st.st_dev, st.st_ino) in self.skip:
                why = "the vault itself"
            elif scope.excludes(name, is_dir):
                why = scope.why(name, is_dir)
            elif limit is not None and stat.S_ISREG(st.st_mode) and st.st_size > limit:
                why = f"larger than {limit} bytes"
            else:
                why = "on another file system"
            reasons.append((name, why))
        return tuple(reasons)

    def _without_foreign(self, listing: Listing) -> Listing:
        items = [
            item
            for item in listing.items
            if not (item.stat.st_mode & 0o170000 == 0o040000 and (item.stat.st_dev, item.stat.st_ino) in self.skip)
            and (not self.devices or item.stat.st_dev in self.devices or item.stat.st_mode & 0o170000 == 0o040000)
        ]
        if len(items) == len(listing.items):
            return listing
        key = blake2b(listing.key + b"/".join(item.name for item in items), digest_size=16).digest()
        return Listing(items, key, listing.excluded + len(listing.items) - len(items), (), listing.at_ns)


def walk(lister: Lister, paths: Iterable[bytes]) -> Iterator[tuple[bytes, Scope, Listing]]:
    """Every directory at and below ``paths`` as (path, its scope, its listing), parents first.

    What cannot be read is passed over: this is for looking ahead, the backup itself reports it.
    """
    stack: list[tuple[bytes, bytes, Scope]] = [(path, b"", lister.rules.root(path)) for path in paths][::-1]
    while stack:
        path, name, scope = stack.pop()
        try:
            fd = open_directory(path)
        except OSError:
            continue
        try:
            inner, listing = lister.look(fd, scope, name, path)
        except OSError:
            continue
        finally:
            os.close(fd)
        yield path, inner, listing
        prefix = path if path != b"/" else b""
        for item in reversed(listing.items):
            if item.stat.st_mode & 0o170000 == 0o040000:
                stack.append((prefix + b"/" + item.name, item.name, inner))


def entries(fd: int, packed: bytes | None = None) -> tuple[list[Item], bytes | None]:
    """All that is in the open directory ``fd``, in byte order, but for sockets, which mean nothing without their
    process, and for what vanishes meanwhile; and the same as one record an entry, if the extension made them. It says
    neither size nor links of directories. ``packed``: the records, if they are known already. Raises ``OSError``.
    """
    if _native is not None:
        if packed is None:
            found = _native.survey(fd, False)
            packed = None if found is None else found[0]
        if packed is not None:
            return list(map(Item._make, unpack(packed))), packed
    found_items = (entry(fd, name) for name in sorted(map(os.fsencode, os.listdir(fd))))
    return [item for item in found_items if item is not None], None


def entry(fd: int, name: bytes) -> Item | None:
    """One entry of the directory ``fd``; None for a socket, and for what is not there. Raises ``OSError``."""
    try:
        st = os.lstat(name, dir_fd=fd)
    except FileNotFoundError:
        return None
    return None if stat.S_ISSOCK(st.st_mode) else Item(name, st)


def _chosen(found: list[Item], packed: bytes | None, scope: Scope, largest: int | None, salt: bytes) -> Listing:
    """What ``scope`` lets through, and of regular files none above ``largest`` bytes."""
    items = found
    if not scope.takes_everything or largest is not None:
        excludes = scope.excludes
        items = []
        for item in found:
            kind = item.stat.st_mode & 0o170000
            if excludes(item.name, kind == 0o040000):
                continue
            if largest is None or kind != 0o100000 or item.stat.st_size <= largest:
                items.append(item)
    whole = len(items) == len(found)
    return Listing(items, listing_key(items, salt, packed if whole else None), len(found) - len(items))


def survey(fd: int, salt: bytes) -> Surveyed | None:
    """What the directory ``fd`` holds, by one call without the interpreter's lock. None where that is not possible.
    Raises ``OSError``."""
    found = None if _native is None else _native.survey(fd, True)
    if found is None:
        return None
    packed, files, folders, linked, regular, size = found
    return Surveyed(_hashed(packed, salt), files, folders, linked, regular, size, packed)


def survey_packed(fd: int, salt: bytes) -> tuple[bytes, bytes] | None:
    """Its records and the key alone."""
    found = None if _native is None else _native.survey(fd, False)
    return None if found is None else (found[0], _hashed(found[0], salt))


def _inside(scope: Scope, name: bytes, ignore_text: bytes | None) -> Scope:
    """The scope of a directory from that of the one around it, or from its own (an empty ``name``)."""
    if name:
        return scope.enter(name, ignore_text)
    return scope if ignore_text is None else scope.with_ignore_file(ignore_text)


def listing_key(items: Sequence[Item], salt: bytes, packed: bytes | None = None) -> bytes:
    """The key of a :class:`Listing` of these. ``packed``: their records, if they are known. ``salt``: what the stored
    tree depends on beside the directory itself (user names, time zone)."""
    packed = pack(items) if packed is None else packed
    if packed is None:
        packed = repr([(name, *(getattr(st, f"st_{field}") for field in _KEYED)) for name, st in items]).encode()
    return _hashed(packed, salt)


def _hashed(packed: bytes, salt: bytes) -> bytes:
    return blake2b(packed, key=salt, digest_size=16).digest()


def read_small(fd: int | None, name: bytes, size: int) -> tuple[bytes, Stat, bool] | None:
    """A file that ``stat`` gave ``size`` bytes, read whole: (content, ``stat`` after reading, has extended attributes).
    Without ``fd``, the directory it is in, ``name`` is a path.

    None where it is another length now, or where there is no extension: read it piece by piece then.
    Raises ``OSError``.
    """
    if _native is None:
        return None
    data, after, has_xattrs = _native.read_small(_HERE if fd is None else fd, name, size)
    if after is NotImplemented or after.st_size != len(data):
        return None
    return data, after, has_xattrs


def reachable(folder: bytes, name: bytes, dir_fd: int) -> bytes:
    """A path that the system takes, also where the whole one is too long for it."""
    return folder + b"/" + name if len(folder) < LONG_PATH else b"/proc/self/fd/%d/%s" % (dir_fd, name)
