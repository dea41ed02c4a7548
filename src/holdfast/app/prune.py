"""Use case: free the space of what no snapshot uses any more."""

from __future__ import annotations

from typing import TYPE_CHECKING

from holdfast.app.context import Context
from holdfast.app.endings import of_prune
from holdfast.app.recording import recording

if TYPE_CHECKING:
    from holdfast.vaults.archive.prune import PruneOptions, PruneSummary


@recording("prune", of_prune)
def prune(context: Context, options: PruneOptions) -> PruneSummary:
    """Prune the vault; see :func:`holdfast.vaults.archive.prune.run.prune` for what is promised and raised."""
    from holdfast.vaults.archive.prune import prune

    with context.opened() as vault:
        return prune(vault.repository, options, emit=context.emit, cancel=context.cancel)
