"""A tour of the installed ``holdfast``: saves a real folder, changes it, brings it back, and proves that all is equal.

Everything happens beneath one fresh temporary folder, which is removed at the end; the user's configuration, vault and
key are not touched. Exits with 0 only if every step did what it promises.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import shutil
import stat
import subprocess
import sys
import sysconfig
import tempfile
import time
from pathlib import Path

BIN = Path(sys.executable).parent
BOLD, GREEN, DIM, PLAIN = ("\x1b[1m", "\x1b[32m", "\x1b[2m", "\x1b[0m") if sys.stdout.isatty() else ("", "", "", "")
PAST_NS = 1_234_567_890_123_456_789  # February 2009, with nanoseconds that a careless restore loses


def main() -> int:
    """Run the tour; returns the process's exit code."""
    room = Path(tempfile.mkdtemp(prefix="holdfast-demo-"))
    try:
        tour(room)
    except subprocess.CalledProcessError as error:
        print(f"\nThe demo stopped: {shlex.join(map(str, error.cmd))} ended with {error.returncode}.", file=sys.stderr)
        return 1
    except AssertionError as error:
        print(f"\nThe demo stopped: {error}", file=sys.stderr)
        return 1
    finally:
        shutil.rmtree(room, onerror=_make_writable)
    return 0


def tour(room: Path) -> None:
    """Every step in order. Raises on the first that fails."""
    environment = private_environment(room)
    data, vault, key = room / "documents", room / "vault", room / "vault.key"

    def run(*words: str | Path, show: int = 12) -> str:
        return _run([str(word) for word in words], environment, room, show)

    say("A folder to protect: this Python's library, and everything that backups tend to get wrong")
    make_folder(data)
    print(f"{count(data):,} files, folders and links in documents/")

    say("1. Make a vault. It gets a generated key; without that file nobody can open it.")
    run("holdfast", "init", vault, "--new-key-file", key)

    say("2. Back up")
    backup = ("holdfast", "backup", data, "--to", vault, "--password-file", key)
    run(*backup)

    say("3. Change, add, rename and delete a few things, and back up again: only what changed is stored")
    before = fingerprint(data)
    change(data)
    run(*backup)
    access = ("--vault", vault, "--password-file", key)

    say("4. Both versions are there")
    snapshots = run("holdfast", "snapshots", *access)
    first, second = [line.split()[0] for line in snapshots.splitlines() if is_snapshot(line)]

    say("5. What changed in between?")
    run("holdfast", "diff", first, second, *access)

    say("6. Bring both versions back, and compare every byte, name, time, permission, owner, attribute and link")
    for snapshot, name, expected in ((first, "before", before), (second, "after", fingerprint(data))):
        target = room / f"restored-{name}"
        run("holdfast", "restore", f"{snapshot}:{data}", "--target", target, *access)
        compare(expected, fingerprint(target))
        print(f"{GREEN}equal{PLAIN}: all {len(expected):,} entries of the version {name} the changes")

    say("7. Is the vault sound? Read everything in it and compare it with its hashes.")
    run("holdfast", "check", "--read-data", *access)

    restic = shutil.which("restic")
    if restic is None:
        print(f"\n{DIM}(restic is not installed here; with it, the demo would let it check the vault as well.){PLAIN}")
    else:
        say("8. No lock-in: the vault is a restic repository. Stock restic checks it, too.")
        run(restic, "-r", vault, "--password-file", key, "check", "--read-data")
    say("Done. Everything was in a temporary folder, which is gone now. Yours begins with: holdfast backup ~/Documents")


def private_environment(room: Path) -> dict[str, str]:
    """An environment in which nothing of the user's is found or changed."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HOLDFAST_", "RESTIC_", "XDG_"))}
    home = room / "home"
    home.mkdir()
    folders = {f"XDG_{what}_HOME": str(home / what.lower()) for what in ("CONFIG", "DATA", "CACHE", "STATE")}
    return {**kept, **folders, "HOME": str(home), "PATH": f"{BIN}{os.pathsep}{kept.get('PATH', os.defpath)}"}


def make_folder(data: Path) -> None:
    """Real files, and one of each kind of thing that is easily lost."""
    library = Path(sysconfig.get_path("stdlib"))
    leave_out = shutil.ignore_patterns("__pycache__", "site-packages", "dist-packages", "*.so", "*.a")
    shutil.copytree(library, data / "library", symlinks=True, ignore=leave_out)
    odd = data / "odd"
    odd.mkdir()
    (odd / "empty folder").mkdir()
    (odd / "empty file").touch()
    (odd / "ein Gruß, 漢字, 🌊.txt").write_text("Names in any script.\n", encoding="utf-8")
    if sys.platform == "linux":
        Path(os.fsdecode(os.fsencode(odd) + b"/not UTF-8: \xff\xfe")).write_bytes(b"names are bytes")
    (odd / "link").symlink_to("empty file")
    (odd / "dangling link").symlink_to("nowhere")
    (odd / "hard link 1").write_text("one file, two names\n")
    os.link(odd / "hard link 1", odd / "hard link 2")
    os.mkfifo(odd / "pipe")
    with open(odd / "sparse", "wb") as file:
        file.seek(50 << 20)
        file.write(b"fifty MiB of nothing before this")
    secret = odd / "private"
    secret.write_text("for my eyes only\n")
    secret.chmod(0o400)
    script = odd / "script"
    script.write_text("#!/bin/sh\n")
    script.chmod(0o2755)
    if hasattr(os, "setxattr"):
        try:
            os.setxattr(script, "user.colour", b"blue")
        except OSError:
            print(f"{DIM}(no extended attributes on this file system){PLAIN}")
    os.utime(script, ns=(PAST_NS, PAST_NS))
    os.utime(odd, ns=(PAST_NS, PAST_NS))


def change(data: Path) -> None:
    """A day's work."""
    with open(data / "library" / "os.py", "a") as file:
        file.write("# changed by the demo\n")
    (data / "library" / "abc.py").unlink()
    (data / "library" / "ast.py").rename(data / "library" / "ast-renamed.py")
    (data / "new file").write_text("new\n")
    (data / "odd" / "script").chmod(0o700)


