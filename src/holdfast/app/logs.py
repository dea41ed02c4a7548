"""The log of a program: where it is, and what the configuration says of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from holdfast.app.context import Context
from holdfast.config.secrets import Warn
from holdfast.kernel.errors import HoldfastError
from holdfast.monitor.logfile import LogFile
from holdfast.monitor.logs import Log, Tell

if TYPE_CHECKING:
    from holdfast.config.outputsettings import LogChoice

FOLDER = "logs"


def open_log(
    context: Context, role: str = "holdfast", *, warn: Warn, tell: Tell | None = None, told: str = "warning"
) -> Log:
    """The log of ``role`` on this machine; nothing is opened before its first line.

    What the configuration says of levels counts once the configuration has been read for another reason (that takes
    80 ms, which most commands do without); what it says of keeping counts always: it is looked at once a day.
    ``warn`` hears once that nothing can be written.
    """
    file = LogFile(
        context.paths.state / FOLDER,
        role,
        clock=context.clock,
        keep=lambda: _kept(context),
        on_trouble=warn,
    )
    return Log(file, level=lambda: _level(context), clock=context.clock, tell=tell, told=told, mask=_mask)


def _mask(value: Any) -> Any:
    from holdfast.monitor.masking import mask_data

    return mask_data(value)


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
