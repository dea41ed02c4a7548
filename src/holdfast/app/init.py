"""Use case: make a new vault."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from holdfast.app.context import Context, hostname, username
from holdfast.app.endings import of_init
from holdfast.app.recording import recording
from holdfast.config import keyfile, secrets
from holdfast.kernel.errors import Invalid
from holdfast.kernel.secret import Secret
from holdfast.kernel.values import dataclass

if TYPE_CHECKING:
    from holdfast.storage import Storage


@dataclass(frozen=True, slots=True)
class NewVault:
    """What was made: where, with which keys (hex ids), and the key file that was generated, if any.

    ``exact_chunker`` is False where no compiler was there when Holdfast was installed: new data is then cut by the
    built-in cutter, which is valid but does not deduplicate against what restic cuts.
    """

    location: str
    id: str
    keys: tuple[str, ...]
    key_file: Path | None
    exact_chunker: bool
    kind: str = "archive"


@recording("init", of_init)
def init_plain(context: Context, kind: str, *, protect: bool) -> NewVault:
    """Make an empty vault of plain files at the context's location, a new or empty folder of this machine. ``kind`` is
    ``mirror``, which may be protected, or ``versioned``.

    Raises ``Invalid`` where anything is already or no location is chosen, ``Unsupported`` for a place that is no folder
    here, ``Denied``.
    """
    from holdfast.app.plain import folder_of
    from holdfast.kernel.errors import Unsupported

    if context.chosen is None:
        raise Invalid(
            "where the vault of plain files shall be is not said", hint=f"holdfast init --kind {kind} /mnt/disk/vault"
        )
    storage = context.storage()
    try:
        root = folder_of(storage)
        if root is None:
            raise Unsupported(
                f"a {kind} vault is a folder of this machine, and {storage.location} is none",
                hint="Mount the place and give its path, or make an archive there.",
            )
        _refuse_existing(context, storage)
        identifier = context.random(32)
        if kind == "mirror":
            from holdfast.vaults.mirror import make_mirror

            make_mirror(root, protect=protect, identifier=identifier)
        else:
            from holdfast.vaults.versioned import VersionedVault

            VersionedVault.create(root, identifier)
        return NewVault(storage.location, identifier.hex(), (), None, True, kind)
    finally:
        storage.close()


@recording("init", of_init)
def init(
    context: Context,
    *,
    new_key_file: str | None = None,
    more_password_files: Sequence[str] = (),
    cut_like: Context | None = None,
) -> NewVault:
    """Make a vault at the context's location. It cuts files where the vault of ``cut_like`` does, so that copies from
    one to the other share data with what either saves by itself.

    Its keys are: a key generated into ``new_key_file`` where given, else one generated into a configured vault's
    password file where that is missing, else the context's password, else (default vault only) a key generated into the
    default key file; and one for each of ``more_password_files``. Raises ``Invalid`` where a vault or anything else is
    already. After a crash there is either a vault or nothing that counts as one; a generated key file stays.
    """
    from holdfast.format.chunker import native_available
    from holdfast.repository import Repository

    storage = context.storage()
    try:
        _refuse_existing(context, storage)
        polynomial = None if cut_like is None else _polynomial(cut_like)
        more = [secrets.secret_not_empty(secrets.from_file(path, context.warn)) for path in more_password_files]
        first, key_file = _first_secret(context, new_key_file)
        repository = Repository.init(
            storage,
            [first, *more],
            clock=context.clock,
            random=context.random,
            username=username(),
            hostname=hostname(),
            polynomial=polynomial,
        )
        keys = tuple(key.id for key in repository.keys())
        return NewVault(storage.location, repository.config.id.hex(), keys, key_file, native_available())
    finally:
        storage.close()


def _polynomial(context: Context) -> int:
    with context.opened() as vault:
        return vault.repository.config.polynomial


def _refuse_existing(context: Context, storage: Storage) -> None:
    """Say it before a password is asked for or a key file is made."""
    if context.has_vault(storage):
        raise Invalid(
            f"there is already a vault at {storage.location}",
            hint="Use it as it is, or choose another place.",
            location=storage.location,
        )


def _first_secret(context: Context, new_key_file: str | None) -> tuple[Secret, Path | None]:
    if new_key_file is not None:
        path = Path(os.path.expanduser(new_key_file)).absolute()
        return keyfile.write_new(path, context.random), path
    if (missing := _missing_password_file(context)) is not None:
        return keyfile.write_new(missing, context.random), missing
    own = context.key_file
    if own is not None and not _says_password(context):
        return context.new_key(), own
    return context.secret(new=True), None


def _missing_password_file(context: Context) -> Path | None:
    """The file in which the configuration expects the new vault's password, if it is not there yet."""
    named = context.named
    if context.password or named is None or named.password.file is None or os.path.lexists(named.password.file):
        return None
    return Path(named.password.file)


def _says_password(context: Context) -> bool:
    named = context.named
    said = bool(context.password) or (named is not None and bool(named.password))
    return said or any(context.environ.get(f"HOLDFAST_PASSWORD{end}") for end in ("", "_FILE", "_COMMAND"))
