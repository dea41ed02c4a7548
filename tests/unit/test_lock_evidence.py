"""What is believed of a lock's process: proof only within one space of process numbers, never about another machine."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import pytest
from tests.archivekit import new_vault, open_vault

from holdfast.format.lock import LockInfo
from holdfast.kernel.cancel import Cancel
from holdfast.kernel.clock import SystemClock
from holdfast.kernel.errors import Cancelled, Corrupt, Locked
from holdfast.repository import lockowner
from holdfast.repository.lockowner import Origin, Standing, is_abandoned, is_stale, standing
from holdfast.repository.locks import HeldLock, Patience

DEAD = 4_194_305  # more than Linux ever gives
HERE = Origin("box", "machine", "boot", "space", 77)
FRESH, HALF_AN_HOUR = 60.0, 1801.0


def lock(**changes: object) -> LockInfo:
    made = LockInfo(
        time="2026-11-22T01:00:00Z", exclusive=True, hostname="box", username="ada", pid=DEAD,
        machine="machine", boot="boot", pid_space="space", pid_started=5,
    )  # fmt: skip
    return replace(made, **changes)


def of_restic(**changes: object) -> LockInfo:
    return lock(machine="", boot="", pid_space="", pid_started=0, **changes)


@pytest.mark.parametrize(
    ("info", "age", "known", "abandoned", "stale"),
    [
        # In our own space of process numbers there is proof.
        (lock(), FRESH, Standing.GONE, True, True),
        (lock(pid=os.getpid(), pid_started=0), HALF_AN_HOUR, Standing.RUNNING, False, False),
        # A container with our host name on our machine, or on another one: no proof, so only time tells.
        (lock(pid_space="other"), FRESH, Standing.CONTAINED, False, False),
        (lock(pid_space="other"), HALF_AN_HOUR, Standing.CONTAINED, True, True),
        (lock(machine="other", boot="other"), HALF_AN_HOUR, Standing.ELSEWHERE, False, True),
        (lock(machine="", boot="other", pid_space="other"), HALF_AN_HOUR, Standing.ELSEWHERE, False, True),
        # Before this machine was started anew; but a copy of it may be alive under the same name and id.
        (lock(boot="before", pid_space="before"), 700.0, Standing.EARLIER, False, True),
        (lock(boot="before", pid_space="before"), HALF_AN_HOUR, Standing.EARLIER, True, True),
        (lock(boot="other", pid_space="other"), FRESH, Standing.ELSEWHERE, False, False),
        # restic's locks tell nothing but name and number.
        (of_restic(), FRESH, Standing.ABSENT, False, True),
        (of_restic(), HALF_AN_HOUR, Standing.ABSENT, True, True),
        (of_restic(pid=os.getpid()), FRESH, Standing.NAMESAKE, False, False),
        (of_restic(pid=os.getpid()), HALF_AN_HOUR, Standing.NAMESAKE, False, True),
        (of_restic(hostname="elsewhere"), FRESH, Standing.ELSEWHERE, False, False),
        (of_restic(hostname="elsewhere"), HALF_AN_HOUR, Standing.ELSEWHERE, False, True),
        # From the future of a clock that was set back: never old enough.
        (of_restic(hostname="elsewhere"), -1e9, Standing.ELSEWHERE, False, False),
    ],
)  # fmt: skip
def test_what_is_known_and_what_follows(
    info: LockInfo, age: float, known: Standing, abandoned: bool, stale: bool
) -> None:
    found = standing(info, age, HERE, up_seconds=600.0)
    assert found is known
    assert is_abandoned(found, age) is abandoned
    assert is_stale(found, age) is stale


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells when a process began")
def test_a_number_that_was_given_to_another_process_is_no_life_sign() -> None:
    info = lock(pid=os.getpid(), pid_started=lockowner.process_started(os.getpid()) - 1)
    assert standing(info, FRESH, HERE, 600.0) is Standing.GONE


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells where a process is")
def test_a_child_is_in_the_same_place_but_began_at_another_time(tmp_path: Path) -> None:
    place = tmp_path / "vault"
    locks = new_vault(place).repository.locks
    with locks.hold(exclusive=False):
        mine = locks.held()[0]
    assert mine.info.pid_space
    assert mine.standing is Standing.RUNNING
    child = subprocess.run(
        [sys.executable, "-c", "from holdfast.repository.lockowner import origin; print(origin().pid_space)"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert child.stdout.strip() == mine.info.pid_space


IN_A_CONTAINER = textwrap.dedent(
    """
    import sys
    from tests.archivekit import open_vault
    from pathlib import Path
    locks = open_vault(Path(sys.argv[1])).repository.locks
    found = [lock.standing.name for lock in locks.held()]
    removed = len(locks.remove_stale())
    locks._write(True)  # and ends without giving it back
    print(*found, removed)
    """
)


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("unshare") is None, reason="needs root and unshare to contain")
def test_two_containers_with_one_host_name_leave_each_other_alone(tmp_path: Path) -> None:
    place = tmp_path / "vault"
    vault = new_vault(place)

    def contained(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["unshare", "--pid", "--fork", "--mount-proc", sys.executable, *words],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}, capture_output=True, text=True, check=False,
        )  # fmt: skip

    if contained("-c", "pass").returncode != 0:
        pytest.skip("this machine lets nobody make a container")
    with vault.repository.locks.hold(exclusive=False):
        done = contained("-c", IN_A_CONTAINER, str(place))
        assert done.stdout.split() == ["CONTAINED", "0"], done.stderr
    # Outside, nobody can see that the contained process is gone: half an hour has to tell.
    outside = open_vault(place).repository.locks
    (left,) = outside.held()
    assert left.standing is Standing.CONTAINED
    assert outside.remove_stale() == []
    assert HeldLock(left.id, left.info, HALF_AN_HOUR).is_abandoned


# -- taking a lock ----------------------------------------------------------------------------------------------------


class FastClock(SystemClock):
    """A clock on which waiting takes no time."""

    def __init__(self) -> None:
        self.slept = 0.0

    def monotonic(self) -> float:
        return self.slept

    def sleep(self, seconds: float) -> None:
        self.slept += seconds


def test_a_conflict_is_waited_for_with_growing_pauses(tmp_path: Path) -> None:
    place = tmp_path / "vault"
    holder = new_vault(place).repository.locks
    patient = open_vault(place).repository.locks
    clock = FastClock()
    patient._clock = clock
    told: list[float] = []
    with holder.hold(exclusive=True):
        patient.patience = Patience(200.0, on_wait=lambda error, seconds: told.append(seconds))
        with pytest.raises(Locked), patient.hold(exclusive=False):
            pass
    assert told == [5.0, 10.0, 20.0, 40.0, 60.0, 60.0, 5.0]
    assert clock.slept == pytest.approx(200.0)


def test_waiting_ends_when_the_other_has_finished(tmp_path: Path) -> None:
    place = tmp_path / "vault"
    holder = new_vault(place).repository.locks
    patient = open_vault(place).repository.locks
    patient._clock = FastClock()
    held = holder._write(True)
    patient.patience = Patience(60.0, on_wait=lambda error, seconds: holder.remove(held))
    with patient.hold(exclusive=True) as mine:
        assert [one.id for one in patient.held()] == [mine.id]


def test_waiting_can_be_cancelled(tmp_path: Path) -> None:
    place = tmp_path / "vault"
    holder = new_vault(place).repository.locks
    patient = open_vault(place).repository.locks
    patient._clock = FastClock()
    cancel = Cancel()
    patient.patience = Patience(3600.0, on_wait=lambda *_: cancel.cancel(), check=cancel.check)
    with holder.hold(exclusive=True), pytest.raises(Cancelled), patient.hold(exclusive=False):
        pass
    assert len(holder.held()) == 0


def test_taking_a_lock_clears_those_of_the_dead_away_and_tells(tmp_path: Path) -> None:
    place = tmp_path / "vault"
    locks = new_vault(place).repository.locks
    child = os.fork()
    if child == 0:
        locks._write(True)
        os._exit(0)
    os.waitpid(child, 0)
    with pytest.raises(Locked) as caught, locks.hold(exclusive=False):
        pass  # nobody is there to hear of a removal
    assert "unlock" in caught.value.hint
    told: list[HeldLock] = []
    locks.patience = Patience(on_removed=told.append)
    with locks.hold(exclusive=True):
        pass
    assert [one.info.pid for one in told] == [child]


def test_a_lock_that_cannot_be_read_keeps_everybody_out_until_it_is_removed(tmp_path: Path) -> None:
    place = tmp_path / "vault"
    locks = new_vault(place).repository.locks
    name = "ab" * 32
    (place / "locks" / name).write_bytes(b"not a lock")
    with pytest.raises(Corrupt) as caught, locks.hold(exclusive=False):
        pass
    assert "--all" in caught.value.hint
    damaged: list[bytes] = []
    assert locks.held(lambda identifier, _error: damaged.append(identifier)) == []
    assert damaged == [bytes.fromhex(name)]


def test_what_others_put_into_our_field_does_not_damage_a_lock() -> None:
    base = b'{"time":"2026-11-22T01:00:00Z","exclusive":false,"hostname":"h","username":"u","pid":1'
    for extra in (b"", b',"holdfast":3', b',"holdfast":{"machine":7,"pid_started":"x"}', b',"holdfast":null'):
        assert LockInfo.parse(base + extra + b"}").machine == ""
    ours = lock()
    assert LockInfo.parse(ours.encode()) == ours
    assert b"holdfast" not in of_restic().encode()
