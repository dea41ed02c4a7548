"""The databases of a restored tree: dumps are loaded into servers, SQLite files opened, queries asked, rows counted."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from holdfast.app.drill_results import QUERY_SECONDS, DatabaseProof, QueryProof, is_true, shown_value
from holdfast.kernel.errors import HoldfastError
from holdfast.kernel.events import Tick
from holdfast.kernel.values import dataclass
from holdfast.vaults.drill.listing import DUMPS

if TYPE_CHECKING:
    from holdfast.app.context import Context
    from holdfast.app.drill_servers import Loading
    from holdfast.files.scratch import Scratch
    from holdfast.vaults.drill.model import Dump

_ENDINGS = {"postgres": ".dump", "mariadb": ".sql", "redis": "/dump.rdb"}

Queries = Sequence[tuple[str, tuple[str, ...]]]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the user wants of databases: queries by the database's name, and servers to load into (empty: our own)."""

    queries: Queries = ()
    postgres: str = ""
    mariadb: str = ""

    def names(self, path: bytes) -> bool:
        """Whether a query is about the file at ``path``, so that it belongs into every sample."""
        return any(key in _sqlite_names(path) for key, _ in self.queries)


def prove_databases(
    context: Context, scratch: Scratch, root: bytes, dumps: Sequence[Dump], sqlite: Sequence[bytes], wanted: Wanted
) -> list[DatabaseProof]:
    """Look into every database that was restored below ``root``; one result for each, and for each name that queries
    are about and that is not there.

    What is wrong is in the results. Raises ``Cancelled``.
    """
    proofs: list[DatabaseProof] = []
    asked = _Asked(wanted.queries)
    for kind in ("postgres", "mariadb"):
        found = [dump for dump in map(_of_dump, dumps) if dump.kind == kind]
        if found:
            proofs += _prove_dumps(context, scratch, root, kind, found, wanted, asked)
    for redis in [dump for dump in map(_of_dump, dumps) if dump.kind == "redis"]:
        from holdfast.app.drill_redis import prove_redis

        context.emit(Tick("databases", len(proofs), 0, current=redis.name))
        prove_redis(context, scratch, root, redis, asked.of([redis.name]))
        proofs.append(redis)
    for number, path in enumerate(sqlite):
        context.cancel.check()
        context.emit(Tick("databases", number, 0, len(sqlite), None, os.fsdecode(path)))
        proofs.append(_prove_sqlite(context, root, path, asked))
    for name in asked.left():
        missing = DatabaseProof(name, "", b"", 0)
        missing.fail("queries are about it, and the snapshot has no database of this name")
        proofs.append(missing)
    return proofs


class _Asked:
    """The queries, and which of their databases were met."""

    def __init__(self, queries: Queries) -> None:
        self._queries = queries
        self._met: set[str] = set()

    def of(self, names: Sequence[str]) -> list[str]:
        """The queries about a database with these names."""
        found: list[str] = []
        for key, queries in self._queries:
            if key in names:
                self._met.add(key)
                found += queries
        return found

    def left(self) -> list[str]:
        """Names of databases that did not come up."""
        return [key for key, _ in self._queries if key not in self._met]


def _of_dump(dump: Dump) -> DatabaseProof:
    words = os.fsdecode(dump.path.removeprefix(DUMPS)).split("/")
    kind, name = words[0], "/".join(words[1:])
    ending = _ENDINGS.get(kind, "")
    if not ending or not name.endswith(ending) or (kind == "postgres" and words[-1] == "globals.sql"):
        return DatabaseProof(name, "", dump.path, dump.size)
    return DatabaseProof(name.removesuffix(ending), kind, dump.path, dump.size)


def _dump_names(proof: DatabaseProof, among: Sequence[DatabaseProof]) -> list[str]:
    """``NAME/DATABASE``, ``DATABASE``, and ``NAME`` where it is the only one of that name."""
    source, _, database = proof.name.rpartition("/")
    alone = sum(other.name.rpartition("/")[0] == source for other in among) == 1
    return [proof.name, database, *([source] if alone else [])]


def _sqlite_names(path: bytes) -> tuple[str, str, str]:
    """The path, the file's name, and that without its ending."""
    name = os.fsdecode(os.path.basename(path))
    return os.fsdecode(path), name, os.path.splitext(name)[0]


