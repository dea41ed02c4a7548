"""Tries out what a place promises: small and large files go in, come back, are listed and removed again.

A vault that is there is not disturbed: files of the trial have names by their hash among the packs, which everybody
passes over because no index names them, or names that no vault uses. All are removed at the end. Where removing is
denied, nothing is written into a vault.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from dataclasses import field
from hashlib import sha256
from statistics import median

from holdfast.kernel.cancel import Cancel
from holdfast.kernel.clock import Clock
from holdfast.kernel.errors import Corrupt, Denied, HoldfastError, Invalid, NotFound
from holdfast.kernel.values import dataclass
from holdfast.storage.base import Storage

SMALL = 1024
LATENCY_CALLS = 11
RIVALS = 4


@dataclass(frozen=True, slots=True)
class Finding:
    """One promise that was tried.

    ``ok``: whether it is kept; None where it could not be tried. ``means``: what a vault here has to live without.
    """

    step: str
    ok: bool | None
    message: str
    means: str = ""


@dataclass(slots=True)
class TrialReport:
    """What came of it. Times in seconds, rates in bytes a second; None for what was not measured.

    ``left``: names of files that could not be removed.
    """

    findings: list[Finding] = field(default_factory=list)
    has_vault: bool = False
    latency: float | None = None
    upload: float | None = None
    download: float | None = None
    left: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether every promise that was tried is kept."""
        return all(finding.ok is not False for finding in self.findings)


