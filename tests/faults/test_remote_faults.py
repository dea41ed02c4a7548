"""Remote vaults in bad weather: each command ends right, or with the right error, and restic finds a clean vault."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

import pytest
from tests.e2e.conftest import Cli, Done, contents
from tests.faults.proxy import Proxy, Weather


@dataclass(frozen=True)
class Remote:
    """A vault's place on a real server, straight (for restic) and through the proxy (for us)."""

    straight: str
    location: str
    environ: dict[str, str]
    proxy: Proxy
    restic: str
    key_file: Path

    def init(self, cli: Cli) -> None:
        """Make the vault, with a random key: it costs no stretching at every command."""
        done = self.run(cli, "init", "--new-key-file", self.key_file)
        assert done.code == 0, done

    def run(self, cli: Cli, *words: str | Path, **environ: str) -> Done:
        """One command on the vault."""
        return cli(*words, "--vault", self.location, **{**self.environ, **environ})

    def start(self, cli: Cli, *words: str | Path) -> subprocess.Popen[bytes]:
        """The same, not waited for."""
        command = [*cli.words, *map(os.fspath, words), "--vault", self.location]
        environ = {**cli.environ, **self.environ}
        return subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def assert_clean(self) -> None:
        """Restic, without the proxy, finds no error in the vault."""
        environ = {**os.environ, **self.environ}
        words = [self.restic, "--no-cache", "-r", self.straight, "check", "--read-data", "--no-lock"]
        done = subprocess.run(words, env=environ, capture_output=True, text=True, check=False, timeout=120)
        assert done.returncode == 0, done.stdout + done.stderr


@contextmanager
def through_proxy(server: Any, folder: Path, restic: str) -> Iterator[Remote]:
    address = server.url.rstrip("/")
    proxy = Proxy(int(address.rpartition(":")[2]))
    address = f"http://127.0.0.1:{proxy.port}" + ("/" if server.url.endswith("/") else "")
    straight, location = server.location(folder.name), replace(server, url=address).location(folder.name)
    if straight.startswith("rest:"):
        straight = str(server.folder / folder.name)
    key_file = folder / "key"
    environ = {**server.environ, "HOLDFAST_PASSWORD_FILE": str(key_file), "RESTIC_PASSWORD_FILE": str(key_file)}
    try:
        yield Remote(straight, location, environ, proxy, restic, key_file)
    finally:
        proxy.close()


@pytest.fixture(params=["rest_server", "moto"], ids=["rest", "s3"])
def remote(request: pytest.FixtureRequest, need: Callable[[str], str], tmp_path: Path) -> Iterator[Remote]:
    """A place without a vault, in fine weather, on each kind of server."""
    restic, server = need("restic"), request.getfixturevalue(request.param)
    with through_proxy(server, tmp_path, restic) as made:
        yield made


@pytest.fixture
def rest(rest_server: Any, need: Callable[[str], str], tmp_path: Path) -> Iterator[Remote]:
    """A place without a vault, in fine weather, on a REST server."""
    with through_proxy(rest_server, tmp_path, need("restic")) as made:
        yield made


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    """The command, with an empty home folder."""
    home = tmp_path / "home"
    home.mkdir()
    return Cli(home)


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """Some 6 MiB that do not compress, in files of all sizes."""
    folder, chance = tmp_path / "files", random.Random(5)
    for number in range(40):
        path = folder / f"{number % 7}" / f"{number}.bin"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(chance.randbytes(chance.choice((0, 100, 5_000, 300_000))))
    (folder / "big.bin").write_bytes(chance.randbytes(3_000_000))
    return folder


def await_words(stream: IO[bytes] | None, words: bytes) -> None:
    """Read lines until one holds ``words``."""
    assert stream is not None
    read = []
    while words not in (line := stream.readline()):
        read.append(line)
        assert line, (words, read)


