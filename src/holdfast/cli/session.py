"""What a command needs while it runs: the console, a stop button that signals press, and the use cases' context."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from types import FrameType

from click.exceptions import Abort, ClickException, Exit

from holdfast.app.context import Context
from holdfast.app.hearing import Hearing
from holdfast.cli.console import Console
from holdfast.cli.logging import log_surprise, with_log
from holdfast.cli.options import Common
from holdfast.config.locate import Configured
from holdfast.config.secrets import Ask, PasswordChoice
from holdfast.kernel.cancel import Cancel
from holdfast.kernel.errors import Cancelled, HoldfastError, NoSpace, Unavailable
from holdfast.kernel.values import dataclass

ENDING = b"\r\x1b[Kending cleanly; press Ctrl-C again to end at once\n"


@dataclass(frozen=True, slots=True)
class Session:
    """One command's surroundings."""

    console: Console
    context: Context

    def at(self, location: str | None) -> Session:
        """The same for another vault, by location or configured name; None keeps the one that was chosen."""
        return self if location is None else replace(self, context=replace(self.context, vault=location))


@contextmanager
def session(common: Common, *, hard: bool = False) -> Iterator[Session]:
    """Build a command's surroundings; the progress line goes away at the end.

    SIGINT and SIGTERM ask the work to end at its next safe point; a second SIGINT ends the process at once. With
    ``hard`` (listings, which have nothing to finish) the first one does.
    """
    console = Console(common)
    cancel = Cancel()
    if not hard:
        _press_on_signals(cancel, console)
    environ = os.environ
    context = Context(
        emit=Hearing(console.emit),
        cancel=cancel,
        warn=console.warn,
        vault=common.vault,
        configured=Configured(common.config, environ),
        password=PasswordChoice(common.password_file, common.password_command),
        no_lock=common.no_lock,
        retry_lock=common.retry_lock,
        no_cache=common.no_cache,
        cache_limit=common.cache_limit << 20 if common.cache_limit else None,
        upload=_bytes(common.limit_upload),
        download=_bytes(common.limit_download),
        connections=common.connections,
        retry_for=common.retry_for,
        ask=_asker(),
        environ=environ,
    )
    context, end_log = with_log(context, console)
    common.afterwards = partial(_end, replace(context, warn=_aside) if common.json else context, end_log)
    try:
        yield Session(console, context)
    except Unavailable as error:
        # Asked to end, a storage out of reach is not tried again for long: then that it was is not what matters.
        if cancel.requested and not isinstance(error, NoSpace):
            raise Cancelled(cancel.reason) from error
        raise
    except (HoldfastError, OSError, ClickException, Exit, Abort):
        raise
    except Exception as error:
        log_surprise(context, error)
        raise
    finally:
        console.clear()


def _end(context: Context, end_log: Callable[[], None]) -> None:
    try:
        if context.recorder.outbox is not None:
            from holdfast.app.settle import settle

            settle(context)
    finally:
        end_log()


def _aside(words: str) -> None:
    """Say what comes after the summary, which is the last event with ``--json``."""
    sys.stderr.write(f"holdfast: {words}\n")


def _bytes(kibibytes: int | None) -> int | None:
    return None if kibibytes is None else kibibytes << 10


def _press_on_signals(cancel: Cancel, console: Console) -> None:
    def press(number: int, _frame: FrameType | None) -> None:
        if cancel.requested and number == signal.SIGINT:
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            raise KeyboardInterrupt
        cancel.cancel(f"cancelled by {signal.Signals(number).name}")
        if number == signal.SIGINT and sys.stderr.isatty() and not console.quiet:
            # Not through sys.stderr: the signal may have come in the middle of a write to it.
            os.write(sys.stderr.fileno(), ENDING)

    signal.signal(signal.SIGINT, press)
    signal.signal(signal.SIGTERM, press)


def _asker() -> Ask | None:
    """Asks at the terminal, where a person sits at one."""
    if not sys.stdin.isatty() or not sys.stderr.isatty():
        return None

    def ask(what: str, twice: bool) -> str:
        import click

        # Ctrl-C at the question means no answer: there is nothing yet to end cleanly.
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            answer: str = click.prompt(
                f"password for {what}",
                hide_input=True,
                confirmation_prompt="once more, to be sure" if twice else False,
                err=True,
            )
        finally:
            signal.signal(signal.SIGINT, before)
        return answer

    return ask
