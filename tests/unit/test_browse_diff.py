"""``diff`` over real vaults: two snapshots, subfolders, the disk, text, and what is not read."""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.archivekit import new_vault, save
from tests.browsekit import looking, make_hostile

from holdfast.files.rules import Rules
from holdfast.format.node import Node
from holdfast.kernel.errors import Corrupt, Invalid, NotFound
from holdfast.vaults.archive import ArchiveVault
from holdfast.vaults.archive.browser import ArchiveBrowser, SavedItem
from holdfast.vaults.diff import Difference, DiffSummary, compare
from holdfast.vaults.disk import Disk, pairs_with_disk, same_as_disk, tops
from holdfast.vaults.textdiff import LARGEST, text_diff

Shown = list[tuple[str, str, tuple[str, ...]]]


def _shown(differences: list[Difference], root: Path) -> Shown:
    base = os.fsencode(root)
    return [
        (str(found.change), os.fsdecode(found.path.removeprefix(base + b"/")), found.details) for found in differences
    ]


def _between(vault: ArchiveVault, root: Path, path: bytes = b"") -> tuple[Shown, DiffSummary]:
    summary = DiffSummary()
    with looking(vault) as (snapshots, browser):
        first, second = (browser.find(snapshot, path) for snapshot in snapshots[-2:])
        differences = list(compare(browser, first, browser, second, browser.same))
    # What else happens in the folders above, such as another run of tests, is nothing that these tests changed.
    inside = [found for found in differences if not os.fsencode(root).startswith(found.path + b"/")]
    for difference in inside:
        summary.count(difference)
    return _shown(inside, root), summary


def _against_disk(
    vault: ArchiveVault, root: Path, path: bytes = b"", *, rules: Rules | None = None, reread: bool = False
) -> Shown:
    def fail(path: bytes, error: Exception) -> None:
        raise AssertionError(path) from error

    found: list[Difference] = []
    with looking(vault) as (snapshots, browser):
        disk = Disk(rules, fail)
        for saved, here in pairs_with_disk(browser, snapshots[-1], path, disk):
            found += compare(browser, saved, disk, here, same_as_disk(browser, reread=reread))
    return _shown(found, root)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    (root / "same" / "deep").mkdir(parents=True)
    (root / "same" / "deep" / "file").write_text("same")
    (root / "gone" / "sub").mkdir(parents=True)
    (root / "gone" / "sub" / "file").write_text("12345")
    (root / "kind").mkdir()
    (root / "kind" / "inner").write_text("was in a folder")
    (root / "changed").write_text("before")
    (root / "mode").write_text("mode")
    (root / "touched").write_text("touched")
    (root / "link").symlink_to("somewhere")
    os.mkfifo(root / "pipe")
    return root


@pytest.fixture
def vault(tmp_path: Path) -> ArchiveVault:
    return new_vault(tmp_path / "vault")


def _change(root: Path) -> None:
    (root / "gone" / "sub" / "file").unlink()
    (root / "gone" / "sub").rmdir()
    (root / "gone").rmdir()
    (root / "kind" / "inner").unlink()
    (root / "kind").rmdir()
    (root / "kind").write_text("is a file")
    (root / "changed").write_text("after!!!")
    (root / "mode").chmod(0o4750)
    os.utime(root / "touched", ns=(1, 1))
    (root / "link").unlink()
    (root / "link").symlink_to("elsewhere")
    (root / "new").mkdir()
    (root / "new" / "file").write_text("1234567")


CHANGED: Shown = [
    ("M", "changed", ("content", "mtime")),
    ("-", "gone", ()),
    ("-", "gone/sub", ()),
    ("-", "gone/sub/file", ()),
    ("T", "kind", ("type",)),
    ("-", "kind/inner", ()),
    ("M", "link", ("target", "mtime")),
    ("U", "mode", ("mode",)),
    ("+", "new", ()),
    ("+", "new/file", ()),
    ("U", "touched", ("mtime",)),
]


