"""What the tests of restoring share: bring back, compare two folders to the last attribute, and craft snapshots."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

from holdfast.files.xattrs import read_xattrs
from holdfast.format.filemode import go_mode
from holdfast.format.node import Node, NodeWriter
from holdfast.format.pack import BlobType
from holdfast.format.snapshot import Snapshot
from holdfast.format.tree import encode_tree
from holdfast.kernel.cancel import Cancel
from holdfast.kernel.events import Event, Fact, ignore
from holdfast.kernel.ids import BlobId
from holdfast.repository.packer import Packer
from holdfast.repository.writer import Writer, writing
from holdfast.vaults.archive import ArchiveVault
from holdfast.vaults.archive.vault import describe
from holdfast.vaults.base import RestoreOptions, RestoreSummary, SnapshotInfo

Seen = dict[bytes, tuple[object, ...]]


def bring_back(
    vault: ArchiveVault,
    target: Path | bytes,
    path: Path | bytes = b"",
    *,
    snapshot: SnapshotInfo | None = None,
    emit: Callable[[Event], None] = ignore,
    cancel: Cancel | None = None,
    **changes: object,
) -> RestoreSummary:
    """Restore the latest snapshot (or ``snapshot``), in this process unless ``workers`` says otherwise."""
    options = RestoreOptions(target=os.fsencode(target), path=os.fsencode(path), workers=0)
    return vault.restore(
        snapshot or vault.snapshots()[-1], replace(options, **changes), emit=emit, cancel=cancel or Cancel()
    )


def look(root: Path | bytes) -> Seen:
    """Everything below ``root`` (and the root itself as ``b"."``) with all that a restore has to bring back."""
    seen: Seen = {}
    inodes: dict[tuple[int, int], bytes] = {}
    start = os.open(root, os.O_RDONLY)
    try:
        for folder, folders, names, fd in os.fwalk(b".", dir_fd=start, follow_symlinks=False):
            folders.sort()  # so that the first name of a file is the same one everywhere
            seen[folder] = (*_attributes(os.fstat(fd)), read_xattrs(fd))
            links = [name for name in os.listdir(fd) if os.fsencode(name) not in names]
            for name in sorted((*names, *map(os.fsencode, links))):
                st = os.stat(name, dir_fd=fd, follow_symlinks=False)
                if not stat.S_ISDIR(st.st_mode):
                    path = folder + b"/" + name
                    same = inodes.setdefault((st.st_dev, st.st_ino), path)
                    seen[path] = (*_attributes(st), same, *_content(fd, name, st))
    finally:
        os.close(start)
    return seen


def _attributes(st: os.stat_result) -> tuple[object, ...]:
    return st.st_mode, st.st_uid, st.st_gid, st.st_mtime_ns


def _content(directory: int, name: bytes, st: os.stat_result) -> tuple[object, ...]:
    if stat.S_ISLNK(st.st_mode):
        return (os.readlink(name, dir_fd=directory),)
    if not stat.S_ISREG(st.st_mode):
        return (st.st_rdev,)
    fd = os.open(name, os.O_RDONLY, dir_fd=directory)
    with os.fdopen(fd, "rb") as file:
        return sha256(file.read()).digest(), read_xattrs(fd)


def facts(events: Iterable[Event], kind: str) -> list[Fact]:
    """The facts of that kind."""
    return [event for event in events if isinstance(event, Fact) and event.kind == kind]


# -- snapshots that no backup would make ---------------------------------------------------------------------------


class Forge:
    """Writes any blobs, trees and snapshots into a vault."""

    def __init__(self, vault: ArchiveVault, writer: Writer) -> None:
        repository = vault.repository
        self._writer = writer
        self._packers = {
            kind: Packer(repository.storage, repository.master, kind, repository.draw) for kind in BlobType
        }
        self._nodes = NodeWriter(lambda seconds: 0)

    def blob(self, data: bytes) -> BlobId:
        """Store a data blob."""
        return self._put(BlobType.DATA, data)

    def tree(self, *nodes: Node) -> BlobId:
        """Store a tree with exactly these nodes in this order."""
        return self._put(BlobType.TREE, encode_tree([self._nodes.node(node) for node in nodes]))

    def file(self, name: bytes, *contents: bytes, **fields: object) -> Node:
        """A file with these blobs as its content."""
        node = Node(name, "file", mode=0o644, size=sum(map(len, contents)), uid=os.getuid(), gid=os.getgid())
        return replace(node, **{"content": tuple(self.blob(data) for data in contents), **fields})

    def folder(self, name: bytes, *nodes: Node, **fields: object) -> Node:
        """A directory that holds these nodes."""
        node = Node(name, "dir", mode=go_mode(stat.S_IFDIR | 0o755), uid=os.getuid(), gid=os.getgid())
        return replace(node, **{"subtree": self.tree(*nodes), **fields})

    def link(self, name: bytes, to: bytes) -> Node:
        """A symbolic link."""
        return Node(
            name, "symlink", mode=go_mode(stat.S_IFLNK | 0o777), linktarget=to, uid=os.getuid(), gid=os.getgid()
        )

    def flush(self) -> None:
        """Make what was put durable."""
        for packer in self._packers.values():
            for pack in packer.finish():
                self._writer.record(pack)

    def _put(self, kind: BlobType, data: bytes) -> BlobId:
        identifier = BlobId(sha256(data).digest())
        self._packers[kind].add(identifier, data)
        return identifier


def forge(vault: ArchiveVault, make: Callable[[Forge], Iterable[Node]], *paths: str) -> SnapshotInfo:
    """A snapshot whose root holds the nodes that ``make`` returns; ``paths`` are recorded as saved."""
    with writing(vault.repository) as writer:
        smith = Forge(vault, writer)
        tree = smith.tree(*make(smith))
        smith.flush()
        snapshot = Snapshot(time="2026-01-01T00:00:00Z", tree=tree, paths=paths or ("/forged",), hostname="here")
        identifier = writer.commit(snapshot)
    return describe(identifier, snapshot)
