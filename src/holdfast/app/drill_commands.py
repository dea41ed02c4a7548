"""The user's commands in the restored tree of a drill: each has to succeed in its time."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING

from holdfast.app.drill_results import CommandProof
from holdfast.kernel.errors import HoldfastError
from holdfast.kernel.events import Tick
from holdfast.vaults.base import SnapshotInfo

if TYPE_CHECKING:
    from holdfast.app.context import Context
    from holdfast.config.settings import CommandInTree

_TAIL = 2000
"""Bytes of a command's output that are kept."""


def run_commands(
    context: Context, root: bytes, snapshot: SnapshotInfo, plan: str, commands: Iterable[CommandInTree]
) -> list[CommandProof]:
    """Run them one after the other, whatever comes of each, in the deepest folder that holds everything that was saved.

    They see ``HOLDFAST_DRILL_ROOT`` (the root of the restored tree), ``HOLDFAST_SNAPSHOT``, ``HOLDFAST_PLAN``. Raises
    ``Cancelled``; what runs then is ended.
    """
    folder = _folder(root, snapshot)
    environ = {
        "HOLDFAST_DRILL_ROOT": os.fsdecode(root),
        "HOLDFAST_SNAPSHOT": snapshot.id.hex(),
        "HOLDFAST_PLAN": plan,
    }
    proofs: list[CommandProof] = []
    for command in commands:
        context.cancel.check()
        context.emit(Tick("commands", len(proofs), 0, current=command.name))
        proofs.append(_run(context, command, folder, environ))
    return proofs


def _run(context: Context, command: CommandInTree, folder: bytes, environ: dict[str, str]) -> CommandProof:
    from holdfast.sources.program import running

    words = ["/bin/sh", "-c", command.run] if isinstance(command.run, str) else list(command.run)
    began = context.clock.monotonic()
    tail, message = b"", ""
    try:
        with running(
            words, cancel=context.cancel, environ=environ, limit=command.timeout, name=command.name, folder=folder
        ) as run:
            while piece := os.read(run.fd, 65_536):
                tail = (tail + piece)[-_TAIL:]
            run.finish()
    except HoldfastError as error:
        message = error.message
    context.cancel.check()
    text = tail.decode("utf-8", "replace").strip()
    return CommandProof(command.name, not message, context.clock.monotonic() - began, text, message)


def _folder(root: bytes, snapshot: SnapshotInfo) -> bytes:
    """Where people's paths begin: the folder of what was saved, if that is one and it was restored."""
    paths = [os.fsencode(path) for path in snapshot.paths if not path.startswith("/.holdfast/")]
    try:
        place = root + b"/" + os.path.commonpath(paths).strip(b"/")
    except ValueError:
        return root
    return place if os.path.isdir(place) and not os.path.islink(place) else root
