"""``holdfast run``."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING

import click

from holdfast.cli.console import clean
from holdfast.cli.errors import Failure
from holdfast.cli.options import Common, shared
from holdfast.cli.session import session
from holdfast.cli.values import DURATION

if TYPE_CHECKING:
    from holdfast.runners.output import Held


@click.command("run")
@click.argument("name", metavar="NAME")
@click.argument("argv", metavar="-- COMMAND...", nargs=-1, required=True, type=click.UNPROCESSED)
@click.option("--timeout", type=DURATION, metavar="DURATION", help="End it after so long, with all that it started.")
@click.option(
    "--overlap",
    type=click.Choice(["fail", "skip", "wait"]),
    default="fail",
    show_default=True,
    help="What to do while a run of this name still goes on.",
)
@click.option("--retries", type=click.IntRange(0, 100), default=0, metavar="N", help="Try again so often if it fails.")
@click.option(
    "--retry-delay",
    type=DURATION,
    default=10.0,
    metavar="DURATION",
    help="Wait so long before the first retry, twice as long before the next, and so on. [default: 10s]",
)
@click.option(
    "--expect-output",
    is_flag=False,
    flag_value="",
    metavar="[REGEX]",
    help="It fails if it prints nothing, or no line that matches.",
)
@click.option(
    "--expect-file",
    "expect_files",
    multiple=True,
    metavar="PATH",
    help="It fails if it does not write this file. Repeatable.",
)
@click.option("--min-duration", type=DURATION, metavar="DURATION", help="It fails if it succeeds faster than this.")
@click.option("--max-duration", type=DURATION, metavar="DURATION", help="Warn if it takes longer than this.")
@click.option("--quiet-on-success", is_flag=True, help="Print what it printed only if it fails.")
@click.option("--cwd", metavar="FOLDER", help="Run it in this folder.")
@shared(vault=False)
@click.pass_obj
def command(
    common: Common,
    name: str,
    argv: tuple[str, ...],
    timeout: float | None,
    overlap: str,
    retries: int,
    retry_delay: float,
    expect_output: str | None,
    expect_files: tuple[str, ...],
    min_duration: float | None,
    max_duration: float | None,
    quiet_on_success: bool,
    cwd: str | None,
) -> int:
    """Run any command as a monitored run.

    Recorded, limited, never twice at once.

    \b
      holdfast run nightly-export --timeout 2h --quiet-on-success -- /opt/export.sh

    Its output, standard input and exit code are passed through; 124 is a time limit that was reached, 126 and 127 a
    command that could not be started, 128 + N the end by signal N.
    """
    from holdfast.app.promises import Promises
    from holdfast.app.run import Command, run_command
    from holdfast.runners.output import Held

    held = Held() if quiet_on_success else None
    wanted = Command(
        name,
        argv,
        cwd=cwd,
        timeout=timeout,
        overlap=overlap,
        retries=retries,
        retry_delay=retry_delay,
        promises=Promises(expect_output, expect_files, min_duration, max_duration),
        # With --json, standard output is ours.
        onto=(None, None) if held is not None else (2, 2) if common.json else (1, 2),
    )
    with session(common, hard=True) as here:
        result = run_command(here.context, wanted, _forget if held is None else held.add)
    console = here.console
    if held is not None and result.outcome != "ok" and not result.skipped:
        _show(held, 2 if common.json else 1)
    if result.outcome == "ok":
        if common.verbose:
            console.remark(result.message)
    elif result.skipped:
        console.remark(result.message)
    elif not common.json:
        console.fail(Failure(result.exit_code, "failed", result.message, result.hint))
    console.event(
        "summary",
        outcome=result.outcome,
        run=result.run,
        name=name,
        exit_code=result.exit_code,
        message=clean(result.message),
        hint=result.hint,
        skipped=result.skipped,
        attempts=[
            {"exit_code": each.exit_code, "seconds": round(each.seconds, 3), "message": clean(each.message)}
            for each in result.attempts
        ],
        silent=[
            {"expected": clean(each.expected), "actual": clean(each.actual)}
            for attempt in result.attempts[-1:]
            for each in attempt.broken
        ],
        output_bytes=result.bytes_printed,
        output_tail=clean(result.tail),
    )
    return result.exit_code


def _forget(_stream: int, _data: bytes) -> None:
    """It was passed on already."""


def _show(held: Held, output: int) -> None:
    for stream, data in held.pieces():
        with suppress(OSError):
            while data:
                data = data[os.write(output if stream == 1 else 2, data) :]
