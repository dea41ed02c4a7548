"""Use case: prove that a place can hold a vault, before anything is trusted to it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from holdfast.app.context import Context

if TYPE_CHECKING:
    from holdfast.storage.trial import Finding, TrialReport

PATIENCE_SECONDS = 10.0
"""Somebody waits for the answer: a place that is out of reach is told sooner than by commands that run at night."""


def test_storage(context: Context, size: int, tell: Callable[[Finding], None], *, dry_run: bool = False) -> TrialReport:
    """Try the place of the vault with a file of ``size`` bytes; ``tell`` hears each finding as it is made.

    Makes the folder where there is none. Everything that was written is removed again, also after an error. Raises
    ``Unavailable``, ``Denied``, ``NoSpace`` where the place cannot be used at all.
    """
    from holdfast.storage.trial import Trial

    if context.retry_for is None:
        context = replace(context, retry_for=PATIENCE_SECONDS)
    storage = context.storage()
    trial = Trial(storage, size, clock=context.clock, random=context.random, cancel=context.cancel, tell=tell)
    try:
        return trial.run(dry_run=dry_run)
    finally:
        storage.close()
        for name in trial.report.left:
            context.warn(f"{name} could not be removed again: remove it yourself")
