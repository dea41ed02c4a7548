"""The plan of a prune: which packs go, which are written anew, and where it stops."""

from __future__ import annotations

from array import array
from dataclasses import replace

import pytest

from holdfast.kernel.ids import PackId
from holdfast.vaults.archive.prune.model import PruneOptions, Tolerance
from holdfast.vaults.archive.prune.plan import Plan, plan
from holdfast.vaults.archive.prune.survey import ABSENT, DATA, MIXED, TREES, Survey

MIB = 1 << 20
NOTHING = PruneOptions(max_unused=Tolerance(percent=0))


def found(*packs: tuple[int, int, int], kinds: list[int] | None = None, raw: list[int] | None = None) -> Survey:
    """Packs of (kept, rest, twice) MiB without headers; a pack of no kept and a negative rest is absent."""
    sizes = [sum(pack) * MIB if pack[1] >= 0 else ABSENT for pack in packs]
    return Survey(
        keep=bytearray(),
        used=bytearray(),
        found=array("q", sizes),
        expected=array("q", sizes),
        kept=array("q", [pack[0] * MIB for pack in packs]),
        rest=array("q", [max(pack[1], 0) * MIB for pack in packs]),
        twice=array("q", [pack[2] * MIB for pack in packs]),
        raw=array("I", raw or [0] * len(packs)),
        kinds=bytearray(kinds or [DATA] * len(packs)),
        blobs=(0, 0, 0),
        orphans={},
    )


def planned(survey: Survey, options: PruneOptions = NOTHING, version: int = 2) -> Plan:
    return plan(survey, options, version=version, snapshots=1)


def test_wholly_unused_packs_go_and_clean_ones_stay() -> None:
    made = planned(found((0, 16, 0), (16, 0, 0), (0, 10, 6), (0, -1, 0)))
    assert made.remove == (0, 2) and made.repack == () and made.gone == (3,)
    assert made.figures.remove_bytes == 32 * MIB and made.figures.freed_bytes == 32 * MIB
    assert made.figures.keep_packs == 1 and made.figures.left_bytes == 0 and not made.is_empty
    assert planned(found((16, 0, 0))).is_empty


def test_the_largest_share_of_waste_is_written_anew_first_until_the_rest_is_tolerable() -> None:
    packs = found((12, 4, 0), (4, 8, 4), (15, 1, 0), (16, 0, 0))
    assert planned(packs).repack == (1, 0, 2)
    # 47 MiB are used. 5 % of what is left may be waste: 47 * 5 / 95 = 2.5 MiB.
    assert planned(packs, PruneOptions()).repack == (1, 0)
    assert planned(packs, PruneOptions(max_unused=Tolerance(size=5 * MIB))).repack == (1,)
    assert planned(packs, PruneOptions(max_unused=Tolerance())).repack == ()
    assert planned(packs, PruneOptions(max_unused=Tolerance(percent=100))).repack == ()
    figures = planned(packs, PruneOptions(max_unused=Tolerance(size=5 * MIB))).figures
    assert (figures.repack_bytes, figures.copied_bytes, figures.left_bytes) == (16 * MIB, 4 * MIB, 5 * MIB)


def test_no_more_is_written_anew_than_allowed() -> None:
    packs = found((12, 4, 0), (4, 12, 0), (2, 1, 0))
    assert planned(packs, replace(NOTHING, max_repack_size=20 * MIB)).repack == (1, 2)
    assert planned(packs, replace(NOTHING, max_repack_size=0)).repack == ()


def test_packs_of_trees_are_cleaned_whatever_waste_is_tolerated() -> None:
    packs = found((12, 4, 0), (10, 1, 0), (10, 0, 0), kinds=[DATA, TREES, TREES])
    assert planned(packs, PruneOptions(max_unused=Tolerance())).repack == (1,)
    assert planned(packs, replace(NOTHING, repack_cacheable_only=True)).repack == (1,)


def test_mixed_packs_are_sorted_out_but_not_in_format_version_1() -> None:
    packs = found((16, 0, 0), kinds=[MIXED])
    assert planned(packs).repack == (0,)
    assert planned(packs, version=1).repack == ()


def test_uncompressed_packs_are_written_anew_on_request() -> None:
    packs = found((16, 0, 0), (16, 0, 0), raw=[0, 3])
    assert planned(packs).repack == ()
    assert planned(packs, replace(NOTHING, repack_uncompressed=True)).repack == (1,)
    assert planned(packs, replace(NOTHING, repack_uncompressed=True), version=1).repack == ()


@pytest.mark.parametrize(
    ("packs", "kinds", "merged"),
    [
        ([(3, 0, 0), (4, 0, 0), (16, 0, 0)], None, {0, 1}),
        ([(3, 0, 0), (16, 0, 0)], None, set()),  # alone
        ([(3, 0, 0), (4, 0, 0)], [DATA, TREES], set()),  # not of a kind
        ([(10, 0, 0), (10, 0, 0)], None, set()),  # two packs they would be again
        ([(10, 0, 0), (10, 0, 0), (10, 0, 0)], None, {0, 1, 2}),
    ],
)
def test_small_packs_are_merged_where_that_makes_fewer(
    packs: list[tuple[int, int, int]], kinds: list[int] | None, merged: set[int]
) -> None:
    assert planned(found(*packs, kinds=kinds)).repack == ()
    assert set(planned(found(*packs, kinds=kinds), replace(NOTHING, repack_small=True)).repack) == merged


def test_orphans_are_planned_by_name() -> None:
    survey = found((16, 0, 0))
    survey.orphans = {PackId(b"b" * 32): 5, PackId(b"a" * 32): 7}
    made = planned(survey)
    assert made.orphans == ((PackId(b"a" * 32), 7), (PackId(b"b" * 32), 5))
    assert made.figures.orphan_bytes == 12 and made.figures.freed_bytes == 12
