"""The headers of a tar file in the pax format (POSIX.1-2001, "pax Interchange Format"), from entries to bytes."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable
from functools import lru_cache

from holdfast.files.entry import Entry

BLOCK = 512
END = bytes(2 * BLOCK)
"""Two empty blocks end an archive."""

_FILE, _HARD_LINK = b"0", b"1"
_TYPES = {"symlink": b"2", "chardev": b"3", "dev": b"4", "dir": b"5", "fifo": b"6", "file": _FILE, "stream": _FILE}
_NAME, _PREFIX, _OWNER = 100, 155, 32
# name, mode, uid, gid, size, mtime, checksum, type, link name, magic and version, user, group, device numbers, prefix
_FIELDS = struct.Struct("100s8s8s8s12s12s8sc100s8s32s32s8s8s155s12x")
_BILLION = 1_000_000_000
_PLAIN = re.compile(rb"[\x20-\x7e]*")


def supports(kind: str) -> bool:
    """Whether the format has such a thing (it has no sockets)."""
    return kind in _TYPES


def padding(size: int) -> bytes:
    """What follows ``size`` bytes of content up to the next block."""
    return bytes(-size % BLOCK)


def header(path: bytes, entry: Entry, *, size: int = 0, link: bytes | None = None) -> bytes:
    """Everything that stands before an item's content: an extended header where it needs one, and its own block.

    ``path`` is the name in the archive (any bytes without NUL; folders end with a slash), ``size`` the content that
    will follow, ``link`` the archive path of an earlier item that this one is a hard link to. What the old fields
    cannot hold exactly goes into pax records: long names, non-ASCII names, nanoseconds, times before 1970, big
    numbers, extended attributes (``SCHILY.xattr.*``, as star, GNU tar and bsdtar have them). Equal input gives equal
    bytes.
    """
    kind = _HARD_LINK if link is not None else _TYPES[entry.kind]
    target = link if link is not None else entry.linktarget or b""
    records: list[tuple[bytes, bytes]] = []
    prefix, name = _split(path)
    if not _PLAIN.fullmatch(path) or not name:
        _add_text(records, b"path", path, fits=bool(name))
    if len(target) > _NAME or not _PLAIN.fullmatch(target):
        _add_text(records, b"linkpath", target, fits=len(target) <= _NAME)
    for key, number, limit in ((b"uid", entry.st_uid, 8), (b"gid", entry.st_gid, 8), (b"size", size, 12)):
        if number >= 8 ** (limit - 1):
            records.append((key, b"%d" % number))
    seconds, fraction = divmod(entry.st_mtime_ns, _BILLION)
    if fraction or not 0 <= seconds < 8**11:
        records.append((b"mtime", _decimal(entry.st_mtime_ns)))
    user, group = entry.user.encode("utf-8", "replace"), entry.group.encode("utf-8", "replace")
    for key, text in ((b"uname", user), (b"gname", group)):
        if len(text) >= _OWNER or not _PLAIN.fullmatch(text):
            _add_text(records, key, text, fits=len(text) < _OWNER)
    if kind != _HARD_LINK:
        records += [(b"SCHILY.xattr." + _keyword(key), value) for key, value in sorted(entry.xattrs)]
    device = entry.st_rdev if entry.kind in ("dev", "chardev") else 0
    block = _block(
        name=name or path[:_NAME],
        prefix=prefix,
        mode=entry.st_mode & 0o7777,
        uid=entry.st_uid,
        gid=entry.st_gid,
        size=size,
        mtime=min(max(seconds, 0), 8**11 - 1),
        kind=kind,
        target=target[:_NAME],
        user=user[: _OWNER - 1],
        group=group[: _OWNER - 1],
        device=device,
    )
    return _extended(records) + block if records else block


def _split(path: bytes) -> tuple[bytes, bytes]:
    """Prefix and name as the old fields hold them; no name if the path fits in no way."""
    if len(path) <= _NAME:
        return b"", path
    cut = path.find(b"/", len(path) - _NAME - 1, len(path) - 1)
    return (path[:cut], path[cut + 1 :]) if 0 < cut <= _PREFIX else (b"", b"")


def _add_text(records: list[tuple[bytes, bytes]], key: bytes, text: bytes, *, fits: bool) -> None:
    """A record for text. One that is not UTF-8 stays in the old field alone if it fits there: every reader takes those
    bytes as they are, while GNU tar warns about ``hdrcharset``."""
    try:
        text.decode()
    except UnicodeDecodeError:
        if fits:
            return
        if (b"hdrcharset", b"BINARY") not in records:
            records.insert(0, (b"hdrcharset", b"BINARY"))
    records.append((key, text))


def _keyword(name: bytes) -> bytes:
    return name.replace(b"%", b"%25").replace(b"=", b"%3D")  # as GNU tar does: a keyword ends at the first "="


def _decimal(ns: int) -> bytes:
    whole, fraction = divmod(abs(ns), _BILLION)
    return b"%s%d.%09d" % (b"-" if ns < 0 else b"", whole, fraction) if fraction else b"%d" % (ns // _BILLION)


def _extended(records: Iterable[tuple[bytes, bytes]]) -> bytes:
    body = b"".join([_record(key, value) for key, value in records])
    return _extended_block(len(body)) + body + padding(len(body))


@lru_cache(maxsize=1024)  # nearly all items need one, for their nanoseconds, of one of a few sizes
def _extended_block(size: int) -> bytes:
    return _block(name=b"././@PaxHeader", mode=0o644, size=size, kind=b"x")


def _record(key: bytes, value: bytes) -> bytes:
    """``length key=value\\n``, where the length counts its own digits."""
    rest = b" %s=%s\n" % (key, value)
    length = len(rest)
    while length != len(rest) + len(str(length)):
        length = len(rest) + len(str(length))
    return b"%d%s" % (length, rest)


def _block(
    *,
    name: bytes,
    mode: int,
    size: int,
    kind: bytes,
    prefix: bytes = b"",
    uid: int = 0,
    gid: int = 0,
    mtime: int = 0,
    target: bytes = b"",
    user: bytes = b"",
    group: bytes = b"",
    device: int = 0,
) -> bytes:
    block = _FIELDS.pack(
        *(name, _octal(mode, 8), _octal(uid, 8), _octal(gid, 8), _octal(size, 12), _octal(mtime, 12)),
        *(b" " * 8, kind, target, b"ustar\x0000", user, group),
        *(_octal(_major(device), 8), _octal(_minor(device), 8), prefix),
    )
    return b"%s%06o\0 %s" % (block[:148], sum(block), block[156:])


def _octal(value: int, width: int) -> bytes:
    """Octal digits (the packing adds a NUL); what does not fit is 0 here and in a record of its own."""
    return b"%0*o" % (width - 1, value if value < 1 << 3 * (width - 1) else 0)


def _major(device: int) -> int:
    """Linux's encoding (glibc's gnu_dev_major), which is what vaults hold."""
    return (device >> 8 & 0xFFF) | (device >> 32 & ~0xFFF)


def _minor(device: int) -> int:
    return (device & 0xFF) | (device >> 12 & ~0xFF)
