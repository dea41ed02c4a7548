"""Health checks of what starts by itself: whether it is installed as the configuration says, and does start."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from holdfast.app.health_scene import Scene
from holdfast.monitor.health import Check, Finding, failed, passed, skipped, warned
from holdfast.monitor.report.words import plural


def schedule_checks(scene: Scene) -> Iterator[Check]:
    """Every check of this module."""
    yield Check("schedule", partial(_schedule, scene), scene.choice.limit)


def _schedule(scene: Scene) -> Finding:
    from holdfast.app.fire import missed
    from holdfast.app.schedules import drift, works

    if scene.settings is None:
        return skipped("there is no configuration")
    planned = [work for work in works(scene.settings) if work.plan]
    if not planned:
        return skipped("no plan has a schedule", "\"schedule: '10 2 * * *'\" in a plan gives it one.")
    wrong = drift(scene.context)
    if wrong is None:
        what = plural(len(planned), "thing of the plans has a schedule", "things of the plans have schedules")
        return warned(f"{what}, and nothing is installed that starts any", "holdfast schedule install")
    if wrong:
        return failed(wrong, "holdfast schedule install")
    late = [work.name for work in missed(scene.context)]
    if late:
        message = f"{', '.join(late[:5])}{' ...' if len(late) > 5 else ''}: due, and did not start"
        return failed(message, "holdfast schedule catch-up")
    return passed(f"installed as the configuration says; {plural(len(planned), 'start')} of plans among it")
