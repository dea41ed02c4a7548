"""Notices through the installed command: who is told of what, when, and what never happens."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.conftest import SOURCE, Cli, Done
from tests.servers.listening import free_port
from tests.servers.ntfy import ntfy_server
from tests.servers.scripted import Reply, Request, Scripted, scripted


class Hook:
    """A webhook's receiver, which can be made to refuse."""

    def __init__(self) -> None:
        self.status = 200
        self.server: Scripted

    def answer(self, _request: Request) -> Reply:
        return Reply(self.status)

    @property
    def told(self) -> list[dict[str, Any]]:
        return [json.loads(request.body) for request in self.server.requests]

    @property
    def titles(self) -> list[str]:
        return [each["title"] for each in self.told]


@pytest.fixture
def hook() -> Iterator[Hook]:
    found = Hook()
    with scripted(found.answer) as server:
        found.server = server
        yield found


@pytest.fixture
def home(tmp_path: Path) -> Cli:
    cli = Cli(tmp_path)
    cli.environ["PYTHONPATH"] = str(SOURCE)
    (tmp_path / "papers").mkdir()
    (tmp_path / "papers" / "letter").write_text("Dear reader")
    (tmp_path / "key").write_text("secret words")
    (tmp_path / "key").chmod(0o600)
    assert cli("init", tmp_path / "vault", "--password-file", tmp_path / "key").code == 0
    return cli


def configure(cli: Cli, notify: str, plan: str = "", top: str = "") -> None:
    (cli.home / "holdfast.yaml").write_text(
        f"vaults: {{home: {{location: vault, password_file: key}}}}\n"
        f"plans: {{docs: {{paths: [papers], to: [home]{plan}}}}}\n"
        f"notify: {notify}\n{top}"
    )


def test_a_plan_that_fails_is_told_once_and_so_is_its_next_success(home: Cli, hook: Hook) -> None:
    configure(home, f'{{channels: {{hook: "{hook.server.url}"}}}}')
    (home.home / "papers").rename(home.home / "away")
    first = home("backup", "docs")
    assert first.code == 10
    assert hook.titles == ["Backup of docs failed"]
    assert "no such file or folder" in hook.told[0]["body"]
    assert home("backup", "docs").code == 10
    assert len(hook.titles) == 1
    listed = home("notify", "list", "--json")
    assert [event["times"] for event in listed.events if event["event"] == "notice"] == [2]
    assert "Backup of docs failed" in home("notify", "list").out
    (home.home / "away").rename(home.home / "papers")
    assert home("backup", "docs").code == 0
    assert hook.titles[1:] == ["Over: Backup of docs failed"]
    assert home("notify", "list").out == "No notice is open.\n"
    assert "Backup of docs failed" in home("notify", "list", "--all").out


def test_acknowledging(home: Cli, hook: Hook) -> None:
    configure(home, f'{{channels: {{hook: "{hook.server.url}"}}, repeat: 1s}}')
    (home.home / "papers").rename(home.home / "away")
    home("backup", "docs")
    time.sleep(1.1)
    assert home("notify", "send").code == 0
    assert hook.titles[0] == "Backup of docs failed"
    assert set(hook.titles[1:]) == {"Still: Backup of docs failed"}
    assert home("ack", "nosuch").code == 10
    done = home("ack")
    assert done.code == 0
    assert done.err == "1 notice acknowledged.\n"
    again = home("ack", "all")
    assert (again.code, again.out, again.err) == (0, "", "Nothing to do: 1 notice was acknowledged before.\n")
    assert home("ack", "all", "--json").events[-1] == {"event": "summary", "outcome": "ok", "notices": 0, "before": 1}
    told = len(hook.titles)
    time.sleep(1.1)
    assert home("notify", "send").code == 0
    assert len(hook.titles) == told
    nothing = home("ack")
    assert (nothing.code, "no open notice" in nothing.err) == (10, True)


