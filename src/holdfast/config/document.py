"""A YAML file as plain values, each with its place in the file, and with ``${NAME}`` replaced from the environment.

Stricter than YAML where YAML surprises: a key stands only once in a mapping and is always text (``on`` is a word, not
true), only ``true`` and ``false`` are truth values, ``08:30`` is text, and there are no tags.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import field
from typing import TYPE_CHECKING, Any

from holdfast.config.flaws import Flaw, Key, Spot
from holdfast.config.words import VARIABLE
from holdfast.kernel.values import dataclass

if TYPE_CHECKING:
    import yaml

MAX_VALUES = 100_000
"""Aliases of aliases can make a few lines into billions of values."""
MAX_DEPTH = 50

_NULL = re.compile(r"|~|null|Null|NULL")
_BOOL = re.compile(r"true|True|TRUE|false|False|FALSE")
_INT = re.compile(r"[-+]?[0-9]{1,18}")
_FLOAT = re.compile(r"[-+]?([0-9]+\.[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?")
_DOLLAR = re.compile(r"\$\$|\$\{([^}]*)\}?")
_STANDARD = "tag:yaml.org,2002:"


@dataclass(slots=True)
class Document:
    """``value`` is made of dict, list, str, int, float, bool and None. ``spots`` say where the value of a key path
    begins, ``key_spots`` where its key does, ``written`` how a scalar stands in the file; ``expanded`` are the key
    paths whose text came, at least in part, from the environment."""

    value: Any = None
    spots: dict[Key, Spot] = field(default_factory=dict)
    key_spots: dict[Key, Spot] = field(default_factory=dict)
    written: dict[Key, str] = field(default_factory=dict)
    expanded: set[Key] = field(default_factory=set)
    flaws: list[Flaw] = field(default_factory=list)

    def spot(self, key: Key, *, of_key: bool = False) -> Spot:
        """Where ``key`` is in the file, or where what should hold it is."""
        if of_key and key in self.key_spots:
            return self.key_spots[key]
        while key and key not in self.spots:
            key = key[:-1]
        return self.spots.get(key, Spot(1, 1))


def parse(text: str, environ: Mapping[str, str]) -> Document:
    """Read ``text``. What is wrong with it is in ``flaws`` of the result; it is never raised."""
    import yaml

    document = Document()
    loader = (yaml.CSafeLoader if hasattr(yaml, "CSafeLoader") else yaml.SafeLoader)(text)
    try:
        node = loader.get_single_node()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        spot = Spot(1, 1) if mark is None else Spot(mark.line + 1, mark.column + 1)
        # A name of an alias may be a password that begins with "*".
        words = re.sub(r" '[^']{2,}'", "", " ".join(part for part in (error.context, error.problem) if part))
        document.flaws.append(Flaw(spot, (), f"this is no YAML: {words}", _yaml_hint(text, spot)))
    except yaml.YAMLError as error:
        document.flaws.append(Flaw(Spot(1, 1), (), "this is no YAML: " + " ".join(str(error).split())))
    except RecursionError:
        document.flaws.append(Flaw(Spot(1, 1), (), "the file is nested too deeply"))
    else:
        if node is not None:
            document.value = _Builder(document, environ).build(node, (), 0)
    finally:
        loader.dispose()
    return document


def _yaml_hint(text: str, spot: Spot) -> str:
    lines = text.split("\n")
    near = lines[max(0, spot.line - 2) : spot.line]
    if any("\t" in line[: len(line) - len(line.lstrip())] for line in near):
        return "Indent with spaces: YAML knows no tabs there."
    if any(re.search(r"[\[,:-]\s*[*!&%@`]", line) for line in near):
        return "Put quotes around text that begins with one of * ! & % @ `."
    return "Look at the indentation, and put quotes around text with ': ' or ' #' in it."


class _Builder:
    """Turns YAML's nodes into values and notes what is wrong on the way."""

    def __init__(self, document: Document, environ: Mapping[str, str]) -> None:
        self._document = document
        self._environ = environ
        self._count = 0

    def build(self, node: yaml.Node, key: Key, depth: int) -> Any:
        import yaml

        document = self._document
        document.spots[key] = _spot(node)
        self._count += 1
        if self._count > MAX_VALUES or depth > MAX_DEPTH:
            if self._count < 2 * MAX_VALUES:
                self._count = 2 * MAX_VALUES  # told once
                self._note(node, key, "the file holds too many values, or is nested too deeply")
            return None
        if not node.tag.startswith(_STANDARD):
            self._note(node, key, "a tag (!word) means nothing here", 'Put quotes around text that begins with "!".')
            return None
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, key, depth)
        if isinstance(node, yaml.SequenceNode):
            return [self.build(child, (*key, place), depth + 1) for place, child in enumerate(node.value)]
        return self._scalar(node, key)

    def _mapping(self, node: yaml.Node, key: Key, depth: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name_node, value_node in self._pairs(node, key):
            name = name_node.value
            inner = (*key, name)
            if name in found:
                first = self._document.key_spots[inner]
                self._note(name_node, inner, f"{name!r} is there twice (first in line {first.line})", "Join the two.")
                continue
            self._document.key_spots[inner] = _spot(name_node)
            found[name] = self.build(value_node, inner, depth + 1)
        return found

    def _pairs(self, node: yaml.Node, key: Key) -> Iterator[tuple[yaml.Node, yaml.Node]]:
        own = {name.value for name, _ in node.value if _is_word(name)}
        for name, value in node.value:
            if not _is_word(name):
                self._note(name, key, "a key has to be a word")
            elif name.value == "<<" and not getattr(name, "style", None):
                if not _is_mapping(value):
                    self._note(value, key, "<< takes one mapping (an alias such as *defaults)")
                    continue
                # What stands in the mapping itself wins over what is merged in.
                yield from ((n, v) for n, v in value.value if _is_word(n) and n.value not in own)
            else:
                yield name, value

    def _scalar(self, node: yaml.Node, key: Key) -> Any:
        text: str = node.value
        self._document.written[key] = text
        plain = not getattr(node, "style", None)
        if plain and _NULL.fullmatch(text):
            return None
        if plain and _BOOL.fullmatch(text):
            return text.lower() == "true"
        if plain and _INT.fullmatch(text):
            return int(text)
        if plain and _FLOAT.fullmatch(text):
            return float(text)
        return self._expand(node, text, key) if "$" in text else text

    def _expand(self, node: yaml.Node, text: str, key: Key) -> str:
        def value(match: re.Match[str]) -> str:
            name = match[1]
            if name is None:
                return "$"
            if not match[0].endswith("}") or re.fullmatch(VARIABLE, name) is None:
                self._note(node, key, "what stands after ${ is no variable", "Write ${NAME}, or $$ for a dollar sign.")
            elif name not in self._environ:
                hint = f"Set it, or write $${{{name}}} if the dollar sign is meant."
                self._note(node, key, f"the environment variable {name} is not set", hint)
            else:
                self._document.expanded.add(key)
                return self._environ[name]
            return ""

        return _DOLLAR.sub(value, text)

    def _note(self, node: yaml.Node, key: Key, message: str, hint: str = "") -> None:
        self._document.flaws.append(Flaw(_spot(node), key, message, hint))


def _is_word(node: yaml.Node) -> bool:
    return isinstance(node.value, str)


def _is_mapping(node: yaml.Node) -> bool:
    return isinstance(node.value, list) and all(isinstance(pair, tuple) for pair in node.value)


def _spot(node: yaml.Node) -> Spot:
    return Spot(node.start_mark.line + 1, node.start_mark.column + 1)