def test_everything_that_can_change_between_two_snapshots(root: Path, vault: ArchiveVault) -> None:
    save(vault, root)
    _change(root)
    save(vault, root)
    shown, summary = _between(vault, root)
    assert shown == CHANGED
    assert summary == DiffSummary(
        files_added=1, files_removed=2, files_modified=1, dirs_added=1, dirs_removed=2, others_modified=1, metadata=2,
        types=1, bytes_added=8 + 7 + 9, bytes_removed=6 + 5 + 15,
    )  # fmt: skip


def test_nothing_changed(root: Path, vault: ArchiveVault) -> None:
    save(vault, root)
    save(vault, root, force=True)
    shown, summary = _between(vault, root)
    assert shown == []
    assert summary.equal


def test_only_one_subfolder(root: Path, vault: ArchiveVault) -> None:
    save(vault, root)
    _change(root)
    save(vault, root)
    assert _between(vault, root, os.fsencode(root / "same"))[0] == []
    assert _between(vault, root, os.fsencode(root / "changed"))[0] == [CHANGED[0]]


def test_two_folders_of_different_names_compare(root: Path, vault: ArchiveVault) -> None:
    (root / "copy" / "deep").mkdir(parents=True)
    (root / "copy" / "deep" / "file").write_text("same")
    (root / "copy" / "extra").write_text("e")
    for path in ("same", "same/deep", "same/deep/file"):
        st = (root / path).stat()
        os.utime(root / path.replace("same", "copy", 1), ns=(st.st_mtime_ns, st.st_mtime_ns))
    save(vault, root)
    with looking(vault) as (snapshots, browser):
        first = browser.find(snapshots[0], os.fsencode(root / "same"))
        second = browser.find(snapshots[0], os.fsencode(root / "copy"))
        found = list(compare(browser, first, browser, second, browser.same))
    assert _shown(found, root) == [("+", "copy/extra", ())]


def test_equal_folders_are_not_read(root: Path, vault: ArchiveVault, monkeypatch: pytest.MonkeyPatch) -> None:
    save(vault, root)
    (root / "changed").write_text("x")
    save(vault, root)
    read: list[bytes] = []
    children = ArchiveBrowser.children
    monkeypatch.setattr(
        ArchiveBrowser, "children", lambda self, folder: read.append(folder.path) or children(self, folder)
    )
    _between(vault, root)
    assert os.fsencode(root) in read
    assert not [path for path in read if path.startswith(os.fsencode(root / "same"))]


def test_one_file_cut_in_two_ways_is_the_same(tmp_path: Path, vault: ArchiveVault) -> None:
    whole = os.urandom(400_000)
    cuts = {"a1": whole[:300_000], "a2": whole[300_000:], "b1": whole[:100_000], "b2": whole[100_000:]}
    cuts["c2"] = whole[100_000:-1] + bytes([whole[-1] ^ 1])
    (tmp_path / "parts").mkdir()
    for name, data in cuts.items():
        (tmp_path / "parts" / name).write_bytes(data)  # each is one blob
    save(vault, tmp_path / "parts")
    with looking(vault) as (snapshots, browser):

        def made_of(*names: str) -> SavedItem:
            nodes = [browser.find(snapshots[0], os.fsencode(tmp_path / "parts" / name)).node for name in names]
            blobs = tuple(blob for node in nodes for blob in node.content or ())
            return SavedItem(b"/file", Node(b"file", "file", size=sum(node.size for node in nodes), content=blobs))

        assert browser.same(made_of("a1", "a2"), made_of("b1", "b2"))
        assert browser.same(made_of("a1"), made_of("a1"))
        assert not browser.same(made_of("a1", "a2"), made_of("b1", "c2"))
        assert not browser.same(made_of("b1", "b2"), made_of("b1", "c2"))
        assert not browser.same(made_of("a1", "a2"), made_of("a1"))


def test_the_disk_shows_what_changed_since(root: Path, vault: ArchiveVault) -> None:
    save(vault, root)
    assert _against_disk(vault, root) == []
    _change(root)
    assert _against_disk(vault, root) == CHANGED
    assert _against_disk(vault, root, os.fsencode(root / "new")) == CHANGED[8:10]
    assert _against_disk(vault, root, os.fsencode(root / "gone" / "sub")) == CHANGED[2:4]
    assert _against_disk(vault, root, b"/") == CHANGED
    with pytest.raises(NotFound):
        _against_disk(vault, root, os.fsencode(root / "nowhere"))


