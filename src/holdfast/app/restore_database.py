"""Use case: load a saved database back into a server, or into the place of a live SQLite file."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from holdfast.app.browse import browsing
from holdfast.app.context import Context
from holdfast.app.databases import PASSWORD_IN_URL, REDIS_PASSWORD
from holdfast.app.endings import of_database
from holdfast.app.recording import recording
from holdfast.app.selection import find_snapshot
from holdfast.kernel.errors import Invalid, NotFound
from holdfast.kernel.values import dataclass
from holdfast.sources.base import PLACE, as_name
from holdfast.vaults.base import SnapshotFilter, SnapshotInfo

if TYPE_CHECKING:
    from holdfast.vaults.items import Browsable, Item

_ROOT = b"/" + b"/".join(PLACE)
_POSTGRES = _ROOT + b"/postgres/"
_MARIADB = _ROOT + b"/mariadb/"
_REDIS = _ROOT + b"/redis/"
_DUMP, _SQL, _RDB = b".dump", b".sql", b".rdb"
_MAGIC = b"SQLite format 3\0"


@dataclass(frozen=True, slots=True)
class DatabaseRequest:
    """Which database of a snapshot, and where it is to go.

    ``name`` is a path in the snapshot (beginning with ``/``), or ``DATABASE`` or ``NAME/DATABASE`` of a dump. ``to`` is
    the URL of a server's database, or the path of an SQLite file (empty: where it was saved from).
    """

    name: bytes
    to: str = ""
    replace: bool = False
    owners: bool = True
    dry_run: bool = False


@dataclass(frozen=True, slots=True)
class DatabaseResult:
    """What went where. ``kept`` is the name of the former state, if there was one; ``size`` is in bytes."""

    snapshot: SnapshotInfo
    path: bytes
    kind: str
    to: str
    size: int
    kept: str


@recording("restore", of_database)
def restore_database(context: Context, text: str, wanted: SnapshotFilter, request: DatabaseRequest) -> DatabaseResult:
    """Load one database of the snapshot that ``text`` names.

    Into something new or empty, unless ``replace``; then the former state is kept under another name. All of it is
    loaded, or nothing has changed. Raises ``NotFound``, ``Invalid``, ``Locked``, ``Corrupt``, and what a server says.
    """
    stamp = time.strftime("%Y%m%d%H%M%S", time.gmtime(context.clock.now_ns() // 1_000_000_000))
    with browsing(context, tolerant=False) as there:
        snapshot = find_snapshot(there.snapshots, text, wanted)
        item = _find(there.browser, snapshot, request.name)
        if item.path.startswith(_POSTGRES) and item.name.endswith(_DUMP):
            to, kept = _postgres(context, there.browser, item, request, stamp)
            return DatabaseResult(snapshot, item.path, "postgres", to, item.size, kept)
        if item.path.startswith(_MARIADB) and item.name.endswith(_SQL):
            to, kept = _mariadb(context, there.browser, item, request, stamp)
            return DatabaseResult(snapshot, item.path, "mariadb", to, item.size, kept)
        if item.path.startswith(_REDIS) and item.name.endswith(_RDB):
            to, kept = _redis(context, there.browser, item, request, stamp)
            return DatabaseResult(snapshot, item.path, "redis", to, item.size, kept)
        if not item.path.startswith(_ROOT + b"/") and _head(there.browser, item) == _MAGIC:
            to, kept = _sqlite(context, there.browser, item, request, stamp)
            return DatabaseResult(snapshot, item.path, "sqlite", to, item.size, kept)
    shown = os.fsdecode(item.path)
    raise Invalid(f"{shown} is not a database that can be loaded", hint=f"It is a file: holdfast dump '{text}:{shown}'")


def _postgres(
    context: Context, browser: Browsable, item: Item, request: DatabaseRequest, stamp: str
) -> tuple[str, str]:
    from holdfast.sources.postgres import read_url
    from holdfast.sources.postgresload import load, look

    if not request.to:
        raise Invalid("nowhere to restore to", hint="Give --to postgresql://HOST/DATABASE")
    server = read_url(request.to)
    if server.password:
        raise Invalid(
            PASSWORD_IN_URL,
            hint="Put it into ~/.pgpass, or into PGPASSWORD in the environment.",
        )
    if request.dry_run:
        look(server, context.cancel, replace=request.replace)
        return server.database, ""
    pieces = browser.content(item)
    loaded = load(
        server, pieces, context.cancel, replace=request.replace, owners=request.owners, stamp=stamp
    )  # fmt: skip
    return loaded.database, loaded.kept


def _mariadb(context: Context, browser: Browsable, item: Item, request: DatabaseRequest, stamp: str) -> tuple[str, str]:
    from holdfast.sources.mariadb import read_url
    from holdfast.sources.mariadbload import load, look

    if not request.to:
        raise Invalid("nowhere to restore to", hint="Give --to mariadb://HOST/DATABASE")
    server = read_url(request.to)
    if server.password:
        raise Invalid(PASSWORD_IN_URL, hint="Put it into ~/.my.cnf.")
    if request.dry_run:
        look(server, context.cancel, replace=request.replace)
        return server.database, ""
    stamp += f"{context.clock.now_ns() // 1_000_000 % 1000:03}"  # one after a kill may begin in the same second
    loaded = load(server, browser.content(item), context.cancel, replace=request.replace, stamp=stamp)
    return loaded.database, loaded.kept


def _redis(context: Context, browser: Browsable, item: Item, request: DatabaseRequest, stamp: str) -> tuple[str, str]:
    from holdfast.sources.redis import read_url
    from holdfast.sources.redisload import load, look

    if not request.to:
        raise Invalid("nowhere to restore to", hint="Give --to redis://HOST")
    server = read_url(request.to)
    if server.password:
        raise Invalid(PASSWORD_IN_URL, hint=REDIS_PASSWORD)
    to = server.label if server.database is None else f"{server.label}/{server.database}"
    if request.dry_run:
        look(server, context.cancel, replace=request.replace)
        return to, ""
    name = os.fsdecode(as_name(f"redis-{server.name}-{stamp}.rdb"))
    kept = load(
        server,
        lambda: browser.content(item),
        context.cancel,
        replace=request.replace,
        keep_as=str(context.paths.state / "kept" / name),
    )
    return to, kept


def _sqlite(context: Context, browser: Browsable, item: Item, request: DatabaseRequest, stamp: str) -> tuple[str, str]:
    from holdfast.sources.sqliteload import look, put

    if "://" in request.to:
        raise Invalid("this is an SQLite database, which is a file", hint="Give --to FILE.")
    path = os.path.abspath(os.fsencode(request.to)) if request.to else item.path
    if os.path.isdir(path):
        path = os.path.join(path, item.name)
    if request.dry_run:
        look(path, replace=request.replace)
        return os.fsdecode(path), ""
    mode = item.entry.st_mode & 0o777
    kept = put(path, browser.content(item), context.cancel, mode=mode, replace=request.replace, stamp=stamp)
    return os.fsdecode(path), os.fsdecode(kept)


def _head(browser: Browsable, item: Item) -> bytes:
    return next(browser.content(item), b"")[: len(_MAGIC)] if item.kind == "file" else b""


def _find(browser: Browsable, snapshot: SnapshotInfo, name: bytes) -> Item:
    if name.startswith(b"/"):
        return browser.find(snapshot, name)
    dumps = list(_dumps(browser, snapshot))
    parts = name.split(b"/")
    found = [item for item in dumps if _words(item)[-len(parts) :] == parts]
    if not found:  # the name of a source that saves only one database
        found = [item for item in dumps if _words(item)[-2:-1] == parts]
    if len(found) == 1:
        return found[0]
    choice = ", ".join(os.fsdecode(b"/".join(_words(item)[1:])) for item in (found or dumps)) or "none"
    if found:
        raise Invalid(f"several databases are called '{os.fsdecode(name)}'", hint=f"Give one of: {choice}")
    raise NotFound(
        f"this snapshot has no dump of a database called '{os.fsdecode(name)}'",
        hint=f"It has: {choice}. An SQLite file is named by its path, which begins with /.",
    )


def _words(item: Item) -> list[bytes]:
    """``[kind, name, database]`` of a dump."""
    return item.path.removeprefix(_ROOT + b"/").removesuffix(_DUMP).removesuffix(_SQL).removesuffix(_RDB).split(b"/")


def _dumps(browser: Browsable, snapshot: SnapshotInfo) -> Iterator[Item]:
    from holdfast.vaults.items import walk

    try:
        top = browser.find(snapshot, _ROOT)
    except NotFound:
        return
    for item in walk(browser, top):
        is_dump = item.path.startswith(_POSTGRES) and item.name.endswith(_DUMP)
        if item.kind == "file" and (is_dump or item.path.startswith((_MARIADB, _REDIS))):
            yield item
