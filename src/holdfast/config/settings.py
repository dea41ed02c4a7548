"""The configuration as the rest of Holdfast uses it: vaults and plans by name, with whole paths."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from holdfast.config import words
from holdfast.config.flaws import did_you_mean
from holdfast.config.load import Loaded
from holdfast.config.secrets import PasswordChoice
from holdfast.kernel.errors import Invalid, NotFound
from holdfast.kernel.values import dataclass
from holdfast.vaults.retention import Policy, Span

if TYPE_CHECKING:
    from holdfast.config.drillmodels import Drill
    from holdfast.config.fields import Command
    from holdfast.config.models import Hook, Keep, PlanSettings, Server, VaultSettings
    from holdfast.config.notifymodels import Expect
    from holdfast.vaults.drill.model import Sample

PLAN_TAG = "plan:"
_SPANS = ("within", "within_hourly", "within_daily", "within_weekly", "within_monthly", "within_yearly")
_COUNTS = ("last", "hourly", "daily", "weekly", "monthly", "yearly")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:")


@dataclass(frozen=True, slots=True)
class NamedVault:
    """A configured vault. ``upload`` and ``download`` are bytes a second, ``retry_for`` seconds; None: as usual."""

    name: str
    kind: str
    location: str
    password: PasswordChoice
    protect: bool = False
    upload: int | None = None
    download: int | None = None
    connections: int | None = None
    retry_for: float | None = None


@dataclass(frozen=True, slots=True)
class HookCommand:
    """A command around a backup: ``run`` is a text for the shell or a tuple of words, ``timeout`` is in seconds."""

    run: Command
    timeout: float
    optional: bool


@dataclass(frozen=True, slots=True)
class CopyTarget:
    """A vault, by name, that gets copies of a plan's snapshots, what it keeps of them (empty: all), and when, as for
    cron (empty: when somebody says so)."""

    to: str
    keep: Policy
    schedule: str = ""


@dataclass(frozen=True, slots=True)
class PlannedTimes:
    """When a plan's work is due, as for cron; empty: when somebody says so. ``read_data`` is how much a check reads."""

    backup: str = ""
    check: str = ""
    read_data: str = ""
    drill: str = ""


@dataclass(frozen=True, slots=True)
class Expected:
    """What is an alarm if it does not come true: a snapshot every so many seconds, and none that is smaller than usual
    by so many per cent; 0: it is not expected."""

    every: float = 0.0
    shrink: float = 0.0


@dataclass(frozen=True, slots=True)
class CommandInTree:
    """A command that a drill runs in the restored tree; ``timeout`` is in seconds."""

    name: str
    run: Command
    timeout: float


@dataclass(frozen=True, slots=True)
class NamedDrill:
    """How the restore of a plan is proven; see ``config.drillmodels.Drill``. Empty texts mean: not said."""

    vault: str = ""
    snapshot: str = "latest"
    sample: Sample | None = None
    scratch: str = ""
    databases: bool = True
    postgres: str = ""
    mariadb: str = ""
    queries: tuple[tuple[str, tuple[str, ...]], ...] = ()
    commands: tuple[CommandInTree, ...] = ()


@dataclass(frozen=True, slots=True)
class NamedPlan:
    """A configured plan; see ``config.models.PlanSettings``. ``to`` are names of vaults; an empty one means the default
    vault where none is configured. ``keep`` is an empty policy where everything stays. ``postgres``, ``mariadb``,
    ``redis`` and ``commands`` are as ``app.databases.make_sources`` takes them; ``dump_timeout``: seconds."""

    name: str
    paths: tuple[bytes, ...]
    optional: tuple[bytes, ...]
    exclude: tuple[str, ...]
    exclude_files: tuple[str, ...]
    larger_than: int | None
    default_excludes: bool
    one_file_system: bool
    sqlite: bool
    postgres: tuple[str, ...]
    mariadb: tuple[str, ...]
    redis: tuple[str, ...]
    commands: tuple[str, ...]
    dump_timeout: float | None
    to: tuple[str, ...]
    tags: tuple[str, ...]
    host: str
    note: str
    keep: Policy
    copies: tuple[CopyTarget, ...]
    before: tuple[HookCommand, ...]
    after: tuple[HookCommand, ...]
    on_failure: tuple[HookCommand, ...]
    times: PlannedTimes = PlannedTimes()
    expect: Expected = Expected()
    drill: NamedDrill = NamedDrill()

    @property
    def mark(self) -> str:
        """The tag by which the plan knows its own snapshots."""
        return PLAN_TAG + self.name


