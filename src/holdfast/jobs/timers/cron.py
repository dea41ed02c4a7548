"""Timers as lines of the user's crontab, between two marks of our own."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Mapping
from pathlib import Path

from holdfast.files.whole import replace_file
from holdfast.jobs.schedule import numeric, times
from holdfast.jobs.timers.base import Owner, Timer, call, said
from holdfast.kernel.errors import Denied, Unavailable, Unsupported

PLACE = "crontab"
_DAEMONS = ("cron", "crond", "anacron", "busybox", "cronie", "fcron", "bcron-sched", "systemd-cron")
_LONGEST = 900
"""Bytes of one line. Vixie's cron refuses commands of 1,000 bytes and more."""


class Cron:
    """The crontab of whoever runs this. ``keep`` is a file that gets the crontab as it was before each change."""

    name = "cron"

    def __init__(self, keep: Path, *, proc: Path = Path("/proc")) -> None:
        self._keep = keep
        self._proc = proc

    def refuse(self) -> None:
        self._read()
        if not self._is_running():
            raise Unavailable(
                "no cron is running on this machine: what is written into the crontab would never start",
                hint="Start it ('systemctl enable --now cron'), or take another one with --backend systemd.",
            )

    def remarks(self) -> tuple[str, ...]:
        return ()

    def texts(self, owner: Owner, timers: tuple[Timer, ...]) -> Mapping[str, str]:
        begin, end = _marks(owner)
        lines = [begin, *(_line(timer) for timer in timers)]
        lines += [_line(owner.catch_up), f"@reboot {_command(owner.catch_up)}", end]
        return {PLACE: "".join(f"{line}\n" for line in lines)}

    def installed(self, owner: Owner) -> Mapping[str, str]:
        span = _span(self._read(), owner)
        if span is None:
            return {}
        raw = self._read()[span[0] : span[1]]
        return {PLACE: raw.decode("utf-8", "surrogateescape")}

    def install(self, owner: Owner, timers: tuple[Timer, ...]) -> None:
        self._replace(owner, self.texts(owner, timers)[PLACE].encode("utf-8", "surrogateescape"))

    def uninstall(self, owner: Owner) -> None:
        self._replace(owner, b"")

    def _replace(self, owner: Owner, block: bytes) -> None:
        before = self._read()
        span = _span(before, owner)
        if span is not None:
            after = before[: span[0]] + block + before[span[1] :]
        elif block:
            after = before + (b"\n" if before and not before.endswith(b"\n") else b"") + block
        else:
            return
        if after == before:
            return
        self._keep.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        replace_file(self._keep, before, 0o600)
        self._write(after)
        found = self._read()
        if found != after:
            self._write(before)
            raise Unavailable(
                "the crontab does not read as it was written; it was put back",
                hint=f"The crontab as it was is also in {self._keep}.",
            )

    def _read(self) -> bytes:
        done = call("crontab", "-l")
        if done.returncode == 0:
            return done.stdout
        if b"no crontab for" in done.stderr.lower() or not done.stderr.strip():
            return b""
        raise Denied(f"the crontab cannot be read: {said(done)}")

    def _write(self, text: bytes) -> None:
        done = call("crontab", "-", data=text) if text else call("crontab", "-r")
        if done.returncode != 0:
            raise Denied(f"the crontab cannot be written: {said(done)}", hint="It is as it was before.")

    def _is_running(self) -> bool:
        try:
            numbers = [name for name in os.listdir(self._proc) if name.isdigit()]
        except OSError:
            return True  # nothing to look at, as on macOS, where cron starts with its first crontab
        for number in numbers:
            try:
                name = (self._proc / number / "comm").read_text().strip()
                if name in _DAEMONS and (
                    name != "busybox" or b"crond" in (self._proc / number / "cmdline").read_bytes()
                ):
                    return True
            except OSError:
                continue
        return False


def _marks(owner: Owner) -> tuple[str, str]:
    return (
        f"# >>> holdfast {owner.mark}, for {owner.config}: 'holdfast schedule install' writes these lines >>>",
        f"# <<< holdfast {owner.mark} <<<",
    )


def _span(text: bytes, owner: Owner) -> tuple[int, int] | None:
    """Where the owner's block is. Raises ``Unsupported`` where only one of its marks is there."""
    mark = re.escape(owner.mark.encode())
    begin = re.search(rb"^# >>> holdfast " + mark + rb"[^\n]*\n", text, re.MULTILINE)
    end = re.search(rb"^# <<< holdfast " + mark + rb" <<<[^\n]*(\n|\Z)", text, re.MULTILINE)
    if begin is None and end is None:
        return None
    if begin is None or end is None or end.start() < begin.end():
        raise Unsupported(
            "the crontab has only one of the two marks that Holdfast's lines stand between",
            hint="Remove the lines of Holdfast and their mark with 'crontab -e', then install again.",
        )
    return begin.start(), end.end()


def _line(timer: Timer) -> str:
    found = times(timer.expression)
    if found.last_day:
        raise Unsupported(
            f"cron does not know the last day of a month, which {timer.name} asks for",
            hint="Take a day from 1 to 28, or install with --backend systemd.",
        )
    return f"{numeric(timer.expression)} {_command(timer)}"


def _command(timer: Timer) -> str:
    words = [f"{name}={shlex.quote(value)}" for name, value in timer.environ]
    words += [shlex.quote(word) for word in timer.words]
    text = " ".join(words)
    if "\n" in text or "\r" in text:
        raise Unsupported(f"a line of the crontab cannot hold the command of {timer.name}: there is a line end in it")
    text = text.replace("%", "\\%")  # to cron a bare one is the end of the command
    if len(text.encode("utf-8", "surrogateescape")) > _LONGEST:
        raise Unsupported(
            f"the command of {timer.name} is longer than a line of the crontab may be",
            hint="Give the configuration a shorter path, or install with --backend systemd.",
        )
    return text
