"""Use cases: what a timer starts. One thing at its time, and what was missed while the machine was off."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from holdfast.app.context import Context
from holdfast.app.schedules import Work, installed, state_folder, works, zone
from holdfast.files.whole import cannot_write, replace_file
from holdfast.jobs.schedule import SECOND, is_missed, next_fire
from holdfast.kernel.errors import NotFound
from holdfast.kernel.events import Fact
from holdfast.kernel.values import dataclass

GRACE_SECONDS = 600
"""What is due is not made up for before so much time has passed: its own timer may only be slow."""
OUTPUT_BYTES = 64 << 10
"""The end of the output of what failed; the rest is in the log."""
_LOOK_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Fired:
    """What came of one start: ``exit_code`` of the first command that failed, None where it was still going from
    before; ``output`` is what the commands said (the last 64 KiB)."""

    work: Work
    exit_code: int | None
    output: str


def fire(context: Context, name: str, *, wait: float = 0.0) -> Fired:
    """Run what ``name`` stands for, at low priority; after ``wait`` seconds, so that not everything starts at once.

    A start while the last one is still going is a fact, and nothing else. When it started is remembered durably before
    it begins. Raises ``NotFound`` for what the configuration no longer has, ``Cancelled`` when asked to end.
    """
    settings = context.required()
    every = {work.name: work for work in works(settings)}
    if name not in every:
        raise NotFound(
            f"{settings.path} has nothing named {name!r} to start",
            hint="What is installed is older than the configuration: 'holdfast schedule install' brings it up to date.",
        )
    work = every[name]
    folder = state_folder(context)
    with _alone(folder, work) as is_alone:
        if not is_alone:
            context.emit(Fact("schedule.overlap", f"{work.name} is still running from its last start.", "warning"))
            return Fired(work, None, "")
        _stamp(folder, work, context.clock.now_ns())
        _pause(context, wait)
        return _run(context, work)


def catch_up(context: Context, *, dry_run: bool = False) -> Iterator[Fired]:
    """Run, one after the other, everything that should have started and did not; see :func:`missed`."""
    for work in missed(context):
        if dry_run:
            yield Fired(work, 0, "")
        else:
            yield fire(context, work.name)


def missed(context: Context) -> list[Work]:
    """What should have started more than ten minutes ago, and since its last start (or since it was installed).

    However often something was missed, it is due once.
    """
    known = installed(context)
    since = context.clock.now_ns() if known is None else known.at_ns
    folder, here, now = state_folder(context), zone(context), context.clock.now_ns()
    return [
        work
        for work in works(context.required())
        # A timer that spreads its starts over a while is not late before that while is over.
        if is_missed(
            work.schedule, last_start(folder, work) or since, now, here, (GRACE_SECONDS + work.jitter) * SECOND
        )
    ]


def last_start(folder: Path, work: Work) -> int | None:
    """When (ns) it last started, as far as is known."""
    try:
        return int((folder / f"{work.name}.last").read_bytes())
    except (OSError, ValueError):
        return None


def next_start(context: Context, work: Work) -> int | None:
    """When (ns) it starts next."""
    return next_fire(work.schedule, context.clock.now_ns(), zone(context))


def _stamp(folder: Path, work: Work, now: int) -> None:
    path = folder / f"{work.name}.last"
    try:
        replace_file(path, b"%d\n" % now, 0o600)
    except OSError as error:
        raise cannot_write(path, error) from error


@contextmanager
def _alone(folder: Path, work: Work) -> Iterator[bool]:
    """Whether nobody else runs this now; the lock goes with the process."""
    path = folder / f"{work.name}.lock"
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise cannot_write(path, error) from error
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True
    finally:
        os.close(fd)


def _pause(context: Context, seconds: float) -> None:
    until = context.clock.monotonic() + seconds
    while (left := until - context.clock.monotonic()) > 0:
        context.cancel.check()
        context.clock.sleep(min(left, _LOOK_SECONDS))


def _run(context: Context, work: Work) -> Fired:
    with suppress(OSError):
        os.nice(10)
    ionice = shutil.which("ionice")
    prefix = [ionice, "-c", "3"] if ionice else []
    begin = [sys.executable, "-P", "-m", "holdfast", "--config", str(context.required().path)]
    code, said = 0, []
    for command in work.commands:
        context.cancel.check()
        ended, output = _command(context, [*prefix, *begin, *command])
        said.append(output)
        code = code or ended
    return Fired(work, code, "".join(said))


def _command(context: Context, words: list[str]) -> tuple[int, str]:
    """Run one command to its end; asked to end, it is asked too, and waited for: it has something to finish."""
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        try:
            while True:
                try:
                    code = process.wait(_LOOK_SECONDS)
                    break
                except subprocess.TimeoutExpired:
                    if context.cancel.requested:
                        process.terminate()
                        code = process.wait()
                        break
        except BaseException:
            process.terminate()
            process.wait()
            raise
        size = output.seek(0, os.SEEK_END)
        output.seek(max(0, size - OUTPUT_BYTES))
        text = output.read().decode(errors="replace")
    return (code if code >= 0 else 128 - code), text
