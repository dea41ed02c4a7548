"""The state index of a mirror: for every directory what it was made from and what was made, in one SQLite file.

It is a help, not the truth: the tree is. Without it the next backup reads both sides once and knows again.
"""

from __future__ import annotations

import json
import os
import sqlite3
from typing import Any, NamedTuple

from holdfast.kernel.errors import Corrupt, Denied, HoldfastError, NoSpace, Unavailable
from holdfast.vaults.marker import FOLDER
from holdfast.vaults.mirror.records import Record, decode, encode

NAME = b"state.db"
_VERSION = 1
_TABLES = """
    CREATE TABLE IF NOT EXISTS directories (
        path BLOB PRIMARY KEY, source BLOB NOT NULL, here BLOB NOT NULL, device INTEGER NOT NULL,
        files INTEGER NOT NULL, bytes INTEGER NOT NULL) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS items (path BLOB PRIMARY KEY, data BLOB NOT NULL);
    CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
"""


class Directory(NamedTuple):
    """One directory of the mirror. ``source`` and ``here`` are hashes of its listings on both sides (empty: look again
    at every entry); ``device``: the file system it was read from; files and their bytes directly in it."""

    source: bytes
    here: bytes
    device: int
    files: int
    bytes: int


class State:
    """The open index. Paths are relative to the mirror, without a leading slash; empty is its root.

    Changes are durable when :meth:`commit` returns; what was not committed is gone after a crash, and the rest whole.
    """

    def __init__(self, root: bytes, *, write: bool) -> None:
        """Open the index of the mirror at ``root``. With ``write`` a missing one is made, and one that is damaged or
        of another version set aside and begun anew. Without, a missing one is empty, and damage raises ``Corrupt``."""
        self._path = os.path.join(root, FOLDER, NAME)
        self.is_new = not os.path.exists(self._path)
        if write:
            try:
                self._db = self._open_to_write()
            except sqlite3.Error as error:
                _refuse_unless_damaged(error, self._path)
                os.replace(self._path, self._path + b".damaged")
                for end in (b"-journal", b"-wal", b"-shm"):
                    if os.path.exists(self._path + end):
                        os.unlink(self._path + end)
                self.is_new = True
                self._db = self._open_to_write()
        else:
            self._db = self._open_to_read()

    def directory(self, path: bytes) -> Directory | None:
        """What is known of the directory ``path``; None for nothing."""
        row = self._query("SELECT source, here, device, files, bytes FROM directories WHERE path = ?", path)
        return None if row is None else Directory(*row)

    def items(self, path: bytes) -> dict[bytes, Record]:
        """What is known of the entries of ``path``, by name. Raises ``Corrupt``."""
        row = self._query("SELECT data FROM items WHERE path = ?", path)
        try:
            return {} if row is None else decode(row[0])
        except (ValueError, TypeError) as error:
            raise self._damaged(error) from error

    def totals(self) -> tuple[int, int]:
        """The files in the whole mirror, and their bytes."""
        files, size = self._query("SELECT coalesce(sum(files), 0), coalesce(sum(bytes), 0) FROM directories") or (0, 0)
        return int(files), int(size)

    def put(self, path: bytes, directory: Directory, records: dict[bytes, Record]) -> None:
        """Remember a directory and its entries, in place of what was known."""
        self.put_rows(path, directory, encode(records))

    def put_rows(self, path: bytes, directory: Directory, rows: bytes) -> None:
        """The same with the entries as ``records.encode`` gives them."""
        self._do("INSERT OR REPLACE INTO directories VALUES (?, ?, ?, ?, ?, ?)", path, *directory)
        self._do("INSERT OR REPLACE INTO items VALUES (?, ?)", path, rows)

    def forget(self, path: bytes) -> None:
        """Forget the directory ``path`` and all below it."""
        first, last = path + b"/", path + b"0"  # "0" comes right behind "/"
        for table in ("directories", "items"):
            self._do(f"DELETE FROM {table} WHERE path = ? OR (path >= ? AND path < ?)", path, first, last)

    def clear(self) -> None:
        """Forget every directory; facts stay."""
        self._do("DELETE FROM directories")
        self._do("DELETE FROM items")

    def fact(self, name: str) -> dict[str, Any] | None:
        """A remembered JSON object; None where there is none."""
        row = self._query("SELECT value FROM facts WHERE name = ?", name)
        try:
            return None if row is None else json.loads(row[0])
        except ValueError as error:
            raise self._damaged(error) from error

    def set_fact(self, name: str, value: dict[str, Any]) -> None:
        """Remember a JSON object."""
        self._do("INSERT OR REPLACE INTO facts VALUES (?, ?)", name, json.dumps(value, separators=(",", ":")))

    def commit(self) -> None:
        """Make all changes since the last time durable, together."""
        try:
            self._db.commit()
        except sqlite3.Error as error:
            raise self._failed(error) from error

    def check(self) -> str:
        """What is wrong with the file itself; empty for nothing."""
        try:
            found = self._db.execute("PRAGMA quick_check(1)").fetchone()[0]
        except sqlite3.Error as error:
            found = str(error)
        return "" if found == "ok" else found

    def close(self) -> None:
        """Close it; what was not committed is dropped."""
        self._db.close()

    def _open_to_write(self) -> sqlite3.Connection:
        db = sqlite3.connect(os.fsdecode(self._path))
        try:
            # A run that was killed costs nothing but the directories since the last commit; see the protocol of a run.
            db.execute("PRAGMA synchronous = NORMAL")
            (version,) = db.execute("PRAGMA user_version").fetchone()
            if version != _VERSION:
                if version:
                    raise sqlite3.DatabaseError("another version")
                db.executescript(_TABLES + f"PRAGMA user_version = {_VERSION};")
        except BaseException:
            db.close()
            raise
        return db

    def _open_to_read(self) -> sqlite3.Connection:
        if self.is_new:
            db = sqlite3.connect(":memory:")
            db.executescript(_TABLES)
            return db
        # A journal that a killed run left is rolled back by whoever may write; on a read-only medium there is none.
        writable = os.access(self._path, os.W_OK) and os.access(os.path.dirname(self._path), os.W_OK)
        mode = "mode=rw" if writable else "mode=ro&immutable=1"
        from urllib.parse import quote  # 2 ms, not needed to write

        try:
            db = sqlite3.connect(f"file:{quote(self._path)}?{mode}", uri=True)
            (version,) = db.execute("PRAGMA user_version").fetchone()
        except sqlite3.Error as error:
            raise self._failed(error) from error
        if version != _VERSION:
            db.close()
            raise self._damaged(ValueError(f"version {version}"))
        return db

    def _query(self, words: str, *values: object) -> tuple[Any, ...] | None:
        try:
            row: tuple[Any, ...] | None = self._db.execute(words, values).fetchone()
        except sqlite3.Error as error:
            raise self._failed(error) from error
        return row

    def _do(self, words: str, *values: object) -> None:
        try:
            self._db.execute(words, values)
        except sqlite3.Error as error:
            raise self._failed(error) from error

    def _failed(self, error: sqlite3.Error) -> HoldfastError:
        shown = os.fsdecode(self._path)
        name = getattr(error, "sqlite_errorname", "")
        if name == "SQLITE_READONLY_DBMOVED":
            return Unavailable(
                f"{shown} has disappeared", hint="Check that the disk is still connected and mounted.", path=shown
            )
        if name.startswith("SQLITE_FULL"):
            return NoSpace(f"no room for {shown}", hint="Free some space and run it again.", path=shown)
        if name.startswith(("SQLITE_IOERR", "SQLITE_BUSY", "SQLITE_LOCKED")):
            return Unavailable(f"cannot use {shown}: {error}", hint="Look at the disk, then run it again.", path=shown)
        if name.startswith(("SQLITE_PERM", "SQLITE_READONLY", "SQLITE_CANTOPEN")):
            return Denied(f"cannot use {shown}: {error}", hint="Look at its owner and permissions.", path=shown)
        return self._damaged(error)

    def _damaged(self, error: Exception) -> Corrupt:
        shown = os.fsdecode(self._path)
        return Corrupt(
            f"the state index of the mirror is damaged: {error}",
            hint=f"Remove {shown}: the next backup into the mirror makes it anew, 'holdfast check --rebuild' does so "
            "from the mirror alone.",
            path=shown,
        )


def _refuse_unless_damaged(error: sqlite3.Error, path: bytes) -> None:
    """Raise for trouble that is no damage: throwing the index away would not help."""
    name = getattr(error, "sqlite_errorname", "") or ""
    if not isinstance(error, sqlite3.DatabaseError) or name.startswith(
        ("SQLITE_FULL", "SQLITE_IOERR", "SQLITE_BUSY", "SQLITE_LOCKED", "SQLITE_PERM", "SQLITE_READONLY", "SQLITE_CANT")
    ):
        shown = os.fsdecode(path)
        raise Unavailable(
            f"cannot use the state index {shown}: {error}", hint="Look at the disk and the permissions.", path=shown
        ) from error
