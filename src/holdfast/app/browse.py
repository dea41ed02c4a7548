"""Use cases: look into snapshots (list, find, measure), and what all looking has in common."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from holdfast.app.context import Context
from holdfast.app.selection import find_snapshot, readable_snapshots
from holdfast.kernel.errors import HoldfastError, NotFound, Unsupported
from holdfast.kernel.events import Fact
from holdfast.kernel.values import dataclass
from holdfast.vaults.base import SnapshotFilter, SnapshotInfo

if TYPE_CHECKING:
    from holdfast.app.plain import PlainVault
    from holdfast.vaults.archive import ArchiveVault
    from holdfast.vaults.find import Criteria
    from holdfast.vaults.items import Browsable, Item
    from holdfast.vaults.stats import VaultStats


@dataclass(frozen=True, slots=True)
class Browsing:
    """A vault that can be looked into: all its snapshots (oldest first), and what opens their folders."""

    vault: ArchiveVault | PlainVault
    snapshots: Sequence[SnapshotInfo]
    browser: Browsable


@contextmanager
def browsing(context: Context, *, tolerant: bool = True) -> Iterator[Browsing]:
    """Open the vault for looking around, under a shared lock (none with ``no_lock``).

    ``tolerant``: damage is told as ``damage.found`` and passed over; otherwise it raises ``Corrupt``.
    """
    from holdfast.app.plain import plain_vault

    plain = plain_vault(context)
    if plain is not None:
        with plain.reading() as plain_browser:
            yield Browsing(plain, plain.snapshots(), plain_browser)
        return
    from holdfast.vaults.archive.browser import ArchiveBrowser

    def of_index(identifier: bytes, error: HoldfastError) -> None:
        context.emit(Fact("damage.found", error.message, "error", {"index": identifier.hex()}))

    def of_path(path: bytes, error: HoldfastError) -> None:
        context.emit(Fact("damage.found", error.message, "error", {"path": path}))

    with context.opened() as vault:
        snapshots = readable_snapshots(vault, context.emit)
        with vault.reading(on_damage=of_index if tolerant else None):
            yield Browsing(vault, snapshots, ArchiveBrowser(vault.repository, of_path if tolerant else None))


def ls(
    context: Context, text: str, wanted: SnapshotFilter, path: bytes, *, recursive: bool
) -> Iterator[tuple[SnapshotInfo, Item]]:
    """What is in the folder ``path`` of a snapshot; without a path, in the folder that was saved."""
    from holdfast.vaults.listing import list_items

    with browsing(context) as there:
        snapshot = find_snapshot(there.snapshots, text, wanted)
        begin = path or saved_folder(there.browser, snapshot)
        for item in list_items(there.browser, snapshot, begin, recursive=recursive):
            yield snapshot, item


def saved_folder(browser: Browsable, snapshot: SnapshotInfo) -> bytes:
    """The deepest folder of the snapshot that holds everything that was saved: where people want to begin."""
    from holdfast.vaults.disk import tops

    common = os.path.commonpath([place for place, _ in tops(browser, snapshot)] or [b"/"])
    try:
        browser.find(snapshot, common)
    except NotFound:
        return b"/"
    return common


def find(
    context: Context, chosen: Sequence[str], wanted: SnapshotFilter, criteria: Criteria
) -> Iterator[tuple[SnapshotInfo, list[Item]]]:
    """The matches in each of the ``chosen`` snapshots, or in all that fit ``wanted``, newest first."""
    from holdfast.vaults.find import find as search

    criteria.compile()
    with browsing(context) as there:
        if chosen:
            among = [find_snapshot(there.snapshots, text, wanted) for text in chosen]
        else:
            among = [snapshot for snapshot in reversed(there.snapshots) if wanted.fitting(snapshot)]
        yield from search(there.browser, among, criteria, cancel=context.cancel)


def stats(context: Context, text: str | None, wanted: SnapshotFilter) -> VaultStats:
    """Figures of the vault; growth and restore sizes of one snapshot, or of all that fit ``wanted``."""
    from holdfast.vaults.archive import ArchiveVault
    from holdfast.vaults.archive.stats import stats as gather

    def of_path(path: bytes, error: HoldfastError) -> None:
        context.emit(Fact("damage.found", error.message, "error", {"path": path}))

    with browsing(context) as there:
        among = [snapshot for snapshot in there.snapshots if wanted.matches(snapshot)]
        if text is not None:
            among = [find_snapshot(there.snapshots, text, wanted)]
        if not isinstance(there.vault, ArchiveVault):
            from holdfast.app.plain import noun_of

            noun = noun_of(there.vault.kind)
            raise Unsupported(
                f"{there.vault.location} is a {noun}: its size is that of its files",
                hint=f"du -sh {there.vault.location} tells it; 'holdfast snapshots' counts the files.",
            )
        return gather(there.vault.repository, among, emit=context.emit, cancel=context.cancel, on_damage=of_path)
