"""Measures vaults of plain files side by side with cp, rsync and rdiff-backup: ``python bench/plain.py --help``.

Whole processes with their start, warm cache, everything on one file system. Every tool has its turn in each round; what
is compared are medians.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median

from datasets import DATA_SETS, SHORT_TEXTS, change_one_percent, size_of
from measure import CommandFailed, Measurement, measure
from peers import holdfast_command
from report import machine
from run import make_work
from verify import differences

HERE = Path(__file__).parent
SETS = {**DATA_SETS, SHORT_TEXTS.name: SHORT_TEXTS}
SAVES = {"first": "first run", "nochange": "no change", "changed": "1 % changed"}
OPERATIONS = {**SAVES, "restore": "restore"}
_BOTH = (("nochange", "rsync", 4.0), ("nochange", "rdiff-backup", 0.5), ("changed", "rsync", 5.0))
TARGETS = {
    "e": {
        "mirror": (("first", "cp", 2.0), *_BOTH),
        "versioned": (
            ("first", "cp", 3.0),
            *_BOTH,
            *((operation, "rdiff-backup", 1 / 3) for operation in ("first", "changed", "restore")),
        ),
    },
    "d": {"mirror": (("nochange", "rsync", 1.5),)},
}
"""Data set -> tool -> (operation, peer, the most that its wall time may be of the peer's)."""


@dataclass
class Tool:
    """One way to have a second copy. ``{source}``, ``{place}`` and, to restore, ``{out}`` are filled in."""

    name: str
    command: tuple[str, ...]
    restore: tuple[str, ...] = ()
    make: tuple[str, ...] = ()
    operations: tuple[str, ...] = tuple(SAVES)
    pause: float = 0.0  # seconds before each run, which are not counted
    figures: dict[str, list[Measurement]] = field(default_factory=dict)

    def wall(self, operation: str) -> float | None:
        """The median wall time in seconds."""
        found = self.figures.get(operation)
        return median(one.wall for one in found) if found else None

    def cpu(self, operation: str) -> float:
        """The median of processor seconds."""
        return median(one.cpu for one in self.figures[operation])


def tools() -> list[Tool]:
    """Those that are installed."""
    holdfast = holdfast_command()
    known = [
        Tool("cp", ("cp", "-a", "{source}", "{place}"), operations=("first",)),
        Tool("rsync", ("rsync", "-a", "{source}/", "{place}/"), ("rsync", "-a", "{place}/", "{out}")),
        Tool("rdiff-backup", ("rdiff-backup", "backup", "{source}", "{place}"),
             ("rdiff-backup", "restore", "{place}", "{out}"), pause=1.1),  # it refuses two versions within one second
        *(
            Tool(kind, (*holdfast, "-q", "backup", "{source}", "--no-default-excludes", "--to", "{place}"),
                 (*holdfast, "-q", "restore", "latest:{source}", "--vault", "{place}", "--target", "{out}"),
                 make=(*holdfast, "-q", "init", "--kind", kind, "{place}"))
            for kind in ("mirror", "versioned")
        ),
    ]  # fmt: skip
    return [tool for tool in known if os.path.sep in tool.command[0] or shutil.which(tool.command[0])]


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the bench; 0, or 1 if a tool failed or a copy differs from its source."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--set", choices=SETS, default="e", help="which data (e: 5,815 texts, 34 MB)")
    parser.add_argument("--runs", type=int, default=5, help="rounds; the median counts (5)")
    parser.add_argument("--work", type=Path, help="where data and copies are made (default: a memory disk)")
    parser.add_argument("--quick", action="store_true", help="small data, to try the bench itself")
    parser.add_argument("--json", type=Path, default=HERE / "results" / "work" / "plain.json")
    options = parser.parse_args(arguments)
    work = Path(tempfile.mkdtemp(prefix="plain-", dir=make_work(options.work)))
    try:
        return run(options, work)
    except CommandFailed as error:
        print(error, file=sys.stderr)
        return 1
    finally:
        shutil.rmtree(work, ignore_errors=True)


def run(options: argparse.Namespace, work: Path) -> int:
    """All rounds, then the table."""
    source = work / "source"
    source.mkdir()
    SETS[options.set].make(source, options.quick)
    environment = {**os.environ, "HOME": str(work / "home")}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    (work / "home").mkdir()
    known, log, wrong = tools(), work / "log", []
    for number in range(options.runs):
        for tool in known if number % 2 == 0 else known[::-1]:
            places = {"source": source, "place": work / f"{tool.name}-{number}", "out": work / "out"}
            if tool.make:
                measure(_filled(tool.make, places), env=environment, cwd=work, log=log)
            for operation in (*tool.operations, *(("restore",) if tool.restore else ())):
                if operation == "changed":
                    change_one_percent(source, number)
                    time.sleep(0.1)  # what changed a moment ago is compared once more
                time.sleep(tool.pause)
                words = tool.restore if operation == "restore" else tool.command
                figure = measure(_filled(words, places), env=environment, cwd=work, log=log)
                tool.figures.setdefault(operation, []).append(figure)
            if tool.name in ("mirror", "versioned"):
                wrong += differences(source, Path(f"{places['place']}{source}"))
                wrong += differences(source, places["out"])
            for place in (places["place"], places["out"]):
                shutil.rmtree(place, ignore_errors=True)
    _print(options, known, size_of(source))
    options.json.parent.mkdir(parents=True, exist_ok=True)
    figures = {
        tool.name: {name: [asdict(one) for one in found] for name, found in tool.figures.items()} for tool in known
    }
    options.json.write_text(json.dumps({"machine": machine(), "set": options.set, "figures": figures}, indent=2) + "\n")
    for difference in wrong:
        print(f"a copy differs: {difference}", file=sys.stderr)
    return 1 if wrong else 0


def _filled(command: Sequence[str], places: Mapping[str, Path]) -> list[str]:
    return [word.format_map(places) for word in command]


def _print(options: argparse.Namespace, known: Sequence[Tool], size: object) -> None:
    print(f"Data set {options.set}: {size}; median of {options.runs}, seconds (processor seconds)")
    print(f"{'':14}" + "".join(f"{words:>16}" for words in OPERATIONS.values()))
    for tool in known:
        cells = [
            "-" if (wall := tool.wall(operation)) is None else f"{wall:.3f} ({tool.cpu(operation):.3f})"
            for operation in OPERATIONS
        ]
        print(f"{tool.name:14}" + "".join(f"{cell:>16}" for cell in cells))
    named = {tool.name: tool for tool in known}
    for name, targets in TARGETS.get(options.set, {}).items():
        for operation, peer, most in targets:
            ours = named[name].wall(operation)
            theirs = named[peer].wall(operation) if peer in named else None
            if ours and theirs:
                verdict = "met" if ours <= most * theirs else "MISSED"
                print(f"{name}, {OPERATIONS[operation]}: {ours / theirs:.2f} x {peer}, at most {most:.2f}: {verdict}")


if __name__ == "__main__":
    sys.exit(main())
