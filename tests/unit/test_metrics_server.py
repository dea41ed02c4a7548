"""The server of metrics: what it answers, whom it refuses, that nobody holds it up. And the file for node_exporter."""

from __future__ import annotations

import http.client
import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.metricskit import Told, parsed, value

from holdfast.kernel.addresses import address, is_loopback
from holdfast.kernel.errors import Denied, Invalid, NotFound, Unavailable
from holdfast.monitor.metrics import serve
from holdfast.monitor.metrics.exposed import Expected, View, registry
from holdfast.monitor.metrics.serve import MetricsServer
from holdfast.monitor.metrics.textfile import write_textfile


@contextmanager
def running(view: Callable[[], View], host: str = "127.0.0.1", **options: bool) -> Iterator[tuple[int, list[str]]]:
    troubles: list[str] = []
    server = MetricsServer(host, 0, registry(view), on_trouble=troubles.append, **options)
    stop = threading.Event()
    thread = threading.Thread(target=server.serve, args=(stop.is_set,))
    thread.start()
    try:
        yield server.port, troubles
    finally:
        stop.set()
        thread.join()
        server.close()


def ask(port: int, path: str, method: str = "GET", host: str = "127.0.0.1", **headers: str) -> tuple[int, str, bytes]:
    connection = http.client.HTTPConnection(host, port, timeout=30)
    try:
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.headers["Content-Type"], answer.read()
    finally:
        connection.close()


@pytest.fixture
def view(tmp_path: Path) -> Callable[[], View]:
    told = Told(tmp_path)
    told.run("backup", vault="home")

    def seen() -> View:
        return View(told.state(), Expected(), told.clock.now, "1")

    return seen


def test_it_answers_what_prometheus_and_people_ask(view: Callable[[], View]) -> None:
    with running(view) as (port, troubles):
        status, kind, body = ask(port, "/metrics")
        assert (status, kind.split(";")[0]) == (200, "text/plain")
        assert value(parsed(body), "runs_total") == 1
        assert ask(port, "/metrics?x=1")[0] == 200
        status, kind, body = ask(port, "/metrics", Accept="application/openmetrics-text; version=1.0.0")
        assert kind.startswith("application/openmetrics-text") and body.endswith(b"# EOF\n")
        assert ask(port, "/metrics", "HEAD")[::2] == (200, b"")
        assert ask(port, "/healthz") == (200, "text/plain; charset=utf-8", b"ok\n")
        assert ask(port, "/")[0] == ask(port, "/etc/passwd")[0] == 404
        assert ask(port, "/metrics", "POST")[0] == 501
        assert not troubles


def test_each_scrape_sees_what_is_new(tmp_path: Path) -> None:
    told = Told(tmp_path)
    with running(lambda: View(told.state(), Expected(), told.clock.now, "1")) as (port, _):
        for number in range(3):
            told.run("check", vault="home")
            assert value(parsed(ask(port, "/metrics")[2]), "runs_total") == number + 1


def test_a_view_that_fails_is_a_500_that_says_nothing_and_the_next_scrape_works() -> None:
    turns = iter([True, False])

    def view() -> View:
        if next(turns):
            raise RuntimeError("secret path")
        return View(None, Expected(), 0, "1")

    with running(view) as (port, troubles):
        status, _, body = ask(port, "/metrics")
        assert status == 500 and b"secret" not in body and "secret path" in troubles[0]
        assert ask(port, "/metrics")[0] == 200


def test_callers_that_say_nothing_hold_up_nobody(view: Callable[[], View], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serve._Handler, "timeout", 0.3)
    with running(view) as (port, _):
        silent = [socket.create_connection(("127.0.0.1", port)) for _ in range(serve.CALLERS + 4)]
        try:
            # Those beyond the limit are closed at once, the others when their time is over.
            for one in silent:
                one.settimeout(30)
                assert one.recv(1) == b""
            assert ask(port, "/metrics")[0] == 200
        finally:
            for one in silent:
                one.close()


def test_other_machines_are_kept_out_unless_told_otherwise(view: Callable[[], View]) -> None:
    for host in ("0.0.0.0", "192.0.2.7", "::", "example.org"):
        with pytest.raises(Denied) as caught:
            MetricsServer(host, 0, registry(view), on_trouble=print)
        assert "--expose" in caught.value.hint
    with running(view, "0.0.0.0", exposed=True) as (port, _):
        assert ask(port, "/healthz")[0] == 200
    assert [is_loopback(host) for host in ("127.8.8.8", "::1", "localhost", "10.0.0.1")] == [True, True, True, False]


def test_an_address_that_is_taken_or_not_ours_is_told(view: Callable[[], View]) -> None:
    with running(view) as (port, _), pytest.raises(Unavailable, match="cannot listen"):
        MetricsServer("127.0.0.1", port, registry(view), on_trouble=print)
    with pytest.raises(Invalid):
        MetricsServer("192.0.2.7", 0, registry(view), exposed=True, on_trouble=print)


def test_addresses() -> None:
    assert address("127.0.0.1:9797") == ("127.0.0.1", 9797)
    assert address("[::1]:80") == ("::1", 80)
    assert address(":8000") == ("127.0.0.1", 8000)
    for wrong in ("9797", "host", "host:", "host:99999", "host:-1", "host:x", "[::1", "::1]:80"):
        with pytest.raises(Invalid, match="no address"):
            address(wrong)


def test_the_textfile_is_replaced_in_one_step_and_readable(tmp_path: Path) -> None:
    path = tmp_path / "holdfast.prom"
    before = os.umask(0o077)
    try:
        for text in (b"a 1\n", b"a 2\n"):
            write_textfile(path, text)
            assert path.read_bytes() == text and path.stat().st_mode & 0o777 == 0o644
    finally:
        os.umask(before)
    assert os.listdir(tmp_path) == ["holdfast.prom"]


def test_a_textfile_that_cannot_be_written_leaves_the_old_one(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match=r"\.prom"):
        write_textfile(tmp_path / "metrics.txt", b"")
    with pytest.raises(NotFound, match="no folder"):
        write_textfile(tmp_path / "missing" / "a.prom", b"")
    (tmp_path / "folder.prom").mkdir()
    with pytest.raises(Invalid, match="is a folder"):
        write_textfile(tmp_path / "folder.prom", b"")
    assert os.listdir(tmp_path) == ["folder.prom"]
