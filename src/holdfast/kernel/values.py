"""Classes of fields: what ``dataclasses.dataclass`` makes, for less than a third of its time at start.

The standard library compiles up to six methods for each class, 0.6 ms each time the program starts; a backup needs
forty of them before it begins. Here only ``__init__`` is compiled. Comparing, hashing and showing are the same few
functions for all classes. What ``frozen`` forbids is forbidden by the type checker, which sees the real decorator, and
not again while the program runs: to assign is no error there, and an instance is made twice as fast.
"""

from __future__ import annotations

import dataclasses
from operator import attrgetter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dataclasses import dataclass as dataclass
else:

    def dataclass(cls=None, /, *, frozen=False, slots=False, eq=True, repr=True):
        """As ``dataclasses.dataclass``. ``fields``, ``replace`` and ``asdict`` of ``dataclasses`` work as ever."""

        def made(plain):
            own = plain.__dict__
            found = dataclasses.dataclass(plain, slots=slots, eq=False, repr=False)
            if eq and "__eq__" not in own:
                # An attribute of several names gives a tuple, without fields there is nothing to compare.
                names = [field.name for field in dataclasses.fields(found) if field.compare]
                found.__compared__ = staticmethod(attrgetter(*names) if names else _nothing)
                found.__eq__ = _eq
                if "__hash__" not in own or own["__hash__"] is None:
                    found.__hash__ = _hash if frozen else None
            if repr and "__repr__" not in own:
                found.__repr__ = _repr
            return found

        return made if cls is None else made(cls)


def _nothing(_: object) -> tuple[()]:
    return ()


def _eq(self: Any, other: Any) -> Any:
    if other.__class__ is not self.__class__:
        return NotImplemented
    return self.__compared__(self) == self.__compared__(other)


def _hash(self: Any) -> int:
    return hash(self.__compared__(self))


def _repr(self: Any) -> str:
    shown = ", ".join(f"{field.name}={getattr(self, field.name)!r}" for field in dataclasses.fields(self) if field.repr)
    return f"{type(self).__qualname__}({shown})"
