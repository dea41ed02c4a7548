"""``holdfast report``: as text, as JSON, as a page, and sent."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from holdfast.config import keyfile
from holdfast.monitor.journal import Journal

PASSWORD = {"HOLDFAST_PASSWORD": keyfile.generate(bytes).decode()}


@pytest.fixture
def plan(cli, documents: Path, tmp_path: Path) -> None:
    """A plan ``docs``, saved once, and a plan ``never``, which was not."""
    path = cli.home / ".config/holdfast/holdfast.yaml"
    path.parent.mkdir(parents=True)
    path.write_text(
        f"vaults:\n  home: {{location: {tmp_path}/vault}}\n"
        f"plans:\n  docs: {{paths: [{documents}], to: [home], expect: {{every: 26h}}}}\n"
        f"  never: {{paths: [{documents}], to: [home]}}\n"
    )
    assert cli("init", "home", **PASSWORD).code == 0
    assert cli("backup", "docs", **PASSWORD).code == 0


def test_the_day_as_text(cli, plan) -> None:
    done = cli("report")
    assert (done.code, done.err) == (0, "")
    lines = done.out.splitlines()
    assert lines[0].startswith("Holdfast report, ") and lines[1] == "1 thing did not happen."
    assert "  never in home: there has never been a backup that worked" in lines
    assert "    -> holdfast backup never" in lines
    row = next(line.split() for line in lines if "backup docs in home" in line)
    assert row[4:6] == ["1", "ok"]
    assert "  never looked at: 'holdfast health' does" in lines


def test_the_day_as_json(cli, plan) -> None:
    cli("health", **PASSWORD)
    done = cli("report", "--json")
    told = done.summary["report"]
    assert told["ok"] is False and told["missing"][0]["action"] == "holdfast backup never"
    assert told["health"]["counts"]["fail"] == 1  # the plan that was never saved
    assert any(line["operation"] == "backup" and line["added"] > 0 for line in told["lines"])
    assert any(line["operation"] == "health" and line["outcomes"]["failed"] == 1 for line in told["lines"])
    assert [space["vault"] for space in told["spaces"]] == ["home"]


def test_the_day_as_a_page(cli, plan) -> None:
    place = cli.home / "report.html"
    done = cli("report", "--html", place)
    assert (done.code, done.out) == (0, "") and str(place) in done.err
    page = place.read_text()
    assert page.startswith("<!DOCTYPE html>") and "1 thing did not happen." in page
    assert stat.S_IMODE(place.stat().st_mode) == 0o600
    again = cli("report", "--html", "-")
    assert again.out.startswith("<!DOCTYPE html>") and again.out.endswith("</html>\n")
    refused = cli("report", "--html", cli.home / "no/such/folder.html")
    assert refused.code == 10 and "hint" in refused.err


def test_a_report_that_is_sent_is_a_fact(cli, plan) -> None:
    done = cli("report", "--send", "--quiet")
    assert (done.code, done.out) == (0, "")
    assert "no rule in the configuration names 'digest'" in done.err
    state = cli.home / ".local/state/holdfast"
    with Journal.open(f"sqlite:///{state}/journal.db") as journal:
        journal.drain(state / "outbox")
        (made,) = journal.facts(kinds=("report.made",))
    data = made.data
    assert data["headline"] == "1 thing did not happen." and "holdfast backup never" in data["text"]
    assert (data["ok"], made.level, made.operation) == (False, "warning", "report")


def test_periods(cli, plan) -> None:
    empty = cli("report", "--since", "2001-01-01", "--until", "2001-01-02", "--json")
    assert empty.summary["report"]["lines"] == []
    week = cli("report", "--week", "--json").summary["report"]
    assert len(week["columns"]) == 5 and week["lines"]
    for words in (("--since", "1h", "--until", "2h"), ("--week", "--since", "1h"), ("--html", "-", "--json")):
        assert cli("report", *words).code == 2, words


def test_nothing_was_ever_recorded(cli) -> None:
    done = cli("report")
    assert done.code == 0 and "Nothing ran." in done.out


def test_a_journal_out_of_reach(cli, plan) -> None:
    path = cli.home / ".config/holdfast/holdfast.yaml"
    path.write_text(path.read_text() + "journal: postgresql://127.0.0.1:1/none\n")
    done = cli("report")
    assert done.code == 75 and "does not answer" in done.err
