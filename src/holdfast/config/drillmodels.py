"""What ``holdfast.yaml`` may say of a plan's drills."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from holdfast.config.fields import Command, Duration, Name, SampleText, Schedule, Section, ServerUrl, Text


def _several(value: object) -> object:
    return (value,) if isinstance(value, str) else value


def _command(value: object) -> object:
    return {"run": value} if isinstance(value, (str, list, tuple)) else value


class DrillCommand(Section):
    """A command that runs in the restored tree, and has to succeed."""

    run: Command = Field(description="A text for /bin/sh, or a list of words that runs without a shell.")
    name: Text | None = Field(None, description="What the report calls it. [the program]")
    timeout: Duration = Field("10m", description="It is ended after this time, and has failed.")


Queries = Annotated[tuple[Text, ...], BeforeValidator(_several, json_schema_input_type=str | list[str])]
CommandForm = Annotated[DrillCommand, BeforeValidator(_command, json_schema_input_type=str | list[str] | DrillCommand)]


class Drill(Section):
    """When a restore of the plan is proven, and how."""

    schedule: Schedule | None = Field(None, description="When, as for cron.")
    vault: Name | None = Field(None, description="The vault to restore from. [the first of the plan]")
    snapshot: Literal["latest", "random"] = Field("latest", description="Which of the plan's snapshots.")
    sample: SampleText | None = Field(None, description="Restore only so much of the files: 5%, or 20G. [all]")
    scratch: Text | None = Field(None, description="The folder to restore in. [in the cache folder]")
    databases: bool = Field(True, description="Load dumps and open SQLite files.")
    postgres: ServerUrl | None = Field(None, description="Load into this server. [one that is started for it]")
    mariadb: ServerUrl | None = Field(None, description="Load into this server. [one that is started for it]")
    queries: dict[Text, Queries] = Field(
        default_factory=dict, description="Database -> queries that have to give a true value."
    )
    commands: tuple[CommandForm, ...] = Field((), description="Commands that have to succeed in the restored tree.")
