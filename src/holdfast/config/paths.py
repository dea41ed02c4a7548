"""Where Holdfast keeps things on this machine: config, data, cache and state folders, the default vault and its key."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from holdfast.kernel.values import dataclass


@dataclass(frozen=True, slots=True)
class Paths:
    """The four folders. Nothing is created by asking.

    Each is, in this order: ``$HOLDFAST_CONFIG_DIR`` (``_DATA_``, ``_CACHE_``, ``_STATE_``) as it stands; ``holdfast``
    beneath ``$XDG_CONFIG_HOME`` and its siblings where set to an absolute path; beneath the folders of the XDG Base
    Directory Specification, or of ``~/Library`` on macOS.
    """

    config: Path
    data: Path
    cache: Path
    state: Path

    @property
    def default_vault(self) -> Path:
        """The vault that is used where none is named."""
        return self.data / "vault"

    @property
    def default_key(self) -> Path:
        """The generated key file of the default vault."""
        return self.config / "vault.key"

    @classmethod
    def of(cls, environ: Mapping[str, str], platform: str = sys.platform) -> Paths:
        """The folders that ``environ`` asks for on ``platform`` (a value of ``sys.platform``)."""
        home = Path(environ.get("HOME") or os.path.expanduser("~"))
        if platform == "darwin":
            support = home / "Library" / "Application Support"
            fallback = {"CONFIG": support, "DATA": support, "CACHE": home / "Library" / "Caches", "STATE": support}
        else:
            local = home / ".local"
            fallback = {
                "CONFIG": home / ".config",
                "DATA": local / "share",
                "CACHE": home / ".cache",
                "STATE": local / "state",
            }

        def folder(what: str) -> Path:
            own = environ.get(f"HOLDFAST_{what}_DIR", "")
            if own:
                return Path(own).absolute()
            xdg = environ.get(f"XDG_{what}_HOME", "")
            # The specification says that a relative path is invalid and must be ignored.
            base = Path(xdg) if xdg.startswith("/") else fallback[what]
            return base / "holdfast"

        return cls(folder("CONFIG"), folder("DATA"), folder("CACHE"), folder("STATE"))
