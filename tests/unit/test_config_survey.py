"""Looking around for a first configuration, and the file that comes of it."""

from __future__ import annotations

import os
import socket
import sqlite3
from pathlib import Path

import pytest

from holdfast.config.draft import draft
from holdfast.config.load import check_text
from holdfast.config.settings import Settings
from holdfast.config.survey import look_around
from holdfast.kernel.clock import SystemClock


def written(home: Path, survey_servers: tuple[tuple[str, tuple[str, ...], int], ...] = ()) -> tuple[str, Settings]:
    survey = look_around(home, SystemClock(), survey_servers)
    text = draft(survey, home / ".local/share/holdfast/vault", home / "key file")
    return text, Settings(check_text(text, home / "holdfast.yaml", {"HOME": str(home)}))


def test_an_empty_home_is_saved_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text, settings = written(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert settings.plan("home").paths == (os.fsencode(tmp_path),)
    vault = settings.default_vault()
    assert vault is not None and vault.password.file == str(tmp_path / "key file")
    assert "SQLite" not in text


def test_what_is_found(tmp_path: Path) -> None:
    (tmp_path / "Documents/deep").mkdir(parents=True)
    for repository in ("work here/one", "work here/one/inner", "Documents/site", "node_modules/x", ".cache/y"):
        (tmp_path / repository / ".git").mkdir(parents=True)
    for name in ("Documents/app.db", "elsewhere.sqlite"):
        with sqlite3.connect(tmp_path / name) as database:
            database.execute("create table t (x)")
    (tmp_path / "Documents/fake.db").write_text("no database")
    (tmp_path / "link").symlink_to(tmp_path)
    survey = look_around(tmp_path, SystemClock(), ())
    assert survey.folders == [str(tmp_path / "Documents")]
    found = [os.path.relpath(path, tmp_path) for path in survey.repositories]
    assert found == ["Documents/site", "work here/one", "work here/one/inner"]
    assert [os.path.relpath(path, tmp_path) for path in survey.sqlite] == ["elsewhere.sqlite", "Documents/app.db"]
    text, _ = written(tmp_path)
    assert "      - ~/Documents\n      - ~/work here/one\n    #" in text
    assert text.index("in these paths:") < text.index("~/Documents/app.db") < text.index("elsewhere (add")


def test_servers_by_socket_and_by_port(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as unix, socket.socket() as tcp:
        folder = os.open(tmp_path, os.O_RDONLY)
        # Through the folder's descriptor: the path of a test may be too long for a socket's name.
        unix.bind(f"/proc/self/fd/{folder}/s" if os.path.isdir("/proc/self/fd") else str(tmp_path / "s"))
        os.close(folder)
        tcp.bind(("127.0.0.1", 0))
        tcp.listen()
        port = tcp.getsockname()[1]
        servers = (("A", (str(tmp_path / "s"),), 1), ("B", (), port), ("C", (str(tmp_path),), 1))
        text, _ = written(tmp_path, servers)
    assert f"    #   A ({tmp_path}/s)\n    #   B (port {port})\n" in text and "#   C" not in text


def test_odd_names_come_through(tmp_path: Path) -> None:
    names = ["a: b", "c #d", "$HOME", "${X}", "it's", 'say "hi"', "- x", "übung", "[y]", "{z}", "~", "true", "*", " q "]
    for name in names:
        (tmp_path / name / ".git").mkdir(parents=True)
    (tmp_path / os.fsdecode(b"\xff\xfe") / ".git").mkdir(parents=True)
    (tmp_path / "line\nbreak" / ".git").mkdir(parents=True)
    _, settings = written(tmp_path)
    assert set(settings.loaded.configuration.plans["home"].paths) == {f"~/{name}" for name in names}
