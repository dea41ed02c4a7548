"""``holdfast dump``."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import BinaryIO

import click

from holdfast.cli import text
from holdfast.cli.errors import DAMAGE, OUTCOMES
from holdfast.cli.options import Common, shared, which_latest
from holdfast.cli.session import session
from holdfast.cli.values import SNAPSHOT
from holdfast.kernel.errors import Invalid


@click.command("dump")
@click.argument("snapshot", type=SNAPSHOT, metavar="SNAPSHOT[:PATH]")
@click.option("--tar", is_flag=True, help="Write tar for a single file, too (folders always are).")
@click.option("-o", "--output", metavar="FILE", help="Write into the new FILE instead of standard output.")
@which_latest
@shared(no_lock=True)
@click.pass_obj
def command(
    common: Common,
    snapshot: tuple[str, bytes],
    tar: bool,
    output: str | None,
    hosts: tuple[str, ...],
    tags: tuple[str, ...],
    paths: tuple[str, ...],
) -> int:
    """Write a saved file, or a folder as tar, to standard output.

    Without :PATH, everything in the snapshot as tar.
    """
    from holdfast.app.dump import dump
    from holdfast.app.selection import make_filter

    if common.json and output is None:
        raise click.UsageError("--json and the file cannot share standard output: give -o FILE.")
    identifier, path = snapshot
    with session(common) as here, _stream(output) as stream:
        info, summary = dump(
            here.context,
            identifier,
            make_filter(hosts, paths, tags),
            path,
            _writer(stream),
            tar=tar,
            tar_allowed=not stream.isatty(),
        )
        stream.flush()
    console = here.console
    console.problems((problem.path, problem.message, problem.during) for problem in summary.problems)
    if output is not None:
        console.remark(f"{text.size(summary.bytes_written)} written to {text.name(output)}")
    console.event(
        "summary",
        outcome=str(summary.outcome),
        snapshot=info.id.hex(),
        files=summary.files,
        dirs=summary.dirs,
        others=summary.others,
        bytes_written=summary.bytes_written,
        problems=len(summary.problems),
    )
    return DAMAGE if console.saw_damage else OUTCOMES[summary.outcome]


@contextmanager
def _stream(output: str | None) -> Iterator[BinaryIO]:
    """Standard output, or a new file that appears under its name only when it is complete."""
    if output is None:
        yield sys.stdout.buffer
        return
    if os.path.lexists(output):
        raise Invalid(f"there is already a file {output}", hint="Remove it, or name another one.")
    partial = f"{output}.{os.getpid()}.part"
    try:
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise OSError(error.errno, error.strerror, output) from error
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
        os.rename(partial, output)
    except BaseException as error:
        if os.path.lexists(partial):
            os.unlink(partial)
        if isinstance(error, OSError) and error.errno is not None and error.filename is None:
            raise OSError(error.errno, error.strerror, output) from error  # such as a full disk
        raise


def _writer(stream: BinaryIO) -> Callable[[bytes], object]:
    return stream.write
