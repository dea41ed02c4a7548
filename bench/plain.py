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
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median

from datasets import DATA_SETS, change_one_percent, size_of
from measure import CommandFailed, Measurement, measure
from peers import holdfast_command
from report import machine
from run import make_work
from verify import differences

HERE = Path(__file__).parent
OPERATIONS = {"first": "first run", "nochange": "no change", "changed": "1 % changed"}
TARGETS = {
    "c": {"first": ("cp", 2.0), "nochange": ("rsync", 4.0), "changed": ("rsync", 5.0)},
    "d": {"nochange": ("rsync", 1.5)},
}
"""Data set -> operation -> (peer, the most that a mirror's wall time may be of the peer's)."""


@dataclass
class Tool:
    """One way to have a second copy. ``{source}`` and ``{place}`` are filled in."""

    name: str
    command: tuple[str, ...]
    make: tuple[str, ...] = ()
    operations: tuple[str, ...] = tuple(OPERATIONS)
    figures: dict[str, list[Measurement]] = field(default_factory=dict)

    def wall(self, operation: str) -> float | None:
        """The median wall time in seconds."""
        found = self.figures.get(operation)
        return median(one.wall for one in found) if found else None


def tools() -> list[Tool]:
    """Those that are installed."""
    holdfast = holdfast_command()
    known = [
        Tool("cp", ("cp", "-a", "{source}", "{place}"), operations=("first",)),
        Tool("rsync", ("rsync", "-a", "{source}/", "{place}/")),
        Tool("rdiff-backup", ("rdiff-backup", "backup", "{source}", "{place}")),
        Tool("mirror", (*holdfast, "-q", "backup", "{source}", "--no-default-excludes", "--to", "{place}"),
             make=(*holdfast, "-q", "init", "--kind", "mirror", "{place}")),
    ]  # fmt: skip
    return [tool for tool in known if os.path.sep in tool.command[0] or shutil.which(tool.command[0])]


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the bench; 0, or 1 if a tool failed or the mirror differs from its source."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--set", choices=DATA_SETS, default="c", help="which data (c: 5,815 texts)")
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
    DATA_SETS[options.set].make(source, options.quick)
    environment = {**os.environ, "HOME": str(work / "home")}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    (work / "home").mkdir()
    known, log, wrong = tools(), work / "log", []
    for number in range(options.runs):
        for tool in known if number % 2 == 0 else known[::-1]:
            place = work / f"{tool.name}-{number}"
            if tool.make:
                measure(_filled(tool.make, source, place), env=environment, cwd=work, log=log)
            for operation in tool.operations:
                if operation == "changed":
                    change_one_percent(source, number)
                figure = measure(_filled(tool.command, source, place), env=environment, cwd=work, log=log)
                tool.figures.setdefault(operation, []).append(figure)
            if tool.name == "mirror":
                wrong += differences(source, Path(f"{place}{source}"))
            shutil.rmtree(place)
    _print(options, known, size_of(source))
    options.json.parent.mkdir(parents=True, exist_ok=True)
    figures = {
        tool.name: {name: [asdict(one) for one in found] for name, found in tool.figures.items()} for tool in known
    }
    options.json.write_text(json.dumps({"machine": machine(), "set": options.set, "figures": figures}, indent=2) + "\n")
    for difference in wrong:
        print(f"the mirror differs: {difference}", file=sys.stderr)
    return 1 if wrong else 0


def _filled(command: Sequence[str], source: Path, place: Path) -> list[str]:
    return [word.format(source=source, place=place) for word in command]


def _print(options: argparse.Namespace, known: Sequence[Tool], size: object) -> None:
    print(f"Data set {options.set}: {size}; median of {options.runs}, seconds")
    print(f"{'':14}" + "".join(f"{words:>14}" for words in OPERATIONS.values()))
    for tool in known:
        cells = [tool.wall(operation) for operation in OPERATIONS]
        print(f"{tool.name:14}" + "".join(f"{'-' if cell is None else f'{cell:.3f}':>14}" for cell in cells))
    walls = {tool.name: tool for tool in known}
    for operation, (peer, most) in TARGETS.get(options.set, {}).items():
        ours = walls["mirror"].wall(operation)
        theirs = walls[peer].wall(operation) if peer in walls else None
        if ours and theirs:
            verdict = "met" if ours <= most * theirs else "MISSED"
            print(f"{OPERATIONS[operation]}: {ours / theirs:.2f} x {peer}, at most {most}: {verdict}")


if __name__ == "__main__":
    sys.exit(main())
