"""How this run takes locks: how long it waits for others, and whom it tells of locks that nobody held any more."""

from __future__ import annotations

from typing import TYPE_CHECKING

from holdfast.kernel.cancel import Cancel
from holdfast.kernel.errors import Locked
from holdfast.kernel.events import Emit, Fact

if TYPE_CHECKING:
    from holdfast.repository.locks import HeldLock, Patience


def patience(seconds: float, emit: Emit, cancel: Cancel) -> Patience:
    """Wait up to ``seconds`` for a lock, with facts ``lock.waiting`` and ``lock.removed`` to ``emit``."""
    from holdfast.repository.locks import Patience

    def on_wait(error: Locked, wait: float) -> None:
        message = f"{error.message} Waiting for it, up to {seconds:.0f} s in all."
        emit(Fact("lock.waiting", message, "warning", {**error.context, "seconds": wait}))

    def on_removed(lock: HeldLock) -> None:
        emit(removed(lock))

    return Patience(seconds, on_wait, on_removed, cancel.check)


def removed(lock: HeldLock) -> Fact:
    """The fact that a lock of nobody was removed."""
    message = f"Removed the lock of process {lock.info.pid} on {lock.info.hostname}: {lock.standing.value}."
    return Fact(
        "lock.removed", message, "info", {"lock": lock.id.hex(), "pid": lock.info.pid, "host": lock.info.hostname}
    )
