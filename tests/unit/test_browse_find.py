"""``find`` over real vaults: patterns, sizes, times, many snapshots, and how little it reads."""

from __future__ import annotations

import fnmatch
import os
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.archivekit import new_vault, save
from tests.browsekit import HOSTILE_NAMES, looking, make_hostile

from holdfast.format.node import Node
from holdfast.kernel.cancel import Cancel
from holdfast.kernel.errors import Cancelled, Invalid
from holdfast.vaults.archive.browser import ArchiveBrowser, SavedItem
from holdfast.vaults.find import Criteria, find
from holdfast.vaults.items import Item

SECOND = 1_000_000_000


class _Counting(ArchiveBrowser):
    """Remembers which folders were read."""

    def __init__(self, browser: ArchiveBrowser) -> None:
        super().__init__(browser._repository)
        self.read: list[bytes] = []

    def children(self, folder: Item) -> Sequence[SavedItem]:
        self.read.append(folder.path)
        return super().children(folder)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    (root / "docs" / "2026").mkdir(parents=True)
    (root / "pictures").mkdir()
    for name, size, at in (
        ("docs/Report.odt", 2000, 1000),
        ("docs/2026/report.ODT", 10, 2000),
        ("docs/notes.txt", 0, 3000),
        ("pictures/report.png", 5000, 4000),
        ("pictures/a[1].png", 7, 5000),
    ):
        (root / name).write_bytes(b"x" * size)
        os.utime(root / name, ns=(at * SECOND, at * SECOND))
    (root / "docs" / "link.odt").symlink_to("Report.odt")
    return root


def _found(tmp_path: Path, tree: Path, criteria: Criteria) -> list[str]:
    vault = new_vault(tmp_path / "vault")
    save(vault, tree)
    with looking(vault) as (snapshots, browser):
        ((_, items),) = find(browser, snapshots, criteria)
        return [os.fsdecode(item.path).removeprefix(f"{tree}/") for item in items]


@pytest.mark.parametrize(
    ("criteria", "expected"),
    [
        (Criteria((b"*.odt",), kinds=frozenset({"file"})), ["docs/Report.odt"]),
        (
            Criteria((b"report.*",), ignore_case=True),
            ["docs/2026/report.ODT", "docs/Report.odt", "pictures/report.png"],
        ),
        (Criteria((b"[rR]eport.?[!n]?",)), ["docs/2026/report.ODT", "docs/Report.odt"]),
        (Criteria((b"a[[]1].png",)), ["pictures/a[1].png"]),
        (Criteria((b"a\\[1\\].png",)), ["pictures/a[1].png"]),
        (Criteria((b"docs/*.odt",)), ["docs/Report.odt", "docs/link.odt"]),
        (Criteria((b"docs/**/*.ODT",)), ["docs/2026/report.ODT"]),
        (Criteria((b"docs/**",), kinds=frozenset({"dir"})), ["docs/2026"]),
        (Criteria((b"/docs/*",)), []),
        (Criteria((b"2026", b"pictures")), ["docs/2026", "pictures"]),
        (Criteria(larger=2000), ["docs/Report.odt", "pictures/report.png"]),
        (Criteria(larger=8, smaller=10), ["docs/2026/report.ODT"]),
        (Criteria(smaller=0), ["docs/notes.txt"]),
        (
            Criteria(newer=2000 * SECOND, older=4000 * SECOND, kinds=frozenset({"file"})),
            ["docs/2026/report.ODT", "docs/notes.txt", "pictures/report.png"],
        ),
        (Criteria((b"",)), []),
    ],
)
def test_what_criteria_find(tmp_path: Path, tree: Path, criteria: Criteria, expected: list[str]) -> None:
    assert _found(tmp_path, tree, criteria) == expected


def test_a_path_pattern_that_begins_with_a_slash_counts_from_the_root(tmp_path: Path, tree: Path) -> None:
    assert _found(tmp_path, tree, Criteria((os.fsencode(tree) + b"/docs/*.txt",))) == ["docs/notes.txt"]


