"""Draws the results as an SVG bar chart that reads well on light and on dark pages."""

from __future__ import annotations

from html import escape
from pathlib import Path

from report import OURS, REFERENCE, TITLES, Results, SetResult

WIDTH = 860
LABELS = 150  # left of the bars
SCALE = 300  # pixels for restic's time: the bars of all tools are drawn as a share of it
LONGEST = 560  # a bar that would be longer is cut off and shows an arrow; its figure is written beside it
BAR, GAP, OPERATION_GAP = 11, 2, 9

# One middle tone each, with enough contrast on white and on GitHub's dark grey alike; the text follows the page.
STYLE = """
  text { font: 12px system-ui, -apple-system, "Segoe UI", sans-serif; fill: #1f2328 }
  .title { font-size: 16px; font-weight: 600 } .set { font-size: 13px; font-weight: 600 }
  .small { font-size: 11px; fill: #59636e } .figure { font-size: 10.5px; fill: #59636e }
  .ours { font-weight: 600 }
  .holdfast { fill: #1a9c74 } .restic { fill: #8c959f } .borg { fill: #c3a05a }
  .line { stroke: #8c959f; stroke-dasharray: 2 3 }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3 } .small, .figure { fill: #9ba5b0 } .holdfast { fill: #2fbf92 } .borg { fill: #b8944e }
  }
"""


def write_chart(results: Results, path: Path) -> None:
    """Writes the chart: a panel a data set, a group of bars an operation, a bar a tool; shorter is faster."""
    tools = list(results.versions)
    parts: list[str] = []
    top = _heading(parts, results, tools)
    for made in results.sets:
        top = _panel(parts, made, tools, top)
    height = top + 6
    summary = "Wall time of " + ", ".join(tools) + " by data set and operation, as a share of restic's"
    document = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}" '
        f'role="img" aria-label="{escape(summary)}">\n<style>{STYLE}</style>\n' + "\n".join(parts) + "\n</svg>\n"
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(document)


def _heading(parts: list[str], results: Results, tools: list[str]) -> int:
    about = results.machine
    conditions = (
        f"median of {results.settings['runs']}, cache {results.settings['cache']}, {about['cores']} cores "
        f"({about['processor']}), {about['date']}"
    )
    parts.append(_text(0, 18, "Time as a share of restic's: shorter is faster", "title"))
    parts.append(_text(0, 37, conditions, "small"))
    left = 0
    for tool in tools:
        parts.append(f'<rect class="{tool}" x="{left}" y="49" width="11" height="11" rx="2"/>')
        label = _version(tool, results.versions[tool])
        parts.append(_text(left + 16, 59, label))
        left += 40 + 7 * len(label)
    return 68


def _version(tool: str, said: str | None) -> str:
    number = next((word for word in (said or "").replace(",", " ").split() if word[0].isdigit()), "")
    return f"{tool} {number}".strip()


def _panel(parts: list[str], made: SetResult, tools: list[str], top: int) -> int:
    top += 24
    parts.append(_text(0, top, f"{made.title}: {made.size.files:,} files, {made.size.bytes / 1e6:,.0f} MB", "set"))
    top += 10
    begin = top
    for operation in made.figures:
        reference = made.wall(operation, REFERENCE)
        if not reference:
            continue
        group = len(tools) * (BAR + GAP)
        parts.append(_text(LABELS - 10, top + group // 2 + 3, TITLES[operation], anchor="end"))
        for tool in tools:
            wall = made.wall(operation, tool)
            if wall is not None:
                parts.append(_bar(tool, top, wall, reference))
            top += BAR + GAP
        top += OPERATION_GAP
    line = LABELS + SCALE
    parts.append(f'<line class="line" x1="{line}" x2="{line}" y1="{begin - 3}" y2="{top - OPERATION_GAP + 2}"/>')
    return top


def _bar(tool: str, top: int, wall: float, reference: float) -> str:
    share = wall / reference
    width = max(1.0, min(share * SCALE, LONGEST))
    figure = f"{wall:.2f} s"
    if tool != REFERENCE:
        figure += f"  ({share:.2f})"
    if share * SCALE > LONGEST:
        figure = f"\N{RIGHTWARDS ARROW} {figure}"
    kind = "figure ours" if tool == OURS else "figure"
    end = LABELS + width
    return (
        f'<rect class="{tool}" x="{LABELS}" y="{top}" width="{width:.1f}" height="{BAR}" rx="2"/>'
        f'<text class="{kind}" x="{end + 5:.1f}" y="{top + BAR - 2}">{escape(figure)}</text>'
    )


def _text(left: int, baseline: int, content: str, kind: str = "", anchor: str = "start") -> str:
    style = f' class="{kind}"' if kind else ""
    place = f' text-anchor="{anchor}"' if anchor != "start" else ""
    return f'<text{style} x="{left}" y="{baseline}"{place}>{escape(content)}</text>'
