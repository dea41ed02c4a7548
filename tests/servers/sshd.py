"""A real OpenSSH server for tests: on loopback, as the current user, with keys, port and folder of its own."""

from __future__ import annotations

import os
import pwd
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.servers.listening import serving

HOST = "Holdfast-Test"
"""What the SSH configuration calls the server."""


@dataclass(frozen=True)
class SshServer:
    """A server; ``config`` is an SSH configuration in which :data:`HOST` is all one needs to know.

    ``keys`` holds ``host`` and ``user`` with their ``.pub``, and ``known_hosts``.
    """

    port: int
    folder: Path
    keys: Path
    config: Path

    @property
    def environ(self) -> dict[str, str]:
        """What our storage needs in its environment."""
        return {"HOLDFAST_SSH_CONFIG": str(self.config)}

    def location(self, name: str) -> str:
        """Where a vault of that name is, as a user writes it."""
        return f"sftp:{HOST}:{self.folder / name}"

    @property
    def for_restic(self) -> list[str]:
        """The options that restic needs to get there."""
        return ["-o", f"sftp.command=ssh -F {self.config} {HOST} -s sftp"]


@contextmanager
def ssh_serving(sshd: str, ssh_keygen: str, folder: Path, *, subsystem: str = "internal-sftp") -> Iterator[SshServer]:
    """Run a server until the end of the block; ``subsystem`` serves the files."""
    try:
        user = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        pytest.skip("sshd lets nobody in whose user id has no name here")
    keys, files = folder / "keys", folder / "files"
    for made in (keys, files):
        made.mkdir(exist_ok=True)
    for name in ("host", "user"):
        if not (keys / name).exists():
            subprocess.run([ssh_keygen, "-q", "-t", "ed25519", "-N", "", "-f", keys / name], check=True)
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # sshd ends at once without it
    settings = folder / "sshd_config"

    def command(port: int) -> list[str]:
        settings.write_text(
            "\n".join(
                [
                    f"Port {port}",
                    "ListenAddress 127.0.0.1",
                    f"HostKey {keys / 'host'}",
                    f"AuthorizedKeysFile {keys / 'user.pub'}",
                    "PasswordAuthentication no",
                    "KbdInteractiveAuthentication no",
                    "PermitRootLogin prohibit-password",
                    "StrictModes no",
                    "UsePAM no",
                    "PidFile none",
                    "MaxStartups 100",
                    f"Subsystem sftp {subsystem}",
                ]
            )
        )
        return [sshd, "-D", "-e", "-f", str(settings)]

    with serving(command, folder / "log") as port:
        known = " ".join((keys / "host.pub").read_text().split()[:2])
        (keys / "known_hosts").write_text(f"[127.0.0.1]:{port} {known}\n")
        config = folder / "ssh_config"
        config.write_text(
            f"Host {HOST}\n  HostName 127.0.0.1\n  Port {port}\n  User {user}\n"
            f"  IdentityFile {keys / 'user'}\n  IdentitiesOnly yes\n  UserKnownHostsFile {keys / 'known_hosts'}\n"
        )
        yield SshServer(port, files, keys, config)


@pytest.fixture(scope="session")
def sshd(need: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshServer]:
    """A server that lets one key in."""
    need("ssh")
    with ssh_serving(need("sshd"), need("ssh-keygen"), tmp_path_factory.mktemp("sshd")) as server:
        yield server


@pytest.fixture(scope="session")
def plain_sshd(need: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshServer]:
    """A server that can do what the protocol says, and nothing of what OpenSSH added to it."""
    without = "internal-sftp -P fsync,hardlink,posix-rename,statvfs,fstatvfs,limits"
    folder = tmp_path_factory.mktemp("plain")
    with ssh_serving(need("sshd"), need("ssh-keygen"), folder, subsystem=without) as server:
        yield server
