"""``check`` of a mirror: every copy against the manifest of hashes; and the manifest made anew from the copies."""

from __future__ import annotations

import os
import stat
from hashlib import sha256
from typing import TYPE_CHECKING

from holdfast.kernel.cancel import Cancel
from holdfast.kernel.clock import Clock
from holdfast.kernel.errors import Corrupt, HoldfastError
from holdfast.kernel.events import Emit, Fact, Tick
from holdfast.sources.directory import open_file
from holdfast.vaults.base import CheckReport, Damage, Outcome
from holdfast.vaults.mirror.copying import read_piece
from holdfast.vaults.mirror.here import Here
from holdfast.vaults.mirror.records import NO_HASH, Record, stamp, stamp_here, unstamp
from holdfast.vaults.mirror.run import SNAPSHOT
from holdfast.vaults.mirror.state import Directory, State

if TYPE_CHECKING:
    from holdfast.format.node import Stat

NAMED = 100
"""How many files of one kind of damage are named; the total tells the rest."""

_KIND, _FILE, _DIR, _LINK = 0o170000, 0o100000, 0o040000, 0o120000

_WORDS = {
    "file.missing": "missing in the mirror",
    "file.corrupt": "not what was copied (the content does not fit its hash)",
    "file.type": "something else than was copied",
    "file.unreadable": "unreadable in the mirror",
    "file.unknown": "in the mirror that no backup put there; the next one removes them from what it mirrors",
    "file.changed": "with other times or permissions than the backup gave",
    "file.unfinished": "new or gone by a backup that did not finish, without a hash; the next one looks at all of them",
}
_HINTS = frozenset({"file.unknown", "file.changed", "file.unfinished"})


class Checker:
    """One check. The caller holds the lock. Every folder of the state is looked at, every file read.

    ``unfinished``: the last backup was killed, so what does not look as the state says may be its work. Rot does not
    change how a file looks, and is damage nevertheless.
    """

    def __init__(
        self, root: bytes, state: State, *, protect: bool, unfinished: bool, clock: Clock, emit: Emit, cancel: Cancel
    ) -> None:
        self._state = state
        self._unfinished = unfinished
        self._here = Here(root, protect=protect)
        self._clock = clock
        self._emit = emit
        self._cancel = cancel
        self._found: dict[str, list[str]] = {}
        self._report = CheckReport(kind="mirror")

    def run(self) -> CheckReport:
        """Compare everything; what is wrong is in the report."""
        began = self._clock.monotonic()
        report, snapshot = self._report, None
        try:
            wrong = self._state.check()
            if self._state.is_new:
                # A mirror that no backup filled yet has none either.
                if self._here.look(b"")[0]:
                    self._add("state.missing", "the state index of the mirror is missing", ())
            elif wrong:
                self._add("state.corrupt", f"the state index of the mirror is damaged: {wrong}", ())
            else:
                snapshot = self._state.fact(SNAPSHOT)
                self._walk()
        except Corrupt as error:
            self._add("state.corrupt", error.message, ())
        finally:
            self._here.close()
        report.snapshots = 1 if snapshot is not None else 0
        for kind, files in self._found.items():
            self._add(kind, f"{len(files):,} {'file' if len(files) == 1 else 'files'} {_WORDS[kind]}", files)
        if any(damage.severity == "error" for damage in report.damage):
            report.outcome = Outcome.FAILED
        report.seconds = self._clock.monotonic() - began
        return report

    def _walk(self) -> None:
        pending = [b""]
        while pending:
            above = pending.pop()
            self._cancel.check()
            self._report.trees += 1
            known = self._state.items(above)
            there, _ = self._here.look(above)
            whole = (row := self._state.directory(above)) is not None and row.source
            for name, st in there.items():
                if name not in known and (whole or (above and st.st_mode & _KIND != _DIR)):
                    self._note("file.unknown", above + b"/" + name)
            inner: list[bytes] = []
            for name in sorted(known):
                path = above + b"/" + name if above else name
                record = known[name]
                if self._entry(above, name, path, record, there.get(name)):
                    inner.append(path)
            pending += reversed(inner)
            self._tick(above)

    def _entry(self, above: bytes, name: bytes, path: bytes, record: Record, st: Stat | None) -> bool:
        """Look at one entry; True for a directory to go into."""
        wanted = unstamp(record.here).st_mode & _KIND
        if st is None:
            self._note("file.unfinished" if self._unfinished else "file.missing", path)
            return False
        if st.st_mode & _KIND != wanted:
            self._note("file.unfinished" if self._unfinished else "file.type", path)
            return False
        if wanted == _DIR:
            return True
        if wanted in (_FILE, _LINK):
            self._report.files += wanted == _FILE
            try:
                digest = self._hash(above, name) if wanted == _FILE else self._link(above, name)
            except (OSError, HoldfastError):
                self._note("file.unreadable", path)
                return False
            if digest != record.hash:
                replaced = self._unfinished and stamp_here(st) != record.here
                self._note("file.unfinished" if replaced else "file.corrupt", path)
                return False
        if stamp_here(st) != record.here:
            self._note("file.changed", path)
        return False

    def _hash(self, above: bytes, name: bytes) -> bytes:
        file = open_file(name, self._here.directory(above))
        digest, at = sha256(), 0
        try:
            while piece := read_piece(file, at):
                self._cancel.check()
                digest.update(piece)
                at += len(piece)
        finally:
            os.close(file)
            self._report.bytes_read += at
        return digest.digest()

    def _link(self, above: bytes, name: bytes) -> bytes:
        return sha256(os.readlink(name, dir_fd=self._here.directory(above))).digest()

    def _note(self, kind: str, path: bytes) -> None:
        shown = os.fsdecode(path)
        self._found.setdefault(kind, []).append("/" + shown.lstrip("/"))
        if kind not in _HINTS:
            self._emit(Fact("damage.found", _WORDS[kind], "error", {"path": b"/" + path, "kind": kind}))

    def _add(self, kind: str, message: str, files: list[str] | tuple[str, ...]) -> None:
        severity = "hint" if kind in _HINTS else "error"
        self._report.damage.append(Damage(kind, message, severity, files=tuple(files[:NAMED]), files_total=len(files)))

    def _tick(self, above: bytes) -> None:
        report = self._report
        self._emit(Tick("check", report.files, report.bytes_read, None, None, os.fsdecode(b"/" + above)))


