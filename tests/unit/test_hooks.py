"""The commands around a backup: what they see, how they fail, and that none of them outlives its time."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from holdfast.app.hooks import run_before, run_hook, run_later
from holdfast.config.settings import HookCommand
from holdfast.kernel.cancel import Cancel
from holdfast.kernel.errors import Cancelled, HoldfastError
from holdfast.kernel.events import Event, Fact, ignore

ENVIRON = {"PATH": os.environ.get("PATH", os.defpath)}


def hook(run: str | tuple[str, ...], timeout: float = 30, *, optional: bool = False) -> HookCommand:
    return HookCommand(run, timeout, optional)


def test_a_hook_sees_its_environment_and_prints_to_standard_error(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "seen"
    run_before([hook(f'echo "$HOLDFAST_HOOK $WHO" | tee {file}')], {**ENVIRON, "WHO": "me"}, ignore, Cancel())
    assert file.read_text() == "before me\n"
    out, err = capfd.readouterr()
    assert (out, err) == ("", "before me\n")


def test_words_run_without_a_shell(capfd: pytest.CaptureFixture[str]) -> None:
    assert run_hook(hook(("echo", "$HOME;ls")), ENVIRON, None) == ""
    assert capfd.readouterr().err == "$HOME;ls\n"


def test_how_a_hook_fails() -> None:
    assert run_hook(hook("exit 3"), ENVIRON, None) == "failed with exit code 3"
    assert run_hook(hook("kill -9 $$"), ENVIRON, None) == "was killed by signal 9"
    assert (
        run_hook(hook(("/no/such/program", "secret")), ENVIRON, None)
        == "cannot run: program: No such file or directory"
    )


def test_a_hook_and_its_children_are_ended_after_their_time(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    why = run_hook(hook(f"sleep 600 & echo $! > {pid}; wait", 1.0), ENVIRON, None)
    assert why == "did not end within 1 s"
    child = int(pid.read_text())
    for _ in range(100):
        if not _runs(child):
            return
        time.sleep(0.05)
    pytest.fail("what the hook had started is still there")


def _runs(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def test_the_first_failure_before_ends_it_and_optional_ones_do_not(tmp_path: Path) -> None:
    told: list[Event] = []
    last = tmp_path / "last"
    with pytest.raises(HoldfastError, match="hook 2 before the backup failed with exit code 4; nothing was backed up"):
        run_before(
            [hook("exit 1", optional=True), hook("exit 4"), hook(f"touch {last}")], ENVIRON, told.append, Cancel()
        )
    assert not last.exists()
    (fact,) = told
    assert isinstance(fact, Fact) and (fact.kind, fact.level) == ("hook.failed", "warning")


def test_all_later_hooks_run_whatever_comes_of_them(tmp_path: Path) -> None:
    told: list[Event] = []
    last = tmp_path / "last"
    hooks = [hook("exit 1", optional=True), hook("exit 2"), hook(f"touch {last}")]
    assert run_later("after", hooks, ENVIRON, told.append) == 1
    assert last.exists()
    assert [fact.level for fact in told if isinstance(fact, Fact)] == ["warning", "error"]


def test_a_cancel_ends_the_hook() -> None:
    cancel = Cancel()
    cancel.cancel()
    with pytest.raises(Cancelled):
        run_before([hook("sleep 600")], ENVIRON, ignore, cancel)
    assert run_hook(hook("sleep 600"), ENVIRON, cancel) == "was ended, because the run was cancelled"
