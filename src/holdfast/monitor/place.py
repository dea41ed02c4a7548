"""Where the monitor keeps its things, for scripts that import it alone."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path


def state_folder(environ: Mapping[str, str], platform: str = sys.platform) -> Path:
    """The state folder, by the rule of the command line; nothing is created by asking.

    ``$HOLDFAST_STATE_DIR`` as it stands, else ``holdfast`` beneath ``$XDG_STATE_HOME`` where that is absolute, else
    beneath ``~/.local/state`` (macOS: ``~/Library/Application Support``).
    """
    own = environ.get("HOLDFAST_STATE_DIR", "")
    if own:
        return Path(own).absolute()
    xdg = environ.get("XDG_STATE_HOME", "")
    if xdg.startswith("/"):
        return Path(xdg) / "holdfast"
    home = Path(environ.get("HOME") or os.path.expanduser("~"))
    if platform == "darwin":
        return home / "Library" / "Application Support" / "holdfast"
    return home / ".local" / "state" / "holdfast"


def outbox_folder(state: Path) -> Path:
    """Where facts wait for the journal."""
    return state / "outbox"


def journal_url(state: Path) -> str:
    """The journal of a machine that nobody told another one."""
    return f"sqlite:///{state / 'journal.db'}"


def status_folder(state: Path) -> Path:
    """Where the last word of every plan is left for anybody's dashboard."""
    return state / "status"
