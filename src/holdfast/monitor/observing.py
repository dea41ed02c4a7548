"""Pure: what each fact says about the subjects that people care for. It knows the kinds of facts, and no clock."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from holdfast.kernel.sizes import size as size_text
from holdfast.monitor.notice import NoticeSettings, Observation
from holdfast.monitor.record import Record
from holdfast.monitor.sizes import baseline, suspicion

Past = Callable[[Record], Sequence[Mapping[str, Any]]]
"""The data of the last good runs of the same operation, plan and vault before a run, the newest first."""

WATCHED = frozenset({"backup", "check", "copy", "prune", "forget", "drill", "run", "repair", "report", "schedule"})
"""Operations whose failure is told to people who are not there. Whoever restores, or opens a vault, sees it himself."""

_SHALLOW = re.compile(r"(index|snapshot|tree|key|config)\.|.*\.missing$")
"""Kinds of damage that every check sees; others show only where the data is read."""

_VERBS = {
    "backup": "Backup",
    "check": "Check",
    "copy": "Copy",
    "prune": "Prune",
    "forget": "Forget",
    "drill": "Drill",
    "run": "Command",
    "repair": "Repair",
    "report": "Report",
    "schedule": "Schedule",
}
_SCRIPTS = {
    "error.raised": ("error", "error", "An error ended"),
    "error.recorded": ("error", "error", "Error in"),
    "validation.failed": ("error", "error", "Invalid data in"),
    "expectation.failed": ("error", "error", "Unexpected data in"),
    "critical.recorded": ("critical", "critical", "Critical error in"),
    "fatal.recorded": ("critical", "critical", "Fatal error in"),
    "silent.failure": ("silent", "error", "Silent failure in"),
}
_APART = {"error.raised": "/raised", "validation.failed": "/validation", "expectation.failed": "/expectation"}
"""What shares the rule ``error`` and is another trouble all the same: one must not be hidden behind the other."""
KINDS = (
    "run.finished",
    "damage.found",
    "drill.finished",
    "vault.space",
    "lock.stuck",
    "lock.removed",
    "health.checked",
    "report.made",
    "notice.sent",
    "notice.failed",
    "item.failed",
    *_SCRIPTS,
)
"""The kinds of facts that say something here; nothing else needs to be read."""

_SAMPLES = 3
PERSISTENT = 3
"""After so many failures in a row a channel counts as broken, and others are told."""


class Observer:
    """Turns the facts of one look, in their order, into observations.

    It remembers, within the look, which items failed in which run, and which run's failure was told more closely.
    ``explained`` are runs about which an open notice tells already. ``is_told`` says of the ``notice`` of a health
    check (see ``monitor.health.Twin``) whether all who hear of health hear of that one.
    """

    def __init__(
        self,
        settings: NoticeSettings,
        past: Past,
        explained: frozenset[str],
        is_told: Callable[[Mapping[str, Any]], bool],
    ) -> None:
        self._settings = settings
        self._is_told = is_told
        self._past = past
        self._explained = set(explained)
        self._items: dict[str, list[str]] = {}
        self._kinds: dict[str, Callable[[Record], Iterator[Observation]]] = {
            "run.finished": self._run,
            "damage.found": self._damage,
            "drill.finished": self._drill,
            "vault.space": lambda record: _space(record, settings),
            "lock.stuck": self._lock,
            "lock.removed": self._lock,
            "health.checked": self._health,
            "report.made": _report,
            "notice.sent": _delivery,
            "notice.failed": _delivery,
            "item.failed": self._item,
            **dict.fromkeys(_SCRIPTS, self._script),
        }

    def observe(self, record: Record) -> Iterator[Observation]:
        """What ``record`` says; most facts say nothing."""
        look = self._kinds.get(record.kind)
        if look is not None:
            yield from look(record)

    def _item(self, record: Record) -> Iterator[Observation]:
        samples = self._items.setdefault(record.run, [])
        if len(samples) < _SAMPLES:
            path = record.data.get("path")
            named = isinstance(path, str) and path not in record.message
            samples.append(f"{path}: {record.message}" if named else record.message)
        return iter(())

    def _run(self, record: Record) -> Iterator[Observation]:
        outcome = record.data.get("outcome")
        subject = subject_of(record.operation, record.plan, record.vault)
        if outcome == "failed":
            yield from self._failed(record, subject)
        elif outcome == "partial":
            yield from _good(record, subject, "failed")
            if self._is_news(record):
                yield _bad(record, "partial", subject, "warning", f"{_what(record)} is incomplete", self._why(record))
        elif outcome == "ok":
            yield from _good(record, subject, "failed", "partial")
            if record.operation == "check":
                packs, read = (_number(record.data.get(name)) or 0 for name in ("packs", "packs_read"))
                deep = {"deep": read >= packs}
                yield Observation("damage", vault_subject(record), record.at_ns, "good", plan=record.plan, data=deep)
            elif record.operation == "repair":
                mended = {"deep": False}
                yield Observation("damage", vault_subject(record), record.at_ns, "mended", data=mended)
            elif record.operation == "run":
                yield from _good(record, subject, "error", "critical")
            elif record.operation == "drill":
                yield from _good(record, subject, "drill")
        if outcome in ("ok", "partial") and record.vault:
            yield from _good(record, vault_subject(record), "lock")
        if outcome in ("ok", "partial") and record.operation in ("backup", "run"):
            yield from self._size(record, subject)

    def _failed(self, record: Record, subject: str) -> Iterator[Observation]:
        if not self._is_news(record):
            return
        rule = "drill" if record.operation == "drill" else "failed"
        yield _bad(record, rule, subject, "error", f"{_what(record)} failed", self._why(record))

    def _is_news(self, record: Record) -> bool:
        """Whether nothing told of this run's trouble yet; the run that it belongs to is then explained as well."""
        known = record.run in self._explained
        if parent := record.data.get("parent"):
            self._explained.add(str(parent))
        return not known and record.operation in WATCHED

    def _size(self, record: Record, subject: str) -> Iterator[Observation]:
        """Whether a run that says that it worked saved as much as it used to."""
        if record.data.get("dry_run"):
            return
        past = self._past(record)
        share = self._settings.shrink.get(record.plan)
        size, usual = _number(record.data.get("total_bytes")), baseline(past, "total_bytes")
        if share is not None and size is not None and usual:
            if size < usual * (1 - share / 100):
                message = (
                    f"It holds {size_text(size)}; those before it held {size_text(usual)} "
                    f"({100 - size * 100 / usual:.0f}% less, allowed are {share:g}%)."
                )
                yield _bad(record, "shrunk", subject, "error", f"{_what(record)} shrank", message)
            else:
                yield from _good(record, subject, "shrunk")
        why = suspicion(record, past)
        if why:
            self._explained.add(record.run)
            yield _bad(record, "silent", subject, "error", f"{_what(record)} did suspiciously little", why)
        else:
            yield from _good(record, subject, "silent")

    def _damage(self, record: Record) -> Iterator[Observation]:
        self._explained.add(record.run)
        title = f"Damage in the vault {record.vault}" if record.vault else "Damage in a vault"
        hint = "Look with 'holdfast check', mend with 'holdfast repair', and look after the disk."
        level = "warning" if record.level == "warning" else "critical"
        found = _bad(record, "damage", vault_subject(record), level, title, f"{record.message} {hint}")
        yield replace(found, data={**found.data, "deep": not _SHALLOW.match(str(record.data.get("kind", "")))})

    def _drill(self, record: Record) -> Iterator[Observation]:
        subject = subject_of("drill", record.plan, record.vault)
        if record.data.get("outcome") == "ok":
            yield from _good(record, subject, "drill")
        elif record.data.get("outcome") != "cancelled":
            self._explained.add(record.run)
            title = f"{_what(record)} failed: what is saved could not be proven"
            yield _bad(record, "drill", subject, "critical", title, record.message)

    def _lock(self, record: Record) -> Iterator[Observation]:
        if record.kind == "lock.removed":
            yield from _good(record, vault_subject(record), "lock")
            return
        self._explained.add(record.run)
        title = f"A lock keeps others from the vault {record.vault}"
        hint = "'holdfast unlock' tells whose it is, and removes it if nobody's."
        yield _bad(record, "lock", vault_subject(record), "error", title, f"{record.message} {hint}")

    def _health(self, record: Record) -> Iterator[Observation]:
        checks = [_mapping(check) for check in record.data.get("checks", ()) if isinstance(check, Mapping)]
        failed = [check for check in checks if check.get("result") == "fail"]
        elsewhere = [check for check in failed if self._is_told(_mapping(check.get("notice")))]
        own = [check for check in failed if check not in elsewhere]
        if not own:
            yield from _good(record, "health", "health")
            return
        level = "critical" if any(check.get("severity") == "critical" for check in own) else "error"
        lines = []
        for check in own:
            lines.append(f"{check.get('name')}: {check.get('message', '')}")
            if check.get("action"):
                lines.append(f"-> {check['action']}")
        if elsewhere:
            names = ", ".join(str(check.get("name")) for check in elsewhere)
            lines.append(f"What else fails has notices of its own: {names}")
        items = tuple(str(check.get("name")) for check in own)
        title = f"Health: {items[0]}" if len(items) == 1 else f"Health: {len(items)} checks failed"
        yield _bad(record, "health", "health", level, title, "\n".join(lines), items=items)

    def _script(self, record: Record) -> Iterator[Observation]:
        rule, level, begin = _SCRIPTS[record.kind]
        self._explained.add(record.run)
        if record.operation == "run" and record.plan:
            # A command under 'holdfast run': its next good end is the end of this as well.
            subject = subject_of(record.operation, record.plan, record.vault)
            yield _bad(record, rule, subject, level, f"{begin} {record.plan}", record.message)
            return
        name = str(record.data.get("name") or record.role)
        subject = f"script/{name}{_APART.get(record.kind, '')}"
        yield _bad(record, rule, subject, level, f"{begin} {name}", record.message, state="event")

    def _why(self, record: Record) -> str:
        error = _mapping(record.data.get("error"))
        lines = [str(error.get("message") or record.message)]
        samples = self._items.pop(record.run, [])
        lines += [f"- {sample}" for sample in samples]
        if error.get("hint"):
            lines.append(str(error["hint"]))
        tail = record.data.get("output_tail")
        if record.operation == "run" and isinstance(tail, str) and tail.strip():
            lines += ["Its last words:", *tail.strip().splitlines()[-10:]]
        return "\n".join(line for line in lines if line)


