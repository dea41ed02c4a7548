"""Use case: take away locks that nobody holds any more."""

from __future__ import annotations

from typing import TYPE_CHECKING

from holdfast.app.context import Context

if TYPE_CHECKING:
    from holdfast.repository.locks import HeldLock


def unlock(context: Context, *, everything: bool = False, dry_run: bool = False) -> tuple[list[HeldLock], int]:
    """Remove stale locks (restic's rule: not renewed for half an hour, or the process on this machine is gone).

    With ``everything`` the others too. Returns the locks that were removed (or would be), and how many stay.
    """
    with context.opened() as vault:
        held = vault.repository.locks.held()
        gone = [lock for lock in held if everything or lock.is_stale]
        for lock in () if dry_run else gone:
            vault.repository.locks.remove(lock.id)
    return gone, len(held) - len(gone)
