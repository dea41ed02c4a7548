"""What is left when a command has said everything: tell people, report errors, let the outbox not grow for ever."""

from __future__ import annotations

from holdfast.app.attend import attend
from holdfast.app.context import Context

DRAIN_AT = 1 << 20
"""Bytes. Some 300 backups; taking them into the journal is half a second, most of it imports."""


def settle(context: Context) -> None:
    """Called at the very end of a command; does nothing where nothing was recorded. Never raises: what goes wrong is
    a warning, and whatever is read from the journal later tells it again."""
    outbox = context.recorder.outbox
    if outbox is None:
        return
    attend(context)
    try:
        if outbox.size() > DRAIN_AT:
            from holdfast.app.journal import open_journal

            open_journal(context).close()
        if not context.recorder.all_ok:
            from holdfast.app.sentry import report_errors

            report_errors(context)
    except Exception as error:
        context.warn(f"what happened lately could not be taken into the journal: {error}")