def _prove_dumps(
    context: Context,
    scratch: Scratch,
    root: bytes,
    kind: str,
    proofs: list[DatabaseProof],
    wanted: Wanted,
    asked: _Asked,
) -> list[DatabaseProof]:
    from holdfast.app import drill_servers

    queries = [asked.of(_dump_names(proof, proofs)) for proof in proofs]
    url = wanted.postgres if kind == "postgres" else wanted.mariadb
    size = sum(proof.size for proof in proofs)
    try:
        with drill_servers.loading(context, scratch, kind, url, size) as server:
            server.prepare([root + DUMPS + os.fsencode(f"{kind}/{name}") for name in _sources(proofs)])
            for number, proof in enumerate(proofs):
                context.cancel.check()
                context.emit(Tick("databases", number, 0, len(proofs), None, proof.name))
                _load(context, server, root, proof, queries[number])
    except HoldfastError as error:
        # The server, not a dump: what was proven by then stays.
        for proof in proofs:
            if not proof.seconds and proof.ok:
                proof.ok, proof.message = None, f"{error.message}. {error.hint}".strip()
    return proofs


def _sources(proofs: Sequence[DatabaseProof]) -> list[str]:
    return sorted({proof.name.rpartition("/")[0] for proof in proofs})


def _load(context: Context, server: Loading, root: bytes, proof: DatabaseProof, queries: Sequence[str]) -> None:
    clock = context.clock
    began = clock.monotonic()
    try:
        with server.database(root + proof.path) as ask:
            proof.seconds = max(clock.monotonic() - began, 1e-6)
            proof.rows = server.rows(ask)
            for sql in queries:
                _query(proof, sql, ask)
    except HoldfastError as error:
        hint = f" {error.hint}" if error.hint else ""
        proof.fail(f"it could not be loaded: {error.message}{hint}" if not proof.seconds else error.message)


def _query(proof: DatabaseProof, sql: str, ask: Callable[[str], list[str]]) -> None:
    try:
        lines = ask(sql)
    except HoldfastError as error:
        answer: Answer = error.message
    else:
        answer = (lines[0],) if lines else None
    _take(proof, sql, answer)


Answer = tuple[object, ...] | None | str


def _take(proof: DatabaseProof, sql: str, answer: Answer) -> None:
    """Judge what a query gave: its first row, no row, or why it failed."""
    if isinstance(answer, str):
        result = QueryProof(sql, False, message=answer)
    elif answer is None:
        result = QueryProof(sql, False, message="it gave no row")
    else:
        value = answer[0]
        if isinstance(value, str):
            value = value.split("\t")[0]
        result = QueryProof(sql, is_true(value), shown_value(value))
    proof.queries.append(result)
    if not result.ok:
        proof.fail(f"a query is not true: {sql} ({result.message or result.value})")


def _prove_sqlite(context: Context, root: bytes, path: bytes, asked: _Asked) -> DatabaseProof:
    from holdfast.sources.sqliteproof import prove

    place = root + path
    name = os.fsdecode(path)
    proof = DatabaseProof(name, "sqlite", path, os.lstat(place).st_size)
    queries = asked.of(_sqlite_names(path))
    found = prove(place, queries, context.cancel, limit=QUERY_SECONDS)
    proof.rows = found.rows
    if found.damage:
        proof.fail(f"its integrity check fails: {found.damage}")
    elif found.unproven:
        proof.ok, proof.message = None, f"SQLite here cannot look into it: {found.unproven}"
    for sql, answer in zip(queries, found.answers, strict=False):
        _take(proof, sql, answer)
    for sql in queries[len(found.answers) :]:
        _take(proof, sql, "the database could not be opened")
    return proof


def compare_rows(proofs: Sequence[DatabaseProof], before: Mapping[str, Mapping[str, int]]) -> None:
    """Note which tables have fewer rows than in the last drill. ``before``: ``KIND NAME`` -> rows by table."""
    for proof in proofs:
        if proof.rows and proof.kind != "redis":  # there keys expire
            known = before.get(f"{proof.kind} {proof.name}", {})
            proof.before = {table: rows for table, rows in known.items() if proof.rows.get(table, 0) < rows}
