"""Nodes and trees: exact bytes, round trips, tolerance for other programs, and refusal of nonsense."""

from __future__ import annotations

import json
import stat
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.format.filemode import go_mode, posix_mode, posix_permissions
from holdfast.format.node import Node, NodeWriter, node_from_json
from holdfast.format.time import parse_time
from holdfast.format.tree import check_tree, decode_tree, encode_tree, raw_nodes
from holdfast.kernel.errors import Corrupt, Invalid

BLOB = bytes(range(32))
WRITER = NodeWriter(lambda seconds: 3600 if seconds > 0 else 0)
HEAD = (
    '"mtime":"2023-11-14T23:13:20.12+01:00","atime":"2023-11-14T23:13:20.12+01:00",'
    '"ctime":"1969-12-31T23:59:59Z","uid":0,"gid":7,"user":"root","group":"\\u003cg\\u003e","inode":5,"device_id":66'
)


@dataclass
class Found:
    st_mode: int = 0o100644
    st_mtime_ns: int = 1_700_000_000_120_000_000
    st_ctime_ns: int = -1_000_000_000
    st_uid: int = 0
    st_gid: int = 7
    st_ino: int = 5
    st_dev: int = 66
    st_nlink: int = 2
    st_size: int = 999
    st_rdev: int = 0


# --- modes


@pytest.mark.parametrize(
    ("st_mode", "go"),
    [
        (0o040755, 2147484141),
        (0o104755, 8389101),
        (0o120777, 134218239),
        (0o010644, 33554852),
        (0o041777, 2148532735),
        (0o100644, 0o644),
        (0o102000, 1 << 22),
        (0o020600, 1 << 26 | 1 << 21 | 0o600),
        (0o060600, 1 << 26 | 0o600),
        (0o140600, 1 << 24 | 0o600),
    ],
)
def test_modes_seen_in_restic(st_mode: int, go: int) -> None:
    assert go_mode(st_mode) == go
    assert posix_mode(go) == st_mode
    assert posix_permissions(go) == stat.S_IMODE(st_mode)


def test_every_mode_survives() -> None:
    for kind in (stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK, stat.S_IFBLK, stat.S_IFCHR, stat.S_IFIFO, stat.S_IFSOCK):
        for permissions in range(0o10000):
            assert posix_mode(go_mode(kind | permissions)) == kind | permissions


def test_a_type_go_does_not_know_is_irregular() -> None:
    assert go_mode(0o644) == 1 << 19 | 0o644
    assert posix_mode(1 << 19 | 0o644) == 0o644
    assert Node(b"x", "dir", 0o755).st_mode == 0o040755
    assert Node(b"x", "irregular", go_mode(0o100755)).st_mode == 0o100755


# --- writing


def test_file() -> None:
    two = WRITER.file(b"a&b", Found(), "root", "<g>", (), [BLOB, BLOB], 10)
    assert two.decode() == (
        f'{{"name":"a\\u0026b","type":"file","mode":420,{HEAD},"size":10,"links":2,'
        f'"content":["{BLOB.hex()}","{BLOB.hex()}"]}}'
    )
    empty = WRITER.file(b"\xff", Found(st_mode=0o100000), "", "", [(b"user.x", b"\0v")], [], 0)
    assert json.loads(empty) | {"mtime": 0, "atime": 0, "ctime": 0} == {
        "name": "\\xff", "type": "file", "mtime": 0, "atime": 0, "ctime": 0, "uid": 0, "gid": 7, "inode": 5,
        "device_id": 66, "links": 2, "extended_attributes": [{"name": "user.x", "value": "AHY="}], "content": [],
    }  # fmt: skip


def test_directory() -> None:
    head = WRITER.directory_head(b"d", Found(st_mode=0o040755), "root", "<g>", ())
    assert head.decode() == f'{{"name":"d","type":"dir","mode":2147484141,{HEAD},"content":null,"subtree":"'
    assert json.loads(head + BLOB.hex().encode() + b'"}')["subtree"] == BLOB.hex()


def test_symlink() -> None:
    raw = WRITER.symlink(b"s", Found(st_mode=0o120777), "root", "<g>", (), "ä>".encode())
    expected = (
        f'{{"name":"s","type":"symlink","mode":134218239,{HEAD},"links":2,"linktarget":"ä\\u003e","content":null}}'
    )
    assert raw.decode() == expected
    lost = WRITER.symlink(b"s", Found(st_mode=0o120777), "", "", (), b"caf\xe9")
    assert json.loads(lost)["linktarget"] == "caf\ufffd"
    assert node_from_json(json.loads(lost)).linktarget == b"caf\xe9"