class Trial:
    """One trial of ``storage`` with a large file of ``size`` bytes; ``tell`` hears each finding when it is made.

    ``report`` is complete as far as the trial has come, also after an exception.
    """

    def __init__(
        self,
        storage: Storage,
        size: int,
        *,
        clock: Clock,
        random: Callable[[int], bytes],
        cancel: Cancel,
        tell: Callable[[Finding], None],
    ) -> None:
        self._storage = storage
        self._clock = clock
        self._cancel = cancel
        self._tell = tell
        self._random = random
        self._size = size
        self._written: list[str] = []
        self.report = TrialReport()

    def run(self, *, dry_run: bool = False) -> TrialReport:
        """Try everything; with ``dry_run`` only what writes nothing.

        Raises ``Unavailable``, ``Denied`` and ``NoSpace`` where the place cannot be used at all.
        """
        report = self.report
        self._reach(dry_run)
        if dry_run:
            self._read_what_is_there()
            return report
        try:
            may_delete = self._may_delete()
            if may_delete or not report.has_vault:
                # Locks can be removed anywhere; but in a vault a lock that nobody can read would keep others out.
                self._files("data" if may_delete else "locks")
            else:
                self._note("write", None, "not tried: what is written here could not be removed again")
                self._read_what_is_there()
            self._create(may_delete)
            self._limits()
        finally:
            self._clean_up()
        return report

    def _note(self, step: str, ok: bool | None, message: str, means: str = "") -> None:
        finding = Finding(step, ok, message, means)
        self.report.findings.append(finding)
        self._tell(finding)
        self._cancel.check()

    def _reach(self, dry_run: bool) -> None:
        storage = self._storage
        try:
            storage.size("config")
            self.report.has_vault = True
            self._note("reach", True, "the place answers, and holds a vault")
        except NotFound:
            if not dry_run:
                storage.prepare(["data"])
            self._note("reach", True, "the place answers; there is no vault yet")

    def _may_delete(self) -> bool:
        try:
            self._storage.delete(_pack(sha256(self._random(32)).hexdigest()))
        except Denied:
            self._note(
                "append-only",
                None,
                "removing files is denied",
                "Backups and restores work. To forget snapshots and to prune takes credentials that may remove files.",
            )
            return False
        return True

    def _files(self, folder: str) -> None:
        """Everything about files that are named by their hash."""
        storage, report, now = self._storage, self.report, self._clock.monotonic
        small, large = self._random(SMALL), self._random(self._size)
        small_name, large_name = _named(folder, small), _named(folder, large)
        begun = now()
        self._write(large_name, large)
        seconds = max(now() - begun, 1e-9)
        report.upload = len(large) / seconds
        self._note("write", True, f"{len(large):,} bytes went in, and the place confirmed their size")

        begun = now()
        data = storage.read(large_name)
        report.download = len(large) / max(now() - begun, 1e-9)
        same = data == large
        self._note(
            "read", same, "the same bytes came back" if same else "OTHER BYTES CAME BACK", "" if same else _DAMAGE
        )
        self._ranges(large_name, large)

        self._write(small_name, small)
        is_kept = self._refuses(small_name, small + b"x", Corrupt) and storage.read(small_name) == small
        storage.write(small_name, small)
        self._note(
            "keep",
            is_kept,
            "a file that exists is not overwritten" if is_kept else "A FILE THAT EXISTS WAS OVERWRITTEN",
            "" if is_kept else _DAMAGE,
        )
        self._list({large_name: len(large), small_name: len(small)})
        self._measure_latency(small_name)
        for name in (large_name, small_name):
            storage.delete(name)
        gone = self._refuses_to_tell(large_name) and self._refuses_to_tell(small_name)
        self._note("delete", gone, "removed files are gone" if gone else "REMOVED FILES ARE STILL THERE")

    def _ranges(self, name: str, content: bytes) -> None:
        storage, middle = self._storage, len(content) // 2
        buffer = bytearray(64)
        count = storage.read_into(name, buffer, max(len(content) - 10, 0))
        fits = (
            storage.read(name, middle, 100) == content[middle : middle + 100]
            and bytes(buffer[:count]) == content[-10:]
            and self._refuses_to_tell(name, len(content) - 1, 2)
        )
        means = "" if fits else "Restores and checks read parts of files: they would fail."
        self._note("ranges", fits, "parts of a file can be read" if fits else "PARTS OF A FILE ARE WRONG", means)

    def _list(self, expected: dict[str, int]) -> None:
        folders = {name.rpartition("/")[0] for name in expected}
        found = {info.name: info.size for folder in folders for info in self._storage.list(folder)}
        listed = expected.items() <= found.items()
        if listed or self._storage.traits.immediate_listing:
            words = "what was written is listed at once" if listed else "WHAT WAS WRITTEN IS NOT LISTED"
            self._note("list", listed, words, "" if listed else "Snapshots, and locks of others, would be missed.")
        else:
            self._note("list", None, "what was written is not listed at once")

    def _create(self, may_delete: bool) -> None:
        """Files that are named by no hash: who comes first must win."""
        if not may_delete:
            self._note("create", None, "not tried: what is written here could not be removed again")
            return
        name, race = (f"holdfast-test-{self._random(8).hex()}" for _ in range(2))
        try:
            self._write(name, b"first")
        except Invalid:
            self._written.remove(name)
            self._note("create", None, "not tried: the place takes only the files of a vault")
            return
        one_wins = self._refuses(name, b"other", Invalid) and self._storage.read(name) == b"first"
        if self._storage.traits.atomic_create:
            one_wins = one_wins and self._winners(race) == 1
        words = "who makes a file first wins, and others are told" if one_wins else "SEVERAL MADE THE SAME FILE"
        self._note("create", one_wins, words, "" if one_wins else _TWO_VAULTS)

    def _winners(self, name: str) -> int:
        """How many of several writers at once are told that the file is theirs."""
        self._written.append(name)
        won: list[int] = []
        start = threading.Barrier(RIVALS)

        def write(number: int) -> None:
            start.wait()
            with contextlib.suppress(HoldfastError):
                self._storage.write(name, b"writer %d" % number)
                won.append(number)

        threads = [threading.Thread(target=write, args=(number,)) for number in range(RIVALS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return len(won)

    def _read_what_is_there(self) -> None:
        """Reading alone, from what a vault holds."""
        if not self.report.has_vault:
            return
        self._measure_latency("config")
        first = next((info for info in self._storage.list("data") if info.size <= self._size), None)
        if first is None:
            self._note("read", True, f"the configuration was read ({len(self._storage.read('config'))} bytes)")
            return
        begun = self._clock.monotonic()
        data = self._storage.read(first.name)
        self.report.download = len(data) / max(self._clock.monotonic() - begun, 1e-9)
        same = sha256(data).hexdigest() == first.name[-64:]
        words = f"the vault's file {first.name[-64:][:8]} was read, and its content matches its name"
        self._note("read", same, words if same else f"{first.name} IS DAMAGED", "" if same else "Run holdfast check.")

    def _measure_latency(self, name: str) -> None:
        times = []
        for _ in range(LATENCY_CALLS):
            begun = self._clock.monotonic()
            self._storage.size(name)
            times.append(self._clock.monotonic() - begun)
            self._cancel.check()
        self.report.latency = median(times)

    def _limits(self) -> None:
        """What the place never promised."""
        traits = self._storage.traits
        if not traits.atomic_create:
            self._note(
                "create", None, "of two who make a vault here at the same moment both may believe they did", _ONCE
            )
        if not traits.immediate_listing:
            self._note("list", None, "new files may be listed late", "Commands wait a moment after they took a lock.")

    def _write(self, name: str, data: bytes) -> None:
        self._written.append(name)
        self._storage.write(name, data)
        self._cancel.check()

    def _refuses(self, name: str, data: bytes, kind: type[HoldfastError]) -> bool:
        try:
            self._storage.write(name, data)
        except kind:
            return True
        return False

    def _refuses_to_tell(self, name: str, offset: int = 0, length: int | None = None) -> bool:
        try:
            self._storage.read(name, offset, length)
        except (NotFound, Corrupt):
            return True
        return False

    def _clean_up(self) -> None:
        for name in self._written:
            try:
                self._storage.delete(name)
            except HoldfastError:
                self.report.left.append(name)


_DAMAGE = "Do not keep a vault here: what is saved cannot be relied on."
_TWO_VAULTS = "Two machines that make a vault here at the same time would spoil each other's."
_ONCE = "Make the vault once, from one machine; after that any number of machines may use it."


def _pack(digest: str) -> str:
    return f"data/{digest[:2]}/{digest}"


def _named(folder: str, content: bytes) -> str:
    digest = sha256(content).hexdigest()
    return _pack(digest) if folder == "data" else f"{folder}/{digest}"
