"""The real restic and Holdfast on the same bucket: each checks, restores and continues what the other wrote."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.restickit import SECRET, Restic, bring_back, check, look, save

from holdfast.repository import Repository
from holdfast.storage import open_location
from holdfast.vaults.archive import ArchiveVault
from holdfast.vaults.base import Outcome

SERVERS = ["moto", "minio", "gcs_by_name", "azurite_by_name"]


@pytest.fixture(params=SERVERS)
def server(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Each kind of object store in turn, with its credentials set for both programs."""
    found: Any = request.getfixturevalue(request.param)
    use(monkeypatch, found.environ)
    return found


def use(monkeypatch: pytest.MonkeyPatch, environ: dict[str, str]) -> None:
    for name in [name for name in os.environ if name.startswith(("AWS_", "AZURE_", "GOOGLE_"))]:
        monkeypatch.delenv(name)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A folder that holds a tree ``src``, with more than fits into one pack."""
    folder = tmp_path / "source"
    (folder / "src" / "deep").mkdir(parents=True)
    (folder / "src" / "random").write_bytes(os.urandom(20 << 20))
    (folder / "src" / "deep" / "text").write_text("all work and no play\n" * 10_000)
    (folder / "src" / "link").symlink_to("deep/text")
    for number in range(50):
        (folder / "src" / f"small {number}").write_bytes(os.urandom(number))
    return folder


@contextmanager
def ours_at(location: str, *, make: bool = False) -> Iterator[ArchiveVault]:
    """The vault at ``location`` as we see it."""
    with closing(open_location(location)) as storage:
        if make:
            Repository.init(storage, [SECRET], username="tester", hostname=socket.gethostname())
        yield ArchiveVault(Repository.open(storage, SECRET, username="tester"))


def restic_at(need: Callable[[str], str], location: str) -> Restic:
    return Restic(need("restic"), location)  # type: ignore[arg-type]


def test_restic_reads_and_continues_what_we_wrote(
    server: Any, source: Path, tmp_path: Path, need: Callable[[str], str]
) -> None:
    location = server.location(f"ours-{tmp_path.name}/deep")
    restic = restic_at(need, location)
    with ours_at(location, make=True) as vault:
        assert save(vault, source, "src").outcome is Outcome.OK
    expected = look(source / "src")
    restic.run("check", "--read-data")
    restic.run("restore", "latest", "--target", str(tmp_path / "theirs"))
    assert look(tmp_path / "theirs" / "src") == expected
    assert restic.back_up(source, "src")["data_added"] < 1 << 20
    with ours_at(location) as vault:
        assert len(vault.snapshots()) == 2
        assert check(vault).outcome is Outcome.OK
        bring_back(vault, tmp_path / "back")
    assert look(tmp_path / "back" / "src") == expected


def test_we_read_and_continue_what_restic_wrote(
    server: Any, source: Path, tmp_path: Path, need: Callable[[str], str]
) -> None:
    location = server.location(f"theirs-{tmp_path.name}")
    restic = restic_at(need, location)
    restic.run("init", "--repository-version", "2")
    restic.back_up(source, "src")
    expected = look(source / "src")
    with ours_at(location) as vault:
        assert check(vault).outcome is Outcome.OK
        bring_back(vault, tmp_path / "back")
        assert look(tmp_path / "back" / "src") == expected
        (source / "src" / "new").write_bytes(os.urandom(100))
        assert save(vault, source, "src").outcome is Outcome.OK
    restic.run("check", "--read-data")
    restic.run("restore", "latest", "--target", str(tmp_path / "theirs"))
    assert look(tmp_path / "theirs" / "src") == look(source / "src")