def test_special_files() -> None:
    device = WRITER.special(b"c", Found(st_mode=0o020600, st_rdev=259), "root", "<g>", ())
    assert device.decode() == (
        f'{{"name":"c","type":"chardev","mode":69206400,{HEAD},"links":2,"device":259,"content":null}}'
    )
    fifo = WRITER.special(b"f", Found(st_mode=0o010644, st_rdev=1), "root", "<g>", ())
    assert fifo.decode() == f'{{"name":"f","type":"fifo","mode":33554852,{HEAD},"content":null}}'
    assert b'"type":"socket"' in WRITER.special(b"f", Found(st_mode=0o140644), "", "", ())
    with pytest.raises(Invalid):
        WRITER.special(b"f", Found(), "", "", ())


def test_numbers_that_are_zero_are_left_out() -> None:
    raw = WRITER.file(b"f", Found(st_mode=0o100000, st_ino=0, st_dev=0, st_nlink=0), "", "", (), [], 0)
    assert not json.loads(raw).keys() & {"mode", "inode", "device_id", "size", "links", "user", "group"}


def test_caches_do_not_mix_things_up() -> None:
    writer = NodeWriter(lambda seconds: 0)
    for second in range(70_000):
        raw = writer.file(b"f", Found(st_uid=second, st_ctime_ns=second * 10**9), "u", "g", (), [], 0)
        if second % 9_999 == 0:
            assert json.loads(raw)["uid"] == second
            assert parse_time(json.loads(raw)["ctime"]) == second * 10**9


# --- round trips

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=10)
IDS = st.binary(min_size=32, max_size=32)
NUMBERS = st.integers(0, 2**64 - 1)
TIMES = st.integers(0, 4 * 10**18)
NODES = st.builds(
    Node,
    name=st.binary(max_size=12),
    type=st.sampled_from(["file", "dir", "symlink", "dev", "chardev", "fifo", "socket", "irregular", "new<type>"]),
    mode=st.integers(0, 2**32 - 1),
    mtime=TIMES,
    atime=TIMES,
    ctime=TIMES,
    uid=st.integers(0, 2**32 - 1),
    gid=st.integers(0, 2**32 - 1),
    user=TEXT,
    group=TEXT,
    inode=NUMBERS,
    device_id=NUMBERS,
    size=NUMBERS,
    links=NUMBERS,
    linktarget=st.none() | st.binary(min_size=1, max_size=12),
    xattrs=st.lists(st.tuples(TEXT.map(str.encode), st.binary(max_size=8)), max_size=3).map(tuple),
    device=NUMBERS,
    content=st.none() | st.lists(IDS, max_size=3).map(tuple),
    subtree=st.none() | IDS,
    error=TEXT,
    generic=st.dictionaries(TEXT, TEXT | st.integers(0, 9), max_size=2),
    extra=st.dictionaries(st.sampled_from(["later", "more"]), TEXT | st.lists(st.integers(0, 9)), max_size=2),
)


@given(st.lists(NODES, max_size=4))
@settings(max_examples=60)
def test_any_tree_survives(nodes: list[Node]) -> None:
    encoded = [WRITER.node(node) for node in nodes]
    tree = encode_tree(encoded)
    assert decode_tree(tree) == nodes
    listed = raw_nodes(tree)
    assert [name for name, _, _ in listed] == [node.name for node in nodes]
    assert [raw for _, raw, _ in listed] == encoded
    assert [node_from_json(fields) for _, _, fields in listed] == nodes


@given(NODES)
def test_the_generic_writer_agrees_with_the_fast_ones(node: Node) -> None:
    found = Found(
        go_mode_back(node), node.mtime, node.ctime, 1, 2, node.inode, node.device_id, max(1, node.links), 0, 9
    )
    content = node.content or ()
    xattrs = node.xattrs
    target = node.linktarget or b"t"
    fast = [
        WRITER.file(node.name, found, node.user, node.group, xattrs, content, node.size),
        WRITER.directory_head(node.name, dir_of(found), node.user, node.group, xattrs) + BLOB.hex().encode() + b'"}',
        WRITER.symlink(node.name, link_of(found), node.user, node.group, xattrs, target),
    ]
    for raw in fast:
        assert WRITER.node(node_from_json(json.loads(raw))) == raw


def go_mode_back(node: Node) -> int:
    return stat.S_IFREG | node.permissions


def dir_of(found: Found) -> Found:
    return Found(**(vars(found) | {"st_mode": stat.S_IFDIR | stat.S_IMODE(found.st_mode)}))


