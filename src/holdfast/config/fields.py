"""The types that sections of ``holdfast.yaml`` are made of. Importing this costs pydantic (55 ms)."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PlainValidator

from holdfast.config import words
from holdfast.kernel.errors import Invalid


def _understood(check: Callable[[str], object]) -> AfterValidator:
    """The text stays as it is written, once ``check`` understands it."""

    def look(text: str) -> str:
        check(text)
        return text

    return AfterValidator(look)


def _pattern(pattern: str) -> Any:
    """What editors hold a text to; we ourselves say more about what is wrong with it."""
    return Field(json_schema_extra={"pattern": f"^({pattern})$"})


def _named(text: str) -> str:
    if not words.is_name(text):
        raise ValueError(
            "a name is made of letters, digits, '.', '_' and '-', at most 64, and begins with a letter or digit"
        )
    return text


def not_empty(text: str) -> str:
    """``text``, if it says anything."""
    if not text.strip() or "\0" in text:
        raise ValueError("it is empty")
    return text


def _tag(text: str) -> str:
    if not text.strip() or "," in text:
        raise ValueError("a tag is not empty and has no comma")
    if text.startswith(("plan:", "hold-until:")) or text == "hold":
        raise ValueError("this tag has a meaning for Holdfast itself; take another")
    return text


def _variable(text: str) -> str:
    if re.fullmatch(words.VARIABLE, text) is None:
        raise ValueError("the name of an environment variable is wanted, without $")
    return text


def _count(value: object) -> object:
    if isinstance(value, bool) or (isinstance(value, int) and value < 0):
        raise ValueError("a whole number is wanted, or unlimited")
    return -1 if value == "unlimited" else value


def without_password(text: str) -> str:
    """``text``, if it is no URL with a password in it."""
    from urllib.parse import urlsplit

    if urlsplit(not_empty(text)).password:
        raise ValueError("a password does not belong into a URL: put it into ~/.pgpass, ~/.my.cnf or the environment")
    return text


def _command(value: object) -> str | tuple[str, ...]:
    if isinstance(value, str) and value.strip():
        return value
    if isinstance(value, (list, tuple)) and value and all(isinstance(word, str) for word in value) and value[0]:
        return tuple(value)
    raise ValueError("a command is wanted: a text for the shell, or a list of words such as [systemctl, stop, app]")


def _line(text: str) -> None:
    """Raise ``ValueError`` for a rule that no backup takes."""
    from holdfast.files.rules import Rules

    try:
        Rules.compile([text], defaults=False)
    except Invalid as error:
        raise _as_value(error) from None


def _address(text: str) -> None:
    """Raise ``ValueError`` for what nobody can listen on."""
    from holdfast.kernel.addresses import address

    try:
        address(text)
    except Invalid as error:
        raise _as_value(error) from None


def _as_value(error: Invalid) -> ValueError:
    return ValueError(f"{error.message}: {error.hint[:1].lower()}{error.hint[1:].rstrip('.')}")


def nothing(value: object) -> object:
    """A key without a value is a section that says nothing."""
    return {} if value is None else value


Name = Annotated[str, AfterValidator(_named), _pattern(words.NAME)]
Text = Annotated[str, AfterValidator(not_empty), Field(json_schema_extra={"minLength": 1})]
Tag = Annotated[str, AfterValidator(_tag), _pattern("[^,]+")]
Duration = Annotated[str, _understood(words.seconds), _pattern(words.DURATION)]
Size = Annotated[str, _understood(words.size), _pattern(words.SIZE)]
Share = Annotated[str, _understood(words.share), _pattern(words.SHARE)]
SpanText = Annotated[str, _understood(words.span), _pattern(words.SPAN)]
ReadData = Annotated[str, _understood(words.subset), _pattern(words.READ_DATA)]
Address = Annotated[str, AfterValidator(not_empty), _understood(_address)]
Pattern = Annotated[str, _understood(_line)]
SampleText = Annotated[str, _understood(words.sample), _pattern(f"{words.SHARE}|{words.SIZE}")]
ServerUrl = Annotated[str, AfterValidator(without_password)]
Schedule = Annotated[str, _understood(words.check_schedule), _pattern(r"@\w+|\S+ +\S+ +\S+ +\S+ +\S+")]
Count = Annotated[
    int,
    BeforeValidator(_count, json_schema_input_type=int | Literal["unlimited"]),
    Field(ge=-1, le=999_999_999),
]
Command = Annotated[Any, PlainValidator(_command, json_schema_input_type=str | list[str])]


Variable = Annotated[str, AfterValidator(_variable)]


class Section(BaseModel):
    """A mapping with known keys. What else stands there is refused."""

    # Errors may not repeat what was written: it may be a secret.
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True, validate_by_name=False)
