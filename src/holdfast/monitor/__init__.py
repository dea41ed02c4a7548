"""Watching: facts kept in an outbox and a journal, notices, health, reports, logs and metrics; knows no backups."""
