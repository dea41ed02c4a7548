"""Measures Holdfast side by side with restic and borg: ``python bench/run.py --help``.

Every tool has a repository of its own and takes its turn in each round (A B, then B A), so that a machine that grows
slower or faster meanwhile does so for all. What is compared are medians over the rounds.
"""

from __future__ import annotations

import argparse
import os
import secrets
import shutil
import sys
import tempfile
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from chart import write_chart
from datasets import DATA_SETS, DataSet, Size, change_one_percent, size_of
from measure import CommandFailed, Measurement, measure
from peers import TOOLS, Places, Tool, make_template
from report import Results, SetResult, machine, print_table, write_json
from verify import differences

HERE = Path(__file__).parent
OPERATIONS = ("first", "nochange", "changed", "restore", "check")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the bench; 0, or 1 if a command failed or a restored tree differs."""
    options = parse(arguments)
    versions = {name: TOOLS[name].version() for name in ("holdfast", *options.peers)}
    for name in [name for name, version in versions.items() if version is None]:
        print(f"{name} cannot be run here: its column is left out.", file=sys.stderr)
        del versions[name]
    if "restic" not in versions:
        print("restic must be installed: its init makes the repositories.", file=sys.stderr)
        return 1

    work = Path(tempfile.mkdtemp(prefix="run-", dir=make_work(options.work)))
    results = Results(machine=machine(), versions=versions, settings=settings(options), failures=[])
    bench = Bench(options, work, results, list(versions))
    try:
        for name in options.sets:
            results.sets.append(bench.measure_set(DATA_SETS[name]))
            write_json(results, options.json)
    finally:
        if not options.keep:
            for folder in (work, bench.vaults):
                shutil.rmtree(folder, ignore_errors=True)
    print_table(results)
    write_chart(results, options.svg)
    print(f"\nWritten: {options.json}, {options.svg}")
    return 1 if results.failures else 0


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line; the defaults measure everything, which takes about an hour and 10 GB of memory disk."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", type=_names(DATA_SETS), default=list(DATA_SETS), help="a,b,c,d,one")
    parser.add_argument("--ops", type=_names(OPERATIONS), default=list(OPERATIONS), help=",".join(OPERATIONS))
    parser.add_argument("--runs", type=int, default=3, help="rounds; the median counts (3)")
    parser.add_argument("--work", type=Path, help="where data is made (default: a memory disk, else TMPDIR)")
    parser.add_argument("--vaults", type=Path, help="where repositories are made (default: beside the data)")
    parser.add_argument("--peers", type=_names(TOOLS), default=["restic", "borg"], help="restic,borg")
    parser.add_argument("--key", choices=("password", "file"), default="password", help="file: no key stretching")
    parser.add_argument(
        "--cold",
        action="store_true",
        help="drop the page cache before each command (needs root, and --work on a disk that is one)",
    )
    parser.add_argument("--quick", action="store_true", help="small data, to try the bench itself")
    parser.add_argument("--keep", action="store_true", help="leave data and repositories for a look")
    parser.add_argument(
        "--json", type=Path, help="default: bench/results/latest.json, below work/ if not the whole was run"
    )
    parser.add_argument(
        "--svg", type=Path, help="default: docs/bench.svg, or bench/results/work/ if not the whole was run"
    )
    options = parser.parse_args(arguments)
    # Only a whole run may replace what the README shows.
    whole = not options.quick and options.sets == list(DATA_SETS) and options.ops == list(OPERATIONS)
    partial = HERE / "results" / "work"
    options.json = options.json or (HERE / "results" / "latest.json" if whole else partial / "latest.json")
    options.svg = options.svg or (HERE.parent / "docs" / "bench.svg" if whole else partial / "bench.svg")
    if options.cold and os.geteuid() != 0:
        parser.error("--cold needs root: only root may drop the page cache")
    return options


def _names(known: Collection[str]) -> Callable[[str], list[str]]:
    def names(text: str) -> list[str]:
        chosen = [name for name in text.split(",") if name]
        for name in chosen:
            if name not in known:
                raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(known)}")
        return chosen

    return names


def settings(options: argparse.Namespace) -> dict[str, object]:
    """What a reader of the figures must know."""
    return {
        "runs": options.runs,
        "key": "stretched by scrypt as restic calibrates it" if options.key == "password" else "not stretched",
        "cache": "cold" if options.cold else "warm",
        "quick": options.quick,
        "vaults": "another place" if options.vaults else "beside the data",
    }


def make_work(chosen: Path | None) -> Path:
    """The folder for everything temporary: what was asked for, else a memory disk, else the system's."""
    if chosen is None:
        memory = Path("/dev/shm")
        chosen = (memory if os.access(memory, os.W_OK) else Path(tempfile.gettempdir())) / "holdfast-bench"
    chosen.mkdir(parents=True, exist_ok=True)
    return chosen


