"""What the configuration says of logs, metrics and Sentry: what holds without it, and that mistakes are told."""

from __future__ import annotations

from pathlib import Path

import pytest

from holdfast.config.load import Loaded, check_text
from holdfast.config.outputsettings import LogChoice, MetricsChoice, expected_seconds, log_choice, metrics_choice
from holdfast.config.shown import shown
from holdfast.kernel.errors import Invalid


def read(text: str) -> Loaded:
    return check_text(text, Path("/etc/holdfast.yaml"), {})


def test_what_holds_without_a_word() -> None:
    nothing = read("vaults: {}").configuration
    assert log_choice(None) == log_choice(nothing) == LogChoice("info", 30)
    assert metrics_choice(None) == metrics_choice(nothing) == MetricsChoice("127.0.0.1:9797", False)
    assert nothing.sentry is None and expected_seconds(nothing) == {}
    assert log_choice(read("logs:\nmetrics:\n").configuration) == LogChoice("info", 30)


def test_what_is_said_counts() -> None:
    text = """
logs: {level: debug, keep: unlimited}
metrics: {listen: "[::]:1", expose: true}
vaults: {v: {location: /v}}
plans: {p: {paths: [/a], expect: {every: 2h}}, q: {paths: [/b], expect: {shrink: 5%}}}
"""
    said = read(text).configuration
    assert log_choice(said) == LogChoice("debug", None)
    assert metrics_choice(said) == MetricsChoice("[::]:1", True)
    assert expected_seconds(said) == {"p": 7200.0}


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("logs: {level: loud}", "logs.level"),
        ("logs: {keep: -5}", "logs.keep"),
        ("logs: {rotate: daily}", "logs.rotate"),
        ("metrics: {listen: ''}", "metrics.listen"),
        ("metrics: {listen: 127.0.0.1}", "metrics.listen"),
        ("metrics: {listen: 'localhost:99999'}", "metrics.listen"),
        ("sentry: {dsn: 'https://key@host/1'}", "sentry.dsn"),
        ("sentry: {}", "sentry"),
        ("sentry: {dsn_env: A, dsn_file: /b}", "sentry"),
    ],
)
def test_mistakes_are_told_at_their_place(text: str, key: str) -> None:
    with pytest.raises(Invalid) as caught:
        read(text)
    mistakes = caught.value.context["mistakes"]
    assert key in [mistake["key"] for mistake in mistakes]
    assert "https://key" not in str(mistakes)


def test_config_show_tells_all_of_it() -> None:
    whole = shown(read("sentry: {dsn_file: ~/dsn}"))
    assert whole["sentry"]["dsn_file"] == "~/dsn" and whole["logs"] == {"level": "info", "keep": 30}
