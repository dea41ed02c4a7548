"""Which run brought what into a mirror: of each source when, where and with which tags it was saved last."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any

from holdfast.vaults.base import SnapshotPart

MEMBER = "saved"
"""The member of the mirror's description that has this: source -> what its last run said of itself."""
_SAID = ("time", "time_ns", "hostname", "tags", "note")


def saved(
    fields: Mapping[str, Any], sources: Iterable[bytes], last: Mapping[str, Any] | None, kept: Iterable[bytes]
) -> dict[str, dict[str, Any]]:
    """What is to be remembered of the ``sources`` that a run just saved, as its description ``fields`` has it, and of
    those that are ``kept`` from before, as the ``last`` description does."""
    now = {name: fields[name] for name in _SAID}
    before = {} if last is None else {**dict.fromkeys(last["paths"], _of(last)), **last.get(MEMBER, {})}
    return {
        **{path: before[path] for path in map(os.fsdecode, kept) if path in before},
        **dict.fromkeys(map(os.fsdecode, sources), now),
    }


def parts(fields: Mapping[str, Any]) -> tuple[SnapshotPart, ...]:
    """The sources by the run that saved them, the newest first; nothing where one run saved them all. Raises
    ``KeyError``, ``TypeError``."""
    by_run: dict[SnapshotPart, list[str]] = {}
    for path, said in fields.get(MEMBER, {}).items():
        run = SnapshotPart((), said["time"], said["time_ns"], said["hostname"], tuple(said["tags"]), said["note"])
        by_run.setdefault(run, []).append(path)
    if len(by_run) < 2:
        return ()
    newest_first = sorted(by_run.items(), key=lambda pair: pair[0].time_ns, reverse=True)
    return tuple(run._replace(paths=tuple(sorted(paths))) for run, paths in newest_first)


def _of(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: fields[name] for name in _SAID}
