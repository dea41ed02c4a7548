"""Runs are recorded: when one began, what it met, how it ended. What cannot be recorded never stops the work."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import field, replace
from functools import wraps
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

from holdfast.app.context import Context
from holdfast.app.hearing import Hearing
from holdfast.kernel.errors import Cancelled, HoldfastError, Locked, NoSpace
from holdfast.kernel.events import Emit, Event, Fact
from holdfast.kernel.values import dataclass

if TYPE_CHECKING:
    from holdfast.monitor.outbox import Outbox
    from holdfast.storage import Storage

Given = ParamSpec("Given")
Result = TypeVar("Result")

KEPT = frozenset(
    (
        *("lock.removed", "snapshot.forgotten", "snapshot.tagged", "snapshot.copied", "prune.rescued"),
        *("repair.snapshot", "vault.space", "drill.finished", "health.checked", "report.made"),
    )
)
"""The facts of level ``info`` that are kept. Of graver levels all are."""

MOST_ITEMS = 1000
"""How many facts about items a run keeps; ``run.finished`` tells the true number of problems."""

_LEVELS = {"ok": "info", "refused": "info", "partial": "warning", "failed": "error", "cancelled": "warning"}
_MISTAKES = frozenset(("invalid", "not_found", "wrong_password", "unsupported"))
"""Codes of errors that say: what you asked for cannot be, ask for something else."""


@dataclass(frozen=True, slots=True)
class Ending:
    """How a run ended: the outcome in a word, a sentence for a person, and counts. ``refused`` is what was a mistake of
    the person who sits there and reads that: no failure of anything that protects data."""

    outcome: str
    message: str
    data: Mapping[str, Any] = field(default_factory=dict)


class Recording:
    """One run while it is going on. ``context`` is what its work is done with: its ``emit`` keeps facts as well."""

    def __init__(self, context: Context, outbox: Outbox, where: Mapping[str, str], parent: str) -> None:
        self.id = where["run"]
        self.parent = parent
        self.started_ns = context.clock.now_ns()
        self._outbox = outbox
        self._log = context.recorder.log
        self.where = where
        self._clock = context.clock
        self._began = context.clock.monotonic()
        self.ending: Ending | None = None
        above = context.emit.beneath if isinstance(context.emit, Keeping) else context.emit
        self.context = replace(context, emit=Keeping(above, self.keep), run=self.id, plan=where["plan"])

    def keep(self, fact: Fact) -> None:
        """Write one fact of this run into the outbox, and into the log. Never raises."""
        record = self._outbox.append(fact, **self.where)
        if self._log is not None:
            self._log.log_fact(fact, **self.where, at_ns=None if record is None else record.at_ns)

    def finish(self, outcome: str, message: str, **data: Any) -> None:
        """Say how it ended: ``ok``, ``partial``, ``failed`` or ``cancelled``. The last word counts."""
        self.ending = Ending(str(outcome), message, data)

    def end(self, ending: Ending) -> Fact:
        """Keep ``run.finished``, and return it."""
        data: dict[str, Any] = {"outcome": ending.outcome, **ending.data}
        data["seconds"] = round(max(0.0, self._clock.monotonic() - self._began), 3)
        if self.parent:
            data["parent"] = self.parent
        fact = Fact("run.finished", ending.message, _LEVELS.get(ending.outcome, "error"), data)
        self.keep(fact)
        return fact


class Keeping(Hearing):
    """An ``emit`` that keeps the facts that matter, and passes every event on."""

    def __init__(self, beneath: Emit, keep: Callable[[Fact], None]) -> None:
        super().__init__(beneath)
        self.beneath = beneath
        self.keep = keep
        self._items = 0

    def __call__(self, event: Event) -> None:
        if isinstance(event, Fact) and (event.level != "info" or event.kind in KEPT):
            self._items += event.kind.startswith("item.")
            if self._items <= MOST_ITEMS or not event.kind.startswith("item."):
                self.keep(event if event.level == "info" else _masked(event))
        super().__call__(event)

    def listen_to(self, storage: Storage) -> None:
        if isinstance(self.beneath, Hearing):
            self.beneath.listen_to(storage)
        else:
            super().listen_to(storage)


@contextmanager
def recorded(
    context: Context, operation: str, *, plan: str = "", vault: str = "", data: Mapping[str, Any] | None = None
) -> Iterator[Recording]:
    """Record what happens inside as a run of ``operation``.

    Use the ``context`` of what is yielded, and call its ``finish`` at the end. A run that begins inside another one has
    that one's id as ``data["parent"]``, and its plan unless another is given. An exception makes the run ``failed``,
    with code, message and hint, or ``refused`` (see ``_is_mistake``); ``Cancelled``, Ctrl-C, and whatever fails after
    the stop button was pressed make it ``cancelled``; it is raised on. ``data`` goes with ``run.started`` and must not
    hold secrets.
    """
    from holdfast.monitor.process import this_process
    from holdfast.monitor.record import new_id

    outbox = _outbox(context)
    parent = context.run
    plan = plan or context.plan
    run = new_id(context.clock.now_ns(), context.random)
    recording = Recording(context, outbox, {"run": run, "operation": operation, "plan": plan, "vault": vault}, parent)
    begun = {**(data or {}), "process": this_process().to_data(), **({"parent": parent} if parent else {})}
    recording.keep(Fact("run.started", f"{_named(operation, plan, vault)} begins", "info", begun))
    try:
        yield recording
    except BaseException as error:
        if isinstance(error, Locked):
            recording.keep(Fact("lock.stuck", error.message, "warning", error.context))
        ending = _of_error(error, context, recording.ending)
        if ending.outcome == "failed" and _is_mistake(context, recording.where, ending):
            ending = replace(ending, outcome="refused")
        _end(context, recording, ending)
        raise
    _end(context, recording, recording.ending or Ending("ok", "done"))


def recording(
    operation: str,
    told: Callable[[Any], Ending | None],
    *,
    of_vault: bool = True,
    about: Callable[..., Mapping[str, Any]] | None = None,
) -> Callable[[Callable[Concatenate[Context, Given], Result]], Callable[Concatenate[Context, Given], Result]]:
    """A use case as a run of ``operation``: ``told(result)`` says how it ended.

    A dry run (an argument ``dry_run``, or an argument that has such a member) does nothing, so nothing is kept of it.
    ``of_vault``: it works on the context's vault. ``about``, called with the arguments behind the context, says what
    goes with ``run.started``.
    """

    def decorate(
        use_case: Callable[Concatenate[Context, Given], Result],
    ) -> Callable[Concatenate[Context, Given], Result]:
        @wraps(use_case)
        def run(context: Context, /, *words: Given.args, **named: Given.kwargs) -> Result:
            if named.get("dry_run") or any(getattr(word, "dry_run", False) for word in (*words, *named.values())):
                return use_case(context, *words, **named)
            data = about(*words, **named) if about is not None else {}
            with recorded(context, operation, vault=label(context) if of_vault else "", data=data) as this:
                result = use_case(this.context, *words, **named)
                ending = told(result)
                if ending is not None:
                    this.finish(ending.outcome, ending.message, **ending.data)
                return result

        return run

    return decorate


def note(context: Context, fact: Fact) -> None:
    """Keep ``fact`` in the record of the run that ``context`` is of, and show it to nobody."""
    if isinstance(context.emit, Keeping):
        context.emit.keep(fact)


def label(context: Context) -> str:
    """What the context's vault is called in records: its configured name, else its location without passwords.

    A path is a whole one: the same vault has one name wherever one stands, and another vault elsewhere another.
    """
    named = context.named
    if named is not None:
        return named.name
    from holdfast.storage.locations import is_path

    location = context.location
    return os.path.abspath(os.path.expanduser(location)) if is_path(location) else without_password(location)


def without_password(location: str) -> str:
    """A location without what may be a password in it."""
    scheme, mark, rest = location.partition("://")
    user, at, place = rest.rpartition("@")
    if mark and at and ":" in user:
        return f"{scheme}://{place}"
    return location


def _outbox(context: Context) -> Outbox:
    recorder = context.recorder
    if recorder.outbox is None:
        from holdfast.monitor.outbox import Outbox
        from holdfast.monitor.place import outbox_folder

        recorder.outbox = Outbox(
            outbox_folder(context.paths.state), clock=context.clock, random=context.random, on_trouble=context.warn
        )
    return recorder.outbox


def _end(context: Context, recording: Recording, ending: Ending) -> None:
    fact = recording.end(ending)
    if ending.outcome == "refused":
        return  # the last word on a plan or vault is what the last real run said
    context.recorder.outcomes.append(ending.outcome)
    # A plan's snapshot may have shrunk; a report is to be sent; what health found may be over.
    context.recorder.watched |= bool(recording.where["plan"]) or recording.where["operation"] in ("report", "health")
    from holdfast.app.status import leave_status

    leave_status(context, recording, fact)


def _of_error(error: BaseException, context: Context, said: Ending | None) -> Ending:
    data = dict(said.data) if said is not None else {}
    stopped = context.cancel.requested and not isinstance(error, NoSpace)
    if isinstance(error, (Cancelled, KeyboardInterrupt, GeneratorExit)) or stopped:
        reason = context.cancel.reason or str(error) or "cancelled"
        return Ending("cancelled", reason, {**data, "error": {"code": "cancelled", "message": reason, "hint": ""}})
    if isinstance(error, HoldfastError):
        found = {"code": error.code, "message": error.message, "hint": error.hint}
    elif isinstance(error, OSError):
        found = {"code": "error", "message": _of_system(error), "hint": ""}
    else:
        found = {"code": "internal", "message": f"unexpected error: {type(error).__name__}: {error}", "hint": ""}
    found = {name: masked(text) for name, text in found.items()}
    return Ending("failed", found["message"], {**data, "error": found})


def _is_mistake(context: Context, where: Mapping[str, str], ending: Ending) -> bool:
    """Whether what was asked for was wrong, and whoever asked reads that: somebody sits at the terminal, or it is work
    that no timer does. The same from a timer, or of a plan, protects nothing today, and has to be told."""
    if ending.data["error"]["code"] not in _MISTAKES or where["plan"]:
        return False
    from holdfast.monitor.observing import WATCHED

    return context.ask is not None or where["operation"] not in WATCHED


def masked(text: str) -> str:
    """``text`` without passwords and keys that got into it."""
    from holdfast.monitor.masking import mask  # its patterns cost a few milliseconds, where something went wrong only

    return mask(text)


def _masked(fact: Fact) -> Fact:
    return replace(fact, message=masked(fact.message))


def _of_system(error: OSError) -> str:
    where = f"{error.filename}: " if isinstance(error.filename, str) else ""
    return f"{where}{error.strerror or error}"


def _named(operation: str, plan: str, vault: str) -> str:
    of = f" of {plan}" if plan else ""
    there = f", vault {vault}" if vault else ""
    return f"{operation}{of}{there}"
