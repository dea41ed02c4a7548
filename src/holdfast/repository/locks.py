"""Locks as restic writes them: small files that say who works here, renewed while the work goes on.

Rules (restic's design document and code): a shared lock conflicts with an exclusive one, an exclusive lock with every
other. Look, write, look again. A lock is renewed every five minutes by writing a new file and deleting the old one.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import sha256

from holdfast.format.lock import LockInfo
from holdfast.format.time import format_time, parse_time
from holdfast.kernel.clock import Clock
from holdfast.kernel.errors import Corrupt, Denied, HoldfastError, Locked, NoSpace, NotFound
from holdfast.repository import layout
from holdfast.storage.base import Storage

RENEW_SECONDS = 300.0
STALE_SECONDS = 1800.0
SETTLE_SECONDS = 0.2  # restic's wait before the second look, for storages that list late
NO_LOCK_HINT = " To look at the vault, or to restore from it, as it is: --no-lock."


@dataclass(frozen=True, slots=True)
class HeldLock:
    """Somebody's lock as found in the storage. ``age_seconds`` counts from its last renewal."""

    id: bytes
    info: LockInfo
    age_seconds: float

    @property
    def owner_is_gone(self) -> bool:
        """Whether the lock names a process of this very machine that does not exist any more."""
        return self.info.hostname == os.uname().nodename and self.info.pid > 0 and not _alive(self.info.pid)

    @property
    def is_stale(self) -> bool:
        """Not renewed for half an hour, or its process is gone (restic's rule for ``unlock``)."""
        return self.age_seconds > STALE_SECONDS or self.owner_is_gone


class Locks:
    """The locks of one repository. ``encode`` and ``decode`` seal and open small files (see ``Repository``)."""

    def __init__(
        self,
        storage: Storage,
        clock: Clock,
        encode: Callable[[bytes], bytes],
        decode: Callable[[bytes], bytes],
        *,
        username: str = "",
    ) -> None:
        self._storage = storage
        self._clock = clock
        self._encode = encode
        self._decode = decode
        self._username = username

    def held(self) -> list[HeldLock]:
        """Every readable lock. One that vanishes meanwhile is no lock; one that cannot be read raises ``Corrupt``."""
        found = []
        for identifier, info in layout.listing(self._storage, layout.LOCKS):
            if info.size == 0:
                continue  # left by a crash of another tool while it was writing; restic ignores these as well
            try:
                raw = self._storage.read(info.name)
                lock = LockInfo.parse(self._decode(raw))
            except NotFound:
                continue
            except Corrupt as error:
                raise Corrupt(
                    f"The lock {identifier.hex()[:8]} cannot be read.",
                    hint="If nobody is using the vault, remove it with 'holdfast unlock'.",
                    lock=identifier.hex(),
                ) from error
            age = (self._clock.now_ns() - parse_time(lock.time)) / 1e9
            found.append(HeldLock(identifier, lock, age))
        return found

    def remove(self, identifier: bytes) -> None:
        """Delete one lock file; a missing one is fine."""
        self._storage.delete(layout.name_of(layout.LOCKS, identifier))

    def remove_stale(self) -> list[HeldLock]:
        """Delete the locks of processes of this host that are gone; returns them.
        Locks of other hosts are never touched.
        """
        gone = [lock for lock in self.held() if lock.owner_is_gone]
        for lock in gone:
            self.remove(lock.id)
        return gone

    @contextlib.contextmanager
    def hold(self, *, exclusive: bool) -> Iterator[Lock]:
        """Take a lock for the length of a ``with`` block.

        Raises ``Locked`` and leaves nothing behind on a conflict; ``Denied`` or ``NoSpace`` where the lock cannot be
        written.
        """
        self._refuse_conflicts(exclusive, own=None)
        try:
            lock = Lock(self._write, self.remove, exclusive=exclusive)
        except (Denied, NoSpace) as error:
            if self._storage.traits.read_only:
                raise
            raise type(error)(error.message, hint=error.hint + NO_LOCK_HINT, **error.context) from error
        try:
            if not self._storage.traits.immediate_listing:
                self._clock.sleep(SETTLE_SECONDS)
            self._refuse_conflicts(exclusive, own=lock.id)
            yield lock
        finally:
            lock.release()

    def _write(self, exclusive: bool) -> bytes:
        now = self._clock.now_ns()
        info = LockInfo(
            time=format_time(now, self._clock.utc_offset(now)),
            exclusive=exclusive,
            hostname=os.uname().nodename,
            username=self._username,
            pid=os.getpid(),
            uid=os.getuid(),
            gid=os.getgid(),
        )
        sealed = self._encode(info.encode())
        identifier = sha256(sealed).digest()
        self._storage.write(layout.name_of(layout.LOCKS, identifier), sealed)
        return identifier

    def _refuse_conflicts(self, exclusive: bool, own: bytes | None) -> None:
        for lock in self.held():
            if lock.id != own and (exclusive or lock.info.exclusive):
                raise Locked(
                    f"The vault is locked{' exclusively' if lock.info.exclusive else ''} by {_who(lock)}.",
                    hint=_advice(lock),
                    lock=lock.id.hex(),
                    host=lock.info.hostname,
                    pid=lock.info.pid,
                )


class Lock:
    """One lock of ours. :meth:`start_renewing` keeps it fresh from a thread of its own; start it after any fork."""

    def __init__(self, write: Callable[[bool], bytes], remove: Callable[[bytes], None], *, exclusive: bool) -> None:
        self._write = write
        self._remove = remove
        self._exclusive = exclusive
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        self._owner = os.getpid()
        self.failure: HoldfastError | None = None
        self.id = write(exclusive)

    def start_renewing(self) -> None:
        """Renew every five minutes until the lock is released."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._renew, name="lock renewal", daemon=True)
            self._thread.start()

    def confirm(self) -> None:
        """Raise what kept the lock from being renewed, if anything did: call it before a commit."""
        if self.failure is not None:
            raise self.failure

    def release(self) -> None:
        """Delete the lock file. A storage that is gone is no error: the lock then goes stale by itself."""
        if os.getpid() != self._owner:
            return
        self._ended.set()
        if self._thread is not None:
            self._thread.join()
        with contextlib.suppress(HoldfastError):
            self._remove(self.id)

    def _renew(self) -> None:
        while not self._ended.wait(RENEW_SECONDS):
            try:
                old, self.id = self.id, self._write(self._exclusive)
                self._remove(old)
                self.failure = None
            except HoldfastError as error:
                self.failure = error  # tried again in five minutes; a commit refuses to go on meanwhile


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _who(lock: HeldLock) -> str:
    user = f"{lock.info.username}@" if lock.info.username else ""
    minutes = max(0, int(lock.age_seconds // 60))
    return f"process {lock.info.pid} of {user}{lock.info.hostname} (renewed {minutes} min ago)"


def _advice(lock: HeldLock) -> str:
    if lock.owner_is_gone:
        return "That process is gone: 'holdfast unlock' removes its lock."
    if lock.age_seconds > STALE_SECONDS:
        return "It has not been renewed for half an hour. If that machine is not working on it, run 'holdfast unlock'."
    return "Wait until it has finished, then try again."