def test_content_on_the_disk_is_compared_where_times_do_not_prove_it(root: Path, vault: ArchiveVault) -> None:
    big = os.urandom(9 << 20)
    (root / "big").write_bytes(big)
    save(vault, root)
    st = (root / "big").stat()
    (root / "big").write_bytes(big)
    os.utime(root / "big", ns=(st.st_mtime_ns, st.st_mtime_ns))
    assert _against_disk(vault, root) == []
    (root / "big").write_bytes(big[:-1] + bytes([big[-1] ^ 1]))
    os.utime(root / "big", ns=(st.st_mtime_ns, st.st_mtime_ns))
    assert _against_disk(vault, root) == [("M", "big", ("content",))]


def test_what_a_backup_leaves_out_is_no_difference(
    root: Path, vault: ArchiveVault, monkeypatch: pytest.MonkeyPatch
) -> None:
    (root / "kept.tmp").write_text("saved once")
    save(vault, root)
    (root / "new.tmp").write_text("x")
    (root / "node_modules" / "deep").mkdir(parents=True)
    (root / "node_modules" / "deep" / "file").write_text("x")
    (root / "same" / ".holdfastignore").write_text("secret\n")
    (root / "same" / "secret").write_text("x")
    (root / "kept.tmp").write_text("changed")
    monkeypatch.chdir(root)  # a socket's name may be 107 bytes long, whatever the folder's
    socket.socket(socket.AF_UNIX).bind("socket")
    monkeypatch.undo()
    rules = Rules.compile(["*.tmp"], defaults=True)
    assert _against_disk(vault, root, rules=rules) == [
        ("M", "kept.tmp", ("content", "mtime")),
        ("+", "same/.holdfastignore", ()),
    ]


def test_hostile_names_and_no_difference(tmp_path: Path, vault: ArchiveVault) -> None:
    make_hostile(tmp_path / "root")
    save(vault, tmp_path / "root")
    assert _against_disk(vault, tmp_path / "root") == []
    gone = b"caf\xe9"
    os.unlink(os.fsencode(tmp_path / "root") + b"/" + gone)
    assert _against_disk(vault, tmp_path / "root") == [("-", os.fsdecode(gone), ())]


def test_where_relative_and_odd_paths_belong(
    tmp_path: Path, root: Path, vault: ArchiveVault, monkeypatch: pytest.MonkeyPatch
) -> None:
    odd = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9"))
    odd.mkdir()
    (odd / "file").write_text("x")
    (root / "root").mkdir()
    monkeypatch.chdir(tmp_path)
    save(vault, b"root/same")
    save(vault, odd)
    save(vault, b"root", b"caf\xe9")
    monkeypatch.chdir(root)
    save(vault, b".")
    with looking(vault) as (snapshots, browser):
        found = [tops(browser, snapshot) for snapshot in snapshots]
    here = os.fsencode(tmp_path)
    assert found[0] == [(b"/root/same", here + b"/root/same")]
    assert found[1] == [(here + b"/caf\xe9", here + b"/caf\xe9")]
    assert (b"/root", here + b"/root") in found[2]
    assert found[3] == [(b"/", here + b"/root")]
    (root / "same" / "deep" / "file").write_text("other")
    assert _against_disk(vault, root) == [("M", "/same/deep/file", ("content", "mtime"))]


def _unreadable(root: Path, vault: ArchiveVault) -> list[bytes]:
    told: list[bytes] = []
    with looking(vault) as (snapshots, browser):
        disk = Disk(None, lambda path, _error: told.append(path))
        for saved, here in pairs_with_disk(browser, snapshots[-1], b"", disk):
            list(compare(browser, saved, disk, here, same_as_disk(browser)))
    return told


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_may_not_be_read_is_told(root: Path, vault: ArchiveVault) -> None:
    save(vault, root)
    (root / "same" / "deep").chmod(0)
    try:
        assert _unreadable(root, vault) == [os.fsencode(root / "same" / "deep")]
    finally:
        (root / "same" / "deep").chmod(0o700)


