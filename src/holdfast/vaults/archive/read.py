"""Looking into a snapshot: one node, everything below a folder, the content of one file."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

from holdfast.files.entry import Entry, Kind
from holdfast.files.safepath import check_name
from holdfast.format.node import Node
from holdfast.format.tree import decode_tree
from holdfast.kernel.errors import Corrupt, HoldfastError, Invalid, NotFound
from holdfast.kernel.ids import BlobId
from holdfast.repository import Repository
from holdfast.vaults.base import SnapshotInfo

OnDamage = Callable[[bytes, HoldfastError], None]
"""Told the path of what cannot be read, and why; the rest goes on."""

_GO_DIRECTORY = 1 << 31 | 0o755
_CHECK = "Run 'holdfast check' to see what else is damaged."
_KINDS: dict[str, Kind] = {
    "file": "file",
    "dir": "dir",
    "symlink": "symlink",
    "dev": "dev",
    "chardev": "chardev",
    "fifo": "fifo",
    "socket": "socket",
}


def parts_of(path: bytes) -> list[bytes]:
    """The components of a path in a snapshot; slashes at the ends and doubled ones mean nothing."""
    return [part for part in path.split(b"/") if part]


def read_tree(repository: Repository, tree: bytes, path: bytes) -> list[Node]:
    """The nodes of one directory in stored order. Raises ``Corrupt`` that names ``path`` if it cannot be read."""
    try:
        return decode_tree(repository.read_blob(BlobId(tree)))
    except (Corrupt, NotFound) as error:
        shown = os.fsdecode(path or b"/")
        raise Corrupt(
            f"The folder {shown} is damaged in the vault: {error.message}", hint=_CHECK, path=shown, tree=tree.hex()
        ) from error


def find_node(repository: Repository, snapshot: SnapshotInfo, path: bytes) -> Node:
    """What a snapshot says of ``path``, which counts from the snapshot's root (a leading slash is optional).

    The root itself has no node in the format: for ``b""`` and ``b"/"`` a nameless directory is returned. Raises
    ``NotFound`` with the nearest existing folder as a hint, and ``Corrupt`` if a folder on the way is damaged. The
    index must be loaded.
    """
    node = Node(name=b"", type="dir", mode=_GO_DIRECTORY, subtree=BlobId(snapshot.tree))
    walked = b""
    for part in parts_of(path):
        if node.subtree is None:
            raise _missing(path, f"{os.fsdecode(walked)} is no folder in this snapshot.")
        for child in read_tree(repository, node.subtree, walked):
            if child.name == part:
                break
        else:
            if not walked and len(parts_of(path)) > 1:
                raise _missing(path, "It may be of relative paths: 'holdfast ls SNAPSHOT' shows where it begins.")
            raise _missing(path, f"The nearest folder that it holds is {os.fsdecode(walked or b'/')}.")
        node = child
        walked += b"/" + part
    return node


def walk(
    repository: Repository, snapshot: SnapshotInfo, path: bytes = b"", on_damage: OnDamage | None = None
) -> Iterator[tuple[bytes, Node]]:
    """``path`` itself (unless it is the root) and everything below, depth first, in byte order of names.

    Yields (path from the snapshot's root with a leading slash, node). Damaged folders, and names that no file can have
    (``..``, or with a slash in them), go to ``on_damage`` and are passed over; without it they raise ``Corrupt``.
    Raises ``NotFound`` for a ``path`` that is not there. The index must be loaded. Memory: the trees from the root
    down to where it is.
    """
    top = find_node(repository, snapshot, path)
    at = b"".join(b"/" + part for part in parts_of(path))
    if at:
        yield at, top
    pending = [_below(repository, at, top, on_damage)]
    while pending:
        found = next(pending[-1], None)
        if found is None:
            pending.pop()
            continue
        yield found
        if found[1].type == "dir":
            pending.append(_below(repository, *found, on_damage))


def entries(
    repository: Repository, snapshot: SnapshotInfo, path: bytes = b"", on_damage: OnDamage | None = None
) -> Iterator[Entry]:
    """As :func:`walk`, as entries. Their ``path`` has a leading slash: it counts from the snapshot's root."""
    for at, node in walk(repository, snapshot, path, on_damage):
        yield entry_of(at, node)


def entry_of(path: bytes, node: Node) -> Entry:
    """A node as an entry; ``st_nlink`` is 1 where the format does not tell it."""
    return Entry(
        path=path,
        kind=_KINDS.get(node.type, "irregular"),
        st_mode=node.st_mode,
        st_size=node.size,
        st_mtime_ns=node.mtime,
        st_atime_ns=node.atime,
        st_ctime_ns=node.ctime,
        st_uid=node.uid,
        st_gid=node.gid,
        st_ino=node.inode,
        st_dev=node.device_id,
        st_nlink=node.links or 1,
        st_rdev=node.device,
        linktarget=node.linktarget,
        xattrs=node.xattrs,
        user=node.user,
        group=node.group,
    )


def read_file(repository: Repository, snapshot: SnapshotInfo, path: bytes) -> Iterator[bytes]:
    """The content of one file, blob by blob (at most a few MiB each), each verified against its hash.

    Raises ``NotFound`` for a path that is not there and ``Invalid`` for one that is no file, both before the first
    piece; ``Corrupt`` where a blob is missing or damaged: what was yielded until then is good.
    """
    node = find_node(repository, snapshot, path)
    if node.type != "file":
        raise Invalid(
            f"{os.fsdecode(path)} is not a file in this snapshot, but a {node.type}.", hint="Name one file in it."
        )
    return _content(repository, node, path)


def _content(repository: Repository, node: Node, path: bytes) -> Iterator[bytes]:
    for identifier in node.content or ():
        try:
            yield repository.read_blob(identifier)
        except (Corrupt, NotFound) as error:
            raise Corrupt(
                f"The file {os.fsdecode(path)} is damaged in the vault: {error.message}",
                hint=_CHECK,
                path=os.fsdecode(path),
                blob=identifier.hex(),
            ) from error


def _below(repository: Repository, path: bytes, node: Node, on_damage: OnDamage | None) -> Iterator[tuple[bytes, Node]]:
    """The children of one directory in byte order of names."""
    if node.subtree is None:
        return
    try:
        nodes = read_tree(repository, node.subtree, path)
    except Corrupt as error:
        if on_damage is None:
            raise
        on_damage(path, error)
        return
    nodes.sort(key=lambda child: child.name)  # nothing to do for a sound tree
    for child in nodes:
        try:
            check_name(child.name)
        except Corrupt as error:
            if on_damage is None:
                raise
            on_damage(path + b"/" + child.name, error)
            continue
        yield path + b"/" + child.name, child


def _missing(path: bytes, hint: str) -> NotFound:
    shown = os.fsdecode(b"".join(b"/" + part for part in parts_of(path)))
    return NotFound(f"There is no {shown} in this snapshot.", hint=hint, path=shown)
