"""A command that fails is reported to Sentry where the configuration says so, and is told the same either way."""

from __future__ import annotations

from tests.e2e.conftest import Cli
from tests.unit.test_sentry import Ingest, ingest

__all__ = ["ingest"]


def damaged(cli: Cli) -> None:
    """A vault with a snapshot whose packs are gone; Sentry is configured."""
    (cli.home / "holdfast.yaml").write_text("sentry: {dsn_env: DSN}\n")
    (cli.home / "texts").mkdir()
    (cli.home / "texts" / "a.txt").write_text("a")
    assert cli("backup", "./texts", DSN="").code == 0
    for pack in (cli.default_vault / "data").rglob("*"):
        if pack.is_file():
            pack.unlink()


def test_a_failed_run_is_reported_and_a_good_one_is_not(cli: Cli, ingest: Ingest) -> None:
    damaged(cli)
    assert cli("snapshots", DSN=ingest.url).code == 0
    assert not ingest.events
    assert cli("check", DSN=ingest.url).code == 13
    assert {event["tags"]["operation"] for event in ingest.events} == {"check"}
    assert str(cli.home) not in str(ingest.events)


def test_a_server_out_of_reach_changes_nothing_but_says_so(cli: Cli) -> None:
    damaged(cli)
    done = cli("check", DSN="http://key@127.0.0.1:1/1")
    assert done.code == 13 and "Sentry was not reached" in done.err
