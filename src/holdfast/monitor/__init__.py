"""Watching: facts kept in an outbox and a journal, notices, health, reports, logs and metrics; knows no backups."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from holdfast.monitor.place import state_folder

if TYPE_CHECKING:
    from holdfast.monitor.errors import Monitor, get_monitor
    from holdfast.monitor.scopes import monitored
    from holdfast.monitor.tracker import FileTracker

__all__ = ["FileTracker", "Monitor", "get_monitor", "monitored", "state_folder"]

_PLACES = {"FileTracker": "tracker", "Monitor": "errors", "get_monitor": "errors", "monitored": "scopes"}


def __getattr__(name: str) -> Any:
    """What scripts import, loaded when it is first asked for: a backup that only appends facts does without."""
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_PLACES[name]}"), name)
