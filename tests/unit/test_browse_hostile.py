"""Browsing snapshots that no backup would make: nothing leads astray, nothing crashes, everything odd is told."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest
from tests.archivekit import new_vault
from tests.browsekit import looking
from tests.restorekit import Forge, forge

from holdfast.format.filemode import go_mode
from holdfast.format.node import Node
from holdfast.kernel.cancel import Cancel
from holdfast.kernel.errors import Corrupt
from holdfast.kernel.events import ignore
from holdfast.kernel.ids import BlobId
from holdfast.vaults.archive import ArchiveVault
from holdfast.vaults.archive.stats import stats
from holdfast.vaults.base import Outcome
from holdfast.vaults.diff import compare
from holdfast.vaults.dump import dump_tar
from holdfast.vaults.find import Criteria, find
from holdfast.vaults.listing import list_items

BAD_NAMES = (b"", b".", b"..", b"../../etc/passwd", b"/abs", b"a/b", b"nul\0")


@pytest.fixture
def vault(tmp_path: Path) -> ArchiveVault:
    return new_vault(tmp_path / "vault")


def _names(data: bytes) -> list[str]:
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        return archive.getnames()


def test_impossible_names_are_told_and_never_listed_found_or_dumped(vault: ArchiveVault) -> None:
    def tree(smith: Forge) -> Iterable[Node]:
        return [*(smith.file(name, b"evil") for name in BAD_NAMES), smith.folder(b"sub", smith.file(b"..", b"x"))]

    forge(vault, tree)
    told: list[bytes] = []
    out = io.BytesIO()
    with looking(vault, lambda path, _error: told.append(path)) as (snapshots, browser):
        assert [item.path for item in list_items(browser, snapshots[0], recursive=True)] == [b"/sub"]
        assert sorted(told) == sorted([*(b"/" + name for name in BAD_NAMES), b"/sub/.."])
        ((_, found),) = find(browser, snapshots, Criteria(kinds=frozenset({"file"})))
        assert found == []
        dump_tar(browser, snapshots[0], b"", out.write, emit=ignore, cancel=Cancel())
    assert _names(out.getvalue()) == ["sub"]
    with looking(vault) as (snapshots, browser), pytest.raises(Corrupt):
        list(list_items(browser, snapshots[0]))


def test_a_link_and_a_folder_of_the_same_name_do_not_both_get_into_a_tar(vault: ArchiveVault) -> None:
    """Unpacked one after the other they would write through the link."""
    forge(vault, lambda smith: [smith.link(b"x", b"/etc"), smith.folder(b"x", smith.file(b"passwd", b"evil"))])
    told: list[bytes] = []
    out = io.BytesIO()
    with looking(vault, lambda path, _error: told.append(path)) as (snapshots, browser):
        dump_tar(browser, snapshots[0], b"", out.write, emit=ignore, cancel=Cancel())
    assert told == [b"/x"]
    assert _names(out.getvalue()) == ["x"]


def test_sizes_that_lie_kinds_that_are_unknown_and_folders_without_content(vault: ArchiveVault) -> None:
    def tree(smith: Forge) -> Iterable[Node]:
        return [
            Node(b"hollow", "dir", mode=go_mode(0o040755)),
            smith.file(b"liar", b"four", size=5),
            smith.file(b"lost", content=(BlobId(bytes(32)),), size=7),
            Node(b"nothing", "file", size=0),
            Node(b"odd", "irregular"),
            replace(smith.file(b"owned", b"x"), user="a\nb\0c\x1b[31m", group="\U0001f600" * 40),
            Node(b"socket", "socket", mode=go_mode(0o140755)),
            Node(b"target", "symlink", linktarget=b"a\0b"),
            Node(b"targetless", "symlink"),
        ]

    forge(vault, tree)
    out = io.BytesIO()
    with looking(vault) as (snapshots, browser):
        assert len(list(list_items(browser, snapshots[0], recursive=True))) == 9
        summary = dump_tar(browser, snapshots[0], b"", out.write, emit=ignore, cancel=Cancel())
        top = browser.find(snapshots[0], b"")
        assert list(compare(browser, top, browser, top, browser.same)) == []
        assert len(list(compare(browser, top, browser, None, browser.same))) == 10
        assert stats(vault.repository, snapshots, emit=ignore, cancel=Cancel()).missing == 1
    assert summary.outcome is Outcome.PARTIAL
    assert [problem.path for problem in summary.problems] == [b"/liar", b"/lost", b"/odd", b"/target"]
    assert _names(out.getvalue()) == ["hollow", "nothing", "owned", "targetless"]


def test_a_pattern_cannot_make_the_search_hang(vault: ArchiveVault) -> None:
    forge(vault, lambda smith: [smith.file(b"a" * 250, b"x")])
    with looking(vault) as (snapshots, browser):
        for pattern in (b"*a*a*a*a*b", b"**/**/**/**/**/**/*b", b"a*" * 12 + b"b"):
            ((_, found),) = find(browser, snapshots, Criteria((pattern,)))
            assert found == []


def test_file_times_far_away(vault: ArchiveVault) -> None:
    """The ends of what the format can hold."""
    ends = (-62_135_596_800 * 10**9, 253_402_300_799_999_999_999)
    forge(vault, lambda smith: [smith.file(b"%d" % at, b"x", mtime=ns, ctime=ns) for at, ns in enumerate(ends)])
    out = io.BytesIO()
    with looking(vault) as (snapshots, browser):
        assert [item.mtime_ns for item in list_items(browser, snapshots[0])] == list(ends)
        dump_tar(browser, snapshots[0], b"", out.write, emit=ignore, cancel=Cancel())
    with tarfile.open(fileobj=io.BytesIO(out.getvalue())) as archive:
        assert [member.pax_headers["mtime"] for member in archive] == ["-62135596800", "253402300799.999999999"]
