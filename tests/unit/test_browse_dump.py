"""``dump`` over real vaults: streams of single files, and tar that other programs unpack to the same tree."""

from __future__ import annotations

import io
import os
import stat
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.archivekit import new_vault, save
from tests.browsekit import HOSTILE_NAMES, looking, make_hostile

from holdfast.files.entry import Entry
from holdfast.kernel.cancel import Cancel
from holdfast.kernel.errors import Cancelled, Corrupt, Invalid, NotFound
from holdfast.kernel.events import Event, Fact, ignore
from holdfast.repository import layout
from holdfast.vaults import pax
from holdfast.vaults.archive import ArchiveVault
from holdfast.vaults.base import Outcome
from holdfast.vaults.dump import DumpSummary, dump_file, dump_tar


@pytest.fixture
def vault(tmp_path: Path) -> ArchiveVault:
    return new_vault(tmp_path / "vault")


def _tar(vault: ArchiveVault, path: Path | bytes) -> bytes:
    out = io.BytesIO()
    with looking(vault) as (snapshots, browser):
        summary = dump_tar(browser, snapshots[-1], os.fsencode(path), out.write, emit=ignore, cancel=Cancel())
    assert summary.outcome is Outcome.OK
    assert summary.bytes_written == len(out.getvalue())
    return out.getvalue()


def _members(data: bytes) -> dict[bytes, tarfile.TarInfo]:
    with tarfile.open(fileobj=io.BytesIO(data), encoding="utf-8", errors="surrogateescape") as archive:
        return {os.fsencode(member.name): member for member in archive}


def test_a_file_comes_out_as_it_went_in(tmp_path: Path, vault: ArchiveVault) -> None:
    data = os.urandom(10 << 20)
    (tmp_path / "file").write_bytes(data)
    (tmp_path / "empty").touch()
    save(vault, tmp_path / "file", tmp_path / "empty")
    for name, expected in (("file", data), ("empty", b"")):
        out = io.BytesIO()
        with looking(vault) as (snapshots, browser):
            path = os.fsencode(tmp_path / name)
            summary = dump_file(browser, snapshots[0], path, out.write, emit=ignore, cancel=Cancel())
        assert out.getvalue() == expected
        assert summary == DumpSummary(files=1, bytes_written=len(expected))


def test_what_is_no_file_is_refused_with_a_hint(tmp_path: Path, vault: ArchiveVault) -> None:
    (tmp_path / "folder").mkdir()
    save(vault, tmp_path / "folder")
    with looking(vault) as (snapshots, browser):
        with pytest.raises(Invalid) as refused:
            dump_file(browser, snapshots[0], os.fsencode(tmp_path / "folder"), print, emit=ignore, cancel=Cancel())
        assert "--tar" in refused.value.hint
        with pytest.raises(NotFound):
            dump_tar(browser, snapshots[0], os.fsencode(tmp_path / "none"), print, emit=ignore, cancel=Cancel())


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    (root / "sub" / "empty").mkdir(parents=True)
    (root / "text").write_text("hello\n")
    (root / "zero").touch()
    os.link(root / "text", root / "sub" / "hard")
    (root / "link").symlink_to("sub/../text")
    (root / "odd link").symlink_to(os.fsdecode(b"caf\xe9/" + b"x" * 120))
    (root / ("long " + "ä" * 100)).write_text("long")
    (root / ("n" * 200)).symlink_to("y" * 300)
    os.mkfifo(root / "pipe")
    (root / "text").chmod(0o4711)
    (root / "sub").chmod(0o1777)
    os.utime(root / "text", ns=(5, 1_700_000_000_123_456_789))
    os.utime(root / "zero", ns=(5, -1_500_000_000))
    return root


