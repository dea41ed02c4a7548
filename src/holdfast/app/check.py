"""Use case: look for damage in a vault."""

from __future__ import annotations

from holdfast.app.context import Context
from holdfast.vaults.base import CheckOptions, CheckReport


def check(context: Context, options: CheckOptions) -> CheckReport:
    """Check the vault. Damage is in the report, not an exception."""
    with context.opened() as vault:
        return vault.check(options, emit=context.emit, cancel=context.cancel)
