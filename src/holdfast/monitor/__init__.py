"""Watching: facts kept in an outbox and a journal, notices, health, reports, logs and metrics; knows no backups."""

from holdfast.monitor.place import state_folder

__all__ = ["state_folder"]