def test_a_file_whose_record_is_incomplete_goes_to_the_listener(root: Path, vault: ArchiveVault) -> None:
    save(vault, root)
    (root / "changed").write_text("BEFORE")
    told: list[bytes] = []
    with looking(vault) as (snapshots, browser):

        def broken(_old: object, _new: object) -> bool:
            raise Corrupt("the blob is in no index")

        disk = Disk(None, lambda _path, error: (_ for _ in ()).throw(error))
        ((saved, here),) = pairs_with_disk(browser, snapshots[0], b"", disk)
        found = list(compare(browser, saved, disk, here, broken, on_error=lambda path, _error: told.append(path)))
        assert os.fsencode(root / "changed") in told
        assert "changed" not in [name for _, name, _ in _shown(found, root)]
        ((saved, here),) = pairs_with_disk(browser, snapshots[0], b"", disk)
        with pytest.raises(Corrupt):
            list(compare(browser, saved, disk, here, broken))


def test_device_numbers_count(root: Path, vault: ArchiveVault) -> None:
    try:
        os.mknod(root / "null", 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    except OSError as error:
        pytest.skip(f"devices cannot be made here: {error}")
    save(vault, root)
    (root / "null").unlink()
    os.mknod(root / "null", 0o666 | stat.S_IFCHR, os.makedev(1, 5))
    save(vault, root)
    assert _between(vault, root, os.fsencode(root / "null"))[0] == [("M", "null", ("device", "mtime"))]


def test_extended_attributes_count(root: Path, vault: ArchiveVault) -> None:
    save(vault, root)
    try:
        os.setxattr(root / "mode", "user.colour", b"\x00blue")
    except OSError as error:
        pytest.skip(f"no extended attributes here: {error}")
    save(vault, root)
    assert _between(vault, root)[0] == [("U", "mode", ("xattrs",))]


# -- text --------------------------------------------------------------------------------------------------------------


def test_text_is_shown_line_by_line_and_keeps_odd_bytes() -> None:
    before = [b"one\ntw", b"o\nth\xe9ee\n"]
    after = [b"one\n2\x0c\nth\xe9ee"]
    lines = list(text_diff(before, after, "a/f", "b/f"))
    assert lines == [
        "--- a/f\n", "+++ b/f\n", "@@ -1,3 +1,3 @@\n", " one\n", "-two\n", "-th\udce9ee\n", "+2\x0c\n",
        "+th\udce9ee\n\\ No newline at end of file\n",
    ]  # fmt: skip
    assert os.fsencode(lines[5]) == b"-th\xe9ee\n"


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (b"same\n", b"same\n", []),
        (b"", b"", []),
        (b"\0\1", b"\0\1", []),
        (b"text\n", b"\0\1", ["Binary files a and b differ\n"]),
        (b"", b"new\n", ["--- a\n", "+++ b\n", "@@ -0,0 +1 @@\n", "+new\n"]),
    ],
)
def test_short_text_diffs(before: bytes, after: bytes, expected: list[str]) -> None:
    assert list(text_diff([before], [after], "a", "b")) == expected


def test_a_text_that_is_too_long_is_refused_before_it_is_all_read() -> None:
    def endless() -> Iterator[bytes]:
        while True:
            yield bytes(1 << 20)

    with pytest.raises(Invalid, match=f"{LARGEST >> 20} MiB"):
        list(text_diff([], endless(), "a", "b"))


def test_the_text_of_a_file_in_two_snapshots(root: Path, vault: ArchiveVault) -> None:
    save(vault, root)
    (root / "changed").write_text("after")
    save(vault, root)
    with looking(vault) as (snapshots, browser):
        path = os.fsencode(root / "changed")
        old, new = (browser.content(browser.find(snapshot, path)) for snapshot in snapshots)
        assert list(text_diff(old, new, "a", "b"))[3:] == [
            "-before\n\\ No newline at end of file\n",
            "+after\n\\ No newline at end of file\n",
        ]
