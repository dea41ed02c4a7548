"""Object stores that refuse, are missing, or do not keep the rules: the right error, with a hint, without secrets."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from tests.servers.listening import free_port
from tests.servers.oddstore import OddStore, odd_store, s3_error

from holdfast.kernel.errors import Corrupt, Denied, HoldfastError, Invalid, NoSpace, NotFound, Unavailable
from holdfast.storage import Storage, objects

HASH = "ab" + "0" * 62
SERVERS = ["moto", "minio", "azurite", "gcs"]


@pytest.fixture(params=SERVERS)
def server(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Each kind of server in turn, with its credentials set."""
    found: Any = request.getfixturevalue(request.param)
    set_all(monkeypatch, found.environ)
    return found


@pytest.fixture
def odd(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[OddStore]:
    """A store that a test makes misbehave."""
    with odd_store() as store:
        set_all(monkeypatch, clean_aws(tmp_path) | {"AWS_ACCESS_KEY_ID": "AKIAKEY", "AWS_SECRET_ACCESS_KEY": "hunter2"})
        yield store


def clean_aws(home: Path) -> dict[str, str]:
    return {
        "AWS_CONFIG_FILE": str(home / "config"),
        "AWS_SHARED_CREDENTIALS_FILE": str(home / "credentials"),
        "NO_PROXY": "127.0.0.1",
    }


def set_all(monkeypatch: pytest.MonkeyPatch, environ: dict[str, str]) -> None:
    for name in [name for name in os.environ if name.startswith(("AWS_", "AZURE_", "GOOGLE_", "STORAGE_EMULATOR"))]:
        monkeypatch.delenv(name)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)


def opened(location: str) -> Storage:
    return objects.open_storage(*location.split(":", 1))


def calls_of(storage: Storage) -> list[Callable[[], object]]:
    return [
        lambda: storage.prepare(["data"]),
        lambda: list(storage.list("")),
        lambda: storage.read("config"),
        lambda: storage.size("config"),
        lambda: storage.write("config", b"x"),
        lambda: storage.write(f"locks/{HASH}", b"x"),
        lambda: storage.delete("config"),
    ]


