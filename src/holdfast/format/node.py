"""Nodes: one file, directory, link or device with its metadata, from and to the JSON of trees."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Sequence
from dataclasses import field
from stat import S_IFMT
from typing import Any, Protocol

from holdfast.format.filemode import POSIX_TYPES, TYPE_NAMES, go_mode, posix_mode, posix_permissions
from holdfast.format.gostring import json_name, json_text, json_value, unquote_name
from holdfast.format.jsonfields import parse_id, wrong
from holdfast.format.time import format_second, parse_time
from holdfast.kernel.errors import Invalid
from holdfast.kernel.ids import BlobId
from holdfast.kernel.native import native as _native
from holdfast.kernel.values import dataclass

_WHAT = "a node of a tree"
_SECOND = 1_000_000_000
# Go's zero time, 0001-01-01T00:00:00Z, which a missing time is read as.
_NO_TIME = parse_time("0001-01-01T00:00:00Z")
# Entries after which a cache is emptied: the cost of refilling is nothing, that of growing without end is not.
_CACHE_LIMIT = 65_536
_KNOWN = frozenset(
    (
        *("name", "type", "mode", "mtime", "atime", "ctime", "uid", "gid", "user", "group", "inode", "device_id"),
        *("size", "links", "linktarget", "linktarget_raw", "extended_attributes", "generic_attributes", "device"),
        *("content", "subtree", "error"),
    )
)

Xattrs = Sequence[tuple[bytes, bytes]]


class Stat(Protocol):
    """The part of ``os.stat_result`` that a node needs."""

    @property
    def st_mode(self) -> int: ...
    @property
    def st_mtime_ns(self) -> int: ...
    @property
    def st_ctime_ns(self) -> int: ...
    @property
    def st_uid(self) -> int: ...
    @property
    def st_gid(self) -> int: ...
    @property
    def st_ino(self) -> int: ...
    @property
    def st_dev(self) -> int: ...
    @property
    def st_nlink(self) -> int: ...
    @property
    def st_size(self) -> int: ...
    @property
    def st_rdev(self) -> int: ...


@dataclass(slots=True)
class Node:
    """One entry of a tree.

    ``mode`` is Go's FileMode; times are nanoseconds since 1970; ``content`` is None unless this is a regular file;
    ``subtree`` is the id of a directory's tree. ``generic`` holds generic_attributes as parsed JSON, ``extra`` the
    fields that this version does not know. A name may hold anything, also ``/`` or NUL or nothing: whoever writes
    to a disk must look at it first.
    """

    name: bytes
    type: str
    mode: int = 0
    mtime: int = 0
    atime: int = 0
    ctime: int = 0
    uid: int = 0
    gid: int = 0
    user: str = ""
    group: str = ""
    inode: int = 0
    device_id: int = 0
    size: int = 0
    links: int = 0
    linktarget: bytes | None = None
    xattrs: tuple[tuple[bytes, bytes], ...] = ()
    device: int = 0
    content: tuple[BlobId, ...] | None = None
    subtree: BlobId | None = None
    error: str = ""
    generic: dict[str, Any] = field(default_factory=dict)
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def permissions(self) -> int:
        """The twelve permission bits, 0o7777."""
        return posix_permissions(self.mode)

    @property
    def st_mode(self) -> int:
        """File type and permissions as ``os.stat`` gives them; the type follows ``type`` where that is known."""
        kind = POSIX_TYPES.get(self.type)
        return posix_mode(self.mode) if kind is None else kind | posix_permissions(self.mode)


def node_from_json(fields: dict[str, Any]) -> Node:
    """A node from its parsed JSON; missing and null fields are empty, as Go reads them.

    Raises ``Corrupt`` for what is structurally impossible (a number where text belongs, an id that is none).
    """
    get = fields.get
    name, kind = get("name"), get("type")
    user, group, error = get("user") or "", get("group") or "", get("error") or ""
    if not (type(name) is type(kind) is type(user) is type(group) is type(error) is str):
        raise wrong(_WHAT, "name, type, user, group or error is not text")
    mode, uid, gid, inode = get("mode") or 0, get("uid") or 0, get("gid") or 0, get("inode") or 0
    device_id, size, links, device = get("device_id") or 0, get("size") or 0, get("links") or 0, get("device") or 0
    if not (
        type(mode) is type(uid) is type(gid) is type(inode) is type(device_id) is type(size) is type(links) is int
        and type(device) is int
        and mode | uid | gid | inode | device_id | size | links | device >= 0
    ):
        raise wrong(_WHAT, "a field that must be a whole number is none")
    mtime_text, atime_text = get("mtime"), get("atime")
    mtime = _time(mtime_text)
    atime = mtime if atime_text == mtime_text else _time(atime_text)
    content, subtree, xattrs = get("content"), get("subtree"), get("extended_attributes")
    generic = get("generic_attributes") or {}
    if type(generic) is not dict:
        raise wrong(_WHAT, "generic_attributes is not an object")
    return Node(
        unquote_name(name), kind, mode, mtime, atime, _time(get("ctime")), uid, gid, user, group, inode, device_id,
        size, links, _linktarget(fields), _xattrs(xattrs) if xattrs else (), device,
        None if content is None else _content(content),
        None if subtree is None else BlobId(parse_id(subtree, "subtree", _WHAT)),
        error, generic, {} if fields.keys() <= _KNOWN else {key: fields[key] for key in fields if key not in _KNOWN},
    )  # fmt: skip


def _time(text: object) -> int:
    if text is None:
        return _NO_TIME
    if type(text) is not str:
        raise wrong(_WHAT, "a time is not text")
    return parse_time(text)


def _linktarget(fields: dict[str, Any]) -> bytes | None:
    try:
        if raw := fields.get("linktarget_raw"):
            return base64.b64decode(raw, validate=True)
        target = fields.get("linktarget")
        return None if target is None else target.encode("utf-8", "surrogateescape")
    except (AttributeError, TypeError, ValueError) as error:
        raise wrong(_WHAT, "its link target is not text") from error


def _xattrs(listed: Any) -> tuple[tuple[bytes, bytes], ...]:
    try:
        return tuple(
            (
                entry["name"].encode("utf-8", "surrogateescape"),
                base64.b64decode(entry.get("value") or "", validate=True),
            )
            for entry in listed
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise wrong(_WHAT, "its extended attributes are not a list of names and values") from error


def _content(listed: Any) -> tuple[BlobId, ...]:
    if type(listed) is list and len(listed) == 1:
        return (BlobId(parse_id(listed[0], "content", _WHAT)),)
    try:
        ids: tuple[Any, ...] = tuple(map(binascii.unhexlify, listed))
    except (TypeError, ValueError) as error:
        raise wrong(_WHAT, "its content is not a list of ids") from error
    if type(listed) is not list or (ids and set(map(len, ids)) != {32}):
        raise wrong(_WHAT, "its content is not a list of ids")
    return ids


class NodeWriter:
    """Writes nodes as restic does, byte for byte. ``offset_at(seconds)`` is the zone's offset at that instant.

    Keeps caches of formatted seconds and owners: one writer for a whole backup, not one a node. Not for use by two
    threads at once. Names are bytes as the file system has them; ``user`` and ``group`` may be empty.
    """

    def __init__(self, offset_at: Callable[[int], int]) -> None:
        self._offset_at = offset_at
        self._seconds: dict[int, tuple[str, str]] = {}
        self._heads: dict[tuple[int, int, int, str, str], tuple[str, str]] = {}

    def file(
        self, name: bytes, st: Stat, user: str, group: str, xattrs: Xattrs, content: Sequence[bytes], size: int
    ) -> bytes:
        """A regular file of ``size`` bytes (as read, not as stat said) that consists of these blobs, in order."""
        if len(content) == 1:
            listed = f'["{content[0].hex()}"]'
        elif content:
            listed = '["' + '","'.join([blob.hex() for blob in content]) + '"]'
        else:
            listed = "[]"
        size_part = f',"size":{size}' if size else ""
        attributes = _xattr_part(xattrs) if xattrs else ""
        return (
            f'{self._head(name, st, user, group)}{size_part}{_links_part(st)}{attributes},"content":{listed}}}'
        ).encode()

    def file_start(self, name: bytes, st: Stat, user: str, group: str) -> bytes:
        """How :meth:`file` begins for a file whose size is as ``st`` says: all but its attributes and content.

        A stored node that begins like this is of a file that has not changed since.
        """
        size_part = f',"size":{st.st_size}' if st.st_size else ""
        return f'{self._head(name, st, user, group)}{size_part}{_links_part(st)},"'.encode()

    def settled(
        self, tree: bytes, packed: bytes, user: Callable[[int], str], group: Callable[[int], str]
    ) -> list[bytes | None] | None:
        """For each record of a directory's entries (``sources.records``) the node that an older tree has of a regular
        file, if it begins as :meth:`file_start` says: the file has not changed. None where a closer look is needed, and
        instead of the list where the extension is missing or the tree is not laid out as restic's."""
        if _native is None:
            return None
        return _native.settled(tree, packed, _owner_of(user, group), self._offset_at)

    def files(
        self, packed: bytes, ids: list[BlobId], user: Callable[[int], str], group: Callable[[int], str]
    ) -> list[bytes | None]:
        """:meth:`file` for each record (``sources.records``), of a file that is the one blob at its place in ``ids``
        and has no extended attributes; None where that has to be called."""
        if _native is None:
            return [None] * len(ids)
        return _native.files(packed, ids, _owner_of(user, group), self._offset_at)

    def directory_head(self, name: bytes, st: Stat, user: str, group: str, xattrs: Xattrs) -> bytes:
        """A directory up to its tree's id: the caller appends 64 hex digits and ``"}``."""
        attributes = _xattr_part(xattrs) if xattrs else ""
        return f'{self._head(name, st, user, group)}{attributes},"content":null,"subtree":"'.encode()

    def symlink(self, name: bytes, st: Stat, user: str, group: str, xattrs: Xattrs, target: bytes) -> bytes:
        """A symbolic link. A target that is not UTF-8 is kept exactly beside its readable form."""
        attributes = _xattr_part(xattrs) if xattrs else ""
        head = f"{self._head(name, st, user, group)}{_links_part(st)}{_target_part(target)}"
        return f'{head}{attributes},"content":null}}'.encode()

    def special(self, name: bytes, st: Stat, user: str, group: str, xattrs: Xattrs) -> bytes:
        """A block or character device, a FIFO or a socket, as ``st.st_mode`` says."""
        kind = TYPE_NAMES.get(S_IFMT(st.st_mode))
        links = device = ""
        if kind in ("dev", "chardev"):
            links = _links_part(st)
            device = f',"device":{st.st_rdev}' if st.st_rdev else ""
        elif kind not in ("fifo", "socket"):
            raise Invalid(f"not a device, FIFO or socket: {name!r}", hint="This is a bug; please report it.")
        attributes = _xattr_part(xattrs) if xattrs else ""
        return f'{self._head(name, st, user, group)}{links}{attributes}{device},"content":null}}'.encode()

    def node(self, node: Node) -> bytes:
        """Any node, with all that was read of it; unknown fields stand at the end.

        Times are written with this writer's zone: the instant stays, its text may differ from what was read.
        """
        numbers = (("inode", node.inode), ("device_id", node.device_id), ("size", node.size), ("links", node.links))
        parts = [
            f'{{"name":"{json_name(node.name)}","type":"{json_text(node.type)}"',
            f',"mode":{node.mode}' if node.mode else "",
            f',"mtime":"{self.time(node.mtime)}","atime":"{self.time(node.atime)}"',
            f',"ctime":"{self.time(node.ctime)}"',
            _owner_part(node.uid, node.gid, node.user, node.group),
            *(f',"{key}":{number}' for key, number in numbers if number),
            "" if node.linktarget is None else _target_part(node.linktarget),
            _xattr_part(node.xattrs) if node.xattrs else "",
        ]
        if node.generic:
            parts.append(f',"generic_attributes":{json_value(dict(sorted(node.generic.items()))).decode()}')
        if node.device:
            parts.append(f',"device":{node.device}')
        parts.append(f',"content":{_content_text(node.content)}')
        if node.subtree is not None:
            parts.append(f',"subtree":"{node.subtree.hex()}"')
        if node.error:
            parts.append(f',"error":"{json_text(node.error)}"')
        if node.extra:
            parts.append("," + json_value(node.extra).decode()[1:-1])
        parts.append("}")
        return "".join(parts).encode()

    def _head(self, name: bytes, st: Stat, user: str, group: str) -> str:
        """From the name to device_id: what all types share."""
        key = (st.st_mode, st.st_uid, st.st_gid, user, group)
        known = self._heads.get(key)
        if known is None:
            known = self._remember_head(key)
        kind, owner = known
        mtime_ns, ctime_ns = st.st_mtime_ns, st.st_ctime_ns
        mtime = self.time(mtime_ns)
        ctime = mtime if ctime_ns == mtime_ns else self.time(ctime_ns)
        inode = f',"inode":{st.st_ino}' if st.st_ino else ""
        device_id = f',"device_id":{st.st_dev}' if st.st_dev else ""
        return f'{{"name":"{json_name(name)}{kind}{mtime}","atime":"{mtime}","ctime":"{ctime}{owner}{inode}{device_id}'

    def _remember_head(self, key: tuple[int, int, int, str, str]) -> tuple[str, str]:
        if len(self._heads) >= _CACHE_LIMIT:
            self._heads.clear()
        st_mode, uid, gid, user, group = key
        mode = go_mode(st_mode)
        kind = TYPE_NAMES.get(S_IFMT(st_mode), "irregular")
        mode_part = f',"mode":{mode}' if mode else ""
        known = self._heads[key] = (
            f'","type":"{kind}"{mode_part},"mtime":"',
            '"' + _owner_part(uid, gid, user, group),
        )
        return known

    def time(self, ns: int) -> str:
        seconds, fraction = divmod(ns, _SECOND)
        known = self._seconds.get(seconds)
        if known is None:
            if len(self._seconds) >= _CACHE_LIMIT:
                self._seconds.clear()
            known = self._seconds[seconds] = format_second(seconds, self._offset_at(seconds))
        text, zone = known
        return f"{text}.{fraction:09}".rstrip("0") + zone if fraction else text + zone


