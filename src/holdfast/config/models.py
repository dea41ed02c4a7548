"""What ``holdfast.yaml`` may say: every key with its type and its meaning. Importing this costs pydantic (55 ms)."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from holdfast.config.drillmodels import Drill
from holdfast.config.fields import (
    Command,
    Count,
    Duration,
    Name,
    Pattern,
    ReadData,
    Schedule,
    Section,
    ServerUrl,
    Size,
    SpanText,
    Tag,
    Text,
    Variable,
    without_password,
)
from holdfast.config.fields import nothing as _nothing
from holdfast.config.healthmodels import Health
from holdfast.config.notifymodels import Expect, Notify
from holdfast.config.outputmodels import Logs, Metrics, Sentry


def _hook(value: object) -> object:
    return {"run": value} if isinstance(value, (str, list, tuple)) else value


class VaultSettings(Section):
    """A place where versions are kept."""

    kind: Literal["archive", "mirror", "versioned"] = Field(
        "archive", description="archive: deduplicated, compressed, encrypted. mirror and versioned: plain files."
    )
    location: Text = Field(
        description="A path (from this file's folder, unless it is absolute), or sftp:, rest:, s3:, gs:, azure:."
    )
    password_file: Text | None = Field(None, description="A file that holds the vault's password or generated key.")
    password_command: Text | None = Field(None, description="A command that prints the password; no shell runs it.")
    password_env: Variable | None = Field(
        None, description="The name of an environment variable that holds the password."
    )
    default: bool = Field(False, description="Whether this vault is meant where none is named.")
    protect: bool = Field(False, description="A mirror only: the finished tree is made read-only.")
    limit_upload: Size | None = Field(None, description="Most bytes a second to a remote vault, such as 2M.")
    limit_download: Size | None = Field(None, description="Most bytes a second from a remote vault.")
    connections: int | None = Field(None, ge=1, le=64, description="Most calls at once to a remote vault.")
    retry_for: Duration | None = Field(None, description="How long to try again when it is out of reach. [15m]")


class Keep(Section):
    """Which snapshots of a plan stay; the others are forgotten after each backup."""

    last: Count = Field(0, description="The newest so many.")
    hourly: Count = Field(0, description="The newest of each of the last so many hours that have any.")
    daily: Count = Field(0, description="The newest of each of the last so many days.")
    weekly: Count = Field(0, description="The newest of each of the last so many weeks.")
    monthly: Count = Field(0, description="The newest of each of the last so many months.")
    yearly: Count = Field(0, description="The newest of each of the last so many years.")
    within: SpanText | None = Field(None, description="All that are newer than this before the newest, such as 14d.")
    within_hourly: SpanText | None = Field(None, description="One an hour in this span before the newest.")
    within_daily: SpanText | None = Field(None, description="One a day in this span before the newest.")
    within_weekly: SpanText | None = Field(None, description="One a week in this span before the newest.")
    within_monthly: SpanText | None = Field(None, description="One a month in this span before the newest.")
    within_yearly: SpanText | None = Field(None, description="One a year in this span before the newest.")
    tags: tuple[tuple[str, ...], ...] = Field((), description="What has all the tags of one of these lists.")


class Copy(Section):
    """A second vault that gets the plan's snapshots from the first of its vaults."""

    to: Name = Field(description="The name of the vault to copy into.")
    schedule: Schedule | None = Field(None, description="When, as for cron.")
    keep: Keep | None = Field(None, description="Which snapshots the second vault keeps. [all]")


class Check(Section):
    """When the plan's vaults are looked at for damage, and how closely."""

    schedule: Schedule | None = Field(None, description="When, as for cron.")
    read_data: ReadData | None = Field(None, description="How much of the data is read: all, 5% or 3/10. [none]")


class Hook(Section):
    """A command around a plan's backup."""

    run: Command = Field(description="A text for /bin/sh, or a list of words that runs without a shell.")
    timeout: Duration = Field("10m", description="It is ended after this time, and has failed.")
    optional: bool = Field(False, description="Its failure is only a warning.")


HookForm = Annotated[Hook, BeforeValidator(_hook, json_schema_input_type=str | list[str] | Hook)]


class Hooks(Section):
    """Commands before and after a plan's backup. They see HOLDFAST_PLAN, and the later ones HOLDFAST_OUTCOME."""

    before: tuple[HookForm, ...] = Field((), description="Run before; if one fails, nothing is backed up.")
    after: tuple[HookForm, ...] = Field((), description="Run afterwards, whatever came of the backup.")
    on_failure: tuple[HookForm, ...] = Field((), description="Run afterwards if the run failed.")


class Server(Section):
    """A database server, or one database on it."""

    url: ServerUrl = Field(description="Such as postgresql://localhost/app.")
    name: Name | None = Field(None, description="What the dump is called. [the database]")


class Program(Section):
    """A program whose output is saved."""

    name: Name = Field(description="What the output is called.")
    run: Text = Field(description="The command, without a shell.")


