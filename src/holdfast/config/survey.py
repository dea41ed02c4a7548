"""A look around this machine for what is worth protecting: folders, repositories, SQLite files, database servers."""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Iterator
from dataclasses import field
from pathlib import Path

from holdfast.kernel.clock import Clock
from holdfast.kernel.values import dataclass

FOLDERS = (
    "Desktop",
    "Documents",
    "Music",
    "Pictures",
    "Videos",
    "Projects",
    "projects",
    "src",
    "code",
    "work",
    "notes",
)
SKIPPED = frozenset({"node_modules", "__pycache__", "venv", "target", "build", "dist", "lost+found", "Library"})
SQLITE_ENDS = (".db", ".sqlite", ".sqlite3", ".db3")
SQLITE_MAGIC = b"SQLite format 3\x00"
DEPTH, MOST_FOLDERS, MOST_FOUND, SECONDS = 4, 20_000, 20, 3.0
PORT_SECONDS = 0.2

SERVERS: tuple[tuple[str, tuple[str, ...], int], ...] = (
    ("PostgreSQL", ("/var/run/postgresql/.s.PGSQL.5432", "/tmp/.s.PGSQL.5432"), 5432),
    ("MariaDB or MySQL", ("/run/mysqld/mysqld.sock", "/var/lib/mysql/mysql.sock", "/tmp/mysql.sock"), 3306),
    ("Redis", ("/run/redis/redis-server.sock", "/run/redis/redis.sock", "/tmp/redis.sock"), 6379),
)
"""Name, the sockets that distributions give it, and its port."""


@dataclass(slots=True)
class Survey:
    """What was found; paths are whole. ``complete`` is False where the search was cut short."""

    home: str
    folders: list[str] = field(default_factory=list)
    repositories: list[str] = field(default_factory=list)
    sqlite: list[str] = field(default_factory=list)
    servers: list[tuple[str, str]] = field(default_factory=list)
    complete: bool = True


def look_around(home: Path, clock: Clock, servers: tuple[tuple[str, tuple[str, ...], int], ...] = SERVERS) -> Survey:
    """Search ``home`` (four folders deep, three seconds long, on its own file system, no hidden folders), and see which
    servers answer on this machine. Reads the first bytes of files, writes nothing, and asks no server anything."""
    found = Survey(os.path.normpath(home))
    found.folders = [path for name in FOLDERS if os.path.isdir(path := os.path.join(found.home, name))]
    _search(found, clock)
    for name, sockets, port in servers:
        place = next((path for path in sockets if _is_socket(path)), "")
        if place or _answers(port):
            found.servers.append((name, place or f"port {port}"))
    return found


def _search(found: Survey, clock: Clock) -> None:
    end = clock.monotonic() + SECONDS
    try:
        device = os.stat(found.home).st_dev
    except OSError:
        return
    waiting, seen = [(found.home, 0)], 0
    while waiting:
        folder, depth = waiting.pop(0)
        seen += 1
        if seen > MOST_FOLDERS or clock.monotonic() > end:
            found.complete = False
            return
        entries = _entries(folder)
        if any(entry.name == ".git" for entry in entries) and folder != found.home:
            _add(found, found.repositories, folder)
        for entry in entries:
            if entry.is_symlink() or not _is_text(entry.name):
                continue
            if entry.is_file(follow_symlinks=False):
                if entry.name.endswith(SQLITE_ENDS) and _is_sqlite(entry.path):
                    _add(found, found.sqlite, entry.path)
            elif depth < DEPTH and _worth_a_look(entry, device):
                waiting.append((entry.path, depth + 1))


def _add(found: Survey, names: list[str], path: str) -> None:
    if len(names) < MOST_FOUND:
        names.append(path)
    else:
        found.complete = False


def _entries(folder: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError:
        return []


def _worth_a_look(entry: os.DirEntry[str], device: int) -> bool:
    if entry.name.startswith(".") or entry.name in SKIPPED:
        return False
    try:
        return entry.is_dir(follow_symlinks=False) and entry.stat(follow_symlinks=False).st_dev == device
    except OSError:
        return False


def _is_text(name: str) -> bool:
    """Whether a YAML file can hold it."""
    return name.isprintable()


def _is_sqlite(path: str) -> bool:
    try:
        with open(path, "rb") as file:
            return file.read(len(SQLITE_MAGIC)) == SQLITE_MAGIC
    except OSError:
        return False


def _is_socket(path: str) -> bool:
    try:
        return stat.S_ISSOCK(os.stat(path).st_mode)
    except OSError:
        return False


def _answers(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=PORT_SECONDS):
            return True
    except OSError:
        return False


def tops(paths: list[str]) -> Iterator[str]:
    """``paths`` without those that lie in another of them, in the same order."""
    for path in paths:
        if not any(path != other and path.startswith(other + os.sep) for other in paths):
            yield path