WEATHERS: dict[str, Callable[[], Weather]] = {
    "latency of 200 ms": lambda: Weather(latency=0.2),
    "5 % resets": lambda: Weather(resets=0.05),
    "uploads cut in the middle": lambda: Weather(cuts=deque([1_000_000, 200_000, 2_500_000])),
    "throttled": lambda: Weather(rate=2e6),
    "429 and 503": lambda: Weather(answers=deque([(503, "1"), (429, None), (503, None), (500, None), (429, "1")])),
}


@pytest.mark.parametrize("weather", WEATHERS.values(), ids=WEATHERS.keys())
def test_backup_check_and_restore_get_through(
    cli: Cli, remote: Remote, files: Path, tmp_path: Path, weather: Callable[[], Weather]
) -> None:
    proxy, proxy.weather = remote.proxy, weather()  # type: ignore[misc]
    remote.init(cli)
    restoring = ["restore", "latest", "--target", tmp_path / "back"]
    for words in (["backup", files], ["check", "--read-data"], restoring):
        done = remote.run(cli, *words)
        assert done.code == 0, (words, done)
    (restored,) = (tmp_path / "back").rglob("files")
    assert contents(restored) == contents(files)
    assert proxy.resets_made > 0 or not weather().resets, "the weather was too good"
    assert not proxy.weather.answers and not proxy.weather.cuts
    remote.assert_clean()


def test_a_server_that_comes_back(cli: Cli, remote: Remote, files: Path) -> None:
    remote.init(cli)
    with remote.proxy.closed():
        running = remote.start(cli, "backup", files)
        await_words(running.stderr, b"waiting for the storage: ")
    out, err = running.communicate(timeout=300)
    assert running.returncode == 0, (out, err)
    assert b"waiting for the storage: " not in err, "once is enough"
    assert b"the storage answers again, after " in err
    remote.assert_clean()


def test_a_server_that_goes_away_in_the_middle_of_a_backup_and_comes_back(cli: Cli, rest: Remote, files: Path) -> None:
    rest.init(cli)
    rest.proxy.weather.rate = 1.5e6
    before = rest.proxy.requests
    running = rest.start(cli, "backup", "--json", files)
    while rest.proxy.requests < before + 8 and running.poll() is None:
        time.sleep(0.01)
    with rest.proxy.closed():
        await_words(running.stdout, b'{"event":"warning","message":"waiting for the storage: ')
    rest.proxy.weather.rate = None
    out, err = running.communicate(timeout=300)
    assert running.returncode == 0, (out, err)
    assert b'{"event":"warning","message":"the storage answers again, ' in out
    rest.assert_clean()


def test_a_server_that_stays_away(cli: Cli, remote: Remote, files: Path) -> None:
    remote.init(cli)
    with remote.proxy.closed():
        for words in (["backup", files], ["check"], ["snapshots"], ["restore", "latest", "--target", "there"]):
            began = time.monotonic()
            done = remote.run(cli, *words, "--retry-for", "2")
            assert done.code == 75, done
            assert "hint: " in done.err
            assert time.monotonic() - began < 300, "the usual patience would last for 900"
        done = remote.run(cli, "snapshots", "--json", "--retry-for", "0")
        assert done.code == 75 and done.events[-1]["code"] == "unavailable"
    assert remote.run(cli, "backup", files).code == 0
    remote.assert_clean()


def test_a_server_that_goes_away_for_good_in_the_middle_of_a_backup(cli: Cli, rest: Remote, files: Path) -> None:
    rest.init(cli)
    rest.proxy.weather.rate = 1e6
    before = rest.proxy.requests
    running = rest.start(cli, "backup", "--retry-for", "3s", files)
    while rest.proxy.requests < before + 8 and running.poll() is None:
        time.sleep(0.01)
    with rest.proxy.closed():
        out, err = running.communicate(timeout=300)
    assert running.returncode == 75, (out, err)
    assert b"tried" in err and b"hint: " in err
    rest.proxy.weather.rate = None
    assert rest.run(cli, "backup", files).code == 0
    rest.assert_clean()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_run_that_waits_for_its_storage_can_be_ended(
    cli: Cli, remote: Remote, files: Path, number: signal.Signals
) -> None:
    remote.init(cli)
    with remote.proxy.closed():
        running = remote.start(cli, "backup", files)
        await_words(running.stderr, b"waiting for the storage: ")
        running.send_signal(number)
        out, err = running.communicate(timeout=300)  # the patience would last for 900
        assert running.returncode == 130, (out, err)
        assert b"cancelled" in err and b"Traceback" not in err
    remote.assert_clean()


