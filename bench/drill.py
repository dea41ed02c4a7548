"""Measures what a drill costs beside the restore in it: ``python bench/drill.py --help``.

Whole processes with their start, warm cache, vault, source and target on one file system. Restore and drill take turns;
what is compared are medians. The source is unchanged, so the drill compares every byte with the vault and with it.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import median

from datasets import DATA_SETS, size_of
from measure import CommandFailed, Measurement, measure
from peers import holdfast_command
from report import machine
from run import make_work

HERE = Path(__file__).parent
MOST = {"b": 1.3}
"""Data set -> the most that a drill's wall time may be of the restore's."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the bench; 0, or 1 if a command failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--set", choices=DATA_SETS, default="b", help="which data (b: one file of 2 GiB)")
    parser.add_argument("--runs", type=int, default=5, help="rounds; the median counts (5)")
    parser.add_argument("--work", type=Path, help="where data, vault and copies are made (default: a memory disk)")
    parser.add_argument("--quick", action="store_true", help="small data, to try the bench itself")
    parser.add_argument("--json", type=Path, default=HERE / "results" / "work" / "drill.json")
    options = parser.parse_args(arguments)
    work = Path(tempfile.mkdtemp(prefix="drill-", dir=make_work(options.work)))
    try:
        return run(options, work)
    except CommandFailed as error:
        print(error, file=sys.stderr)
        return 1
    finally:
        shutil.rmtree(work, ignore_errors=True)


def run(options: argparse.Namespace, work: Path) -> int:
    """All rounds, then the figures."""
    source, vault, target, log = work / "source", work / "vault", work / "target", work / "log"
    source.mkdir()
    DATA_SETS[options.set].make(source, options.quick)
    (work / "home").mkdir()
    environment = {**os.environ, "HOME": str(work / "home"), "RESTIC_PASSWORD": "bench"}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    holdfast = [*holdfast_command(), "-q", "--vault", str(vault)]
    for words in (["init", str(vault)], ["backup", "--no-default-excludes", str(source)]):
        measure([*holdfast_command(), "-q", *words] if words[0] == "init" else [*holdfast, *words],
                env=environment, cwd=work, log=log)  # fmt: skip
    commands = {
        "restore": [*holdfast, "restore", "latest", "--target", str(target)],
        "drill": [*holdfast, "drill", "--scratch", str(work / "scratch")],
    }
    figures: dict[str, list[Measurement]] = {name: [] for name in commands}
    for number in range(options.runs):
        for name in commands if number % 2 == 0 else reversed(commands):
            figures[name].append(measure(commands[name], env=environment, cwd=work, log=log))
            shutil.rmtree(target, ignore_errors=True)
    walls = {name: median(one.wall for one in found) for name, found in figures.items()}
    ratio = walls["drill"] / walls["restore"]
    print(f"Data set {options.set}: {size_of(source)}; median of {options.runs}")
    for name, found in figures.items():
        cpu = median(one.cpu for one in found)
        print(f"{name:8}{walls[name]:8.3f} s wall{cpu:8.3f} s processor")
    most = MOST.get(options.set)
    verdict = "" if most is None else f", at most {most}: {'met' if ratio <= most else 'MISSED'}"
    print(f"drill / restore: {ratio:.2f}{verdict}")
    options.json.parent.mkdir(parents=True, exist_ok=True)
    told = {name: [asdict(one) for one in found] for name, found in figures.items()}
    options.json.write_text(json.dumps({"machine": machine(), "set": options.set, "figures": told}, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
