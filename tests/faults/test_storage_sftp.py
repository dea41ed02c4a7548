"""What an SFTP storage says and does when the server is not trusted, refuses, goes away, or was left untidy."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import pwd
import select
import socket
import stat
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import asyncssh
import pytest
from tests.servers.listening import free_port
from tests.servers.sshd import HOST, SshServer

from holdfast.kernel.errors import Corrupt, Denied, HoldfastError, Invalid, NoSpace, NotFound, Unavailable
from holdfast.storage import Storage
from holdfast.storage.sftp import open_storage
from holdfast.storage.sftp.place import Place
from holdfast.storage.sftp.session import Session, _Trust

DATA = b"0123456789"
HASH = hashlib.sha256(DATA).hexdigest()
PACK = f"data/{HASH[:2]}/{HASH}"
LOCK = f"locks/{HASH}"


@pytest.fixture
def opened() -> Iterator[Callable[..., Storage]]:
    """``opened(server, name)``: a storage there, closed at the end. ``changes`` are lines for the SSH configuration."""
    with contextlib.ExitStack() as stack:

        def open_it(server: SshServer, name: str, config: Path | None = None) -> Storage:
            environ = {"HOLDFAST_SSH_CONFIG": str(config or server.config)}
            storage = open_storage("sftp", server.location(name).removeprefix("sftp:"), environ)
            stack.callback(storage.close)
            return storage

        yield open_it


def told(error: HoldfastError) -> str:
    return f"{error.message} {error.hint} {error.context}"


def changed(server: SshServer, path: Path, **lines: object) -> Path:
    """The server's SSH configuration with other values, at ``path``."""
    text = server.config.read_text().splitlines()
    kept = [line for line in text if line.split()[0] not in lines]
    path.write_text("\n".join([*kept, *(f"  {name} {value}" for name, value in lines.items())]) + "\n")
    return path


@pytest.mark.parametrize(
    ("text", "location"),
    [
        ("me@host:/srv/x/", "sftp:me@host:/srv/x"),
        ("host:backups", "sftp:host:backups"),
        ("me@[::1]:/srv", "sftp:me@[::1]:/srv"),
        ("me@corp@host:/srv", "sftp:me@corp@host:/srv"),
        ("host:/a:b@c/d", "sftp:host:/a:b@c/d"),
        ("host:/", "sftp:host:/"),
        ("//me@host:2222//srv/x", "sftp://me@host:2222//srv/x"),
        ("//host/backups", "sftp:host:backups"),
        ("//Host//srv/a%20b", "sftp:Host:/srv/a b"),
        ("//me@[::1]:22//srv", "sftp://me@[::1]:22//srv"),
    ],
)
def test_locations_as_restic_writes_them(text: str, location: str) -> None:
    assert open_storage("sftp", text).location == location
    assert open_storage("sftp", location.removeprefix("sftp:")).location == location


@pytest.mark.parametrize(
    "text",
    [
        "me:S3CRET@host:/srv",
        "me:S3CRET@host:srv",
        "//me:S3CRET@host//srv",
        "host",
        "/srv/S3CRET",
        "",
        "host:",
        "//host",
        "//host:port//S3CRET",
        "host:~/S3CRET",
        "@host:/S3CRET",
        "-oProxyCommand=S3CRET:/x",
        "//host//x?S3CRET",
        "ho st:/S3CRET",
    ],
)
def test_locations_that_are_refused_are_not_repeated(text: str) -> None:
    with pytest.raises(Invalid) as caught:
        open_storage("sftp", text)
    assert "S3CRET" not in told(caught.value)
    assert caught.value.hint


def test_a_relative_path_begins_at_home(sshd: SshServer, tmp_path: Path) -> None:
    home = pwd.getpwuid(os.getuid()).pw_dir
    if not os.path.isdir(home):
        pytest.skip("this user has no home folder")
    away = os.path.relpath(sshd.folder / tmp_path.name, home)
    storage = open_storage("sftp", f"{HOST}:{away}", sshd.environ)
    storage.prepare([])
    storage.write(PACK, DATA)
    assert (sshd.folder / tmp_path.name / PACK).read_bytes() == DATA
    storage.close()


