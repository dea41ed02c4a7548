"""Small charts as SVG without any script: columns of runs by outcome, and a line; each says what it shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

WIDTH, HEIGHT = 320, 120
_TOP, _BOTTOM, _SIDE = 14, 22, 8
ORDER = ("ok", "partial", "failed", "cancelled")


def columns(label: str, counts: Sequence[Mapping[str, int]], names: Sequence[str]) -> str:
    """Stacked columns, one for each period. ``label`` is what a screen reader says; colours are classes of the page."""
    most = max((sum(count.values()) for count in counts), default=0) or 1
    step = (WIDTH - 2 * _SIDE) / max(len(counts), 1)
    parts = []
    for place, count in enumerate(counts):
        left, level = _SIDE + place * step, float(HEIGHT - _BOTTOM)
        told = ", ".join(f"{count[word]} {word}" for word in ORDER if count.get(word)) or "nothing ran"
        parts.append(f"<g><title>{escape(names[place])}: {escape(told)}</title>")
        # An area for the pointer that is there even where nothing ran.
        parts.append(f'<rect class="area" x="{left:.1f}" y="0" width="{step:.1f}" height="{HEIGHT}"/>')
        for word in ORDER:
            height = count.get(word, 0) / most * (HEIGHT - _TOP - _BOTTOM)
            if height:
                level -= height
                box = f'x="{left + step * 0.15:.1f}" y="{level:.1f}" width="{step * 0.7:.1f}" height="{height:.1f}"'
                parts.append(f'<rect class="{word}" {box}/>')
        total = sum(count.values())
        if total:
            parts.append(_words(left + step / 2, level - 3, f"{total:,}"))
        if place in (0, len(counts) - 1):
            anchor = "start" if place == 0 else "end"
            edge = _SIDE if place == 0 else WIDTH - _SIDE
            parts.append(_words(edge, HEIGHT - 6, names[place], anchor))
        parts.append("</g>")
    return _svg(label, "".join(parts))


def line(
    label: str, values: Sequence[float], first: str, last: str, *, top: float | None = None, peak: str = ""
) -> str:
    """A line through ``values``, from zero to ``top`` (their largest); ``first`` and ``last`` stand below its ends,
    ``peak`` at the top. A single value is a dot."""
    if not values:
        return ""
    most = max(top or 0.0, *values) or 1.0
    high, low = _TOP, HEIGHT - _BOTTOM
    step = (WIDTH - 2 * _SIDE) / max(len(values) - 1, 1)
    points = [(_SIDE + place * step, low - value / most * (low - high)) for place, value in enumerate(values)]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    parts = [
        f'<line class="axis" x1="{_SIDE}" y1="{low}" x2="{WIDTH - _SIDE}" y2="{low}"/>',
        f'<line class="grid" x1="{_SIDE}" y1="{high}" x2="{WIDTH - _SIDE}" y2="{high}"/>',
    ]
    if len(points) > 1:
        parts.append(f'<polygon class="fill" points="{_SIDE},{low} {path} {points[-1][0]:.1f},{low}"/>')
        parts.append(f'<polyline class="line" points="{path}"/>')
    x, y = points[-1]
    parts.append(f'<circle class="dot" cx="{x:.1f}" cy="{y:.1f}" r="3"/>')
    parts.append(_words(_SIDE, HEIGHT - 6, first, "start"))
    if len(points) > 1:
        parts.append(_words(WIDTH - _SIDE, HEIGHT - 6, last, "end"))
    if peak:
        parts.append(_words(_SIDE, high - 3, peak, "start"))
    return _svg(label, "".join(parts))


def _words(x: float, y: float, words: str, anchor: str = "middle") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(words)}</text>'


def _svg(label: str, inside: str) -> str:
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" role="img" '
        f'aria-label="{escape(label, quote=True)}">{inside}</svg>'
    )
