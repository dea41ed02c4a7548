"""Whether a file is as an older tree says: the extension, which compares all at once, and Python must agree."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.archivekit import new_vault, open_vault, save, tree_of

from holdfast.files.names import Names
from holdfast.format import node
from holdfast.format.node import NodeWriter
from holdfast.format.tree import encode_tree, is_laid_out, raw_slice, raw_slices
from holdfast.kernel.ids import BlobId
from holdfast.sources.directory import Item
from holdfast.sources.records import Seen, pack
from holdfast.vaults.archive.backup.old import OldNodes, OldTrees

needs_extension = pytest.mark.skipif(node._native is None, reason="the C extension was not built")

TREE = BlobId(bytes(32))
NAMES = st.binary(min_size=1, max_size=12).filter(lambda name: not set(name) & {0, 47}) | st.sampled_from(
    [
        b"plain",
        b"a.txt",
        b"a",
        b"aa",
        b'quo"te',
        b"back\\slash",
        "é".encode(),
        b"<tag>",
        b"a&b",
        b"\x7f",
        b"\xff",
        b"x" * 255,
    ]
)
TIMES = st.integers(-(2**62), 2**62) | st.integers(-(10**13), 10**13) | st.integers(-2, 2**33).map(lambda s: s * 10**9)
SMALL = st.integers(0, 3)
STATS = st.builds(
    Seen,
    st_mode=st.integers(0, 0o7777).map(lambda mode: mode | 0o100000) | st.just(0o100644) | st.just(0o040755),
    st_mtime_ns=TIMES, st_ctime_ns=TIMES, st_size=SMALL | st.integers(0, 2**62), st_ino=st.integers(0, 2**64 - 1),
    st_dev=SMALL, st_uid=SMALL, st_gid=SMALL, st_nlink=SMALL, st_rdev=st.just(0),
)  # fmt: skip
CHANGES = st.sampled_from(["", "", "", "time", "size", "gone", "attributes", "cut"])
ZONES = st.sampled_from([0, 3600, -34_200, 20_700, 86_399, -1, 12_345])


class People(Names):
    """Users and groups with telling names."""

    def user(self, uid: int) -> str:
        return ["root", "", 'o"dd <name>', "x" * 2000][uid]

    def group(self, gid: int) -> str:
        return ["wheel", "ünï", "", "g"][gid]


def plain(name: bytes) -> bool:
    return name.isascii() and name.decode().isprintable() and not set(name) & set(b'"\\<>&')


def trees(data: bytes, writer: NodeWriter, *, trusted: bool = True) -> OldTrees:
    return OldTrees(lambda _: data, writer, People(), lambda blob: blob[0] < 128, trusted=trusted)


def written(writer: NodeWriter, item: Item, change: str) -> bytes:
    """The node of an entry, perhaps of an earlier state of it."""
    name, seen = item
    owner = People().user(seen.st_uid), People().group(seen.st_gid)
    if seen.st_mode & 0o170000 == 0o040000:
        return writer.directory_head(name, seen, *owner, ()) + b"0" * 64 + b'"}'
    if change == "time":
        seen = seen._replace(st_mtime_ns=seen.st_mtime_ns + 1)
    xattrs = [(b"user.x", b'},{"name":"a","type":"file"')] if change == "attributes" else ()
    size = seen.st_size + (change == "size")
    content = [sha256(name + bytes([number])).digest() for number in range(size % 3)]
    raw = writer.file(name, seen, *owner, xattrs, content, size)
    return raw[:-1] + b',"error":"cut"}' if change == "cut" else raw


@needs_extension
@given(st.dictionaries(NAMES, st.tuples(STATS, CHANGES), max_size=8), ZONES, st.booleans())
def test_the_extension_agrees_with_python(entries: dict[bytes, tuple[Seen, str]], zone: int, trusted: bool) -> None:
    writer = NodeWriter(lambda seconds: zone if seconds >= 0 else -zone)
    items = [Item(name, entries[name][0]) for name in sorted(entries)]
    data = encode_tree(
        written(writer, item, entries[item.name][1]) for item in items if entries[item.name][1] != "gone"
    )
    old = trees(data, writer, trusted=trusted)
    nodes = old.nodes(TREE)
    found = old.settled(nodes, items)
    assert found is not None and len(found) == len(items)
    for item, raw in zip(items, found, strict=True):
        if item.stat.st_mode & 0o170000 == 0o040000:
            assert raw is None
            continue
        expected, _ = old.unchanged(nodes, item.name, item.stat, b"/")
        settled_by_python = entries[item.name][1] == "cut" or item.stat.st_uid == 3  # whose name is that long
        if plain(item.name) and not settled_by_python:
            assert raw == expected
        else:
            assert raw is None or raw == expected


@needs_extension
@given(st.dictionaries(NAMES, STATS, max_size=8), ZONES)
def test_new_nodes_are_what_python_writes(entries: dict[bytes, Seen], zone: int) -> None:
    writer, people = NodeWriter(lambda seconds: zone if seconds >= 0 else -zone), People()
    items = [Item(name, entries[name]) for name in sorted(entries)]
    ids = [BlobId(sha256(name).digest()) for name, _ in items]
    made = writer.files(pack(items) or b"", ids, people.user, people.group)
    for (name, seen), identifier, raw in zip(items, ids, made, strict=True):
        expected = writer.file(
            name, seen, people.user(seen.st_uid), people.group(seen.st_gid), (), [identifier], seen.st_size
        )
        usual = plain(name) and seen.st_uid != 3 and seen.st_mode & 0o170000 == 0o100000
        assert raw == (expected if usual else None)
    with pytest.raises(IndexError):
        writer.files(
            pack([Item(b"a", Seen(0o100644, 1, 1, 3, 4, 5, 0, 0, 1, 0))]) or b"", [], people.user, people.group
        )


@given(st.dictionaries(NAMES, STATS.filter(lambda seen: seen.st_mode & 0o170000 == 0o100000), min_size=1, max_size=40))
def test_a_node_is_found_where_it_is(entries: dict[bytes, Seen]) -> None:
    writer = NodeWriter(lambda _: 0)
    raw = [written(writer, Item(name, entries[name]), "attributes") for name in sorted(entries)]
    data = encode_tree(raw)
    nodes = OldNodes(data)
    for name, expected in zip(sorted(entries), raw, strict=True):
        found = nodes.find(name)
        assert found is not None and found.raw == expected
        assert nodes.find(name + b"/") is None
    assert is_laid_out(data) and raw_slices(data) == raw
    assert raw_slice(data, b"a/") is None


def test_trees_that_others_lay_out_are_read_as_well() -> None:
    writer = NodeWriter(lambda _: 0)
    item = Item(b"a", Seen(0o100644, 1, 1, 3, 4, 5, 0, 0, 1, 0))
    data = b'{ "nodes": [' + written(writer, item, "") + b"]}"
    nodes = OldNodes(data)
    assert not is_laid_out(data) and trees(data, writer).settled(nodes, [item]) is None
    assert nodes.find(b"a") is not None and nodes.find(b"b") is None
    assert not OldNodes(b"") and OldNodes(b"").find(b"a") is None
    assert OldNodes(b"rubbish").find(b"a") is None


@needs_extension
def test_rubbish_is_no_reason_to_crash() -> None:
    draw = random.Random(7)
    writer = NodeWriter(lambda _: 0)
    items = [Item(b"%d" % number, Seen(0o100644, 1, 1, 3, 4, 5, 0, 0, 1, 0)) for number in range(5)]
    good = encode_tree(written(writer, item, "") for item in items)
    packed = pack(items) or b""
    assert None not in (writer.settled(good, packed, lambda _: "root", lambda _: "wheel") or [None])
    for _ in range(3000):
        bad = bytearray(good)
        for _ in range(draw.randrange(1, 4)):
            bad[draw.randrange(len(bad))] = draw.choice(b'"\\{}[],:a')
        cut = draw.randrange(len(bad) + 1)
        writer.settled(bytes(bad[:cut]) + draw.choice([b"", b"]}\n", b"\\]}\n"]), packed, lambda _: "", lambda _: "")
    with pytest.raises(ValueError, match="cut off"):
        writer.settled(good, packed[:-1], lambda _: "", lambda _: "")


@needs_extension
@pytest.mark.parametrize("error", [KeyError("x"), OverflowError()])
def test_errors_of_the_zone_get_through(error: Exception) -> None:
    def offset_at(_: int) -> int:
        raise error

    item = Item(b"a", Seen(0o100644, 1, 1, 3, 4, 5, 0, 0, 1, 0))
    data = encode_tree([written(NodeWriter(lambda _: 0), item, "")])
    with pytest.raises(type(error)):
        trees(data, NodeWriter(offset_at)).settled(OldNodes(data), [item])


@pytest.fixture
def zone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "America/St_Johns")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.usefixtures("zone")
@pytest.mark.parametrize("native", [True, False])
def test_a_changed_folder_becomes_the_same_tree_as_in_a_new_vault(
    tmp_path: os.PathLike[str], native: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the shortcut, and by saving everything."""
    from pathlib import Path

    root = Path(tmp_path)
    source = root / "source"
    source.mkdir()
    draw = random.Random(3)
    for number in range(60):
        path = source / draw.choice([f"plain {number}", f"ünï {number}", f'quo"te {number}', f"<{number}>"])
        path.write_bytes(draw.randbytes(number))
        os.utime(path, ns=(0, draw.randrange(-(10**17), 2 * 10**18)))
        path.chmod(draw.choice([0o644, 0o4755, 0o600]))
    first = new_vault(root / "one")
    save(first, source)
    if not native:
        monkeypatch.setattr(node, "_native", None)
    (source / "new").write_text("new")
    next(source.glob("plain*")).write_text("changed")
    again = open_vault(root / "one")
    done = save(again, source)
    assert (done.files_new, done.files_changed, done.files_unmodified) == (1, 1, 59)
    second = new_vault(root / "two")
    save(second, source)
    assert tree_of(again, source) == tree_of(second, source)
