"""What a check finds beyond flipped bits: unsound trees, odd storages, locks; which packs it reads, and how it ends."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.format.pack import BlobType
from holdfast.format.snapshot import Snapshot
from holdfast.format.tree import check_tree, decode_tree, encode_tree
from holdfast.kernel.cancel import Cancel
from holdfast.kernel.errors import Cancelled, Locked, Unavailable
from holdfast.kernel.events import Event, Fact, Tick
from holdfast.kernel.ids import BlobId
from holdfast.kernel.secret import Secret
from holdfast.repository import Repository, layout, writing
from holdfast.repository.packer import Packer
from holdfast.storage import LocalStorage
from holdfast.storage.base import Storage
from holdfast.storage.memory import MemoryStorage
from holdfast.vaults.archive import ArchiveVault
from holdfast.vaults.archive.check import check as check_with
from holdfast.vaults.archive.check_canonical import rows
from holdfast.vaults.base import CheckOptions, CheckReport, Damage, Outcome, Subset

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

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


@pytest.fixture
def crafted(tmp_path: Path) -> Crafted:
    return Crafted(LocalStorage(str(tmp_path / "vault")))


# -- trees -------------------------------------------------------------------------------------------------------------


def test_sizes_that_do_not_add_up(crafted: Crafted) -> None:
    one, two = crafted.data(b"one" * 100), crafted.data(b"four" * 100)
    tree = crafted.tree(
        file_node("claims-less", 1, one), file_node("good", 700, one, two), file_node("short", 999, two, two)
    )
    top = crafted.tree(dir_node("folder", tree))
    first, second = crafted.save(top, tree)
    (damage,) = errors(crafted.check())
    assert damage.kind == "file.size"
    assert "'short' claims 999 bytes, its blobs have 800" in damage.message
    paths = ("claims-less", "short")
    assert set(damage.files) == {f"{first}:/folder/{path}" for path in paths} | {f"{second}:/{path}" for path in paths}
    assert damage.files_total == 4


def test_content_that_no_index_knows(crafted: Crafted) -> None:
    there, gone, tree_gone = crafted.data(b"there"), sha256(b"gone").digest(), sha256(b"tree").digest()
    tree = crafted.tree(file_node("a", 5, there), file_node("b", 9, there, gone), dir_node("c", tree_gone))
    (snapshot,) = crafted.save(tree)
    (damage,) = errors(crafted.check())
    assert damage.kind == "blob.missing"
    assert set(damage.files) == {f"{snapshot}:/b", f"{snapshot}:/c/"}
    assert damage.snapshots == (snapshot,)


def test_what_no_snapshot_needs_may_be_incomplete(crafted: Crafted) -> None:
    """A prune keeps unused trees whose content is gone: no damage."""
    crafted.tree(file_node("old", 9, sha256(b"pruned").digest()), file_node("wrong size", 7))
    crafted.save(crafted.tree(file_node("new", 3, crafted.data(b"new"))))
    assert crafted.check(READ_ALL).damage == []


def test_snapshot_without_its_tree(crafted: Crafted) -> None:
    good = crafted.tree()
    shown = crafted.save(good, sha256(b"nowhere").digest())
    (damage,) = errors(crafted.check())
    assert damage.snapshots == (shown[1],)
    assert damage.files == (f"{shown[1]}:/",)


def test_tree_where_data_belongs(crafted: Crafted) -> None:
    """An id that the index knows only as the other type does not count."""
    inner = crafted.tree(file_node("x", 0))
    content = encode_tree([file_node("x", 0)])
    data = crafted.data(b"no tree")
    crafted.save(crafted.tree(file_node("a", len(content), inner), dir_node("b", data)))
    (damage,) = errors(crafted.check())
    assert damage.kind == "blob.missing"
    assert damage.files_total == 2


@pytest.mark.parametrize(
    ("why", "nodes"),
    [
        ("order", [file_node("b", 0), file_node("a", 0)]),
        ("twice", [file_node("a", 0), file_node("a", 0)]),
        ("name", [file_node("", 0)]),
        ("name", [file_node("..", 0)]),
        ("name", [file_node("../../etc/passwd", 0)]),
        ("type", [file_node("a", 0).replace(b'"file"', b'"door"')]),
        ("contents", [file_node("a", 0).replace(b"[]", b"null")]),
        ("no tree", [dir_node("a", bytes(32)).split(b',"subtree"')[0] + b"}"]),
        ("time", [file_node("a", 0).replace(b"2026-01-02T", b"2026-02-30T")]),
        ("time", [file_node("a", 0).replace(b"2026-01-02T03", b"2026-01-02T25")]),
        ("number", [file_node("a", 0).replace(b"420", b'"420"')]),
        ("id of 64", [file_node("a", 0).replace(b"[]", b'["abc"]')]),
        ("JSON", [b'{"name":"a'],),
        ("JSON", [file_node("a", 0).replace(b'"a"', b'"\xff"')]),
    ],
)  # fmt: skip
def test_unsound_tree(crafted: Crafted, why: str, nodes: list[bytes]) -> None:
    tree = crafted.tree(*nodes)
    top = crafted.tree(dir_node("folder", tree))
    (snapshot,) = crafted.save(top)
    (damage,) = errors(crafted.check())
    assert damage.kind == "tree.invalid"
    assert why in damage.message
    assert tree.hex()[:8] in damage.message
    assert damage.files == (f"{snapshot}:/folder/",)


def test_trees_laid_out_by_other_programs(crafted: Crafted) -> None:
    """Spaces, unknown fields, escaped names and missing fields are all legal."""
    data = crafted.data(b"content")
    inner = crafted.raw_tree(
        b'{ "nodes": [ {"name": "a", "type": "file", "size": 7, "content": ["%s"]} ], "x": 1}' % data.hex().encode()
    )
    odd = crafted.tree(
        file_node("R\\u0026D", 7, data), file_node("\\\\x01", 7, data), dir_node("in", inner),
        b'{"name":"l","type":"symlink",%s,"uid":0,"gid":0,"linktarget":"a \\"b\\"","future":[1],"content":null}' % TIMES,
    )  # fmt: skip
    crafted.save(crafted.tree(dir_node("odd", odd)))
    report = crafted.check(READ_ALL)
    assert [damage.message for damage in report.damage if "order" not in damage.message] == []
    assert report.files == 3


ALPHABET = st.sampled_from(
    [b'"', b",", b"]", b"[", b"{", b"}", b"\\", b"0", b"a", b"null", b"Z", b"\xff", b"", b"dir", b"-"]
)


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_the_fast_way_accepts_only_sound_trees(data: st.DataObject) -> None:
    """However a canonical tree is mangled: what the fast way lets through, the thorough way finds sound as well."""
    ids = [sha256(b"%d" % number).digest() for number in range(3)]
    symlink = (
        b'{"name":"l","type":"symlink","mode":134218239,%s,"uid":0,"gid":0,"links":1,"linktarget":"x","content":null}'
    )
    nodes = [dir_node("d", ids[0]), file_node("f", 9, *ids), file_node("g", 0), symlink % TIMES]
    tree = bytearray(encode_tree(nodes[: data.draw(st.integers(0, len(nodes)))]))
    assert rows(bytes(tree)) is not None
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(tree)))
        tree[at : at + data.draw(st.integers(0, 2))] = data.draw(ALPHABET)
    found = rows(bytes(tree))
    if found is not None:
        nodes_of = decode_tree(bytes(tree))
        assert check_tree(nodes_of) == []
        assert [row[1] for row in found] == [node.name for node in nodes_of]
        assert [int(row[6] or 0) for row in found] == [node.size for node in nodes_of]
        assert [row[8] for row in found] == [(node.subtree or b"").hex().encode() for node in nodes_of]
        assert [bytes(row[7]).count(b'"') // 2 for row in found] == [len(node.content or ()) for node in nodes_of]


def test_files_are_counted_but_not_all_named(crafted: Crafted) -> None:
    gone = sha256(b"gone").digest()
    tree = crafted.tree(*(file_node(f"{number:03}", 4, gone) for number in range(130)))
    first, second = crafted.save(crafted.tree(dir_node("a", tree), dir_node("b", tree)), tree)
    (damage,) = errors(crafted.check())
    assert damage.files_total == 3 * 130
    assert len(damage.files) == 100
    assert damage.files[0] == f"{first}:/a/000"
    assert damage.snapshots == (first, second)


# -- which packs are read ------------------------------------------------------------------------------------------------


def many_packs(crafted: Crafted) -> int:
    chance = random.Random(4)
    contents = [chance.randbytes(540_000) for _ in range(14)]
    nodes = [file_node(f"{number:02}", 540_000, crafted.data(content)) for number, content in enumerate(contents)]
    crafted.save(crafted.tree(*nodes))
    return crafted.check().packs


def test_parts_together_read_every_pack_once(crafted: Crafted) -> None:
    packs = many_packs(crafted)
    read = [crafted.check(CheckOptions(Subset(part=(part, 3)), workers=0)).packs_read for part in (1, 2, 3)]
    assert sum(read) == packs > 10
    assert all(read)


def test_a_part_finds_exactly_what_lies_in_it(crafted: Crafted) -> None:
    many_packs(crafted)
    crafted.repository.load_index()
    pack = next(pack for pack, blob in crafted.repository.index.blobs() if blob.type == BlobType.DATA)
    path = Path(crafted.storage.location) / layout.name_of(layout.DATA, pack)
    path.chmod(0o600)
    with path.open("r+b") as file:
        file.write(bytes(4))
    found = [len(errors(crafted.check(CheckOptions(Subset(part=(part, 4)), workers=0)))) for part in (1, 2, 3, 4)]
    assert found == [int(part == pack[0] % 4) for part in range(4)]


@pytest.mark.parametrize(("percent", "expected"), [(100, 1.0), (50, 0.5), (0.001, 0.0)])
def test_a_share_of_the_packs(crafted: Crafted, percent: float, expected: float) -> None:
    packs = many_packs(crafted)
    options = CheckOptions(Subset(percent=percent), workers=0)
    vault = ArchiveVault(crafted.repository)
    report = check_with(vault, options, emit=lambda _: None, cancel=Cancel(), chance=random.Random(7))
    assert report.packs_read == max(1, int(packs * expected))
    assert report.outcome is Outcome.OK


def test_progress_ends_at_its_total(crafted: Crafted) -> None:
    many_packs(crafted)
    events: list[Event] = []
    ArchiveVault(crafted.repository).check(READ_ALL, emit=events.append, cancel=Cancel())
    ticks = [event for event in events if isinstance(event, Tick)]
    assert [event for event in events if isinstance(event, Fact)] == []
    assert {tick.phase for tick in ticks} == {"index", "packs"}
    assert ticks[-1].bytes_done == ticks[-1].bytes_total == crafted.check(READ_ALL).bytes_read
    assert ticks[-1].items_done == ticks[-1].items_total


def test_a_storage_without_files_is_checked_in_this_process() -> None:
    crafted = Crafted(MemoryStorage())
    crafted.save(crafted.tree(file_node("a", 3, crafted.data(b"abc"))))
    report = crafted.check(CheckOptions(Subset(), workers=3))
    assert (report.outcome, report.packs_read, report.files) == (Outcome.OK, 2, 1)


# -- storages that misbehave ---------------------------------------------------------------------------------------------


class Changing:
    """Passes reads on to ``inner``, after ``change`` had its way with (name, how many times it was asked, bytes)."""

    def __init__(self, inner: Storage, change: Callable[[str, int, bytes], bytes]) -> None:
        self._inner = inner
        self._change = change
        self._asked: dict[tuple[str, int], int] = {}
        self.location = inner.location
        self.traits = inner.traits

    def begin(self, change: Callable[[str, int, bytes], bytes]) -> None:
        self._change = change
        self._asked.clear()

    def __getattr__(self, name: str) -> object:
        return getattr(self._inner, name)

    def read(self, name: str, offset: int = 0, length: int | None = None) -> bytes:
        return self._changed(name, offset, self._inner.read(name, offset, length))

    def read_into(self, name: str, buffer: WriteableBuffer, offset: int = 0) -> int:
        count = self._inner.read_into(name, buffer, offset)
        memoryview(buffer)[:count] = self._changed(name, offset, bytes(memoryview(buffer)[:count]))
        return count

    def _changed(self, name: str, offset: int, data: bytes) -> bytes:
        asked = self._asked[name, offset] = self._asked.get((name, offset), 0) + 1
        changed = self._change(name, asked, data)
        return changed if len(changed) == len(data) else data


def through(crafted: Crafted, change: Callable[[str, int, bytes], bytes]) -> CheckReport:
    storage = Changing(crafted.storage, lambda _name, _asked, data: data)
    repository = Repository.open(storage, SECRET)  # type: ignore[arg-type]
    storage.begin(change)
    return check(repository, READ_ALL)


@pytest.mark.parametrize("folder", ["data", "index", "snapshots", "keys"])
def test_wrong_at_the_first_read_only(crafted: Crafted, folder: str) -> None:
    crafted.save(crafted.tree(file_node("a", 3, crafted.data(b"abc"))))

    def change(name: str, asked: int, data: bytes) -> bytes:
        return bytes(len(data)) if name.startswith(folder) and asked == 1 else data

    report = through(crafted, change)
    assert report.outcome is Outcome.OK
    assert report.damage
    assert all(damage.severity == "hint" and "correct at the second read" in damage.message for damage in report.damage)


def test_a_file_that_the_disk_refuses(crafted: Crafted) -> None:
    content = crafted.data(b"abc")
    (snapshot,) = crafted.save(crafted.tree(file_node("a", 3, content)))
    crafted.repository.load_index()
    place = crafted.repository.index.place(BlobId(content))
    assert place is not None
    bad = layout.name_of(layout.DATA, place.pack)

    def change(name: str, _asked: int, data: bytes) -> bytes:
        if name == bad:
            raise Unavailable("input/output error")
        return data

    (damage,) = errors(through(crafted, change))
    assert damage.kind == "pack.unreadable"
    assert "input/output error" in damage.message
    assert damage.files == (f"{snapshot}:/a",)


def test_a_place_that_is_gone_is_no_damage(crafted: Crafted) -> None:
    crafted.save(crafted.tree(file_node("a", 3, crafted.data(b"abc"))))

    def change(name: str, _asked: int, data: bytes) -> bytes:
        if name.startswith("data/"):
            shutil.rmtree(crafted.storage.location, ignore_errors=True)
            raise Unavailable("the disk was unplugged")
        return data

    with pytest.raises(Unavailable):
        through(crafted, change)


# -- locks and ending ----------------------------------------------------------------------------------------------------


def locks_of(crafted: Crafted) -> list[str]:
    return [info.name for _, info in layout.listing(crafted.storage, layout.LOCKS)]


def test_others_go_on_meanwhile_but_nobody_deletes(crafted: Crafted) -> None:
    crafted.save(crafted.tree())
    seen: list[str] = []

    def emit(event: Event) -> None:
        with crafted.repository.locks.hold(exclusive=False):
            seen.append("shared")
        with pytest.raises(Locked), crafted.repository.locks.hold(exclusive=True):
            pass

    ArchiveVault(crafted.repository).check(STRUCTURE, emit=emit, cancel=Cancel())
    assert seen
    assert locks_of(crafted) == []
    with crafted.repository.locks.hold(exclusive=True), pytest.raises(Locked):
        crafted.check()


def test_without_lock_nothing_is_written(crafted: Crafted) -> None:
    crafted.save(crafted.tree())
    before = sorted(info.name for info in crafted.storage.list(""))

    def emit(_event: Event) -> None:
        assert sorted(info.name for info in crafted.storage.list("")) == before

    with crafted.repository.locks.hold(exclusive=True):
        before = sorted(info.name for info in crafted.storage.list(""))
        vault = ArchiveVault(crafted.repository, no_lock=True)
        assert vault.check(STRUCTURE, emit=emit, cancel=Cancel()).damage == []


def test_stale_lock_is_a_hint(crafted: Crafted) -> None:
    crafted.save(crafted.tree())
    child = os.fork()
    if child == 0:
        with crafted.repository.locks.hold(exclusive=False):
            os._exit(0)
    os.waitpid(child, 0)
    report = crafted.check()
    assert report.outcome is Outcome.OK
    assert [(damage.kind, damage.severity) for damage in report.damage] == [("lock.stale", "hint")]


def test_unreadable_lock_is_damage_and_the_rest_is_checked(crafted: Crafted) -> None:
    crafted.save(crafted.tree(file_node("a", 1)))
    crafted.storage.write(layout.name_of(layout.LOCKS, sha256(b"x").digest()), b"not a lock at all, " * 3)
    assert [damage.kind for damage in errors(crafted.check())] == ["lock.corrupt", "file.size"]


@pytest.mark.parametrize("workers", [0, 2])
def test_cancelled(crafted: Crafted, workers: int) -> None:
    many_packs(crafted)
    cancel = Cancel()

    def emit(event: Event) -> None:
        if isinstance(event, Tick) and event.phase == "packs":
            cancel.cancel("enough")

    with pytest.raises(Cancelled, match="enough"):
        ArchiveVault(crafted.repository).check(CheckOptions(Subset(), workers=workers), emit=emit, cancel=cancel)
    assert locks_of(crafted) == []


def test_many_workers_find_the_same(crafted: Crafted) -> None:
    many_packs(crafted)
    for path in sorted(Path(crafted.storage.location, "data").rglob("*"))[-9:]:
        if path.is_file():
            path.chmod(0o600)
            path.write_bytes(path.read_bytes()[:-50])
    alone, together = crafted.check(READ_ALL), crafted.check(CheckOptions(Subset(), workers=3))
    assert errors(alone)
    assert sorted(map(repr, alone.damage)) == sorted(map(repr, together.damage))
