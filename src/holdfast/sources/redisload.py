"""Load a dump of Redis back: into an empty server, or in the place of what it holds, which is kept in a file first."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator

from holdfast.kernel.cancel import Cancel
from holdfast.kernel.errors import Denied, HoldfastError, Invalid, Unsupported
from holdfast.kernel.values import dataclass
from holdfast.sources.rdb import Whole
from holdfast.sources.rdbkeys import Dump, Function, Key
from holdfast.sources.redis import Server, write
from holdfast.sources.resp import Connection, Refusal, Word, refused

MARK = b"holdfast:restoring"
"""A key that is there only while a dump is loaded: it tells the next one that a load was cut short."""

_BATCH = 1 << 20  # bytes, and ...
_MOST = 1000  # ... commands that are sent before replies are read

Pieces = Callable[[], Iterable[bytes]]
"""Gives the dump from its beginning, as often as it is called."""


@dataclass(frozen=True, slots=True)
class Found:
    """What a server holds: keys (of the one database, if one was named), and whether a load was cut short there.

    ``kept`` is the file that this load kept of the former state, if any.
    """

    keys: int
    functions: int
    broken: bool
    kept: str = ""


def look(server: Server, cancel: Cancel, *, replace: bool) -> Found:
    """What is there. Raises ``Invalid`` where it may not be loaded into, ``Unsupported`` for a cluster."""
    with Connection(server, cancel) as link:
        return _look(link, server, replace=replace)


def load(server: Server, pieces: Pieces, cancel: Cancel, *, replace: bool, keep_as: str) -> str:
    """Load a dump; returns the file where the former state is kept, or nothing.

    Where the URL names a number, only that database of the dump goes into that database of the server. The dump is read
    whole first: nothing is changed for one that is damaged or that cannot be understood. With ``replace`` the former
    state of the whole server is written to ``keep_as`` before anything goes. Where loading fails, the server is emptied
    again, and the former state loaded; after a kill in the middle the key ``MARK`` stays, and the next load says so.
    Raises ``HoldfastError`` with what the server said, and whatever ``pieces`` raises.
    """
    dump = _survey(pieces(), server, cancel)
    with Connection(server, cancel) as link:
        found = _look(link, server, replace=replace)
        _room(link, dump)
        kept = found.kept
        if (found.keys or found.functions) and not found.broken:
            kept = keep_as
            _keep(server, kept, cancel, dump.version)
    try:
        _fill(server, pieces(), cancel, kept)
    except BaseException as error:
        _put_back(server, kept, found, error)
        raise
    return kept


@dataclass(frozen=True, slots=True)
class _Survey:
    version: int
    databases: frozenset[int]
    functions: int


def _survey(pieces: Iterable[bytes], server: Server, cancel: Cancel) -> _Survey:
    whole = Whole()

    def watched() -> Iterator[bytes]:
        for piece in pieces:
            cancel.check()
            whole.look(piece)
            yield piece

    seen = watched()
    dump = Dump(seen)
    databases, functions = set(), 0
    for record in dump.records():
        if isinstance(record, Function):
            functions += 1
        elif server.database in (None, record.database):
            databases.add(record.database)
    for _ in seen:
        pass
    whole.finish()
    if server.database is not None and not databases:
        raise Invalid(
            f"the dump has nothing in database {server.database}", hint="Leave the number out of the URL to load all."
        )
    return _Survey(dump.version, frozenset(databases), functions)


def _look(link: Connection, server: Server, *, replace: bool) -> Found:
    info = _info(link)
    if info.get("cluster_enabled") == "1":
        raise Unsupported(
            "this server belongs to a Redis cluster: its keys have to be on certain nodes",
            hint="Load the dump into a server of its own, and move the keys from there (redis-cli --cluster import).",
        )
    if info.get("role") == "slave":
        raise Invalid("this server is a replica, which cannot be written into", hint="Name its master.")
    link.call("SELECT", server.database or 0)
    mark = link.call("GET", MARK)
    if server.database is None:
        counts = {key: value for key, value in info.items() if key.startswith("db") and key[2:].isdigit()}
        keys = sum(int(value.partition("keys=")[2].partition(",")[0]) for value in counts.values())
        (listed,) = link.calls([("FUNCTION", "LIST")])
        functions = len(listed) if isinstance(listed, list) else 0  # before Redis 7 there are none
    else:
        keys, functions = link.call("DBSIZE"), 0
    if mark is not None and not replace:
        raise Invalid(
            f"an earlier load into {server.label} was cut short: what is there is not whole"
            + (f"; the state before it is kept in {os.fsdecode(mark)}" if mark != b"-" else ""),
            hint="Give --replace: then it is emptied and loaded anew.",
        )
    if (keys or functions) and not replace:
        which = server.label if server.database is None else f"database {server.database} of {server.label}"
        raise Invalid(
            f"{which} is not empty ({keys:,} keys)",
            hint="Name another, or give --replace: then the former state is kept in a file.",
        )
    kept = "" if mark in (None, b"-") else os.fsdecode(mark)
    return Found(keys, functions, mark is not None, kept)


def _info(link: Connection) -> dict[str, str]:
    """What the server tells of itself."""
    lines = link.call("INFO").decode("utf-8", "replace").splitlines()
    return {key: value for key, colon, value in (line.partition(":") for line in lines) if colon}


def _room(link: Connection, dump: _Survey) -> None:
    """Refuse before anything is changed what the server has no place for."""
    highest = max(dump.databases, default=0)
    (reply,) = link.calls([("SELECT", highest)])
    if isinstance(reply, Refusal):
        raise Invalid(
            f"the dump has keys in database {highest}, but the server has fewer databases ({reply})",
            hint="Raise 'databases' in its configuration.",
        )
    if dump.functions and isinstance(link.calls([("FUNCTION", "LIST")])[0], Refusal):
        raise Unsupported("the dump has functions, which this server does not know", hint="Take Redis 7 or newer.")


def _keep(server: Server, path: str, cancel: Cancel, version: int) -> None:
    """Write the server's state to a file that only its owner can read, durable when this returns."""
    try:
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise Denied(f"the former state cannot be kept in {path}: {error.strerror}") from error
    try:
        try:
            with Connection(server, cancel) as link:
                write(fd, link.dump())
            os.fsync(fd)
        except OSError as error:
            raise Denied(f"the former state cannot be kept in {path}: {error.strerror}") from error
        finally:
            os.close(fd)
        own = _version(path)
        if own < version:
            raise Unsupported(
                f"the dump is of a newer Redis (RDB version {version}) than this server (RDB version {own})",
                hint="Load it into a server that is at least as new as the one that was saved.",
            )
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(path)
        raise


