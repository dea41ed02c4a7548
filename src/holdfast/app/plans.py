"""Use case: run a plan. Its hooks, its backup into each of its vaults, and forgetting what it no longer keeps."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from holdfast.app.backup import BackupRequest, BackupResult, check_request, one_scan, with_lines
from holdfast.app.context import Context, hostname
from holdfast.app.copy import CopyRequest
from holdfast.app.databases import make_sources
from holdfast.app.endings import of_plan
from holdfast.app.forget import ForgetOptions, Forgotten
from holdfast.app.hooks import run_before, run_later
from holdfast.app.kinds import Thin, of_kind
from holdfast.app.pings import switched
from holdfast.app.plain import folder_of
from holdfast.app.recording import recorded
from holdfast.kernel.errors import Cancelled, HoldfastError, Locked
from holdfast.kernel.events import Fact
from holdfast.kernel.values import dataclass
from holdfast.vaults.base import Outcome, SnapshotFilter

if TYPE_CHECKING:
    from holdfast.config.settings import NamedPlan


@dataclass(frozen=True, slots=True)
class PlanRequest:
    """What this run does beside or in place of what the plan says. ``to`` are vaults (names or locations) in place of
    the plan's; ``tags`` are added, ``note`` replaces the plan's. A dry run runs no hooks and forgets nothing."""

    to: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    note: str = ""
    force: bool = False
    allow_empty: bool = False
    dry_run: bool = False
    verbose: bool = False
    estimate: bool = False
    workers: int | None = None


@dataclass(frozen=True, slots=True)
class VaultRun:
    """What came of one vault: ``result``, or the ``error`` that kept it from one. ``thinned`` is what ``keep`` let go
    (None: it was not applied), ``unthinned`` why it could not be applied."""

    vault: str
    result: BackupResult | None = None
    error: Exception | None = None
    thinned: Forgotten | None = None
    unthinned: HoldfastError | None = None

    @property
    def outcome(self) -> Outcome:
        """The outcome of the backup, and of the forgetting after it."""
        if self.result is None or self.unthinned is not None:
            return Outcome.FAILED
        return self.result.summary.outcome


@dataclass(frozen=True, slots=True)
class PlanResult:
    """What came of a run: of each vault, the error that ended it before it came to them, and how many of the hooks
    after it failed."""

    plan: str
    vaults: tuple[VaultRun, ...]
    refused: HoldfastError | None
    hooks_failed: int
    seconds: float

    @property
    def outcome(self) -> Outcome:
        """``failed`` where anything failed that is not optional, else ``partial`` where items failed."""
        return Outcome.FAILED if self.hooks_failed else _outcome(self.vaults, self.refused)


def run_plan(context: Context, plan: NamedPlan, request: PlanRequest, told: Callable[[VaultRun], None]) -> PlanResult:
    """Run ``plan``; ``told`` hears of each vault as soon as it is done.

    The hooks ``before`` first: if one fails, nothing is saved. Then the backup into one vault after the other, with one
    reading of the directories for all and with the tag ``plan:NAME``; a vault that fails does not keep the others from
    theirs. Where a snapshot was saved and the plan says what to keep, what it does not keep of its own snapshots of
    this host is forgotten in that vault. The hooks ``after`` run whatever happened, those of ``on_failure`` where the
    outcome is ``failed``; then ``Cancelled`` is raised, if that is what happened. Raises ``NotFound`` before anything
    began where somebody who sits there named a vault that nothing knows.
    """
    context = replace(context, remembered={})
    if context.ask is not None:
        _refuse_unknown(context, plan, request.to)
    if request.dry_run:
        return _run(context, plan, request, told)
    with switched(context, plan.name) as switch, recorded(switch.context, "backup", plan=plan.name) as run:
        result = _run(run.context, plan, request, told)
        ending = of_plan(result)
        run.finish(ending.outcome, ending.message, **ending.data)
        switch.say(ending.outcome, ending.message)
        return result


def _refuse_unknown(context: Context, plan: NamedPlan, to: tuple[str, ...]) -> None:
    """A vault that neither the plan nor the configuration names, and that is not there, was mistyped: that is no
    failure of the plan, and none of its hooks is run for it."""
    for vault in to:
        here = replace(context, vault=vault)
        if vault in plan.to or here.named is not None:
            continue
        storage = here.storage()
        try:
            known = folder_of(storage) is None or here.has_vault(storage)
        finally:
            storage.close()
        if not known:
            with here.opened_any():  # raises what tells best what is wrong
                pass


def _run(context: Context, plan: NamedPlan, request: PlanRequest, told: Callable[[VaultRun], None]) -> PlanResult:
    started = context.clock.monotonic()
    environ = {**context.environ, "HOLDFAST_PLAN": plan.name}
    backup = _request(plan, request)
    runs: list[VaultRun] = []
    refused: HoldfastError | None = None
    outcome, hooks_failed = Outcome.FAILED, 0
    try:
        try:
            if not request.dry_run:
                run_before(plan.before, environ, context.emit, context.cancel)
            check_request(backup)
            backup = with_lines(backup)
            vaults = request.to or plan.to
            with one_scan(context, len(vaults)) as scan:
                for vault in vaults:
                    scan.turn()
                    into = replace(backup, scan=scan)
                    runs.append(_into(replace(context, vault=vault or None), vault, plan, into))
                    told(runs[-1])
                    context.cancel.check()
        except HoldfastError as error:
            refused = error
        outcome = _outcome(runs, refused)
    except (Cancelled, KeyboardInterrupt):
        outcome = Outcome.CANCELLED
        raise
    finally:
        if not request.dry_run:
            hooks_failed = _afterwards(context, plan, {**environ, "HOLDFAST_OUTCOME": str(outcome)}, outcome)
    return PlanResult(plan.name, tuple(runs), refused, hooks_failed, context.clock.monotonic() - started)


def copies(plan: NamedPlan, *, dry_run: bool = False, workers: int | None = None) -> list[tuple[str, CopyRequest]]:
    """What ``copy`` of the plan asks for: of each target its vault's name, and what to bring there from the first vault
    of the plan. Only the plan's own snapshots of this host are brought, and only about those does ``keep`` decide."""
    own = _own(plan, plan.host or hostname())
    return [
        (
            target.to,
            CopyRequest(
                source=plan.to[0],
                wanted=own,
                keep=target.keep,
                kept=own,
                group_by=("host",),
                dry_run=dry_run,
                workers=workers,
            ),
        )
        for target in plan.copies
    ]


