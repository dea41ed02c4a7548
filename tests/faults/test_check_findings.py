"""What a check finds beyond flipped bits: unsound trees, missing content; which packs it reads, and what it tells."""

from __future__ import annotations

import random
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.faults.crafted import READ_ALL, TIMES, Crafted, dir_node, errors, file_node, many_packs

from holdfast.format.pack import BlobType
from holdfast.format.tree import check_tree, decode_tree, encode_tree
from holdfast.kernel.cancel import Cancel
from holdfast.kernel.events import Event, Fact, Tick
from holdfast.repository import layout
from holdfast.storage import LocalStorage
from holdfast.storage.memory import MemoryStorage
from holdfast.vaults.archive import ArchiveVault
from holdfast.vaults.archive.canonical import rows
from holdfast.vaults.archive.check import check as check_with
from holdfast.vaults.base import CheckOptions, Outcome, Subset


@pytest.fixture
def crafted(tmp_path: Path) -> Crafted:
    return Crafted(LocalStorage(str(tmp_path / "vault")))


# -- trees ----------------------------------------------------------------------------------------------------------


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
        b'{"name":"l","type":"symlink",%s,"uid":0,"gid":0,"linktarget":"\\"b\\"","future":[1],"content":null}' % TIMES,
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


def test_unused_pack_is_a_hint(crafted: Crafted) -> None:
    crafted.save(crafted.tree())
    crafted.storage.write(layout.name_of(layout.DATA, sha256(b"stray").digest()), b"left behind")
    report = crafted.check(READ_ALL)
    assert report.outcome is Outcome.OK
    assert report.unused_packs == 1
    assert [(damage.kind, damage.severity) for damage in report.damage] == [("pack.unused", "hint")]


def test_files_are_counted_but_not_all_named(crafted: Crafted) -> None:
    gone = sha256(b"gone").digest()
    tree = crafted.tree(*(file_node(f"{number:03}", 4, gone) for number in range(130)))
    first, second = crafted.save(crafted.tree(dir_node("a", tree), dir_node("b", tree)), tree)
    (damage,) = errors(crafted.check())
    assert damage.files_total == 3 * 130
    assert len(damage.files) == 100
    assert damage.files[0] == f"{first}:/a/000"
    assert damage.snapshots == (first, second)


# -- which packs are read ---------------------------------------------------------------------------------------------


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