def test_a_host_that_nobody_confirmed_is_refused(
    sshd: SshServer, tmp_path: Path, opened: Callable[..., Storage]
) -> None:
    empty = tmp_path / "empty"
    empty.touch()
    for number, hosts in enumerate([tmp_path / "missing", empty, "none"]):
        config = changed(sshd, tmp_path / f"config{number}", UserKnownHostsFile=hosts)
        with pytest.raises(Denied, match="not known") as caught:
            opened(sshd, "x", config).size("config")
        assert f"ssh -p {sshd.port} 127.0.0.1" in caught.value.hint


def test_a_host_whose_key_has_changed_is_refused_loudly(
    sshd: SshServer, tmp_path: Path, opened: Callable[..., Storage], need: Callable[[str], str]
) -> None:
    for kind in ("ed25519", "ecdsa"):
        subprocess.run([need("ssh-keygen"), "-q", "-t", kind, "-N", "", "-f", tmp_path / kind], check=True)
        other = " ".join((tmp_path / f"{kind}.pub").read_text().split()[:2])
        (tmp_path / "hosts").write_text(f"[127.0.0.1]:{sshd.port} {other}\n")
        config = changed(sshd, tmp_path / f"config-{kind}", UserKnownHostsFile=tmp_path / "hosts")
        with pytest.raises(Denied, match="HAS CHANGED") as caught:
            opened(sshd, "x", config).write(PACK, DATA)
        assert f"ssh-keygen -R '[127.0.0.1]:{sshd.port}'" in caught.value.hint


