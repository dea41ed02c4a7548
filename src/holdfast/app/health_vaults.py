"""Health checks of vaults: whether each opens and has room, and whether its key would survive this disk."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from holdfast.app.exported import exported_keys
from holdfast.app.health_plans import NO_JOURNAL, room
from holdfast.app.health_scene import DAY_NS, Probe, Scene
from holdfast.config.secrets import TOO_OPEN_MODES
from holdfast.kernel.errors import Denied, Invalid, NotFound
from holdfast.monitor.forecast import forecast
from holdfast.monitor.health import Check, Finding, failed, passed, skipped, warned
from holdfast.monitor.report.words import duration, plural, safe, size

SOON_DAYS = 3


def vault_checks(scene: Scene) -> Iterator[Check]:
    """Every check of this module."""
    limit = scene.choice.limit
    for name, probe in scene.probes.items():
        # Twice: a server that has to wake up answers the second question, and deriving a key takes its time.
        title = probe.title
        yield Check(f"vault:{title}", partial(_opens, scene, probe), limit * 2)
        yield Check(f"space:{title}", partial(_space, scene, probe), limit)
        yield Check(f"forecast:{title}", partial(_forecast, scene, name), limit)
        yield Check(f"key:{title}", partial(_key, scene, probe), limit * 2)


def _is_absent(scene: Scene, probe: Probe) -> bool:
    """Whether it is the default vault, which nobody configured and nothing was saved into yet."""
    return scene.settings is None and probe.context.chosen is None and not scene.context.paths.default_vault.exists()


def _opens(scene: Scene, probe: Probe) -> Finding:
    if _is_absent(scene, probe):
        return skipped("there is no vault yet", "'holdfast backup PATH' makes one.")
    try:
        seen = probe.look()
    except NotFound as error:
        return failed(error.message, error.hint, critical=True)
    except Invalid as error:
        if error.message.startswith("no password"):
            return warned(f"{error.message} that can be had without a person", error.hint)
        return failed(error.message, error.hint)
    except Denied as error:
        return failed(error.message, error.hint, critical=True)
    return passed(f"it opens and holds {plural(len(seen.snapshots), 'snapshot')}")


def _space(scene: Scene, probe: Probe) -> Finding:
    if _is_absent(scene, probe):
        return skipped("there is no vault yet")
    folder = probe.place()[0]
    if folder is None:
        return skipped("the vault is not on a disk of this machine")
    try:
        return room(scene, folder, written=True)
    except OSError as error:
        where = safe(os.fsdecode(folder))
        return failed(f"{where}: {error.strerror}", "Is its disk mounted?")


def _forecast(scene: Scene, name: str) -> Finding:
    if scene.past is None:
        return skipped(NO_JOURNAL)
    points = scene.past.spaces.get(name, ())
    found = forecast(points, scene.now_ns)
    if found is None:
        return skipped("too few days with figures for a forecast")
    left = found.days_left(scene.now_ns)
    if left is None:
        return passed("it does not fill up")
    words = f"at {size(found.per_day)} a day it is full in {duration(max(left, 0.0) * 86400)}"
    action = "Keep less ('keep' in the plan), run 'holdfast prune', or give it a larger disk."
    if left <= SOON_DAYS:
        return failed(words, action)
    if left * DAY_NS <= scene.choice.forecast * 1e9:
        return warned(words, action)
    return passed(words)


def _key(scene: Scene, probe: Probe) -> Finding:
    """A vault whose only key burns with the disk that it protects protects nothing."""
    context = probe.context
    if _is_absent(scene, probe):
        return skipped("there is no vault yet")
    named = context.named
    if named is not None and named.kind != "archive":
        return skipped(f"a {named.kind} vault has no key")
    export = f"holdfast key export --vault {probe.name} FILE" if named is not None else "holdfast key export FILE"
    notes = exported_keys(context.paths.state)
    try:
        seen = probe.look()
    except Exception:
        # Why it does not open is said by its own check; then the place tells which vault it is.
        place = probe.place()[1]
        note = next((note for note in notes.values() if note.location == place), None)
        changed = False
    else:
        if seen.kind != "archive":
            return skipped(f"a {seen.kind} vault has no key")
        note = notes.get(seen.vault_id)
        changed = note is not None and note.key_id != seen.key_id
    path = _key_file(probe)
    if path is not None:
        trouble = _file_trouble(path)
        if trouble is not None:
            return trouble
    if changed:
        return warned("the key has changed since it was exported", export)
    if note is not None:
        return passed(f"the key was exported on {note.at[:10]}")
    if path is None:
        return skipped("no key file: see that the password can be had when this machine is gone", export)
    if _shares_disk(scene, path):
        return warned(
            f"the key {safe(str(path))} was never exported, and may live only on the disk it protects", export
        )
    return passed("the key file can be read, and is on another disk than what is saved")


def _key_file(probe: Probe) -> Path | None:
    """The file that the password is read from, if it is a file."""
    context = probe.context
    named = context.named
    choice = context.password if context.password or named is None else named.password
    if choice.file is not None:
        return Path(os.path.expanduser(choice.file))
    if choice or any(context.environ.get(f"HOLDFAST_PASSWORD{end}") for end in ("", "_COMMAND")):
        return None
    if said := context.environ.get("HOLDFAST_PASSWORD_FILE"):
        return Path(os.path.expanduser(said))
    return context.key_file


def _file_trouble(path: Path) -> Finding | None:
    where = safe(str(path))
    try:
        with open(path, "rb") as file:
            status = os.fstat(file.fileno())
            if stat.S_ISREG(status.st_mode) and not file.read(1):
                return failed(f"the key file {where} is empty", "Bring it back from where it was exported to.")
    except OSError as error:
        action = "Without it nobody can read the vault: bring it back, or mend its permissions."
        return failed(f"the key file {where} cannot be read: {error.strerror}", action, critical=True)
    if stat.S_ISREG(status.st_mode) and status.st_mode & TOO_OPEN_MODES:
        return warned(f"others on this machine may read the key file {where}", f"chmod 600 {where}")
    return None


def _shares_disk(scene: Scene, path: Path) -> bool:
    """Whether the key is on a disk that a plan saves from; without plans, it is taken to be."""
    device = path.stat().st_dev
    sources = [source for plan in scene.plans for source in (*plan.paths, *plan.optional)]
    for source in sources:
        try:
            if os.stat(source).st_dev == device:
                return True
        except OSError:
            continue
    return not sources
