"""From the text of ``holdfast.yaml`` to a checked configuration, or to one error that names all mistakes."""

from __future__ import annotations

import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from holdfast.config.coherence import contradictions
from holdfast.config.document import Document, parse
from holdfast.config.fields import Section
from holdfast.config.flaws import Flaw, Key, Spot, did_you_mean, refusal
from holdfast.config.models import Configuration
from holdfast.kernel.errors import Denied, Invalid, NotFound
from holdfast.kernel.values import dataclass

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

MAX_BYTES = 1 << 20
SECRET_WORDS = ("password", "location", "url", "channels", "ping", "run")
"""Parts of a key path whose values no message repeats."""

_WANTED = {
    "string_type": "a text is wanted",
    "bool_type": "true or false is wanted",
    "bool_parsing": "true or false is wanted",
    "int_type": "a whole number is wanted",
    "int_parsing": "a whole number is wanted",
    "int_from_float": "a whole number is wanted",
    "tuple_type": "a list is wanted",
    "list_type": "a list is wanted",
    "dict_type": "a mapping (key: value) is wanted",
    "model_type": "a mapping (key: value) is wanted",
    "too_short": "it is empty",
    "string_pattern_mismatch": "a word of small letters is wanted",
}
_INSTEAD = {
    "password": "A password never stands in this file: give password_file, password_command or password_env.",
}


@dataclass(frozen=True, slots=True)
class Loaded:
    """A checked configuration with the file and the document that it was read from."""

    path: Path
    configuration: Configuration
    document: Document


def load(path: Path, environ: Mapping[str, str]) -> Loaded:
    """Read and check the file at ``path``. Raises ``NotFound``, ``Denied``, and ``Invalid`` with all its mistakes."""
    return check_text(_read(path), path, environ)


def check_text(text: str, path: Path, environ: Mapping[str, str]) -> Loaded:
    """The same of a text that is, or will be, the content of ``path``."""
    document = parse(text, environ)
    if document.flaws and document.value is None:
        raise refusal(str(path), document.flaws)
    value = {} if document.value is None else document.value
    flaws = list(document.flaws)
    if not isinstance(value, dict):
        flaws.append(Flaw(Spot(1, 1), (), "a mapping with the keys vaults, plans and notify is wanted"))
        raise refusal(str(path), flaws)
    configuration = None
    try:
        configuration = Configuration.model_validate(value)
    except ValidationError as error:
        flaws += [_flaw(found, document) for found in error.errors(include_url=False, include_input=False)]
    flaws += [Flaw(document.spot(key), key, message, hint) for key, message, hint in contradictions(value)]
    if flaws or configuration is None:
        # Text with an unset variable in it is empty here: that it is empty is no second mistake.
        unset = {flaw.key for flaw in document.flaws}
        raise refusal(str(path), [flaw for flaw in flaws if flaw in document.flaws or flaw.key not in unset])
    return Loaded(path, configuration, document)


def _read(path: Path) -> str:
    try:
        with open(path, "rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise NotFound(f"there is no configuration file at {path}", hint="'holdfast config init' writes one.") from None
    except IsADirectoryError:
        raise Invalid(f"{path} is a folder; the configuration is a file, such as holdfast.yaml in it") from None
    except OSError as error:
        raise Denied(f"cannot read the configuration {path}: {error.strerror}") from error
    if len(raw) > MAX_BYTES:
        raise Invalid(f"{path} is larger than 1 MiB", hint="Is it the right file?")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = raw[: error.start]
        spot = Spot(before.count(b"\n") + 1, error.start - (before.rfind(b"\n") + 1) + 1)
        raise refusal(str(path), [Flaw(spot, (), "this is not UTF-8", "Save the file as UTF-8.")]) from None


def _flaw(error: ErrorDetails, document: Document) -> Flaw:
    key = _real(error["loc"], document)
    kind = error["type"]
    if kind == "extra_forbidden":
        word = str(key[-1])
        hint = _INSTEAD.get(word) or did_you_mean(word, _known(key[:-1]))
        return Flaw(document.spot(key, of_key=True), key, "there is no such key here", hint)
    if kind == "missing":
        missing = str(error["loc"][-1])
        return Flaw(document.spot(key), key, f"{missing!r} is missing", "")
    context = error.get("ctx", {})
    hint = ""
    if kind == "value_error":
        message = str(context.get("error", error["msg"]))
    elif kind == "literal_error":
        message = f"one of these is wanted: {str(context['expected']).replace(chr(39), '').replace(' or ', ', ')}"
    elif kind in ("greater_than_equal", "less_than_equal"):
        bound = context.get("ge", context.get("le"))
        message = f"at {'least' if kind.startswith('greater') else 'most'} {bound} is wanted"
    else:
        message = _WANTED.get(kind, error["msg"])
    if kind == "string_type" and document.written.get(key):
        hint = "Put quotes around it."
    elif kind in ("tuple_type", "list_type") and key in document.written:
        hint = "Write [one, two], or one entry a line with '- ' before it."
    of_key = error["loc"][-1:] == ("[key]",)
    return Flaw(document.spot(key, of_key=of_key), key, _quoted(key, document) + message, hint)


def _real(location: tuple[int | str, ...], document: Document) -> Key:
    """The key path of pydantic's ``location``, which also names alternatives of types; those are not in the file."""
    key: Key = ()
    for part in location:
        if (*key, part) in document.spots:
            key = (*key, part)
    return key


def _quoted(key: Key, document: Document) -> str:
    """What was written, in front of what is wrong with it, where that cannot be a secret."""
    text = document.written.get(key, "")
    secret = any(word in part for part in key if isinstance(part, str) for word in SECRET_WORDS)
    if not text or len(text) > 60 or secret or key in document.expanded or ("://" in text and "@" in text):
        return ""
    return f"{text!r}: "


def _known(key: Key) -> list[str]:
    """The keys that the section at ``key`` may have."""
    section: type[Section] = Configuration
    inside = 0  # how many names or places of entries come before the next key of a section
    for part in key:
        if inside:
            inside -= 1
            continue
        for name, field in section.model_fields.items():
            if part == (field.alias or name):
                found = next(_sections(field.annotation, 0), None)
                if found is None:
                    return []
                section, inside = found
    return [field.alias or name for name, field in section.model_fields.items()]


def _sections(annotation: Any, depth: int) -> Iterator[tuple[type[Section], int]]:
    """The section in a type such as ``dict[str, Section]``, and how many names or places lead to it."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        yield annotation, depth
        return
    deeper = depth + (typing.get_origin(annotation) in (dict, tuple))
    for inner in typing.get_args(annotation):
        yield from _sections(inner, deeper)
