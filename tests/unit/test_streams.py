"""Output of programs in snapshots: whole, or not at all."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.archivekit import files as all_files
from tests.archivekit import new_vault, nodes, save

from holdfast.kernel.cancel import Cancel
from holdfast.kernel.errors import Cancelled, HoldfastError, Invalid, Unavailable
from holdfast.kernel.events import ignore
from holdfast.sources.base import Stream, StreamEntry, as_name
from holdfast.sources.command import CommandSource
from holdfast.sources.postgres import read_url
from holdfast.vaults.archive import ArchiveVault
from holdfast.vaults.archive.backup.roots import Target
from holdfast.vaults.archive.backup.streams import refuse_taken_places
from holdfast.vaults.base import Outcome, RestoreOptions

PLACE = Path("/.holdfast/databases/command")


def files(vault: ArchiveVault, below: Path) -> dict[bytes, bytes]:
    """Only what is below that folder."""
    return {path: content for path, content in all_files(vault, below).items() if not path.startswith(b"/")}


def program(name: str, code: str, limit: float | None = None) -> CommandSource:
    """A Python program as a source."""
    return CommandSource(name, (sys.executable, "-c", code), limit)


@pytest.fixture
def vault(tmp_path: Path) -> ArchiveVault:
    return new_vault(tmp_path / "vault", tmp_path / "memo")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "data"
    place.mkdir()
    (place / "file").write_bytes(b"a file")
    return place


NUMBERS = "import sys\nfor number in range(700_000): sys.stdout.write(f'line {number}\\n')"


@pytest.mark.parametrize("workers", [0, 2])
def test_output_stands_beside_the_files(vault: ArchiveVault, folder: Path, workers: int) -> None:
    sources = (program("numbers", NUMBERS), program("none", "pass"))
    summary = save(vault, folder, sources=sources, workers=workers)
    assert (summary.outcome, summary.databases, summary.files_new) == (Outcome.OK, 2, 3)
    wanted = "".join(f"line {number}\n" for number in range(700_000)).encode()
    assert files(vault, PLACE) == {b"numbers": wanted, b"none": b""}
    assert files(vault, folder) == {b"file": b"a file"}
    _, snapshot = vault.repository.snapshots()[-1]
    assert list(snapshot.paths) == [os.fspath(folder), str(PLACE / "numbers"), str(PLACE / "none")]
    again = save(vault, folder, sources=sources, workers=workers)
    assert again.parent == summary.snapshot
    assert again.data_blobs == 0


def test_only_output(vault: ArchiveVault) -> None:
    assert save(vault, sources=(program("hello", "print('hello')"),)).outcome is Outcome.OK
    assert files(vault, PLACE) == {b"hello": b"hello\n"}
    assert [path for path, node in nodes(vault) if node.type == "dir"] == [
        b"/.holdfast",
        b"/.holdfast/databases",
        b"/.holdfast/databases/command",
    ]


@pytest.mark.parametrize(
    ("code", "told"),
    [
        (NUMBERS + "\nsys.exit('the disk is on fire')", "exit status 1: the disk is on fire"),
        ("import os, signal; print('x' * 9999, flush=True); os.kill(os.getpid(), signal.SIGKILL)", "SIGKILL"),
    ],
)
@pytest.mark.parametrize("workers", [0, 2])
def test_a_program_that_fails_leaves_nothing(
    vault: ArchiveVault, folder: Path, code: str, told: str, workers: int
) -> None:
    sources = (program("bad", code), program("good", "print('good')"))
    summary = save(vault, folder, sources=sources, workers=workers)
    assert summary.outcome is Outcome.PARTIAL
    assert [problem.path for problem in summary.problems] == [os.fsencode(PLACE / "bad")]
    assert told in summary.problems[0].message
    assert files(vault, PLACE) == {b"good": b"good\n"}
    assert files(vault, folder) == {b"file": b"a file"}


def test_where_all_fails_there_is_no_snapshot(vault: ArchiveVault) -> None:
    with pytest.raises(HoldfastError, match="exit status 3"):
        save(vault, sources=(program("bad", "import sys; print('much'); sys.exit(3)"),))
    assert vault.repository.snapshots() == []


def test_a_program_that_does_not_exist(vault: ArchiveVault, folder: Path) -> None:
    summary = save(vault, folder, sources=(CommandSource("x", ("no-such-program-anywhere",)),))
    assert "cannot be started" in summary.problems[0].message


def test_a_program_that_hangs_is_ended_with_all_it_started(vault: ArchiveVault, folder: Path, tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    code = (
        "import subprocess, sys\n"
        f"child = subprocess.Popen(['sleep', '1000']); open({str(pid)!r}, 'w').write(str(child.pid))\n"
        "print('begun', flush=True); child.wait()"
    )
    summary = save(vault, folder, sources=(program("slow", code, limit=1.0),))
    assert "longer than its limit of 1 s" in summary.problems[0].message
    child = int(pid.read_text())
    for _ in range(100):
        if not os.path.exists(f"/proc/{child}") or "Z" in Path(f"/proc/{child}/stat").read_text().split()[2]:
            break
        time.sleep(0.05)
    else:
        pytest.fail("what the program started still runs")


def test_cancelling_ends_the_program(vault: ArchiveVault) -> None:
    cancel = Cancel()

    @dataclass(frozen=True)
    class Pressing:
        inner: CommandSource

        @property
        def place(self) -> tuple[bytes, ...]:
            return self.inner.place

        def entries(self, cancel: Cancel) -> Sequence[StreamEntry]:
            return self.inner.entries(cancel)

        def open(self, entry: StreamEntry, cancel: Cancel) -> AbstractContextManager[Stream]:
            opened = self.inner.open(entry, cancel)
            cancel.cancel("enough")
            return opened

    with pytest.raises(Cancelled):
        save(vault, sources=(Pressing(program("slow", "import time; time.sleep(1000)")),), cancel=cancel)


def test_much_on_standard_error_does_not_stop_a_program(vault: ArchiveVault) -> None:
    code = "import sys\nfor _ in range(40_000): print('chatter', file=sys.stderr)\nprint('done')"
    save(vault, sources=(program("chatty", code),))
    assert files(vault, PLACE) == {b"chatty": b"done\n"}


def test_a_path_in_the_place_of_databases_is_refused() -> None:
    refuse_taken_places([Target((b"home",), b"/home")])
    with pytest.raises(Invalid, match="is their place"):
        refuse_taken_places([Target((b".holdfast", b"x"), b"/.holdfast/x")])


def test_relative_paths_are_kept_whole_beside_databases(
    vault: ArchiveVault, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / ".holdfast").mkdir()
    (folder / ".holdfast/own").write_bytes(b"the user's own")
    monkeypatch.chdir(folder)
    save(vault, b".", b".holdfast", sources=(program("a", "print(1)"),))
    assert files(vault, folder) == {b"file": b"a file", b".holdfast/own": b"the user's own"}
    assert files(vault, PLACE) == {b"a": b"1\n"}


def test_in_place_nothing_is_written_for_databases(vault: ArchiveVault, folder: Path) -> None:
    save(vault, folder, sources=(program("a", "print(1)"),))
    (folder / "file").unlink()
    snapshot = vault.snapshots()[-1]
    options = RestoreOptions(target=b"", in_place=True, workers=0)
    vault.restore(snapshot, options, emit=ignore, cancel=Cancel())
    assert (folder / "file").read_bytes() == b"a file"
    assert not PLACE.parent.exists()


def test_two_of_one_name_are_refused(vault: ArchiveVault) -> None:
    with pytest.raises(Invalid, match="both be saved as"):
        save(vault, sources=(program("a", "print(1)"), program("a", "print(2)")))


@pytest.mark.parametrize(
    ("text", "name"), [("app", b"app"), ("a/b", b"a%2Fb"), ("..", b"%2E%2E"), ("50%", b"50%25"), ("é", "é".encode())]
)
def test_names_are_safe_file_names(text: str, name: bytes) -> None:
    assert as_name(text) == name


def test_a_url_becomes_variables_only() -> None:
    server = read_url("postgresql://me%40here:s3cret@[::1]:5433/my%20app?sslmode=require&service=x")
    assert server.variables() | {"PGCONNECT_TIMEOUT": ""} == {
        "PGUSER": "me@here", "PGPASSWORD": "s3cret", "PGHOST": "::1", "PGPORT": "5433", "PGDATABASE": "my app",
        "PGSSLMODE": "require", "PGSERVICE": "x", "PGAPPNAME": "holdfast", "PGCONNECT_TIMEOUT": "",
    }  # fmt: skip
    assert "s3cret" not in repr(server)
    for wrong in ("mysql://x/y", "postgresql://h/d?nonsense=1", "app"):
        with pytest.raises(Invalid):
            read_url(wrong)


def test_a_limit_is_a_temporary_trouble() -> None:
    source = program("slow", "import time; time.sleep(100)", limit=0.3)
    with source.open(StreamEntry(source.place), Cancel()) as stream:
        assert os.read(stream.fd, 10) == b""
        with pytest.raises(Unavailable):
            stream.finish()
