"""Names of things in an archive vault: 32 raw bytes each, kept apart by type."""

from __future__ import annotations

from typing import NewType

BlobId = NewType("BlobId", bytes)
"""SHA-256 of a blob's plaintext."""

PackId = NewType("PackId", bytes)
"""SHA-256 of a pack file as stored."""

SnapshotId = NewType("SnapshotId", bytes)
"""SHA-256 of a snapshot file as stored."""

SHORT_HEX = 8
"""How many hex digits people are shown (restic's habit)."""


def short(identifier: bytes) -> str:
    """The first eight hex digits of an id, for people."""
    return identifier.hex()[:SHORT_HEX]
