"""The section ``health`` of the configuration."""

from __future__ import annotations

from pathlib import Path

import pytest

from holdfast.config.healthsettings import HealthChoice, health_choice
from holdfast.config.load import check_text
from holdfast.kernel.errors import Invalid

GIB = 1 << 30


def choice(text: str) -> HealthChoice:
    return health_choice(check_text(text, Path("holdfast.yaml"), {}).configuration)


def test_without_it_what_holds_anyway() -> None:
    assert choice("") == choice("health:") == health_choice(None) == HealthChoice()


def test_what_it_may_say() -> None:
    found = choice(
        "health: {days: 3, free: 20G, forecast: 60d, limit: 2m, git: true, skip: [tracker, 'forecast:cloud'],"
        " own: {raid: [mdadm, --test], web: {run: 'curl -fs localhost', timeout: 5s, optional: true}}}"
    )
    assert (found.days, found.free_bytes, found.forecast, found.limit) == (3, 20 * GIB, 60 * 86400, 120)
    raid, web = found.own
    assert (raid.name, raid.run, raid.timeout, raid.optional) == ("raid", ("mdadm", "--test"), 30, False)
    assert (web.run, web.timeout, web.optional) == ("curl -fs localhost", 5, True)


def test_how_much_should_be_free() -> None:
    assert HealthChoice().wanted_free(100 * GIB) == 10 * GIB
    assert HealthChoice().wanted_free(20_000 * GIB) == 50 * GIB  # nobody keeps two terabytes free
    assert choice("health: {free: 10%}").wanted_free(20_000 * GIB) == 2_000 * GIB  # unless it is asked for
    assert choice("health: {free: 20G}").wanted_free(1_000 * GIB) == 20 * GIB


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("health: {free: most}", "a size is wanted"),
        ("health: {free: 0%}", "a share is wanted"),
        ("health: {limit: soon}", "a duration is wanted"),
        ("health: {days: 0}", "at least 1"),
        ("health: {skip: ['Vault home']}", "the name of a check is wanted"),
        ("health: {own: {x: }}", "x"),
        ("health: {own: {x: {timeout: 3s}}}", "'run' is missing"),
        ("health: {fre: 10%}", "there is no such key here"),
    ],
)
def test_mistakes_are_named(text: str, told: str) -> None:
    with pytest.raises(Invalid) as caught:
        choice(text)
    assert told in str(caught.value)
