"""``holdfast forget``."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from holdfast.cli import text
from holdfast.cli.console import Console, clean
from holdfast.cli.errors import DAMAGE, OK
from holdfast.cli.options import Common, shared, which_latest
from holdfast.cli.session import session
from holdfast.cli.values import SNAPSHOT_ID, SPAN
from holdfast.kernel.ids import short

if TYPE_CHECKING:
    from holdfast.app.forget import Forgotten
    from holdfast.vaults.base import SnapshotInfo
    from holdfast.vaults.retention import Group, Plan, Policy

F = TypeVar("F", bound=Callable[..., Any])
_PERIODS = ("hourly", "daily", "weekly", "monthly", "yearly")
_LETTERS = {"last": "-l", "hourly": "-H", "daily": "-d", "weekly": "-w", "monthly": "-m", "yearly": "-y"}


class _Count(click.ParamType[int]):
    """A number of snapshots, or ``unlimited``."""

    name = "count"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        if value == "unlimited":
            return -1
        if not value.isascii() or not value.isdigit() or len(value) > 9:
            self.fail(f"{value!r} is not a count. Write a number, or 'unlimited'.", param, ctx)
        return int(value)


def _groups(ctx: click.Context, parameter: click.Parameter, value: str) -> tuple[str, ...]:
    from holdfast.vaults.retention import GROUPS

    words = tuple(dict.fromkeys(word.strip() for word in value.split(",") if word.strip()))
    for word in words:
        if word not in GROUPS:
            raise click.BadParameter(f"{word!r} is none of {', '.join(GROUPS)}.", ctx, parameter)
    return words


def keep_options(function: F) -> F:
    """``--keep-...`` as restic has them; :func:`policy_of` makes a policy of what they gave."""
    added = [
        click.option("--keep-tag", "keep_tags", multiple=True, metavar="TAG,..",
                     help="Keep snapshots with all of these tags. Repeatable: any. '' means those without tags."),
        *(
            click.option(f"--keep-within-{name}", type=SPAN, metavar="SPAN",
                         help=f"Keep one snapshot for each {_noun(name)} in SPAN before the newest.")
            for name in reversed(_PERIODS)
        ),
        click.option("--keep-within", type=SPAN, metavar="SPAN",
                     help="Keep all that are newer than SPAN before the newest, such as 2d, 6m or 1y5m7d2h."),
        *(
            click.option(_LETTERS[name], f"--keep-{name}", type=_Count(), default=0, metavar="N",
                         help=f"Keep the newest of each of the last N {_noun(name)}s that have any.")
            for name in reversed(_PERIODS)
        ),
        click.option("-l", "--keep-last", type=_Count(), default=0, metavar="N",
                     help="Keep the newest N. Each N may be 'unlimited'."),
    ]  # fmt: skip
    for option in added:
        function = option(function)
    return function


def _noun(period: str) -> str:
    return {"daily": "day"}.get(period, period.removesuffix("ly"))


def policy_of(values: dict[str, Any]) -> Policy:
    """The policy that :func:`keep_options` gave; takes its values out of ``values``."""
    from holdfast.vaults.retention import Policy, Span

    fields: dict[str, Any] = {name: values.pop(f"keep_{name}") for name in ("last", *_PERIODS)}
    for name in ("within", *(f"within_{period}" for period in _PERIODS)):
        fields[name] = values.pop(f"keep_{name}") or Span()
    tags = tuple(tuple(words.split(",")) for words in values.pop("keep_tags"))
    return Policy(**fields, tags=tags)


@click.command("forget")
@click.argument("snapshots", metavar="[SNAPSHOT]...", nargs=-1, type=SNAPSHOT_ID)
@keep_options
@click.option(
    "--group-by",
    default="host,paths",
    callback=_groups,
    metavar="host,paths,tags",
    help="The policy counts for each of these groups by itself; '' makes one of all. [default: host,paths]",
)
@which_latest
@click.option("-n", "--dry-run", is_flag=True, help="Only show what would go, and why the others stay.")
@click.option("--prune", is_flag=True, help="Then also delete the data that nothing uses any more, as 'prune' does.")
@click.option("--force", is_flag=True, help="Even every snapshot of a group, and even though some are of the future.")
@shared()
@click.pass_obj
def command(
    common: Common,
    /,
    snapshots: tuple[str, ...],
    group_by: tuple[str, ...],
    hosts: tuple[str, ...],
    tags: tuple[str, ...],
    paths: tuple[str, ...],
    dry_run: bool,
    prune: bool,
    force: bool,
    **keep: Any,
) -> int:
    """Delete snapshots by a policy, or by name.

    A policy (--keep-...) says what to keep. Only the snapshots go: the space that they took is freed by 'holdfast
    prune' (or --prune). Snapshots with a hold ('holdfast hold') always stay. In a versioned vault the history that only
    they needed goes at once.

    \b
      holdfast forget --keep-last 3 --keep-daily 7 --keep-weekly 4 --keep-monthly 12 --dry-run
    """
    from holdfast.app.forget import ForgetOptions, forget
    from holdfast.app.selection import make_filter

    wanted = make_filter(hosts, paths, tags)
    options = ForgetOptions(snapshots, policy_of(keep), wanted, group_by, dry_run, force, prune)
    with session(common) as here:
        console = here.console
        pruned = forget(
            here.context,
            options,
            lambda plan: _show(console, plan, named=bool(snapshots)),
            lambda done: _tell(console, done, dry_run=dry_run),
        )
        code = OK
        if pruned is not None:
            from holdfast.cli.commands.prune import show

            code = show(console, pruned)
        elif prune and dry_run:
            console.remark(
                "What a prune would free can be told once the snapshots are gone: 'holdfast prune --dry-run'."
            )
        return DAMAGE if console.saw_damage else code


def _tell(console: Console, done: Forgotten, *, dry_run: bool) -> None:
    verb = "would be forgotten" if dry_run else "forgotten"
    if not console.quiet:
        console.line(f"{text.plural(done.removed, 'snapshot')} {verb}, {done.kept:,} kept")
    console.event(
        "summary",
        outcome="ok",
        removed=done.removed,
        kept=done.kept,
        leftovers=len(done.plan.leftovers),
        damaged=done.damaged,
        groups=len(done.plan.groups),
        dry_run=dry_run,
    )


def _show(console: Console, plan: Plan, *, named: bool) -> None:
    """The plan: every snapshot with what keeps it; of a named deletion only what goes."""
    for snapshot in plan.leftovers:
        _decide(console, snapshot, "remove", ("leftover of a change of tags",), {})
        if not console.quiet:
            console.line(f"remove  {short(snapshot.id)}  left behind by a change of tags that was interrupted")
    for group in plan.groups:
        for verdict in group.verdicts:
            if verdict.reasons and named:
                continue
            action = "keep" if verdict.reasons else "remove"
            _decide(console, verdict.snapshot, action, verdict.reasons, dict(group.common))
        if not console.json and not console.quiet and (group.remove or not named):
            _table(console, group, named=named)


def _decide(
    console: Console, snapshot: SnapshotInfo, action: str, reasons: tuple[str, ...], common: dict[str, str]
) -> None:
    console.event(
        "decision",
        action=action,
        reasons=list(reasons),
        id=snapshot.id.hex(),
        short_id=short(snapshot.id),
        time=snapshot.time,
        host=clean(snapshot.hostname),
        paths=[clean(path) for path in snapshot.paths],
        tags=[clean(tag) for tag in snapshot.tags],
        group={name: clean(value) for name, value in common.items()},
    )


def _table(console: Console, group: Group, *, named: bool) -> None:
    title = ", ".join(f"{name} {text.name(value) or '-'}" for name, value in group.common)
    if title:
        console.line(console.paint(f"{title}:", "bold"))
    shown = [verdict for verdict in group.verdicts if not (named and verdict.reasons)]
    rows = [
        [
            "keep" if verdict.reasons else "remove",
            short(verdict.snapshot.id),
            own_time(verdict.snapshot.time),
            text.name(",".join(verdict.snapshot.tags)),
            text.name(", ".join(verdict.reasons)),
        ]
        for verdict in shown
    ]
    for line in text.table(["", "ID", "Time", "Tags", "Kept as"], rows):
        console.line(line)


def own_time(time: str) -> str:
    """A snapshot's time in the zone that it was made in, by which policies go: ``2026-11-21 22:05:09 +01:00``."""
    zone = "UTC" if time[-1:] in ("Z", "z") else time[-6:]
    return f"{time[:10]} {time[11:19]} {zone}"
