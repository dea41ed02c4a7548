"""Use cases: what this machine starts by itself, and letting cron, systemd or launchd start it."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from holdfast.app.context import Context, hostname
from holdfast.files.whole import cannot_write, replace_file
from holdfast.jobs.schedule import LocalZone, delay, fires, next_fire
from holdfast.jobs.timers.base import Owner, Starter, Timer
from holdfast.kernel.errors import HoldfastError, Invalid, NotFound, Unavailable
from holdfast.kernel.values import dataclass

if TYPE_CHECKING:
    from holdfast.config.settings import NamedPlan, Settings

CATCH_UP = "catch-up"
CATCH_UP_TIMES = "47 * * * *"
_CARRIED = ("PATH", *(f"{begin}_{what}_{end}" for begin, end in (("HOLDFAST", "DIR"), ("XDG", "HOME")) for what in
            ("CONFIG", "DATA", "CACHE", "STATE")))  # fmt: skip
"""What of the environment counts later too: where programs and Holdfast's own folders are."""
_CHECK_SECONDS = 60


@dataclass(frozen=True, slots=True)
class Work:
    """Something that has its times: its ``commands`` (arguments of ``holdfast``) run one after the other."""

    name: str
    about: str
    schedule: str
    commands: tuple[tuple[str, ...], ...]
    plan: str = ""
    jitter: int = 0


@dataclass(frozen=True, slots=True)
class Installed:
    """What is known of what was installed: by whom it is started, since when (ns), and the environment it carries."""

    starter: str
    at_ns: int
    environ: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Change:
    """What an installation did, or would do: place -> text before and after. ``remarks`` are sentences for a person."""

    starter: str
    before: Mapping[str, str]
    after: Mapping[str, str]
    remarks: tuple[str, ...] = ()

    @property
    def is_none(self) -> bool:
        """Whether everything is there already."""
        return dict(self.before) == dict(self.after)


def works(settings: Settings) -> tuple[Work, ...]:
    """Everything that the configuration gives times to, in the order of the file; plans first."""
    schedules = settings.loaded.configuration.schedules
    from holdfast.config.words import seconds

    jitter = int(seconds(schedules.jitter))
    plans = [settings.plan(name) for name in settings.plan_names]
    found = [work for plan in plans for work in _of_plan(plan, jitter)]
    pruned = dict.fromkeys(vault for plan in plans if plan.times.backup and not plan.keep.is_empty for vault in plan.to)
    for name in pruned:
        vault = settings.vault(name)
        if vault is not None and vault.kind == "archive" and schedules.prune != "off":
            found.append(
                Work(f"prune:{name}", f"prune {name}", schedules.prune, (("prune", "--vault", name),), jitter=jitter)
            )
    for name, about, when, command in (
        ("health", "look at the health of everything", schedules.health, ("health", "--quiet")),
        ("report", "make and send the daily report", schedules.report, ("report", "--send", "--quiet")),
        ("notices", "tell what is overdue", schedules.notices, ("notify", "send", "--quiet")),
    ):
        if when != "off":
            found.append(Work(name, about, when, (command,)))
    return tuple(found)


def _of_plan(plan: NamedPlan, jitter: int) -> Iterator[Work]:
    name, times = plan.name, plan.times
    if times.backup:
        yield Work(f"backup:{name}", f"back up {name}", times.backup, (("backup", "--plan", name),), name, jitter)
    for copy in plan.copies:
        if copy.schedule:
            command = ("copy", "--plan", name, "--to", copy.to)
            yield Work(f"copy:{name}:{copy.to}", f"copy {name} to {copy.to}", copy.schedule, (command,), name, jitter)
    if times.check:
        read = (f"--read-data={times.read_data}",) if times.read_data else ()
        commands = tuple(("check", *(("--vault", vault) if vault else ()), *read) for vault in plan.to)
        yield Work(f"check:{name}", f"check the vaults of {name}", times.check, commands, name, jitter)
    if times.drill:
        yield Work(f"drill:{name}", f"prove that {name} comes back", times.drill, (("drill", name),), name, jitter)


def zone(context: Context) -> LocalZone:
    """This machine's local time."""
    return LocalZone(context.clock.utc_offset)


def next_run(context: Context, plan: NamedPlan) -> int | None:
    """When (ns) the plan's backup is due next by its schedule; None without one."""
    schedule = plan.times.backup
    return next_fire(schedule, context.clock.now_ns(), zone(context)) if schedule else None


def upcoming(context: Context, count: int) -> list[tuple[int, Work]]:
    """The next ``count`` starts of everything: (instant in ns, what), in order."""
    import heapq

    now, here = context.clock.now_ns(), zone(context)
    every = works(context.required())

    def of(place: int, work: Work) -> Iterator[tuple[int, int]]:
        return ((instant, place) for instant in fires(work.schedule, now, here))

    merged = heapq.merge(*(of(place, work) for place, work in enumerate(every)))
    return [(instant, every[place]) for (instant, place), _ in zip(merged, range(count), strict=False)]


