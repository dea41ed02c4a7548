"""A drill as data: the fact that is kept of it, and the whole report that can be shown to others."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping, Sequence
from typing import Any

from holdfast.app.drill_results import DatabaseProof, DrillResult

_MOST = 40_000
"""Bytes of a fact's details: a line of the outbox has at most 64 KiB."""

_TABLES, _DATABASES = 100, 100
_TREND = ("at", "outcome", "snapshot", "seconds", "data_age_seconds", "files", "bytes", "whole")


def summary_data(result: DrillResult) -> dict[str, Any]:
    """The details of ``drill.finished``: bounded, JSON-ready, without secrets. The next drill is compared with them."""
    databases = sorted(result.databases, key=lambda found: (found.ok is True, not found.queries, -found.size))
    data: dict[str, Any] = {
        **figures(result),
        "compared": result.proof.restored.proven.size,
        "compared_with_source": result.proof.restored.proven.original_size,
        "databases": [_database(found, few=True) for found in databases[:_DATABASES]],
        "databases_total": len(result.databases),
        "commands": [{"name": found.name, "ok": found.ok} for found in result.commands[:50]],
        "damage": len(result.damage),
        "vault": result.vault,
        "plan": result.plan,
        "host": result.host,
        "program": result.program,
        "snapshot_time_ns": result.snapshot.time_ns,
        "previous": _trend(result.previous[0]) if result.previous else None,
    }
    while len(json.dumps(data)) > _MOST and data["databases"]:
        data["databases"].pop()
    return data


def figures(result: DrillResult) -> dict[str, Any]:
    """What of a drill makes a trend."""
    return {
        "at": _moment(result.began_ns),
        "outcome": str(result.outcome),
        "snapshot": result.snapshot.id.hex(),
        "seconds": round(result.recovery_seconds, 3),
        "data_age_seconds": round(result.data_age_seconds, 3),
        "files": result.proof.restored.proven.files,
        "bytes": result.proof.restored.proven.size,
        "whole": result.sample is None,
    }


def report_data(result: DrillResult) -> dict[str, Any]:
    """The whole report."""
    proof, snapshot = result.proof, result.snapshot
    compared = proof.restored.proven
    return {
        "report": "holdfast.drill",
        "version": 1,
        **figures(result),
        "ended": _moment(result.began_ns + int(result.seconds * 1e9)),
        "program": result.program,
        "host": result.host,
        "plan": result.plan,
        "vault": result.vault,
        "vault_kind": result.vault_kind,
        "snapshot_time": snapshot.time,
        "snapshot_host": snapshot.hostname,
        "snapshot_paths": list(snapshot.paths),
        "snapshot_program": snapshot.program,
        "tree": snapshot.tree.hex() or None,
        "recovery": {
            "seconds": round(result.recovery_seconds, 3),
            "open_seconds": round(result.open_seconds, 3),
            "restore_seconds": round(proof.restored.seconds, 3),
            "load_seconds": round(result.load_seconds, 3),
        },
        "drill_seconds": round(result.seconds, 3),
        "sample": _sample(result),
        "files_total": proof.files_total,
        "bytes_total": proof.size_total,
        "restored": {
            "files": proof.restored.files_restored,
            "bytes": proof.restored.bytes_restored,
            "folders": proof.restored.dirs,
            "links": proof.restored.links,
            "others": proof.restored.others,
        },
        "compared": {
            "files": compared.files,
            "bytes": compared.size,
            "hash": "SHA-256",
            "files_with_source": compared.originals,
            "bytes_with_source": compared.original_size,
            "source_changed": compared.changed,
            "metadata": proof.metadata
            and {
                "items": proof.metadata.items,
                "all": proof.metadata.all,
                "owners": proof.metadata.owners,
            },
        },
        "databases": [_database(found, few=False) for found in result.databases],
        "commands": [
            {
                "name": found.name,
                "ok": found.ok,
                "seconds": round(found.seconds, 3),
                "output": found.output,
                "message": found.message,
            }
            for found in result.commands
        ],
        "damage": [
            {
                "kind": found.kind,
                "message": found.message,
                "files": list(found.files),
                "files_total": found.files_total,
            }
            for found in result.damage
        ],
        "not_proven": list(result.unproven),
        "previous": [_trend(found) for found in result.previous],
        "kept": result.kept or None,
    }


def rows_before(previous: Sequence[Mapping[str, Any]], time_ns: int) -> dict[str, dict[str, int]]:
    """``KIND NAME`` of a database -> rows by table, as the last drill of a snapshot not younger than ``time_ns``
    counted them: an older snapshot rightly has fewer."""
    known: dict[str, dict[str, int]] = {}
    for data in previous:
        if int(data.get("snapshot_time_ns", 0)) > time_ns:
            continue
        for found in data.get("databases") or ():
            rows = found.get("rows")
            if isinstance(rows, dict) and rows:
                known.setdefault(f"{found.get('kind')} {found.get('name')}", rows)
    return known


def _database(found: DatabaseProof, *, few: bool) -> dict[str, Any]:
    rows = dict(sorted(found.rows.items(), key=lambda pair: -pair[1])[:_TABLES]) if few else found.rows
    data: dict[str, Any] = {
        "name": found.name,
        "kind": found.kind,
        "ok": found.ok,
        "rows": rows,
        "rows_total": found.total_rows,
        "queries": [
            {"query": query.sql, "ok": query.ok, "value": query.value, "message": query.message}
            for query in found.queries[: 20 if few else None]
        ],
    }
    if not few:
        data |= {
            "path": os.fsdecode(found.path),
            "bytes": found.size,
            "load_seconds": round(found.seconds, 3),
            "message": found.message,
            "fewer_rows": {
                table: {"before": was, "now": found.rows.get(table, 0)} for table, was in found.before.items()
            },
        }
    return data


def _trend(data: Mapping[str, Any]) -> dict[str, Any]:
    return {key: data[key] for key in _TREND if key in data}


def _sample(result: DrillResult) -> dict[str, Any] | None:
    if result.sample is None:
        return None
    return {"percent": result.sample.percent, "bytes": result.sample.size}


def _moment(ns: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(ns // 1_000_000_000)) + "Z"
