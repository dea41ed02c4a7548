"""Use cases about the configuration file: write a first one, check it, show it without secrets."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from holdfast.app.context import Context
from holdfast.files.whole import cannot_write, create_file
from holdfast.kernel.errors import HoldfastError, Invalid, NotFound
from holdfast.kernel.values import dataclass

if TYPE_CHECKING:
    from holdfast.config.locate import Configured
    from holdfast.config.settings import Settings


@dataclass(frozen=True, slots=True)
class NewFile:
    """A first configuration: where, its text, and whether it was written."""

    path: Path
    text: str
    written: bool


@dataclass(frozen=True, slots=True)
class Checked:
    """A configuration without mistakes. ``notes`` are sentences about what it says and this version does not do."""

    path: Path
    vaults: tuple[str, ...]
    plans: tuple[str, ...]
    notes: tuple[str, ...]


def init_config(context: Context, *, dry_run: bool = False) -> NewFile:
    """Look around and write a commented configuration (0600, folders 0700) that :func:`check_config` accepts.

    Where: ``--config``, ``$HOLDFAST_CONFIG``, else the user's configuration folder. Raises ``Invalid`` where a file is
    there already: it is never overwritten. After a crash the file is absent or whole.
    """
    from holdfast.config.draft import draft
    from holdfast.config.load import check_text
    from holdfast.config.survey import look_around

    path = _configured(context).user_file
    if os.path.lexists(path) and not dry_run:
        raise _already(path)
    home = Path(os.path.expanduser("~"))
    paths = context.paths
    text = draft(look_around(home, context.clock), paths.default_vault, paths.default_key)
    check_text(text, path, context.environ)
    if not dry_run:
        _write_new(path, text.encode())
    return NewFile(path, text, not dry_run)


def check_config(context: Context) -> Checked:
    """Read and check the configuration. Raises ``Invalid`` with every mistake, ``NotFound`` without a file."""
    settings = context.required()
    for name in settings.plan_names:
        settings.plan(name)
    return Checked(settings.path, tuple(settings.vault_names), tuple(settings.plan_names), tuple(_notes(settings)))


def show_config(context: Context) -> tuple[Path, dict[str, Any]]:
    """The file and the effective configuration, JSON-ready and without secrets (see ``config.shown``)."""
    from holdfast.config.shown import shown

    settings = context.required()
    return settings.path, shown(settings.loaded)


def _configured(context: Context) -> Configured:
    if context.configured is None:
        raise NotFound("no configuration is used here")
    return context.configured


def _notes(settings: Settings) -> list[str]:
    configuration = settings.loaded.configuration
    plans = configuration.plans.values()
    notes = []
    if not configuration.notify.channels and any(
        plan.expect and (plan.expect.every or plan.expect.shrink) for plan in plans
    ):
        notes.append("Nobody is told when what expect says does not come true: notify has no channels.")
    other = [name for name, vault in configuration.vaults.items() if vault.kind not in _kinds()]
    if other:
        notes.append(
            f"This version cannot save into vaults of other kinds than {', '.join(_kinds())}: {', '.join(other)}."
        )
    return notes


def _kinds() -> list[str]:
    from holdfast.app.kinds import KINDS

    return list(KINDS)


def _already(path: Path) -> HoldfastError:
    return Invalid(
        f"there is a file at {path} already",
        hint="It is never overwritten. 'holdfast config check' looks at it; --config FILE writes another.",
    )


def _write_new(path: Path, content: bytes) -> None:
    """Make the file durably, for its owner only, if nothing is there."""
    try:
        create_file(path, content, 0o600)
    except FileExistsError:
        raise _already(path) from None
    except OSError as error:
        raise cannot_write(path, error) from error
