"""Values that commands take: sizes, times, parts of a vault, snapshots."""

from __future__ import annotations

import contextlib
import math
import os
import re
import time
from typing import TYPE_CHECKING, Any

import click

from holdfast.config import words
from holdfast.kernel.values import dataclass

if TYPE_CHECKING:
    from holdfast.vaults.drill.model import Sample
    from holdfast.vaults.retention import Span


class Size(click.ParamType[int]):
    """Bytes: ``10M`` and ``10MiB`` are 10 * 1024 * 1024, ``10MB`` is 10,000,000 (as GNU tools have it)."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        try:
            return words.size(str(value))
        except ValueError:
            self.fail(f"{value!r} is not a size. Write for example 500K, 10M or 1.5G.", param, ctx)


_AGE = re.compile(r"([0-9]+(?:\.[0-9]+)?)(s|min|h|d|w|m|y)")
_SECONDS = {"s": 1, "min": 60, "h": 3600, "d": 86400, "w": 7 * 86400, "m": 30 * 86400, "y": 365 * 86400}
_FAREST = 2**63 - 1
"""Nanoseconds: as much as a column of the journal, or 292 years."""
_DATES = ("%Y-%m-%d", "%Y-%m-%d %H:%M", "%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S")


class When(click.ParamType[int]):
    """An instant, as nanoseconds since 1970 UTC: a local date and time, or an age such as ``36h``, ``2w``, ``1y``."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        instant = self._instant(str(value).strip())
        if instant is not None and abs(instant) <= _FAREST:
            return int(instant)
        if instant is not None:
            self.fail(f"{value!r} is too far away. Write a time between the years 1680 and 2260.", param, ctx)
        self.fail(
            f"{value!r} is not a time. Write for example 2026-11-21, '2026-11-21 18:30', 36h, 2w or 1y.", param, ctx
        )

    def _instant(self, text: str) -> float | None:
        age = _AGE.fullmatch(text)
        if age is not None:
            seconds = float(age[1]) * _SECONDS[age[2]]
            return time.time_ns() - int(seconds * 1e9) if seconds < 1e10 else -math.inf
        for form in _DATES:
            with contextlib.suppress(ValueError, OverflowError):
                return int(time.mktime(time.strptime(text, form))) * 1_000_000_000
        return None


class SpanOfTime(click.ParamType["Span"]):
    """A length of time on the calendar, as restic writes it: ``1y5m7d2h``; ``w`` is 7 days."""

    name = "span"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Span:
        from holdfast.vaults.retention import Span

        if isinstance(value, Span):
            return value
        try:
            return words.span(str(value).strip())
        except ValueError:
            self.fail(f"{value!r} is not a span of time. Write for example 36h, 14d, 2w, 6m or 1y5m7d2h.", param, ctx)


class Duration(click.ParamType[float]):
    """Seconds: ``90s``, ``5m``, ``1h30m``, ``2d``."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, (int, float)):
            return float(value)
        try:
            return words.seconds(str(value).strip())
        except ValueError:
            self.fail(f"{value!r} is not a duration. Write for example 30s, 5m or 1h30m.", param, ctx)


@dataclass(frozen=True, slots=True)
class Part:
    """Which part of the packs ``--read-data`` means: n of t, a percentage, or everything."""

    part: tuple[int, int] | None = None
    percent: float | None = None


class ReadData(click.ParamType[Part]):
    """``all``, ``5%`` or ``3/10``."""

    name = "part"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Part:
        text = str(value).strip()
        if text == "all":
            return Part()
        share = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)%", text)
        if share is not None and 0 < float(share[1]) <= 100:
            return Part(percent=float(share[1]))
        part = re.fullmatch(r"([0-9]{1,3})/([0-9]{1,3})", text)
        if part is not None and 1 <= int(part[1]) <= int(part[2]) <= 256:
            return Part(part=(int(part[1]), int(part[2])))
        self.fail(
            f"{value!r} is not a part. Write --read-data, --read-data=5% or --read-data=3/10 (at most of 256).",
            param,
            ctx,
        )


class SnapshotId(click.ParamType[str]):
    """``latest``, or the first digits of an id."""

    name = "snapshot"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        text = str(value)
        if text != "latest" and re.fullmatch(r"[0-9a-fA-F]{1,64}", text) is None:
            self.fail(
                f"{text!r} is not a snapshot. Write latest or the first digits of an id ('holdfast snapshots').",
                param,
                ctx,
            )
        return text.lower()


class DrillSnapshot(SnapshotId):
    """As :class:`SnapshotId`, or ``random``."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        return "random" if str(value) == "random" else super().convert(value, param, ctx)


class SampleOfFiles(click.ParamType["Sample"]):
    """``5%`` or ``20G``."""

    name = "sample"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Sample:
        from holdfast.vaults.drill.model import Sample

        if isinstance(value, Sample):
            return value
        try:
            return words.sample(str(value).strip())
        except ValueError:
            self.fail(f"{value!r} is not a share or a size. Write for example 5% or 20G.", param, ctx)


class SnapshotPath(click.ParamType[tuple[str, bytes]]):
    """``SNAPSHOT`` or ``SNAPSHOT:PATH`` as a pair; the path is bytes and empty where none is given."""

    name = "snapshot"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, bytes]:
        if isinstance(value, tuple):
            return value
        identifier, _, path = str(value).partition(":")
        return SNAPSHOT_ID.convert(identifier, param, ctx), os.fsencode(path)


SIZE, WHEN, READ_DATA, SNAPSHOT_ID, SNAPSHOT = Size(), When(), ReadData(), SnapshotId(), SnapshotPath()
SPAN, DURATION = SpanOfTime(), Duration()
DRILL_SNAPSHOT, SAMPLE = DrillSnapshot(), SampleOfFiles()
RAW_PATH = click.Path(path_type=bytes, readable=False)
"""A path as bytes. Not looked at here: what cannot be read is for the command to tell, and its exit code."""
