"""Use case: the log of this program, and looking at what logs say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from holdfast.app.context import Context
from holdfast.kernel.errors import HoldfastError, NotFound
from holdfast.monitor.logfile import LogFile
from holdfast.monitor.logs import Log, Tell

if TYPE_CHECKING:
    from pathlib import Path

    from holdfast.config.outputsettings import LogChoice
    from holdfast.monitor.logread import Follower, LogFilter

FOLDER = "logs"


def open_log(context: Context, role: str = "holdfast", *, tell: Tell | None = None, told: str = "warning") -> Log:
    """The log of ``role`` on this machine; nothing is opened before its first line.

    What the configuration says of levels counts once the configuration has been read for another reason (that takes
    80 ms, which most commands do without); what it says of keeping counts always: it is looked at once a day.
    """
    from holdfast.monitor.masking import mask_data

    file = LogFile(
        context.paths.state / FOLDER,
        role,
        clock=context.clock,
        keep=lambda: _kept(context),
        on_trouble=context.warn,
    )
    return Log(file, level=lambda: _level(context), clock=context.clock, tell=tell, told=told, mask=mask_data)


def _level(context: Context) -> str:
    settings = context.configured.known if context.configured is not None else None
    if settings is None:
        return "info"
    return settings.loaded.configuration.logs.level


def _kept(context: Context) -> int | None:
    """Days to keep; all of them while the configuration cannot be read: it may ask for more than is usual."""
    try:
        return _choice(context).keep
    except (HoldfastError, OSError):
        return None


def _choice(context: Context) -> LogChoice:
    from holdfast.config.outputsettings import log_choice

    settings = None if context.configured is None else context.configured.settings()
    return log_choice(None if settings is None else settings.loaded.configuration)


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
