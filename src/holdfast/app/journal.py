"""Use case: open the journal of this machine, or the one that several share, with everything that waits for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from holdfast.app.context import Context
from holdfast.kernel.errors import Corrupt, Denied, NoSpace, Unavailable
from holdfast.monitor.place import journal_url, outbox_folder

if TYPE_CHECKING:
    from holdfast.monitor.journal import Journal


def open_journal(context: Context, *, drain: bool = True) -> Journal:
    """The journal that the configuration names, else ``journal.db`` in the state folder.

    What waits in the outbox is taken in first; where that cannot be done now, a warning says so, and the journal
    answers with what it has. A damaged file is set aside and rebuilt from what can be read. Raises ``Unavailable``,
    ``Denied``, ``Unsupported``, ``Invalid``. Close it, or use it in ``with``.
    """
    from holdfast.monitor.salvage import open_sound

    url = journal_of(context)
    journal = open_sound(url, clock=context.clock, tell=context.warn)
    if not drain:
        return journal
    outbox = outbox_folder(context.paths.state)
    try:
        journal.drain(outbox)
    except Corrupt:
        journal.close()
        journal = open_sound(url, clock=context.clock, tell=context.warn)
        journal.drain(outbox)
    except (Unavailable, NoSpace, Denied) as error:
        context.warn(f"what happened lately is not shown: {error.message}")
    return journal


def journal_of(context: Context) -> str:
    """The URL of the journal that is meant."""
    settings = None if context.configured is None else context.configured.settings()
    return (settings.journal if settings is not None else "") or journal_url(context.paths.state)
