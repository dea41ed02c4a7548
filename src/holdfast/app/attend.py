"""What a command does at its very end: have people told of what its runs came to, if there is anything to tell."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from holdfast.app.attention import Attention, load, mark_of, save
from holdfast.kernel.errors import HoldfastError

if TYPE_CHECKING:
    from holdfast.app.context import Context

SECONDS = 30.0
"""No message is begun later than this: the person who waits for the command wants to go on. 'holdfast notify send' and
the next command send what is left."""


def attend(context: Context) -> None:
    """Look at what happened and tell people, where a configuration says whom.

    Returns at once, having imported next to nothing, when no run was recorded, when nobody is to be told, and when all
    runs were ok, none was of a plan, nothing is open and nothing is due. Never raises an ``Exception``: what goes wrong
    is a warning, and waits for the next time.
    """
    folder = context.paths.state / "status"
    try:
        path = _configuration(context)
        if path is None or not context.recorder.outcomes or context.cancel.requested:
            return
        attention, mark = load(folder), mark_of(path)
        if attention.mark == mark and not _is_needed(context, attention):
            return
        settings = context.required()
        if not settings.loaded.configuration.notify.channels:
            if attention.mark != mark:
                save(folder, Attention(None, 0, 0, mark, attention.told_ns))
            return
        from holdfast.app.notices import send_notices

        for attempt in send_notices(context, seconds=SECONDS).failed:
            context.warn(
                f"the channel {attempt.channel} could not be used: {attempt.sent.error}; it is tried again later"
            )
    except HoldfastError as error:
        context.warn(f"people could not be told of what happened: {error.message.splitlines()[0]}")
    except OSError as error:
        context.warn(f"people could not be told of what happened: {error.strerror}")
    except Exception as error:
        if os.environ.get("HOLDFAST_DEBUG") == "1":
            raise
        context.warn(f"people could not be told of what happened: {type(error).__name__}: {error}")


def _configuration(context: Context) -> Path | None:
    return None if context.configured is None else context.configured.find()


def _is_needed(context: Context, attention: Attention) -> bool:
    if not attention.channels:
        return False
    recorder = context.recorder
    if not recorder.all_ok or recorder.watched or attention.open:
        return True
    return attention.due_ns is not None and context.clock.now_ns() >= attention.due_ns
