"""What is special about each channel, and the process in which it sends."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import shutil
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.servers.mail import mail_server
from tests.servers.ntfy import ntfy_server
from tests.servers.scripted import HANG_UP, Reply, scripted

from holdfast.kernel.errors import Invalid, Unsupported
from holdfast.monitor.channels import kind_of, open_channel
from holdfast.monitor.channels.apart import Sending, send_apart
from holdfast.monitor.channels.base import ChannelSpec, Message
from holdfast.monitor.channels.child import send
from holdfast.monitor.channels.desktop import Desktop

SECRET = "geheim-7fa3"


def message(**fields: Any) -> Message:
    return Message(**{"id": "abc-1", "title": "Title", "body": "Body", "level": "error", "host": "here", **fields})


def spec(url: str, **fields: Any) -> ChannelSpec:
    return ChannelSpec(kind_of(url), url, **fields)


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


# ntfy


@pytest.mark.parametrize(
    ("level", "priority", "tag"),
    [("info", 2, "white_check_mark"), ("warning", 3, "warning"), ("error", 4, "x"), ("critical", 5, "rotating_light")],
)
def test_ntfy_gets_priority_and_tag_by_level(level: str, priority: int, tag: str) -> None:
    with ntfy_server() as server:
        assert send(spec(f"ntfy://127.0.0.1:{server.port}/topic"), message(level=level)) == {"ok": True}
        assert (server.messages[0]["priority"], server.messages[0]["tags"]) == (priority, [tag])


def test_ntfy_takes_a_token_click_actions_and_words_of_the_users_own() -> None:
    token = "tk_AgQdq7mVBoFD37zQVN29RhuMzNIz2"
    options = {
        "priority": {"error": "min"},
        "tags": {"error": "floppy_disk,docs"},
        "click": "https://status.example.org/?a=1&b=2",
        "actions": "view, Status, https://status.example.org; view, Notes, https://notes.example.org/ä",
    }
    with ntfy_server() as server:
        server.users, server.tokens = {"me": "x"}, {token: "me"}
        good = spec(f"ntfy://{token}@127.0.0.1:{server.port}/topic", options=options)
        assert send(good, message()) == {"ok": True}
        got = server.messages[0]
        assert (got["priority"], set(got["tags"])) == (1, {"floppy_disk", "docs"})
        assert got["click"] == "https://status.example.org/?a=1&b=2"
        assert [(each["action"], each["label"]) for each in got["actions"]] == [("view", "Status"), ("view", "Notes")]
        wrong = send(spec(f"ntfy://tk_wrong@127.0.0.1:{server.port}/topic"), message())
        assert wrong["code"] == "denied"


def test_what_the_ntfy_url_says_itself_stays() -> None:
    with ntfy_server() as server:
        url = f"ntfy://127.0.0.1:{server.port}/topic?priority=max&tags=mine"
        assert send(spec(url), message(level="info")) == {"ok": True}
        assert (server.messages[0]["priority"], server.messages[0]["tags"]) == (5, ["mine"])


@pytest.mark.parametrize(("status", "code"), [(403, "denied"), (429, "unavailable"), (500, "unavailable")])
def test_ntfys_refusals_are_understood(status: int, code: str) -> None:
    with ntfy_server() as server:
        server.trouble = status
        assert send(spec(f"ntfy://127.0.0.1:{server.port}/topic"), message())["code"] == code


def test_a_topic_that_others_may_not_use_is_refused() -> None:
    with ntfy_server() as server:
        server.users, server.may = {"me": "a@b/c"}, {"me": {"mine"}}
        url = f"ntfy://me:a%40b%2Fc@127.0.0.1:{server.port}"
        assert send(spec(f"{url}/mine"), message()) == {"ok": True}
        assert send(spec(f"{url}/theirs"), message())["code"] == "denied"


def test_a_url_that_apprise_does_not_know_is_the_users_to_mend() -> None:
    assert send(spec(f"nosuch://{SECRET}"), message()) == {
        "ok": False,
        "code": "invalid",
        "error": "apprise does not understand the channel's nosuch:// URL",
        "hint": "Its form is in apprise's documentation; special characters are written as %40 and the like.",
    }


def test_mail_through_apprise() -> None:
    with mail_server() as server:
        url = f"mailto://127.0.0.1:{server.port}/?from=backup@example.org&to=me@example.org&mode=insecure"
        assert send(spec(url), message(title="Sicherung fehlt")) == {"ok": True}
        assert str(server.messages[0]["subject"]) == "Sicherung fehlt"


def test_without_apprise_the_hint_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "apprise", None)
    told = send(spec("ntfys://topic"), message())
    assert told["code"] == "unsupported"
    assert "holdfast[notify]" in told["hint"]


# Webhooks


def test_a_webhook_is_signed_so_that_its_receiver_can_be_sure() -> None:
    with scripted(lambda _request: Reply(204)) as server:
        there = ChannelSpec("webhook", server.url, SECRET, {"headers": {"X-Team": "ops"}})
        assert send(there, message(notices=({"notice": "n1", "level": "error"},))) == {"ok": True}
    request = server.requests[0]
    stamp = request.headers["X-Holdfast-Timestamp"]
    mac = hmac.new(SECRET.encode(), stamp.encode() + b"." + request.body, hashlib.sha256).hexdigest()
    assert request.headers["X-Holdfast-Signature"] == f"sha256={mac}"
    assert abs(int(stamp) - time.time()) < 600
    assert request.headers["X-Holdfast-Delivery"] == "abc-1"
    assert request.headers["X-Team"] == "ops"
    assert json.loads(request.body)["notices"] == [{"notice": "n1", "level": "error"}]


def test_a_webhook_follows_nobody_elsewhere() -> None:
    with scripted(lambda _request: Reply()) as other:
        elsewhere = Reply(307, headers={"Location": other.url})
        with scripted(lambda _request: elsewhere) as server:
            told = send(spec(server.url), message())
        assert told["code"] == "invalid"
        assert "sends us elsewhere (307)" in told["error"]
        assert other.requests == []


def test_a_busy_receiver_says_when_to_come_back_and_a_rude_one_is_unavailable() -> None:
    with scripted(lambda _request: Reply(429, headers={"Retry-After": "120"})) as server:
        assert send(spec(server.url), message())["retry_after"] == 120
    with scripted(lambda _request: HANG_UP) as server:
        assert send(spec(server.url), message())["code"] == "unavailable"


def test_a_login_in_the_url_becomes_a_header() -> None:
    with scripted(lambda _request: Reply()) as server:
        assert send(spec(server.url.replace("http://", "http://me:p%40ss@")), message()) == {"ok": True}
        assert server.requests[0].headers["Authorization"] == "Basic bWU6cEBzcw=="


def test_a_proxy_of_the_environment_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    with scripted(lambda _request: Reply()) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        monkeypatch.setenv("no_proxy", "")
        assert send(spec("http://hooks.example.org/x"), message()) == {"ok": True}
        assert proxy.requests[0].path == "http://hooks.example.org/x"


# Pings


def test_pings_go_where_healthchecks_expects_them_with_the_end_of_a_long_text() -> None:
    with scripted(lambda _request: Reply()) as server:
        there = ChannelSpec("ping", f"{server.url}uuid?rid=1")
        for event in ("start", "success", "fail"):
            assert send(there, message(event=event, body="x" * 20_000 + "the end")) == {"ok": True}
    assert [request.path for request in server.requests] == ["/uuid/start?rid=1", "/uuid?rid=1", "/uuid/fail?rid=1"]
    assert len(server.requests[2].body) == 10_000
    assert server.requests[2].body.endswith(b"the end")


# E-mail


def test_a_mail_can_be_told_from_its_copy_and_is_from_a_machine() -> None:
    with mail_server() as server:
        url = f"smtp://127.0.0.1:{server.port}/?from=backup@example.org&to=me@example.org,you@example.org"
        for _ in range(2):
            assert send(spec(url), message(level="critical", at="2026-11-22T04:05:06.000000Z")) == {"ok": True}
    first, second = server.messages
    assert first["message-id"] == second["message-id"]
    assert first["auto-submitted"] == "auto-generated"
    assert first["date"] == "Sun, 22 Nov 2026 04:05:06 +0000"
    assert first["x-priority"].startswith("1")
    assert server.recipients[0] == ["me@example.org", "you@example.org"]


def test_no_password_goes_over_an_open_line() -> None:
    with mail_server(login=True) as server:
        server.users = {"me": SECRET}
        told = send(spec(f"smtp://me:{SECRET}@127.0.0.1:{server.port}/?from=a@b.org&to=c@d.org"), message())
        assert told["code"] == "invalid"
        assert "no encryption" in told["error"]
        assert server.messages == []


def test_a_title_of_several_lines_makes_no_headers() -> None:
    with mail_server() as server:
        url = f"smtp://127.0.0.1:{server.port}/?from=a@b.org&to=c@d.org"
        assert send(spec(url), message(title="one\r\nBcc: evil@example.org\ntwo")) == {"ok": True}
        assert server.messages[0]["subject"] == "one Bcc: evil@example.org two"
        assert server.messages[0]["bcc"] is None


@pytest.mark.parametrize(
    "url", ["smtp://host/", "smtp://host/?from=a@b.org", "smtp:///?from=a@b.org&to=c@d.org", "smtp://h:x/"]
)
def test_an_smtp_url_that_lacks_something_is_refused_with_its_form(url: str) -> None:
    with pytest.raises(Invalid, match="SMTP URL"):
        open_channel(spec(url))


# The desktop


def program(folder: Path, name: str, script: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


def test_the_desktop_is_told_without_a_shell_and_no_text_is_an_option(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("notify-send", "osascript"):
        program(tmp_path, name, f'for word in "$@"; do printf "%s\\n" "<$word>"; done > {tmp_path}/{name}.said')
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    said = message(title="--version; $(touch /x)", body="<b>5 & 6</b>", level="critical")
    Desktop(spec("desktop://"), "linux").send(said)
    assert (tmp_path / "notify-send.said").read_text().splitlines() == [
        "<--app-name=Holdfast>",
        "<--urgency=critical>",
        "<-->",
        "<--version; $(touch /x)>",
        "<&lt;b&gt;5 &amp; 6&lt;/b&gt;>",
    ]
    Desktop(spec("desktop://"), "darwin").send(said)
    words = (tmp_path / "osascript.said").read_text().splitlines()
    assert words[-3:] == ["<-->", "<--version; $(touch /x)>", "<<b>5 & 6</b>>"]


def test_a_desktop_that_hangs_fails_or_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Unsupported, match="notify-send is not installed"):
        Desktop(spec("desktop://"), "linux").send(message())
    program(tmp_path, "notify-send", "echo no daemon >&2; exit 1")
    told = send(ChannelSpec("desktop"), message())
    if sys.platform != "darwin":
        assert told["error"] == "the desktop does not show notifications: no daemon"
        program(tmp_path, "notify-send", "exec /bin/sleep 60")
        assert "in time" in send(ChannelSpec("desktop", seconds=0.3), message())["error"]


def test_a_real_desktop_shows_it(need: Callable[[str], str], tmp_path: Path) -> None:
    for tool in ("Xvfb", "dunst", "dbus-run-session", "notify-send"):
        need(tool)
    shown = tmp_path / "shown"
    program(tmp_path, "keep", f'printf "%s|%s|%s\\n" "$DUNST_SUMMARY" "$DUNST_BODY" "$DUNST_URGENCY" >> {shown}')
    (tmp_path / "dunstrc").write_text(f"[global]\n[all]\n  summary = *\n  script = {tmp_path}/keep\n")
    sender = (
        "import time, sys; from holdfast.monitor.channels.child import send;"
        "from holdfast.monitor.channels.base import *; ended = time.monotonic() + 30\n"
        "said = Message('i', '--Backup failed', 'a < b & c', 'critical')\n"
        "while not (told := send(ChannelSpec('desktop'), said))['ok'] and time.monotonic() < ended: time.sleep(.2)\n"
        "print(told)"
    )
    script = tmp_path / "session"
    script.write_text(
        f"""exec 3> {tmp_path}/display
