"""Measures backups of one big SQLite database, unchanged and with pages changed: ``python bench/sqlite.py --help``.

The changed pages lie all over the file, which is the worst case. Whole processes with their start, warm cache,
everything on one file system; restic beside it, which is given the same file with nobody using it.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from measure import CommandFailed, Measurement, measure
from peers import holdfast_command
from run import make_work

MOST_STORED = 0.03
"""The most that the second backup may store, as a part of the database, with one page in a thousand changed."""

_ROW = 900  # bytes: four rows a page


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the bench; 0, or 1 if a tool failed or too much was stored."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=500, help="MiB of the database (500)")
    parser.add_argument("--share", type=float, default=0.001, help="part of the pages that change (0.001)")
    parser.add_argument("--work", type=Path, help="where everything is made (default: a memory disk); 4 times the size")
    options = parser.parse_args(arguments)
    work = Path(tempfile.mkdtemp(prefix="sqlite-", dir=make_work(options.work)))
    try:
        return run(work, options.size << 20, options.share)
    except CommandFailed as error:
        print(error, file=sys.stderr)
        return 1
    finally:
        shutil.rmtree(work, ignore_errors=True)


def run(work: Path, wanted: int, share: float) -> int:
    """Every tool's three backups, then the table."""
    folder = work / "source"
    folder.mkdir()
    dice = random.Random(5)
    make(folder / "big.db", wanted, dice)
    (work / "password").write_text("x\n")
    environment = {**os.environ, "HOME": str(work), "TMPDIR": str(work), "RESTIC_PASSWORD_FILE": str(work / "password")}
    environment.pop("RESTIC_PASSWORD", None)
    tools = {"holdfast": [*holdfast_command(), "--vault", str(work / "vault")]}
    if shutil.which("restic"):
        tools["restic"] = ["restic", "--cache-dir", str(work / "cache"), "-r", str(work / "repository")]
    figures: dict[str, list[tuple[Measurement, int]]] = {name: [] for name in tools}
    for name, command in tools.items():
        # the vault's commands take their options behind the command
        first, rest = (command[:1], command[1:]) if name == "restic" else (command[:-2], command[-2:])
        measure([*first, *(["init"] if name == "holdfast" else []), *rest, *(["init"] if name == "restic" else [])],
                env=environment, cwd=work, log=work / "log")  # fmt: skip
    pages = 0
    for turn in ("first", "unchanged", "changed"):
        if turn == "changed":
            pages = change(folder / "big.db", share, dice)
        for name, command in tools.items():
            place = work / ("repository" if name == "restic" else "vault")
            before = used(place)
            words = [*command, "backup", str(folder)] if name == "restic" else [
                *command[:-2], "backup", str(folder), *command[-2:]]  # fmt: skip
            figures[name].append((measure(words, env=environment, cwd=work, log=work / "log"), used(place) - before))
    size = (folder / "big.db").stat().st_size
    print(f"SQLite database of {size / 2**20:.0f} MiB, {pages:,} of {size // 4096:,} pages changed")
    print(f"{'':12}{'first s':>10}{'unchanged':>12}{'changed':>10}{'stored for the change':>24}")
    for name, found in figures.items():
        walls = [figure.wall for figure, _ in found]
        stored = found[-1][1]
        print(
            f"{name:12}{walls[0]:10.2f}{walls[1]:12.2f}{walls[2]:10.2f}{stored / 2**20:14.1f} MiB {stored / size:6.2%}"
        )
    if shutil.which("restic"):
        checked = ["restic", "-r", str(work / "vault"), "--no-cache", "check", "--read-data"]
        measure(checked, env=environment, cwd=work, log=work / "log")
        print("restic check --read-data of Holdfast's vault: no errors")
    part = figures["holdfast"][-1][1] / size
    print(f"at most {MOST_STORED:.0%}: {'met' if part <= MOST_STORED else 'MISSED'}")
    return 0 if part <= MOST_STORED else 1


def make(path: Path, wanted: int, dice: random.Random) -> None:
    """A database of about ``wanted`` bytes that compresses to some half."""
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA page_size = 4096")
        database.execute("PRAGMA journal_mode = OFF")
        database.execute("CREATE TABLE rows (id INTEGER PRIMARY KEY, data TEXT)")
        for start in range(0, wanted // 1000, 10_000):
            count = min(10_000, wanted // 1000 - start)
            texts = dice.randbytes(count * _ROW // 2).hex()
            found = ((start + at, texts[at * _ROW : (at + 1) * _ROW]) for at in range(count))
            database.executemany("INSERT INTO rows VALUES (?, ?)", found)
        database.commit()


def change(path: Path, share: float, dice: random.Random) -> int:
    """Change one row in so many pages, all over the file; how many pages those are."""
    with closing(sqlite3.connect(path)) as database:
        (rows,) = database.execute("SELECT count(*) FROM rows").fetchone()
        (pages,) = database.execute("PRAGMA page_count").fetchone()
        count = round(pages * share)
        for row in dice.sample(range(rows), count):
            database.execute("UPDATE rows SET data = ? WHERE id = ?", (dice.randbytes(_ROW // 2).hex(), row))
        database.commit()
    return count


def used(place: Path) -> int:
    """Bytes of all files below."""
    done = subprocess.run(["du", "-sb", place], capture_output=True, text=True, check=True)
    return int(done.stdout.split()[0])


if __name__ == "__main__":
    sys.exit(main())
