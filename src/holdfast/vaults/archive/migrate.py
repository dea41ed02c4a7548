"""Bring a repository of format version 1 to version 2, whose blobs may be compressed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from holdfast.format.config import VERSION
from holdfast.format.crypto import seal, unseal
from holdfast.kernel.errors import Corrupt, HoldfastError
from holdfast.repository import Repository, layout

KEPT_HINT = (
    "The former configuration was kept at {place}. If the vault has no file 'config' any more, put that copy there."
)


def migrate(repository: Repository, keep: Callable[[bytes], str]) -> bool:
    """Write the configuration anew with version 2; False where there is nothing to do.

    Only the configuration changes: everything that is stored stays valid as it is (restic's design document,
    "Repository Version 2"). The caller holds an exclusive lock and has checked the vault. ``keep`` stores the former
    sealed configuration somewhere outside of the vault, durably, and returns where.

    A crash leaves the old or the new configuration; where the storage cannot replace a file in one step
    (``traits.atomic_replace``) it may leave none, and then the kept copy, put back as ``config``, mends it. Raises what
    the storage raises, with the kept copy's place in the hint.
    """
    if repository.config.version >= VERSION:
        return False
    former = repository.storage.read(layout.CONFIG)
    place = keep(former)
    config = replace(repository.config, version=VERSION)
    sealed = seal(repository.master, repository.draw(16), config.encode())
    if unseal(repository.master, sealed) != config.encode():
        raise Corrupt("Encryption went wrong: the machine's memory or processor is faulty.")
    try:
        repository.storage.replace(layout.CONFIG, sealed)
        if repository.storage.read(layout.CONFIG) != sealed:
            raise Corrupt("The new configuration came back from the vault with other bytes than were written.")
    except HoldfastError as error:
        hint = f"{error.hint} {KEPT_HINT.format(place=place)}".strip()
        raise type(error)(error.message, hint=hint, **error.context) from error
    repository.config = config
    return True
