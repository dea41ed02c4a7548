"""A dump of Redis in a drill: its checksum, then a server of its own that loads it, its keys counted, and asked."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING

from holdfast.app.drill_results import QUERY_SECONDS, DatabaseProof, QueryProof, is_true, shown_value
from holdfast.kernel.errors import Corrupt, HoldfastError

if TYPE_CHECKING:
    from holdfast.app.context import Context
    from holdfast.files.scratch import Scratch
    from holdfast.sources.redis import Server

_PIECE = 1 << 20


def prove_redis(context: Context, scratch: Scratch, root: bytes, proof: DatabaseProof, queries: Sequence[str]) -> None:
    """Fill ``proof``. Queries are commands, such as ``EXISTS user:1``. Raises ``Cancelled``."""
    from holdfast.sources.redisscratch import scratch_redis

    try:
        _checksum(context, root + proof.path)
        began = context.clock.monotonic()
        base = os.path.dirname(scratch.path)
        with scratch_redis(base, root + proof.path, clock=context.clock, cancel=context.cancel) as server:
            proof.seconds = context.clock.monotonic() - began
            _ask(context, server, proof, queries)
    except Corrupt as error:
        proof.fail(error.message)
    except HoldfastError as error:
        proof.ok = None
        proof.message = f"its checksum is right, but it could not be loaded here: {error.message}. {error.hint}".strip()


def _checksum(context: Context, path: bytes) -> None:
    from holdfast.sources.rdb import Whole

    whole = Whole()
    with open(path, "rb") as file:
        while piece := file.read(_PIECE):
            context.cancel.check()
            whole.look(piece)
    whole.finish()


def _ask(context: Context, server: Server, proof: DatabaseProof, queries: Sequence[str]) -> None:
    from holdfast.sources.resp import Connection, Refusal

    with Connection(server, context.cancel, QUERY_SECONDS) as connection:
        found = connection.call("INFO", "keyspace")
        for line in found.decode("utf-8", "replace").splitlines() if isinstance(found, bytes) else ():
            name, colon, figures = line.partition(":keys=")
            if colon:
                proof.rows[name] = int(figures.partition(",")[0])
        for query in queries:
            try:
                value = connection.call(*shlex.split(query))
            except ValueError as error:
                value = Refusal(f"it cannot be read as a command: {error}")
            if isinstance(value, list):
                value = value[0] if value else None
            if isinstance(value, Refusal):
                result = QueryProof(query, False, message=str(value))
            else:
                text = value.decode("utf-8", "replace") if isinstance(value, bytes) else value
                result = QueryProof(query, is_true(text), shown_value(text))
            proof.queries.append(result)
            if not result.ok:
                proof.fail(f"a query is not true: {query} ({result.message or result.value})")
