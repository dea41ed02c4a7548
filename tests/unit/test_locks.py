"""Locks: who excludes whom, what is stale, renewal, and what restic makes of ours."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.archivekit import SECRET, new_vault, open_vault, save

from holdfast.kernel.errors import Locked
from holdfast.kernel.events import Event, Fact
from holdfast.repository import locks


def held(place: Path) -> list[str]:
    return sorted(entry.name for entry in (place / "locks").iterdir())


def test_shared_locks_get_along_and_an_exclusive_one_stands_alone(tmp_path: Path) -> None:
    place = tmp_path / "vault"
    first, second = new_vault(place).repository.locks, open_vault(place).repository.locks
    with first.hold(exclusive=False), second.hold(exclusive=False):
        assert len(held(place)) == 2
        with pytest.raises(Locked) as caught, first.hold(exclusive=True):
            pass
        assert len(held(place)) == 2
        assert str(os.getpid()) in caught.value.message
    with first.hold(exclusive=True), pytest.raises(Locked, match="exclusively"), second.hold(exclusive=False):
        pass
    assert held(place) == []


def test_a_lock_is_released_when_the_work_fails(tmp_path: Path) -> None:
    repository = new_vault(tmp_path / "vault").repository
    with pytest.raises(ValueError), repository.locks.hold(exclusive=False):
        raise ValueError
    assert held(tmp_path / "vault") == []


def test_only_dead_processes_of_this_host_lose_their_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "vault"
    repository = new_vault(place).repository
    child = os.fork()
    if child == 0:
        repository.locks._write(False)  # the child dies without giving it back
        os._exit(0)
    os.waitpid(child, 0)
    with repository.locks.hold(exclusive=False):
        assert len(held(place)) == 2
        assert [lock.info.pid for lock in repository.locks.remove_stale()] == [child]
        assert len(held(place)) == 1
    monkeypatch.setattr(os, "uname", lambda: os.uname_result(("", "elsewhere", "", "", "")))
    elsewhere = open_vault(place).repository.locks
    identifier = elsewhere._write(False)
    monkeypatch.undo()
    assert repository.locks.remove_stale() == []
    assert held(place) == [identifier.hex()]


def test_a_backup_removes_the_lock_of_one_that_was_killed(tmp_path: Path) -> None:
    place, source = tmp_path / "vault", tmp_path / "source"
    source.mkdir()
    (source / "file").write_text("x")
    vault = new_vault(place)
    child = os.fork()
    if child == 0:
        vault.repository.locks._write(True)
        os._exit(0)
    os.waitpid(child, 0)
    facts: list[Event] = []
    save(open_vault(place), source, emit=facts.append)
    assert held(place) == []
    assert [fact.data["pid"] for fact in facts if isinstance(fact, Fact) and fact.kind == "lock.removed"] == [child]


def test_renewal_writes_a_new_lock_before_it_deletes_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locks, "RENEW_SECONDS", 0.01)
    place = tmp_path / "vault"
    repository = new_vault(place).repository
    with repository.locks.hold(exclusive=False) as lock:
        first = lock.id
        lock.start_renewing()
        for _ in range(2000):
            if lock.id != first:
                break
            assert held(place)  # at no moment is there no lock at all
            os.sched_yield()
            locks.threading.Event().wait(0.002)
        assert lock.id != first
        lock.confirm()
    assert held(place) == []


def test_restic_respects_our_locks_and_we_respect_its(tmp_path: Path, need: Callable[[str], str]) -> None:
    restic = need("restic")
    place = tmp_path / "vault"
    source = tmp_path / "source"
    source.mkdir()
    (source / "file").write_text("x")
    vault = new_vault(place)
    save(vault, source)
    environment = {**os.environ, "RESTIC_PASSWORD": SECRET.reveal().decode()}

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        command = [restic, "-r", str(place), "--no-cache", *words]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    with vault.repository.locks.hold(exclusive=False):
        refused = run("prune")
        assert refused.returncode != 0
        assert f"PID {os.getpid()}" in refused.stderr
        assert run("snapshots").returncode == 0
    with vault.repository.locks.hold(exclusive=True):
        assert run("backup", str(source)).returncode != 0
    assert run("prune").returncode == 0
    assert held(place) == []