def _look(root: Path) -> dict[bytes, tuple[object, ...]]:
    """What a restore must bring back of everything beneath ``root``."""
    found: dict[bytes, tuple[object, ...]] = {}
    for folder, folders, files in os.walk(os.fsencode(root)):
        for name in folders + files:
            path = os.path.join(folder, name)
            st = os.lstat(path)
            content: bytes | None = None
            if stat.S_ISREG(st.st_mode):
                with open(path, "rb") as file:
                    content = file.read()
            target = os.readlink(path) if stat.S_ISLNK(st.st_mode) else None
            when = 0 if stat.S_ISLNK(st.st_mode) else st.st_mtime_ns
            key = os.path.relpath(path, os.fsencode(root))
            links = 0 if stat.S_ISDIR(st.st_mode) else st.st_nlink
            found[key] = (st.st_mode, st.st_uid, st.st_gid, when, links, content, target, st.st_rdev)
    return found


def test_gnu_tar_unpacks_the_same_tree(
    tmp_path: Path, root: Path, vault: ArchiveVault, need: Callable[[str], str]
) -> None:
    make_hostile(root / "names")
    save(vault, root)
    (tmp_path / "out").mkdir()
    done = subprocess.run(
        [need("tar"), "--xattrs", "-xpf", "-", "-C", os.fspath(tmp_path / "out")],
        input=_tar(vault, root), capture_output=True, check=True, env={**os.environ, "LC_ALL": "C.UTF-8"},
    )  # fmt: skip
    assert done.stderr == b"" or b"hdrcharset" in done.stderr  # for the one long target that is not UTF-8
    assert _look(tmp_path / "out" / "root") == _look(root)


def test_python_reads_names_times_owners_and_links_exactly(root: Path, vault: ArchiveVault) -> None:
    make_hostile(root / "names")
    save(vault, root)
    members = _members(_tar(vault, root))
    assert {name for name in members if name.startswith(b"root/names/")} == {b"root/names/" + n for n in HOSTILE_NAMES}
    text, hard = members[b"root/sub/hard"], members[b"root/text"]
    assert text.isreg() and hard.islnk() and hard.linkname == "root/sub/hard"
    assert (text.mode, text.uid, text.size) == (0o4711, os.getuid(), 6)
    assert text.pax_headers["mtime"] == "1700000000.123456789"
    assert members[b"root/zero"].pax_headers["mtime"] == "-1.500000000"
    assert os.fsencode(members[b"root/odd link"].linkname) == b"caf\xe9/" + b"x" * 120
    assert members[b"root/pipe"].isfifo() and members[b"root/sub/empty"].isdir()
    assert list(members) == sorted(members, key=lambda name: name.split(b"/"))


def test_the_same_snapshot_gives_the_same_bytes(root: Path, vault: ArchiveVault) -> None:
    save(vault, root)
    assert _tar(vault, root) == _tar(vault, root)


def test_parts_and_the_whole_of_a_snapshot(tmp_path: Path, root: Path, vault: ArchiveVault) -> None:
    save(vault, root)
    assert list(_members(_tar(vault, root / "sub"))) == [b"sub", b"sub/empty", b"sub/hard"]
    assert list(_members(_tar(vault, root / "text"))) == [b"text"]
    first = os.fsencode(root)[1:]
    assert first + b"/text" in _members(_tar(vault, b"/"))


def test_extended_attributes_and_access_lists_travel(root: Path, vault: ArchiveVault) -> None:
    try:
        os.setxattr(root / "text", "user.any=%", bytes(range(256)))
        os.setxattr(root / "sub", "user.folder", b"")
    except OSError as error:
        pytest.skip(f"no extended attributes here: {error}")
    save(vault, root)
    data = _tar(vault, root)
    members = _members(data)
    assert b"SCHILY.xattr.user.any%3D%25=" + bytes(range(256)) + b"\n" in data
    assert members[b"root/sub"].pax_headers["SCHILY.xattr.user.folder"] == ""


def test_devices_keep_their_numbers(root: Path, vault: ArchiveVault) -> None:
    try:
        os.mknod(root / "null", 0o666 | stat.S_IFCHR, os.makedev(1, 3))
        os.mknod(root / "disk", 0o660 | stat.S_IFBLK, os.makedev(259, 70_000))
    except OSError as error:
        pytest.skip(f"devices cannot be made here: {error}")
    save(vault, root)
    members = _members(_tar(vault, root))
    null, disk = members[b"root/null"], members[b"root/disk"]
    assert null.ischr() and (null.devmajor, null.devminor) == (1, 3)
    assert disk.isblk() and (disk.devmajor, disk.devminor) == (259, 70_000)


