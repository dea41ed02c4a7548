"""Real servers of restic's REST protocol for tests (``rclone serve restic``): plain, append-only, and over TLS."""

from __future__ import annotations

import datetime
import ipaddress
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from tests.servers.listening import serving

USER, PASSWORD = "tester", "p@ss:wörd"


@dataclass(frozen=True)
class RestServer:
    """A server that keeps everything beneath ``folder`` and wants :data:`USER` and :data:`PASSWORD`."""

    url: str
    folder: Path
    environ: dict[str, str] = field(default_factory=dict)

    def location(self, name: str) -> str:
        """Where a vault of that name is, as a user writes it."""
        return f"rest:{self.url}{name}/"


@contextmanager
def rest_serving(rclone: str, folder: Path, *words: str, certificate: Path | None = None) -> Iterator[RestServer]:
    """Serve ``folder/files`` until the end of the block."""
    files = folder / "files"
    files.mkdir(parents=True, exist_ok=True)
    tls = ["--cert", str(certificate), "--key", str(certificate)] if certificate else []
    environ = {**os.environ, "RCLONE_CONFIG": str(folder / "rclone.conf"), "RCLONE_CACHE_DIR": str(folder / "cache")}

    def command(port: int) -> list[str]:
        address = ["--addr", f"127.0.0.1:{port}", "--user", USER, "--pass", PASSWORD]
        return [rclone, "serve", "restic", *address, *tls, *words, str(files)]

    (folder / "rclone.conf").touch()
    with serving(command, folder / "log", environ) as port:
        login = {"HOLDFAST_REST_USERNAME": USER, "HOLDFAST_REST_PASSWORD": PASSWORD}
        scheme = "https" if certificate else "http"
        yield RestServer(f"{scheme}://127.0.0.1:{port}/", files, login)


@pytest.fixture(scope="session")
def rest_server(need: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[RestServer]:
    """A server that allows everything."""
    with rest_serving(need("rclone"), tmp_path_factory.mktemp("rest")) as server:
        yield server


@pytest.fixture(scope="session")
def append_only_server(
    need: Callable[[str], str], rest_server: RestServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RestServer]:
    """An append-only server for the same files as :func:`rest_server`."""
    folder = tmp_path_factory.mktemp("append")
    (folder / "files").symlink_to(rest_server.folder)
    with rest_serving(need("rclone"), folder, "--append-only") as server:
        yield server


def make_certificate(path: Path) -> None:
    """A key, and a certificate for 127.0.0.1 that it signed itself, into the PEM file ``path``."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "a server for tests")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
