"""The installed command with a vault behind a server: what stays on this machine, and how to do without."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.e2e.conftest import Cli, contents
from tests.servers.restserver import RestServer


@pytest.fixture
def far(cli: Cli, rest_server: RestServer, tmp_path: Path, documents: Path) -> str:
    """A vault with one snapshot behind a REST server; its password is known by the environment."""
    cli.environ |= rest_server.environ | {"HOLDFAST_PASSWORD": "an orange lighthouse keeper"}
    location = rest_server.location(f"{tmp_path.name}/cache")
    cli.environ["HOLDFAST_VAULT"] = location
    assert cli("init", location).code == 0
    done = cli("backup", documents, "--no-default-excludes")
    assert done.code == 0, done.err
    return location


def copied(cli: Cli) -> list[str]:
    folder = cli.home / ".cache/holdfast/remote"
    return sorted(
        str(path.relative_to(folder)).split("/")[1]
        for path in folder.rglob("*")
        if len(path.name) == 64 and path.is_file()
    )


def test_a_backup_leaves_copies_and_later_commands_use_and_mend_them(cli: Cli, far: str, documents: Path) -> None:
    assert copied(cli) == ["data", "index", "keys", "snapshots"]
    for path in (cli.home / ".cache/holdfast/remote").rglob("*"):
        if path.is_file():
            path.write_bytes(path.read_bytes()[::-1])
    target = cli.home / "target"
    done = cli("restore", "latest", "--target", target)
    assert (done.code, done.err) == (0, "")
    assert contents(target / documents.relative_to("/")) == contents(documents)


def test_without_a_cache_nothing_of_the_vault_stays_here(cli: Cli, far: str) -> None:
    for path in sorted((cli.home / ".cache").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    assert cli("snapshots", "--no-cache").code == 0
    assert cli("ls", "latest", "--no-cache").code == 0
    assert not (cli.home / ".cache/holdfast/remote").exists()


def test_the_limit_is_kept(cli: Cli, far: str, tmp_path: Path) -> None:
    many = tmp_path / "many"
    for number in range(3000):
        folder = many / f"{number:04}" / f"a folder with a long name {number:0150}"
        folder.mkdir(parents=True)
    for _ in range(2):
        done = cli("backup", many, "--cache-limit", "1", "--force")
        assert done.code == 0, done.err
    size = sum(path.stat().st_size for path in (cli.home / ".cache/holdfast/remote").rglob("*") if path.is_file())
    assert size < 1_200_000
    assert cli("snapshots", "--cache-limit", "0").code == 2


def test_a_cache_that_cannot_be_written_is_told_of_and_breaks_nothing(cli: Cli, far: str, documents: Path) -> None:
    place = cli.home / "no cache"
    place.write_bytes(b"")
    done = cli("backup", documents, HOLDFAST_CACHE_DIR=str(place))
    assert done.code == 0
    assert done.err.count("cannot be written") == 1
    assert str(place) in done.err


def test_a_check_looks_at_the_vault_and_not_at_copies(
    cli: Cli, far: str, rest_server: RestServer, tmp_path: Path
) -> None:
    assert cli("check").code == 0
    vault = rest_server.folder / tmp_path.name / "cache"
    kept = {path.name for path in (cli.home / ".cache/holdfast/remote").rglob("data/*/*")}
    [tree] = [path for path in (vault / "data").rglob("*") if path.name in kept]
    damaged = bytearray(tree.read_bytes())
    damaged[40] ^= 1
    tree.chmod(0o600)
    tree.write_bytes(damaged)
    done = cli("check")
    assert done.code == 13, done.err
    assert tree.name[:8] in done.out + done.err
    assert cli("ls", "latest").code == 0
