"""Scheduled and queued work: when something is due, and who on this machine starts it; knows no backups."""
