"""The index: the manifest as a SQLite database, for quick questions. It can be thrown away and made again.

Only one process writes, under the vault's lock, with a rollback journal (no WAL); a crash loses at most what the
manifest knows better.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterable, Iterator
from typing import Any

import orjson

from holdfast.files.entry import countable
from holdfast.kernel.errors import Corrupt, Denied, NoSpace, Unavailable
from holdfast.vaults.versioned import manifest
from holdfast.vaults.versioned.layout import Layout
from holdfast.vaults.versioned.model import (
    CURRENT,
    Change,
    Snapshot,
    Version,
    join,
    pack_xattrs,
    unpack_xattrs,
)

SCHEMA = """
-- facts: format, base, step
CREATE TABLE facts (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE folders (
    id INTEGER PRIMARY KEY,
    path BLOB NOT NULL UNIQUE,
    listing BLOB                        -- hash of the source's listing that the current versions stand for
);
CREATE TABLE versions (                 -- see model.Version
    folder INTEGER NOT NULL, name BLOB NOT NULL, first INTEGER NOT NULL, last INTEGER NOT NULL,
    mode INTEGER NOT NULL, uid INTEGER NOT NULL, gid INTEGER NOT NULL, user TEXT NOT NULL, "group" TEXT NOT NULL,
    size INTEGER NOT NULL, mtime INTEGER NOT NULL, ctime INTEGER NOT NULL, inode INTEGER NOT NULL,
    device INTEGER NOT NULL, links INTEGER NOT NULL, rdev INTEGER NOT NULL, sha256 BLOB NOT NULL, target BLOB,
    xattrs BLOB NOT NULL, history TEXT NOT NULL, depth INTEGER NOT NULL,
    PRIMARY KEY (folder, name, first)
) WITHOUT ROWID;
CREATE TABLE snapshots (step INTEGER PRIMARY KEY, record BLOB NOT NULL);
"""
FORMAT = 1
_COLUMNS = 'name, first, last, mode, uid, gid, user, "group", size, mtime, ctime, inode, device, links, rdev, sha256, \
target, xattrs, history, depth'
_INSERT = f"INSERT OR REPLACE INTO versions (folder, {_COLUMNS}) VALUES ({', '.join('?' * 21)})"
_MOST = (1 << 63) - 1


class Index:
    """An open index. Raises ``sqlite3.Error`` only where the file is damaged or the disk fails."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._db = connection
        self._ids: dict[bytes, int] = {}

    @classmethod
    def open(cls, layout: Layout, *, write: bool) -> Index:
        """The index of a vault as far as it is there; it may be behind the manifest. See :func:`up_to_date`."""
        path = os.fsdecode(layout.index)
        if write:
            db = sqlite3.connect(path, isolation_level=None, timeout=0)
            db.execute("PRAGMA journal_mode = DELETE")
            db.execute("PRAGMA synchronous = FULL")
            if not db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                _make_tables(db)
        else:
            from urllib.parse import quote

            db = sqlite3.connect(f"file:{quote(layout.index)}?mode=ro", uri=True, isolation_level=None, timeout=0)
        db.execute("PRAGMA cache_size = -65536")
        return cls(db)

    @classmethod
    def in_memory(cls) -> Index:
        """An empty one that is never written anywhere."""
        db = sqlite3.connect(":memory:", isolation_level=None)
        _make_tables(db)
        return cls(db)

    def close(self) -> None:
        self._db.close()

    # -- questions -------------------------------------------------------------------------------------------------

    def fact(self, name: str) -> int:
        """``format``, ``base`` or ``step``; 0 while nothing was recorded."""
        found = self._db.execute("SELECT value FROM facts WHERE name = ?", (name,)).fetchone()
        return int(found[0]) if found else 0

    def listings(self) -> dict[bytes, bytes]:
        """For each folder whose current versions are all that its source has: the hash of that listing."""
        return dict(self._db.execute("SELECT path, listing FROM folders WHERE listing IS NOT NULL"))

    def at(self, folder: bytes, step: int = CURRENT - 1) -> list[Version]:
        """What is in a folder at a step, now by default, in byte order of names."""
        number = self._folder(folder)
        if number is None:
            return []
        rows = self._db.execute(
            f"SELECT {_COLUMNS} FROM versions WHERE folder = ? AND first <= ? AND last > ? ORDER BY name",
            (number, step, step),
        )
        return [_version(row) for row in rows]

    def one(self, folder: bytes, name: bytes, step: int = CURRENT - 1) -> Version | None:
        """One item at a step."""
        found = self._rows(folder, name, "AND first <= ? AND last > ?", step, step)
        return found[0] if found else None

    def next(self, folder: bytes, version: Version) -> Version | None:
        """The version that took the place of this one at once."""
        found = self._rows(folder, version.name, "AND first = ?", version.last)
        return found[0] if found else None

    def count_current(self, folder: bytes) -> int:
        """How many items there are now beneath a folder, itself not counted."""
        low, high = folder + b"/", folder + b"0"
        return int(
            self._db.execute(
                "SELECT count(*) FROM versions JOIN folders ON folders.id = folder"
                " WHERE last = ? AND (path = ? OR (path > ? AND path < ?))",
                (CURRENT, folder, low, high),
            ).fetchone()[0]
        )

    def changed_since(self, step: int) -> Iterator[bytes]:
        """The paths of everything that came, went or changed after a step, as far as that is known still."""
        for folder, name in self._db.execute(
            "SELECT path, name FROM folders JOIN versions ON folders.id = folder"
            " WHERE first > ? OR (last > ? AND last < ?)",
            (step, step, CURRENT),
        ):
            yield join(folder, name)

    def everything(self) -> Iterator[tuple[bytes, Version]]:
        """Every version of every item as (folder, version): folders by path, names and then versions in order."""
        for row in self._db.execute(
            f"SELECT path, {_COLUMNS} FROM folders JOIN versions ON folders.id = folder ORDER BY path, name, first"
        ):
            yield row[0], _version(row[1:])

    def snapshots(self) -> list[Snapshot]:
        """All, oldest first."""
        return [
            manifest.snapshot_of(orjson.loads(record))
            for (record,) in self._db.execute("SELECT record FROM snapshots ORDER BY step")
        ]

    # -- changes ---------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """All of what is done inside, or nothing."""
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(sqlite3.Error):
                self._db.execute("ROLLBACK")
            self._ids.clear()
            raise

    def record(self, number: int, changes: Iterable[tuple[Change, str | None]], snapshot: Snapshot | None) -> None:
        """Take over a step; inside of a transaction. Changes come with the history of the version that they end, None
        where they end none."""
        ended: list[tuple[Any, ...]] = []
        begun: list[tuple[Any, ...]] = []
        for change, history in changes:
            folder = self._folder(change.folder, make=True)
            if history is not None:
                ended.append((number, history, folder, change.name, CURRENT, number))
            if change.after is not None:
                begun.append(_row(folder, change.after))
        self._db.executemany(
            "UPDATE versions SET last = ?, history = ? WHERE folder = ? AND name = ? AND last = ? AND first < ?", ended
        )
        self._db.executemany(_INSERT, begun)
        if snapshot is not None:
            self._db.execute(
                "INSERT OR REPLACE INTO snapshots VALUES (?, ?)", (snapshot.step, orjson.dumps(snapshot.record))
            )
        self.set_fact("step", number)

    def load(self, versions: Iterable[tuple[bytes, Version]], snapshots: Iterable[Snapshot], number: int) -> None:
        """Take over a base; inside of a transaction. What was there before is gone."""
        self._db.execute("DELETE FROM versions")
        self._db.execute("DELETE FROM folders")
        self._db.execute("DELETE FROM snapshots")
        self._ids.clear()
        rows = (_row(self._folder(folder, make=True), version) for folder, version in versions)
        self._db.executemany(_INSERT, list(rows))
        self._db.executemany(
            "INSERT INTO snapshots VALUES (?, ?)", [(one.step, orjson.dumps(one.record)) for one in snapshots]
        )
        self.set_fact("base", number)
        self.set_fact("step", number)

    def set_fact(self, name: str, value: int) -> None:
        self._db.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", (name, value))

    def refresh(self, versions: Iterable[tuple[bytes, Version]]) -> None:
        """Replace current versions by ones that differ in what only quick comparison needs (ctime, inode)."""
        self._db.executemany(_INSERT, [_row(self._folder(folder, make=True), version) for folder, version in versions])

    def set_listings(self, found: dict[bytes, bytes | None]) -> None:
        """Remember the listings of folders (None: forget it)."""
        self._db.executemany(
            "UPDATE folders SET listing = ? WHERE id = ?",
            [(listing, self._folder(path, make=listing is not None)) for path, listing in found.items()],
        )

    def _folder(self, path: bytes, *, make: bool = False) -> int | None:
        found = self._ids.get(path)
        if found is None:
            row = self._db.execute("SELECT id FROM folders WHERE path = ?", (path,)).fetchone()
            if row is not None:
                found = int(row[0])
            elif make:
                found = self._db.execute("INSERT INTO folders (path) VALUES (?)", (path,)).lastrowid
            else:
                return None
            assert found is not None
            if len(self._ids) > 100_000:  # about 20 MB
                self._ids.clear()
            self._ids[path] = found
        return found

    def _rows(self, folder: bytes, name: bytes, condition: str, *values: int) -> list[Version]:
        number = self._folder(folder)
        if number is None:
            return []
        rows = self._db.execute(
            f"SELECT {_COLUMNS} FROM versions WHERE folder = ? AND name = ? {condition}", (number, name, *values)
        )
        return [_version(row) for row in rows]


def _make_tables(db: sqlite3.Connection) -> None:
    db.execute("BEGIN IMMEDIATE")
    for statement in SCHEMA.split(";\n"):
        db.execute(statement)
    db.execute("INSERT INTO facts VALUES ('format', ?)", (FORMAT,))
    db.execute("COMMIT")


def _version(row: tuple[Any, ...]) -> Version:
    return Version._make((*row[:17], unpack_xattrs(row[17]), *row[18:]))


def _row(folder: int | None, version: Version) -> tuple[Any, ...]:
    # SQLite's numbers are signed: what does not fit counts as unknown, which costs a comparison by content.
    inode, device = version.inode, version.device
    if inode > _MOST or device > _MOST:
        version = version._replace(inode=inode & _MOST, device=device & _MOST)
    if abs(version.mtime) > _MOST or abs(version.ctime) > _MOST:  # in the manifest of an earlier Holdfast
        version = version._replace(mtime=countable(version.mtime), ctime=countable(version.ctime))
    return (folder, *version[:17], pack_xattrs(version.xattrs), *version[18:])


def usable(layout: Layout) -> bool:
    """Whether the index on disk can be read as it is: complete, sound at a glance, and of the manifest's base."""
    try:
        if not os.path.exists(layout.index) or os.path.exists(layout.index + b"-journal"):
            return False
        index = Index.open(layout, write=False)
        try:
            base, steps = manifest.files(layout)
            newest = steps[-1][0] if steps else base[0] if base else 0
            return (
                index.fact("format") == FORMAT
                and index.fact("base") == (base[0] if base else 0)
                and index.fact("step") <= newest
            )
        finally:
            index.close()
    except sqlite3.Error:
        return False


def rebuild(layout: Layout, index: Index) -> None:
    """Fill an index with everything that the manifest says. Raises ``Corrupt``."""
    base, steps = manifest.files(layout)
    with index.transaction():
        if base is not None:
            records = manifest.read(base[1])
            snapshots = [manifest.snapshot_of(one["snapshot"]) for one in records if "snapshot" in one]
            index.load(_based(base[1], records), snapshots, base[0])
        for number, path in steps:
            found, snapshot = manifest.read_step(path, number)
            expect(index, number, path)
            index.record(number, manifest.changes_of(path, found, number), snapshot)


def expect(index: Index, number: int, path: bytes) -> None:
    """Raise ``Corrupt`` unless step ``number`` is the one that follows: a file of the manifest is gone."""
    if index.fact("step") + 1 != number:
        raise Corrupt(
            f"Step {index.fact('step') + 1} is missing from the manifest; the next one is {os.fsdecode(path)}.",
            hint="Put the missing file back from a copy of the vault.",
        )


def _based(path: bytes, records: list[dict[str, Any]]) -> Iterator[tuple[bytes, Version]]:
    for record in records[1:]:
        if "snapshot" not in record:
            folder, _, name = manifest.path_of(record).rpartition(b"/")
            yield folder, manifest.version_of(record, name, 0)


@contextlib.contextmanager
def translating(layout: Layout) -> Iterator[None]:
    """Turn what SQLite says of the index into ``NoSpace``, ``Unavailable`` or ``Corrupt``."""
    try:
        yield
    except sqlite3.Error as error:
        shown, code = os.fsdecode(layout.index), getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code == sqlite3.SQLITE_FULL:
            raise NoSpace(f"cannot write {shown}: {error}", hint="Free some space; the next run goes on.") from error
        if code in (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_BUSY):
            raise Unavailable(f"cannot use {shown}: {error}", hint="Look at the disk, and who else uses it.") from error
        raise Corrupt(
            f"The index {shown} is damaged: {error}", hint="'holdfast check --rebuild' makes it anew from the manifest."
        ) from error


def discard(layout: Layout) -> None:
    """Throw the index away. Raises ``Denied``."""
    for path in (layout.index, layout.index + b"-journal"):
        try:
            os.unlink(path)
        except FileNotFoundError:
            continue
        except OSError as error:
            raise Denied(
                f"The index {os.fsdecode(path)} is of no use and cannot be removed: {error.strerror}",
                hint="Remove it as its owner; it is made again from the manifest.",
            ) from error


def describe_all(index: Index) -> Iterator[bytes]:
    """Every version as text without what only quick comparison needs: equal for indexes that say the same."""
    for folder, version in index.everything():
        plain = version._replace(ctime=0, inode=0, device=0)
        yield repr((join(folder, version.name), plain)).encode("utf-8", "surrogateescape")
    for snapshot in index.snapshots():
        yield repr((snapshot.step, snapshot.identifier)).encode()
