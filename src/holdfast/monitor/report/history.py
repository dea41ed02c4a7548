"""What a report needs of the journal, and how it reads the figures in what it finds there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from holdfast.monitor.journal import RunRow
    from holdfast.monitor.record import Record


class History(Protocol):
    """What is needed of the journal."""

    def runs(
        self,
        *,
        operations: Sequence[str] = (),
        plan: str | None = None,
        vault: str | None = None,
        outcomes: Sequence[str] = (),
        since_ns: int | None = None,
        until_ns: int | None = None,
        limit: int | None = None,
        newest_first: bool = True,
    ) -> list[RunRow]: ...

    def facts(
        self,
        *,
        kinds: Sequence[str] = (),
        plan: str | None = None,
        run: str | None = None,
        since_ns: int | None = None,
        until_ns: int | None = None,
        newest_first: bool = True,
        limit: int | None = None,
    ) -> list[Record]: ...


def number(data: Mapping[str, Any], *names: str) -> int:
    """The first of these fields that is a number, else 0."""
    for name in names:
        value = data.get(name)
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return int(value)
    return 0
