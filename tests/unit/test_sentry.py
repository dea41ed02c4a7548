"""What is reported to Sentry: nothing secret, no path, no content; whatever its server does, within two seconds."""

from __future__ import annotations

import gzip
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from holdfast.app.context import Context
from holdfast.app.sentry import report_errors
from holdfast.config.locate import Configured
from holdfast.kernel.cancel import Cancel
from holdfast.kernel.errors import Invalid
from holdfast.kernel.events import Fact, ignore
from holdfast.monitor.outbox import Outbox
from holdfast.monitor.record import Record
from holdfast.monitor.sentry import Scrubber, event_of, report

pytest.importorskip("sentry_sdk")


@dataclass
class Ingest:
    """A server that takes envelopes as Sentry's does. ``status`` is its answer; ``gate`` holds it back."""

    url: str = ""
    status: int = 200
    gate: threading.Event = field(default_factory=threading.Event)
    events: list[dict[str, Any]] = field(default_factory=list)
    auth: list[str] = field(default_factory=list)


@pytest.fixture
def ingest() -> Iterator[Ingest]:
    found = Ingest()
    found.gate.set()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            found.gate.wait(60)
            if self.path == "/api/42/envelope/" and found.status == 200:
                # An envelope: a header, then for each item its header and its content, one a line.
                found.events.append(json.loads(body.split(b"\n")[2]))
                found.auth.append(self.headers["X-Sentry-Auth"])
            self.send_response(found.status)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    found.url = f"http://publickey@127.0.0.1:{server.server_address[1]}/42"
    yield found
    found.gate.set()
    server.shutdown()
    thread.join()
    server.server_close()


def record(message: str = "it failed", kind: str = "run.finished", number: int = 0, **data: Any) -> Record:
    return Record(
        id=f"{number:026}",
        at_ns=1_795_348_800_000_000_000,
        kind=kind,
        level="error",
        message=message,
        host="box",
        role="holdfast",
        pid=7,
        run="01AB",
        operation="backup",
        plan="documents",
        vault="/srv/ada's vault",
        job="j1",
        data=data,
    )


def send(ingest: Ingest, *records: Record, seconds: float = 30.0) -> Any:
    return report(records, ingest.url, release="holdfast@1", environment="test", seconds=seconds)


def test_an_error_arrives_with_its_run_and_job(ingest: Ingest) -> None:
    done = send(ingest, record(error={"code": "no_space", "message": "full"}, files_new=3, text="a name", ok=False))
    assert (done.count, done.trouble) == (1, "")
    (event,) = ingest.events
    assert event["tags"]["run"] == "01AB" and event["tags"]["job"] == "j1" and event["tags"]["plan"] == "documents"
    assert event["tags"]["code"] == "no_space" and event["level"] == "error" and event["server_name"] == "box"
    assert event["extra"] == {"files_new": 3, "ok": False}
    assert event["release"] == "holdfast@1" and event["environment"] == "test"
    assert "sentry_key=publickey" in ingest.auth[0]
    assert send(ingest, record()).count == 1
    assert ingest.events[1]["event_id"] == event["event_id"]  # sent again it is the same event


def test_no_secret_no_path_and_no_content_is_in_it(ingest: Ingest) -> None:
    trace = 'Traceback:\n  File "/home/ada/tools/job.py", line 3, in main\n    open("/home/ada/diary.txt")\nOSError\n'
    send(
        ingest,
        record(
            "cannot read /home/ada/My Letters/to bob.txt: password=hunter22 and photos/bob.jpg, rest:http://ada:pw@h/x",
            path="/home/ada/My Letters/to bob.txt",
            traceback=trace,
            output_tail="dear diary",
            command=["scp", "/home/ada"],
        ),
    )
    text = json.dumps(ingest.events)
    for secret in ("ada", "Letters", "bob", "hunter22", "diary", "srv", "photos", "scp"):
        assert secret not in text.replace("read_data", ""), secret
    (event,) = ingest.events
    assert 'File "job.py", line 3' in event["extra"]["traceback"]
    assert event["logentry"]["formatted"].startswith("cannot read <path ")
    assert "modules" not in event and "request" not in event and "user" not in event


def test_equal_paths_stay_equal_and_differ_between_projects() -> None:
    one, other = Scrubber("dsn"), Scrubber("another dsn")
    assert one.path("/a") == one.path("/a") != one.path("/b") and one.path("/a") != other.path("/a")
    assert one.text("3 of 5 files failed") == "3 of 5 files failed"
    assert one.word("home") == "home" and "bucket" not in one.word("s3:bucket/x")
    assert event_of(record(), one)["tags"]["vault"].startswith("<path ")


def test_notices_are_not_reported_again(ingest: Ingest) -> None:
    assert send(ingest, record(kind="notice.raised"), record(number=1)).count == 2
    assert len(ingest.events) == 1


def test_a_server_that_says_nothing_delays_nobody(ingest: Ingest) -> None:
    ingest.gate.clear()
    done = send(ingest, record(), record(number=1), seconds=0.3)
    assert done.count == 0 and done.trouble


@pytest.mark.parametrize(("status", "count"), [(429, 0), (403, 0), (500, 0), (413, 2), (400, 2)])
def test_what_is_not_taken_now_is_kept_and_what_never_is_taken_is_left_out(
    ingest: Ingest, status: int, count: int
) -> None:
    ingest.status = status
    done = send(ingest, record(), record(number=1))
    assert done.count == count and bool(done.trouble) == (count == 0)


def test_no_server_and_no_dsn(ingest: Ingest) -> None:
    assert report([record()], "http://k@127.0.0.1:1/1", release="", environment="").trouble
    with pytest.raises(Invalid, match="DSN"):
        report([record()], "not a dsn", release="", environment="")


def context(tmp_path: Path, dsn: str, warnings: list[str], text: str = "sentry: {dsn_env: DSN}") -> Context:
    file = tmp_path / "holdfast.yaml"
    file.write_text(text)
    environ = {"HOME": str(tmp_path), "DSN": dsn}
    configured = Configured(str(file), environ)
    return Context(emit=ignore, cancel=Cancel(), warn=warnings.append, configured=configured, environ=environ)


def test_each_grave_fact_is_reported_once_also_those_of_scripts(ingest: Ingest, tmp_path: Path) -> None:
    warnings: list[str] = []
    here = context(tmp_path, ingest.url, warnings)
    outbox = Outbox(here.paths.state / "outbox", role="my script")
    outbox.append(Fact("error.raised", "a script failed", "error"))
    outbox.append(Fact("item.failed", "only a warning", "warning"))
    assert report_errors(here) == 1 and report_errors(here) == 0
    outbox.append(Fact("critical.recorded", "worse", "critical"))
    ingest.status = 503
    assert report_errors(here) == 0 and "tries again" in warnings[-1]
    ingest.status = 200
    assert report_errors(here) == 1
    assert [event["level"] for event in ingest.events] == ["error", "fatal"]
    assert ingest.events[0]["tags"]["role"] == "my script"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("vaults: {}", ""),
        ("sentry: {dsn_env: MISSING}", "holds no DSN"),
        ("sentry: {dsn_file: nowhere}", "no file"),
        ("sentry: {dsn_env: A, dsn_file: b}", ""),
    ],
)
def test_it_is_off_unless_configured_and_mistakes_are_told(tmp_path: Path, text: str, said: str) -> None:
    warnings: list[str] = []
    assert report_errors(context(tmp_path, "", warnings, text)) == 0
    assert [said in warning for warning in warnings] == ([True] if said else [])
