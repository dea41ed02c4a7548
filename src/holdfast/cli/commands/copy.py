"""``holdfast copy``."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from holdfast.cli import text
from holdfast.cli.commands.forget import keep_options, policy_of
from holdfast.cli.errors import DAMAGE, OK, OUTCOMES, failure, worst
from holdfast.cli.options import Common, from_password, shared, which_latest
from holdfast.cli.session import Session, session
from holdfast.cli.values import SNAPSHOT_ID
from holdfast.config.secrets import PasswordChoice
from holdfast.kernel.errors import HoldfastError, NotFound

if TYPE_CHECKING:
    from holdfast.app.copy import Copied


@click.command("copy")
@click.argument("snapshots", nargs=-1, type=SNAPSHOT_ID, metavar="[SNAPSHOT]...")
@click.option("--from", "source", metavar="VAULT", help="The vault to copy from, location or configured name.")
@click.option("--to", metavar="VAULT", help="The vault to copy into (the same as --vault).")
@click.option("--plan", "plans", multiple=True, metavar="NAME", help="Make the copies of this plan. Repeatable.")
@from_password
@which_latest
@keep_options
@click.option("--no-read-back", is_flag=True, help="Do not read every new pack back from the target to compare it.")
@click.option("-n", "--dry-run", is_flag=True, help="Only tell what would be copied.")
@click.option("--workers", type=click.IntRange(0, 256), metavar="N", help="Worker processes. [default: by the machine]")
@shared(no_lock=True)
@click.pass_obj
def command(
    common: Common,
    /,
    snapshots: tuple[str, ...],
    source: str | None,
    to: str | None,
    plans: tuple[str, ...],
    from_password_file: str | None,
    from_password_command: str | None,
    hosts: tuple[str, ...],
    tags: tuple[str, ...],
    paths: tuple[str, ...],
    no_read_back: bool,
    dry_run: bool,
    workers: int | None,
    **keep: Any,
) -> int:
    """Bring snapshots from one vault into another.

    All of them, or those that are named or fit. Only what is missing is copied; run it again after an interruption
    and it goes on. Every piece is checked against its hash on its way, and every pack is read back from the target.
    The source's password comes from --from-password-file, --from-password-command, HOLDFAST_FROM_PASSWORD (_FILE,
    _COMMAND), the default vault's key file, or is the same as the target's.

    With --keep-... the target holds what that policy keeps of its old and the new snapshots together: what it would
    drop at once is not copied, and what it no longer keeps is forgotten there (see forget).

    With --plan the plan's own snapshots are copied from the first of its vaults to those that its 'copy' names, or only
    to the one of them that --to names.
    """
    from holdfast.app.copy import CopyRequest, copy
    from holdfast.app.selection import make_filter

    for name, value in (("--from", source), ("--to", to)):
        if value == "":
            raise click.BadParameter("it is empty.", param_hint=name)
    if plans:
        everything = (
            source,
            common.vault,
            snapshots,
            hosts,
            tags,
            paths,
            from_password_file,
            from_password_command,
        )
        if any(everything) or not policy_of(keep).is_empty or no_read_back:
            raise click.UsageError("--plan goes with --to, --dry-run and --workers only: the plan says the rest.")
        with session(common) as here:
            return _copy_plans(here, plans, to, dry_run=dry_run, workers=workers)
    if source is None:
        raise click.UsageError("Name the vault to copy from: --from VAULT, or a plan: --plan NAME.")
    request = CopyRequest(
        source=source,
        password=PasswordChoice(from_password_file, from_password_command),
        snapshots=tuple(name.lower() for name in snapshots),
        wanted=make_filter(hosts, paths, tags),
        keep=policy_of(keep),
        read_back=not no_read_back,
        dry_run=dry_run,
        workers=workers,
    )
    with session(common) as here:
        here = here.at(to)
        done = copy(here.context, request)
        _tell(here, done, dry_run=dry_run)
        return DAMAGE if here.console.saw_damage else OUTCOMES[done.summary.outcome]


def _copy_plans(here: Session, plans: tuple[str, ...], only: str | None, *, dry_run: bool, workers: int | None) -> int:
    """Make every copy of every plan (or those into ``only``), whatever comes of each. Returns the gravest exit code."""
    from holdfast.app.copy import copy
    from holdfast.app.plans import copies

    settings = here.context.required()
    code = OK
    for plan in [settings.plan(name) for name in dict.fromkeys(plans)]:
        wanted = copies(plan, dry_run=dry_run, workers=workers)
        if only is not None:
            wanted = [each for each in wanted if each[0] == only]
            if not wanted:
                raise NotFound(f"the plan {plan.name} asks for no copy into {only!r}")
        if not wanted:
            here.console.warn(f"the plan {plan.name} asks for no copies")
        for to, request in wanted:
            there = here.at(to)
            if not here.console.quiet:
                here.console.line(f"Plan {plan.name}, from {request.source} to {to}:")
            try:
                done = copy(replace(there.context, plan=plan.name), request)
            except HoldfastError as error:
                told = failure(error)
                context = {**(told.context or {}), "plan": plan.name, "vault": to}
                message = f"plan {plan.name}, copy to {to}: {told.message}"
                here.console.fail(replace(told, message=message, context=context))
                code = worst(code, told.exit_code)
            else:
                _tell(there, done, dry_run=dry_run, plan=plan.name, vault=to)
                code = worst(code, OUTCOMES[done.summary.outcome])
    return worst(code, DAMAGE) if here.console.saw_damage else code


def _tell(here: Session, done: Copied, *, dry_run: bool, **more: str) -> None:
    console, summary = here.console, done.summary
    if not console.json and not console.quiet:
        verb = "would be copied" if dry_run else "copied"
        copied = text.plural(len(summary.copied), "snapshot")
        size = f"{text.size(summary.bytes)} in {text.plural(summary.blobs, 'piece')}"
        console.line(f"{copied} {verb}, {summary.already:,} already there: {size}, {text.duration(summary.seconds)}")
        if done.unwanted or done.forgotten:
            forgotten = (
                f"{text.plural(len(done.forgotten), 'snapshot')} {'would be ' if dry_run else ''}forgotten there"
            )
            console.line(f"By the target's policy: {done.unwanted:,} not copied, {forgotten}")
        if not summary.same_cutting:
            console.line(
                "The two vaults cut files in different places: what the target saves by itself shares no data with "
                "these copies.\nA target made with 'holdfast init --cut-like SOURCE' would."
            )
    console.problems((problem.path, problem.message, problem.during) for problem in summary.problems)
    console.event(
        "summary",
        outcome=str(summary.outcome),
        copied=[{"from": old.hex(), "to": new.hex() if new is not None else None} for old, new in summary.copied],
        already=summary.already,
        failed=len(summary.problems),
        blobs=summary.blobs,
        bytes=summary.bytes,
        packs=summary.packs,
        stored=summary.stored,
        same_cutting=summary.same_cutting,
        unwanted=done.unwanted,
        forgotten=[identifier.hex() for identifier in done.forgotten],
        dry_run=dry_run,
        seconds=round(summary.seconds, 3),
        **more,
    )