Xvfb -displayfd 3 -nolisten tcp & x=$!
for i in $(seq 200); do [ -s {tmp_path}/display ] || sleep 0.1; done
[ -s {tmp_path}/display ] || exit 1
export DISPLAY=:$(cat {tmp_path}/display)
dunst -config {tmp_path}/dunstrc & d=$!
{sys.executable} -c "$SENDER"
for i in 1 2 3 4 5 6 7 8 9 10; do [ -s {shown} ] || sleep 0.5; done
kill $d $x
"""
    )
    environ = {**os.environ, "SENDER": sender, "HOME": str(tmp_path), "PYTHONPATH": os.pathsep.join(sys.path)}
    shell = shutil.which("sh") or "/bin/sh"
    done = subprocess.run(
        ["dbus-run-session", "--", shell, str(script)], env=environ, capture_output=True, timeout=100, check=False
    )
    if not (tmp_path / "display").read_text():
        pytest.skip("no X server can be started here")
    assert "{'ok': True}" in done.stdout.decode(), done.stderr.decode()
    title, body, urgency = shown.read_text().strip().split("|")
    assert (title, urgency) == ("--Backup failed", "CRITICAL")
    assert body in ("a &lt; b &amp; c", "a < b & c")


# The process in which it is sent


def test_it_is_sent_from_a_process_whose_command_line_and_environment_tell_nothing() -> None:
    with scripted(lambda _request: Reply()) as server:
        sending = Sending(spec(f"{server.url}{SECRET}", secret=SECRET), message())
        assert sending._process is not None
        assert SECRET not in " ".join(map(str, sending._process.args))
        assert sending.result().ok
        assert server.requests[0].path == f"/{SECRET}"
    assert SECRET not in repr(spec(f"https://{SECRET}", secret=SECRET))


def test_a_long_message_gets_through_the_pipe() -> None:
    with scripted(lambda _request: Reply()) as server:
        assert send_apart(spec(server.url), message(body="x" * 300_000)).ok
        assert len(json.loads(server.requests[0].body)["body"]) == 300_000


def test_a_refusal_comes_back_with_its_hint() -> None:
    told = send_apart(spec("smtp://host/"), message())
    assert (told.ok, told.refused) == (False, True)
    assert "from=" in told.hint


def test_whatever_hangs_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("holdfast.monitor.channels.apart._START_SECONDS", 1.0)
    monkeypatch.setattr("holdfast.monitor.channels.apart._BOOT", "import time; time.sleep(60)")
    began = time.monotonic()
    sending = Sending(spec("http://127.0.0.1:1/", seconds=0.2), message())
    assert sending.result().error == "it was not sent within 0.2 s"
    assert time.monotonic() - began < 20
    assert sending._process is not None
    assert sending._process.returncode == -9


def test_a_process_that_dies_or_cannot_begin_is_no_success(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("holdfast.monitor.channels.apart._BOOT", "import os; os.kill(os.getpid(), 9)")
    assert "without a word" in send_apart(spec("http://127.0.0.1:1/"), message()).error
    monkeypatch.setattr(sys, "executable", "/nonexistent/python")
    assert "cannot start" in send_apart(spec("http://127.0.0.1:1/"), message()).error
