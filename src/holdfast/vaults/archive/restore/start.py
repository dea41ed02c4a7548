"""The beginning of a restore: which part of the snapshot goes where, and what must never be deleted."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from typing import NamedTuple

from holdfast.format.node import Node
from holdfast.kernel.cancel import Cancel
from holdfast.kernel.errors import Corrupt, Invalid, NotFound
from holdfast.repository import Repository
from holdfast.sources.base import ROOT, as_path
from holdfast.vaults.archive.read import find_node, parts_of
from holdfast.vaults.archive.restore.survey import Job, Surveyor
from holdfast.vaults.archive.restore.tasks import Folder, Visit, meta_of
from holdfast.vaults.base import RestoreOptions, SnapshotInfo
from holdfast.vaults.selection import Selection


class Start(NamedTuple):
    """Where a restore begins. ``chain``: the folders that lead from the root to ``node``, for an in-place restore."""

    job: Job
    node: Node
    chain: tuple[tuple[bytes, Node], ...]
    saved: bool

    def plan(self, surveyor: Surveyor) -> list[Visit]:
        """Plan what stands at the beginning; returns the folders to visit.

        What was planned at once is in the surveyor's next answer.
        """
        options = self.job.options
        for path, node in self.chain:
            there = surveyor.has_folder(path)
            surveyor.plan_chain(Folder(path, None if there else meta_of(node), True, there))
        above = self.chain[-1][0] if self.chain else b""
        there = surveyor.has_folder(above)
        named = b"/" + b"/".join(parts_of(options.path))
        selection = None
        if options.include is not None or options.exclude is not None:
            include = options.include.root(named) if options.include is not None else None
            exclude = options.exclude.root(named) if options.exclude is not None else None
            selection = Selection(include, exclude)
        if self.node.type != "dir":
            return surveyor.plan_item(Visit(above, b"", None, there, self.saved), self.node)
        if options.in_place and self.node.name:
            visits = surveyor.plan_item(Visit(above, b"", None, there, self.saved), self.node)
            return [visit._replace(selection=selection) for visit in visits]
        if self.node.name and not there:
            surveyor.plan_chain(Folder(b"", meta_of(self.node), True, False))
        return [Visit(b"", self.node.subtree or b"", selection, there, self.saved)]


def begin(repository: Repository, snapshot: SnapshotInfo, options: RestoreOptions, cancel: Cancel) -> Start:
    """Find what is to be restored.

    Raises ``NotFound``, ``Corrupt``, and ``Invalid`` for an impossible in-place restore.
    """
    saved, absolute = _saved_paths(repository, snapshot)
    if options.in_place and not absolute:
        raise Invalid(
            "This snapshot was made of relative paths, so it does not tell where they were.",
            hint="Restore it with --target DIR.",
        )
    parts = parts_of(options.path)
    node = find_node(repository, snapshot, options.path)
    if node.type == "dir" and node.subtree is None:
        shown = os.fsdecode(options.path)
        raise Corrupt(f"The snapshot does not tell what is in {shown}.", hint="Run 'holdfast check'.", path=shown)
    base: list[bytes] = [] if options.in_place else parts if node.type == "dir" else parts[:-1]
    chain = []
    if options.in_place:
        for depth in range(1, len(parts)):
            path = b"/".join(parts[:depth])
            chain.append((path, find_node(repository, snapshot, path)))
    job = Job(
        repository=repository,
        options=options,
        root=b"/" if options.in_place else options.target,
        base=b"".join(b"/" + part for part in base),
        saved=frozenset(b"/".join(path[len(base) :]) for path in saved if list(path[: len(base)]) == base),
        token=os.urandom(8).hex().encode(),
        keep=_vault_folders(repository),
        cancel=cancel,
        is_root=os.geteuid() == 0,
        elsewhere=_elsewhere(snapshot) if options.in_place and not parts else frozenset(),
    )
    start = parts if not options.in_place or node.type == "dir" else parts[:-1]
    inside = any(list(path) == start[: len(path)] for path in saved)
    return Start(job, node, tuple(chain), inside and not (options.in_place and not parts and () not in saved))


def _saved_paths(repository: Repository, snapshot: SnapshotInfo) -> tuple[list[tuple[bytes, ...]], bool]:
    """The paths in the tree that the backup was asked to save, and whether they are the absolute ones.

    A snapshot records absolute paths, but for a relative one its tree holds only what was given: the longest end of
    the path that the tree knows. If it knows none, the content of the folder itself ('.') was saved.
    """
    found: list[tuple[bytes, ...]] = []
    absolute = False
    for text in snapshot.paths:
        parts = parts_of(os.fsencode(text))
        for end in _ends(parts):
            with suppress(NotFound):
                try:
                    find_node(repository, snapshot, b"/".join(end))
                    found.append(tuple(end))
                except Corrupt:  # it is there, but nothing may be deleted where nobody knows what it held
                    pass
                absolute = absolute or len(end) == len(parts)
                break
    if not found and len(snapshot.paths) == 1 and "\ufffd" not in snapshot.paths[0]:
        found.append(())
    return found, absolute


def _elsewhere(snapshot: SnapshotInfo) -> frozenset[bytes]:
    """What never was on a disk: dumps of databases and output of programs."""
    place = os.fsdecode(as_path(()))
    return frozenset((ROOT,)) if any(path.startswith(place) for path in snapshot.paths) else frozenset()


def _ends(parts: list[bytes]) -> Iterator[list[bytes]]:
    if not parts:
        yield parts
    for at in range(len(parts)):
        yield parts[at:]


def _vault_folders(repository: Repository) -> frozenset[tuple[int, int]]:
    """Device and inode of the vault's folder and of all around it, if it is on this machine."""
    staging = repository.storage.staging()
    place = os.path.dirname(os.path.abspath(staging)) if staging is not None else repository.storage.location
    found: set[tuple[int, int]] = set()
    if os.path.isdir(place):
        place = os.path.realpath(place)
        while True:
            with suppress(OSError):
                st = os.stat(place)
                found.add((st.st_dev, st.st_ino))
            if place == os.path.dirname(place):
                break
            place = os.path.dirname(place)
    return frozenset(found)
