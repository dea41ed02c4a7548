"""What all processes of one backup have in common."""

from __future__ import annotations

from collections.abc import Callable

from holdfast.files.rules import Scope
from holdfast.kernel.cancel import Cancel
from holdfast.kernel.values import dataclass
from holdfast.repository import Repository
from holdfast.repository.index import SharedIds
from holdfast.sources.base import Source
from holdfast.sources.directory import Lister, Listing
from holdfast.vaults.archive.backup.memo import Memo


@dataclass(frozen=True, slots=True)
class Job:
    """Made before the fork.

    ``force`` reads every file again; ``verbose`` reports every file; ``share_files`` lets several processes read one
    big file; ``ahead`` are directories that were listed already, by path. ``sqlite``: see ``BackupOptions``.
    """

    repository: Repository
    lister: Lister
    ahead: dict[bytes, tuple[Scope, Listing]]
    memo: Memo
    stored: SharedIds
    cancel: Cancel
    offset_at: Callable[[int], int]
    force: bool
    verbose: bool
    dry_run: bool
    share_files: bool
    spool_tag: str
    sqlite: bool = False
    sources: tuple[Source, ...] = ()
