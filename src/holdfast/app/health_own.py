"""Health checks that the user asked for: whether git work trees are clean, and commands of the user's own."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from holdfast.app.health_scene import Scene
from holdfast.monitor.health import Check, Finding, failed, passed, skipped, warned
from holdfast.monitor.masking import mask
from holdfast.monitor.report.words import plural, safe

if TYPE_CHECKING:
    from holdfast.config.healthsettings import OwnCommand
    from holdfast.config.settings import NamedPlan

KEPT_BYTES = 4096
MOST_TREES = 200
SHOWN_TREES = 3
_GRACE_SECONDS = 5.0


def own_checks(scene: Scene) -> Iterator[Check]:
    """Every check of this module."""
    if scene.choice.git:
        for plan in scene.plans:
            yield Check(f"git:{plan.name}", partial(_git, scene, plan), scene.choice.limit)
    for own in scene.choice.own:
        # It ends the command by itself; the limit around it is for what cannot even be ended.
        yield Check(f"own:{own.name}", partial(_own, scene, own), own.timeout + _GRACE_SECONDS)


def _own(scene: Scene, own: OwnCommand) -> Finding:
    words: Sequence[str] = ("/bin/sh", "-c", own.run) if isinstance(own.run, str) else own.run
    environ = {**scene.context.environ, "HOLDFAST_CHECK": own.name}
    code, output = run_bounded(words, own.timeout, environ)
    lines = [line for line in output.splitlines() if line.strip()]
    said = safe(mask(lines[-1])) if lines else ""
    if code == 0:
        return passed(said or "all is well, it says")
    why = f"it did not end within {own.timeout:g} s" if code is None else _ended(code)
    message = f"{why}: {said}" if said else why
    action = f"It is the command 'own: {own.name}' in 'health' of the configuration."
    return warned(message, action) if own.optional else failed(message, action)


def _ended(code: int) -> str:
    return f"it was killed by signal {-code}" if code < 0 else f"exit code {code}"


def run_bounded(
    words: Sequence[str], limit: float, environ: dict[str, str], folder: str | bytes | None = None
) -> tuple[int | None, str]:
    """Run a command; returns its exit code (None: it was ended after ``limit`` seconds) and the end of what it printed.

    It gets no input. It and what it started in its process group are killed after the limit, and what is left of the
    group when it has ended. A command that cannot run has the code 127 and says why.
    """
    try:
        process = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=environ,
            cwd=folder,
            start_new_session=True,
        )
    except (OSError, ValueError) as error:
        return 127, f"cannot run {os.path.basename(words[0])}: {getattr(error, 'strerror', None) or error}"
    assert process.stdout is not None
    kept = b""
    until = time.monotonic() + limit
    try:
        with process.stdout as pipe:
            while (left := until - time.monotonic()) > 0:
                if not select.select([pipe], [], [], min(left, 0.1))[0]:
                    if process.poll() is not None:
                        break  # what it left behind holds the pipe, and is not waited for
                    continue
                piece = os.read(pipe.fileno(), 65536)
                if not piece:
                    break
                kept = (kept + piece)[-KEPT_BYTES:]
        with suppress(subprocess.TimeoutExpired):
            process.wait(max(until - time.monotonic(), 0.0))
        code = process.poll()
    finally:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    return code, kept.decode("utf-8", "replace")


def _git(scene: Scene, plan: NamedPlan) -> Finding:
    trees = list(_work_trees(plan))
    if not trees:
        return skipped("no git work tree is among the paths")
    environ = {name: value for name, value in scene.context.environ.items() if not name.startswith("GIT_")}
    # A repository names programs in its own configuration: this one runs at every status.
    words = ("git", "--no-optional-locks", "-c", "core.fsmonitor=false", "status", "--porcelain", "-uall")
    dirty, unread = [], []
    until = time.monotonic() + scene.choice.limit * 0.8
    for tree in trees:
        left = until - time.monotonic()
        code, output = run_bounded(words, left, environ, tree) if left > 0 else (None, "")
        name = safe(os.fsdecode(tree))
        if code != 0:
            unread.append(name)
        elif output.strip():
            dirty.append(name)
    if dirty:
        return warned(f"{plural(len(dirty), 'work tree')} with changes: {_few(dirty)}", "Commit them, and push.")
    if unread:
        return warned(f"{plural(len(unread), 'work tree')} could not be looked at: {_few(unread)}", "Try 'git status'.")
    return passed(f"{plural(len(trees), 'work tree')}, all clean")


def _few(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN_TREES:,} more" if len(names) > SHOWN_TREES else ""
    return ", ".join(names[:SHOWN_TREES]) + more


def _work_trees(plan: NamedPlan) -> Iterator[bytes]:
    """The paths of the plan that are work trees, and those one and two levels below them; at most 200."""
    count = 0
    level = [path for path in (*plan.paths, *plan.optional) if os.path.isdir(path)]
    for depth in range(3):
        below: list[bytes] = []
        for folder in level:
            if os.path.lexists(os.path.join(folder, b".git")):
                yield folder
                count += 1
                if count >= MOST_TREES:
                    return
            elif depth < 2:
                with suppress(OSError), os.scandir(folder) as entries:
                    below += sorted(entry.path for entry in entries if entry.is_dir(follow_symlinks=False))
        level = below


__all__ = ["own_checks", "run_bounded"]