def test_nothing_happened_is_told(home: Cli, hook: Hook) -> None:
    configure(home, f'{{channels: {{hook: "{hook.server.url}"}}}}', ", expect: {every: 1s}")
    assert home("notify", "send").out == ""
    time.sleep(1.1)
    told = home("notify", "send", "--json")
    assert told.summary["sent"] == 1
    assert hook.titles[0].startswith("No new snapshot of docs in home for ")
    assert home("notify", "send", "--json").summary["sent"] == 0


def at(home: Cli, when: str, *words: str) -> Done:
    """A command at another time: ``+3d``, or ``2026-11-22 23:00:00``."""
    return replace_words(home, ["faketime", "-f", when, *home.words])(*words)


def replace_words(home: Cli, words: list[str]) -> Cli:
    found = Cli(home.home)
    found.environ, found.words = home.environ, words
    return found


def test_one_old_backup_is_one_notice_though_health_finds_it_too(
    home: Cli, hook: Hook, need: Callable[[str], str]
) -> None:
    need("faketime")
    healthy = "health: {free: 1K, skip: [clock, disk, schedule, key, state]}\n"
    configure(home, f'{{channels: {{hook: "{hook.server.url}"}}, repeat: never}}', ", expect: {every: 26h}", healthy)
    assert home("backup", "docs").code == 0
    done = at(home, "+3d", "health", "--json")
    failed = {event["name"]: event for event in done.events if event.get("result") == "fail"}
    assert set(failed) == {"age:docs/home", "days:docs/home"}
    assert failed["age:docs/home"]["notice"] == {"rule": "overdue", "plan": "docs"}
    assert hook.titles == ["No new snapshot of docs in home for 3 days"]
    (home.home / "papers").rename(home.home / "away")
    assert at(home, "+4d", "backup", "docs").code == 10
    assert at(home, "+4d", "health").code == 1
    assert at(home, "+5d", "health").code == 1
    assert hook.titles[1:] == ["Backup of docs failed"]


def test_a_channel_that_is_down_gets_its_message_later_and_another_one_tells_of_it(home: Cli, hook: Hook) -> None:
    with ntfy_server() as server:
        channels = f'{{hook: "{hook.server.url}", phone: "ntfy://127.0.0.1:{server.port}/geheim"}}'
        configure(home, f"{{channels: {channels}}}")
        server.trouble = 403
        (home.home / "papers").rename(home.home / "away")
        done = home("backup", "docs")
        assert done.code == 10
        assert "the channel phone could not be used" in done.err
        assert "geheim" not in done.err
        assert hook.titles == ["Backup of docs failed", "The channel phone does not work"]
        server.trouble = 0
        assert home("notify", "send").out == ""  # it is not tried again at once
        assert home("notify", "send", "--now").code == 0
        assert [each["title"] for each in server.messages] == ["Backup of docs failed"]
        assert hook.titles[2:] == ["Over: The channel phone does not work"]
        audit = home("history", "--notices", "--json")
        kinds = [event["kind"] for event in audit.events if event["event"] == "fact"]
        assert {"notice.raised", "notice.sent", "notice.failed", "notice.resolved"} <= set(kinds)


def test_trying_channels_out(home: Cli, hook: Hook) -> None:
    away = f"http://127.0.0.1:{free_port()}/geheim"
    configure(home, f'{{channels: {{hook: "{hook.server.url}", away: "{away}"}}}}')
    done = home("notify", "test")
    assert done.code == 1
    assert "hook: sent" in done.out
    assert "away: failed" in done.out
    assert "geheim" not in done.out + done.err
    assert "This is a test of the channel hook" in hook.told[0]["body"]
    assert home("notify", "test", "hook", "--json").summary == {
        "event": "summary",
        "outcome": "ok",
        "channels": 1,
        "failed": 0,
    }
    unknown = home("notify", "test", "hok")
    assert (unknown.code, "Configured are hook, away" in unknown.err) == (10, True)


