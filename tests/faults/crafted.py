"""A repository whose blobs, trees and snapshots a test puts there one by one, also such as no backup would make."""

from __future__ import annotations

import random
from hashlib import sha256

from holdfast.format.pack import BlobType
from holdfast.format.snapshot import Snapshot
from holdfast.format.tree import encode_tree
from holdfast.kernel.cancel import Cancel
from holdfast.kernel.ids import BlobId
from holdfast.kernel.secret import Secret
from holdfast.repository import Repository, writing
from holdfast.repository.packer import Packer
from holdfast.storage.base import Storage
from holdfast.vaults.archive import ArchiveVault
from holdfast.vaults.base import CheckOptions, CheckReport, Damage, Subset

SECRET = Secret(b"correct horse", random=True)
READ_ALL = CheckOptions(read_data=Subset(), workers=0)
STRUCTURE = CheckOptions(workers=0)
TIMES = b'"mtime":"2026-01-02T03:04:05.6Z","atime":"2026-01-02T03:04:05.6Z","ctime":"2026-01-02T03:04:05.6Z"'


def file_node(name: str, size: int, *content: bytes) -> bytes:
    listed = ",".join(f'"{blob.hex()}"' for blob in content)
    return b'{"name":"%s","type":"file","mode":420,%s,"uid":0,"gid":0%s,"content":[%s]}' % (
        name.encode(), TIMES, b',"size":%d' % size if size else b"", listed.encode(),
    )  # fmt: skip


def dir_node(name: str, subtree: bytes) -> bytes:
    return b'{"name":"%s","type":"dir","mode":2147484141,%s,"uid":0,"gid":0,"content":null,"subtree":"%s"}' % (
        name.encode(), TIMES, subtree.hex().encode(),
    )  # fmt: skip


class Crafted:
    """A repository whose blobs and trees are put there one by one."""

    def __init__(self, storage: Storage) -> None:
        self.storage = storage
        self.repository = Repository.init(storage, [SECRET])
        self._blobs: dict[BlobType, dict[bytes, bytes]] = {BlobType.DATA: {}, BlobType.TREE: {}}

    def data(self, content: bytes) -> bytes:
        return self._add(BlobType.DATA, content)

    def tree(self, *nodes: bytes) -> bytes:
        return self.raw_tree(encode_tree(nodes))

    def raw_tree(self, content: bytes) -> bytes:
        return self._add(BlobType.TREE, content)

    def _add(self, kind: BlobType, content: bytes) -> bytes:
        identifier = sha256(content).digest()
        self._blobs[kind][identifier] = content
        return identifier

    def save(self, *roots: bytes) -> list[str]:
        """Store everything, and one snapshot for each root; their short ids."""
        repository, shown = self.repository, []
        with writing(repository) as writer:
            for kind, blobs in self._blobs.items():
                packer = Packer(self.storage, repository.master, kind, repository.draw, target=1 << 16)
                for identifier, content in blobs.items():
                    packer.add(BlobId(identifier), content)
                for pack in packer.finish():
                    writer.record(pack)
            for number, root in enumerate(roots):
                snapshot = Snapshot(f"2026-01-02T03:04:{number:02}Z", BlobId(root), ("/crafted",))
                shown.append(writer.commit(snapshot).hex()[:8])
        return shown

    def check(self, options: CheckOptions = STRUCTURE) -> CheckReport:
        return check(self.repository, options)


def check(repository: Repository, options: CheckOptions = STRUCTURE) -> CheckReport:
    return ArchiveVault(repository).check(options, emit=lambda _: None, cancel=Cancel())


def errors(report: CheckReport) -> list[Damage]:
    return [damage for damage in report.damage if damage.severity == "error"]


def many_packs(crafted: Crafted) -> int:
    chance = random.Random(4)
    contents = [chance.randbytes(540_000) for _ in range(14)]
    nodes = [file_node(f"{number:02}", 540_000, crafted.data(content)) for number, content in enumerate(contents)]
    crafted.save(crafted.tree(*nodes))
    return crafted.check().packs
