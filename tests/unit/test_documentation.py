"""What the documentation shows can be typed: commands and options exist, links lead somewhere, YAML is understood."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from holdfast.cli.options import Common
from holdfast.cli.root import program
from holdfast.config.document import parse
from holdfast.config.load import check_text

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "deploy/README.md", *sorted((ROOT / "docs").glob("*.md"))]

OTHERS = frozenset(
    ["--append-only", "--bucket", "--versioning-configuration", "--globals-only", "--single-transaction", "--quick"]
    + ["--routines", "--events", "--triggers", "--hex-blob", "--detail", "--test", "--format", "--patch-from"]
    + ["--binary", "--help"]
)
"""Options of other programs, and the one that all have."""

PLACEHOLDERS = {"SNAPSHOT": "latest", "N": "3"}
"""Words in capitals that stand for something that is looked at while a command line is read."""


def commands(page: Path) -> Iterator[str]:
    """Every command line of ours that a page shows: in a block, or between backticks. Comments are cut off."""
    for line in page.read_text().splitlines():
        shown = re.findall(r"`(holdfast [^`]+)`", line)
        block = re.match(r"\s*(?:\$ |[-\d*/ ]+\* +)?(?:[A-Z_]+=\S+ )?(holdfast [^`]*)$", line)
        for words in [*shown, *([block[1]] if block and not shown else [])]:
            yield re.split(r"\s{2,}|\s#|(?<=[\w'\])])\s+[|>]\s", words.strip())[0]


def understand(line: str) -> None:
    """Read a command line as the program would, without doing anything. Raises what click raises."""
    words = [PLACEHOLDERS.get(word, word) for word in shlex.split(re.sub(r"[\[\]]|\.\.\.", "", line))[1:]]
    command: click.Command = program
    context = click.Context(program, info_name="holdfast", obj=Common())
    while isinstance(command, click.Group):
        _, rest, _ = command.make_parser(context).parse_args(list(words))
        if not rest:
            return
        inner = command.get_command(context, rest[0])
        assert inner is not None, f"there is no command {rest[0]}"
        context = click.Context(inner, parent=context, info_name=rest[0], obj=Common())
        command, words = inner, rest[1:]
    given, rest, _ = command.make_parser(context).parse_args(words)
    assert not rest, f"{rest} is too much"
    for parameter in command.params:
        value = given.get(str(parameter.name))
        if isinstance(value, (str, tuple, list)) and value:
            parameter.type_cast_value(context, value)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_can_be_typed(page: Path) -> None:
    for line in commands(page):
        try:
            understand(line)
        except (click.ClickException, ValueError, AssertionError) as error:
            # A sentence may name a command with an option alone: holdfast restore --target
            if not isinstance(error, click.BadOptionUsage):
                pytest.fail(f"{line}\n{error if not isinstance(error, click.ClickException) else error.message}")


def test_something_is_looked_at() -> None:
    assert sum(len(list(commands(page))) for page in PAGES) > 150


def options() -> set[str]:
    found: set[str] = set()

    def collect(command: click.Command, context: click.Context) -> None:
        for parameter in command.params:
            found.update(parameter.opts, parameter.secondary_opts)
        if isinstance(command, click.Group):
            for name in command.list_commands(context):
                inner = command.get_command(context, name)
                assert inner is not None
                collect(inner, context)

    collect(program, click.Context(program, info_name="holdfast", obj=Common()))
    return found


def test_options_exist() -> None:
    known = options() | OTHERS
    for page in PAGES:
        for option in re.findall(r"(?<![\w-])(--[a-z][a-z-]*[a-z])", page.read_text()):
            assert option in known, f"{page.name}: {option}"


def anchors(page: Path) -> set[str]:
    heads = re.findall(r"^#+ (.*)$", re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).strip().replace(" ", "-") for head in heads}


def test_links_lead_somewhere() -> None:
    for page in [*PAGES, ROOT / "ARCHITECTURE.md"]:
        for place in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
            if place.startswith(("http:", "https:")):
                continue
            path, _, anchor = place.partition("#")
            target = (page.parent / path).resolve() if path else page
            assert target.exists(), f"{page.name}: {place}"
            assert not anchor or anchor in anchors(target), f"{page.name}: {place}"


def blocks() -> Iterator[tuple[str, str]]:
    for page in sorted((ROOT / "docs").glob("*.md")):
        for text in re.findall(r"^```yaml\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE):
            yield page.name, text


@pytest.mark.parametrize(("page", "text"), list(blocks()))
def test_configurations_are_understood(page: str, text: str, tmp_path: Path) -> None:
    """Parts of one are completed by what they leave to the reader: vaults, and what a plan saves."""
    shown = parse(text, {}).value  # words such as 'on' are none to others that read YAML
    assert isinstance(shown, dict)
    vaults = {"home": {"location": "/srv/home", "default": True}, "cloud": {"location": "s3:bucket/prefix"}}
    shown = {"vaults": vaults, "plans": {}, **shown}
    for plan in shown["plans"].values():
        plan.setdefault("paths", ["~/Documents"])
    check_text(json.dumps(shown), tmp_path / "holdfast.yaml", {"HOME": str(tmp_path)})
