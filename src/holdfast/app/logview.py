"""Use case: look at what logs say, and follow them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from holdfast.app.context import Context
from holdfast.app.logs import FOLDER
from holdfast.kernel.errors import NotFound
from holdfast.kernel.values import dataclass

if TYPE_CHECKING:
    from pathlib import Path

    from holdfast.monitor.logread import Follower, LogFilter


@dataclass(frozen=True, slots=True)
class LogView:
    """Lines oldest first; whether there are older ones; how many lines could not be read; files with reasons."""

    lines: list[dict[str, Any]]
    more: bool
    torn: int
    unreadable: dict[str, str]


def read_logs(context: Context, wanted: LogFilter, *, count: int, follower: Follower | None = None) -> LogView:
    """The newest ``count`` lines (0: all) that are wanted, up to where ``follower`` stands.

    Raises ``NotFound`` where there is no such log at all, unless somebody follows: one may yet begin.
    """
    from holdfast.monitor.logread import Unread, newest, read

    folder = context.paths.state / FOLDER if follower is not None else _folder(context, wanted)
    unread = Unread()
    lines, more = newest(read(folder, wanted, unread, None if follower is None else follower.ends), count)
    return LogView(lines, more, unread.lines, unread.files)


def make_follower(context: Context, wanted: LogFilter) -> Follower:
    """Stands at the ends of the logs from now on; ``lines`` of it go on from there."""
    from holdfast.monitor.logread import Follower

    return Follower(context.paths.state / FOLDER, wanted.role)


def _folder(context: Context, wanted: LogFilter) -> Path:
    from holdfast.monitor.logfile import files_of

    folder = context.paths.state / FOLDER
    if not files_of(folder, wanted.role):
        roles = sorted({role for role, _ in files_of(folder)})
        if wanted.role is not None and roles:
            raise NotFound(f"there is no log of {wanted.role!r}", hint=f"There are logs of {', '.join(roles)}.")
        raise NotFound(f"there is no log yet in {folder}", hint="The first backup, check or other work begins one.")
    return folder
