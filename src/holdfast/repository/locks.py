"""Locks as restic writes them: small files that say who works here, renewed while the work goes on.

Rules (restic's design document and code): a shared lock conflicts with an exclusive one, an exclusive lock with every
other. Look, write, look again. A lock is renewed every five minutes by writing a new file and deleting the old one.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator
from hashlib import sha256

from holdfast.format.lock import LockInfo
from holdfast.format.time import format_time, parse_time
from holdfast.kernel.clock import Clock
from holdfast.kernel.errors import Corrupt, Denied, HoldfastError, Locked, NoSpace, NotFound
from holdfast.kernel.values import dataclass
from holdfast.repository import layout, lockowner
from holdfast.repository.reading import read_files
from holdfast.storage.base import Storage

RENEW_SECONDS = 300.0
SETTLE_SECONDS = 0.2  # restic's wait before the second look, for storages that list late
RETRY_SECONDS = (5.0, 60.0)  # restic's waits between two tries: each twice the one before, up to the second
NO_LOCK_HINT = " To look at the vault, or to restore from it, as it is: --no-lock."


@dataclass(frozen=True, slots=True)
class HeldLock:
    """Somebody's lock as found in the storage. ``age_seconds`` counts from its last renewal."""

    id: bytes
    info: LockInfo
    age_seconds: float

    @property
    def standing(self) -> lockowner.Standing:
        """What is known here of its process."""
        return lockowner.standing(self.info, self.age_seconds, lockowner.origin(), lockowner.up_seconds())

    @property
    def is_abandoned(self) -> bool:
        """Whether it may be removed without asking; see :func:`holdfast.repository.lockowner.is_abandoned`."""
        return lockowner.is_abandoned(self.standing, self.age_seconds)

    @property
    def is_stale(self) -> bool:
        """Whether ``unlock`` removes it; see :func:`holdfast.repository.lockowner.is_stale`."""
        return lockowner.is_stale(self.standing, self.age_seconds)


@dataclass(slots=True)
class Patience:
    """How locks are taken. For up to ``seconds`` a conflict is waited for; 0 gives up at once.

    ``on_wait`` hears of each conflict that is waited for, and for how many seconds. ``on_removed`` hears of locks that
    nobody holds any more and that were therefore removed; without it they stay. ``check`` is called several times a
    second while waiting and raises to end it.
    """

    seconds: float = 0.0
    on_wait: Callable[[Locked, float], None] | None = None
    on_removed: Callable[[HeldLock], None] | None = None
    check: Callable[[], None] | None = None


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
        self.patience = Patience()
        self._known: dict[bytes, LockInfo] = {}  # by the hash of the content, which therefore never changes

    def held(self, on_damage: Callable[[bytes, HoldfastError], None] | None = None) -> list[HeldLock]:
        """Every readable lock. One that vanishes meanwhile is no lock; one that cannot be read goes to ``on_damage``,
        or raises ``Corrupt`` without it.

        A lock that was read or written before is not read again.
        """
        found = []
        # Empty ones were left by a crash of another tool while it was writing; restic ignores these as well.
        listed = [pair for pair in layout.listing(self._storage, layout.LOCKS) if pair[1].size]
        there = {identifier for identifier, _ in listed}
        self._known = {identifier: lock for identifier, lock in list(self._known.items()) if identifier in there}
        for (identifier, _), raw in read_files(self._storage, (pair for pair in listed if pair[0] not in self._known)):
            try:
                if isinstance(raw, HoldfastError):
                    raise raw
                self._known[identifier] = LockInfo.parse(self._decode(raw))
            except NotFound:
                continue
            except Corrupt as error:
                if on_damage is None:
                    raise Corrupt(
                        f"The lock {identifier.hex()[:8]} cannot be read.",
                        hint="If nobody is using the vault, remove it with 'holdfast unlock --all'.",
                        lock=identifier.hex(),
                    ) from error
                on_damage(identifier, error)
        for identifier, lock in list(self._known.items()):  # a renewal in its thread may add one meanwhile
            age = (self._clock.now_ns() - parse_time(lock.time)) / 1e9
            found.append(HeldLock(identifier, lock, age))
        return found

    def remove(self, identifier: bytes) -> None:
        """Delete one lock file; a missing one is fine."""
        self._storage.delete(layout.name_of(layout.LOCKS, identifier))

    def remove_stale(self) -> list[HeldLock]:
        """Delete the locks of this host that are abandoned (see :mod:`.lockowner`); returns them.
        Locks of other hosts are never touched.
        """
        gone = [lock for lock in self.held() if lock.is_abandoned]
        for lock in gone:
            self.remove(lock.id)
        return gone

    @contextlib.contextmanager
    def hold(self, *, exclusive: bool) -> Iterator[Lock]:
        """Take a lock for the length of a ``with`` block, with the patience that was set.

        Raises ``Locked`` and leaves nothing behind on a conflict; ``Denied`` or ``NoSpace`` where the lock cannot be
        written.
        """
        lock = self._take_patiently(exclusive)
        try:
            yield lock
        finally:
            lock.release()

    def _take_patiently(self, exclusive: bool) -> Lock:
        clock, patience = self._clock, self.patience
        deadline = clock.monotonic() + patience.seconds
        pause, longest = RETRY_SECONDS
        while True:
            try:
                return self._take(exclusive)
            except Locked as error:
                wait = min(pause, deadline - clock.monotonic())
                if wait <= 0:
                    raise
                if patience.on_wait is not None:
                    patience.on_wait(error, wait)
            resume = clock.monotonic() + wait
            while (left := resume - clock.monotonic()) > 0:
                if patience.check is not None:
                    patience.check()
                clock.sleep(min(left, 0.25))
            pause = min(2 * pause, longest)

    def _take(self, exclusive: bool) -> Lock:
        self._refuse_conflicts(exclusive, own=None)
        try:
            lock = Lock(self._write, self.remove, self._exists, exclusive=exclusive)
        except (Denied, NoSpace) as error:
            if self._storage.traits.read_only:
                raise
            raise type(error)(error.message, hint=error.hint + NO_LOCK_HINT, **error.context) from error
        try:
            if not self._storage.traits.immediate_listing:
                self._clock.sleep(SETTLE_SECONDS)
            self._refuse_conflicts(exclusive, own=lock.id)
        except BaseException:
            lock.release()
            raise
        return lock

    def _write(self, exclusive: bool) -> bytes:
        now = self._clock.now_ns()
        here = lockowner.origin()
        info = LockInfo(
            time=format_time(now, self._clock.utc_offset(now)),
            exclusive=exclusive,
            hostname=here.hostname,
            username=self._username,
            pid=os.getpid(),
            uid=os.getuid(),
            gid=os.getgid(),
            machine=here.machine,
            boot=here.boot,
            pid_space=here.pid_space,
            pid_started=here.pid_started,
        )
        sealed = self._encode(info.encode())
        identifier = sha256(sealed).digest()
        self._storage.write(layout.name_of(layout.LOCKS, identifier), sealed)
        self._known[identifier] = info
        return identifier

    def _exists(self, identifier: bytes) -> bool:
        try:
            self._storage.size(layout.name_of(layout.LOCKS, identifier))
        except NotFound:
            return False
        return True

    def _refuse_conflicts(self, exclusive: bool, own: bytes | None) -> None:
        for lock in self.held():
            if lock.id == own or self._clears_away(lock):
                continue
            if exclusive or lock.info.exclusive:
                raise Locked(
                    f"The vault is locked{' exclusively' if lock.info.exclusive else ''} by {_who(lock)}.",
                    hint=_advice(lock),
                    lock=lock.id.hex(),
                    host=lock.info.hostname,
                    pid=lock.info.pid,
                    age_seconds=round(lock.age_seconds),
                )

    def _clears_away(self, lock: HeldLock) -> bool:
        """Remove a lock that nobody holds any more, if somebody is there to hear of it; whether it is gone."""
        if self.patience.on_removed is None or not lock.is_abandoned:
            return False
        try:
            self.remove(lock.id)
        except HoldfastError:
            return False
        self.patience.on_removed(lock)
        return True


