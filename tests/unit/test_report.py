"""The report: what it finds in a journal, and that nothing in a journal can break how it is shown."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from tests.reportkit import DAY, HOUR, NOW, Past, busy_weeks

from holdfast.monitor.plain import plain_text
from holdfast.monitor.report.gather import gather
from holdfast.monitor.report.model import DAY_NS, Due, Expected, Missing, Period, Report, as_json
from holdfast.monitor.report.page import as_html
from holdfast.monitor.report.plain import as_text

PERIOD = Period(NOW - DAY, NOW)


def utc(_at_ns: int) -> int:
    return 0


@pytest.fixture
def past(tmp_path: Path) -> Past:
    return Past(tmp_path)


def report(past: Past, period: Period = PERIOD, **words: Any) -> Report:
    with past.journal() as journal:
        return gather(journal, period, made_ns=NOW, **words)


def grave(found: Report) -> list[Missing]:
    return [gap for gap in found.missing if gap.grave]


def test_a_busy_day(past: Past) -> None:
    busy_weeks(past)
    found = report(past, expected=[Expected("docs", "home", 26 * 3600.0)])
    assert not found.ok and found.hosts == ("desk",)
    assert [(line.operation, line.plan, line.vault) for line in found.lines] == [
        ("backup", "docs", "home"),
        ("backup", "mail", "home"),
        ("backup", "photos", "cloud"),
        ("copy", "docs", "cloud"),
        ("check", "", "home"),
    ]
    docs = found.lines[0]
    assert (docs.runs, docs.outcomes["ok"], docs.added, docs.seconds) == (1, 1, 180 << 20, 95)
    assert docs.earlier is not None and docs.earlier.runs == 1 and docs.earlier.seconds == 111
    failed, partial = found.failures
    assert (failed.plan, failed.message) == ("photos", "cannot reach s3:bucket: timed out")
    assert failed.hint.startswith("Check the address")
    assert (partial.problems, len(partial.items), partial.items[0]) == (7, 5, "/srv/mail/0: permission denied")
    assert (found.validated.checks, found.validated.drills, found.validated.databases) == (1, 1, 1)
    assert found.drills[0].recent and len(found.drills[0].trend) == 7
    assert found.spaces[0].forecast is not None and found.spaces[0].forecast.days_left(NOW) is not None
    assert (found.notices.open, [d.channel for d in found.notices.deliveries]) == (1, ["mail", "phone"])
    assert found.health is not None and found.health.counts["fail"] == 1
    assert [trouble[0] for trouble in found.health.troubles] == ["vault:cloud", "key:home"]
    assert [anomaly.subject for anomaly in found.anomalies] == ["expectation: import"]
    assert len(found.columns) == 8 and found.columns[-1].outcomes["failed"] == 1
    assert not grave(found)


def test_a_quiet_day_is_told_in_one_sentence(past: Past) -> None:
    assert report(past).headline == "nothing ran" and report(past).ok
    past.run(NOW - HOUR)
    found = report(past)
    assert found.ok and found.headline == "all is well: 1 run, none failed"
    assert "All is well: 1 run, none failed." in as_text(found, utc)


def test_a_plan_over_two_vaults_counts_once_each(past: Past) -> None:
    whole = past.run(NOW - HOUR, vault="", outcome="failed", message="saved into 1 of 2 vaults")
    past.run(NOW - HOUR, vault="home", parent=whole)
    past.run(NOW - HOUR, vault="cloud", outcome="failed", message="no network", parent=whole)
    past.run(NOW - HOUR, "forget", vault="home", parent=whole)
    found = report(past)
    assert [(line.operation, line.vault, line.runs) for line in found.lines] == [
        ("backup", "cloud", 1),
        ("backup", "home", 1),
        ("forget", "home", 1),
    ]
    assert [failure.message for failure in found.failures] == ["no network"]


def test_what_health_finds_is_no_failed_run(past: Past) -> None:
    past.run(NOW - HOUR, "health", plan="", vault="", outcome="failed", message="Health: 1 check fails: clock")
    assert report(past).failures == ()


def test_a_plan_that_was_refused_as_a_whole_is_told(past: Past) -> None:
    past.run(NOW - HOUR, vault="", outcome="failed", message="the hook 1 before the backup failed")
    assert [failure.message for failure in report(past).failures] == ["the hook 1 before the backup failed"]


def test_what_did_not_happen(past: Past) -> None:
    past.run(NOW - 50 * HOUR)
    past.run(NOW - 2 * HOUR, outcome="failed")
    expected = [Expected("docs", "home", 26 * 3600.0), Expected("new", "home", None), Expected("lax", "home", None)]
    past.run(NOW - 300 * DAY, plan="lax")
    found = grave(report(past, expected=expected))
    assert [(gap.subject, gap.action) for gap in found] == [
        ("docs in home", "holdfast backup docs"),
        ("new in home", "holdfast backup new"),
    ]
    assert "no backup for 2.1 days" in found[0].message and "never" in found[1].message


def test_a_start_that_was_late_is_not_missing(past: Past) -> None:
    starts = tuple(NOW - back * 6 * HOUR for back in (4, 3, 2, 1))
    due = [Due("backup", "docs", starts)]
    past.run(starts[0] + 5 * HOUR)  # the machine was asleep
    past.run(starts[2] + HOUR)
    past.run(starts[3] + HOUR, plan="other")
    assert [gap.message for gap in grave(report(past, due=due))] == ["it was due and did not start, 2 times"]
    # What was due just now may still start.
    soon = [Due("backup", "other", (starts[3], NOW - HOUR))]
    assert not grave(report(past, due=soon))


def test_what_nobody_proved_for_a_month_is_worth_a_line_but_no_alarm(past: Past) -> None:
    past.run(NOW - HOUR)
    found = report(past, expected=[Expected("docs", "home", 26 * 3600.0)])
    assert found.ok and [gap.action for gap in found.missing] == ["holdfast drill docs", "holdfast check --vault home"]


@pytest.mark.parametrize(
    ("seconds", "files", "size", "told"),
    [
        (60, 0, 0, "no file at all"),
        (60, 100, 10 << 20, "10.0 MiB, where 100.0 MiB are usual"),
        (600, 100, 100 << 20, "it took 10:00 min, where 1:00 min are usual"),
        (2, 100, 100 << 20, "it took only 2.0 s"),
        (70, 100, 99 << 20, ""),
    ],
)
def test_what_is_unusual(past: Past, seconds: float, files: int, size: int, told: str) -> None:
    for back in range(2, 6):
        past.run(NOW - back * DAY, seconds=60, total_files=100, total_bytes=100 << 20)
    past.run(NOW - HOUR, seconds=seconds, total_files=files, total_bytes=size)
    messages = [anomaly.message for anomaly in report(past).anomalies]
    assert len(messages) == bool(told) and all(told in message for message in messages)


def test_a_drill_that_failed_is_bad_news(past: Past) -> None:
    past.fact(NOW - HOUR, "drill.finished", "differs", "error", plan="docs", vault="home", outcome="failed")
    found = report(past)
    assert not found.ok and found.headline == "1 drill failed"


def test_a_week_is_compared_with_the_weeks_before(past: Past) -> None:
    busy_weeks(past)
    found = report(past, Period(NOW - 7 * DAY, NOW))
    docs = found.lines[0]
    assert docs.runs == 7 and docs.earlier is not None and docs.earlier.runs == 6
    assert len(found.columns) == 5 and found.columns[-1].outcomes["ok"] >= 7


def test_many_failures_are_counted_and_not_all_shown(past: Past) -> None:
    for number in range(30):
        past.run(NOW - HOUR - number, "run", f"job{number}", "", "failed", message=f"job {number}")
    found = report(past)
    assert (len(found.failures), found.more_failures) == (20, 10)
    assert found.headline == "30 runs failed" and "... and 10 more runs" in as_text(found, utc)


EVIL = "\x1b[31m<script>alert(1)</script>&\"'\u202e\udcff\n</style>" + "x" * 9000


class Page(HTMLParser):
    """Sees that every element that begins also ends, in order, and what there is."""

    VOID = frozenset({"meta", "br", "line", "rect", "circle", "polygon", "polyline"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: set[str] = set()
        self.loads: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        self.loads += [f"{name}={value}" for name, value in attrs if name in ("src", "href", "style", "onclick")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open.pop() == tag, (tag, self.open)


def looked_at(page: str) -> Page:
    page.encode()
    parser = Page()
    parser.feed(page)
    parser.close()
    assert not parser.open
    return parser


def test_nothing_in_the_journal_can_act_on_a_reader(past: Past) -> None:
    run = past.run(NOW - HOUR, plan=EVIL, vault=EVIL, outcome="partial", message=EVIL, problems=3, total_files=0)
    past.fact(NOW - HOUR, "item.failed", EVIL, "error", run=run, path=EVIL)
    past.run(NOW - HOUR, plan=EVIL, outcome="failed", error={"code": EVIL, "message": EVIL, "hint": EVIL})
    past.fact(NOW - HOUR, "notice.raised", EVIL, "error", notice=EVIL)
    past.fact(NOW - HOUR, "notice.failed", EVIL, "error", notice=EVIL, channel=EVIL, error=EVIL)
    past.fact(NOW - HOUR, "silent.failure", EVIL, "error", name=EVIL)
    past.fact(NOW - HOUR, "vault.space", vault=EVIL, free=5, total=10)
    past.fact(NOW - 40 * HOUR, "vault.space", vault=EVIL, free=5, total=10)
    for _ in range(2):
        past.fact(NOW - HOUR, "drill.finished", EVIL, plan=EVIL, vault=EVIL, outcome="ok", seconds=3)
    past.fact(NOW - HOUR, "drill.finished", EVIL, plan=EVIL, vault="b", outcome=EVIL, seconds=3)
    check = {"name": EVIL, "result": "fail", "message": EVIL, "action": EVIL}
    past.fact(NOW - HOUR, "health.checked", EVIL, "error", checks=[check])
    found = report(past, expected=[Expected(plain_text(EVIL), plain_text(EVIL), 1.0)])
    text = as_text(found, utc)
    assert all(line.isprintable() and len(line) < 1500 for line in text.splitlines())
    page = as_html(found, utc)
    parser = looked_at(page)
    assert not parser.seen & {"script", "img", "link", "iframe"} and not parser.loads
    assert page.count("</style>") == 1 and "\x1b" not in page and "\u202e" not in page
    json.loads(json.dumps(as_json(found)))


def test_odd_facts_do_not_break_it(past: Past) -> None:
    """A journal may hold facts of other versions and of other programs."""
    for kind in ("drill.finished", "health.checked", "notice.sent", "vault.space", "run.finished"):
        past.fact(NOW - HOUR, kind, run="x", outcome=7, seconds="y", checks="z", free=None, total="w", databases=3)
    past.run(NOW - HOUR, outcome="failed", error="no mapping", problems="many", total_files="none")
    past.run(NOW - HOUR, ends=False)
    found = report(past)
    looked_at(as_html(found, utc))
    assert as_text(found, utc)


def test_the_page_of_a_busy_day(past: Past) -> None:
    busy_weeks(past)
    page = as_html(report(past), utc)
    parser = looked_at(page)
    assert page.count("<svg") == 4 and page.count('role="img"') == page.count("aria-label=") == 4
    assert "prefers-color-scheme: dark" in page and "default-src 'none'" in page.replace("&#x27;", "'")
    assert not parser.loads and "http" not in page.replace("http-equiv", "")


def test_json_has_times_that_others_read(past: Past) -> None:
    busy_weeks(past)
    told = as_json(report(past))
    assert told["period"] == {"since": "2026-11-21T07:00:00Z", "until": "2026-11-22T07:00:00Z"}
    assert told["ok"] is False and told["failures"][0]["at"] == "2026-11-22T04:00:00Z"
    assert told["lines"][0]["earlier"]["runs"] == 1.0
    assert DAY_NS == DAY