@dataclass
class Bench:
    """One run over several sets. Everything lies below ``work``, except repositories where ``--vaults`` says so."""

    options: argparse.Namespace
    work: Path
    results: Results
    names: list[str]
    turn: int = field(default=0)

    @property
    def vaults(self) -> Path:
        """Where the repositories of this run are."""
        return self.options.vaults / self.work.name if self.options.vaults else self.work / "vaults"

    def measure_set(self, chosen: DataSet) -> SetResult:
        """Makes the data, measures every operation in every round, and removes the data."""
        source = self.work / "data" / chosen.name
        source.mkdir(parents=True)
        print(f"[{chosen.name}] making {chosen.title} ...", file=sys.stderr)
        chosen.make(source, self.options.quick)
        title = f"a small sample of: {chosen.title}" if self.options.quick else chosen.title
        found = SetResult(chosen.name, title, size_of(source))
        tools = [TOOLS[name](self._places(name)) for name in self.names]
        self._make_template()
        for number in range(self.options.runs):
            self._round(found, tools, source, number)
            tools.reverse()
        if not self.options.keep:
            shutil.rmtree(source)
            for tool in tools:
                shutil.rmtree(tool.places.repository, ignore_errors=True)
        return found

    def _round(self, found: SetResult, tools: list[Tool], source: Path, number: int) -> None:
        """Every operation once by every tool. A tool that fails is out, for this set; its failure is reported."""
        wanted = [operation for operation in OPERATIONS if operation in self.options.ops or operation == "first"]
        for operation in wanted:
            if operation == "changed":
                self.turn += 1
                found.changed_files = change_one_percent(source, self.turn)
            for tool in tools.copy():
                if operation == "first":
                    tool.create()
                try:
                    figures = self._one(tool, operation, source, verify=number == 0)
                except CommandFailed as failure:
                    self.results.failures.append(f"{found.name}: {tool.name} {operation}: {failure}")
                    print(f"[{found.name}] {tool.name} FAILED: {failure}", file=sys.stderr)
                    tools.remove(tool)
                    continue
                if operation in self.options.ops:
                    found.add(operation, tool.name, figures)
                if operation == "first":
                    found.repository_bytes[tool.name] = size_of(tool.places.repository).bytes
            print(f"[{found.name}] round {number + 1}: {operation} done", file=sys.stderr)

    def _one(self, tool: Tool, operation: str, source: Path, *, verify: bool) -> Measurement:
        if self.options.cold:
            os.sync()
            Path("/proc/sys/vm/drop_caches").write_text("3")
        target = self.work / "restored"
        if operation == "restore":
            shutil.rmtree(target, ignore_errors=True)
            target.mkdir()
            command, place = tool.restore(target), target
        else:
            command = tool.check() if operation == "check" else tool.backup(source)
            place = self.work
        figures = measure(command, env=tool.environment(), cwd=place, log=self.work / f"{tool.name}.log")
        if operation == "restore":
            self._compare(tool, source, target, whole=verify)
            shutil.rmtree(target)
        return figures

    def _compare(self, tool: Tool, source: Path, target: Path, *, whole: bool) -> None:
        """A fast restore of something else would be worth nothing: the first of each tool is compared byte for byte."""
        restored = target / source.relative_to(source.anchor)
        expected, found = size_of(source), size_of(restored) if restored.exists() else Size(0, 0)
        problems = differences(source, restored) if whole and expected == found else []
        if expected != found:
            problems = [f"{found.files} files, {found.bytes} bytes instead of {expected.files}, {expected.bytes}"]
        if problems:
            raise CommandFailed(f"{tool.name} restored something else: {problems[0]}")

    def _places(self, name: str) -> Places:
        return Places(self.vaults / name, self.work / "home" / name, self.work / "password", self.work / "template")

    def _make_template(self) -> None:
        password_file, template = self.work / "password", self.work / "template"
        if not template.exists():
            password_file.write_text(secrets.token_hex(32))
            password_file.chmod(0o600)
            make_template(template, password_file, stretched=self.options.key == "password")


if __name__ == "__main__":
    sys.exit(main())
