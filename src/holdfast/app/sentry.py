"""Use case: report what went gravely wrong to Sentry, if the configuration says so."""

from __future__ import annotations

from typing import TYPE_CHECKING

from holdfast import __version__
from holdfast.app.context import Context
from holdfast.kernel.errors import HoldfastError

if TYPE_CHECKING:
    from holdfast.config.outputsettings import SentryChoice
    from holdfast.monitor.journal import Journal

CURSOR = "sentry"
LOOK_BACK_NS = 86_400 * 1_000_000_000
"""The first time only what is younger than this is reported: nobody wants a history of years."""
_GRAVER = {"warning": ("warning", "error", "critical"), "error": ("error", "critical"), "critical": ("critical",)}


def report_errors(context: Context) -> int:
    """Report the grave facts that were not reported yet, those of scripts and of other commands as well.

    Called at the end of a command of which not everything was ok. Takes 2 s at most beside opening the journal; what
    does not arrive is sent the next time. Never raises: that something is wrong with it is a warning. Returns how many
    were taken.
    """
    from holdfast.config.outputsettings import sentry_choice

    try:
        settings = None if context.configured is None else context.configured.settings()
    except HoldfastError:
        return 0  # whatever it says of Sentry: who needs it for something else tells what is wrong with it
    try:
        choice = sentry_choice(settings, context.environ)
        if choice is None:
            return 0
        from holdfast.app.journal import open_journal

        with open_journal(context) as journal:
            return _report(context, journal, choice)
    except HoldfastError as error:
        context.warn(f"nothing is reported to Sentry: {error.message}" + (f" ({error.hint})" if error.hint else ""))
        return 0


def _report(context: Context, journal: Journal, choice: SentryChoice) -> int:
    from holdfast.monitor.sentry import MOST, report

    after = _cursor(journal)
    records = journal.facts(
        levels=_GRAVER[choice.level],
        after_seq=after,
        since_ns=context.clock.now_ns() - LOOK_BACK_NS if after is None else None,
        newest_first=False,
        limit=MOST,
    )
    if not records:
        return 0
    done = report(records, choice.dsn, release=f"holdfast@{__version__}", environment=choice.environment)
    if done.count:
        _move(journal, records[done.count - 1].seq)
    if done.trouble:
        context.warn(f"Sentry was not reached, the next run tries again: {done.trouble}")
    return done.count


def _cursor(journal: Journal) -> int | None:
    import sqlalchemy as sa

    from holdfast.monitor.schema import cursors

    with journal.reading() as connection:
        return connection.scalar(sa.select(cursors.c.seq).where(cursors.c.name == CURSOR))


def _move(journal: Journal, seq: int) -> None:
    import sqlalchemy as sa

    from holdfast.monitor.schema import cursors

    with journal.transaction() as connection:
        connection.execute(sa.delete(cursors).where(cursors.c.name == CURSOR))
        connection.execute(sa.insert(cursors), {"name": CURSOR, "seq": seq})
