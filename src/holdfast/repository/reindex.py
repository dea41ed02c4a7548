"""Puts new index files in the place of old ones, safe against a crash at any moment."""

from __future__ import annotations

from collections.abc import Iterable

from holdfast.format.index import Entries, encode_list, encode_pack
from holdfast.kernel.ids import PackId
from holdfast.kernel.threads import map_in_threads
from holdfast.repository import layout
from holdfast.repository.repository import Repository

FILE_BLOBS = 50_000
"""Blobs in one index file (restic's number); a pack with more of them has a file of its own."""


def replace_index(
    repository: Repository, obsolete: Iterable[bytes], packs: Iterable[tuple[PackId, Entries]]
) -> list[bytes]:
    """Write ``packs`` to new index files, then delete the index files ``obsolete``; returns the ids of the new ones.

    All new files are durable before the first old one goes, so that a crash or an error (which is raised) at any moment
    leaves each pack in at least one file; equal entries in two files are legal, and the next call with the same
    arguments finishes the work. ``packs`` is read once and may be a generator: at most one file is in memory. No pack
    may come twice. What ``repository.index`` holds does not change.
    """
    written: list[bytes] = []
    part: list[bytes] = []
    blobs = 0
    for pack, entries in packs:
        count = len(entries.trees)
        if part and blobs + count > FILE_BLOBS:
            written.append(repository.write_unpacked(layout.INDEX, encode_list(part)))
            part, blobs = [], 0
        part.append(encode_pack(pack, entries))
        blobs += count
    if part:
        written.append(repository.write_unpacked(layout.INDEX, encode_list(part)))
    delete_all(repository, layout.INDEX, set(obsolete).difference(written))
    return written


def delete_all(repository: Repository, folder: str, identifiers: Iterable[bytes]) -> None:
    """Delete these files of one kind, several at a time where every call waits for a network. Missing ones are fine.

    The first error is raised once the calls that were under way have ended.
    """
    names = [layout.name_of(folder, identifier) for identifier in identifiers]
    if repository.storage.traits.connections > 1:
        map_in_threads(repository.storage.delete, names)
    else:
        for name in names:
            repository.storage.delete(name)
