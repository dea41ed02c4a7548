"""Use case: the report of a day, a week, or any other time, from the journal."""

from __future__ import annotations

import errno
import json
from itertools import islice, takewhile
from pathlib import Path
from typing import TYPE_CHECKING

from holdfast.app.context import Context
from holdfast.app.health_scene import Scene, set_scene
from holdfast.app.recording import note, recorded
from holdfast.files.whole import replace_file
from holdfast.kernel.errors import Denied, Invalid, NoSpace, NotFound
from holdfast.kernel.events import Fact
from holdfast.kernel.values import dataclass

if TYPE_CHECKING:
    from holdfast.monitor.report.model import Due, Expected, Report

DAY_NS = 86_400 * 10**9
MOST_STARTS = 5_000
TEXT_LIMIT = 16_000
"""Bytes, as JSON, of a report that is sent: the fact that carries it has an end, and so has a reader's patience."""


@dataclass(frozen=True, slots=True)
class ReportRequest:
    """From when (None: so many days before the end) until when (None: now)."""

    since_ns: int | None = None
    until_ns: int | None = None
    days: int = 1


def make_report(context: Context, request: ReportRequest) -> Report:
    """The report. Raises ``Invalid`` for a period that is none, and what reading the configuration and journal does."""
    from holdfast.app.journal import open_journal
    from holdfast.monitor.report.gather import gather
    from holdfast.monitor.report.model import Period

    now = context.clock.now_ns()
    until = now if request.until_ns is None else min(request.until_ns, now)
    since = until - request.days * DAY_NS if request.since_ns is None else request.since_ns
    if since >= until:
        raise Invalid(
            "the report would be of no time at all: it begins after its end", hint="Look at --since, --until."
        )
    period = Period(since, until)
    scene = set_scene(context)
    journal = open_journal(context)
    try:
        due = _due(scene, period.since_ns, until)
        return gather(journal, period, made_ns=now, expected=_expected(scene), due=due, itself=context.run)
    finally:
        journal.close()


def _expected(scene: Scene) -> list[Expected]:
    from holdfast.monitor.report.model import Expected

    return [Expected(*watched.pair, watched.every) for watched in scene.watched if watched.plan is not None]


def _due(scene: Scene, since_ns: int, until_ns: int) -> list[Due]:
    """The backups and drills that were to start in the period, if something is installed that starts them."""
    from holdfast.app.schedules import installed, zone
    from holdfast.jobs.schedule import fires
    from holdfast.monitor.report.model import Due

    known = installed(scene.context) if scene.settings is not None else None
    if known is None:
        return []
    here, begin = zone(scene.context), max(since_ns, known.at_ns)
    found = []
    for plan in scene.plans:
        for operation, schedule in (("backup", plan.times.backup), ("drill", plan.times.drill)):
            starts = takewhile(lambda at_ns: at_ns < until_ns, fires(schedule, begin - 1, here)) if schedule else ()
            times = tuple(islice(starts, MOST_STARTS))
            if times:
                found.append(Due(operation, plan.name, times))
    return found


def send_report(context: Context, request: ReportRequest) -> Report:
    """Make the report and hand it to the rules, as a run: the fact ``report.made``, of which ``digest`` makes a notice.

    A warning tells where no rule would send it. Raises as :func:`make_report` does.
    """
    with recorded(context, "report") as this:
        report = make_report(this.context, request)
        _hand_on(this.context, report)
        if not _is_awaited(context):
            context.warn("no rule in the configuration names 'digest': the report is kept, and sent to nobody")
        this.finish("ok", f"the report was made: {report.headline}")
        return report


def _is_awaited(context: Context) -> bool:
    settings = None if context.configured is None else context.configured.settings()
    rules = () if settings is None else settings.loaded.configuration.notify.rules
    return any(not {"digest", "all"}.isdisjoint(rule.on) for rule in rules)


def _hand_on(context: Context, report: Report) -> None:
    from holdfast.monitor.report.model import rfc3339
    from holdfast.monitor.report.plain import as_text, headline, title

    text = as_text(report, context.clock.utc_offset)
    if len(json.dumps(text)) > TEXT_LIMIT:
        while len(json.dumps(text)) > TEXT_LIMIT:
            text = text[: len(text) * 9 // 10]
        text = text.rsplit("\n", 1)[0] + "\n... ('holdfast report' shows the rest)\n"
    data = {
        "period": {"since": rfc3339(report.period.since_ns), "until": rfc3339(report.period.until_ns)},
        "ok": report.ok,
        "title": title(report, context.clock.utc_offset),
        "headline": headline(report),
        "text": text,
    }
    note(context, Fact("report.made", headline(report), "info" if report.ok else "warning", data))


def write_page(context: Context, report: Report, path: Path) -> None:
    """Write the report as HTML into the file ``path``, which is replaced as a whole. Raises ``NotFound`` where its
    folder is not there, ``Denied``."""
    from holdfast.monitor.report.page import as_html

    page = as_html(report, context.clock.utc_offset).encode("utf-8", "replace")
    try:
        replace_file(path, page, 0o600)
    except FileNotFoundError as error:
        raise NotFound(f"there is no folder {path.parent}", hint="Make it, or name another file.") from error
    except OSError as error:
        kind = NoSpace if error.errno in (errno.ENOSPC, errno.EDQUOT) else Denied
        raise kind(f"cannot write the report into {path}: {error.strerror}", hint="Name another file.") from error
