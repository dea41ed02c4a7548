"""Files with times that a 64-bit count of nanoseconds does not reach: saved, known again, restored, proven."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

LATE_NS = 12_970_000_000 * 10**9  # in 2381; file systems reach to 2446
PASSWORD = {"HOLDFAST_PASSWORD": "secret"}


@pytest.fixture
def late(documents: Path) -> Path:
    """The documents, of which some are from the far future, as a camera or a broken clock writes them."""
    (documents / "future").mkdir()
    for number in range(40):
        (documents / "future" / f"{number}").write_text(f"{number}\n")
    (documents / "future" / "second name").hardlink_to(documents / "future" / "0")
    (documents / "large").write_bytes(os.urandom(3 << 20))
    for path in (documents / "large", *(documents / "future").iterdir(), documents / "future"):
        os.utime(path, ns=(LATE_NS, LATE_NS))
    if (documents / "large").stat().st_mtime_ns != LATE_NS:
        pytest.skip("this file system knows no such times")
    return documents


@pytest.mark.parametrize("kind", ["archive", "mirror", "versioned"])
def test_times_in_the_far_future(cli, late: Path, tmp_path: Path, kind: str) -> None:
    place = tmp_path / "vault"
    assert cli("init", place, "--kind", kind, **PASSWORD).code == 0
    done = cli("backup", late, "--to", place, "--json", **PASSWORD)
    assert done.code == 0 and done.summary["files_new"] == 45, done
    again = cli("backup", late, "--to", place, "--json", **PASSWORD)
    assert again.code == 0, again
    assert (again.summary["files_unmodified"], again.summary["files_changed"]) == (45, 0)
    assert cli("check", "--vault", place, **PASSWORD).code == 0
    assert "No differences" in cli("diff", "latest", "--vault", place, **PASSWORD).out or kind == "versioned"
    drill = cli("drill", "--vault", place, "--json", **PASSWORD)
    assert drill.code == 0, drill
    assert drill.summary["compared"]["metadata"]["all"]
    assert cli("restore", f"latest:{late}", "--target", tmp_path / "out", "--vault", place, **PASSWORD).code == 0
    restored = (tmp_path / "out" / "future" / "7").stat().st_mtime_ns
    # A versioned vault counts to 2262 only.
    assert restored == (LATE_NS if kind != "versioned" else (1 << 63) - 1)
    if kind != "archive":
        assert Path(f"{place}{late}/future/7").stat().st_mtime_ns == LATE_NS
