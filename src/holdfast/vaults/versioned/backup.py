"""Back up paths into a versioned vault: scan, stage, keep what is former, commit, name the state."""

from __future__ import annotations

import base64
import contextlib
import os
from collections.abc import Iterable
from hashlib import sha256
from typing import Any

from holdfast.format.time import format_time
from holdfast.kernel.cancel import Cancel
from holdfast.kernel.clock import Clock
from holdfast.kernel.errors import Invalid, NotFound
from holdfast.kernel.events import Emit, Fact
from holdfast.sources.directory import Lister
from holdfast.vaults.base import BackupOptions, BackupSummary, Outcome, Problem
from holdfast.vaults.batches import Batches
from holdfast.vaults.versioned.draft import Draft
from holdfast.vaults.versioned.index import Index
from holdfast.vaults.versioned.layout import Layout
from holdfast.vaults.versioned.model import Snapshot
from holdfast.vaults.versioned.scan import Scan, salt
from holdfast.vaults.versioned.tally import Tally


def backup(
    layout: Layout, index: Index, options: BackupOptions, *, clock: Clock, emit: Emit, cancel: Cancel
) -> BackupSummary:
    """Bring the current tree up to date with ``options.paths`` and keep what that replaces; under an exclusive lock.

    A run that changed nothing makes no snapshot: the summary names the one that is still true. What is missing, cannot
    be read, or seems to be an unmounted disk is a problem, and the vault keeps what it has of it. ``Cancelled`` and
    errors leave steps that were finished; the next run goes on from there.
    """
    return _Backup(layout, index, options, clock, emit, cancel).run()