def _links_part(st: Stat) -> str:
    return f',"links":{st.st_nlink}' if st.st_nlink else ""


def _owner_part(uid: int, gid: int, user: str, group: str) -> str:
    user_part = f',"user":"{json_text(user)}"' if user else ""
    group_part = f',"group":"{json_text(group)}"' if group else ""
    return f',"uid":{uid},"gid":{gid}{user_part}{group_part}'


def _owner_of(user: Callable[[int], str], group: Callable[[int], str]) -> Callable[[int, int], bytes]:
    return lambda uid, gid: _owner_part(uid, gid, user(uid), group(gid)).encode()


def _target_part(target: bytes) -> str:
    try:
        text = target.decode("utf-8")
        raw = ""
    except UnicodeDecodeError:
        text = target.decode("utf-8", "surrogateescape")
        raw = f',"linktarget_raw":"{base64.b64encode(target).decode()}"'
    return (f',"linktarget":"{json_text(text)}"' if text else "") + raw


def _xattr_part(xattrs: Xattrs) -> str:
    listed = ",".join(
        f'{{"name":"{json_text(name.decode("utf-8", "surrogateescape"))}",'
        f'"value":"{base64.b64encode(value).decode()}"}}'
        for name, value in xattrs
    )
    return f',"extended_attributes":[{listed}]'


def _content_text(content: Sequence[bytes] | None) -> str:
    if content is None:
        return "null"
    return "[" + ",".join([f'"{blob.hex()}"' for blob in content]) + "]"