def _bad(
    record: Record,
    rule: str,
    subject: str,
    level: str,
    title: str,
    message: str,
    *,
    state: str = "bad",
    items: tuple[str, ...] = (),
) -> Observation:
    data = {"parent": record.data["parent"]} if record.data.get("parent") else {}
    return Observation(
        rule, subject, record.at_ns, state, level, title, message, record.plan, record.run, items=items, data=data
    )


def _good(record: Record, subject: str, *rules: str) -> Iterator[Observation]:
    for rule in rules:
        yield Observation(rule, subject, record.at_ns, "good", plan=record.plan, run=record.run)


def _space(record: Record, settings: NoticeSettings) -> Iterator[Observation]:
    free, total = _number(record.data.get("free")), _number(record.data.get("total"))
    if free is None or not total:
        return
    share = free * 100 / total
    if share >= settings.space:
        yield from _good(record, vault_subject(record), "space")
        return
    level = "error" if share < settings.space / 2 else "warning"
    message = f"{size_text(free)} of {size_text(total)} are free ({share:.1f}%, wanted are {settings.space:g}%)."
    yield _bad(record, "space", vault_subject(record), level, f"The vault {record.vault} is nearly full", message)


def _report(record: Record) -> Iterator[Observation]:
    text = record.data.get("text")
    if isinstance(text, str) and text:
        subject = f"report/{record.id}"
        title = str(record.data.get("title") or record.message)
        yield _bad(record, "digest", subject, "info", title, text, state="news")


