"""The implementations that every conformance suite runs against: static lists, so that none drops out unseen."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from holdfast.storage import LocalStorage, Storage, open_location
from holdfast.storage.memory import MemoryStorage


def _local(folder: Path) -> Storage:
    return LocalStorage(str(folder / "vault"))


def _local_odd_path(folder: Path) -> Storage:
    try:
        (folder / os.fsdecode(b"caf\xe9 \n")).mkdir()
    except OSError as error:
        pytest.skip(f"this file system refuses names that are not UTF-8: {error}")
    return LocalStorage(os.fsencode(folder) + b"/caf\xe9 \n/deep/er")


def _local_by_url(folder: Path) -> Storage:
    return open_location((folder / "vault").as_uri())


def _memory(_folder: Path) -> Storage:
    return MemoryStorage("conformance")


STORAGES: dict[str, Callable[[Path], Storage]] = {
    "local": _local,
    "local-odd-path": _local_odd_path,
    "local-by-url": _local_by_url,
    "memory": _memory,
}


@pytest.fixture(params=STORAGES.values(), ids=STORAGES.keys())
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Storage]:
    made: Storage = request.param(tmp_path)
    made.prepare(["data", "keys"])
    yield made
    made.close()
    made.close()
