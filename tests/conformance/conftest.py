"""The implementations that every conformance suite runs against: static lists, so that none drops out unseen."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from holdfast.kernel.clock import SystemClock
from holdfast.storage import LocalStorage, Manner, Storage, objects, open_location, rest, sftp
from holdfast.storage.apart import Apart
from holdfast.storage.cached import Cached
from holdfast.storage.copies import CopyFolder
from holdfast.storage.memory import MemoryStorage


def _local(folder: Path, _request: pytest.FixtureRequest) -> Storage:
    return LocalStorage(str(folder / "vault"))


def _local_odd_path(folder: Path, _request: pytest.FixtureRequest) -> Storage:
    try:
        (folder / os.fsdecode(b"caf\xe9 \n")).mkdir()
    except OSError as error:
        pytest.skip(f"this file system refuses names that are not UTF-8: {error}")
    return LocalStorage(os.fsencode(folder) + b"/caf\xe9 \n/deep/er")


def _local_by_url(folder: Path, _request: pytest.FixtureRequest) -> Storage:
    return open_location((folder / "vault").as_uri())


def _memory(_folder: Path, _request: pytest.FixtureRequest) -> Storage:
    return MemoryStorage("conformance")


def _apart(folder: Path, _request: pytest.FixtureRequest) -> Storage:
    return Apart(str(folder / "vault"), Manner(), LocalStorage(str(folder / "vault")))


def _cached(folder: Path, _request: pytest.FixtureRequest) -> Storage:
    """Everything is kept that may be; the tests of the decorator itself are in ``unit/test_cached.py``."""
    copies = CopyFolder(str(folder / "cache"), "here", limit=1 << 20, clock=SystemClock(), tell=pytest.fail)
    return Cached(LocalStorage(str(folder / "vault")), copies, ("data", "index", "keys", "snapshots"))


def _apart_rest(folder: Path, request: pytest.FixtureRequest) -> Storage:
    """All that a user of a remote place gets: a clerk, and in it patience and limits around the place."""
    server = request.getfixturevalue("rest_server")
    for name, value in server.environ.items():
        request.getfixturevalue("monkeypatch").setenv(name, value)
    return open_location(server.location(folder.name), Manner(connections=3, upload=1 << 30, download=1 << 30))


def _rest(folder: Path, request: pytest.FixtureRequest) -> Storage:
    server = request.getfixturevalue("rest_server")
    return rest.open_storage("rest", server.location(folder.name).removeprefix("rest:"), server.environ)


def _s3_moto(folder: Path, request: pytest.FixtureRequest) -> Storage:
    return _object_store(folder, request, request.getfixturevalue("moto"))


def _s3_minio(folder: Path, request: pytest.FixtureRequest) -> Storage:
    return _object_store(folder, request, request.getfixturevalue("minio"))


def _azure(folder: Path, request: pytest.FixtureRequest) -> Storage:
    return _object_store(folder, request, request.getfixturevalue("azurite"))


def _google(folder: Path, request: pytest.FixtureRequest) -> Storage:
    return _object_store(folder, request, request.getfixturevalue("gcs"))


def _object_store(folder: Path, request: pytest.FixtureRequest, server: Any) -> Storage:
    for name, value in server.environ.items():
        request.getfixturevalue("monkeypatch").setenv(name, value)
    scheme, _, rest = server.location(folder.name).partition(":")
    return objects.open_storage(scheme, rest)


def _sftp(folder: Path, request: pytest.FixtureRequest) -> Storage:
    server = request.getfixturevalue("sshd")
    return sftp.open_storage("sftp", server.location(folder.name).removeprefix("sftp:"), server.environ)


def _sftp_without_extensions(folder: Path, request: pytest.FixtureRequest) -> Storage:
    server = request.getfixturevalue("plain_sshd")
    return sftp.open_storage("sftp", server.location(folder.name).removeprefix("sftp:"), server.environ)


STORAGES: dict[str, Callable[[Path, pytest.FixtureRequest], Storage]] = {
    "local": _local,
    "local-odd-path": _local_odd_path,
    "local-by-url": _local_by_url,
    "memory": _memory,
    "apart": _apart,
    "apart-rest": _apart_rest,
    "cached": _cached,
    "rest": _rest,
    "sftp": _sftp,
    "sftp-without-extensions": _sftp_without_extensions,
    "s3-moto": _s3_moto,
    "s3-minio": _s3_minio,
    "azure": _azure,
    "gs": _google,
}


@pytest.fixture(params=STORAGES.values(), ids=STORAGES.keys())
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Storage]:
    made: Storage = request.param(tmp_path, request)
    made.prepare(["data", "keys"])
    yield made
    made.close()
    made.close()