def test_patterns_match_every_hostile_name(tmp_path: Path) -> None:
    make_hostile(tmp_path / "root")
    vault = new_vault(tmp_path / "vault")
    save(vault, tmp_path / "root")
    with looking(vault) as (snapshots, browser):
        for pattern in (b"*", b"?*"):
            criteria = Criteria((pattern,), kinds=frozenset({"file"}))
            ((_, items),) = find(browser, snapshots, criteria, path=os.fsencode(tmp_path / "root"))
            assert [item.name for item in items] == sorted(HOSTILE_NAMES)
        for name in HOSTILE_NAMES:
            literal = b"".join(b"\\" + bytes([byte]) if byte in b"*?[\\" else bytes([byte]) for byte in name)
            ((_, items),) = find(browser, snapshots, Criteria((literal,)))
            assert [item.name for item in items] == [name]


def test_a_range_that_is_the_wrong_way_round_is_refused() -> None:
    with pytest.raises(Invalid, match="wrong way round"):
        Criteria((b"[z-a]",)).compile()


def test_unchanged_folders_are_read_once_and_reported_for_every_snapshot(tmp_path: Path, tree: Path) -> None:
    vault = new_vault(tmp_path / "vault")
    save(vault, tree)
    (tree / "pictures" / "new.png").write_text("new")
    save(vault, tree)
    save(vault, tree)
    with looking(vault) as (snapshots, browser):
        counting = _Counting(browser)
        results = list(find(counting, snapshots, Criteria((b"*.png", b"*.odt"))))
    names = [[item.name for item in items] for _, items in results]
    first = [b"Report.odt", b"link.odt", b"a[1].png", b"report.png"]
    second = [b"Report.odt", b"link.odt", b"a[1].png", b"new.png", b"report.png"]
    assert names == [first, second, second]
    assert [snapshot.id for snapshot, _ in results] == [snapshot.id for snapshot in snapshots]
    assert counting.read.count(os.fsencode(tree / "docs")) == 1
    assert counting.read.count(os.fsencode(tree / "docs" / "2026")) == 1
    assert counting.read.count(os.fsencode(tree / "pictures")) == 2


def test_a_folder_without_matches_is_not_searched_again(tmp_path: Path, tree: Path) -> None:
    vault = new_vault(tmp_path / "vault")
    save(vault, tree)
    save(vault, tree)
    with looking(vault) as (snapshots, browser):
        counting = _Counting(browser)
        assert [items for _, items in find(counting, snapshots, Criteria((b"nothing",)))] == [[], []]
        assert len(counting.read) == len(set(counting.read))


def test_the_same_folder_at_two_places_is_reported_at_both(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "a").mkdir(parents=True)
    (root / "a" / "file").write_text("x")
    os.link(root / "a" / "file", tmp_path / "kept")
    vault = new_vault(tmp_path / "vault")
    save(vault, root)
    (root / "a").rename(root / "b")
    save(vault, root)
    with looking(vault) as (snapshots, browser):
        found = [[item.path for item in items] for _, items in find(browser, snapshots, Criteria((b"file",)))]
    assert found == [[os.fsencode(root / "a" / "file")], [os.fsencode(root / "b" / "file")]]


def test_beneath_a_path_and_snapshots_without_it(tmp_path: Path, tree: Path) -> None:
    vault = new_vault(tmp_path / "vault")
    save(vault, tree / "docs")
    save(vault, tree / "pictures")
    with looking(vault) as (snapshots, browser):
        results = find(browser, snapshots, Criteria(kinds=frozenset({"file"})), path=os.fsencode(tree / "pictures"))
        assert [[item.name for item in items] for _, items in results] == [[], [b"a[1].png", b"report.png"]]


def test_a_search_can_be_cancelled(tmp_path: Path, tree: Path) -> None:
    vault = new_vault(tmp_path / "vault")
    save(vault, tree)
    cancel = Cancel()
    cancel.cancel()
    with looking(vault) as (snapshots, browser), pytest.raises(Cancelled):
        list(find(browser, snapshots, Criteria(), cancel=cancel))


@settings(max_examples=300, deadline=None)
@given(st.text("ab*?", min_size=1, max_size=12), st.text("ab\n", min_size=1, max_size=16))
def test_stars_mean_what_shells_mean_by_them(pattern: str, name: str) -> None:
    item = SavedItem(b"/" + name.encode(), Node(name.encode(), "file"))
    expected = fnmatch.fnmatchcase(name, pattern)
    assert Criteria((pattern.encode(),)).compile()(item) == expected
    assert Criteria((b"/" + pattern.encode(),)).compile()(item) == expected
    assert Criteria((b"**/" + pattern.encode(),)).compile()(item) == expected