def install(context: Context, backend: str = "", *, dry_run: bool = False) -> Change:
    """Let this machine start what the configuration says. What was installed before for the same file is replaced.

    Nothing else in the crontab, and no other unit, changes. Raises ``Invalid`` where there is nothing to start or a
    vault's password would be missing then, ``Unsupported`` for a schedule that the starter cannot express,
    ``Unavailable`` where it does not run or does not take what it was given: then everything is as it was before.
    """
    settings = context.required()
    every = works(settings)
    if not any(work.plan for work in every):
        raise Invalid(
            f"no plan in {settings.path} has a schedule", hint="Write, for example, schedule: '10 2 * * *' into a plan."
        )
    remarks = list(_passwords(context, settings, every))
    starter = _starter(context, backend or settings.loaded.configuration.schedules.backend)
    try:
        starter.refuse()
    except HoldfastError as error:
        if not dry_run:
            raise
        remarks.append(f"It would be refused: {error.message}.")
    environ = _carried(context.environ)
    owner, timers = _timers(settings, every, environ, with_delay=starter.name == "cron")
    texts = starter.texts(owner, timers)
    if dry_run:
        return Change(starter.name, _installed_by(starter, owner), texts, tuple(remarks))
    change = Change(starter.name, starter.installed(owner), texts, (*remarks, *starter.remarks()))
    _try_command(owner, environ)
    for other in _starters(context):
        if other.name != starter.name and _installed_by(other, owner):
            other.uninstall(owner)
    before = installed(context)
    since = before.at_ns if before is not None and change.is_none else context.clock.now_ns()
    _remember(context, settings, Installed(starter.name, since, environ))
    try:
        if not change.is_none:
            starter.install(owner, timers)
    except BaseException:
        if before is None:
            _record(context, settings).unlink()
        else:
            _remember(context, settings, before)
        raise
    return change


def uninstall(context: Context, *, dry_run: bool = False) -> list[Change]:
    """Take away what :func:`install` brought for this configuration, wherever it is. Returns what was there."""
    owner = _owner(context.required(), ())
    gone = []
    for starter in _starters(context):
        found = _installed_by(starter, owner)
        if found:
            gone.append(Change(starter.name, found, {}))
            if not dry_run:
                starter.uninstall(owner)
    if not dry_run:
        with suppress(FileNotFoundError):
            _record(context, context.required()).unlink()
    return gone


def installed(context: Context) -> Installed | None:
    """What is known of the installation; None where nothing was installed for this configuration."""
    try:
        value: dict[str, Any] = json.loads(_record(context, context.required()).read_bytes())
        return Installed(str(value["starter"]), int(value["at_ns"]), tuple(sorted(value["environ"].items())))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None  # damaged: as if it were not known; installing again writes it anew


def drift(context: Context) -> str | None:
    """Why what is installed does not do what the configuration says; "" where it does; None where nothing is installed.

    It is compared with the environment that was carried when it was installed, not with the one of whoever asks.
    """
    settings, known = context.required(), installed(context)
    if known is None:
        return None
    starter = _starter(context, known.starter)
    owner, timers = _timers(settings, works(settings), known.environ, with_delay=starter.name == "cron")
    try:
        wanted, there = dict(starter.texts(owner, timers)), dict(starter.installed(owner))
        if there and wanted == there:
            starter.refuse()
            return ""
    except HoldfastError as error:
        return error.message
    if not there:
        return f"what was installed for {starter.name} is gone"
    places = [os.path.basename(place) for place in (*wanted, *there) if wanted.get(place) != there.get(place)]
    return f"what is installed for {starter.name} is not what the configuration says now ({places[0]})"


def state_folder(context: Context) -> Path:
    """Where stamps, locks and records of schedules are; one folder for each configuration."""
    return context.paths.state / "schedule" / _mark(context.required().path)


def _timers(
    settings: Settings, every: tuple[Work, ...], environ: tuple[tuple[str, str], ...], *, with_delay: bool
) -> tuple[Owner, tuple[Timer, ...]]:
    begin = _begin(settings)
    timers = []
    for work in every:
        words = (*begin, "schedule", "fire", work.name)
        jitter = work.jitter
        if with_delay and jitter:
            words, jitter = (*words, "--wait", f"{delay(work.name, hostname(), jitter)}s"), 0
        timers.append(Timer(work.name, work.about, words, environ, work.schedule, jitter))
    return _owner(settings, environ), tuple(timers)


