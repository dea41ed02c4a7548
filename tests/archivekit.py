"""Small real archive vaults for tests: make one, back up into it, and read a snapshot back without the restore code."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from holdfast.files.rules import Rules
from holdfast.format.node import Node
from holdfast.format.tree import decode_tree
from holdfast.kernel.cancel import Cancel
from holdfast.kernel.events import Event, ignore
from holdfast.kernel.ids import BlobId
from holdfast.kernel.secret import Secret
from holdfast.repository import Repository
from holdfast.storage import LocalStorage, Storage
from holdfast.vaults.archive import ArchiveVault
from holdfast.vaults.base import BackupOptions, BackupSummary

SECRET = Secret(b"a secret for tests that no vault outside of them has", random=True)
ALL = Rules.compile([], defaults=False)


def new_vault(place: Path | Storage, memo_folder: Path | None = None) -> ArchiveVault:
    """An empty vault."""
    storage = LocalStorage(str(place)) if isinstance(place, Path) else place
    return ArchiveVault(Repository.init(storage, [SECRET], username="tester", hostname="here"), memo_folder)


def open_vault(place: Path | Storage, memo_folder: Path | None = None) -> ArchiveVault:
    """A vault that :func:`new_vault` made, opened anew."""
    storage = LocalStorage(str(place)) if isinstance(place, Path) else place
    return ArchiveVault(Repository.open(storage, SECRET, username="tester"), memo_folder)


def options(*paths: Path | bytes, **changes: object) -> BackupOptions:
    """Options for a backup of these paths on host ``here``, without default excludes, in this process."""
    named = tuple(os.fsencode(path) for path in paths)
    return replace(BackupOptions(paths=named, rules=ALL, hostname="here", username="tester", workers=0), **changes)


def save(
    vault: ArchiveVault,
    *paths: Path | bytes,
    emit: Callable[[Event], None] = ignore,
    cancel: Cancel | None = None,
    **changes: object,
) -> BackupSummary:
    """Back up."""
    return vault.backup(options(*paths, **changes), emit=emit, cancel=cancel or Cancel())


def nodes(vault: ArchiveVault, snapshot: bytes | None = None) -> Iterator[tuple[bytes, Node]]:
    """Every (path, node) of a snapshot (the latest if None), straight from its trees."""
    repository = vault.repository
    repository.load_index()
    found = repository.snapshots()
    chosen = found[-1][1] if snapshot is None else dict(found)[snapshot]  # type: ignore[index]
    yield from _below(repository, chosen.tree, b"")


def _below(repository: Repository, tree: BlobId, folder: bytes) -> Iterator[tuple[bytes, Node]]:
    for node in decode_tree(repository.read_blob(tree)):
        path = folder + b"/" + node.name
        yield path, node
        if node.subtree is not None:
            yield from _below(repository, node.subtree, path)


def tree_of(vault: ArchiveVault, folder: Path) -> BlobId | None:
    """The tree of a folder in the latest snapshot. (The root's own tree also tells the times of the folders above.)"""
    return dict(nodes(vault))[os.fsencode(folder)].subtree


def files(vault: ArchiveVault, below: Path, snapshot: bytes | None = None) -> dict[bytes, bytes]:
    """Path relative to ``below`` -> content of every regular file of a snapshot. Every blob is verified on the way."""
    prefix = os.fsencode(below) + b"/"
    return {
        path.removeprefix(prefix): b"".join(vault.repository.read_blob(blob) for blob in node.content)
        for path, node in nodes(vault, snapshot)
        if node.type == "file" and node.content is not None
    }


def on_disk(below: Path) -> dict[bytes, bytes]:
    """The same of the folder itself."""
    root = os.fsencode(below)
    found = {}
    for folder, _, names in os.walk(root):
        for name in names:
            path = os.path.join(folder, name)
            if os.path.isfile(path) and not os.path.islink(path):
                with open(path, "rb") as file:
                    found[os.path.relpath(path, root)] = file.read()
    return found
