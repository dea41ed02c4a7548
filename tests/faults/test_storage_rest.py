"""What a REST storage says and does when the server refuses, misbehaves, or is not the right one."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.servers.listening import free_port
from tests.servers.restserver import PASSWORD, USER, RestServer, make_certificate, rest_serving
from tests.servers.scripted import HANG_UP, Reply, Request, scripted

from holdfast.kernel.errors import Corrupt, Denied, HoldfastError, Invalid, NoSpace, NotFound, Unavailable
from holdfast.storage import Storage
from holdfast.storage.rest import open_storage

DATA = b"0123456789"
HASH = hashlib.sha256(DATA).hexdigest()
PACK = f"data/{HASH[:2]}/{HASH}"
LOCK, KEY = f"locks/{HASH}", f"keys/{HASH}"
NOBODY = {"NETRC": "/nonexistent/netrc"}


def rest(url: str, environ: dict[str, str] | None = None) -> Storage:
    return open_storage("rest", url, NOBODY if environ is None else environ)


def told(error: HoldfastError) -> str:
    return f"{error.message} {error.hint} {error.context}"


@pytest.mark.parametrize(
    "text",
    [
        "http://me:S3CRET@host/x",
        "https://S3CRET@host/",
        "http://host:S3CRET/",
        "http://host/?token=S3CRET",
        "http://host/#S3CRET",
        "http://me:S3/CRET@host/",
        "ftp://host/S3CRET",
        "host/S3CRET",
        "http:///S3CRET",
        "http://ho st/S3CRET",
        "",
    ],
)
def test_addresses_that_are_refused_are_not_repeated(text: str) -> None:
    with pytest.raises(Invalid) as caught:
        rest(text)
    assert "S3" not in told(caught.value)
    assert caught.value.hint


@pytest.mark.parametrize(
    ("text", "location"),
    [
        ("http://host", "rest:http://host/"),
        ("https://host:8000/a/b", "rest:https://host:8000/a/b/"),
        ("https://[::1]:8000/a b//", "rest:https://[::1]:8000/a%20b/"),
        ("http://host/user@x/%41", "rest:http://host/user@x/%41/"),
    ],
)
def test_addresses(text: str, location: str) -> None:
    assert rest(text).location == location


def test_who_we_are_comes_from_the_environment_or_netrc(rest_server: RestServer, tmp_path: Path) -> None:
    url = rest_server.location(tmp_path.name).removeprefix("rest:")
    netrc = tmp_path / "netrc"
    netrc.write_text(f"machine other login x password y\nmachine 127.0.0.1 login {USER} password {PASSWORD}\n")
    netrc.chmod(0o600)
    good = {"RESTIC_REST_USERNAME": USER, "RESTIC_REST_PASSWORD": PASSWORD}
    for environ in ({**NOBODY, **good}, {"NETRC": str(netrc)}):
        storage = rest(url, environ)
        storage.prepare([])
        assert list(storage.list("")) == []
        storage.close()
    wrong = {"HOLDFAST_REST_USERNAME": USER, "HOLDFAST_REST_PASSWORD": "s3cret", **good}
    for environ in (NOBODY, wrong):
        for call in (lambda s: s.size("config"), lambda s: s.write(PACK, DATA), lambda s: s.prepare([])):
            with pytest.raises(Denied, match="401") as caught:
                call(rest(url, environ))
            assert "HOLDFAST_REST_USERNAME" in caught.value.hint
            assert "s3cret" not in told(caught.value) and PASSWORD not in told(caught.value)


def test_a_broken_netrc_is_told_without_its_content(tmp_path: Path) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine host nonsense S3CRET\n")
    with pytest.raises(Invalid, match="netrc") as caught:
        rest("http://127.0.0.1:1/", {"NETRC": str(netrc)}).size("config")
    assert "S3CRET" not in told(caught.value)


def test_a_certificate_must_be_trusted(
    need: Callable[[str], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate = tmp_path / "server.pem"
    make_certificate(certificate)
    with rest_serving(need("rclone"), tmp_path / "server", certificate=certificate) as server:
        url = server.location("vault").removeprefix("rest:")
        with pytest.raises(Denied, match="not trusted") as caught:
            rest(url, server.environ).size("config")
        assert "HOLDFAST_REST_CACERT" in caught.value.hint
        for name in ("HOLDFAST_REST_CACERT", "RESTIC_CACERT"):
            storage = rest(url, {**server.environ, name: str(certificate)})
            storage.prepare([])
            storage.write(PACK, DATA)
            assert storage.read(PACK) == DATA
            storage.close()
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        assert rest(url, server.environ).size(PACK) == len(DATA)
    with pytest.raises(Invalid, match="certificate file"):
        rest("https://127.0.0.1:1/", {"HOLDFAST_REST_CACERT": str(tmp_path / "missing")}).size("config")


def test_an_append_only_server_keeps_everything_but_locks(
    rest_server: RestServer, append_only_server: RestServer, tmp_path: Path
) -> None:
    storage = rest(append_only_server.location(tmp_path.name).removeprefix("rest:"), append_only_server.environ)
    storage.prepare(["data", "locks"])
    for name in ("config", PACK, LOCK, KEY):
        storage.write(name, DATA)
        storage.write(name, DATA)
        assert storage.read(name) == DATA
    with pytest.raises(Invalid, match="other content"):
        storage.write("config", b"9876543210")
    with pytest.raises(Corrupt):
        storage.write(PACK, DATA + b"more")
    for name in ("config", PACK, KEY):
        with pytest.raises(Denied, match="403") as caught:
            storage.delete(name)
        assert "append-only" in caught.value.hint
    with pytest.raises(Denied):
        storage.replace("config", b"version 3")
    storage.delete(LOCK)
    assert {info.name for info in storage.list("")} == {"config", PACK, KEY}
    storage.close()


def test_a_place_without_a_vault_is_not_an_empty_one(rest_server: RestServer, tmp_path: Path) -> None:
    storage = rest(rest_server.location(f"{tmp_path.name}/none").removeprefix("rest:"), rest_server.environ)
    for folder in ("", "snapshots", "data"):
        with pytest.raises(NotFound, match="no vault"):
            list(storage.list(folder))


def test_nobody_listens() -> None:
    with pytest.raises(Unavailable, match="cannot reach") as caught:
        rest(f"http://127.0.0.1:{free_port()}/").size("config")
    assert caught.value.hint and caught.value.context["method"] == "HEAD"


@pytest.mark.parametrize(
    ("status", "headers", "kind", "wait"),
    [
        (400, {}, Invalid, None),
        (401, {}, Denied, None),
        (403, {}, Denied, None),
        (413, {}, NoSpace, None),
        (418, {}, Invalid, None),
        (429, {"Retry-After": "7"}, Unavailable, 7.0),
        (500, {}, Unavailable, None),
        (502, {"Retry-After": "soon"}, Unavailable, None),
        (
            503,
            {"Retry-After": "Sun, 22 Nov 2026 01:00:30 GMT", "Date": "Sun, 22 Nov 2026 01:00:00 GMT"},
            Unavailable,
            30.0,
        ),
        (507, {}, NoSpace, None),
    ],
)
def test_what_a_status_means(
    status: int, headers: dict[str, str], kind: type[HoldfastError], wait: float | None
) -> None:
    def answer(request: Request) -> Reply:
        return Reply(status, b"", headers)

    with scripted(answer) as server:
        for call in (lambda s: s.read(PACK), lambda s: s.size("config"), lambda s: list(s.list("snapshots"))):
            with pytest.raises(kind) as caught:
                call(rest(server.url))
            assert type(caught.value) is kind
            assert caught.value.hint
            assert caught.value.context["status"] == status
            assert caught.value.context.get("retry_after") == wait


def test_redirects_are_not_followed() -> None:
    with scripted(lambda request: Reply(200, DATA)) as elsewhere:
        location = f"{elsewhere.url}there?X-Secret=1"
        with scripted(lambda request: Reply(307, b"", {"Location": location})) as server:
            for call in (lambda s: s.read("config"), lambda s: s.write(PACK, DATA), lambda s: s.delete(LOCK)):
                with pytest.raises(Invalid, match="307") as caught:
                    call(rest(server.url, {"RESTIC_REST_USERNAME": USER, "RESTIC_REST_PASSWORD": "s3cret"}))
                assert elsewhere.url.rstrip("/") in caught.value.hint
                assert "Secret" not in told(caught.value)
        assert elsewhere.requests == []


def test_a_server_that_ignores_ranges() -> None:
    with scripted(lambda request: Reply(200, DATA)) as server:
        storage = rest(server.url)
        assert storage.read(PACK, 3, 4) == b"3456"
        assert storage.read(PACK, 7) == b"789"
        assert storage.read(PACK, 10) == b""
        buffer = bytearray(b"....")
        assert storage.read_into(PACK, buffer, 8) == 2
        assert buffer == b"89.."
        with pytest.raises(Corrupt):
            storage.read(PACK, 8, 4)


def test_a_server_that_answers_with_another_part() -> None:
    for told_range, body in [
        ("bytes 0-3/10", b"0123"),
        ("", b"3456"),
        ("bytes 3-4/10", b"34"),
        ("bytes 3-6/10", b"34"),
    ]:
        reply = Reply(206, body, {"Content-Range": told_range})
        with scripted(lambda request, reply=reply: reply) as server, pytest.raises(Unavailable):
            rest(server.url).read(PACK, 3, 4)


def test_a_range_behind_the_end() -> None:
    def answer(request: Request) -> Reply:
        return Reply(416 if request.method == "GET" else 200, b"" if request.method == "GET" else DATA)

    with scripted(answer) as server:
        storage = rest(server.url)
        assert storage.read(PACK, 10) == b""
        assert storage.read_into(PACK, bytearray(3), 99) == 0
        for offset, length in [(11, None), (10, 1)]:
            with pytest.raises(Corrupt):
                storage.read(PACK, offset, length)


def test_answers_that_break_off() -> None:
    with scripted(lambda request: Reply(200, DATA, promised=20)) as server, pytest.raises(Unavailable, match="broke"):
        rest(server.url).read(PACK)
    with scripted(lambda request: HANG_UP) as server:
        for call in (lambda s: s.read(PACK), lambda s: s.size(PACK), lambda s: s.delete(PACK), lambda s: s.prepare([])):
            with pytest.raises(Unavailable, match="broke off"):
                call(rest(server.url))


def test_listings_of_other_servers() -> None:
    other = HASH[::-1]
    bodies = {
        "data": f'["{HASH}", "{HASH}.rest-server-temp123", "x"]',
        "keys": f'[{{"name":"{HASH}","size":3}},{{"name":"{other}-tmp-1","size":9}}]',
        "locks": "null",
        "index": None,
        "snapshots": "[]",
    }

    def answer(request: Request) -> Reply:
        folder = request.path.strip("/")
        if request.method == "HEAD":
            return Reply(200, DATA)
        body = bodies[folder]
        return Reply(404) if body is None else Reply(200, body.encode())

    with scripted(answer) as server:
        found = {info.name: info.size for info in rest(server.url).list("")}
        assert found == {"config": 10, PACK: 10, KEY: 3}
        assert server.requests[1].headers["Accept"] == "application/vnd.x.restic.rest.v2"


@pytest.mark.parametrize("body", [b"<html>Welcome</html>", b"{}garbage", b'[{"name": 3}]', b'[{"size": 3}]', b"[3]"])
def test_what_is_no_rest_server(body: bytes) -> None:
    with scripted(lambda request: Reply(200, body)) as server:
        with pytest.raises(Unavailable, match="no list") as caught:
            list(rest(server.url).list("snapshots"))
        assert "REST server" in caught.value.hint


class Forgetful:
    """A server that keeps only the beginning of the first upload, and hangs up."""

    def __init__(self, *, may_delete: bool) -> None:
        self.files: dict[str, bytes] = {}
        self.may_delete = may_delete
        self.uploads = 0

    def __call__(self, request: Request) -> Reply:
        if request.method == "POST":
            self.uploads += 1
            self.files[request.path] = request.body[: 4 if self.uploads == 1 else None]
            return HANG_UP if self.uploads == 1 else Reply()
        if request.path not in self.files:
            return Reply(404)
        if request.method == "DELETE":
            if not self.may_delete:
                return Reply(403)
            del self.files[request.path]
            return Reply()
        return Reply(200, self.files[request.path])


def test_an_upload_that_broke_off_is_done_again() -> None:
    server = Forgetful(may_delete=True)
    with scripted(server) as running:
        storage = rest(running.url)
        with pytest.raises(Unavailable):
            storage.write(PACK, DATA)
        storage.write(PACK, DATA)
        assert storage.read(PACK) == DATA
        # What another writer left cut off is damage, which nobody silently repairs.
        server.files[f"/locks/{HASH}"] = b"half"
        with pytest.raises(Corrupt):
            storage.write(LOCK, DATA)


def test_the_rest_of_an_upload_that_may_not_be_deleted() -> None:
    with scripted(Forgetful(may_delete=False)) as running:
        storage = rest(running.url)
        for _ in range(2):
            with pytest.raises(Unavailable) as caught:
                storage.write(PACK, DATA)
        assert "append-only" in caught.value.hint


def test_a_server_that_loses_what_it_took() -> None:
    def answer(request: Request) -> Reply:
        return Reply(200 if request.method == "POST" else 404)

    with scripted(answer) as running:
        for name in (PACK, "config"):
            with pytest.raises(Unavailable, match="does not have what it took"):
                rest(running.url).write(name, DATA)


def test_names_that_a_rest_server_cannot_keep(rest_server: RestServer, tmp_path: Path) -> None:
    storage = rest(rest_server.location(tmp_path.name).removeprefix("rest:"), rest_server.environ)
    storage.prepare([])
    for name in ("notes", "keys/short", f"data/{HASH}", f"data/00/{HASH}", f"tmp/{HASH}", f"data/{HASH[:2]}/{HASH}0"):
        for call in (lambda n: storage.write(n, DATA), storage.read, storage.size, storage.delete):
            with pytest.raises(Invalid):
                call(name)
    with pytest.raises(Invalid):
        storage.prepare(["data", "tmp"])