@pytest.mark.parametrize(
    ("lost", "questions", "other"), [((0,), 3, False), ((0, 2), 5, False), ((0, 2, 4), 6, True), ((0, 1), 2, False)]
)
def test_a_connection_lost_while_keys_are_asked_for_is_no_changed_key(
    lost: tuple[int, ...], questions: int, other: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[object] = []

    async def key(**given: object) -> object:
        asked.append(given.get("server_host_key_algs"))
        if len(asked) - 1 in lost:
            raise asyncssh.ConnectionLost("cut")
        return "a key"

    monkeypatch.setattr(asyncssh, "get_server_host_key", key)
    trust = _Trust(None)
    trust.is_known = True
    session = Session(Place("somewhere", b"/vault"), {"HOLDFAST_SSH_CONFIG": "none"})
    assert asyncio.run(session._has_other_keys(trust)) is other
    assert len(asked) == questions


def test_who_has_no_key_is_not_let_in(
    sshd: SshServer, tmp_path: Path, opened: Callable[..., Storage], need: Callable[[str], str]
) -> None:
    subprocess.run([need("ssh-keygen"), "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "other"], check=True)
    config = changed(sshd, tmp_path / "config", IdentityFile=tmp_path / "other")
    with pytest.raises(Denied, match="does not let us in") as caught:
        opened(sshd, "x", config).size("config")
    assert "IdentityFile" in caught.value.hint


def test_an_ssh_configuration_that_is_wrong(sshd: SshServer, tmp_path: Path, opened: Callable[..., Storage]) -> None:
    config = changed(sshd, tmp_path / "config", Port="many")
    with pytest.raises(Invalid, match="SSH configuration") as caught:
        opened(sshd, "x", config).size("config")
    assert "HOLDFAST_SSH_CONFIG" in caught.value.hint


def test_nobody_listens(sshd: SshServer, tmp_path: Path, opened: Callable[..., Storage]) -> None:
    config = changed(sshd, tmp_path / "config", Port=free_port())
    with pytest.raises(Unavailable, match="cannot reach") as caught:
        opened(sshd, "x", config).size("config")
    assert caught.value.hint


class Relay:
    """Passes connections on to a port until :meth:`cut` breaks them all; new ones work again at once."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self.connections = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        for pair in self._pairs:
            for end in pair:
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
        self._pairs.clear()

    def close(self) -> None:
        self._listener.close()
        self.cut()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                far = socket.create_connection(("127.0.0.1", self._target))
                self.connections += 1
                self._pairs.append((near, far))
                threading.Thread(target=self._pass_on, args=(near, far), daemon=True).start()

    @staticmethod
    def _pass_on(near: socket.socket, far: socket.socket) -> None:
        with near, far, contextlib.suppress(OSError):
            while True:
                for source in select.select([near, far], [], [])[0]:
                    data = source.recv(1 << 16)
                    if not data:
                        return
                    (far if source is near else near).sendall(data)


def test_a_lost_connection_is_told_and_made_again(
    sshd: SshServer, tmp_path: Path, opened: Callable[..., Storage]
) -> None:
    relay = Relay(sshd.port)
    known = " ".join((sshd.keys / "host.pub").read_text().split()[:2])
    (tmp_path / "hosts").write_text(f"[127.0.0.1]:{relay.port} {known}\n")
    config = changed(sshd, tmp_path / "config", Port=relay.port, UserKnownHostsFile=tmp_path / "hosts")
    storage = opened(sshd, tmp_path.name, config)
    storage.prepare(["data"])
    storage.write(PACK, DATA)
    relay.cut()
    try:
        assert storage.read(PACK) == DATA  # it was noticed before the call
    except Unavailable as error:
        assert error.hint
    assert storage.read(PACK) == DATA
    assert relay.connections == 2
    relay.close()
    with pytest.raises(Unavailable):
        for _ in range(2):
            storage.read(PACK)


def test_a_missing_place_is_not_an_empty_one(sshd: SshServer, tmp_path: Path, opened: Callable[..., Storage]) -> None:
    storage = opened(sshd, f"{tmp_path.name}/none")
    for call in (
        lambda: storage.size("config"),
        lambda: storage.write(PACK, DATA),
        lambda: storage.write("config", DATA),
        lambda: list(storage.list("snapshots")),
        lambda: storage.delete(LOCK),
    ):
        with pytest.raises(NotFound, match="no folder"):
            call()
    assert not (sshd.folder / tmp_path.name).exists()
    storage.prepare(["locks"])
    storage.write(LOCK, DATA)
    (sshd.folder / tmp_path.name).rename(sshd.folder / f"{tmp_path.name}-away")
    for call in (lambda: storage.size("config"), lambda: list(storage.list("")), lambda: storage.write(PACK, DATA)):
        with pytest.raises(Unavailable, match="disappeared"):
            call()


def test_files_are_private_unless_the_group_may_read_the_vault(
    sshd: SshServer, tmp_path: Path, opened: Callable[..., Storage]
) -> None:
    storage = opened(sshd, tmp_path.name)
    storage.prepare(["keys"])
    storage.write("config", DATA)
    storage.write(PACK, DATA)
    place = sshd.folder / tmp_path.name
    assert {stat.S_IMODE((place / name).stat().st_mode) for name in ("config", PACK)} == {0o400}
    assert {stat.S_IMODE((place / name).stat().st_mode) for name in (".", "keys", "data")} == {0o700}
    (place / "config").chmod(0o440)
    again = opened(sshd, tmp_path.name)
    again.write(LOCK, DATA)
    assert stat.S_IMODE((place / LOCK).stat().st_mode) == 0o440


def test_what_dead_writers_left_goes_after_a_day(
    sshd: SshServer, tmp_path: Path, opened: Callable[..., Storage]
) -> None:
    storage = opened(sshd, tmp_path.name)
    storage.prepare(["keys", "data/ab"])
    storage.write(PACK, DATA)
    place = sshd.folder / tmp_path.name
    old = [place / f"data/ab/{HASH}-tmp-0123456789abcdef", place / f"keys/{HASH}-tmp-123456"]
    young = place / f"{PACK}-tmp-fedcba9876543210"
    foreign = place / "data/ab/notes.txt"
    for path in (*old, young, foreign):
        path.write_bytes(b"half")
    for path in (*old, foreign):
        os.utime(path, (time.time() - 25 * 3600,) * 2)
    assert {info.name for info in storage.list("")} == {PACK, "data/ab/notes.txt"}
    storage.delete(LOCK)
    assert all(path.exists() for path in old)
    storage.delete(PACK)
    assert not any(path.exists() for path in old)
    assert young.exists() and foreign.exists()


def test_nothing_is_left_of_a_write_that_failed(
    sshd: SshServer, tmp_path: Path, opened: Callable[..., Storage]
) -> None:
    storage = opened(sshd, tmp_path.name)
    storage.prepare([])
    place = sshd.folder / tmp_path.name
    (place / PACK).mkdir(parents=True)  # no file can get this name
    with pytest.raises(HoldfastError):
        storage.write(PACK, DATA)
    (place / "snapshots").write_text("a file where a folder should be")
    with pytest.raises(HoldfastError):
        storage.write(f"snapshots/{HASH}", DATA)
    assert not list(place.rglob("*-tmp-*"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_place_that_may_not_be_written(sshd: SshServer, tmp_path: Path, opened: Callable[..., Storage]) -> None:
    storage = opened(sshd, tmp_path.name)
    storage.prepare(["keys"])
    (sshd.folder / tmp_path.name / "keys").chmod(0o500)
    with pytest.raises(Denied, match="denies"):
        storage.write(f"keys/{HASH}", DATA)


def test_a_file_that_was_cut_off(sshd: SshServer, tmp_path: Path, opened: Callable[..., Storage]) -> None:
    storage = opened(sshd, tmp_path.name)
    storage.prepare([])
    storage.write(PACK, DATA)
    path = sshd.folder / tmp_path.name / PACK
    path.chmod(0o600)
    path.write_bytes(DATA[:4])
    with pytest.raises(Corrupt):
        storage.read(PACK, 2, 5)
    with pytest.raises(Corrupt):
        storage.write(PACK, DATA)


def test_without_sftp_on_the_server(sshd: SshServer, tmp_path: Path, need: Callable[[str], str]) -> None:
    from tests.servers.sshd import ssh_serving

    folder = tmp_path / "server"
    folder.mkdir()
    with ssh_serving(need("sshd"), need("ssh-keygen"), folder, subsystem="/nonexistent/sftp-server") as server:
        storage = open_storage("sftp", server.location("x").removeprefix("sftp:"), server.environ)
        with pytest.raises((Denied, Unavailable)) as caught:
            storage.size("config")
        assert caught.value.hint
        storage.close()


def test_through_a_jump_host(sshd: SshServer, tmp_path: Path, opened: Callable[..., Storage]) -> None:
    inner = sshd.config.read_text().replace(f"Host {HOST}", "Host inner")
    jump = sshd.config.read_text().replace(f"Host {HOST}", "Host jump")
    config = tmp_path / "config"
    config.write_text(f"{inner}  ProxyJump jump\n{jump}")
    place = sshd.folder / tmp_path.name
    storage = open_storage("sftp", f"inner:{place}", {"HOLDFAST_SSH_CONFIG": str(config)})
    storage.prepare([])
    storage.write(PACK, DATA)
    assert (place / PACK).read_bytes() == DATA
    storage.close()


def test_a_key_with_a_passphrase_needs_the_agent(
    sshd: SshServer, tmp_path: Path, opened: Callable[..., Storage], need: Callable[[str], str]
) -> None:
    key = tmp_path / "locked"
    key.write_bytes((sshd.keys / "user").read_bytes())
    key.chmod(0o600)
    subprocess.run([need("ssh-keygen"), "-q", "-p", "-P", "", "-N", "s3cret", "-f", key], check=True)
    config = changed(sshd, tmp_path / "config", IdentityFile=key)
    with pytest.raises(HoldfastError) as caught:
        opened(sshd, "x", config).size("config")
    assert isinstance(caught.value, (Denied, Invalid)) and "agent" in caught.value.hint
    assert "s3cret" not in told(caught.value)


class OtherServer:
    """An SFTP server that is not OpenSSH, knows passwords only, and lists :attr:`folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = 0
        self.public = ""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._server = asyncio.run_coroutine_threadsafe(self._start(), self._loop).result(30)

    async def _start(self) -> asyncssh.SSHAcceptor:
        class Gate(asyncssh.SSHServer):
            def begin_auth(self, username: str) -> bool:
                return True

            def password_auth_supported(self) -> bool:
                return True

            def validate_password(self, username: str, password: str) -> bool:
                return (username, password) == ("me", "pässword")

        key = asyncssh.generate_private_key("ssh-ed25519")
        self.public = key.export_public_key().decode()
        root = os.fsencode(self.folder)
        server = await asyncssh.create_server(
            Gate,
            "127.0.0.1",
            0,
            server_host_keys=[key],
            sftp_factory=lambda channel: asyncssh.SFTPServer(channel, chroot=root),
        )
        self.port = server.sockets[0].getsockname()[1]
        return server

    def close(self) -> None:
        async def end() -> None:
            self._server.close()
            await self._server.wait_closed()

        asyncio.run_coroutine_threadsafe(end(), self._loop).result(30)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


def test_a_server_of_another_make_that_knows_passwords_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".ssh").mkdir()
    (tmp_path / "files").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    server = OtherServer(tmp_path / "files")
    (tmp_path / ".ssh" / "known_hosts").write_text(f"[127.0.0.1]:{server.port} {server.public}\n")
    text = f"//me@127.0.0.1:{server.port}//vault"
    for environ in ({}, {"HOLDFAST_SFTP_PASSWORD": "s3cret"}):
        refused = open_storage("sftp", text, environ)
        with pytest.raises(Denied, match="does not let us in") as caught:
            refused.size("config")
        assert "HOLDFAST_SFTP_PASSWORD" in caught.value.hint and "s3cret" not in told(caught.value)
        refused.close()
    storage = open_storage("sftp", text, {"HOLDFAST_SFTP_PASSWORD": "pässword"})
    storage.prepare(["data", "keys"])
    for name in ("config", PACK, LOCK):
        storage.write(name, DATA)
        storage.write(name, DATA)
        assert storage.read(name, 2, 5) == DATA[2:7]
    with pytest.raises(Invalid):
        storage.write("config", b"another")
    storage.replace("config", b"another")
    assert {info.name: info.size for info in storage.list("")} == {"config": 7, PACK: 10, LOCK: 10}
    storage.delete(LOCK)
    storage.delete(PACK)
    assert [info.name for info in storage.list("")] == ["config"]
    with pytest.raises(NotFound):
        storage.read(PACK)
    assert sorted(path.name for path in (tmp_path / "files" / "vault").iterdir()) == ["config", "data", "keys", "locks"]
    storage.close()
    server.close()


def test_many_calls_at_once_survive_a_lost_connection(
    sshd: SshServer, tmp_path: Path, opened: Callable[..., Storage]
) -> None:
    relay = Relay(sshd.port)
    known = " ".join((sshd.keys / "host.pub").read_text().split()[:2])
    (tmp_path / "hosts").write_text(f"[127.0.0.1]:{relay.port} {known}\n")
    config = changed(sshd, tmp_path / "config", Port=relay.port, UserKnownHostsFile=tmp_path / "hosts")
    storage = opened(sshd, tmp_path.name, config)
    storage.prepare(["data"])
    storage.write(PACK, DATA)
    failed: list[HoldfastError] = []
    wrong: list[object] = []

    def read() -> None:
        for _ in range(30):
            try:
                if storage.read(PACK) != DATA:
                    wrong.append("other bytes")
            except Unavailable as error:
                failed.append(error)
            except BaseException as error:
                wrong.append(error)

    threads = [threading.Thread(target=read) for _ in range(8)]
    for thread in threads:
        thread.start()
    for _ in range(3):
        time.sleep(0.1)
        relay.cut()
    for thread in threads:
        thread.join()
    assert wrong == []
    # Each cut breaks the calls that were under way; it must not break those over the connection that came after it.
    assert len(failed) <= 3 * 8 * 2
    assert relay.connections <= 1 + 3 * 2
    assert storage.read(PACK) == DATA
    relay.close()


def test_a_full_disk_on_the_server(sshd: SshServer, tmp_path: Path, opened: Callable[..., Storage]) -> None:
    place = sshd.folder / tmp_path.name
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "holdfast-test", str(place)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("a tmpfs cannot be mounted here")
    try:
        storage = opened(sshd, tmp_path.name)
        storage.prepare(["data"])
        with pytest.raises(NoSpace) as caught:
            storage.write(PACK, bytes(3 << 20))
        assert "prune" in caught.value.hint
        assert not list(place.rglob("*-tmp-*"))
        storage.write(PACK, DATA)
        assert storage.read(PACK) == DATA
        storage.close()
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)
