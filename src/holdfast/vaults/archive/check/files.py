"""The small files of a repository, each looked at by itself: keys, configuration, locks, snapshots."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256

from holdfast.format.config import RepoConfig
from holdfast.format.crypto import unseal
from holdfast.format.keyfile import KeyFile
from holdfast.format.lock import LockInfo
from holdfast.format.snapshot import Snapshot
from holdfast.kernel.errors import Corrupt, Denied, HoldfastError, Invalid, NotFound, Unavailable, Unsupported
from holdfast.kernel.ids import SnapshotId, short
from holdfast.repository import Repository, layout
from holdfast.repository.locks import HeldLock
from holdfast.repository.reading import read_files
from holdfast.storage.base import Info, Storage
from holdfast.vaults.archive.check.findings import Findings

DAMAGING = (Corrupt, Unsupported, Denied, Invalid, Unavailable)
"""What one unreadable file may raise without ending the check; see :func:`still_there`."""


def still_there(storage: Storage, error: HoldfastError) -> None:
    """Raise ``error`` if it is not one file that cannot be read but the whole place:
    the rest would only look damaged.
    """
    if isinstance(error, Unavailable | Denied):
        try:
            storage.size(layout.CONFIG)
        except NotFound:
            return  # the place answers; the missing configuration is reported by itself
        except HoldfastError:
            raise error from None


class SmallFiles:
    """Looks at everything that is no pack and no index; what is wrong goes to ``findings``."""

    def __init__(self, repository: Repository, findings: Findings) -> None:
        self._repository = repository
        self._storage = repository.storage
        self._findings = findings

    def check_keys(self) -> None:
        """Every key file must have the content that its name says, and be a key file. (What is inside opens only to
        its own password.)"""
        keys = 0
        for (identifier, info), found in read_files(self._storage, layout.listing(self._storage, layout.KEYS)):
            keys += 1

            def look(
                again: bool, identifier: bytes = identifier, info: Info = info, found: bytes | HoldfastError = found
            ) -> None:
                raw = self._storage.read(info.name) if again else found
                if isinstance(raw, HoldfastError):
                    raise raw
                if sha256(raw).digest() != identifier:
                    raise Corrupt("its content does not match its name")
                KeyFile.parse(raw)

            self._guarded("key.corrupt", f"Key {short(identifier)}", look)
        if not keys:
            self._findings.add("key.missing", "The vault has no key files: once closed it can never be opened again.")

    def check_config(self) -> None:
        """The configuration must open, make sense, and be the one that this repository was opened with."""

        def look(_again: bool) -> None:
            config = RepoConfig.parse(unseal(self._repository.master, self._storage.read(layout.CONFIG)))
            if config != self._repository.config:
                raise Corrupt("it has changed since the vault was opened")

        try:
            self._guarded("config.corrupt", "The configuration file", look, passes_missing=False)
        except NotFound:
            self._findings.add("config.missing", "The configuration file is missing: the vault cannot be opened again.")

    def check_locks(self, own: bytes | None) -> None:
        """Stale locks are worth a hint; one that cannot be read keeps everybody else out, so it counts as damage."""
        for identifier, info in layout.listing(self._storage, layout.LOCKS):
            if identifier == own or info.size == 0:  # empty: left by a crash of another tool; restic ignores these too
                continue

            def look(_again: bool, identifier: bytes = identifier) -> None:
                lock = LockInfo.parse(self._repository.read_unpacked(layout.LOCKS, identifier))
                age = (self._repository.clock.now_ns() - lock.time_ns) / 1e9
                if HeldLock(identifier, lock, age).is_stale:
                    owner = f"process {lock.pid} of {lock.hostname}"
                    self._findings.add(
                        "lock.stale",
                        f"Lock {short(identifier)} of {owner} is stale; 'holdfast unlock' removes it.",
                        severity="hint",
                    )

            self._guarded("lock.corrupt", f"Lock {short(identifier)}", look)

    def snapshots(self) -> list[tuple[SnapshotId, Snapshot]]:
        """Every readable snapshot, oldest first; the others are findings."""
        found: list[tuple[SnapshotId, Snapshot]] = []
        listed = layout.listing(self._storage, layout.SNAPSHOTS)
        for identifier, plaintext in self._repository.read_many(layout.SNAPSHOTS, listed):

            def look(again: bool, identifier: bytes = identifier, plaintext: Callable[[], bytes] = plaintext) -> None:
                data = self._repository.read_unpacked(layout.SNAPSHOTS, identifier) if again else plaintext()
                found.append((SnapshotId(identifier), Snapshot.parse(data)))

            self._guarded("snapshot.corrupt", f"Snapshot {short(identifier)}", look, (short(identifier),))
        found.sort(key=lambda pair: (pair[1].time_ns, pair[0]))
        return found

    def _guarded(
        self,
        kind: str,
        what: str,
        look: Callable[[bool], None],
        snapshots: tuple[str, ...] = (),
        *,
        passes_missing: bool = True,
    ) -> None:
        """Run one look; on damage look again (which ``look`` is told) before it is reported. A file that vanished
        meanwhile is no damage."""
        for attempt in (1, 2):
            try:
                look(attempt == 2)
            except NotFound:
                if not passes_missing:
                    raise
            except DAMAGING as error:
                still_there(self._storage, error)
                if attempt == 1:
                    first = error.message
                    continue
                self._findings.add(kind, f"{what} is damaged: {error.message}", snapshots=snapshots)
            else:
                if attempt == 2:
                    self._findings.add(
                        kind, f"{what}: {first}: correct at the second read.", severity="hint", snapshots=snapshots
                    )
            return