def _own(plan: NamedPlan, host: str) -> SnapshotFilter:
    return SnapshotFilter(hosts=(host,), tags=(frozenset({plan.mark}),))


def _request(plan: NamedPlan, request: PlanRequest) -> BackupRequest:
    return BackupRequest(
        paths=plan.paths,
        optional=plan.optional,
        excludes=plan.exclude,
        exclude_files=plan.exclude_files,
        default_excludes=plan.default_excludes,
        larger_than=plan.larger_than,
        one_file_system=plan.one_file_system,
        tags=tuple(dict.fromkeys((plan.mark, *plan.tags, *request.tags))),
        hostname=plan.host or hostname(),
        note=request.note or plan.note,
        force=request.force,
        allow_empty=request.allow_empty,
        dry_run=request.dry_run,
        verbose=request.verbose,
        estimate=request.estimate,
        workers=request.workers,
        sources=make_sources(
            postgres=plan.postgres,
            mariadb=plan.mariadb,
            redis=plan.redis,
            commands=plan.commands,
            limit=plan.dump_timeout,
        ),
        sqlite=plan.sqlite,
    )


def _into(context: Context, vault: str, plan: NamedPlan, request: BackupRequest) -> VaultRun:
    name = _name(context, vault)
    try:
        save, thin = of_kind(context)
        named = context.named
        if named is None or named.kind == "archive":
            request = replace(request, allow_empty=False)  # the plan's mirrors were meant
        elif request.sources:
            context.warn(f"the {named.kind} vault {name!r} takes files only: the plan's dumps are not in it")
            request = replace(request, sources=())
        result = save(context, request)
    except Exception as error:
        if context.cancel.requested:
            # What a stop did to the work is no failure of the vault.
            raise Cancelled(context.cancel.reason) from error
        return VaultRun(name, error=error)
    # Where the plan does not save by itself, it does not decide about what is kept either.
    if thin is None or result.summary.snapshot is None or plan.keep.is_empty or vault not in plan.to:
        return VaultRun(name, result)
    return _thinned(context, thin, VaultRun(name, result), plan, request.hostname)


def _name(context: Context, vault: str) -> str:
    """How the vault is called in messages: without what may be a password in a location."""
    text = vault or context.location
    return f"{text.partition(':')[0]}:..." if "@" in text and ":" in text else text


def _thinned(context: Context, thin: Thin, run: VaultRun, plan: NamedPlan, host: str) -> VaultRun:
    """Forget what ``keep`` does not keep. The snapshot is safe by now: what goes wrong here does not take it away."""
    options = ForgetOptions(policy=plan.keep, wanted=_own(plan, host), group_by=("host",))
    try:
        done = thin(context, options)
    except Locked as error:
        message = f"No old snapshot was forgotten in {run.vault}, which the next run will make up for: {error.message}"
        context.emit(Fact("plan.not_thinned", message, "warning", {"plan": plan.name, "vault": run.vault}))
        return run
    except HoldfastError as error:
        message = f"The snapshot is saved, but no old one could be forgotten in {run.vault}: {error.message}"
        data = {"plan": plan.name, "vault": run.vault, "code": error.code, "hint": error.hint}
        context.emit(Fact("plan.not_thinned", message, "error", data))
        return replace(run, unthinned=error)
    return replace(run, thinned=done)


def _afterwards(context: Context, plan: NamedPlan, environ: Mapping[str, str], outcome: Outcome) -> int:
    failed = run_later("after", plan.after, environ, context.emit)
    if outcome is Outcome.FAILED:
        failed += run_later("on_failure", plan.on_failure, environ, context.emit)
    return failed


def _outcome(runs: tuple[VaultRun, ...] | list[VaultRun], refused: HoldfastError | None) -> Outcome:
    outcomes = {run.outcome for run in runs}
    if refused is not None or Outcome.FAILED in outcomes:
        return Outcome.FAILED
    return Outcome.PARTIAL if Outcome.PARTIAL in outcomes else Outcome.OK
