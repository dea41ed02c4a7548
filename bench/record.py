"""Measures what recording costs: a fact appended, facts taken into SQLite, many processes at once that lose none."""

from __future__ import annotations

import argparse
import multiprocessing
import shutil
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from holdfast.kernel.events import Fact
from holdfast.monitor.journal import Journal
from holdfast.monitor.outbox import Outbox

APPEND_MICROSECONDS = 100.0
DRAIN_A_SECOND = 20_000.0


def main() -> int:
    """Prints the figures; 1 if a target is missed or a fact is lost."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--processes", type=int, default=20)
    parser.add_argument("--facts", type=int, default=10_000, help="by each process")
    parser.add_argument("--folder", type=Path, help="where; on the disk that is to be measured")
    options = parser.parse_args()
    work = Path(tempfile.mkdtemp(dir=options.folder))
    try:
        append = append_microseconds(work / "one")
        begin = time.perf_counter()
        together(work / "many", options.processes, options.facts)
        wall = time.perf_counter() - begin
        count, rate = drain(work / "many")
    finally:
        shutil.rmtree(work)
    wanted = options.processes * options.facts
    print(f"append, median   {append:10.1f} µs   target below {APPEND_MICROSECONDS:.0f}")
    print(f"append together  {wanted / wall:10,.0f} a second by {options.processes} processes")
    print(f"drain            {rate:10,.0f} a second   target {DRAIN_A_SECOND:,.0f}")
    print(f"lost or doubled  {wanted - count:10,}   of {wanted:,}")
    return int(append >= APPEND_MICROSECONDS or rate < DRAIN_A_SECOND or count != wanted)


def append_microseconds(folder: Path, count: int = 5000) -> float:
    """The median time of one append."""
    outbox = Outbox(folder)
    walls = []
    for number in range(count):
        fact = Fact("item.failed", "cannot read it", "warning", {"path": f"/some/folder/{number}", "during": "read"})
        begin = time.perf_counter()
        outbox.append(fact, run="01", operation="backup", plan="documents", vault="home")
        walls.append(time.perf_counter() - begin)
    return median(walls) * 1e6


def together(folder: Path, processes: int, facts: int) -> None:
    """Let so many processes append at once."""
    workers = [multiprocessing.Process(target=_append, args=(folder, facts)) for _ in range(processes)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()


def drain(folder: Path) -> tuple[int, float]:
    """How many facts came in, and how many a second."""
    with Journal.open(f"sqlite:///{folder / 'journal.db'}") as journal:
        begin = time.perf_counter()
        count = journal.drain(folder)
        return count, count / (time.perf_counter() - begin)


def _append(folder: Path, facts: int) -> None:
    outbox = Outbox(folder)
    for number in range(facts):
        outbox.append(Fact("item.failed", "cannot read it", "warning", {"path": f"/some/folder/{number}"}), run="01")


if __name__ == "__main__":
    sys.exit(main())
