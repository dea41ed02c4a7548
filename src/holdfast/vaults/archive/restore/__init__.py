"""Bringing back: survey the snapshot, make a plan, carry it out; nothing is written outside the target."""

from holdfast.vaults.archive.restore.run import restore

__all__ = ["restore"]
