"""Use case: tell who holds locks, and take away those that nobody holds any more."""

from __future__ import annotations

from dataclasses import field
from typing import TYPE_CHECKING

from holdfast.app.context import Context
from holdfast.app.endings import of_unlock
from holdfast.app.recording import recording
from holdfast.kernel.values import dataclass

if TYPE_CHECKING:
    from holdfast.repository.locks import HeldLock


@dataclass(slots=True)
class Unlocked:
    """Locks that were removed (or would be), those that stay, and the ids of unreadable ones of either kind."""

    gone: list[HeldLock] = field(default_factory=list)
    left: list[HeldLock] = field(default_factory=list)
    damaged_gone: list[bytes] = field(default_factory=list)
    damaged_left: list[bytes] = field(default_factory=list)


@recording("unlock", of_unlock)
def unlock(context: Context, *, everything: bool = False, dry_run: bool = False) -> Unlocked:
    """Remove stale locks: those of processes of this machine that are gone, and those not renewed for half an hour.

    With ``everything`` the others too, and locks that cannot be read. Deleting locks is all it does.
    """
    found = Unlocked()
    damaged: list[bytes] = []
    with context.opened() as vault:
        locks = vault.repository.locks
        for lock in locks.held(lambda identifier, _error: damaged.append(identifier)):
            (found.gone if everything or lock.is_stale else found.left).append(lock)
        (found.damaged_gone if everything else found.damaged_left).extend(damaged)
        for identifier in () if dry_run else [*(lock.id for lock in found.gone), *found.damaged_gone]:
            locks.remove(identifier)
    return found
