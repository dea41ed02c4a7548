"""Which configuration file is meant, whether it may be trusted, and reading it when it is first needed."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from holdfast.config.paths import Paths
from holdfast.config.words import is_name
from holdfast.kernel.errors import Denied, NotFound

if TYPE_CHECKING:
    from holdfast.config.settings import NamedVault, Settings

FILE = "holdfast.yaml"
VARIABLE = "HOLDFAST_CONFIG"


def system_folder(platform: str = sys.platform) -> Path:
    """Where an administrator puts the configuration for everybody."""
    return Path("/Library/Application Support/holdfast" if platform == "darwin" else "/etc/holdfast")


class Configured:
    """The configuration of one run. The file is looked for and read when something in it is asked for, and once.

    It is, in this order: ``chosen`` (``--config``), ``$HOLDFAST_CONFIG``, ``holdfast.yaml`` in the working folder, in
    the user's configuration folder, in the system's.
    """

    def __init__(self, chosen: str | None, environ: Mapping[str, str]) -> None:
        self._chosen = chosen or environ.get(VARIABLE) or None
        self._environ = environ
        self._settings: Settings | None = None
        self._looked = False

    @property
    def user_file(self) -> Path:
        """The file that a new configuration is written to."""
        return self._named() or Paths.of(self._environ).config / FILE

    def find(self) -> Path | None:
        """The file that counts, if there is one. Raises ``Denied`` where it is not safe to use: it names commands that
        will run, so nobody else may be able to write it. A file that was named is used as it is."""
        named = self._named()
        if named is not None:
            return named
        for path in (Path(FILE), self.user_file, system_folder() / FILE):
            try:
                status = path.stat()
                path = path.absolute()
            except (FileNotFoundError, NotADirectoryError):
                continue
            except OSError as error:
                if str(path) == FILE:
                    continue  # a working folder that is closed to us, as after sudo -u, holds nothing of ours
                raise Denied(f"cannot read the configuration {path}: {error.strerror}") from error
            _refuse_foreign(path, status)
            return path
        return None

    @property
    def known(self) -> Settings | None:
        """What the file says, if it has been read by now."""
        return self._settings

    def settings(self) -> Settings | None:
        """What the file says; None without one. Raises ``Denied``, and ``Invalid`` with every mistake in it."""
        if not self._looked:
            path = self.find()
            if path is not None:
                from holdfast.config.load import load
                from holdfast.config.settings import Settings

                self._settings = Settings(load(path, self._environ))
            self._looked = True
        return self._settings

    def required(self) -> Settings:
        """The same. Raises ``NotFound`` without a file."""
        settings = self.settings()
        if settings is None:
            raise NotFound("there is no configuration file", hint="'holdfast config init' writes one.")
        return settings

    def vault(self, text: str | None) -> NamedVault | None:
        """The configured vault that ``text`` names, or the default one for None; None where a location is meant.

        A name wins over a folder of that name; what has a slash or a colon is never a name, and no file is read then.
        """
        if text is not None and not is_name(text):
            return None
        settings = self.settings()
        if settings is None:
            return None
        return settings.default_vault() if text is None else settings.vault(text)

    def plans(self) -> list[str]:
        """The names of all plans."""
        settings = self.settings()
        return [] if settings is None else settings.plan_names

    def _named(self) -> Path | None:
        return None if self._chosen is None else Path(os.path.expanduser(self._chosen)).absolute()


def _refuse_foreign(path: Path, status: os.stat_result) -> None:
    foreign = status.st_uid not in (0, os.geteuid())
    if not foreign and not (stat.S_ISREG(status.st_mode) and status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)):
        return
    why = "it belongs to another user" if foreign else "others may write to it"
    raise Denied(
        f"{path} is not used: {why}, and it can make Holdfast run commands",
        hint=f"'--config {path}' uses it nevertheless." if foreign else f"chmod go-w {path} mends that.",
    )
