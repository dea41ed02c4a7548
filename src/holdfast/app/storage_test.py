"""Use case: prove that a place can hold a vault, before anything is trusted to it."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from holdfast.app.context import Context
from holdfast.app.plain import folder_of

if TYPE_CHECKING:
    from holdfast.storage.trial import Finding, TrialReport

_FOLDERS = (b"data", b"index", b"keys", b"locks", b"snapshots")
PATIENCE_SECONDS = 10.0
"""Somebody waits for the answer: a place that is out of reach is told sooner than by commands that run at night."""


def test_storage(context: Context, size: int, tell: Callable[[Finding], None], *, dry_run: bool = False) -> TrialReport:
    """Try the place of the vault with a file of ``size`` bytes; ``tell`` hears each finding as it is made.

    Everything that was made is removed again, folders too, also after an error: a vault of another kind may be made
    there afterwards, which wants an empty folder. Raises
    ``Unavailable``, ``Denied``, ``NoSpace`` where the place cannot be used at all.
    """
    from holdfast.storage.trial import Trial

    if context.retry_for is None:
        context = replace(context, retry_for=PATIENCE_SECONDS)
    storage = context.storage()
    place = folder_of(storage)
    before = None if place is None else _folders(place)
    trial = Trial(storage, size, clock=context.clock, random=context.random, cancel=context.cancel, tell=tell)
    try:
        return trial.run(dry_run=dry_run)
    finally:
        storage.close()
        if place is not None and before is not None:
            for folder in sorted(_folders(place) - before, reverse=True):
                with suppress(OSError):
                    os.rmdir(folder)
        for name in trial.report.left:
            context.warn(f"{name} could not be removed again: remove it yourself")


def _folders(place: bytes) -> set[bytes]:
    """The folders of a vault that are at ``place``, itself included."""
    inside = [os.path.join(place, name) for name in _FOLDERS]
    with suppress(OSError):
        data = inside[0]
        inside += [os.path.join(data, name) for name in os.listdir(data) if len(name) == 2]
    return {folder for folder in (place, *inside) if os.path.isdir(folder)}
