"""Azure Blob Storage for tests: azurite, with an account of its own; it verifies signatures."""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import ssl
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
from tests.servers.listening import serving
from tests.servers.tunnel import make_certificate, tunnel

ACCOUNT = "testers"
CONTAINER = "vaults"
_VERSION = "2021-12-02"


@dataclass(frozen=True)
class Azurite:
    """A server with the account :data:`ACCOUNT` and the container :data:`CONTAINER`."""

    key: str
    way: dict[str, str]

    @property
    def environ(self) -> dict[str, str]:
        """What a user sets, in restic's words, and how the server is found."""
        return {"AZURE_ACCOUNT_NAME": ACCOUNT, "AZURE_ACCOUNT_KEY": self.key, **self.way}

    @property
    def wrong_environ(self) -> dict[str, str]:
        """The same with another key."""
        return self.environ | {"AZURE_ACCOUNT_KEY": base64.b64encode(b"x" * 64).decode()}

    @property
    def secrets(self) -> list[str]:
        """What no message may repeat."""
        return [self.key, self.wrong_environ["AZURE_ACCOUNT_KEY"]]

    def location(self, name: str) -> str:
        """Where a vault of that name is."""
        return f"azure:{CONTAINER}:/{name}"


@pytest.fixture(scope="session")
def azurite(tmp_path_factory: pytest.TempPathFactory, need: Callable[[str], str]) -> Iterator[Azurite]:
    """azurite, keeping everything in memory."""
    with _serving(need("azurite-blob"), tmp_path_factory.mktemp("azurite")) as (port, key):
        address = f"http://127.0.0.1:{port}"
        _make_container(f"{address}/{ACCOUNT}/{CONTAINER}", key, f"/{ACCOUNT}/{ACCOUNT}/{CONTAINER}")
        yield Azurite(key, {"AZURE_STORAGE_ENDPOINT": f"{address}/{ACCOUNT}", "NO_PROXY": "127.0.0.1"})


@pytest.fixture(scope="session")
def azurite_by_name(tmp_path_factory: pytest.TempPathFactory, need: Callable[[str], str]) -> Iterator[Azurite]:
    """azurite under the real one's name, over TLS: restic cannot be told another address."""
    folder = tmp_path_factory.mktemp("azurite")
    host = f"{ACCOUNT}.blob.core.windows.net"
    authority, certificate, key_file = make_certificate(folder, host)
    with (
        _serving(need("azurite-blob"), folder, "--cert", str(certificate), "--key", str(key_file)) as (port, key),
        tunnel(port) as proxy,
    ):
        trust = ssl.create_default_context(cafile=str(authority))
        opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({"https": proxy}), urllib.request.HTTPSHandler(context=trust)
        )
        _make_container(f"https://{host}/{CONTAINER}", key, f"/{ACCOUNT}/{CONTAINER}", opener.open)
        yield Azurite(key, {"HTTPS_PROXY": proxy, "SSL_CERT_FILE": str(authority)})


@contextmanager
def _serving(program: str, folder: Path, *words: str) -> Iterator[tuple[int, str]]:
    """azurite until the end of the block: its port, and the key of :data:`ACCOUNT`."""
    key = base64.b64encode(hashlib.sha512(b"a key for tests").digest()).decode()

    def command(port: int) -> list[str]:
        address = ["--blobHost", "127.0.0.1", "--blobPort", str(port), *words]
        return [program, *address, "--inMemoryPersistence", "--skipApiVersionCheck", "--disableTelemetry", "--silent"]

    with serving(command, folder / "log", {**os.environ, "AZURITE_ACCOUNTS": f"{ACCOUNT}:{key}"}) as port:
        yield port, key


def _make_container(
    url: str, key: str, resource: str, send: Callable[[urllib.request.Request], Any] = urllib.request.urlopen
) -> None:
    """Make a container by a request signed with the account's key ("Authorize with Shared Key")."""
    date = formatdate(usegmt=True)
    signed = "PUT" + "\n" * 12 + f"x-ms-date:{date}\nx-ms-version:{_VERSION}\n{resource}\nrestype:container"
    digest = hmac.digest(base64.b64decode(key), signed.encode(), hashlib.sha256)
    request = urllib.request.Request(
        f"{url}?restype=container",
        method="PUT",
        headers={
            "x-ms-date": date,
            "x-ms-version": _VERSION,
            "Content-Length": "0",
            "Authorization": f"SharedKey {ACCOUNT}:{base64.b64encode(digest).decode()}",
        },
    )
    send(request).read()
