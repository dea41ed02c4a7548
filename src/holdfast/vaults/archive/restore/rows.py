"""Files to be written, gathered by where their content lies in the vault."""

from __future__ import annotations

import marshal
from collections.abc import Sequence

from holdfast.kernel.ids import BlobId, PackId, short
from holdfast.repository.index import Index
from holdfast.vaults.archive.restore.tasks import Big, Meta, Part, Plain, Small, Spot, join

_SPOT_BITS = 20  # small files are grouped by the MiB of a pack: fine enough to share 100,000 of them among workers


class Rows:
    """What one process has found to write. Compact tuples, handed over marshalled (pickle takes five times as long)."""

    def __init__(self, index: Index, *, keep_content: bool) -> None:
        """``keep_content``: big files are to be read again, so their blobs must be known at the end."""
        self._stored = index.stored
        self._keep_content = keep_content
        self.small: dict[Spot, list[Small]] = {}
        self.parts: dict[PackId, list[Part]] = {}
        self.bigs: list[Big] = []
        self.plain: list[Plain] = []
        self.files = 0
        self.size = 0

    def add_file(self, folder: bytes, name: bytes, content: Sequence[BlobId], meta: Meta) -> str:
        """Plan one file; returns why it cannot be restored, or an empty text."""
        if len(content) == 1:
            identifier = content[0]
            stored = self._stored(identifier)
            if stored is None:
                return _missing(identifier)
            pack, offset, length, raw = stored
            spot = (pack, offset >> _SPOT_BITS)
            row = (offset, length, raw, identifier, folder, name, *meta)
            if spot in self.small:
                self.small[spot].append(row)
            else:
                self.small[spot] = [row]
            self.size += raw or length - 32
        elif content:
            return self._add_big(folder, name, content, meta)
        else:
            self.plain.append(("file", folder, name, b"", 0, *meta))
        self.files += 1
        return ""

    def take_small(self) -> dict[Spot, tuple[bytes, int, int]]:
        """All small files, marshalled, with their number and the bytes that their blobs take in the pack."""
        taken = {
            spot: (marshal.dumps(rows), len(rows), sum([row[1] for row in rows])) for spot, rows in self.small.items()
        }
        self.small = {}
        return taken

    def take_plain(self) -> tuple[bytes, int]:
        """All that has no content, marshalled, and how many there are."""
        rows, self.plain = self.plain, []
        return (marshal.dumps(rows), len(rows)) if rows else (b"", 0)

    def _add_big(self, folder: bytes, name: bytes, content: Sequence[BlobId], meta: Meta) -> str:
        path = join(folder, name)
        at = 0
        found: list[tuple[PackId, Part]] = []
        known: list[tuple[bytes, int]] = []
        for identifier in content:
            stored = self._stored(identifier)
            if stored is None:
                return _missing(identifier)
            pack, offset, length, raw = stored
            found.append((pack, (offset, length, raw, identifier, path, at)))
            size = raw or length - 32
            known.append((identifier, size))
            at += size
        for pack, part in found:
            self.parts.setdefault(pack, []).append(part)
        self.bigs.append(Big(folder, name, at, meta, known if self._keep_content else []))
        self.files += 1
        self.size += at
        return ""


def _missing(identifier: bytes) -> str:
    return f"its content is missing from the vault (blob {short(identifier)} is in no index)"