def test_numbers_that_the_old_fields_cannot_hold() -> None:
    entry = Entry(
        b"x", "file", 0o100644, st_size=9 << 30, st_mtime_ns=(8**11 + 1) * 10**9, st_uid=3_000_000,
        st_gid=4_000_000_000, user="ü" * 40, group="g" * 40,
    )  # fmt: skip
    data = pax.header(b"x", entry, size=9 << 30)
    assert len(data) % pax.BLOCK == 0
    member = tarfile.TarFile.open(fileobj=io.BytesIO(data + pax.END)).next()
    assert member is not None
    assert (member.size, member.uid, member.gid, member.mtime) == (9 << 30, 3_000_000, 4_000_000_000, 8**11 + 1)
    assert (member.uname, member.gname) == ("ü" * 40, "g" * 40)


@pytest.mark.parametrize("length", [1, 99, 100, 101, 102, 155, 200, 256, 257, 300, 4000])
@pytest.mark.parametrize("byte", [b"n", b"\xc3\xa4", b"\xff"])
def test_names_of_every_length(length: int, byte: bytes) -> None:
    for slash in (None, 50, 99, 155, 156):
        name = (byte * length)[: length - length % len(byte)] or b"n"
        if slash is not None and slash + 1 < len(name):
            name = name[:slash] + b"/" + name[slash + 1 :]
        for path, kind in ((name, "file"), (name + b"/", "dir")):
            header = pax.header(path, Entry(b"x", kind, 0o755))  # type: ignore[arg-type]
            with tarfile.open(
                fileobj=io.BytesIO(header + pax.END), encoding="utf-8", errors="surrogateescape"
            ) as archive:
                assert [os.fsencode(found) for found in archive.getnames()] == [name]


def _damage(vault: ArchiveVault, tmp_path: Path, path: Path, at: int = 0) -> None:
    with looking(vault) as (snapshots, browser):
        blob = (browser.find(snapshots[0], os.fsencode(path)).node.content or ())[at]
        place = vault.repository.index.place(blob)
        assert place is not None
    pack = tmp_path / "vault" / layout.name_of(layout.DATA, place.pack)
    data = bytearray(pack.read_bytes())
    data[place.offset + 20] ^= 1
    pack.chmod(0o600)
    pack.write_bytes(data)


def test_a_damaged_file_is_left_out_and_told(tmp_path: Path, root: Path, vault: ArchiveVault) -> None:
    save(vault, root)
    _damage(vault, tmp_path, root / ("long " + "ä" * 100))
    events: list[Event] = []
    out = io.BytesIO()
    with looking(vault) as (snapshots, browser):
        summary = dump_tar(browser, snapshots[0], os.fsencode(root), out.write, emit=events.append, cancel=Cancel())
    assert summary.outcome is Outcome.PARTIAL
    assert [problem.path for problem in summary.problems] == [os.fsencode(root / ("long " + "ä" * 100))]
    assert [event.kind for event in events if isinstance(event, Fact)] == ["damage.found"]
    names = _members(out.getvalue())
    assert b"root/text" in names and not any(name.startswith(b"root/long") for name in names)


def test_damage_in_the_middle_of_a_file_ends_the_archive_loudly(tmp_path: Path, vault: ArchiveVault) -> None:
    (tmp_path / "big").write_bytes(os.urandom(20 << 20))
    save(vault, tmp_path / "big")
    _damage(vault, tmp_path, tmp_path / "big", at=-1)
    with looking(vault) as (snapshots, browser):
        for dump in (dump_file, dump_tar):
            with pytest.raises(Corrupt, match="big"):
                dump(browser, snapshots[0], os.fsencode(tmp_path / "big"), len, emit=ignore, cancel=Cancel())


def test_a_dump_can_be_cancelled(root: Path, vault: ArchiveVault) -> None:
    save(vault, root)
    cancel = Cancel()
    cancel.cancel()
    with looking(vault) as (snapshots, browser), pytest.raises(Cancelled):
        dump_tar(browser, snapshots[0], os.fsencode(root), len, emit=ignore, cancel=cancel)
