"""The one table of exit codes, and how errors are told: a sentence, a hint, never a traceback."""

from __future__ import annotations

import errno
import os
from typing import Any

from holdfast.kernel.errors import Cancelled, HoldfastError
from holdfast.kernel.values import dataclass

OK, FAILED, USAGE, PARTIAL, MISSING, LOCKED, DENIED, DAMAGE, TEMPORARY, CANCELLED = (
    *(0, 1, 2, 3),
    *(10, 11, 12, 13, 75, 130),
)

EXIT_CODES: dict[int, str] = {
    OK: "done",
    FAILED: "failed",
    USAGE: "bad usage or configuration",
    PARTIAL: "partial: finished, but some items could not be read or written; they are listed",
    MISSING: "no such vault, snapshot, path or key",
    LOCKED: "the vault is locked by another process",
    DENIED: "wrong password, or access denied",
    DAMAGE: "damage found",
    TEMPORARY: "temporary: storage out of reach; trying again may help",
    CANCELLED: "cancelled; what was stored is kept",
}
"""What each exit code means, in the words of the documentation."""

EXIT_OF: dict[str, int] = {
    "error": FAILED,
    "invalid": USAGE,
    "not_found": MISSING,
    "denied": DENIED,
    "wrong_password": DENIED,
    "locked": LOCKED,
    "unavailable": TEMPORARY,
    "no_space": FAILED,
    "corrupt": DAMAGE,
    "unsupported": FAILED,
    "internal": FAILED,
    "cancelled": CANCELLED,
}
"""The exit code of every ``code`` that an error of ``kernel.errors`` can carry."""

OUTCOMES: dict[str, int] = {"ok": OK, "partial": PARTIAL, "failed": FAILED, "cancelled": CANCELLED}
"""The exit code of a run that came to its end with this outcome."""

SEVERITY = (OK, PARTIAL, TEMPORARY, LOCKED, FAILED, USAGE, MISSING, DENIED, DAMAGE, CANCELLED)
"""Exit codes from the mildest to the gravest: of several runs in one command, the gravest is the command's."""

REPORT_HINT = (
    "This is a mistake in Holdfast, not yours. Run the command again with HOLDFAST_DEBUG=1 and report what it prints."
)


@dataclass(frozen=True, slots=True)
class Failure:
    """An error as the face tells it. ``exit_code`` is the process's; ``message`` may be empty (say nothing)."""

    exit_code: int
    code: str
    message: str
    hint: str = ""
    context: dict[str, Any] | None = None


def worst(one: int, other: int) -> int:
    """The graver of two exit codes."""
    return max(one, other, key=SEVERITY.index)


def failure(error: BaseException) -> Failure:
    """How to tell ``error``, whatever it is."""
    if isinstance(error, HoldfastError):
        return Failure(EXIT_OF.get(error.code, FAILED), error.code, error.message, error.hint, error.context)
    if isinstance(error, Cancelled):
        return Failure(CANCELLED, "cancelled", str(error) or "cancelled", "What was finished by then is kept.")
    if isinstance(error, KeyboardInterrupt):
        return Failure(CANCELLED, "cancelled", "cancelled")
    if isinstance(error, BrokenPipeError):
        # The reader of our output went away (holdfast ls | head): it knows, so nobody needs to be told.
        return Failure(FAILED, "broken_pipe", "")
    if isinstance(error, MemoryError):
        return Failure(FAILED, "no_memory", "out of memory", "Fewer --workers need less.")
    if isinstance(error, OSError) and error.errno is not None:
        return _of_system(error)
    return Failure(FAILED, "internal", f"unexpected error: {type(error).__name__}: {error}", REPORT_HINT)


def _of_system(error: OSError) -> Failure:
    where = os.fsdecode(error.filename) if isinstance(error.filename, (str, bytes)) else ""
    message = f"{where}: {error.strerror}" if where else str(error.strerror)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return Failure(EXIT_OF["no_space"], "no_space", message, "Make room and run the same command again.")
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return Failure(DENIED, "denied", message, "Look at the owner and the permissions, or run it as another user.")
    if error.errno == errno.ENOENT and not where and _nowhere():
        return Failure(MISSING, "not_found", "the folder that you are in was removed", "Go to another one: cd ~")
    if error.errno == errno.ENOENT:
        return Failure(MISSING, "not_found", message)
    if error.errno == errno.ENOMEM:
        return failure(MemoryError())
    if error.errno in (errno.EMFILE, errno.ENFILE):
        return Failure(FAILED, "error", message, "Raise the limit of open files: ulimit -n 4096.")
    return Failure(FAILED, "error", message)


def _nowhere() -> bool:
    try:
        os.getcwd()
    except OSError:
        return True
    return False
