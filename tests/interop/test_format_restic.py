"""The format room against a repository that the real restic made: everything read, and trees written byte-equal."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import socket
import stat
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from holdfast.format.compression import Compressor, Decompressor
from holdfast.format.config import RepoConfig
from holdfast.format.crypto import BatchOpener, MasterKey, seal, unseal
from holdfast.format.gostring import quote_name
from holdfast.format.index import decode_index, encode_index
from holdfast.format.keyfile import UNSTRETCHED, KeyFile, unlock, wrap
from holdfast.format.lock import LockInfo
from holdfast.format.node import Node, NodeWriter
from holdfast.format.pack import Blob, BlobType, decode_header, encode_header, header_size, parse_trailer
from holdfast.format.snapshot import Snapshot
from holdfast.format.tree import check_tree, decode_tree, encode_tree, raw_nodes
from holdfast.format.unpacked import decode_unpacked, encode_unpacked

PASSWORD = "correct horse"
ODD_NAMES = (
    [bytes((byte,)) + b"_" for byte in range(1, 256) if byte != ord("/")]
    + [f"u{code:x}{chr(code)}".encode() for code in (0x7F, 0x80, 0xA0, 0xAD, 0xE4, 0x378, 0x200B, 0x2028, 0x2029)]
    + [
        f"u{code:x}{chr(code)}".encode()
        for code in (0x3000, 0xE000, 0xFEFF, 0xFFFD, 0xFFFE, 0x1F600, 0xE0001, 0x10FFFF)
    ]
    + [b"trunc\xe2\x82", b"surrogate\xed\xa0\x80", b"overlong\xc0\xaf", b'<tag> & "quote" \\x41', b"\xf4\x90\x80\x80"]
)


def make_source(root: Path) -> None:
    base = os.fsencode(root)
    (root / "names").mkdir()
    for name in ODD_NAMES:
        Path(os.fsdecode(base + b"/names/" + name)).write_bytes(name)
    for name in (b"back\x08\x0cslash", b"caf\xe9", "Straße & <Co>".encode()):
        Path(os.fsdecode(base + b"/" + name)).mkdir()
    (root / "empty").touch()
    # Incompressible and longer than the longest chunk: at least two blobs, stored uncompressed or compressed alike.
    (root / "large").write_bytes(b"".join(hashlib.sha512(b"%d" % i).digest() for i in range(9 * 16_384)))
    (root / "text").write_text("all work and no play\n" * 1000)
    os.link(root / "text", root / "hardlink")
    (root / "link").symlink_to("text")
    (root / "dangling").symlink_to("nirgends/<ä>&\u2028")
    os.mkfifo(root / "fifo")
    for mode in (0o000, 0o644, 0o4755, 0o2755, 0o1777, 0o7777):
        path = root / f"mode{mode:o}"
        path.touch()
        path.chmod(mode)
    (root / "sticky").mkdir()
    (root / "sticky").chmod(0o1777)
    for at, ns in enumerate((0, 1, 10, 1_700_000_000_120_000_000, -1, -86_400_000_000_001, 4_102_444_800_999_999_999)):
        path = root / f"time{at}"
        path.touch()
        os.utime(path, ns=(ns, ns))
    with contextlib.suppress(OSError):
        os.mknod(root / "null", 0o666 | stat.S_IFCHR, os.makedev(1, 3))
        os.mknod(root / "disk", 0o660 | stat.S_IFBLK, os.makedev(8, 17))
    for key, value in (("user.plain", b"v"), ("user.<odd>", bytes(range(256))), ("user.empty", b"")):
        with contextlib.suppress(OSError):
            os.setxattr(root / "text", key, value)


@dataclass
class Opened:
    root: Path
    source: Path
    zone: str
    key: MasterKey
    index: dict[bytes, tuple[bytes, Blob]]

    def files(self, kind: str) -> list[Path]:
        return sorted(path for path in (self.root / kind).rglob("*") if path.is_file())

    def unpacked(self, path: Path) -> bytes:
        raw = path.read_bytes()
        assert hashlib.sha256(raw).hexdigest() == path.name
        return decode_unpacked(unseal(self.key, raw))

    def blob(self, blob_id: bytes) -> bytes:
        pack, blob = self.index[blob_id]
        data = (self.root / "data" / pack.hex()[:2] / pack.hex()).read_bytes()
        plain = unseal(self.key, data[blob.offset : blob.offset + blob.length])
        if blob.is_compressed:
            plain = Decompressor().decompress(plain, size=blob.plain_length)
        assert len(plain) == blob.plain_length
        assert hashlib.sha256(plain).digest() == blob_id
        return plain

    def snapshot(self) -> Snapshot:
        return Snapshot.parse(self.unpacked(self.files("snapshots")[0]))

    def trees(self) -> Iterator[tuple[bytes, bytes]]:
        for blob_id, (_, blob) in self.index.items():
            if blob.type is BlobType.TREE:
                yield blob_id, self.blob(blob_id)

    def find(self, *names: str) -> Node:
        """The node at a path below the source folder."""
        tree = self.snapshot().tree
        node: Node | None = None
        for part in (*self.source.parts[1:], *names):
            found = [node for node in decode_tree(self.blob(tree)) if node.name == os.fsencode(part)]
            node = found[0]
            tree = node.subtree or tree
        assert node is not None
        return node


def restic(repo: Path, *args: str, zone: str = "UTC") -> str:
    env = dict(os.environ, RESTIC_PASSWORD=PASSWORD, TZ=zone, RESTIC_CACHE_DIR=str(repo) + "-cache")
    done = subprocess.run(
        ["restic", "-q", "-r", str(repo), *args], env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module", params=["UTC", "Asia/Kolkata", "America/New_York"])
def opened(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, need: Callable[[str], str]
) -> Opened:
    need("restic")
    zone: str = request.param
    if zone != "UTC" and not Path("/usr/share/zoneinfo", zone).exists():
        pytest.skip("this machine has no time zone database")
    root = tmp_path_factory.mktemp("format")
    source, repo = root / "source", root / "repo"
    source.mkdir()
    make_source(source)
    restic(repo, "init")
    unreadable = [str(source / "mode0")] if os.geteuid() else []
    excludes = [f"--exclude={path}" for path in unreadable]
    restic(repo, "backup", "--tag", "a<b>&c", "--exclude", "never", *excludes, str(source), zone=zone)
    keyfile = KeyFile.parse(next((repo / "keys").iterdir()).read_bytes())
    key = unlock(keyfile, PASSWORD.encode())
    assert key is not None
    result = Opened(repo, source, zone, key, {})
    for path in result.files("index"):
        for pack, blobs in decode_index(result.unpacked(path)):
            result.index |= {blob.id: (pack, blob) for blob in blobs}
    return result


@pytest.fixture
def writer(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> Iterator[NodeWriter]:
    monkeypatch.setenv("TZ", opened.zone)
    time.tzset()
    yield NodeWriter(lambda seconds: time.localtime(seconds).tm_gmtoff)
    monkeypatch.undo()
    time.tzset()


def test_key_file_is_written_as_restic_does(opened: Opened) -> None:
    raw = next((opened.root / "keys").iterdir()).read_bytes()
    keyfile = KeyFile.parse(raw)
    assert keyfile.encode() == raw
    assert keyfile.hostname == socket.gethostname()
    assert unlock(keyfile, b"wrong") is None


def test_config(opened: Opened) -> None:
    plain = unseal(opened.key, (opened.root / "config").read_bytes())
    config = RepoConfig.parse(plain)
    assert config.version == 2
    assert config.encode().strip() == plain.strip()


def test_snapshot_is_written_as_restic_does(opened: Opened) -> None:
    plain = opened.unpacked(opened.files("snapshots")[0])
    snapshot = Snapshot.parse(plain)
    assert snapshot.encode() == plain
    assert snapshot.paths == (str(opened.source),)
    assert snapshot.tags == ("a<b>&c",)
    assert abs(snapshot.time_ns - time.time_ns()) < 3_600 * 10**9


def test_index_is_written_as_restic_does(opened: Opened) -> None:
    for path in opened.files("index"):
        plain = opened.unpacked(path)
        assert encode_index(decode_index(plain)) == plain


def test_pack_headers_agree_with_the_index(opened: Opened) -> None:
    assert opened.files("data")
    for path in opened.files("data"):
        raw = path.read_bytes()
        length = parse_trailer(raw[-4:])
        plain = unseal(opened.key, raw[-4 - length : -4])
        blobs = decode_header(plain)
        assert encode_header(blobs) == plain
        assert sum(blob.length for blob in blobs) + header_size(blobs) == len(raw)
        indexed = [blob for pack, blob in opened.index.values() if pack.hex() == path.name]
        assert sorted(blobs, key=lambda blob: blob.offset) == sorted(indexed, key=lambda blob: blob.offset)
        sealed = [raw[blob.offset : blob.offset + blob.length] for blob in blobs]
        assert BatchOpener(opened.key).open(sealed) == [unseal(opened.key, unit) for unit in sealed]


def test_trees_encode_byte_equal(opened: Opened, writer: NodeWriter) -> None:
    count = 0
    for _, plain in opened.trees():
        nodes = decode_tree(plain)
        assert check_tree(nodes) == []
        encoded = [writer.node(node) for node in nodes]
        assert [raw for _, raw, _ in raw_nodes(plain)] == encoded
        assert encode_tree(encoded) == plain
        count += len(nodes)
    assert count > len(ODD_NAMES)


def test_every_name_survives(opened: Opened) -> None:
    names = {node.name for node in decode_tree(opened.blob(opened.find("names").subtree or b""))}
    assert names == set(ODD_NAMES)


def test_nodes_from_the_file_system_are_byte_equal(opened: Opened, writer: NodeWriter) -> None:
    """What a backup would write from stat results is what restic wrote from them."""
    stored = {name: raw for _, plain in opened.trees() for name, raw, _ in raw_nodes(plain)}
    seen = set()
    for path in [*opened.source.rglob("*"), opened.source]:
        name = os.fsencode(path.name)
        if name not in stored:
            assert os.geteuid() != 0
            continue
        st = path.lstat()
        node = opened.find(*path.relative_to(opened.source).parts)
        user, group = node.user, node.group
        try:
            listed = os.listxattr(path, follow_symlinks=False)
        except OSError:
            listed = []
        xattrs = [(os.fsencode(key), os.getxattr(path, key, follow_symlinks=False)) for key in listed]
        if stat.S_ISREG(st.st_mode):
            raw = writer.file(name, st, user, group, xattrs, node.content or (), st.st_size)
        elif stat.S_ISDIR(st.st_mode):
            subtree = node.subtree or b""
            raw = writer.directory_head(name, st, user, group, xattrs) + subtree.hex().encode() + b'"}'
        elif stat.S_ISLNK(st.st_mode):
            raw = writer.symlink(name, st, user, group, xattrs, os.fsencode(path.readlink()))
        else:
            raw = writer.special(name, st, user, group, xattrs)
        assert raw == stored[name]
        assert node.st_mode == st.st_mode
        assert node.mtime == st.st_mtime_ns
        seen.add(stat.S_IFMT(st.st_mode))
    assert {stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK, stat.S_IFIFO} <= seen


def test_contents_open(opened: Opened) -> None:
    for name in ("large", "text", "empty"):
        content = opened.find(name).content
        assert content is not None
        assert b"".join(map(opened.blob, content)) == (opened.source / name).read_bytes()
    assert len(opened.find("large").content or ()) > 1


def test_restic_opens_our_key_our_lock_and_our_snapshot(opened: Opened, tmp_path: Path) -> None:
    repo = tmp_path / "repo"
    shutil.copytree(opened.root, repo)
    shutil.rmtree(repo / "keys")
    (repo / "keys").mkdir()
    keyfile = wrap(
        opened.key,
        PASSWORD.encode(),
        params=UNSTRETCHED,
        salt=os.urandom(64),
        nonce=os.urandom(16),
        created="2026-01-02T03:04:05.6Z",
        username="<me>",
        hostname='h"ost',
    )
    raw = keyfile.encode()
    (repo / "keys" / hashlib.sha256(raw).hexdigest()).write_bytes(raw)
    snapshot = Snapshot("2026-01-02T03:04:05.6+01:00", opened.snapshot().tree, ("/we",), hostname="ours", tags=("t",))
    sealed = seal(opened.key, os.urandom(16), encode_unpacked(snapshot.encode(), Compressor()))
    (repo / "snapshots" / hashlib.sha256(sealed).hexdigest()).write_bytes(sealed)
    lock = LockInfo("2026-01-02T03:04:05.6+01:00", False, "lock<er", "me", 4711, 1, 2)
    sealed_lock = seal(opened.key, os.urandom(16), encode_unpacked(lock.encode(), Compressor()))
    lock_id = hashlib.sha256(sealed_lock).hexdigest()
    (repo / "locks" / lock_id).write_bytes(sealed_lock)
    assert LockInfo.parse(restic(repo, "cat", "lock", lock_id).encode()) == lock
    (repo / "locks" / lock_id).unlink()
    assert "ours" in restic(repo, "snapshots", "--no-lock")
    restic(repo, "check", "--read-data")


def test_names_are_quoted_as_go_does(opened: Opened) -> None:
    """The quoting itself, apart from JSON."""
    node = opened.find("names")
    raw = opened.blob(node.subtree or b"")
    for name, stored, fields in raw_nodes(raw):
        assert stored is not None
        assert quote_name(name) == fields["name"]