def test_a_secret_in_a_file_or_a_command_is_read_when_it_is_needed(home: Cli, hook: Hook) -> None:
    (home.home / "url").write_text(f"{hook.server.url}\n")
    (home.home / "url").chmod(0o600)
    command = f"{sys.executable} -c 'print(\"{hook.server.url}\")'"
    channels = {"a": {"url_file": "url"}, "b": {"url_command": command}, "c": {"url_env": "HOOK"}}
    configure(home, json.dumps({"channels": channels}))
    assert home("notify", "test", "a", "b").code == 0
    unset = home("notify", "test", "c")
    assert (unset.code, "HOOK" in unset.out) == (1, True)
    assert home("notify", "test", "c", HOOK=hook.server.url).code == 0
    assert len(hook.told) == 3


def test_a_dead_mans_switch_hears_of_each_run(home: Cli, hook: Hook) -> None:
    configure(home, "{}", f', expect: {{ping: "{hook.server.url}uuid"}}')
    assert home("backup", "docs").code == 0
    (home.home / "papers").rename(home.home / "away")
    assert home("backup", "docs").code == 10
    assert [request.path for request in hook.server.requests] == ["/uuid/start", "/uuid", "/uuid/start", "/uuid/fail"]
    assert hook.server.requests[1].body.startswith(b"ok: saved into 1 of 1 vault")
    assert b"no such file or folder" in hook.server.requests[3].body


def test_a_dead_mans_switch_that_cannot_be_reached_is_a_warning(home: Cli) -> None:
    configure(home, "{}", f', expect: {{ping: "http://127.0.0.1:{free_port()}/geheim"}}')
    done = home("backup", "docs")
    assert done.code == 0
    assert "dead man's switch does not know" in done.err
    assert "geheim" not in done.err


def test_a_journal_out_of_reach_is_told_past_it_and_changes_no_exit_code(home: Cli, hook: Hook) -> None:
    pytest.importorskip("psycopg")
    journal = f'journal: "postgresql://me@127.0.0.1:{free_port()}/none"\n'
    configure(home, f'{{channels: {{hook: "{hook.server.url}"}}}}', top=journal)
    done = home("backup", "docs")
    assert done.code == 0
    assert "people could not be told" in done.err
    assert [title.partition(" cannot")[2] for title in hook.titles] == [" use its journal"]
    home("backup", "docs")
    assert len(hook.titles) == 1


def test_without_channels_nothing_heavy_is_loaded(home: Cli, hook: Hook) -> None:
    def loaded(*words: str) -> str:
        done = subprocess.run(
            [sys.executable, "-X", "importtime", "-m", "holdfast", *words],
            env=home.environ,
            cwd=home.home,
            capture_output=True,
            check=True,
            timeout=100,
        )
        return done.stderr.decode()

    configure(home, "{}")
    home("backup", "docs")
    assert "sqlalchemy" not in loaded("backup", "docs")
    configure(home, f'{{channels: {{hook: "{hook.server.url}"}}}}')
    home("backup", "docs")
    assert "sqlalchemy" not in loaded("backup", "papers/letter", "--vault", "home")


def test_mistakes_in_the_configuration_are_told_with_their_place(home: Cli) -> None:
    configure(
        home,
        "{channels: {a: {url: 'ntfys://x', url_env: Y}, b: {}}, quiet: '22-7', repeat: often,"
        " rules: [{on: [faild], to: [c], plans: [dox]}], escalate: {to: [d]}, space: much}",
    )
    done = home("config", "check")
    assert done.code == 2
    for part in (
        "one of url, url_file, url_command and url_env is wanted",
        "two times of the day are wanted",
        "did you mean failed",
        "no channel named 'c'",
        "no channel named 'd'",
        "no plan named 'dox'",
        "a share is wanted",
    ):
        assert part in done.err, part


def test_config_show_hides_what_is_secret(home: Cli) -> None:
    configure(
        home,
        '{channels: {a: "ntfys://geheim1", '
        'b: {url: "https://geheim2", headers: {X: geheim3}, secret_command: "pass geheim4"},'
        ' c: {url_file: shown-file}}, ping: "https://hc-ping.com/geheim5"}',
        ', expect: {ping: {url_command: "pass geheim6"}}',
    )
    done = home("config", "show")
    assert done.code == 0, done.err
    assert "geheim" not in done.out
    assert "shown-file" in done.out
    assert "ntfys://***" in done.out
