"""Running a plan where the installed command cannot easily be brought: locks of others, a clock that jumped, a stop."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from holdfast.app.context import Context
from holdfast.app.init import init
from holdfast.app.plans import PlanRequest, VaultRun, run_plan
from holdfast.config import keyfile
from holdfast.config.locate import Configured
from holdfast.config.settings import NamedPlan
from holdfast.kernel.cancel import Cancel
from holdfast.kernel.clock import SystemClock
from holdfast.kernel.errors import Cancelled, Invalid
from holdfast.kernel.events import Event, Fact
from holdfast.vaults.base import Outcome

KEY = keyfile.generate(bytes).decode()
"""Unlike a password it opens a vault without half a second of derivation."""
DAY = 86_400_000_000_000


class Ahead(SystemClock):
    """A clock that is a day fast."""

    def now_ns(self) -> int:
        return time.time_ns() + DAY


class Desk:
    """A plan ``docs`` with the vaults ``one`` and ``two``, and what its runs told."""

    def __init__(self, folder: Path) -> None:
        (folder / "docs").mkdir()
        (folder / "docs/file").write_text("text")
        path = folder / "holdfast.yaml"
        path.write_text(
            "vaults:\n  one: {location: one}\n  two: {location: two}\n"
            f"plans:\n  docs:\n    paths: [docs]\n    to: [one, two]\n    keep: {{last: 1}}\n"
            f"    hooks: {{after: ['echo $HOLDFAST_OUTCOME > {folder}/after']}}\n"
        )
        self.events: list[Event] = []
        environ = {"HOME": str(folder), "HOLDFAST_PASSWORD": KEY, "PATH": "/usr/bin:/bin"}
        self.context = Context(
            emit=self.events.append,
            cancel=Cancel(),
            warn=lambda _words: None,
            configured=Configured(str(path), environ),
            environ=environ,
        )
        self.after = folder / "after"
        for name in ("one", "two"):
            init(self.at(name))

    def at(self, name: str) -> Context:
        return replace(self.context, vault=name)

    @property
    def plan(self) -> NamedPlan:
        return self.context.required().plan("docs")

    def run(self, told: Callable[[VaultRun], None] = lambda _run: None, **changes: object) -> list[VaultRun]:
        context = replace(self.context, **changes)  # type: ignore[arg-type]
        return list(run_plan(context, self.plan, PlanRequest(workers=0), told).vaults)

    def facts(self, kind: str) -> list[Fact]:
        return [event for event in self.events if isinstance(event, Fact) and event.kind == kind]

    def snapshots(self, name: str) -> int:
        with self.at(name).opened() as vault:
            return len(vault.snapshots())


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def test_a_vault_in_use_keeps_its_old_snapshots_until_the_next_run(desk: Desk) -> None:
    desk.run()
    with desk.at("one").opened() as other, other.repository.locks.hold(exclusive=False):
        runs = desk.run()
    assert [run.outcome for run in runs] == [Outcome.OK, Outcome.OK]
    assert runs[0].thinned is None and runs[1].thinned is not None
    (fact,) = desk.facts("plan.not_thinned")
    assert fact.level == "warning" and fact.data["vault"] == "one" and "next run" in fact.message
    assert (desk.snapshots("one"), desk.snapshots("two")) == (2, 1)
    desk.run()
    assert (desk.snapshots("one"), desk.snapshots("two")) == (1, 1)


def test_snapshots_of_the_future_are_no_reason_to_forget_others(desk: Desk) -> None:
    desk.run(clock=Ahead())
    runs = desk.run()
    assert [run.outcome for run in runs] == [Outcome.FAILED, Outcome.FAILED]
    assert all(run.result is not None and run.result.summary.snapshot is not None for run in runs)
    assert isinstance(runs[0].unthinned, Invalid)
    assert [fact.level for fact in desk.facts("plan.not_thinned")] == ["error", "error"]
    assert (desk.snapshots("one"), desk.snapshots("two")) == (2, 2)


def test_a_cancel_between_two_vaults_ends_the_run_after_its_hooks(desk: Desk) -> None:
    with pytest.raises(Cancelled):
        desk.run(lambda _run: desk.context.cancel.cancel("enough"))
    assert desk.after.read_text() == "cancelled\n"
    desk.context = replace(desk.context, cancel=Cancel())
    assert (desk.snapshots("one"), desk.snapshots("two")) == (1, 0)


def test_what_a_location_may_hide_is_not_in_the_name_of_a_vault(desk: Desk) -> None:
    request = PlanRequest(to=("rest:https://user:geheim@127.0.0.1:1/",), workers=0)
    context = replace(desk.context, retry_for=0.0)
    (run,) = run_plan(context, desk.plan, request, lambda _run: None).vaults
    assert run.error is not None and "geheim" not in run.vault and "geheim" not in str(run.error)