class Settings:
    """A loaded configuration. Relative paths count from the folder of its file, ``~`` is the user's home folder."""

    def __init__(self, loaded: Loaded) -> None:
        self.loaded = loaded
        self.path = loaded.path
        self._folder = os.path.dirname(os.path.abspath(loaded.path))

    @property
    def vault_names(self) -> list[str]:
        """The names of all vaults, in the order of the file."""
        return list(self.loaded.configuration.vaults)

    @property
    def plan_names(self) -> list[str]:
        """The names of all plans, in the order of the file."""
        return list(self.loaded.configuration.plans)

    @property
    def journal(self) -> str:
        """The journal's URL; empty where the one in the state folder is meant."""
        said = self.loaded.configuration.journal or ""
        return said if not said or "://" in said else f"sqlite:///{self._whole(said)}"

    def vault(self, name: str) -> NamedVault | None:
        """The vault of that name, if there is one."""
        found = self.loaded.configuration.vaults.get(name)
        return None if found is None else self._vault(name, found)

    def default_vault(self) -> NamedVault | None:
        """The vault that is meant where none is named: the one that says so, else the only one; None without any.

        Raises ``Invalid`` where there are several and none of them says so.
        """
        vaults = self.loaded.configuration.vaults
        chosen = [name for name, vault in vaults.items() if vault.default] or list(vaults)
        if len(chosen) > 1:
            raise Invalid(
                f"which vault? {self.path} has {', '.join(chosen)}",
                hint="Name one with --vault, or write 'default: true' in one of them.",
            )
        return self.vault(chosen[0]) if chosen else None

    def plan(self, name: str) -> NamedPlan:
        """The plan of that name. Raises ``NotFound``."""
        plans = self.loaded.configuration.plans
        if name not in plans:
            raise NotFound(
                f"there is no plan named {name!r} in {self.path}",
                hint=did_you_mean(name, plans) if plans else "The file has no plans yet.",
            )
        return self._plan(name, plans[name])

    def _vault(self, name: str, found: VaultSettings) -> NamedVault:
        file = None if found.password_file is None else self._whole(found.password_file)
        location = found.location
        if _SCHEME.match(location) is None:
            location = self._whole(location)
        return NamedVault(
            name,
            found.kind,
            location,
            PasswordChoice(file, found.password_command, found.password_env),
            found.protect,
            None if found.limit_upload is None else words.size(found.limit_upload),
            None if found.limit_download is None else words.size(found.limit_download),
            found.connections,
            None if found.retry_for is None else words.seconds(found.retry_for),
        )

    def _plan(self, name: str, found: PlanSettings) -> NamedPlan:
        default = None if found.to else self.default_vault()
        hooks = found.hooks
        return NamedPlan(
            name,
            paths=tuple(os.fsencode(self._whole(path)) for path in found.paths),
            optional=tuple(os.fsencode(self._whole(path)) for path in found.optional),
            exclude=found.exclude,
            exclude_files=tuple(self._whole(path) for path in found.exclude_files),
            larger_than=None if found.exclude_larger_than is None else words.size(found.exclude_larger_than),
            default_excludes=found.default_excludes,
            one_file_system=found.one_file_system,
            sqlite=not any(database.sqlite == "off" for database in found.databases),
            postgres=_servers(database.postgres for database in found.databases),
            mariadb=_servers(database.mariadb for database in found.databases),
            redis=_servers(database.redis for database in found.databases),
            commands=tuple(
                f"{program.name}={program.run}"
                for program in (database.command for database in found.databases)
                if program is not None
            ),
            dump_timeout=None if found.dump_timeout is None else words.seconds(found.dump_timeout),
            to=found.to or (("",) if default is None else (default.name,)),
            tags=found.tags,
            host=found.host or "",
            note=found.note or "",
            keep=_policy(found.keep),
            copies=tuple(CopyTarget(copy.to, _policy(copy.keep), copy.schedule or "") for copy in found.copies),
            before=tuple(map(_hook, hooks.before)) if hooks else (),
            after=tuple(map(_hook, hooks.after)) if hooks else (),
            on_failure=tuple(map(_hook, hooks.on_failure)) if hooks else (),
            expect=_expected(found.expect),
            times=PlannedTimes(
                found.schedule or "",
                (found.check and found.check.schedule) or "",
                (found.check and found.check.read_data) or "",
                (found.drill and found.drill.schedule) or "",
            ),
            drill=NamedDrill() if found.drill is None else self._drill(found.drill),
        )

    def _drill(self, found: Drill) -> NamedDrill:
        return NamedDrill(
            vault=found.vault or "",
            snapshot=found.snapshot,
            sample=None if found.sample is None else words.sample(found.sample),
            scratch="" if found.scratch is None else self._whole(found.scratch),
            databases=found.databases,
            postgres=found.postgres or "",
            mariadb=found.mariadb or "",
            queries=tuple(found.queries.items()),
            commands=tuple(
                CommandInTree(command.name or _program(command.run), command.run, words.seconds(command.timeout))
                for command in found.commands
            ),
        )

    def place(self, path: str) -> str:
        """A path that the file names, as an absolute one."""
        return self._whole(path)

    def _whole(self, path: str) -> str:
        return os.path.normpath(os.path.join(self._folder, os.path.expanduser(path)))


def _servers(found: Iterable[Server | None]) -> tuple[str, ...]:
    servers = (server for server in found if server is not None)
    return tuple(f"{server.name}={server.url}" if server.name else server.url for server in servers)


def _policy(keep: Keep | None) -> Policy:
    if keep is None:
        return Policy()
    fields: dict[str, Any] = {name: getattr(keep, name) for name in _COUNTS}
    for name in _SPANS:
        text = getattr(keep, name)
        fields[name] = words.span(text) if text else Span()
    return Policy(**fields, tags=keep.tags)


def _expected(found: Expect | None) -> Expected:
    if found is None:
        return Expected()
    return Expected(
        words.seconds(found.every) if found.every else 0.0, words.share(found.shrink) if found.shrink else 0.0
    )


def _program(run: Command) -> str:
    """What a command is called: only the program, since what follows may hold a secret."""
    first = re.match(r"[\w./+-]+(?![\w=])", run.strip() if isinstance(run, str) else run[0])
    return os.path.basename(first[0]) if first else "command"


def _hook(hook: Hook) -> HookCommand:
    return HookCommand(hook.run, words.seconds(hook.timeout), hook.optional)
