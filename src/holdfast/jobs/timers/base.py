"""What is to be started and when, and what something that starts it has to be able to do."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from holdfast.files.whole import cannot_write, replace_file
from holdfast.kernel.errors import Unavailable
from holdfast.kernel.values import dataclass

CALL_SECONDS = 60
"""The longest that ``crontab``, ``systemctl`` and their like may take."""


@dataclass(frozen=True, slots=True)
class Timer:
    """One thing that is started by a schedule.

    ``name`` is made of letters, digits and ``:._-``; ``words`` is the command with an absolute path, ``environ`` what
    it needs in its environment; ``expression`` is cron's. ``jitter`` spreads the starts over so many seconds.
    """

    name: str
    about: str
    words: tuple[str, ...]
    environ: tuple[tuple[str, str], ...]
    expression: str
    jitter: int = 0


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose timers these are: ``mark`` tells those of one configuration from those of another; ``config`` is its
    path, for people. ``catch_up`` starts what was missed, where the starter itself cannot."""

    mark: str
    config: str
    catch_up: Timer


class Starter(Protocol):
    """Something on this machine that starts timers."""

    name: str

    def refuse(self) -> None:
        """Raise ``Unsupported``, ``Unavailable`` or ``Denied`` where it cannot be relied on here."""
        ...

    def texts(self, owner: Owner, timers: tuple[Timer, ...]) -> Mapping[str, str]:
        """Place -> text that has to be there for ``timers``. Raises ``Unsupported`` for what it cannot express."""
        ...

    def installed(self, owner: Owner) -> Mapping[str, str]:
        """Place -> text of what is there now of this owner."""
        ...

    def install(self, owner: Owner, timers: tuple[Timer, ...]) -> None:
        """Bring there exactly what :meth:`texts` says, and see that it counts; a failure leaves what was there before.

        No other owner's text, and nobody's else, changes by a byte.
        """
        ...

    def uninstall(self, owner: Owner) -> None:
        """Take away what :meth:`installed` tells."""
        ...

    def remarks(self) -> tuple[str, ...]:
        """Sentences that a person should know about who starts the timers, such as that only logged-in users count."""
        ...


def call(*words: str, data: bytes | None = None) -> subprocess.CompletedProcess[bytes]:
    """Run a program of the system, with a time limit. Raises ``Unavailable`` where it is missing or hangs."""
    environ = {**os.environ, "LC_ALL": "C"}
    try:
        return subprocess.run(
            words,
            input=data,
            stdin=subprocess.DEVNULL if data is None else None,
            capture_output=True,
            timeout=CALL_SECONDS,
            check=False,
            env=environ,
        )
    except FileNotFoundError:
        raise Unavailable(f"{words[0]} is not installed") from None
    except OSError as error:
        raise Unavailable(f"{words[0]} cannot run: {error.strerror}") from error
    except subprocess.TimeoutExpired:
        raise Unavailable(f"{words[0]} did not answer within {CALL_SECONDS} seconds") from None


def said(done: subprocess.CompletedProcess[bytes]) -> str:
    """What the program complained of, in one line."""
    text = (done.stderr or done.stdout).decode(errors="replace")
    return " ".join(text.split())[:400] or f"exit code {done.returncode}"


class Files:
    """Files of ours among those of others in one folder: all of them replaced, or none."""

    def __init__(self, folder: Path, begin: str, ends: tuple[str, ...]) -> None:
        self.folder = folder
        self._begin = begin
        self._ends = ends

    def read(self) -> dict[str, str]:
        """Path -> text of those that are there."""
        found = {}
        with suppress(FileNotFoundError, NotADirectoryError):
            for name in sorted(os.listdir(self.folder)):
                path = self.folder / name
                if name.startswith(self._begin) and name.endswith(self._ends) and path.is_file():
                    found[str(path)] = path.read_text(encoding="utf-8", errors="surrogateescape")
        return found

    def write(self, texts: Mapping[str, str]) -> None:
        """Make the files exactly ``texts``: each atomically and durably, what is no longer wanted last.

        Raises ``Denied``, ``NoSpace``. After a crash some files may be the old ones; writing again mends that.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            for path, text in texts.items():
                replace_file(Path(path), text.encode("utf-8", "surrogateescape"), 0o644)
            for path in self.read():
                if path not in texts:
                    os.unlink(path)
        except OSError as error:
            raise cannot_write(self.folder, error) from error
