"""``holdfast copy``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from holdfast.cli import text
from holdfast.cli.commands.forget import keep_options, policy_of
from holdfast.cli.errors import DAMAGE, OUTCOMES
from holdfast.cli.options import Common, from_password, shared, which_latest
from holdfast.cli.session import Session, session
from holdfast.config.secrets import PasswordChoice

if TYPE_CHECKING:
    from holdfast.app.copy import Copied


@click.command("copy")
@click.argument("snapshots", nargs=-1, metavar="[SNAPSHOT]...")
@click.option("--from", "source", required=True, metavar="LOCATION", help="The vault to copy from.")
@click.option("--to", metavar="LOCATION", help="The vault to copy into (the same as --vault).")
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
    source: str,
    to: str | None,
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
    """
    from holdfast.app.copy import CopyRequest, copy
    from holdfast.app.selection import make_filter

    for name, value in (("--from", source), ("--to", to)):
        if value == "":
            raise click.BadParameter("it is empty.", param_hint=name)
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


def _tell(here: Session, done: Copied, *, dry_run: bool) -> None:
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
    )
