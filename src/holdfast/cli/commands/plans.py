"""Plans on the command line: which of them a word means, running them one after the other, and telling what came."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING

import click

from holdfast.cli import text
from holdfast.cli.commands.saved import show
from holdfast.cli.console import clean
from holdfast.cli.errors import FAILED, OK, failure, worst
from holdfast.cli.session import Session
from holdfast.kernel.errors import HoldfastError, Invalid, NotFound

if TYPE_CHECKING:
    from holdfast.app.backup import BackupRequest
    from holdfast.app.plans import PlanRequest, PlanResult, VaultRun
    from holdfast.config.settings import NamedPlan


def choose(here: Session, words: tuple[bytes, ...], named: tuple[str, ...], *, every: bool) -> list[NamedPlan]:
    """The plans that are meant, none where paths are.

    A word of the command line is a plan if the configuration has one of that name. Raises ``Invalid`` where a file of
    that name is there as well, or where plans and paths are mixed; ``NotFound`` for a plan that is not there.
    """
    if every or named:
        if words or (every and named):
            raise click.UsageError("Give one of --all, --plan and paths.")
        settings = here.context.required()
        names = list(dict.fromkeys(named)) if named else settings.plan_names
        if not names:
            raise NotFound(f"{settings.path} has no plans", hint="'holdfast config check' tells what it has.")
        return [settings.plan(name) for name in names]
    from holdfast.config.words import is_name

    bare = [os.fsdecode(word) for word in words if is_name(os.fsdecode(word))]
    known = set(_plans(here)) if bare else set()
    found = [word for word in bare if word in known]
    for word in found:
        if os.path.lexists(word):
            raise Invalid(
                f"{word!r} is a plan, and also a file or folder here",
                hint=f"For the plan: --plan {word}. For the file or folder: ./{word}.",
            )
    if found and len(found) < len(words):
        raise Invalid(
            f"{found[0]!r} is a plan, and plans and paths were given together", hint="Run them one after the other."
        )
    return [here.context.required().plan(word) for word in dict.fromkeys(found)]


def _plans(here: Session) -> list[str]:
    configured = here.context.configured
    return [] if configured is None else configured.plans()


def explain_missing(here: Session, paths: tuple[bytes, ...]) -> None:
    """Raise ``NotFound`` where the only path is missing and looks like the name of a plan that was mistyped."""
    from holdfast.config.words import is_name

    word = os.fsdecode(paths[0]) if len(paths) == 1 else ""
    if not is_name(word) or os.path.lexists(word):
        return
    import difflib

    near = difflib.get_close_matches(word, _plans(here), n=1)
    if near:
        raise NotFound(f"there is no plan and no file named {word!r}", hint=f"Did you mean the plan {near[0]!r}?")


def run_plans(here: Session, plans: list[NamedPlan], request: BackupRequest, to: tuple[str, ...], *, words: int) -> int:
    """Run all of ``plans``, whatever comes of each. Returns the gravest of their exit codes.

    What a plan says for itself (``request`` as it came from the command line, with ``words`` names of plans in place of
    its paths) cannot be said again: ``UsageError``.
    """
    from holdfast.app.plans import PlanRequest

    _refuse_more(request, words)
    asked = PlanRequest(
        to=to,
        tags=request.tags,
        note=request.note,
        force=request.force,
        allow_empty=request.allow_empty,
        dry_run=request.dry_run,
        verbose=request.verbose,
        estimate=request.estimate,
        workers=request.workers,
    )
    code = OK
    for plan in plans:
        code = worst(code, _run(here, plan, asked))
    return code


def _refuse_more(request: BackupRequest, words: int) -> None:
    given = {
        "--files-from": len(request.paths) > words,
        "--optional": request.optional,
        "--exclude": request.excludes,
        "--exclude-file": request.exclude_files,
        "--no-default-excludes": not request.default_excludes,
        "--exclude-larger-than": request.larger_than is not None,
        "--one-file-system": request.one_file_system,
        "--host": request.hostname,
        "--parent": request.parent is not None,
    }
    for option, said in given.items():
        if said:
            raise click.UsageError(f"{option} does not go with a plan: write it into the plan.")


def _run(here: Session, plan: NamedPlan, asked: PlanRequest) -> int:
    from holdfast.app.plans import run_plan

    console = here.console
    if not console.quiet:
        console.line(console.paint(f"Plan {plan.name}", "bold"))
    if asked.dry_run and (plan.before or plan.after or plan.on_failure or not plan.keep.is_empty):
        console.remark("A dry run runs no hooks and forgets no snapshots.")
    codes: dict[str, int] = {}

    def told(run: VaultRun) -> None:
        codes[run.vault] = _tell(here, plan, run, asked)

    result = run_plan(here.context, plan, asked, told)
    code = OK
    for each in codes.values():
        code = worst(code, each)
    if result.refused is not None:
        code = worst(code, _fail(here, result.refused, plan.name))
    if result.hooks_failed:
        code = worst(code, FAILED)
    _sum_up(here, result, codes, code)
    return code


def _tell(here: Session, plan: NamedPlan, run: VaultRun, asked: PlanRequest) -> int:
    console = here.console
    if not console.quiet:
        console.line(f"Into {text.name(run.vault)}:")
    if run.error is not None:
        return _fail(here, run.error, plan.name, run.vault)
    assert run.result is not None
    gone = None if run.thinned is None else run.thinned.removed
    kept = None if run.thinned is None else run.thinned.kept
    names = {"plan": plan.name, "vault": clean(run.vault)}
    code = show(here, run.result, dry_run=asked.dry_run, **names, forgotten=gone, kept=kept)
    if run.thinned is not None and not console.quiet:
        console.line(f"{text.plural(run.thinned.removed, 'old snapshot')} forgotten, {run.thinned.kept:,} kept")
    if run.unthinned is not None:
        code = worst(code, failure(run.unthinned).exit_code)
    return code


def _fail(here: Session, error: Exception, plan: str, vault: str = "") -> int:
    if os.environ.get("HOLDFAST_DEBUG") == "1":
        import traceback

        traceback.print_exception(error)
    told = failure(error)
    where = {"plan": plan, **({"vault": vault} if vault else {})}
    begin = f"plan {plan}, vault {vault}: " if vault else f"plan {plan}: "
    message = begin + told.message if isinstance(error, HoldfastError) and told.message else told.message
    here.console.fail(replace(told, message=message, context={**(told.context or {}), **where}))
    return told.exit_code


def _sum_up(here: Session, result: PlanResult, codes: dict[str, int], code: int) -> None:
    here.console.event(
        "summary",
        outcome=str(result.outcome),
        plan=result.plan,
        exit_code=code,
        vaults=[
            {
                "vault": clean(run.vault),
                "outcome": str(run.outcome),
                "exit_code": codes[run.vault],
                "snapshot": _snapshot(run),
                "forgotten": None if run.thinned is None else run.thinned.removed,
            }
            for run in result.vaults
        ],
        hooks_failed=result.hooks_failed,
        seconds=round(result.seconds, 3),
    )


def _snapshot(run: VaultRun) -> str | None:
    found = None if run.result is None else run.result.summary.snapshot
    return None if found is None else found.hex()