def fingerprint(root: Path) -> dict[bytes, tuple[object, ...]]:
    """Path -> everything about each entry beneath ``root`` that a restore has to bring back."""
    top = os.fsencode(root)
    names: dict[tuple[int, int], bytes] = {}
    found: dict[bytes, tuple[object, ...]] = {}
    for folder, folders, files in os.walk(top):
        folders.sort()
        for name in (b"", *sorted(folders), *sorted(files)) if folder == top else (*sorted(folders), *sorted(files)):
            path = os.path.join(folder, name).rstrip(b"/")
            relative = os.path.relpath(path, top)
            status = os.lstat(path)
            first = names.setdefault((status.st_dev, status.st_ino), relative)
            found[relative] = (
                oct(status.st_mode),
                status.st_uid,
                status.st_gid,
                status.st_mtime_ns,
                content(path, status),
                attributes(path),
                first if not stat.S_ISDIR(status.st_mode) else b"",
            )
    return found


def content(path: bytes, status: os.stat_result) -> object:
    """What is in it: a hash, or where a link points."""
    if stat.S_ISLNK(status.st_mode):
        return os.readlink(path)
    if not stat.S_ISREG(status.st_mode):
        return None
    with open(path, "rb") as file:
        return status.st_size, hashlib.file_digest(file, "sha256").hexdigest()


def attributes(path: bytes) -> object:
    """Extended attributes, access control lists among them."""
    if not hasattr(os, "listxattr"):
        return None
    return [
        (name, os.getxattr(path, name, follow_symlinks=False)) for name in os.listxattr(path, follow_symlinks=False)
    ]


def compare(expected: dict[bytes, tuple[object, ...]], found: dict[bytes, tuple[object, ...]]) -> None:
    """Raise ``AssertionError`` that names the first difference."""
    for path in sorted(expected.keys() | found.keys()):
        assert path in found, f"{path!r} is missing after the restore"
        assert path in expected, f"{path!r} was never there, but is after the restore"
        assert expected[path] == found[path], f"{path!r} differs: was {expected[path]}, is {found[path]}"


def count(root: Path) -> int:
    """How many entries are beneath ``root``."""
    return sum(len(folders) + len(files) for _, folders, files in os.walk(root))


def is_snapshot(line: str) -> bool:
    """Whether a line of ``holdfast snapshots`` shows one."""
    word = line.split(" ")[0]
    return len(word) == 8 and all(digit in "0123456789abcdef" for digit in word)


def say(words: str) -> None:
    """A heading."""
    print(f"\n{BOLD}{words}{PLAIN}", flush=True)


def _run(words: list[str], environment: dict[str, str], room: Path, show: int) -> str:
    shown = [word.replace(f"{room}/", "") if word.startswith("/") or ":" in word else word for word in words]
    print(f"$ {shlex.join([Path(shown[0]).name, *shown[1:]])}", flush=True)
    begin = time.monotonic()
    done = subprocess.run(
        words, env=environment, cwd=room, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
    )
    output = done.stdout.decode("utf-8", "replace").replace(f"{room}/", "")
    lines = output.splitlines()
    for line in lines[:show]:
        print(f"  {line}")
    if len(lines) > show:
        print(f"  {DIM}... and {len(lines) - show} more lines{PLAIN}")
    if done.returncode:
        raise subprocess.CalledProcessError(done.returncode, words)
    print(f"  {DIM}({time.monotonic() - begin:.1f} s){PLAIN}", flush=True)
    return output


def _make_writable(function: object, path: str, _error: object) -> None:
    os.chmod(os.path.dirname(path), 0o700)
    if os.path.isdir(path) and not os.path.islink(path):
        os.chmod(path, 0o700)
        shutil.rmtree(path)
    else:
        os.unlink(path)


if __name__ == "__main__":
    sys.exit(main())
