"""Health checks of this machine and of Holdfast's own things: state, status, outbox, logs, clock."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from urllib.parse import quote

from holdfast.app.health_plans import NO_JOURNAL, room
from holdfast.app.health_scene import Scene
from holdfast.monitor.health import Check, Finding, Result, failed, gravest, passed, skipped, warned
from holdfast.monitor.place import outbox_folder, status_folder
from holdfast.monitor.report.words import duration, moment, plural, safe, size

QUICK_ABOVE = 256 << 20
"""Bytes of a database from which only the quick form of the integrity check is made: it reads indexes once less."""
STEPS = 8
"""Times the limit of a check: reading all of a journal takes longer than other looks."""
WAITING_SECONDS = 600.0
WRONG_SECONDS = 300.0
FILE_SECONDS = 120.0
EARLIEST_NS = 1_767_225_600 * 10**9
"""2026-01-01: before it there was no Holdfast."""
LATEST_NS = 4_102_444_800 * 10**9
"""2100-01-01."""
LOG_SECONDS = 3600.0


def machine_checks(scene: Scene) -> Iterator[Check]:
    """Every check of this module."""
    limit = scene.choice.limit
    yield Check("state", partial(_state, scene), limit)
    yield Check("databases", partial(_databases, scene), limit * STEPS)
    yield Check("status", partial(_status, scene), limit)
    yield Check("outbox", partial(_outbox, scene), limit)
    yield Check("logs", partial(_logs, scene), limit)
    yield Check("clock", partial(_clock, scene), limit)
    yield Check("tracker", partial(_tracker, scene), limit)


def _state(scene: Scene) -> Finding:
    """Whether the state folder takes writes and has room: otherwise nothing that happens is remembered."""
    folder = scene.context.paths.state
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(prefix=".health.", dir=folder) as file:
            file.write(b"x" * 4096)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        where = safe(str(folder))
        return failed(
            f"the state folder {where} cannot be written: {error.strerror}", "Look at its owner and its disk."
        )
    return room(scene, os.fsencode(folder))


def _databases(scene: Scene) -> Finding:
    files = sorted(scene.context.paths.state.glob("*.db"))
    if not files:
        return skipped("there is no database in the state folder yet")
    findings = [_database(path) for path in files]
    worst = gravest(findings)
    if worst is not None and worst.result is not Result.PASS:
        return worst
    return passed(f"{', '.join(safe(path.name) for path in files)}: sound")


def _database(path: Path) -> Finding:
    action = f"Move {safe(str(path))} away: what it held is made anew from vaults, configuration and outboxes."
    try:
        quick = path.stat().st_size > QUICK_ABOVE
        with contextlib.closing(sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True, timeout=10)) as database:
            rows = database.execute("PRAGMA quick_check(3)" if quick else "PRAGMA integrity_check(3)").fetchall()
    except (OSError, sqlite3.OperationalError) as error:
        return failed(f"{safe(path.name)} cannot be read: {safe(str(error))}", "Look at its owner and its disk.")
    except sqlite3.DatabaseError as error:
        return failed(f"{safe(path.name)} is damaged: {safe(str(error))}", action)
    if rows != [("ok",)]:
        said = "; ".join(safe(str(row[0])) for row in rows)
        return failed(f"{safe(path.name)} is damaged: {said}", action)
    return passed(safe(path.name))


def _status(scene: Scene) -> Finding:
    files = sorted(status_folder(scene.context.paths.state).glob("*.json"))
    bad = []
    for path in files:
        try:
            json.loads(path.read_bytes())
        except (OSError, ValueError):
            bad.append(safe(path.name))
    if bad:
        action = "Remove them: the next run writes them anew."
        return warned(f"{plural(len(bad), 'status file')} cannot be read: {', '.join(bad[:5])}", action)
    return passed(f"{plural(len(files), 'status file')}, all readable") if files else skipped("there is none yet")


def _outbox(scene: Scene) -> Finding:
    """What waits there although the journal was just filled from it will not get there by itself."""
    folder = outbox_folder(scene.context.paths.state)
    waiting, oldest = 0, 0.0
    try:
        for entry in os.scandir(folder):
            if entry.name.endswith(".jsonl"):
                found = entry.stat()
                waiting += found.st_size
                oldest = max(oldest, scene.age(found.st_mtime_ns) if found.st_size else 0.0)
    except FileNotFoundError:
        return skipped("there is no outbox yet")
    if not os.access(folder, os.W_OK | os.X_OK):
        return failed(f"nothing can be written into the outbox {safe(str(folder))}", "Look at its owner and its disk.")
    if scene.past is None and waiting:
        return warned(f"{size(waiting)} of facts wait, because {NO_JOURNAL}", "See the check 'journal'.")
    if waiting and oldest > WAITING_SECONDS:
        return warned(f"{size(waiting)} of facts wait for {duration(oldest)}", "holdfast history")
    return passed("it is empty" if not waiting else f"{size(waiting)} of facts are on their way")


def _logs(scene: Scene) -> Finding:
    files = sorted((scene.context.paths.state / "logs").glob("*.jsonl"))
    if not files:
        return skipped("no logs are written")
    if scene.past is None or not scene.past.last_run_ns:
        return skipped("no run is known that should have left a line")
    newest = max(path.stat().st_mtime_ns for path in files)
    behind = (scene.past.last_run_ns - newest) / 1e9
    if behind > LOG_SECONDS:
        message = f"the last run began {duration(behind)} after the newest line of the logs"
        return warned(message, "Look at the owner and the disk of the folder 'logs' in the state folder.")
    return passed(f"the newest line is {duration(max(scene.age(newest), 0.0))} old")


def _tracker(scene: Scene) -> Finding:
    """Whether scripts that record what they do to files would find their lines again."""
    from holdfast.monitor import FileTracker

    folder = scene.context.paths.state / "tracker"
    if not folder.is_dir():
        return skipped("no script uses the tracker")
    action = f"Look at the owner and the disk of {safe(str(folder))}."
    try:
        with tempfile.TemporaryDirectory(prefix=".health.", dir=folder) as place:
            tracker = FileTracker("health", place, clock=scene.context.clock)
            tracker.create("health")
            lines = b"".join(path.read_bytes() for path in Path(place).iterdir())
    except OSError as error:
        return failed(f"nothing can be recorded in {safe(str(folder))}: {error.strerror}", action)
    if not tracker.works or b'"create"' not in lines:
        return failed(f"what it records is not there: {safe(tracker.trouble) or 'no line was found'}", action)
    return passed("what it records is there")


def _clock(scene: Scene) -> Finding:
    now, offset = scene.now_ns, scene.context.clock.utc_offset(scene.now_ns)
    said = moment(now, offset)
    action = "Set the clock, and let it be set by NTP: when a backup is overdue is told by it."
    if not EARLIEST_NS <= now <= LATEST_NS:
        return failed(f"the clock says {said}, which cannot be", action)
    last = 0 if scene.past is None else scene.past.last_fact_ns
    if (last - now) / 1e9 > WRONG_SECONDS:
        ahead = duration((last - now) / 1e9)
        message = f"the clock says {said}, but the journal has a fact from {ahead} later: it is, or was, wrong"
        return failed(message, action)
    try:
        with tempfile.NamedTemporaryFile(prefix=".health.", dir=scene.context.paths.state) as file:
            made = os.fstat(file.fileno()).st_mtime_ns
    except OSError:
        return passed(f"it says {said}; what the file system says could not be found out")
    # The clock of now, not of when the checks began: some of them may have waited.
    apart = abs(scene.context.clock.now_ns() - made) / 1e9
    if apart > FILE_SECONDS:
        message = f"the clock and the file system of the state folder are {duration(apart)} apart"
        return warned(message, action)
    return passed(f"it says {said}")
