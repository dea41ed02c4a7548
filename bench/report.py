"""What was measured, as a text table with ratios against restic and the targets, and as JSON."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

from datasets import Size
from measure import HOW_MEMORY, Measurement

OURS = "holdfast"
REFERENCE = "restic"
TITLES = {
    "first": "first backup",
    "nochange": "no change",
    "changed": "1 % changed",
    "restore": "restore",
    "check": "check --read-data",
}
MB = 1_000_000


@dataclass
class SetResult:
    """One data set: every measurement, by operation and tool, in the order of the rounds."""

    name: str
    title: str
    size: Size
    changed_files: int = 0
    figures: dict[str, dict[str, list[Measurement]]] = field(default_factory=dict)
    repository_bytes: dict[str, int] = field(default_factory=dict)

    def add(self, operation: str, tool: str, figures: Measurement) -> None:
        """Keeps one more measurement."""
        self.figures.setdefault(operation, {}).setdefault(tool, []).append(figures)

    def wall(self, operation: str, tool: str) -> float | None:
        """The median wall time in seconds, or None if it was not measured."""
        found = self.figures.get(operation, {}).get(tool)
        return median(one.wall for one in found) if found else None

    def cpu(self, operation: str, tool: str) -> float | None:
        """The median of user and system time in seconds, of the whole tree."""
        found = self.figures.get(operation, {}).get(tool)
        return median(one.cpu for one in found) if found else None

    def memory(self, tool: str) -> float | None:
        """The highest of the operations' median peaks, in bytes."""
        peaks = [
            median(peak for one in tools[tool] if (peak := one.peak_pss or one.max_rss))
            for tools in self.figures.values()
            if tools.get(tool)
        ]
        return max(peaks, default=None)

    def largest_process(self, tool: str) -> float | None:
        """The most resident memory (RSS) that any one process had, in bytes."""
        return max((one.max_rss for tools in self.figures.values() for one in tools.get(tool, [])), default=None)

    def rows(self, targets: dict[str, float]) -> Iterator[Row]:
        """One row an operation, then memory and repository size."""
        tools = {tool: None for by_tool in self.figures.values() for tool in by_tool}
        for operation in self.figures:
            values = {tool: self.wall(operation, tool) for tool in tools}
            yield Row(operation, TITLES[operation], "s", values, targets.get(operation))
        yield Row("memory", "peak memory", "MB", {tool: self.memory(tool) for tool in tools}, targets.get("memory"))
        sizes: dict[str, float | None] = dict(self.repository_bytes)
        yield Row("repository", "repository", "MB", sizes, targets.get("repository"))


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table: seconds, or bytes where the unit is MB."""

    key: str
    title: str
    unit: str
    values: dict[str, float | None]
    target: float | None

    def ratio(self, tool: str = OURS) -> float | None:
        """The share of the reference's figure; None where one of them is missing."""
        ours, reference = self.values.get(tool), self.values.get(REFERENCE)
        return ours / reference if ours is not None and reference else None


@dataclass
class Results:
    """Everything of one run."""

    machine: dict[str, object]
    versions: dict[str, str | None]
    settings: dict[str, object]
    failures: list[str]
    sets: list[SetResult] = field(default_factory=list)


def machine() -> dict[str, object]:
    """The machine, as far as it explains the figures."""
    model = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    return {
        "processor": model,
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
    }


def targets() -> dict[str, Any]:
    """What the project promises: see targets.json."""
    found: dict[str, Any] = json.loads((Path(__file__).parent / "targets.json").read_text())
    return found


def _promised(results: Results) -> dict[str, dict[str, float]]:
    """The targets by set; none for the small samples of a quick run, in which starting and key derivation are all."""
    found: dict[str, dict[str, float]] = {} if results.settings["quick"] else targets()["sets"]
    return found


def write_json(results: Results, path: Path) -> None:
    """Writes all medians, ratios and single measurements."""
    promised = _promised(results)
    document = {
        "machine": results.machine,
        "versions": results.versions,
        "settings": results.settings,
        "failures": results.failures,
        "memory": HOW_MEMORY,
        "sets": {made.name: _set_document(made, promised.get(made.name, {})) for made in results.sets},
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=1) + "\n")


def _set_document(made: SetResult, promised: dict[str, float]) -> dict[str, object]:
    rows = {
        row.key: {"unit": "s" if row.unit == "s" else "bytes", **row.values, "ratio": row.ratio(), "target": row.target}
        for row in made.rows(promised)
    }
    runs = {
        operation: {
            tool: [
                {"wall": one.wall, "user": one.user, "system": one.system, "pss": one.peak_pss, "rss": one.max_rss}
                for one in found
            ]
            for tool, found in tools.items()
        }
        for operation, tools in made.figures.items()
    }
    return {
        "title": made.title,
        "files": made.size.files,
        "bytes": made.size.bytes,
        "changed_files": made.changed_files,
        "rows": rows,
        "runs": runs,
    }


def print_table(results: Results) -> None:
    """The one table: a block a set, a column a tool, the ratio against restic and whether it meets its target."""
    promised = _promised(results)
    tools = list(results.versions)
    print(", ".join(f"{name.replace('_', ' ')}: {value}" for name, value in results.machine.items()))
    print(", ".join(f"{name}: {version}" for name, version in results.versions.items()))
    print(", ".join(f"{name}: {value}" for name, value in results.settings.items()))
    print(f"wall seconds, in brackets processor seconds; {HOW_MEMORY}, in brackets the largest process (RSS)")
    for made in results.sets:
        print(f"\n{made.name}: {made.title} ({made.size.files:,} files, {made.size.bytes / MB:,.0f} MB)")
        print(f"  {'':18}" + "".join(f"{tool:>19}" for tool in tools) + f"{'ratio':>9}{'target':>9}")
        for row in made.rows(promised.get(made.name, {})):
            cells = "".join(f"{_cell(made, row, tool):>19}" for tool in tools)
            print(f"  {row.title:18}{cells}{_number(row.ratio()):>9}{_number(row.target):>9}  {_verdict(row)}".rstrip())
    for failure in results.failures:
        print(f"\nFAILED {failure}")


def _cell(made: SetResult, row: Row, tool: str) -> str:
    value = row.values.get(tool)
    if value is None:
        return "-"
    if row.unit == "s":
        return f"{value:.2f} ({made.cpu(row.key, tool):.2f})"
    if row.key == "memory":
        return f"{value / MB:,.0f} ({(made.largest_process(tool) or 0) / MB:,.0f}) MB"
    return f"{value / MB:,.1f} MB"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _verdict(row: Row) -> str:
    ratio = row.ratio()
    if ratio is None or row.target is None:
        return ""
    return "met" if ratio <= row.target else "MISSED"
