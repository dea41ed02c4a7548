"""The ``Vault`` protocol over a mirror: a folder that holds an exact copy of its sources as plain files."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from holdfast.files.entry import Entry
from holdfast.kernel.cancel import Cancel
from holdfast.kernel.clock import Clock, SystemClock
from holdfast.kernel.errors import Corrupt, Denied, Invalid, NotFound
from holdfast.kernel.events import Emit
from holdfast.kernel.ids import SnapshotId
from holdfast.vaults.base import (
    BackupOptions,
    BackupSummary,
    CheckOptions,
    CheckReport,
    RestoreOptions,
    RestoreSummary,
    SnapshotInfo,
)  # fmt: skip
from holdfast.vaults.marker import Marker, read_marker, write_marker
from holdfast.vaults.mirror.lock import hold, unfinished
from holdfast.vaults.mirror.saved import parts
from holdfast.vaults.mirror.state import State

if TYPE_CHECKING:
    from holdfast.vaults.mirror.browser import MirrorBrowser

KIND = "mirror"


class MirrorVault:
    """A mirror in the folder ``root``. ``patience``: seconds to wait for the lock of others; ``no_lock``: readers take
    none (a run that goes on meanwhile may then show as damage).
    """

    kind = KIND

    def __init__(
        self,
        root: bytes,
        marker: Marker,
        *,
        clock: Clock | None = None,
        patience: float = 0.0,
        no_lock: bool = False,
    ) -> None:
        self.root = root
        self.location = os.fsdecode(root)
        self.marker = marker
        self._clock = clock or SystemClock()
        self._patience = patience
        self._no_lock = no_lock

    @property
    def protect(self) -> bool:
        """Whether the finished tree is read-only."""
        return bool(self.marker.settings.get("protect"))

    def backup(self, options: BackupOptions, *, emit: Emit, cancel: Cancel) -> BackupSummary:
        """Make the mirror equal to the sources; see :func:`holdfast.vaults.mirror.run.backup`. ``Locked``."""
        from holdfast.vaults.mirror.run import backup

        with self._locked(exclusive=not options.dry_run, cancel=cancel):
            return backup(self.root, self.marker, options, clock=self._clock, emit=emit, cancel=cancel)

    def snapshots(self, emit: Emit | None = None) -> Sequence[SnapshotInfo]:
        """The mirror as it is, as its one snapshot; none before the first backup. (There is no damage to tell.)"""
        from holdfast.vaults.mirror.run import SNAPSHOT

        with contextlib.closing(State(self.root, write=False)) as state:
            fields = state.fact(SNAPSHOT)
        if fields is None:
            return []
        try:
            return [
                SnapshotInfo(
                    id=SnapshotId(bytes.fromhex(fields["id"])),
                    time=fields["time"],
                    time_ns=fields["time_ns"],
                    hostname=fields["hostname"],
                    username=fields["username"],
                    paths=tuple(fields["paths"]),
                    tags=tuple(fields["tags"]),
                    parent=bytes.fromhex(fields["parent"]) if fields["parent"] else None,
                    program=fields["program"],
                    summary=fields["summary"],
                    excludes=tuple(fields["excludes"]),
                    note=fields["note"],
                    parts=parts(fields),
                )
            ]
        except (KeyError, TypeError, ValueError) as error:
            raise Corrupt(
                "the state index of the mirror does not describe it", hint="The next backup writes it anew."
            ) from error

    @contextlib.contextmanager
    def reading(self) -> Iterator[MirrorBrowser]:
        """Hold the lock for reading, and look into the mirror meanwhile."""
        from holdfast.vaults.mirror.browser import MirrorBrowser

        with self._locked(exclusive=False), contextlib.closing(State(self.root, write=False)) as state:
            yield MirrorBrowser(self.root, state, unfinished=unfinished(self.root))

    def entries(self, snapshot: SnapshotInfo, path: bytes = b"") -> Iterator[Entry]:
        """``path`` and everything beneath, depth first, in byte order of names. Paths begin with a slash."""
        from holdfast.vaults.items import walk

        with self.reading() as browser:
            top = browser.find(snapshot, path)
            for item in (*([top] if top.name else []), *walk(browser, top)):
                yield item.entry

    def read(self, snapshot: SnapshotInfo, path: bytes) -> Iterator[bytes]:
        """The content of one file, verified by its hash (at the latest when it ends)."""
        with self.reading() as browser:
            yield from browser.content(browser.find(snapshot, path))

    def restore(self, snapshot: SnapshotInfo, options: RestoreOptions, *, emit: Emit, cancel: Cancel) -> RestoreSummary:
        """Write the mirror, or part of it, somewhere else or back to where it came from."""
        from holdfast.vaults.plainrestore import restore

        with self.reading() as browser:
            return restore(browser, snapshot, options, own=self.root, clock=self._clock, emit=emit, cancel=cancel)

    def check(self, options: CheckOptions, *, emit: Emit, cancel: Cancel) -> CheckReport:
        """Read every copy and compare it with its hash; ``options.rebuild`` makes the hashes anew first."""
        from holdfast.vaults.mirror.check import Checker, rebuild

        if options.read_data is not None and (options.read_data.part or options.read_data.percent):
            raise Invalid("a mirror is always read whole", hint="Leave out what you gave with --read-data.")
        with self._locked(exclusive=options.rebuild, cancel=cancel):
            if options.rebuild:
                with contextlib.closing(State(self.root, write=True)) as state:
                    rebuild(self.root, state, emit=emit, cancel=cancel)
            with contextlib.closing(State(self.root, write=False)) as state:
                left = not options.rebuild and unfinished(self.root)
                checker = Checker(
                    self.root, state, protect=self.protect, unfinished=left, clock=self._clock, emit=emit, cancel=cancel
                )
                return checker.run()

    @contextlib.contextmanager
    def _locked(self, *, exclusive: bool, cancel: Cancel | None = None) -> Iterator[None]:
        if self._no_lock and not exclusive:
            yield
            return
        with hold(self.root, exclusive=exclusive, patience=self._patience, clock=self._clock, cancel=cancel):
            yield


def make_mirror(root: bytes, *, protect: bool, identifier: bytes) -> Marker:
    """Make the folder ``root`` an empty mirror. ``identifier``: 32 random bytes. Raises ``Invalid`` where something is
    already, ``Denied``, ``NotFound``."""
    shown = os.fsdecode(root)
    try:
        if os.path.isdir(root) and os.listdir(root):
            raise Invalid(
                f"{shown} is not empty",
                hint="A mirror removes what its sources do not have, so it begins in an empty folder.",
                location=shown,
            )
        marker = Marker(KIND, identifier, {"protect": protect})
        write_marker(root, marker)
    except NotADirectoryError:
        raise Invalid(f"{shown} is no folder", hint="Choose a new or an empty folder.") from None
    except FileExistsError:
        raise Invalid(f"{shown} is no new or empty folder", hint="Choose another place.") from None
    except OSError as error:
        raise Denied(f"cannot make a mirror at {shown}: {error.strerror}", hint="Choose another place.") from error
    return marker


def open_mirror(
    root: bytes, *, clock: Clock | None = None, patience: float = 0.0, no_lock: bool = False
) -> MirrorVault:
    """The mirror at ``root``. Raises ``NotFound`` where there is none, ``Corrupt``, ``Unsupported``."""
    marker = read_marker(root)
    if marker is None or marker.kind != KIND:
        shown = os.fsdecode(root)
        raise NotFound(f"there is no mirror at {shown}", hint=f"'holdfast init --kind mirror {shown}' makes one.")
    return MirrorVault(root, marker, clock=clock, patience=patience, no_lock=no_lock)
