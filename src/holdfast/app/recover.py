"""Use case: make a snapshot of the folders that no snapshot leads to any more."""

from __future__ import annotations

from typing import TYPE_CHECKING

from holdfast.app.context import Context, hostname, username
from holdfast.app.endings import of_work
from holdfast.app.recording import recording

if TYPE_CHECKING:
    from holdfast.vaults.archive.recover import RecoverSummary


@recording("recover", of_work)
def recover(context: Context, *, dry_run: bool = False, workers: int | None = None) -> RecoverSummary:
    """See :func:`holdfast.vaults.archive.recover.recover`."""
    from holdfast import __version__
    from holdfast.vaults.archive.recover import RecoverOptions
    from holdfast.vaults.archive.recover import recover as bring_back

    options = RecoverOptions(hostname(), username(), f"holdfast {__version__}", dry_run, workers)
    with context.opened() as vault:
        return bring_back(vault.repository, options, emit=context.emit, cancel=context.cancel)
