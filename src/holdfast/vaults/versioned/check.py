"""Look for damage: the manifest, every current file, every former version, and what lies around unknown to them."""

from __future__ import annotations

import os
import sqlite3
import stat
from collections.abc import Iterator
from hashlib import sha256
from itertools import groupby

from holdfast.kernel.cancel import Cancel
from holdfast.kernel.clock import Clock
from holdfast.kernel.errors import Corrupt, HoldfastError
from holdfast.kernel.events import Emit, Fact, Tick
from holdfast.kernel.ids import short
from holdfast.vaults.base import CheckOptions, CheckReport, Damage, Outcome
from holdfast.vaults.marker import FOLDER
from holdfast.vaults.versioned.current import look_at_current, open_current_folder
from holdfast.vaults.versioned.former import Reader
from holdfast.vaults.versioned.index import Index, describe_all, rebuild
from holdfast.vaults.versioned.journal import is_clean
from holdfast.vaults.versioned.layout import KIND, Layout
from holdfast.vaults.versioned.model import CURRENT, SAME, Snapshot, Version, join

_MOST_FILES = 100  # names shown with one damage


def check(layout: Layout, options: CheckOptions, *, clock: Clock, emit: Emit, cancel: Cancel) -> CheckReport:
    """Hash every current file and every former version, and compare with the manifest; under a shared lock.

    ``options.read_data`` does not matter: without reading, plain files tell nothing. Changes nothing, and expects
    that no step waits to be carried out (where nobody may write that is a hint, and may look like damage).
    """
    return _Check(layout, clock, emit, cancel).run()


class _Check:
    """One check and what it found."""

    def __init__(self, layout: Layout, clock: Clock, emit: Emit, cancel: Cancel) -> None:
        self._layout = layout
        self._clock = clock
        self._emit = emit
        self._cancel = cancel
        self._report = CheckReport(kind=KIND)
        self._index = Index.in_memory()
        self._snapshots: list[Snapshot] = []
        self._known: set[str] = set()

    def run(self) -> CheckReport:
        began = self._clock.monotonic()
        report = self._report
        try:
            rebuild(self._layout, self._index)
        except HoldfastError as error:
            self._found(Damage("manifest.corrupt", error.message))
        else:
            self._snapshots = self._index.snapshots()
            report.snapshots = len(self._snapshots)
            self._check_index()
            self._check_versions()
            self._check_strays()
        finally:
            self._index.close()
        bad = any(damage.severity == "error" for damage in report.damage)
        report.outcome = Outcome.FAILED if bad else Outcome.OK
        report.seconds = self._clock.monotonic() - began
        return report

    def _check_index(self) -> None:
        if not is_clean(self._layout):
            self._found(
                Damage(
                    "index.stale",
                    "The last run was interrupted, or the index is missing; the next run puts that right.",
                    "hint",
                )
            )
            return
        try:
            stored = Index.open(self._layout, write=False)
            try:
                same = _digest(describe_all(stored)) == _digest(describe_all(self._index))
            finally:
                stored.close()
        except (sqlite3.Error, HoldfastError, ValueError, LookupError):
            same = False
        if not same:
            self._found(
                Damage(
                    "index.differs",
                    f"The index {os.fsdecode(self._layout.index)} does not say what the manifest says. Remove it: the "
                    "next run makes it anew.",
                )
            )

    def _check_versions(self) -> None:
        report = self._report
        reader = Reader(self._layout, self._index)
        done = 0
        for folder, versions in groupby(self._index.everything(), key=lambda pair: pair[0]):
            self._cancel.check()
            for _, version in versions:
                done += 1
                if version.history not in ("", SAME):
                    self._known.add(version.history)
                if version.last == CURRENT:
                    self._check_kind(folder, version)
                if version.is_file:
                    if version.last == CURRENT:
                        report.files += 1
                    self._check_content(reader, folder, version)
            self._emit(Tick("check", done, report.bytes_read, current=os.fsdecode(folder), errors=len(report.damage)))

    def _check_kind(self, folder: bytes, version: Version) -> None:
        path = join(folder, version.name)
        try:
            st, target = look_at_current(self._layout.root, path)
            sound = stat.S_IFMT(st.st_mode) == stat.S_IFMT(version.mode) and target == version.target
            why = "" if sound else "it is something else in the vault"
        except OSError as error:
            why = error.strerror or str(error)
        if version.is_dir:
            self._report.trees += 1
        if why and not version.is_file:  # of files the content tells
            self._damaged("current.damaged", path, version, f"{os.fsdecode(path)}: {why}.")

    def _check_content(self, reader: Reader, folder: bytes, version: Version) -> None:
        if version.history == SAME:
            return  # the next version has the same content, and is checked itself
        try:
            for piece in reader.pieces(folder, version):
                self._report.bytes_read += len(piece)
        except Corrupt as error:
            kind = "current.damaged" if version.last == CURRENT else "history.damaged"
            self._damaged(kind, join(folder, version.name), version, error.message)

    def _check_strays(self) -> None:
        """What is in the vault without being in the manifest is harmless, but somebody may miss it elsewhere."""
        for path in self._strays():
            self._found(
                Damage("current.unknown", f"{os.fsdecode(path)} is in the vault, but was not put there by it.", "hint")
            )
        for name in sorted(os.listdir(self._layout.history)):
            shown = os.fsdecode(name)
            inside = os.listdir(self._layout.history + b"/" + name)
            unused = [one for one in inside if f"{shown}/{os.fsdecode(one)}" not in self._known]
            if unused:
                message = f"{len(unused):,} files of history/{shown} belong to no version; the next prune removes them."
                self._found(Damage("history.unknown", message, "hint"))

    def _strays(self) -> Iterator[bytes]:
        pending = [b""]
        while pending:
            path = pending.pop()
            known = {version.name: version for version in self._index.at(path)}
            try:
                fd = open_current_folder(self._layout.root, path)
                try:
                    names = sorted(map(os.fsencode, os.listdir(fd)))
                finally:
                    os.close(fd)
            except OSError:
                continue  # told already, as a folder that is missing
            for name in names:
                version = known.get(name)
                if version is not None and version.is_dir:
                    pending.append(join(path, name))
                elif version is None and (path or name != FOLDER):
                    yield join(path, name)

    def _damaged(self, kind: str, path: bytes, version: Version, message: str) -> None:
        touched = [one for one in self._snapshots if version.first <= one.step < version.last and one.covers(path)]
        shown = path.decode("utf-8", "replace")
        files = tuple(f"{short(one.identifier)}:{shown}" for one in touched[:_MOST_FILES])
        names = tuple(one.identifier.hex() for one in touched)
        self._found(Damage(kind, message, "error", names, files, len(touched)))

    def _found(self, damage: Damage) -> None:
        self._report.damage.append(damage)
        level = "error" if damage.severity == "error" else "warning"
        data = {"kind": damage.kind, "snapshots": damage.snapshots, "files": damage.files}
        self._emit(Fact("damage.found", damage.message, level, data))


def _digest(pieces: Iterator[bytes]) -> bytes:
    digest = sha256()
    for piece in pieces:
        digest.update(piece)
        digest.update(b"\n")
    return digest.digest()
