"""Holdfast keeps your data, and proves it: backups in the restic repository format, from Python."""

__version__ = "0.1.0"
