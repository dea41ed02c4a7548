"""What every channel promises: it says that it sent only when somebody took it, in time, and gives no secret away."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import pytest
from tests.servers.listening import free_port
from tests.servers.mail import mail_server
from tests.servers.ntfy import ntfy_server
from tests.servers.scripted import Reply, Request, scripted

from holdfast.monitor.channels import kind_of
from holdfast.monitor.channels.apart import REFUSED
from holdfast.monitor.channels.base import ChannelSpec, Message
from holdfast.monitor.channels.child import send

SECRET = "geheim-7fa3"
TEXT = "Größe 5 > 3 & <b>kein</b> HTML; $(touch x) `id` 'x' \"y\"\n-- two lines\n🎈 and a balloon"


def message(**fields: Any) -> Message:
    usual = {
        "title": "--urgent: Sicherung von äöü 🎈 ist fehlgeschlagen",
        "body": TEXT,
        "level": "error",
        "host": "here",
    }
    return Message(**{"id": "abc-1", "at": "2026-11-22T04:05:06.000000Z", **usual, **fields})


@dataclass
class Place:
    """A service that a channel reaches. ``arrived()`` are (title, body) of what it took; ``refuse``, ``fail`` and
    ``hang`` make it do so from then on."""

    spec: ChannelSpec
    arrived: Callable[[], list[tuple[str, str]]]
    refuse: Callable[[], None]
    fail: Callable[[], None]
    hang: Callable[[], None]
    away: ChannelSpec
    """The same where nobody listens."""


def spec(url: str, **fields: Any) -> ChannelSpec:
    return ChannelSpec(kind_of(url), url, **{"seconds": 20.0, **fields})


@contextmanager
def ntfy_place() -> Iterator[Place]:
    with ntfy_server() as server:
        server.users, server.may = {"me": SECRET}, {"me": {"topic"}}
        yield Place(
            spec(f"ntfy://me:{SECRET}@127.0.0.1:{server.port}/topic"),
            lambda: [(each["title"], each["message"]) for each in server.messages],
            lambda: server.users.update(me="another one"),
            lambda: setattr(server, "trouble", 500),
            lambda: setattr(server, "delay", 40.0),
            spec(f"ntfy://me:{SECRET}@127.0.0.1:{free_port()}/topic"),
        )


@contextmanager
def web_place(kind: str) -> Iterator[Place]:
    import json

    state: dict[str, Any] = {"status": 200, "delay": 0.0}

    def answer(_request: Request) -> Reply:
        time.sleep(state["delay"])
        return Reply(state["status"], b"ok")

    with scripted(answer) as server:

        def arrived() -> list[tuple[str, str]]:
            if kind == "ping":
                return [("", request.body.decode()) for request in server.requests]
            told = [json.loads(request.body) for request in server.requests]
            return [(each["title"], each["body"]) for each in told]

        there = ChannelSpec(kind, f"{server.url}/{SECRET}", SECRET, seconds=20.0)
        yield Place(
            there,
            arrived,
            lambda: state.update(status=403),
            lambda: state.update(status=503),
            lambda: state.update(delay=40.0),
            replace(there, url=f"http://127.0.0.1:{free_port()}/{SECRET}"),
        )


@contextmanager
def smtp_place() -> Iterator[Place]:
    with mail_server(login=True) as server:
        server.users = {"me": SECRET}
        query = "from=backup@example.org&to=me@example.org,you@example.org&starttls=no"
        yield Place(
            spec(f"smtp://me:{SECRET}@127.0.0.1:{server.port}/?{query}"),
            lambda: [(each["subject"], each.get_content().rstrip("\n")) for each in server.messages],
            lambda: server.users.clear(),
            lambda: setattr(server, "trouble", "451 try again later"),
            lambda: server.hung.clear(),
            spec(f"smtp://me:{SECRET}@127.0.0.1:{free_port()}/?{query}"),
        )


PLACES: dict[str, Callable[[], Any]] = {
    "ntfy": ntfy_place,
    "webhook": lambda: web_place("webhook"),
    "ping": lambda: web_place("ping"),
    "smtp": smtp_place,
}


@pytest.fixture(params=list(PLACES))
def place(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with PLACES[request.param]() as found:
        yield found


def test_what_is_sent_arrives_as_it_is(place: Place) -> None:
    assert send(place.spec, message()) == {"ok": True}
    ((title, body),) = place.arrived()
    assert body.replace("\r\n", "\n").rstrip() == TEXT
    assert title in ("", message().title)


def test_a_refusal_is_told_apart_from_trouble_that_may_pass(place: Place) -> None:
    place.fail()
    passing = send(place.spec, message())
    assert (passing["ok"], passing["code"]) == (False, "unavailable")
    assert passing.get("code") not in REFUSED


def test_who_is_not_let_in_is_told_so_and_no_secret_is(place: Place) -> None:
    place.refuse()
    refused = send(place.spec, message())
    assert (refused["ok"], refused["code"]) == (False, "denied")
    assert SECRET not in str(refused)
    assert place.arrived() == [] or place.spec.kind in ("webhook", "ping")


def test_nobody_there(place: Place) -> None:
    away = send(place.away, message())
    assert (away["ok"], away["code"]) == (False, "unavailable")
    assert SECRET not in str(away)


def test_a_service_that_does_not_answer_is_given_up(place: Place) -> None:
    place.hang()
    began = time.monotonic()
    slow = send(replace(place.spec, seconds=2.0), message())
    assert (slow["ok"], slow["code"]) == (False, "unavailable")
    assert time.monotonic() - began < 30.0  # two, and whatever a busy machine needs for loading libraries
    assert SECRET not in str(slow)


def test_a_long_text_arrives_with_its_beginning_or_its_end(place: Place) -> None:
    lines = [f"line {number} äöü" for number in range(6000)]
    assert send(place.spec, message(body="\n".join(lines))) == {"ok": True}
    ((_, body),) = place.arrived()
    assert lines[0] in body or lines[-1] in body


def test_nothing_in_a_text_is_an_error(place: Place) -> None:
    assert send(place.spec, message(body="", title="only a title")) == {"ok": True}
    assert len(place.arrived()) == 1
