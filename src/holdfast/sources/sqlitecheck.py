"""SQLite's integrity check of a file that nobody uses, alone or beside other work."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from contextlib import closing
from types import TracebackType
from urllib.parse import quote_from_bytes

from holdfast.kernel.cancel import Cancel

_LOOK = 0.05  # seconds between two looks at the stop button


def check_file(path: bytes) -> str:
    """``ok``, or what is wrong with a database that nobody uses."""
    return Checking(path).run()


class Checking:
    """``with Checking(path) as check:`` the file is checked while the block goes on; ``result`` waits for the end.

    The check reads, and SQLite lets go of the interpreter's lock meanwhile. No thread is left behind the block, however
    it is left: the engine forks later. Where the system allows no thread, ``result`` does the work.
    """

    def __init__(self, path: bytes) -> None:
        self._path = path
        self._found: str | None = None
        self._stopped = False
        self._database: sqlite3.Connection | None = None
        self._thread: threading.Thread | None = None

    def run(self) -> str:
        """Check the file now, in this thread."""
        try:
            uri = f"file:{quote_from_bytes(self._path)}?immutable=1"
            database = sqlite3.connect(uri, uri=True, isolation_level=None)
            with closing(database):
                self._database = database
                database.execute("PRAGMA trusted_schema = 0")
                if self._stopped:
                    return ""
                return str(database.execute("PRAGMA integrity_check(1)").fetchone()[0])
        except sqlite3.Error as error:
            return str(error)

    def result(self, cancel: Cancel) -> str:
        """``ok``, or what is wrong. Raises ``Cancelled``."""
        thread = self._thread
        while thread is not None and thread.is_alive():
            cancel.check()
            thread.join(_LOOK)
        if self._found is None:
            self._found = self.run()
        return self._found

    def __enter__(self) -> Checking:
        thread = threading.Thread(target=self._work)
        with contextlib.suppress(RuntimeError):
            thread.start()
            self._thread = thread
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        thread = self._thread
        self._stopped = True
        while thread is not None and thread.is_alive():
            # Again and again: an interruption that comes between two statements stops neither.
            with contextlib.suppress(sqlite3.Error):
                if self._database is not None:
                    self._database.interrupt()
            thread.join(_LOOK)

    def _work(self) -> None:
        self._found = self.run()