def _owner(settings: Settings, environ: tuple[tuple[str, str], ...]) -> Owner:
    words = (*_begin(settings), "schedule", CATCH_UP)
    return Owner(
        _mark(settings.path),
        str(settings.path),
        Timer(CATCH_UP, "start what was missed", words, environ, CATCH_UP_TIMES),
    )


def _begin(settings: Settings) -> tuple[str, ...]:
    # -P: a folder named holdfast in the working folder is not taken for the program.
    return (os.path.abspath(sys.executable), "-P", "-m", "holdfast", "--config", os.path.abspath(settings.path))


def _mark(path: Path) -> str:
    return hashlib.sha256(os.fsencode(os.path.abspath(path))).hexdigest()[:8]


def _carried(environ: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    return tuple(sorted((name, environ[name]) for name in _CARRIED if environ.get(name)))


def _record(context: Context, settings: Settings) -> Path:
    return context.paths.state / "schedule" / _mark(settings.path) / "installed.json"


def _remember(context: Context, settings: Settings, known: Installed) -> None:
    path = _record(context, settings)
    value = {"starter": known.starter, "at_ns": known.at_ns, "environ": dict(known.environ)}
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        replace_file(path, json.dumps(value, indent=1).encode(), 0o600)
    except OSError as error:
        raise cannot_write(path, error) from error


def _passwords(context: Context, settings: Settings, every: tuple[Work, ...]) -> Iterator[str]:
    """Remarks about plans without a schedule. Raises ``Invalid`` for a password that a timer would not have."""
    used: dict[str, None] = {}
    for name in settings.plan_names:
        plan = settings.plan(name)
        if not any(work.plan == name for work in every):
            yield f"The plan {name} has no schedule: nothing starts it."
            continue
        used.update(dict.fromkeys(vault for vault in (*plan.to, *(copy.to for copy in plan.copies)) if vault))
    for name in used:
        vault = settings.vault(name)
        if vault is None or vault.kind != "archive":
            continue
        here = os.path.abspath(vault.location) == str(context.paths.default_vault)
        if vault.password.variable is not None or not (vault.password or (here and context.paths.default_key.exists())):
            said = f"${vault.password.variable}" if vault.password.variable else "whoever sits at the terminal"
            raise Invalid(
                f"the vault {name} takes its password from {said}, and a timer has neither",
                hint="Give it a password_file or a password_command in the configuration.",
            )


def _try_command(owner: Owner, environ: tuple[tuple[str, str], ...]) -> None:
    """Run the program as a timer would, in a bare environment, up to reading its configuration."""
    kept = {name: os.environ[name] for name in ("HOME", "USER", "LOGNAME") if name in os.environ}
    words = (*owner.catch_up.words[: owner.catch_up.words.index("schedule")], "config", "check", "--quiet")
    try:
        done = subprocess.run(
            words,
            env={"PATH": "/usr/bin:/bin", **kept, **dict(environ)},
            cwd="/",
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_CHECK_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unavailable(f"{words[0]} does not run as a timer would run it: {error}") from error
    if done.returncode != 0:
        why = " ".join(done.stderr.decode(errors="replace").split())[:400]
        raise Invalid(
            f"in the bare environment of a timer the configuration cannot be used: {why}",
            hint="A ${VARIABLE} in it has no value there; write the value itself, or use a file.",
        )


def _starters(context: Context) -> list[Starter]:
    from holdfast.jobs.timers.cron import Cron
    from holdfast.jobs.timers.launchd import Launchd
    from holdfast.jobs.timers.systemd import SYSTEM_FOLDER, Systemd

    home = Path(context.environ.get("HOME") or os.path.expanduser("~"))
    own = context.environ.get("XDG_CONFIG_HOME", "")
    units = (Path(own) if own.startswith("/") else home / ".config") / "systemd" / "user"
    return [
        Cron(context.paths.state / "schedule" / "crontab.before"),
        Systemd(units, system=False),
        Systemd(SYSTEM_FOLDER, system=True),
        Launchd(home / "Library" / "LaunchAgents"),
    ]


def _starter(context: Context, name: str) -> Starter:
    every = {starter.name: starter for starter in _starters(context)}
    if name in every:
        return every[name]
    if name != "auto":
        raise NotFound(f"there is nothing named {name!r} that starts timers", hint=f"Take one of {', '.join(every)}.")
    if sys.platform == "darwin":
        return every["launchd"]
    try:
        every["systemd"].refuse()
    except HoldfastError:
        return every["cron"]
    return every["systemd"]


def _installed_by(starter: Starter, owner: Owner) -> Mapping[str, str]:
    """What is there of ours; nothing where the starter does not exist on this machine."""
    try:
        return starter.installed(owner)
    except HoldfastError:
        return {}
