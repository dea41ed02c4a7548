"""The real restic as the other side of interop tests, and a tree with every kind of entry that both must keep."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
import shutil
import socket
import stat
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.browsekit import make_hostile

from holdfast.files.rules import Rules
from holdfast.kernel.cancel import Cancel
from holdfast.kernel.events import ignore
from holdfast.kernel.secret import Secret
from holdfast.repository import Repository
from holdfast.storage import LocalStorage, ReadOnly
from holdfast.vaults.archive import ArchiveVault
from holdfast.vaults.base import BackupOptions, BackupSummary, CheckOptions, CheckReport, RestoreOptions, Subset

SECRET = Secret(b"correct horse battery staple", random=True)  # taken as random: restic then opens it at once
MIB = 1 << 20
UNPRINTABLE = (0x7F, 0x80, 0xA0, 0xAD, 0x378, 0x200B, 0x2028, 0x2029, 0x3000, 0xE000, 0xFEFF, 0xFFFE, 0x1F600, 0xE0001)
ODD_TARGET = b"caf\xe9/\xff"


class Restic:
    """One repository as the restic program sees it."""

    def __init__(self, program: str, place: Path) -> None:
        self._program = program
        self.place = place

    def run(self, *words: str, cwd: Path | None = None) -> str:
        """Standard output of a command that must succeed."""
        done = subprocess.run(
            [self._program, "--no-cache", "-r", os.fspath(self.place), *words],
            cwd=cwd, capture_output=True, text=True, check=False,
            env={**os.environ, "RESTIC_PASSWORD": SECRET.reveal().decode(), "GOMAXPROCS": "2"},
        )  # fmt: skip
        assert done.returncode == 0, f"restic {' '.join(words)}: {done.stdout[-3000:]}{done.stderr[-3000:]}"
        return done.stdout

    def back_up(self, parent: Path, *names: str, force: bool = False) -> dict[str, Any]:
        """Back up ``names`` as relative paths from ``parent``: what lies above it does not matter then."""
        out = self.run("backup", "--json", *(["--force"] if force else []), "--", *names, cwd=parent)
        summary: dict[str, Any] = json.loads(out.splitlines()[-1])
        assert summary["message_type"] == "summary"
        return summary

    def copy(self, place: Path) -> Restic:
        """The same repository, as of now, at another place."""
        shutil.copytree(self.place, place)
        return Restic(self._program, place)


def ours(place: Path, *, make: bool = False, no_lock: bool = False) -> ArchiveVault:
    """The vault at ``place`` as we see it."""
    storage = LocalStorage(str(place))
    if make:
        return ArchiveVault(Repository.init(storage, [SECRET], username="tester", hostname=socket.gethostname()))
    opened = Repository.open(ReadOnly(storage) if no_lock else storage, SECRET, username="tester")
    return ArchiveVault(opened, no_lock=no_lock)


def save(vault: ArchiveVault, parent: Path, *names: str, **changes: Any) -> BackupSummary:
    """Back up ``names`` as relative paths from ``parent``."""
    options = BackupOptions(
        paths=tuple(map(os.fsencode, names)),
        rules=Rules.compile([], defaults=False),
        hostname=socket.gethostname(),
        username="tester",
    )
    before = Path.cwd()
    os.chdir(parent)
    try:
        return vault.backup(replace(options, **changes), emit=ignore, cancel=Cancel())
    finally:
        os.chdir(before)


def bring_back(vault: ArchiveVault, target: Path, **changes: Any) -> None:
    """Restore the newest snapshot; no item may fail."""
    options = RestoreOptions(target=os.fsencode(target), **changes)
    summary = vault.restore(vault.snapshots()[-1], options, emit=ignore, cancel=Cancel())
    assert [(problem.path, problem.message) for problem in summary.problems] == []


def check(vault: ArchiveVault) -> CheckReport:
    """Check everything that is stored."""
    return vault.check(CheckOptions(read_data=Subset()), emit=ignore, cancel=Cancel())


def make_everything(root: Path, need: Callable[[str], str]) -> None:
    """Every kind of entry, in ``root``. Devices only where we may make them; sockets are saved by nobody."""
    root.mkdir()
    _sizes(root / "sizes")
    make_hostile(root / "names")
    for code in UNPRINTABLE:
        (root / "names" / f"u{code:x}{chr(code)}").write_text(chr(code))
    _links(root)
    _kinds(root)
    _metadata(root / "metadata", need)
    _deep(root)
    (root / "many").mkdir()
    for number in range(5000):
        (root / "many" / f"{number:x}").touch()
    os.utime(root, ns=(5, 1_600_000_000_000_000_001))


def _sizes(folder: Path) -> None:
    folder.mkdir()
    draw = random.Random(7)
    for size in (0, 1, 31, 4096, MIB // 2 - 1, MIB // 2, MIB // 2 + 1, 8 * MIB - 1, 8 * MIB, 8 * MIB + 1, 19 * MIB):
        (folder / f"random {size}").write_bytes(draw.randbytes(size))
        (folder / f"zeros {size}").write_bytes(bytes(size))
    (folder / "text").write_bytes(b"all work and no play makes jack a dull boy\n" * 50_000)
    with (folder / "sparse").open("wb") as file:
        file.seek(30 * MIB)
        file.write(b"end")
        file.truncate(41 * MIB)


def _links(root: Path) -> None:
    (root / "link").symlink_to("sizes/text")
    (root / "dangling").symlink_to("nowhere/<&>\u2028\u200b")
    (root / "absolute").symlink_to("/etc/passwd")
    os.symlink(b"text", os.fsencode(root) + b"/link caf\xe9")
    (root / "hard").mkdir()
    os.link(root / "sizes" / "text", root / "hard" / "one")
    os.link(root / "sizes" / "text", root / "hard" / "two")
    os.link(root / "sizes" / "random 0", root / "hard" / "empty")


def _kinds(root: Path) -> None:
    (root / "empty folder").mkdir()
    os.mkfifo(root / "pipe")
    with contextlib.suppress(OSError):
        os.mknod(root / "null", 0o666 | stat.S_IFCHR, os.makedev(1, 3))
        os.mknod(root / "disk", 0o660 | stat.S_IFBLK, os.makedev(259, 70_000))


def _metadata(folder: Path, need: Callable[[str], str]) -> None:
    folder.mkdir()
    for mode in (0o400, 0o644, 0o4755, 0o2755, 0o1777, 0o7777):
        (folder / f"file {mode:o}").touch()
        (folder / f"file {mode:o}").chmod(mode)
        (folder / f"folder {mode:o}").mkdir()
        (folder / f"folder {mode:o}").chmod(mode | 0o500)
    for at, ns in enumerate((0, 1, 10, 999_999_999, 1_700_000_000_120_000_000, -1, -86_400_000_000_001, 2**62)):
        (folder / f"time {at}").touch()
        os.utime(folder / f"time {at}", ns=(ns, ns))
    (folder / "attributes").write_text("x")
    with contextlib.suppress(OSError):
        for name, value in (("plain", b"v"), ("<odd>&", bytes(range(256))), ("empty", b""), ("ä", b"long" * 500)):
            os.setxattr(folder / "attributes", f"user.{name}", value)
        os.setxattr(folder, "user.folder", b"of a folder")
    (folder / "listed").touch()
    (folder / "listed folder").mkdir()
    setfacl = need("setfacl")
    subprocess.run([setfacl, "-m", "u:12345:rwx,g:54321:r", folder / "listed"], check=False, capture_output=True)
    subprocess.run([setfacl, "-m", "d:u:12345:rwx", folder / "listed folder"], check=False, capture_output=True)
    if os.geteuid() == 0:
        (folder / "foreign").touch()
        os.chown(folder / "foreign", 12345, 54321)


def _deep(root: Path) -> None:
    """A file whose path from ``root`` on has 3,700 bytes: with the folders around it nearly as much as Linux allows."""
    fd = os.open(root, os.O_RDONLY)
    for number in range(14):
        name = f"{number:x}".rjust(255, "d")
        os.mkdir(name, dir_fd=fd)
        deeper = os.open(name, os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = deeper
    with os.fdopen(os.open("f" * 115, os.O_WRONLY | os.O_CREAT, dir_fd=fd), "wb") as file:
        file.write(b"deep")
    os.close(fd)


def remove(root: Path) -> None:
    """Take a tree away, whatever the modes of its folders."""
    shutil.rmtree(root, ignore_errors=True)


def look(root: Path) -> dict[bytes, tuple[object, ...]]:
    """Everything beneath ``root`` that a restore must bring back, by path."""
    top = os.fsencode(root)
    first: dict[tuple[int, int], bytes] = {}
    found: dict[bytes, tuple[object, ...]] = {}
    pending = [top]
    while pending:
        folder = pending.pop()
        for name in sorted(os.listdir(folder)):
            path = folder + b"/" + name
            st = os.lstat(path)
            key = path[len(top) + 1 :]
            content = target = None
            if stat.S_ISDIR(st.st_mode):
                pending.append(path)
            elif stat.S_ISREG(st.st_mode):
                with open(path, "rb") as file:
                    content = hashlib.file_digest(file, "sha256").digest()
            elif stat.S_ISLNK(st.st_mode):
                target = os.readlink(path)
            linked = None
            if not stat.S_ISDIR(st.st_mode):
                linked = first.setdefault((st.st_dev, st.st_ino), key) if st.st_nlink > 1 else None
            attributes = tuple(
                (name, os.getxattr(path, name, follow_symlinks=False))
                for name in sorted(os.listxattr(path, follow_symlinks=False))
            )
            found[key] = (
                oct(st.st_mode), st.st_uid, st.st_gid, st.st_mtime_ns, st.st_size if content else None, content,
                target, st.st_rdev, linked, attributes,
            )  # fmt: skip
    return found


def files_of(place: Path) -> dict[str, tuple[int, int]]:
    """Every file and folder of a vault with its size and time of change: equal before and after means untouched."""
    found = {}
    for folder, folders, names in os.walk(place):
        for name in (*folders, *names, "."):
            st = os.lstat(os.path.join(folder, name))
            found[os.path.join(folder, name)] = (st.st_size, st.st_mtime_ns)
    return found