class Database(Section):
    """One database, or one kind of them."""

    sqlite: Literal["auto", "off"] | None = Field(
        None, description="Files among the paths: copied consistently. [auto]"
    )
    postgres: Server | None = Field(None, description="PostgreSQL: one database, or all of the server.")
    mariadb: Server | None = Field(None, description="MariaDB or MySQL: one database, or all of the server.")
    redis: Server | None = Field(None, description="Redis or Valkey: all databases of the server.")
    command: Program | None = Field(None, description="Any program's output.")

    @model_validator(mode="after")
    def _one_each(self) -> Self:
        kinds = (self.sqlite, self.postgres, self.mariadb, self.redis, self.command)
        if sum(kind is not None for kind in kinds) != 1:
            raise ValueError("one of sqlite, postgres, mariadb, redis and command is wanted in each item")
        return self


class PlanSettings(Section):
    """What to protect, where, how often, how long, and how to prove it."""

    paths: tuple[Text, ...] = Field((), description="Files and folders; from this file's folder unless absolute or ~.")
    optional: tuple[Text, ...] = Field((), description="The same, but missing ones are only a warning.")
    exclude: tuple[Pattern, ...] = Field((), description="What to leave out, as in .gitignore.")
    exclude_files: tuple[Text, ...] = Field((), description="Files of such lines.")
    exclude_larger_than: Size | None = Field(None, description="Leave out files larger than this, such as 10M.")
    default_excludes: bool = Field(True, description="Leave out caches, byte code, node_modules, trash and the like.")
    one_file_system: bool = Field(False, description="Stay on the file systems of the paths.")
    databases: tuple[Database, ...] = Field((), description="Databases and programs whose output is saved too.")
    dump_timeout: Duration | None = Field(None, description="The longest that any dump may take, such as 30m.")
    to: tuple[Name, ...] = Field((), description="The names of the vaults to save into. [the default vault]")
    tags: tuple[Tag, ...] = Field((), description="Marks for the snapshots, besides plan:NAME.")
    host: Text | None = Field(None, description="The host name to record. [this machine's]")
    note: Text | None = Field(None, description="A note to record, unless --note gives another.")
    schedule: Schedule | None = Field(None, description="When to back up, as for cron: '10 2 * * *', @daily.")
    keep: Keep | None = Field(None, description="Which of the plan's snapshots stay. [all]")
    copies: tuple[Copy, ...] = Field((), alias="copy", description="Further vaults that get copies.")
    check: Check | None = Field(None, description="Looking for damage.")
    drill: Drill | None = Field(None, description="Proving the restore.")
    expect: Expect | None = Field(None, description="What is an alarm if it does not come true.")
    hooks: Hooks | None = Field(None, description="Commands around the backup.")


ScheduleOrOff = Literal["off"] | Schedule


class Schedules(Section):
    """How 'holdfast schedule install' lets this machine start what the plans say, and what looks after them."""

    backend: Literal["auto", "cron", "systemd", "systemd-system", "launchd"] = Field(
        "auto", description="What starts it. [auto: launchd on macOS, systemd where it runs for the user, else cron]"
    )
    jitter: Duration = Field("10m", description="Backups, checks, drills and copies start up to so much later.")
    health: ScheduleOrOff = Field("0 */6 * * *", description="When 'holdfast health' looks at everything, or off.")
    report: ScheduleOrOff = Field("0 7 * * *", description="When the daily report is made and sent, or off.")
    notices: ScheduleOrOff = Field("*/15 * * * *", description="When what is overdue is told and sent again, or off.")
    prune: ScheduleOrOff = Field("30 5 * * 0", description="When archives whose plans forget are pruned, or off.")


def _journal(text: str) -> str:
    scheme, mark, _ = without_password(text).partition("://")
    if mark and scheme not in ("sqlite", "postgresql"):
        raise ValueError("a path is wanted, or a URL: sqlite:////path or postgresql://host/database")
    return text


class Configuration(Section):
    """holdfast.yaml: vaults, plans, and who is told."""

    vaults: Annotated[dict[Name, VaultSettings], BeforeValidator(_nothing)] = Field(
        default_factory=dict, description="Places where versions are kept, by name."
    )
    plans: Annotated[dict[Name, PlanSettings], BeforeValidator(_nothing)] = Field(
        default_factory=dict, description="What is protected, by name."
    )
    notify: Annotated[Notify, BeforeValidator(_nothing)] = Field(
        default_factory=lambda: Notify.model_validate({}), description="How people are told."
    )
    health: Annotated[Health, BeforeValidator(_nothing)] = Field(
        default_factory=lambda: Health.model_validate({}), description="What 'holdfast health' looks at."
    )
    logs: Annotated[Logs, BeforeValidator(_nothing)] = Field(
        default_factory=lambda: Logs.model_validate({}), description="The files of the log."
    )
    metrics: Annotated[Metrics, BeforeValidator(_nothing)] = Field(
        default_factory=lambda: Metrics.model_validate({}), description="Metrics for Prometheus."
    )
    sentry: Sentry | None = Field(None, description="Where errors are reported to. [nowhere]")
    journal: Annotated[str, AfterValidator(_journal)] | None = Field(
        None, description="Where history is kept: a file, or postgresql://host/database. [the state folder]"
    )
    schedules: Annotated[Schedules, BeforeValidator(_nothing)] = Field(
        default_factory=lambda: Schedules.model_validate({}), description="What this machine starts by itself."
    )
