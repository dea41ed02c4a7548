"""The quick way from a line to the journal understands what the slow one does, and nothing else."""

from __future__ import annotations

import json
import os
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.monitorkit import NOON

from holdfast.kernel.errors import Corrupt
from holdfast.kernel.events import Fact
from holdfast.monitor.lines import record_of_row, row_of_line
from holdfast.monitor.record import Record, make

WHOLE = make(
    Fact("item.failed", "größer 🗄", "warning", {"path": "/ä"}),
    at_ns=NOON + 7_000,
    random=os.urandom,
    host="box",
    role="holdfast",
    pid=7,
    run="R",
    vault="home",
)
DATA = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(), inner, max_size=5),
    max_leaves=20,
)


def both(line: bytes) -> tuple[Record | None, Record | None]:
    found: list[Record | None] = []
    for way in (Record.from_line, lambda line: record_of_row(row_of_line(line))):
        try:
            found.append(way(line))
        except Corrupt:
            found.append(None)
    return found[0], found[1]


@given(st.dictionaries(st.text(), DATA, max_size=5), st.text(max_size=200))
def test_a_line_of_ours_is_the_same_fact_either_way(data: dict[str, Any], message: str) -> None:
    fact = Fact("test.said", message, "info", data)
    line = make(fact, at_ns=NOON, random=os.urandom, host="box", role="holdfast", pid=7).to_line()
    slow, quick = both(line)
    assert slow is not None and slow == quick
    assert repr(slow.data) == repr(quick.data if quick else None)  # 1 and 1.0 are not the same


@pytest.mark.parametrize(
    "change",
    [
        {"at": "2026-11-22T12:00:00Z"},
        {"at": "2026-11-22T13:00:00.5+01:00"},
        {"at": "2026-11-22 12:00:00.000007Z"},
        {"at": "2026-11-22T12:00:00.00000xZ"},
        {"at": "2026-11-22T12:00:00.00+007Z"},
        {"at": "2026-11-22T12:61:00.000007Z"},
        {"at": "2026-11-22T12:00:00.000007"},
        {"at": 5},
        {"at": ""},
        {"pid": "7"},
        {"pid": True},
        {"pid": "seven"},
        {"message": None},
        {"run": 3},
        {"data": [1]},
        {"data": None},
        {"data": {"big": 2**64, "bigger": -(2**90), "just": 2**64 - 1}},
        {"data": {"x": float("inf")}},
        {"later": {"member": "of a later version"}},
        {"id": 5},
    ],
)
def test_what_others_write_is_understood_or_refused_alike(change: dict[str, Any]) -> None:
    slow, quick = both(json.dumps(json.loads(WHOLE.to_line()) | change).encode())
    assert slow == quick


@given(st.binary(max_size=40), st.integers(0, len(WHOLE.to_line())), st.integers(0, len(WHOLE.to_line())))
def test_damaged_lines_are_refused_alike(junk: bytes, start: int, end: int) -> None:
    line = WHOLE.to_line()
    slow, quick = both(line[:start] + junk + line[end:])
    assert slow == quick


@pytest.mark.parametrize("line", [b"", b"[]", b"7", b"null", b'"text"', b"{}", b"[" * 5000, b'{"id":' * 5000, b"\xff"])
def test_other_json_is_no_fact(line: bytes) -> None:
    assert both(line) == (None, None)