class Lock:
    """One lock of ours. :meth:`start_renewing` keeps it fresh from a thread of its own; start it after any fork.

    A lock whose file somebody removed stays lost: renewing it would hide that others may have deleted meanwhile what
    the work relies on (a machine that slept, an ``unlock`` too many).
    """

    def __init__(
        self,
        write: Callable[[bool], bytes],
        remove: Callable[[bytes], None],
        exists: Callable[[bytes], bool],
        *,
        exclusive: bool,
    ) -> None:
        self._write = write
        self._remove = remove
        self._exists = exists
        self._exclusive = exclusive
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        self._owner = os.getpid()
        self.failure: HoldfastError | None = None
        self.id = write(exclusive)

    def start_renewing(self) -> None:
        """Renew every five minutes until the lock is released or :meth:`stop_renewing`."""
        if self._thread is None:
            self._ended.clear()
            self._thread = threading.Thread(target=self._renew, name="lock renewal", daemon=True)
            self._thread.start()

    def stop_renewing(self) -> None:
        """End the thread, so that processes can be forked; call :meth:`start_renewing` after that."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def confirm(self) -> None:
        """Call it before whatever others will rely on. Raises ``Locked`` if the lock's file is gone, or what kept the
        lock from being renewed. One look at the storage."""
        if self.failure is not None:
            raise self.failure
        identifier = self.id
        while not self._exists(identifier):
            if identifier == self.id:
                raise self._lost()
            identifier = self.id  # renewed this very moment

    def release(self) -> None:
        """Delete the lock file. A storage that is gone is no error: the lock then goes stale by itself."""
        if os.getpid() != self._owner:
            return
        self.stop_renewing()
        with contextlib.suppress(HoldfastError):
            self._remove(self.id)

    def _renew(self) -> None:
        while not self._ended.wait(RENEW_SECONDS):
            try:
                if not self._exists(self.id):
                    self.failure = self._lost()
                    return
                old, self.id = self.id, self._write(self._exclusive)
                self._remove(old)
                self.failure = None
            except HoldfastError as error:
                self.failure = error  # tried again in five minutes; a commit refuses to go on meanwhile

    def _lost(self) -> Locked:
        return Locked(
            "The lock of this run was removed by somebody, so what it relies on may have been deleted meanwhile.",
            hint="Run the same command again: it goes on where it stopped. Use 'holdfast unlock' only while nobody"
            " works on the vault.",
            lock=self.id.hex(),
        )


def _who(lock: HeldLock) -> str:
    user = f"{lock.info.username}@" if lock.info.username else ""
    minutes = max(0, int(lock.age_seconds // 60))
    return f"process {lock.info.pid} of {user}{lock.info.hostname} (renewed {minutes} min ago)"


def _advice(lock: HeldLock) -> str:
    known = lock.standing
    if known is lockowner.Standing.GONE:
        return "That process is gone: 'holdfast unlock' removes its lock."
    if lock.age_seconds > lockowner.STALE_SECONDS and lock.is_stale:
        return "It has not been renewed for half an hour. If that machine is not working on it, run 'holdfast unlock'."
    if lock.is_stale:
        return f"Perhaps nobody works there any more: {known.value}. Then 'holdfast unlock' removes the lock."
    return "Wait until it has finished, then try again; '--retry-lock 10m' waits for up to ten minutes."