def link_of(found: Found) -> Found:
    return Found(**(vars(found) | {"st_mode": stat.S_IFLNK | stat.S_IMODE(found.st_mode)}))


# --- reading what others wrote


def test_empty_and_foreign_trees() -> None:
    assert encode_tree([]) == b'{"nodes":[]}\n'
    for empty in (b'{"nodes":[]}\n', b'{"nodes":null}', b"{}", b'{"new":[1],"nodes":[]}'):
        assert decode_tree(empty) == []
        assert raw_nodes(empty) == []
    spaced = b'{"later": 1, "nodes": [{"name": "a", "type": "file", "content": []}]}'
    assert [(name, raw) for name, raw, _ in raw_nodes(spaced)] == [(b"a", None)]
    assert decode_tree(spaced)[0].content == ()
    assert decode_tree(spaced)[0].mtime == parse_time("0001-01-01T00:00:00Z")


def test_raw_nodes_are_not_fooled_by_nested_objects() -> None:
    """A field of the future that looks like a seam between nodes."""
    inner = b'{"name":"x","type":"file","new":[{"name":"p","type":"q"},{"name":"r","type":"s"}],"content":[]}'
    listed = raw_nodes(encode_tree([inner]))
    assert [(name, raw) for name, raw, _ in listed] == [(b"x", None)]
    quoted = WRITER.node(Node(b'},{"name":"y","type":"', "file", content=()))
    assert [raw for _, raw, _ in raw_nodes(encode_tree([quoted, quoted]))] == [quoted, quoted]


def test_names_that_no_disk_can_have_are_read() -> None:
    names = [b"", b".", b"..", b"../../etc/passwd", b"a\0b", b"/"]
    nodes = decode_tree(encode_tree(WRITER.node(Node(name, "file", content=())) for name in names))
    assert [node.name for node in nodes] == names


@pytest.mark.parametrize(
    "fields",
    [
        {"name": None}, {"name": 5}, {"name": "\\q"}, {"type": None}, {"mode": "x"}, {"mode": -1}, {"mode": True},
        {"size": 1.5}, {"mtime": "never"}, {"mtime": 5}, {"ctime": []}, {"user": 5}, {"content": "x"},
        {"content": ["00"]}, {"content": [5]}, {"content": {"00" * 32: 1}}, {"content": [None]}, {"subtree": "00"},
        {"subtree": 5}, {"linktarget": 5}, {"linktarget_raw": "?"}, {"linktarget_raw": 5}, {"extended_attributes": 5},
        {"extended_attributes": [5]}, {"extended_attributes": [{"name": "a", "value": "?"}]},
        {"extended_attributes": [{"value": ""}]}, {"generic_attributes": [1]}, {"error": [1]}, {"device": "1"},
    ],
)  # fmt: skip
def test_impossible_nodes_are_refused(fields: dict[str, Any]) -> None:
    tree = json.dumps({"nodes": [{"name": "a", "type": "file"} | fields]}).encode()
    with pytest.raises(Corrupt):
        decode_tree(tree)


def test_damaged_trees_are_refused() -> None:
    tree = encode_tree([WRITER.node(Node(b"a", "file", content=())), WRITER.node(Node(b"b", "dir", subtree=BLOB))])  # type: ignore[arg-type]
    for length in range(len(tree) - 1):
        with pytest.raises(Corrupt):
            decode_tree(tree[:length])
        with pytest.raises(Corrupt):
            raw_nodes(tree[:length])
    for bad in (
        b'{"nodes":{}}',
        b'{"nodes":[1]}',
        b'{"nodes":[1]}\n',
        b'{"nodes":[{}]}\n',
        b'{"nodes":[{"name":1}]}\n',
    ):
        with pytest.raises(Corrupt):
            decode_tree(bad)
        with pytest.raises(Corrupt):
            raw_nodes(bad)


def test_check_tree_names_every_problem() -> None:
    good = [Node(b"A", "file", content=()), Node(b"a", "dir", subtree=BLOB), Node(b"b", "fifo")]  # type: ignore[arg-type]
    assert check_tree(good) == []
    nodes = [
        Node(b"z", "file"),
        Node(b"b", "dir"),
        Node(b"b", "irregular"),
        Node(b"c/d", "fifo"),
        Node(b"c\0", "fifo"),
        Node(b"..", "fifo"),
        Node(b"", "fifo"),
    ]
    problems = "\n".join(check_tree(nodes))
    for words in (
        "no list of contents",
        "no tree",
        "appears twice",
        "out of order",
        "unknown type",
        "no file can have",
    ):
        assert words in problems
    assert problems.count("no file can have") == 4
