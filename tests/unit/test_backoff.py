"""How long to wait before trying again."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.kernel.backoff import CAP_SECONDS, FIRST_SECONDS, full_jitter, wait_seconds


@pytest.mark.parametrize(("failures", "longest"), [(1, 0.5), (2, 1.0), (3, 2.0), (7, 32.0), (8, 60.0), (5000, 60.0)])
def test_the_longest_wait_doubles_up_to_a_minute(failures: int, longest: float) -> None:
    assert full_jitter(failures, lambda: 1.0) == longest
    assert full_jitter(failures, lambda: 0.5) == longest / 2
    assert full_jitter(failures, lambda: 0.0) == 0.0


@given(st.integers(1, 10_000), st.floats(0, 1, exclude_max=True), st.floats(0, 1e5))
def test_never_less_than_the_server_asks_and_never_endless(failures: int, drawn: float, asked: float) -> None:
    wait = wait_seconds(failures, lambda: drawn, asked=asked)
    assert asked <= wait <= asked + CAP_SECONDS


def test_those_who_were_told_the_same_time_come_back_one_after_the_other() -> None:
    waits = [wait_seconds(1, lambda drawn=drawn: drawn / 10, asked=5.0) for drawn in range(10)]  # type: ignore[misc]
    assert len(set(waits)) == 10
    assert max(waits) <= 5.0 + FIRST_SECONDS


def test_a_server_that_asks_for_less_than_nothing() -> None:
    assert wait_seconds(1, lambda: 0.0, asked=-3.0) == 0.0