def test_wrong_credentials_are_denied_everywhere(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    set_all(monkeypatch, server.wrong_environ)
    storage = opened(server.location("vault"))
    for call in calls_of(storage):
        with pytest.raises(Denied) as caught:
            call()
        assert caught.value.hint.startswith("Check ")
        assert not any(value in repr(caught.value.args) + caught.value.hint for value in server.secrets)


def test_a_missing_bucket_is_named_with_what_makes_it(server: Any) -> None:
    storage = opened(server.location("vault").replace("vaults", "nobodys-vaults"))
    for call in (storage.prepare, lambda _: list(storage.list("")), lambda _: storage.read("config")):
        with pytest.raises(NotFound, match=r"there is no (bucket|container) nobodys-vaults") as caught:
            call(["data"])
        assert "Make the " in caught.value.hint
    with pytest.raises(NotFound):
        storage.write(f"data/ab/{HASH}", b"x")


def test_nobody_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    set_all(monkeypatch, clean_aws(tmp_path) | {"AWS_ACCESS_KEY_ID": "AKIAKEY", "AWS_SECRET_ACCESS_KEY": "hunter2"})
    for call in calls_of(opened(f"s3:http://127.0.0.1:{free_port()}/bucket")):
        with pytest.raises(Unavailable) as caught:
            call()
        assert "Nothing answers" in caught.value.hint


def test_of_several_makers_of_a_vault_one_wins(server: Any, tmp_path: Path) -> None:
    """Also on servers of which it is not known beforehand that they honour conditions."""
    storage = opened(server.location(f"race-{tmp_path.name}"))
    for turn in range(5):
        told: list[type[BaseException]] = []
        start = threading.Barrier(6)

        def make(number: int, turn: int = turn, start: Any = start, told: Any = told) -> None:
            start.wait()
            try:
                storage.write(f"keys/config{turn}", b"maker %d" % number)
            except BaseException as error:
                told.append(type(error))

        threads = [threading.Thread(target=make, args=(number,)) for number in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert told == [Invalid] * 5


def refuse(store: OddStore, status: int, body: bytes) -> None:
    store.answer = lambda method, url, headers: (status, {"Retry-After": "1"}, body)


@pytest.mark.parametrize(
    ("status", "code", "kind", "hint"),
    [
        (403, "RequestTimeTooSkewed", Denied, "clock"),
        (400, "ExpiredToken", Denied, "expired"),
        (403, "ExpiredToken", Denied, "expired"),
        (403, "InvalidAccessKeyId", Denied, "AWS_ACCESS_KEY_ID"),
        (403, "SignatureDoesNotMatch", Denied, "AWS_SECRET_ACCESS_KEY"),
        (403, "AccessDenied", Denied, "allowed"),
        (403, "InvalidObjectState", Denied, "cold storage"),
        (404, "NoSuchBucket", NotFound, "aws s3 mb"),
        (400, "RequestTimeout", Unavailable, ""),
        (429, "TooManyRequests", Unavailable, "slow down"),
        (503, "SlowDown", Unavailable, "slow down"),
        (500, "InternalError", Unavailable, "later"),
        (502, "", Unavailable, "later"),
        (409, "OperationAborted", Unavailable, ""),
        (507, "XMinioStorageFull", NoSpace, "full"),
        (400, "InvalidArgument", Invalid, ""),
    ],
)
def test_what_the_server_says_is_told_with_a_hint(
    odd: OddStore, status: int, code: str, kind: type[HoldfastError], hint: str
) -> None:
    leak = "<StringToSign>hunter2</StringToSign><Token-0>hunter2</Token-0>"
    refuse(odd, status, s3_error(code, "Words with X-Amz-Security-Token=hunter2 in them", leak))
    storage = opened(f"s3:http://127.0.0.1:{odd.port}/bucket/vault")
    for call in (
        lambda: storage.read("config"),
        lambda: storage.write(f"data/ab/{HASH}", b"x"),
        lambda: list(storage.list("")),
    ):
        with pytest.raises(kind) as caught:
            call()
        error = caught.value
        assert type(error) is kind
        assert hint in error.hint
        assert error.context["status"] == status
        shown = f"{error} {error.hint} {error.context} {error.__cause__!r} {error.__context__!r}"
        assert "hunter2" not in shown


@pytest.mark.parametrize("unknown", [False, True])
def test_a_server_without_conditions_overwrites_nothing(odd: OddStore, unknown: bool) -> None:
    """Such a server ignores ``If-None-Match``, or answers 501 to it."""
    if unknown:
        odd.answer = lambda method, url, headers: (
            (501, {}, s3_error("NotImplemented", "A header you provided implies functionality that is not implemented"))
            if "if-none-match" in headers else None
        )  # fmt: skip
    storage = opened(f"s3:http://127.0.0.1:{odd.port}/bucket/vault")
    storage.write(f"locks/{HASH}", b"lock")
    storage.write(f"data/ab/{HASH}", b"pack")
    storage.write(f"data/ab/{HASH}", b"PACK")
    assert odd.objects[f"/bucket/vault/data/ab/{HASH}"] == b"pack"
    with pytest.raises(Corrupt):
        storage.write(f"data/ab/{HASH}", b"longer")
    storage.write("config", b"mine")
    storage.write("config", b"mine")
    for rival in (b"yours", b"ours"):
        with pytest.raises(Invalid, match="other content"):
            storage.write("config", rival)
    assert odd.objects["/bucket/vault/config"] == b"mine"


def test_an_object_of_another_size_than_sent_is_no_success(odd: OddStore) -> None:
    storage = opened(f"s3:http://127.0.0.1:{odd.port}/bucket/vault")
    odd.answer = lambda method, url, headers: (200, {"ETag": '"x"'}, b"") if method == "PUT" else None
    with pytest.raises(Unavailable, match="no such object"):
        storage.write(f"data/ab/{HASH}", b"pack")
    odd.objects[f"/bucket/vault/data/cd/{HASH}"] = b"half"
    odd.answer = lambda method, url, headers: (
        (200, {"ETag": '"x"'}, b"") if method == "PUT"
        else (404, {}, b"") if ("HEAD", url) not in odd.requests[:-1] else None
    )  # fmt: skip
    with pytest.raises(Unavailable, match="4 bytes"):
        storage.write(f"data/cd/{HASH}", b"whole pack")


def test_a_big_file_is_taken_over_in_parts(server: Any, tmp_path: Path) -> None:
    storage = opened(server.location(f"big-{tmp_path.name}"))
    data = b"".join(bytes([number]) * (1 << 20) for number in range(40)) + b"end"
    name = f"data/ab/{sha256(data).hexdigest()}"
    for _ in range(2):  # the second time it is there already
        path = tmp_path / "pack"
        path.write_bytes(data)
        storage.adopt(str(path), name)
        assert not path.exists()
    assert storage.size(name) == len(data)
    assert sha256(storage.read(name)).hexdigest() == name[-64:]


def test_a_cut_upload_in_parts_leaves_no_parts(odd: OddStore, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    aborted = []

    def answer(method: str, url: str, headers: dict[str, str]) -> Any:
        if method == "POST" and "?uploads" in url:
            return 200, {}, b"<InitiateMultipartUploadResult><UploadId>seven</UploadId></InitiateMultipartUploadResult>"
        if method == "PUT" and "partNumber=2" in url:
            return 500, {}, s3_error("InternalError", "no")
        if method == "PUT" and "partNumber=" in url:  # a part is no object, whenever it arrives
            return 200, {"ETag": '"part"'}, b""
        if method == "DELETE":
            aborted.append(url)
        return None

    odd.answer = answer
    storage = opened(f"s3:http://127.0.0.1:{odd.port}/bucket/vault")
    data = bytes(40 << 20)
    name = f"data/ab/{sha256(data).hexdigest()}"
    path = tmp_path / "pack"
    path.write_bytes(data)
    for put in (lambda: storage.write(name, data), lambda: storage.adopt(str(path), name)):
        with pytest.raises(Unavailable):
            put()
        deadline = time.monotonic() + 30  # the client aborts in the background
        while not [url for url in aborted if "uploadId=seven" in url]:
            assert time.monotonic() < deadline, "the parts were not aborted"
            time.sleep(0.02)
        aborted.clear()
    assert path.exists()
    assert f"/bucket/vault/{name}" not in odd.objects


def test_keys_come_from_the_files_of_amazons_own_tools(
    moto: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "config").write_text(
        f"[profile work]\nregion = us-east-1\nendpoint_url = {moto.url}\ns3 =\n    addressing_style = path\n"
        f"[profile asks]\nendpoint_url = {moto.url}\n"
        f'credential_process = echo \'{{"Version": 1, "AccessKeyId": "{moto.key}", '
        f'"SecretAccessKey": "{moto.secret}"}}\'\n'
        f"[profile fails]\ncredential_process = false\n"
    )
    (tmp_path / "credentials").write_text(
        f"[work]\naws_access_key_id = {moto.key}\naws_secret_access_key = {moto.secret}\n"
        f"[default]\naws_access_key_id = {moto.key}\naws_secret_access_key = {moto.secret}\n"
    )
    for profile in ("work", "asks"):
        set_all(monkeypatch, clean_aws(tmp_path) | {"AWS_PROFILE": profile})
        storage = opened(f"s3://vaults/{profile}")
        storage.write(f"keys/{HASH}", b"key")
        assert [info.name for info in storage.list("")] == [f"keys/{HASH}"]
    set_all(monkeypatch, clean_aws(tmp_path))
    opened(moto.location("default")).prepare(["data"])
    set_all(monkeypatch, clean_aws(tmp_path) | {"AWS_ENDPOINT_URL": moto.url})
    opened("s3://vaults/default").prepare(["data"])
    for profile, kind in (("nobody", NotFound), ("fails", Denied)):
        set_all(monkeypatch, clean_aws(tmp_path) | {"AWS_PROFILE": profile})
        with pytest.raises(kind) as caught:
            opened(moto.location("other")).prepare(["data"])
        assert caught.value.hint


def test_a_login_that_ends_while_we_work_is_told(
    odd: OddStore, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    program = tmp_path / "login"
    program.write_text(
        f"#!/bin/sh\n[ -e {tmp_path}/over ] && exit 1\ntouch {tmp_path}/over\n"
        """echo '{"AccessKeyId": "KEY", "SecretAccessKey": "hunter2", "Expiration": "2026-01-01T00:00:00Z"}'\n"""
    )
    program.chmod(0o700)
    (tmp_path / "config").write_text(f"[default]\ncredential_process = {program}\n")
    set_all(monkeypatch, clean_aws(tmp_path))
    with pytest.raises(Denied, match="credential_process of the AWS profile gave no keys") as caught:
        opened(f"s3:http://127.0.0.1:{odd.port}/bucket/vault").read("config")
    assert "Log in again" in caught.value.hint


def test_the_bucket_may_go_in_front_of_the_hosts_name(odd: OddStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{odd.port}")
    monkeypatch.setenv("AWS_VIRTUAL_HOSTED_STYLE_REQUEST", "true")
    opened("s3:http://s3.example.org:8000/bucket/vault").write(f"keys/{HASH}", b"key")
    assert odd.objects == {f"/vault/keys/{HASH}": b"key"}
    assert {url.partition("/vault")[0] for _, url in odd.requests} == {"http://bucket.s3.example.org:8000"}
    monkeypatch.setenv("AWS_VIRTUAL_HOSTED_STYLE_REQUEST", "false")
    assert opened("s3:http://s3.example.org:8000/vault").read(f"keys/{HASH}") == b"key"


def test_a_server_with_a_certificate_of_an_unknown_authority_is_not_trusted(
    gcs_by_name: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_all(monkeypatch, gcs_by_name.environ)
    list(opened(gcs_by_name.location("vault")).list(""))
    monkeypatch.delenv("SSL_CERT_FILE")
    with pytest.raises(Denied, match="certificate is not trusted") as caught:
        list(opened(gcs_by_name.location("vault")).list(""))
    assert "SSL_CERT_FILE" in caught.value.hint
    monkeypatch.setenv("RESTIC_CACERT", gcs_by_name.environ["SSL_CERT_FILE"])
    list(opened(gcs_by_name.location("vault")).list(""))


def test_without_any_credentials_it_says_so(odd: OddStore, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    set_all(monkeypatch, clean_aws(tmp_path) | {"AWS_METADATA_ENDPOINT": f"http://127.0.0.1:{odd.port}"})
    for call in calls_of(opened(f"s3:http://127.0.0.1:{odd.port}/bucket/vault")):
        with pytest.raises(Denied, match="there are no credentials") as caught:
            call()
        assert "AWS_ACCESS_KEY_ID" in caught.value.hint


def test_what_others_left_in_the_bucket(moto: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Folders that a web console made are no files; a name that cannot be listed is told, and whose it is."""
    set_all(monkeypatch, moto.environ)
    prefix = f"others-{tmp_path.name}"
    storage = opened(moto.location(prefix))
    storage.write(f"keys/{HASH}", b"")
    for name in ("", "data/", "data/ab/", "hf-tmp-1", "a\\b"):
        moto.client().put_object(Bucket="vaults", Key=f"{prefix}/{name}", Body=b"")
    for folder, expected in (("", [f"keys/{HASH}"]), ("data", []), ("keys", [f"keys/{HASH}"])):
        assert [info.name for info in storage.list(folder)] == expected
    moto.client().put_object(Bucket="vaults", Key=f"{prefix}/data//x", Body=b"x")
    with pytest.raises(Invalid, match="data//x") as caught:
        list(storage.list(""))
    assert "remove it" in caught.value.hint