class _Backup:
    """One backup: the order of its steps and what they share."""

    def __init__(
        self, layout: Layout, index: Index, options: BackupOptions, clock: Clock, emit: Emit, cancel: Cancel
    ) -> None:
        self._layout = layout
        self._index = index
        self._options = options
        self._clock = clock
        self._emit = emit
        self._cancel = cancel
        self._summary = BackupSummary()
        cwd = os.getcwdb()
        self._roots = _outermost(absolute(path, cwd) for path in options.paths)
        self._optional = {absolute(path, cwd) for path in options.optional}

    def run(self) -> BackupSummary:
        began, started_ns = self._clock.monotonic(), self._clock.now_ns()
        summary, options = self._summary, self._options
        targets = self._existing()
        draft = Draft(self._layout, self._index, self._tell, dry_run=options.dry_run)
        tally = Tally(summary, self._tell, self._emit, verbose=options.verbose, every=options.dry_run)
        snapshots = self._index.snapshots()
        last = self._still_true(snapshots)
        summary.parent = last.identifier if last is not None else None  # type: ignore[assignment]
        try:
            self._scan(targets, draft, tally)
            summary.total_files = summary.files_new + summary.files_changed + summary.files_unmodified
            summary.data_added = tally.copied
            changed = bool(draft.changes) or draft.committed or last is None
            if changed and not options.dry_run:
                snapshot = self._snapshot(draft.number, started_ns)
                draft.commit(snapshot)
                summary.snapshot = snapshot.identifier  # type: ignore[assignment]
            elif not options.dry_run:
                draft.commit()
                summary.snapshot = last.identifier if last is not None else None  # type: ignore[assignment]
        except BaseException:
            with contextlib.suppress(OSError):
                draft.discard()
            raise
        summary.data_added_packed = tally.copied + draft.stored
        summary.outcome = Outcome.PARTIAL if summary.problems else Outcome.OK
        summary.seconds = self._clock.monotonic() - began
        return summary

    def _scan(self, targets: list[bytes], draft: Draft, tally: Tally) -> None:
        options = self._options
        with Batches() as batches:
            scan = Scan(
                self._index, draft, self._lister(), tally, batches, force=options.force,
                allow_empty=options.allow_empty, clock=self._clock, cancel=self._cancel,
            )  # fmt: skip
            for target in targets:
                try:
                    scan.target(target)
                except OSError as error:
                    self._tell("failed", target, error.strerror or str(error))
            batches.drain()

    def _existing(self) -> list[bytes]:
        if not self._roots:
            raise Invalid("Nothing to back up was named.", hint="Name at least one file or folder.")
        found = []
        for path in self._roots:
            try:
                os.lstat(path)
                found.append(path)
            except OSError as error:
                why = "does not exist" if isinstance(error, FileNotFoundError) else error.strerror or str(error)
                self._tell("warning" if path in self._optional else "failed", path, why)
        if not found:
            shown = os.fsdecode(self._roots[0]) if len(self._roots) == 1 else "none of the given paths"
            raise NotFound(
                f"There is nothing to back up: {shown} {'does not exist' if len(self._roots) == 1 else 'exists'}.",
                hint="Check the spelling, and whether the disk is mounted. The vault keeps what it has.",
                paths=[os.fsdecode(path) for path in self._roots],
            )
        return found

    def _lister(self) -> Lister:
        devices: set[int] = set()
        if self._options.one_file_system:
            for path in self._roots:
                with contextlib.suppress(OSError):
                    devices.add(os.lstat(path).st_dev)
        own = os.stat(self._layout.root)
        return Lister(
            self._options.rules, salt(), frozenset(((own.st_dev, own.st_ino),)), frozenset(devices),
            self._options.verbose, self._options.scan,
        )  # fmt: skip

    def _still_true(self, snapshots: list[Snapshot]) -> Snapshot | None:
        """The snapshot that says everything if this run changes nothing: of the same paths, host, tags and note, and
        nothing in these paths has changed since."""
        options = self._options
        for snapshot in snapshots[::-1]:
            info = snapshot.describe()
            if (snapshot.roots, info.hostname) != (self._roots, options.hostname):
                continue
            if (info.tags, info.note) != (options.tags, options.note):
                return None
            later = self._index.fact("step") > snapshot.step
            if later and any(map(snapshot.saved, self._index.changed_since(snapshot.step))):
                return None
            return snapshot
        return None

    def _snapshot(self, step: int, started_ns: int) -> Snapshot:
        options, summary, clock = self._options, self._summary, self._clock
        counted = ("files_new", "files_changed", "files_unmodified", "dirs_new", "dirs_changed", "dirs_unmodified")
        record: dict[str, Any] = {
            "step": step,
            "time": format_time(started_ns, clock.utc_offset(started_ns)),
            "time_ns": started_ns,
            "hostname": options.hostname,
            "username": options.username,
            "paths": [path.decode("utf-8", "replace") for path in self._roots],
            "roots_base64": [base64.b64encode(path).decode() for path in self._roots],
            "tags": list(options.tags),
            "note": options.note,
            "program": options.program,
            "excludes": [text.encode("utf-8", "replace").decode() for text in options.exclude_texts],
            "summary": {
                **{name: getattr(summary, name) for name in counted},
                "total_files_processed": summary.total_files,
                "total_bytes_processed": summary.total_bytes,
                "data_added": summary.data_added,
            },
        }
        identifier = sha256(repr(sorted(record.items())).encode("utf-8", "replace") + os.urandom(16)).digest()
        record["id"] = identifier.hex()
        return Snapshot(step, identifier, self._roots, record)

    def _tell(self, kind: str, path: bytes, why: str) -> None:
        if kind in ("failed", "damage"):
            self._summary.problems.append(Problem(path, why, "backup"))
        elif kind == "warning":
            self._summary.warnings.append(Problem(path, why, "backup"))
        level = {"failed": "error", "damage": "error", "warning": "warning"}.get(kind, "info")
        word = "failed" if kind == "damage" else kind
        self._emit(Fact(f"item.{word}", why, level, {"path": path, "why": why}))


def absolute(path: bytes, cwd: bytes) -> bytes:
    """The absolute, cleaned form of a path; links are not resolved."""
    return os.path.normpath(os.path.join(cwd, path)).replace(b"//", b"/")


def _outermost(paths: Iterable[bytes]) -> tuple[bytes, ...]:
    """Each path once, in order, without those inside another one."""
    found: list[bytes] = []
    for path in sorted(set(paths), key=lambda path: path.split(b"/")):
        if not (found and _overlap(found[-1], path)):
            found.append(path)
    return tuple(found)


def _overlap(one: bytes, other: bytes) -> bool:
    """Whether one of two absolute paths is the other or leads to it."""
    return (one.rstrip(b"/") + b"/").startswith(other.rstrip(b"/") + b"/") or (other.rstrip(b"/") + b"/").startswith(
        one.rstrip(b"/") + b"/"
    )