def test_a_run_killed_in_the_middle_of_an_upload(cli: Cli, remote: Remote, files: Path, tmp_path: Path) -> None:
    remote.init(cli)
    remote.proxy.weather.rate = 5e5
    before = remote.proxy.requests
    running = remote.start(cli, "backup", files)
    while remote.proxy.requests < before + 6 and running.poll() is None:
        time.sleep(0.01)
    time.sleep(2.0)
    running.kill()
    running.communicate()
    remote.proxy.weather.rate = None
    done = remote.run(cli, "backup", files)
    assert done.code == 0, done
    assert remote.run(cli, "check", "--read-data").code == 0
    remote.assert_clean()


def test_credentials_that_run_out_in_the_middle(cli: Cli, remote: Remote, files: Path) -> None:
    remote.init(cli)
    assert remote.run(cli, "backup", files).code == 0
    (files / "more.bin").write_bytes(random.Random(9).randbytes(2_000_000))
    calls = remote.proxy.requests
    assert remote.run(cli, "backup", "--dry-run", files, "--no-cache").code == 0
    first = remote.proxy.requests - calls
    expired: Weather = remote.proxy.weather
    begin = remote.proxy.begin

    def begin_with_an_end() -> Any:
        if remote.proxy.requests - calls > first + 6:
            expired.answers.append((403, None))
        return begin()

    remote.proxy.begin = begin_with_an_end  # type: ignore[method-assign]
    calls = remote.proxy.requests - first
    began = time.monotonic()
    done = remote.run(cli, "backup", files, "--no-cache")
    assert done.code == 12, done
    assert "hint: " in done.err and time.monotonic() - began < 300, "waiting would not help"
    remote.proxy.begin = begin  # type: ignore[method-assign]
    expired.answers.clear()
    remote.assert_clean()
    assert remote.run(cli, "backup", files).code == 0
    remote.assert_clean()


def test_wrong_credentials_are_told_at_once(cli: Cli, remote: Remote, files: Path) -> None:
    remote.init(cli)
    name = next(name for name in remote.environ if name.endswith(("SECRET_ACCESS_KEY", "REST_PASSWORD")))
    for words in (["backup", files], ["snapshots"], ["check"], ["init"]):
        done = remote.run(cli, *words, **{name: "wrong-hunter2"})
        assert done.code == 12, done
        assert "hint: " in done.err and "hunter2" not in done.err + done.out


@pytest.mark.parametrize("skew", ["-3h", "+3h"])
def test_a_clock_that_is_wrong(cli: Cli, rest: Remote, files: Path, need: Callable[[str], str], skew: str) -> None:
    rest.init(cli)
    cli.words = [need("faketime"), "-f", skew, *cli.words]
    for words in (["backup", files], ["backup", files], ["check", "--read-data"]):
        done = rest.run(cli, *words)
        assert done.code == 0, done
    rest.assert_clean()


def test_limits_given_on_the_command_line_are_kept(cli: Cli, rest: Remote, files: Path, tmp_path: Path) -> None:
    total = sum(path.stat().st_size for path in files.rglob("*.bin"))
    rest.init(cli)
    began = time.monotonic()
    assert rest.run(cli, "--limit-upload", "2048", "backup", files, "--connections", "2").code == 0
    assert time.monotonic() - began > 0.5 * total / (2048 << 10), "the last upload is not waited for"
    began = time.monotonic()
    done = rest.run(cli, "restore", "latest", "--target", tmp_path / "back", "--limit-download", "1536", "--no-cache")
    assert done.code == 0, done
    assert time.monotonic() - began > 0.8 * total / (1536 << 10)
    for wrong in (["--limit-upload", "0"], ["--connections", "0"], ["--retry-for", "soon"]):
        assert rest.run(cli, "snapshots", *wrong).code == 2
