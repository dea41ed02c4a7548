"""Every error that Holdfast raises on purpose, split by what the caller can do about it.

::

    HoldfastError
    ├── Invalid        fix the input or the configuration
    ├── NotFound       the thing that was named does not exist
    ├── Denied         no permission
    │   └── WrongPassword   no key of the vault opens with what was given
    ├── Locked         somebody else works on the vault; wait, or look at the lock
    ├── Unavailable    storage or service out of reach; trying again may help
    │   └── NoSpace    the place that is written to is full
    ├── Corrupt        damage: what was read is not what was written
    ├── Unsupported    valid, but nothing that this version can do
    └── Internal       a worker died or a promise was broken: our fault

    Cancelled(BaseException)    the user, or a supervisor, wants this to end

Adapters translate foreign errors into these at the door (for example a ``PermissionError`` of the operating system into
``Denied``). A face turns them into an exit code or a status through one table of its own.
"""

from __future__ import annotations

from typing import Any, ClassVar


class HoldfastError(Exception):
    """An expected failure: a message for a person, a hint of what to do, and machine-readable context.

    ``message`` is one sentence without the hint; ``hint`` is what to try next (may be empty); ``context`` holds
    JSON-ready details (paths, ids, counts) and never a secret. ``code`` is stable across versions.
    """

    code: ClassVar[str] = "error"

    def __init__(self, message: str, *, hint: str = "", **context: Any) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.context = context

    def __str__(self) -> str:
        return self.message

    def __reduce__(self) -> tuple[Any, ...]:
        return (_rebuild, (type(self), self.message, self.hint, self.context))


def _rebuild(kind: type[HoldfastError], message: str, hint: str, context: dict[str, Any]) -> HoldfastError:
    return kind(message, hint=hint, **context)


class Invalid(HoldfastError):
    """The input or the configuration is wrong; the same call will fail again."""

    code = "invalid"


class NotFound(HoldfastError):
    """No such vault, snapshot, path, key or object."""

    code = "not_found"


class Denied(HoldfastError):
    """Permission refused by the operating system or a service."""

    code = "denied"


class WrongPassword(Denied):
    """No key of the vault could be opened with the given secret."""

    code = "wrong_password"


class Locked(HoldfastError):
    """Another process holds a lock that conflicts."""

    code = "locked"


class Unavailable(HoldfastError):
    """Storage or service out of reach; a later try may succeed."""

    code = "unavailable"


class NoSpace(Unavailable):
    """The place that is written to has no room left."""

    code = "no_space"


class Corrupt(HoldfastError):
    """What was read is not what was written."""

    code = "corrupt"


class Unsupported(HoldfastError):
    """Well-formed, but not something that this version can handle."""

    code = "unsupported"


class Internal(HoldfastError):
    """A worker process died, or an invariant of Holdfast itself is broken."""

    code = "internal"


class Cancelled(BaseException):
    """Raised by :meth:`holdfast.kernel.cancel.Cancel.check`; not an ``Exception``, so that no handler swallows it."""

    code = "cancelled"
