"""Stock restic and we at the same vault on a REST and on an SFTP server, both ways."""

from __future__ import annotations

import os
import random
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import pytest
from tests.archivekit import files, on_disk, options
from tests.restickit import SECRET, bring_back, check
from tests.servers.restserver import PASSWORD, USER, RestServer
from tests.servers.sshd import SshServer

from holdfast.kernel.cancel import Cancel
from holdfast.kernel.events import ignore
from holdfast.repository import Repository
from holdfast.storage import Storage, open_location
from holdfast.vaults.archive import ArchiveVault
from holdfast.vaults.base import Outcome


@dataclass(frozen=True)
class Side:
    """The vault as restic reaches it."""

    program: str
    words: list[str]

    def __call__(self, *words: str) -> str:
        done = subprocess.run(
            [self.program, "--no-cache", *self.words, *words],
            capture_output=True, text=True, check=False,
            env={**os.environ, "RESTIC_PASSWORD": SECRET.reveal().decode(), "GOMAXPROCS": "2"},
        )  # fmt: skip
        assert done.returncode == 0, f"restic {' '.join(words)}: {done.stdout[-2000:]}{done.stderr[-2000:]}"
        return done.stdout


@pytest.fixture(params=["rest", "sftp"])
def both(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    need: Callable[[str], str],
) -> Iterator[tuple[Storage, Side]]:
    """A place on a server of the test's own: our storage, and restic."""
    program = need("restic")
    if request.param == "rest":
        server: RestServer | SshServer = request.getfixturevalue("rest_server")
        login = f"{quote(USER)}:{quote(PASSWORD)}@"
        place = server.location(tmp_path.name).replace("http://", f"http://{login}")
        side = Side(program, ["-r", place])
    else:
        server = request.getfixturevalue("sshd")
        side = Side(program, ["-r", server.location(tmp_path.name), *server.for_restic])
    for name, value in server.environ.items():
        monkeypatch.setenv(name, value)
    storage = open_location(server.location(tmp_path.name))
    yield storage, side
    storage.close()


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Files of all the sizes that matter to packs."""
    draw = random.Random(3)
    folder = tmp_path / "tree"
    (folder / "many").mkdir(parents=True)
    for number, size in enumerate((0, 1, 700_000, 3_000_000, 20_000_000)):
        (folder / f"file {number}").write_bytes(draw.randbytes(size))
    for number in range(200):
        (folder / "many" / f"{number}").write_bytes(b"%d" % number * number)
    return folder


def opened(storage: Storage) -> ArchiveVault:
    return ArchiveVault(Repository.open(storage, SECRET, username="tester"))


def test_restic_reads_what_we_wrote(both: tuple[Storage, Side], tree: Path, tmp_path: Path) -> None:
    storage, restic = both
    vault = ArchiveVault(Repository.init(storage, [SECRET], username="tester", hostname="here"))
    saved = vault.backup(options(tree, workers=2), emit=ignore, cancel=Cancel())
    assert saved.outcome is Outcome.OK
    assert "no errors were found" in restic("check", "--read-data")
    restic("restore", "latest", "--target", str(tmp_path / "back"))
    assert on_disk(tmp_path / "back" / tree.relative_to("/")) == on_disk(tree)
    assert list(storage.list("locks")) == []


def test_we_read_what_restic_wrote_and_go_on(both: tuple[Storage, Side], tree: Path, tmp_path: Path) -> None:
    storage, restic = both
    restic("init")
    restic("backup", "--host", "here", str(tree))
    vault = opened(storage)
    assert files(vault, tree) == on_disk(tree)
    report = check(vault)
    assert report.outcome is Outcome.OK and not report.damage
    bring_back(vault, tmp_path / "back")
    assert on_disk(tmp_path / "back" / tree.relative_to("/")) == on_disk(tree)

    (tree / "more").write_bytes(random.Random(4).randbytes(2_000_000))
    saved = opened(storage).backup(options(tree, workers=2), emit=ignore, cancel=Cancel())
    assert saved.files_new == 1 and saved.data_added < 3_000_000
    assert "no errors were found" in restic("check", "--read-data")
    assert len(restic("snapshots", "--json").split('"short_id"')) == 3
