"""What ``holdfast.yaml`` may say about health checks."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field

from holdfast.config import words
from holdfast.config.fields import Command, Duration, Name, Section, Text


def _room(text: str) -> str:
    if text.endswith("%"):
        words.share(text)
    else:
        words.size(text)
    return text


def _own(value: object) -> object:
    return {"run": value} if isinstance(value, (str, list, tuple)) else value


def _check_name(text: str) -> str:
    if re.fullmatch(r"[a-z]+(:.+)?", text) is None:
        raise ValueError("the name of a check is wanted, such as tracker or forecast:cloud")
    return text


Room = Annotated[str, AfterValidator(_room), Field(json_schema_extra={"pattern": f"^({words.SHARE}|{words.SIZE})$"})]


class OwnCheck(Section):
    """A command of one's own that says whether something is well."""

    run: Command = Field(description="A text for /bin/sh, or a list of words. Exit code 0: all is well.")
    timeout: Duration = Field("30s", description="It is ended after this time, and has failed.")
    optional: bool = Field(False, description="Its failure is only a warning.")


OwnForm = Annotated[OwnCheck, BeforeValidator(_own, json_schema_input_type=str | list[str] | OwnCheck)]


class Health(Section):
    """What 'holdfast health' looks at, and what it takes for well."""

    days: int = Field(7, ge=1, le=366, description="Of plans that save daily: a snapshot in each of the last N days.")
    free: Room = Field("10%", description="Less free space than this is a warning, a fifth of it a failure.")
    forecast: Duration = Field("30d", description="A warning if a vault will be full within this time.")
    limit: Duration = Field("30s", description="How long each check may take.")
    git: bool = Field(False, description="Also look whether the git work trees among the paths are clean.")
    skip: tuple[Annotated[Text, AfterValidator(_check_name)], ...] = Field(
        (), description="Checks that are not made, by name."
    )
    own: dict[Name, OwnForm] = Field(default_factory=dict, description="Name -> a command.")
