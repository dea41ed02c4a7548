"""Use case: bring a vault of restic's format version 1 to version 2."""

from __future__ import annotations

import os

from holdfast.app.context import Context
from holdfast.app.endings import of_migration
from holdfast.app.recording import recording
from holdfast.kernel.errors import Corrupt, Denied
from holdfast.kernel.values import dataclass


@dataclass(frozen=True, slots=True)
class Migration:
    """What happened: the versions before and after (equal where nothing was to do), and the kept configuration."""

    before: int
    after: int
    kept: str | None


@recording("migrate", of_migration)
def migrate(context: Context, *, dry_run: bool = False) -> Migration:
    """Check the vault, keep a copy of its configuration in the state folder, then write it anew as version 2.

    Raises ``Corrupt`` where the check finds damage: that is to be repaired first. Raises ``Locked`` while anybody uses
    the vault.
    """
    from holdfast.format.config import VERSION
    from holdfast.vaults.archive.migrate import migrate as write_anew
    from holdfast.vaults.base import CheckOptions, Outcome

    kept: list[str] = []

    def keep(sealed: bytes) -> str:
        kept.append(_keep(context, vault.repository.config.id.hex(), sealed))
        return kept[0]

    with context.opened() as vault:
        before = vault.repository.config.version
        if before >= VERSION:
            return Migration(before, before, None)
        report = vault.check(CheckOptions(), emit=context.emit, cancel=context.cancel)
        if report.outcome is not Outcome.OK:
            raise Corrupt(
                "The vault is damaged, so it is left as it is.",
                hint="'holdfast check' tells what is wrong; repair that, then migrate.",
            )
        if dry_run:
            return Migration(before, VERSION, None)
        with vault.repository.locks.hold(exclusive=True):
            write_anew(vault.repository, keep)
        return Migration(before, VERSION, kept[0])


def _keep(context: Context, vault_id: str, sealed: bytes) -> str:
    """Store a copy of the configuration in the state folder (0600, durable); returns its path."""
    folder = context.paths.state / "kept"
    path = folder / f"config-of-{vault_id[:16]}"
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
        with os.fdopen(fd, "wb") as file:
            file.write(sealed)
            file.flush()
            os.fsync(fd)
        temporary.rename(path)
        held = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(held)
        finally:
            os.close(held)
    except OSError as error:
        raise Denied(
            f"cannot keep a copy of the configuration at {path}: {error.strerror}",
            hint="Nothing was changed. Make room there, or set HOLDFAST_STATE_DIR to another folder.",
        ) from error
    return str(path)
