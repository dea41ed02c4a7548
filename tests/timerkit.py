"""Stand-ins for crontab, systemctl and launchctl: programs in a folder of their own that keep what they are told."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

CRONTAB = """
import os, sys
kept = os.environ["FAKE_CRONTAB"]
if os.environ.get("FAKE_BROKEN") == "denied":
    sys.exit("You (nobody) are not allowed to use this program (crontab)")
if sys.argv[1:] == ["-l"]:
    if not os.path.exists(kept):
        sys.exit("no crontab for nobody")
    sys.stdout.buffer.write(open(kept, "rb").read())
elif sys.argv[1:] == ["-r"]:
    os.unlink(kept)
else:
    text = sys.stdin.buffer.read()
    if os.environ.get("FAKE_BROKEN") == "full" and b"holdfast" in text:
        sys.exit("crontab: No space left on device")
    if os.environ.get("FAKE_BROKEN") == "alters" and b"holdfast" in text:
        text = text.replace(b"schedule fire", b"schedule  fire")
    open(kept, "wb").write(text)
"""

SYSTEMCTL = """
import os, sys
words = [word for word in sys.argv[1:] if word != "--user"]
log = os.environ["FAKE_LOG"]
with open(log, "a") as file:
    print(*words, file=file)
if os.environ.get("FAKE_BROKEN") == words[0]:
    sys.exit("Failed to " + words[0] + ": broken on purpose")
if words[0] == "show" and len(words) > 2:
    print("ActiveState=active")
    never = os.environ.get("FAKE_BROKEN") == "never"
    print("NextElapseUSecRealtime=" + ("" if never else "Mon 2026-11-23 02:10:00 UTC"))
"""

LAUNCHCTL = """
import os, sys
with open(os.environ["FAKE_LOG"], "a") as file:
    print(*sys.argv[1:], file=file)
if os.environ.get("FAKE_BROKEN") == sys.argv[1]:
    sys.exit("Load failed: 5: Input/output error")
"""


class Machine:
    """Where the stand-ins keep things: ``crontab`` the user's table, ``log`` the calls of the others."""

    def __init__(self, folder: Path) -> None:
        self.bin = folder / "bin"
        self.bin.mkdir(parents=True)
        self.crontab = folder / "crontab"
        self.log = folder / "calls"
        for name, code in (("crontab", CRONTAB), ("systemctl", SYSTEMCTL), ("launchctl", LAUNCHCTL)):
            program = self.bin / name
            program.write_text(f"#!{sys.executable} -S\n{code}")
            program.chmod(0o755)

    def environ(self, **more: str) -> dict[str, str]:
        """What a process needs to find the stand-ins."""
        path = f"{self.bin}:{os.environ['PATH']}"
        return {"PATH": path, "FAKE_CRONTAB": str(self.crontab), "FAKE_LOG": str(self.log), **more}

    @contextmanager
    def running(self, name: str) -> Iterator[None]:
        """While this lasts, a process called ``name`` runs on the machine."""
        program = self.bin / name
        shutil.copy(shutil.which("sleep") or "/bin/sleep", program)
        process = subprocess.Popen([program, "600"])
        try:
            yield
        finally:
            process.kill()
            process.wait()
            program.unlink()

    def calls(self) -> list[str]:
        """What was asked of systemctl or launchctl so far."""
        return self.log.read_text().splitlines() if self.log.exists() else []
