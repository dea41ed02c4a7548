"""A fact as a line: whole, bounded, and the same when it is read back."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.monitorkit import NOON

from holdfast.config.paths import Paths
from holdfast.kernel.errors import Corrupt
from holdfast.kernel.events import Fact
from holdfast.monitor import state_folder
from holdfast.monitor.record import LINE_LIMIT, Record, as_kept, make, new_id, time_ns, time_text

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(codec=None)) | st.binary(),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(st.characters(codec=None)), inner, max_size=5),
    max_leaves=20,
)


def record(message: str = "said", **data: Any) -> Record:
    fact = Fact("test.said", message, "info", data)
    return make(fact, at_ns=NOON, random=os.urandom, host="box", role="holdfast", pid=7, run="R", plan="docs")


@given(st.text(st.characters(codec=None), max_size=5000), st.dictionaries(st.text(), JSON, max_size=5))
def test_any_data_gives_one_bounded_line_that_every_database_takes(message: str, data: dict[str, Any]) -> None:
    line = record(message, x=data).to_line()
    assert line.endswith(b"\n") and line.count(b"\n") == 1 and line.isascii() and len(line) <= LINE_LIMIT
    found = Record.from_line(line)
    assert found.plan == "docs" and found.at_ns == NOON
    for text in (found.message, *_texts(found.data)):
        text.encode()  # no halves of characters
        assert "\0" not in text


def _texts(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [text for pair in value.items() for each in pair for text in _texts(each)]
    if isinstance(value, list):
        return [text for each in value for text in _texts(each)]
    return [value] if isinstance(value, str) else []


def test_a_record_reads_back_as_it_was() -> None:
    made = record("größer 🗄", path="/ä", count=3, nested={"list": [1, 2.5, None, True]})
    assert Record.from_line(made.to_line()) == made


def test_names_that_are_no_utf8_stay_readable() -> None:
    found = as_kept(record("cannot read", path=os.fsdecode(b"/x/\xff\xfe.txt"), raw=b"\xff", at=Path("/p")))
    assert found.data == {"path": "/x/\\xff\\xfe.txt", "raw": "\\xff", "at": "/p"}


@pytest.mark.parametrize(
    "data", [{"tail": "x" * 200_000}, {"rows": list(range(50_000))}, {"all": {"a": ["y" * 900] * 90}}]
)
def test_what_is_too_long_is_cut_and_says_so(data: dict[str, Any]) -> None:
    line = record(**data).to_line()
    assert len(line) <= LINE_LIMIT
    found = Record.from_line(line)
    assert found.data["cut"] > LINE_LIMIT
    assert set(data) <= set(found.data)


def test_an_object_whose_text_fails_does_no_harm() -> None:
    class Evil:
        def __str__(self) -> str:
            raise RuntimeError

    loop: list[object] = []
    loop.append(loop)
    found = as_kept(record(evil=Evil(), loop=loop, number=float("nan")))
    assert found.data["evil"] == "<Evil>" and found.data["number"] == "nan"


@pytest.mark.parametrize(
    "line",
    [b"", b"{}", b"[1]", b'{"id":"A"', b"\xff\xfe", b"null", record().to_line()[:-3], record().to_line()[5:]],
)
def test_a_torn_line_is_no_record(line: bytes) -> None:
    with pytest.raises(Corrupt):
        Record.from_line(line)


@given(st.integers(0, 2**47), st.integers(0, 2**47))
def test_ids_sort_by_time(first: int, second: int) -> None:
    one, two = (new_id(ms * 1_000_000, os.urandom) for ms in (first, second))
    assert len(one) == len(two) == 26
    assert first == second or (one < two) == (first < second)


@given(st.integers(-(10**18), 4 * 10**18))
def test_times_are_kept_to_the_microsecond(at_ns: int) -> None:
    assert time_ns(time_text(at_ns)) == at_ns // 1000 * 1000


@given(
    st.dictionaries(
        st.sampled_from(["HOLDFAST_STATE_DIR", "XDG_STATE_HOME", "HOME"]), st.sampled_from(["/x", "y", ""])
    ),
    st.sampled_from(["linux", "darwin"]),
)
def test_scripts_find_the_state_folder_where_the_command_line_has_it(environ: dict[str, str], platform: str) -> None:
    assert state_folder(environ, platform) == Paths.of(environ, platform).state
