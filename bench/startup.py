"""Measures how fast the command starts: ``--help`` and ``snapshots`` against a bare interpreter."""

from __future__ import annotations

import argparse
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median

from peers import Holdfast, Places, Restic, holdfast_command, make_template
from report import targets


def main() -> int:
    """Prints medians and their ratios; 1 if a target is missed or a command fails."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=15)
    options = parser.parse_args()
    for tool in (Holdfast, Restic):
        if tool.version() is None:
            print(f"{tool.name} cannot be run here.", file=sys.stderr)
            return 1
    work = Path(tempfile.mkdtemp(prefix="holdfast-startup-"))
    try:
        medians = measure_all(work, options.runs)
    finally:
        shutil.rmtree(work)
    return report(medians)


def measure_all(work: Path, runs: int) -> dict[str, float]:
    """Median wall seconds of each command, taking turns; the vault's key is not stretched and holds one snapshot."""
    places = Places(work / "vault", work / "home", work / "password", work / "template")
    places.password_file.write_text(secrets.token_hex(32))
    places.password_file.chmod(0o600)
    make_template(places.template, places.password_file, stretched=False)
    tool = Holdfast(places)
    tool.create()
    source = work / "source"
    source.mkdir()
    (source / "file").write_text("content")
    environment = tool.environment()
    subprocess.run(tool.backup(source), env=environment, check=True, capture_output=True)

    vault = ["--vault", str(places.repository), "--password-file", str(places.password_file)]
    commands = {
        "python": [sys.executable, "-c", "pass"],
        "help": [*holdfast_command(), "--help"],
        "snapshots": [*holdfast_command(), "snapshots", *vault],
    }
    found: dict[str, list[float]] = {name: [] for name in commands}
    # The first round warms the page cache and writes byte code: not counted.
    for number in range(runs + 1):
        for name, command in commands.items():
            wall = wall_seconds(command, environment)
            if number:
                found[name].append(wall)
    return {name: median(walls) for name, walls in found.items()}


def wall_seconds(command: Sequence[str], environment: Mapping[str, str]) -> float:
    """One run, from start to end."""
    begin = time.perf_counter()
    subprocess.run(command, env=dict(environment), check=True, stdout=subprocess.DEVNULL, cwd=os.sep)
    return time.perf_counter() - begin


def report(medians: Mapping[str, float]) -> int:
    """Prints a line a command; says which target was missed."""
    bare = medians["python"]
    missed = 0
    for name, wall in medians.items():
        target = targets()["startup"].get(name)
        verdict = "" if target is None else f"target {target}x: {'met' if wall <= target * bare else 'MISSED'}"
        missed += verdict.endswith("MISSED")
        print(f"{name:10} {wall * 1000:7.1f} ms {wall / bare:6.1f}x  {verdict}".rstrip())
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
