"""Drills where something is wrong: damage, changed sources, no room, a kill, a stop; and nothing is left behind."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from tests.archivekit import new_vault, save

from holdfast.config import keyfile
from holdfast.files.scratch import sweep
from holdfast.kernel.cancel import Cancel
from holdfast.kernel.errors import Cancelled, NoSpace
from holdfast.kernel.events import Event, Fact
from holdfast.vaults.archive.browser import ArchiveBrowser
from holdfast.vaults.archive.vault import ArchiveVault
from holdfast.vaults.base import SnapshotInfo
from holdfast.vaults.drill.metadata import compare_metadata
from holdfast.vaults.drill.model import DrillOptions, Proof, Sample
from holdfast.vaults.drill.run import drill


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Files of some sizes, a link, an empty folder."""
    folder = tmp_path / "source"
    (folder / "inner" / "empty").mkdir(parents=True)
    for number in range(20):
        (folder / "inner" / f"file {number}").write_bytes(b"%d " % number * (1 << number // 2))
    (folder / "large").write_bytes(os.urandom(3 << 20))
    (folder / "nothing").write_bytes(b"")
    (folder / "link").symlink_to("large")
    return folder


def looking(vault: ArchiveVault) -> Any:
    @contextmanager
    def look(on_damage: Any) -> Iterator[ArchiveBrowser]:
        with vault.reading(on_damage=lambda _identifier, _error: None):
            yield ArchiveBrowser(vault.repository, on_damage)

    return look


def run(vault: ArchiveVault, root: Path, **changes: Any) -> tuple[Proof, list[Fact]]:
    """Drill the newest snapshot."""
    root.mkdir(0o700)
    facts: list[Fact] = []

    def emit(event: Event) -> None:
        if isinstance(event, Fact):
            facts.append(event)

    snapshot: SnapshotInfo = vault.snapshots()[-1]
    needs = changes.pop("needs", 0)
    cancel = changes.pop("cancel", Cancel())
    options = DrillOptions(
        **{"root": os.fsencode(root), "hosts": frozenset((snapshot.hostname,)), "workers": 0, **changes}
    )
    proof = drill(vault, looking(vault), snapshot, options, needs=lambda _listing: needs, emit=emit, cancel=cancel)
    return proof, facts


@pytest.mark.parametrize("workers", [0, 2])
def test_a_sound_vault_is_proven(tmp_path: Path, source: Path, workers: int) -> None:
    vault = new_vault(tmp_path / "vault")
    save(vault, source)
    proof, facts = run(vault, tmp_path / "root", workers=workers)
    proven = proof.restored.proven
    size = sum(path.stat().st_size for path in source.rglob("*") if path.is_file() and not path.is_symlink())
    assert not proof.damage and not proof.unproven and not facts
    assert (proven.files, proven.size) == (22, size)
    assert (proven.originals, proven.original_size, proven.changed) == (22, size, 0)


def test_a_file_that_changed_at_its_source_is_no_damage(tmp_path: Path, source: Path) -> None:
    vault = new_vault(tmp_path / "vault")
    save(vault, source)
    (source / "large").write_bytes(b"other")
    (source / "nothing").unlink()
    proof, _ = run(vault, tmp_path / "root")
    assert not proof.damage
    assert (proof.restored.proven.files, proof.restored.proven.originals, proof.restored.proven.changed) == (22, 20, 2)


def test_another_machine_has_nothing_to_compare_with(tmp_path: Path, source: Path) -> None:
    vault = new_vault(tmp_path / "vault")
    save(vault, source)
    proof, _ = run(vault, tmp_path / "root", hosts=frozenset(("elsewhere",)))
    assert not proof.damage and (proof.restored.proven.originals, proof.restored.proven.changed) == (0, 0)


def test_a_flipped_byte_in_the_vault_is_damage_that_names_the_files(tmp_path: Path, source: Path) -> None:
    vault = new_vault(tmp_path / "vault")
    save(vault, source)
    for pack in (tmp_path / "vault" / "data").rglob("*"):
        if pack.is_file() and pack.stat().st_size > 1 << 20:
            data = bytearray(pack.read_bytes())
            data[len(data) // 2] ^= 1
            pack.chmod(0o600)
            pack.write_bytes(data)
    proof, facts = run(vault, tmp_path / "root")
    (damage,) = proof.damage
    assert damage.kind == "drill.restore.damaged" and damage.files_total == 1
    assert damage.files[0].endswith("/source/large") and len(damage.snapshots) == 1
    (fact,) = facts
    assert (fact.kind, fact.level, fact.data["files_total"]) == ("damage.found", "error", 1)


def test_without_room_nothing_is_written_and_figures_are_told(tmp_path: Path, source: Path) -> None:
    vault = new_vault(tmp_path / "vault")
    save(vault, source)
    with pytest.raises(NoSpace) as refused:
        run(vault, tmp_path / "root", needs=1 << 60)
    assert refused.value.context["needed"] > 1 << 60 > refused.value.context["free"]
    assert "--sample" in refused.value.hint
    assert os.listdir(tmp_path / "root") == []


def test_a_sample_has_about_the_bytes_that_were_asked_for_and_what_is_named(tmp_path: Path, source: Path) -> None:
    vault = new_vault(tmp_path / "vault")
    save(vault, source)
    sample = Sample(size=2000)
    proof, _ = run(
        vault, tmp_path / "root", sample=sample, seed=b"1", named=lambda path: path.endswith(b"/large"), workers=2
    )
    restored = {path.name: path.stat().st_size for path in (tmp_path / "root").rglob("*") if path.is_file()}
    assert restored.pop("large") == 3 << 20
    assert restored and sum(restored.values()) <= 2000
    assert len(restored) + 1 == proof.restored.proven.files == 22 - proof.passed_over
    assert proof.files_total == 22 and not proof.damage
    least, _ = run(vault, tmp_path / "least", sample=Sample(percent=0.000001))
    assert least.restored.proven.files == 1


def test_a_drill_stops_when_it_is_asked_to(tmp_path: Path, source: Path) -> None:
    vault = new_vault(tmp_path / "vault")
    save(vault, source)
    cancel = Cancel()
    cancel.cancel()
    with pytest.raises(Cancelled):
        run(vault, tmp_path / "root", cancel=cancel)


# -- the whole command, killed -----------------------------------------------------------------------------------------

HOLD = "echo $$$$ > {place}/held; exec sleep 600"


@pytest.fixture
def held(tmp_path: Path, source: Path) -> Iterator[tuple[subprocess.Popen[bytes], dict[str, str], Path]]:
    """``holdfast drill`` in the middle of its commands."""
    home, scratch = tmp_path / "home", tmp_path / "scratch"
    (home / ".config/holdfast").mkdir(parents=True)
    (home / ".config/holdfast/holdfast.yaml").write_text(
        f"vaults: {{v: {{location: {tmp_path}/vault}}}}\n"
        f"plans: {{p: {{paths: [{source}],\n"
        f"  drill: {{scratch: {scratch}, commands: ['{HOLD.format(place=tmp_path)}']}}}}}}\n"
    )
    environ = {
        **os.environ,
        "HOME": str(home),
        "PYTHONPATH": os.pathsep.join(sys.path),
        "HOLDFAST_PASSWORD": keyfile.generate(bytes).decode(),
    }
    for name in [name for name in environ if name.startswith("XDG_")]:
        del environ[name]
    for words in (["init", "v"], ["backup", "p"]):
        subprocess.run([sys.executable, "-m", "holdfast", *words], env=environ, check=True, capture_output=True)
    child = subprocess.Popen(
        [sys.executable, "-m", "holdfast", "drill", "p"],
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    wait(lambda: (tmp_path / "held").exists() and (tmp_path / "held").read_text().endswith("\n"), child)
    command = int((tmp_path / "held").read_text())
    try:
        yield child, environ, scratch
    finally:
        for pid in (child.pid, command):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        child.communicate()


def wait(until: Callable[[], bool], child: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 120
    while not until():
        assert child.poll() is None or until(), child.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_what_a_killed_drill_left_is_removed_by_the_next(held: Any, tmp_path: Path) -> None:
    child, environ, scratch = held
    (left,) = os.listdir(scratch)
    assert (scratch / left).stat().st_mode & 0o777 == 0o700
    child.kill()
    child.wait()
    assert os.listdir(scratch) == [left]
    done = subprocess.run(
        [sys.executable, "-m", "holdfast", "drill", "--snapshot", "latest", "--scratch", str(scratch), "-v"],
        env=environ,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert os.listdir(scratch) == []
    assert left in done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_drill_that_is_asked_to_end_leaves_nothing(held: Any, number: int) -> None:
    child, _, scratch = held
    child.send_signal(number)
    _, said = child.communicate(timeout=120)
    assert child.returncode == 130, said
    assert os.listdir(scratch) == []
    assert b"Traceback" not in said


# -- servers of its own ------------------------------------------------------------------------------------------------

SERVER = """
import sys, time
from holdfast.kernel.cancel import Cancel
from holdfast.kernel.clock import SystemClock
from holdfast.sources.{module} import {function}
with {function}(sys.argv[1].encode(), 0, clock=SystemClock(), cancel=Cancel()) as server:
    print("up", flush=True)
    time.sleep(600)
"""


@pytest.mark.parametrize(
    ("module", "function", "pid_file", "program"),
    [
        ("postgresscratch", "scratch_postgres", "data/postmaster.pid", "initdb"),
        ("mariadbscratch", "scratch_mariadb", "pid", "mariadbd"),
    ],
)
def test_a_server_ends_with_a_killed_drill(
    tmp_path_factory: pytest.TempPathFactory,
    need: Callable[[str], str],
    module: str,
    function: str,
    pid_file: str,
    program: str,
) -> None:
    if not list(Path("/usr/lib/postgresql").glob("*/bin/initdb")) or program != "initdb":
        need(program)
    base = Path(tempfile.mkdtemp(prefix="holdfast-test-"))
    base.chmod(0o755)  # for the user whom a server of root's runs as
    child = subprocess.Popen(
        [sys.executable, "-c", SERVER.format(module=module, function=function), str(base)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "TMPDIR": str(base)},
        stdout=subprocess.PIPE,
    )
    try:
        assert child.stdout is not None and child.stdout.readline() == b"up\n"
        (found,) = [path for path in base.glob(f"*/{pid_file}") if path.exists()]
        server = int(found.read_text().split()[0])
        os.kill(server, 0)
        child.kill()
        child.wait()
        deadline = time.monotonic() + 120
        while runs(server):
            assert time.monotonic() < deadline, "the server outlives its drill"
            time.sleep(0.05)
        assert sweep(os.fsencode(base))
        assert not list(base.glob("holdfast-drill-*"))
    finally:
        child.kill()
        child.communicate()
        shutil.rmtree(base, ignore_errors=True)


def runs(pid: int) -> bool:
    """Whether the process is alive; one that nobody has waited for yet is not."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return Path("/proc/self").exists() is False
    return state not in "ZX"


def test_permissions_owners_and_times_are_compared(tmp_path: Path, source: Path) -> None:
    (source / "closed").mkdir(mode=0o500)
    (source / "sticky").mkdir()
    (source / "sticky").chmod(0o1777)
    (source / "old").write_text("old")
    (source / "old").chmod(0o644)
    os.utime(source / "old", ns=(1, 123_456_789))
    os.mkfifo(source / "pipe", 0o640)
    (source / "dangling").symlink_to("nowhere")
    vault = new_vault(tmp_path / "vault")
    save(vault, source)
    proof, facts = run(vault, tmp_path / "root")
    assert not proof.damage and not proof.unproven and not facts
    assert proof.metadata is not None and proof.metadata.all and proof.metadata.owners == (os.geteuid() == 0)
    assert proof.metadata.items > 27

    place = Path(f"{tmp_path}/root{source}")
    (place / "old").chmod(0o666)
    os.utime(place / "dangling", ns=(5, 5), follow_symlinks=False)
    (place / "pipe").unlink()
    (place / "sticky").rmdir()
    (place / "sticky").write_text("a file")
    snapshot = vault.snapshots()[-1]
    with looking(vault)(lambda *_: None) as browser:
        found = compare_metadata(
            browser, snapshot, os.fsencode(tmp_path / "root"), told=lambda path: path.endswith(b"/closed"), seed=b"1",
            cancel=Cancel(),
        )  # fmt: skip
        some = compare_metadata(
            browser, snapshot, os.fsencode(tmp_path / "root"), told=lambda _: False, seed=b"1", cancel=Cancel(), most=5
        )
    differing = {os.path.basename(path).decode(): how.partition(": ")[2] for path, how in found.differing}
    assert differing.pop("source") == "another time of change"  # of the folder, since the pipe is gone
    assert differing == {
        "old": "permissions 0666 instead of 0644",
        "dangling": "another time of change",
        "pipe": "No such file or directory",
        "sticky": "file instead of dir",
    }
    assert found.all and not some.all and some.items + len(some.differing) == 5


def test_a_snapshot_that_is_pruned_between_restore_and_comparison_is_no_damage(tmp_path: Path, source: Path) -> None:
    vault = new_vault(tmp_path / "vault")
    save(vault, source)
    opened = []

    @contextmanager
    def look(on_damage: Any) -> Iterator[ArchiveBrowser]:
        opened.append(1)
        if len(opened) == 2:
            for folder in ("snapshots", "data"):
                shutil.rmtree(tmp_path / "vault" / folder)
        with looking(vault)(on_damage) as browser:
            yield browser

    options = DrillOptions(root=os.fsencode(tmp_path / "root"), workers=0)
    (tmp_path / "root").mkdir()
    proof = drill(vault, look, vault.snapshots()[-1], options, needs=lambda _: 0, emit=lambda _: None, cancel=Cancel())
    assert not proof.damage and not proof.unproven and proof.metadata is None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_owners_are_compared_by_root(tmp_path: Path, source: Path) -> None:
    os.chown(source / "large", 1234, 4321)
    vault = new_vault(tmp_path / "vault")
    save(vault, source)
    proof, _ = run(vault, tmp_path / "root")
    assert not proof.unproven
    os.chown(f"{tmp_path}/root{source}/large", 0, 0)
    with looking(vault)(lambda *_: None) as browser:
        found = compare_metadata(
            browser,
            vault.snapshots()[-1],
            os.fsencode(tmp_path / "root"),
            told=lambda _: False,
            seed=b"",
            cancel=Cancel(),
        )
    assert [how for _, how in found.differing] == ["not as saved after the restore: owner 0:0 instead of 1234:4321"]