def rebuild(root: bytes, state: State, *, emit: Emit, cancel: Cancel) -> None:
    """Make the state anew from what is in the mirror: hashes of the copies as they are now.

    What the copies do not tell (owners where they could not be set, permissions that ``protect`` took away) the next
    backup brings, which also compares every file with its source once. The caller holds the lock alone.
    """
    here = Here(root, protect=False)
    try:
        state.clear()
        pending, files = [b""], 0
        while pending:
            above = pending.pop()
            cancel.check()
            there, _ = here.look(above)
            records = {}
            for name, st in there.items():
                path = above + b"/" + name if above else name
                kind = st.st_mode & _KIND
                digest = NO_HASH
                if kind == _DIR:
                    pending.append(path)
                elif kind == _FILE:
                    digest = _hash_file(here, above, name)
                    files += 1
                elif kind == _LINK:
                    digest = sha256(os.readlink(name, dir_fd=here.directory(above))).digest()
                records[name] = Record(stamp(st), stamp_here(st), digest)
            sizes = [st.st_size for st in there.values() if stat.S_ISREG(st.st_mode)]
            state.put(above, Directory(b"", b"", here.device, len(sizes), sum(sizes)), records)
            emit(Tick("rebuild", files, 0, None, None, os.fsdecode(b"/" + above)))
        state.commit()
    finally:
        here.close()


def _hash_file(here: Here, above: bytes, name: bytes) -> bytes:
    from holdfast.vaults.mirror.copying import hash_of

    try:
        file = open_file(name, here.directory(above))
        try:
            return hash_of(file)[0]
        finally:
            os.close(file)
    except OSError:
        return NO_HASH  # cannot be read: the check that follows names it