def _version(path: str) -> int:
    return Dump(_file(path)).version


def _file(path: str) -> Iterator[bytes]:
    with open(path, "rb") as file:
        while piece := file.read(1 << 20):
            yield piece


def _fill(server: Server, pieces: Iterable[bytes], cancel: Cancel, kept: str) -> None:
    """Empty the server, and load. While that lasts, ``MARK`` says so."""
    with Connection(server, cancel) as link:
        _empty(link, server, kept)
        for batch in _batches(pieces, server):
            cancel.check()
            for reply in link.calls(batch):
                if isinstance(reply, Refusal):
                    raise _unfit(reply)
        link.calls([("SELECT", server.database or 0), ("DEL", MARK)])


def _empty(link: Connection, server: Server, kept: str) -> None:
    every = server.database is None
    link.calls([("SELECT", server.database or 0), ("MULTI",)])
    link.calls([("FLUSHALL" if every else "FLUSHDB",), ("SET", MARK, kept or "-")])
    done = link.call("EXEC")
    if bad := next((reply for reply in done if isinstance(reply, Refusal)), None):
        raise refused(bad)
    if every:
        link.calls([("FUNCTION", "FLUSH")])  # before Redis 7 it is not known, and there are none


def _batches(pieces: Iterable[bytes], server: Server) -> Iterator[list[list[Word]]]:
    batch: list[list[Word]] = []
    size, database = 0, -1
    for record in Dump(pieces).records():
        if isinstance(record, Key):
            if server.database not in (None, record.database):
                continue
            if record.name == MARK:  # of a load that was under way when the dump was made
                continue
            if record.database != database:
                database = record.database
                batch.append(["SELECT", database])
            size += len(record.value)
            batch.append(_restore(record))
        elif server.database is None:
            batch.append(["FUNCTION", "LOAD", "REPLACE", record.code])
        if size > _BATCH or len(batch) >= _MOST:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _restore(key: Key) -> list[Word]:
    words: list[Word] = ["RESTORE", key.name, key.expires, key.value, "REPLACE"]
    if key.expires:
        words.append("ABSTTL")
    if key.idle >= 0:
        words += ["IDLETIME", key.idle]
    elif key.frequency >= 0:
        words += ["FREQ", key.frequency]
    return words


def _unfit(reply: Refusal) -> HoldfastError:
    text = str(reply)
    if "payload version" in text or "Bad data format" in text:
        return Unsupported(
            f"the server cannot read what the dump holds ({text})",
            hint="Load it into a server that is at least as new as the one that was saved, with the same modules.",
        )
    return refused(reply)


def _put_back(server: Server, kept: str, found: Found, error: BaseException) -> None:
    """After a failure: the server as it was before. Where even that fails, the error says so."""
    if found.broken:
        return  # it was not whole before either; the key that says so is there again
    try:
        if kept:
            _fill(server, _file(kept), Cancel(), kept)
        else:
            with Connection(server, Cancel()) as link:
                _empty(link, server, "")
                link.calls([("SELECT", server.database or 0), ("DEL", MARK)])
    except (HoldfastError, OSError) as second:
        if isinstance(error, HoldfastError):
            where = f"; the former state is kept in {kept}" if kept else ""
            error.message += f". What is in {server.label} now is not whole ({second}){where}"
    else:
        if kept:
            with contextlib.suppress(OSError):
                os.unlink(kept)
