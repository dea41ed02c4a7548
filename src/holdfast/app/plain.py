"""Vaults of plain files among the locations that a user can choose: recognised by their mark, opened by their kind."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

from holdfast.kernel.errors import Invalid, Unsupported

if TYPE_CHECKING:
    from holdfast.app.context import Context
    from holdfast.storage import Storage
    from holdfast.vaults.mirror import MirrorVault
    from holdfast.vaults.versioned import VersionedVault

    PlainVault = MirrorVault | VersionedVault


def _open_mirror(context: Context, root: bytes) -> MirrorVault:
    from holdfast.vaults.mirror import open_mirror

    vault = open_mirror(root, clock=context.clock, patience=context.retry_lock, no_lock=context.no_lock)
    named = context.named
    if named is not None and named.protect != vault.protect:
        made = "true" if vault.protect else "false"
        raise Invalid(
            f"the mirror {named.name!r} was made with protect: {made}, and the configuration says otherwise",
            hint=f"Write 'protect: {made}', or make another mirror.",
        )
    return vault


def _open_versioned(context: Context, root: bytes) -> VersionedVault:
    from holdfast.vaults.versioned import VersionedVault

    return VersionedVault.open(root, clock=context.clock, patience=context.retry_lock, no_lock=context.no_lock)


OPENERS: Mapping[str, Callable[[Context, bytes], PlainVault]] = MappingProxyType(
    {"mirror": _open_mirror, "versioned": _open_versioned}
)
"""Kind of a vault of plain files -> what opens the one in a folder. A new kind is one line here."""


_MORE = {"versioned": ", forget"}


def noun_of(kind: str) -> str:
    """What people call a vault of this kind: a mirror, a versioned vault."""
    return kind if kind == "mirror" else f"{kind} vault"


def folder_of(storage: Storage) -> bytes | None:
    """The folder on this machine that is the place; None for any other place."""
    from holdfast.storage import LocalStorage

    return storage.folder if isinstance(storage, LocalStorage) else None


def kind_of(storage: Storage) -> str | None:
    """The kind of the vault of plain files there; None where there is none. Raises ``Corrupt``, ``Unsupported``."""
    from holdfast.vaults.marker import read_marker

    root = folder_of(storage)
    marker = None if root is None else read_marker(root)
    return None if marker is None else marker.kind


def plain_vault(context: Context) -> PlainVault | None:
    """The context's vault, if it is one of plain files. Raises ``Unsupported`` for a kind of a later version."""
    storage = context.storage()
    try:
        root, kind = folder_of(storage), kind_of(storage)
    finally:
        storage.close()
    if root is None or kind is None:
        return None
    context.check_kind(kind)
    opener = OPENERS.get(kind)
    if opener is None:
        raise Unsupported(f"{os.fsdecode(root)} is a vault of the kind {kind!r}", hint="Install a later version.")
    return opener(context, root)


def refuse_plain(storage: Storage) -> None:
    """Raise ``Unsupported`` where a vault of plain files is: the caller wants an archive."""
    kind = kind_of(storage)
    if kind is not None:
        noun = noun_of(kind)
        raise Unsupported(
            f"{storage.location} is a {noun}, and this command is for archives",
            hint=f"A {noun} knows backup, restore, snapshots, ls, find, diff, dump, check" + _MORE.get(kind, "") + ".",
            location=storage.location,
            kind=kind,
        )