def _delivery(record: Record) -> Iterator[Observation]:
    channel = str(record.data.get("channel", ""))
    if record.kind == "notice.sent":
        yield Observation("channel", f"channel/{channel}", record.at_ns, "good", channel=channel)
    elif record.data.get("test"):
        return  # whoever tries a channel out sees it himself
    elif (_number(record.data.get("attempt")) or 0) >= PERSISTENT or record.data.get("refused"):
        title = f"The channel {channel} does not work"
        message = f"{record.data.get('error', '')}\nWhat it should have told is tried again."
        yield Observation(
            "channel", f"channel/{channel}", record.at_ns, "bad", "error", title, message, channel=channel
        )


def subject_of(operation: str, plan: str, vault: str) -> str:
    """The key of what an operation does for a plan in a vault."""
    return "/".join(part for part in (operation, plan, vault) if part)


def vault_subject(record: Record) -> str:
    """The key of a vault itself."""
    return f"vault/{record.vault}"


def _what(record: Record) -> str:
    verb = _VERBS.get(record.operation, record.operation or "A run")
    if record.operation == "run":
        return f"{verb} {record.plan}"
    of = f" of {record.plan}" if record.plan else ""
    return f"{verb}{of} ({record.vault})" if record.vault else f"{verb}{of}"


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _number(value: object) -> float | None:
    return value if isinstance(value, (int, float)) and not isinstance(value, bool) else None
