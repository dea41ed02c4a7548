"""The installed command as a child process, in a home of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

SOURCE = Path(__file__).parents[2] / "src"
SCRIPT = Path(sys.executable).parent / "holdfast"


@dataclass(frozen=True)
class Done:
    """What a command printed and how it ended."""

    code: int
    out: str
    err: str

    @property
    def events(self) -> list[dict[str, Any]]:
        """Every line of standard output as JSON."""
        return [json.loads(line) for line in self.out.splitlines()]

    @property
    def summary(self) -> dict[str, Any]:
        """The last event."""
        last = self.events[-1]
        assert last["event"] == "summary", last
        return last


class Cli:
    """``cli("backup", path)`` runs ``holdfast backup PATH`` with nothing of the user's environment."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.environ = {
            "HOME": str(home),
            "PATH": os.environ.get("PATH", os.defpath),
            "LANG": "C.UTF-8",
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        # Of several checkouts, the tests' own runs: as it does for whoever says so on their own command line.
        if os.environ.get("PYTHONPATH"):
            self.environ["PYTHONPATH"] = os.environ["PYTHONPATH"]
        # Where the package is not installed (a checkout without make install) the module is the same program.
        self.words = [str(SCRIPT)] if SCRIPT.exists() else [sys.executable, "-m", "holdfast"]
        if not SCRIPT.exists() or "PYTHONPATH" in os.environ:  # such as a work tree beside the installed one
            self.environ["PYTHONPATH"] = str(SOURCE)

    def __call__(self, *words: str | bytes | Path, stdin: bytes = b"", cwd: Path | None = None, **environ: str) -> Done:
        done = subprocess.run(
            [*self.words, *map(os.fspath, words)],
            input=stdin,
            capture_output=True,
            env={**self.environ, **environ},
            cwd=cwd or self.home,
            timeout=120,
            check=False,
        )
        out, err = done.stdout.decode("utf-8", "surrogateescape"), done.stderr.decode("utf-8", "surrogateescape")
        if environ.get("HOLDFAST_DEBUG") != "1":
            assert "Traceback" not in err, err
        return Done(done.returncode, out, err)

    @property
    def default_vault(self) -> Path:
        """Where the default vault is made."""
        return self.home / ".local/share/holdfast/vault"

    @property
    def default_key(self) -> Path:
        """Where its key file is made."""
        return self.home / ".config/holdfast/vault.key"


def read_terminal(controller: int) -> bytes:
    """All that was written to a terminal until its other side is closed; closes it."""
    said = b""
    while True:
        try:
            piece = os.read(controller, 65536)
        except OSError:  # how a Linux terminal says that the other side is closed
            break
        if not piece:
            break
        said += piece
    os.close(controller)
    return said


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    """The command, with an empty home folder."""
    home = tmp_path / "home"
    home.mkdir()
    return Cli(home)


@pytest.fixture
def documents(tmp_path: Path) -> Path:
    """A small folder worth saving."""
    folder = tmp_path / "documents"
    (folder / "letters").mkdir(parents=True)
    (folder / "notes.txt").write_text("first line\nsecond line\n")
    (folder / "letters" / "ada.txt").write_text("Dear Ada\n")
    (folder / "letters" / "bob.txt").write_text("Dear Bob\n")
    (folder / "link").symlink_to("notes.txt")
    return folder


def contents(root: Path) -> dict[str, bytes]:
    """Every regular file beneath ``root`` with its content: what must not change when something goes wrong."""
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file() and not path.is_symlink()
    }


@pytest.fixture
def snapshot_of() -> Any:
    """:func:`contents`, for tests that prove that nothing was touched."""
    return contents
