"""How fast a versioned vault is beside ``cp -a``, ``rsync -a`` and ``rdiff-backup`` (where they are installed).

``python bench/plain_versioned.py FOLDER [--runs 5]`` copies FOLDER (the issue's: 5,815 text files,
34 MB) into a scratch place, changes 1 % of the copy, and prints the median of wall seconds of whole processes for:
first run, no change, 1 % changed, restore.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

ROUNDS = ("first", "no change", "1 % changed", "restore")


def timed(command: Sequence[str]) -> float:
    """Wall seconds of a command that must succeed (or be partial, which a bench never is)."""
    began = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def change(source: Path, number: int) -> None:
    """Change one line in every hundredth file, another one each time."""
    files = sorted(path for path in source.rglob("*") if path.is_file() and not path.is_symlink())
    for path in files[number % 100 :: 100]:
        lines = path.read_bytes().split(b"\n")
        lines[len(lines) // 2] = b"changed %d" % number
        path.write_bytes(b"\n".join(lines))


def holdfast(source: Path, place: Path, out: Path) -> list[float]:
    words = [sys.executable, "-m", "holdfast"]
    subprocess.run([*words, "init", "-q", "--kind", "versioned", str(place)], check=True)
    save = [*words, "backup", "-q", str(source), "--to", str(place)]
    restore = [*words, "restore", "-q", "latest", "--target", str(out), "--vault", str(place)]
    return rounds(source, lambda: timed(save), lambda: timed(restore))


def rdiff_backup(source: Path, place: Path, out: Path) -> list[float]:
    save = ["rdiff-backup", "backup", str(source), str(place)]
    restore = ["rdiff-backup", "restore", str(place), str(out)]

    def saved() -> float:
        took = timed(save)
        time.sleep(1.1)  # it refuses two versions within one second; not counted
        return took

    return rounds(source, saved, lambda: timed(restore))


def rsync(source: Path, place: Path, out: Path) -> list[float]:
    save = ["rsync", "-a", "--delete", f"{source}/", str(place)]
    return rounds(source, lambda: timed(save), lambda: timed(["rsync", "-a", f"{place}/", str(out)]))


def cp(source: Path, place: Path, _out: Path) -> list[float]:
    return [timed(["cp", "-a", str(source), str(place)])]


def rounds(source: Path, save: Callable[[], float], restore: Callable[[], float]) -> list[float]:
    first = save()
    save()  # what was written just now is compared by content once more
    unchanged = save()
    change(source, time.time_ns())
    return [first, unchanged, save(), restore()]


TOOLS: dict[str, tuple[str, Callable[[Path, Path, Path], list[float]]]] = {
    "cp -a": ("cp", cp),
    "rsync -a": ("rsync", rsync),
    "rdiff-backup": ("rdiff-backup", rdiff_backup),
    "holdfast versioned": (sys.executable, holdfast),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--scratch", type=Path, help="[default: the system's folder for temporary files]")
    options = parser.parse_args()
    print(f"{'':20}" + "".join(f"{name:>14}" for name in ROUNDS))
    for name, (program, run) in TOOLS.items():
        if shutil.which(program) is None:
            print(f"{name:20}  is not installed")
            continue
        found = []
        for _ in range(options.runs):
            with tempfile.TemporaryDirectory(dir=options.scratch) as folder:
                source = Path(folder) / "source"
                shutil.copytree(options.folder, source, symlinks=True)
                os.sync()
                time.sleep(0.1)
                found.append(run(source, Path(folder) / "vault", Path(folder) / "out"))
        medians = [statistics.median(one) for one in zip(*found, strict=True)]
        print(f"{name:20}" + "".join(f"{seconds:14.3f}" for seconds in medians), flush=True)


if __name__ == "__main__":
    main()
