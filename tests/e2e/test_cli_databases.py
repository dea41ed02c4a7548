"""Databases through the installed command: saved, loaded back, and what it says where it cannot be done."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from tests.e2e.conftest import Cli
from tests.servers.postgres import Postgres

PLACE = "/.holdfast/databases"


@pytest.fixture
def database(postgres: Postgres, request: pytest.FixtureRequest) -> str:
    """A database of the test's own, with 500 rows."""
    name = f"app {abs(hash(request.node.name)) % 10**8}'\""
    quoted = '"' + name.replace('"', '""') + '"'
    postgres.sql(f"CREATE DATABASE {quoted}")
    fill = "CREATE TABLE users (id int PRIMARY KEY, name text); INSERT INTO users SELECT i, 'user ' || i FROM"
    postgres.sql(f"{fill} generate_series(1, 500) i", quote(name))
    return name


def quote(name: str) -> str:
    from urllib.parse import quote as percent

    return percent(name)


def rows(postgres: Postgres, name: str) -> int:
    return int(postgres.sql("SELECT count(*) FROM users", quote(name)))


def test_postgres_there_and_back(cli: Cli, postgres: Postgres, database: str) -> None:
    done = cli("backup", "--postgres", f"main={postgres.url(quote(database))}", "--json")
    assert done.code == 0, done.err
    assert done.summary["databases"] == 2
    assert postgres.sql("SELECT 1") == "1"
    listed = {
        event["path"] for event in cli("ls", f"latest:{PLACE}", "-r", "--json").events if event["event"] == "entry"
    }
    assert {f"{PLACE}/postgres/main/globals.sql", f"{PLACE}/postgres/main/{database}.dump"} <= listed
    assert "CREATE ROLE tester" in cli("dump", f"latest:{PLACE}/postgres/main/globals.sql").out

    postgres.sql("DELETE FROM users WHERE id > 10", quote(database))
    words = ("restore", "latest", "--database", "main")
    refused = cli(*words, "--to", postgres.url(quote(database)))
    assert refused.code == 2
    assert "is not empty" in refused.err and "--replace" in refused.err
    assert rows(postgres, database) == 10

    fresh = f"{database} two"
    would = cli(*words, "--to", postgres.url(quote(fresh)), "--dry-run")
    assert would.code == 0 and would.out.startswith("Would load")
    assert cli(*words, "--to", postgres.url(quote(fresh))).code == 0
    assert rows(postgres, fresh) == 500

    replaced = cli(*words, "--to", postgres.url(quote(database)), "--replace", "--json")
    assert replaced.code == 0, replaced.err
    assert rows(postgres, database) == 500
    assert rows(postgres, replaced.summary["kept"]) == 10


def test_an_empty_database_is_loaded_into(cli: Cli, postgres: Postgres, database: str) -> None:
    assert cli("backup", "--postgres", f"main={postgres.url(quote(database))}").code == 0
    empty = f"{database} empty"
    postgres.sql(f'CREATE DATABASE "{empty.replace(chr(34), chr(34) * 2)}"')
    assert cli("restore", "latest", "--database", f"main/{database}", "--to", postgres.url(quote(empty))).code == 0
    assert rows(postgres, empty) == 500


def test_all_databases_of_a_server(cli: Cli, postgres: Postgres, database: str) -> None:
    assert cli("backup", "--postgres", f"main={postgres.url()}").code == 0
    names = cli("ls", f"latest:{PLACE}/postgres/main").out
    assert f"{database}.dump" in names and "postgres.dump" in names and "globals.sql" in names
    ambiguous = cli("restore", "latest", "--database", "main", "--to", postgres.url("x"))
    assert ambiguous.code == 2 and "main/" in ambiguous.err


def test_a_dump_that_may_not_be_read_is_left_out(cli: Cli, postgres: Postgres, database: str) -> None:
    role = f"reader{abs(hash(database)) % 10**6}"
    postgres.sql(f"CREATE ROLE {role} LOGIN")
    (cli.home / "file").write_text("a file")
    done = cli("backup", "file", "--postgres", f"main={postgres.url(quote(database), role)}", "--json")
    assert done.code == 3
    assert any("permission denied" in e["message"] for e in done.events if e["event"] == "problem")
    assert ".dump" not in cli("ls", f"latest:{PLACE}/postgres/main").out
    assert "globals.sql" in cli("ls", f"latest:{PLACE}/postgres/main").out


def test_roles_that_are_missing_are_told(cli: Cli, postgres: Postgres, database: str) -> None:
    role = f"owner{abs(hash(database)) % 10**6}"
    postgres.sql(f"CREATE ROLE {role}")
    postgres.sql(f"ALTER TABLE users OWNER TO {role}", quote(database))
    assert cli("backup", "--postgres", f"main={postgres.url(quote(database))}").code == 0
    postgres.sql(f"REASSIGN OWNED BY {role} TO tester", quote(database))
    postgres.sql(f"DROP ROLE {role}")
    words = ("restore", "latest", "--database", "main", "--to", postgres.url(quote(database) + "new"))
    failed = cli(*words)
    assert failed.code == 1
    assert "does not exist" in failed.err and "--no-owner" in failed.err
    assert postgres.sql("SELECT count(*) FROM pg_database WHERE datname LIKE '%new'") == "0"
    assert cli(*words, "--no-owner").code == 0


def test_a_server_that_is_not_there(cli: Cli) -> None:
    done = cli("backup", "--postgres", "postgresql://127.0.0.1:1/app")
    assert done.code == 1
    assert "PostgreSQL cannot be asked" in done.err


def test_an_older_client_is_refused_with_a_hint(cli: Cli, postgres: Postgres, database: str, tmp_path: Path) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    old = "#!/bin/sh\ncase $1 in --version) echo 'pg_dump (PostgreSQL) 9.6.1';; *) exit 1;; esac\n"
    (programs / "pg_dump").write_text(old)
    (programs / "pg_dump").chmod(0o755)
    (programs / "psql").symlink_to(postgres.programs / "psql")
    code = (
        "import sys; from holdfast.sources import postgres; postgres._PACKAGED = '/nonexistent'\n"
        "from holdfast.kernel.cancel import Cancel\n"
        f"source = postgres.PostgresSource('x', postgres.read_url({postgres.url()!r}))\n"
        "try: source.entries(Cancel())\nexcept Exception as error: print(type(error).__name__, error.hint)\n"
    )
    import subprocess
    import sys

    environ = {"PATH": str(programs), "PYTHONPATH": os.environ.get("PYTHONPATH", "src")}
    done = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("Unsupported Install the client programs of version")


def test_passwords_do_not_belong_on_a_command_line(cli: Cli) -> None:
    done = cli("backup", "--postgres", "postgresql://me:s3cret@localhost/app")
    assert done.code == 2
    assert "s3cret" not in done.err and ".pgpass" in done.err


def test_a_command_there_and_failing(cli: Cli) -> None:
    done = cli("backup", "--command", "hello=sh -c 'echo hello; echo there'", "--command", "bad=sh -c 'echo x; exit 4'")
    assert done.code == 3
    assert "exit status 4" in done.err
    assert cli("dump", f"latest:{PLACE}/command/hello").out == "hello\nthere\n"
    assert cli("dump", f"latest:{PLACE}/command/bad").code == 10
    wrong = cli("restore", "latest", "--database", f"{PLACE}/command/hello", "--to", "postgresql://x/y")
    assert wrong.code == 2 and "holdfast dump" in wrong.err


@pytest.mark.parametrize("words", [("--command", "x"), ("--command", "x='"), ("--postgres", "mysql://x")])
def test_what_cannot_be_read(cli: Cli, words: tuple[str, str]) -> None:
    assert cli("backup", *words).code == 2


def test_restic_restores_them_as_plain_files(cli: Cli, need: Callable[[str], str], tmp_path: Path) -> None:
    import subprocess

    restic = need("restic")
    assert cli("backup", "--command", "hello=echo hello").code == 0
    base = [restic, "-r", str(cli.default_vault), "--password-file", str(cli.default_key), "--no-cache"]
    subprocess.run([*base, "restore", "latest", "--target", str(tmp_path / "out")], check=True, capture_output=True)
    assert (tmp_path / f"out{PLACE}/command/hello").read_text() == "hello\n"
    subprocess.run([*base, "check", "--read-data"], check=True, capture_output=True)


def fill(path: Path, count: int) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as live:
        live.execute("PRAGMA synchronous = OFF")
        live.execute("PRAGMA journal_mode = wal")
        live.execute("CREATE TABLE IF NOT EXISTS words (word TEXT)")
        live.executemany("INSERT INTO words VALUES (?)", [("word",)] * count)


def count(path: Path) -> int:
    with closing(sqlite3.connect(path)) as live:
        return int(live.execute("SELECT count(*) FROM words").fetchone()[0])


def test_a_live_sqlite_file_is_replaced_and_kept(cli: Cli) -> None:
    path = cli.home / "data/app.db"
    path.parent.mkdir()
    fill(path, 100)
    assert cli("backup", path.parent).code == 0
    fill(path, 50)
    words = ("restore", "latest", "--database", path)
    assert cli(*words).code == 2

    with closing(sqlite3.connect(path)) as live:
        live.execute("SELECT count(*) FROM words").fetchall()
        busy = cli(*words, "--replace")
        assert busy.code == 11 and "Stop that program" in busy.err
    assert count(path) == 150

    done = cli(*words, "--replace", "--json")
    assert done.code == 0, done.err
    assert count(path) == 100
    assert count(Path(done.summary["kept"])) == 150
    beside = {name.name for name in path.parent.iterdir()}
    assert beside == {"app.db", Path(done.summary["kept"]).name}

    assert cli(*words, "--to", cli.home / "new.db").code == 0
    assert count(cli.home / "new.db") == 100


def test_a_damaged_live_file_is_replaced_too(cli: Cli) -> None:
    path = cli.home / "app.db"
    fill(path, 100)
    assert cli("backup", path).code == 0
    path.write_bytes(b"SQLite format 3\0" + bytes(5000))
    (cli.home / "app.db-wal").write_bytes(b"stale")
    assert cli("restore", "latest", "--database", path, "--replace").code == 0
    assert count(path) == 100
    assert not (cli.home / "app.db-wal").exists()


def test_sqlite_off_saves_the_files_as_they_are(cli: Cli) -> None:
    path = cli.home / "data/app.db"
    path.parent.mkdir()
    with closing(sqlite3.connect(path, isolation_level=None)) as live:
        live.execute("PRAGMA synchronous = OFF")
        live.execute("PRAGMA journal_mode = wal")
        live.execute("CREATE TABLE words (word TEXT)")
        assert cli("backup", path.parent, "--sqlite", "off").code == 0
    assert "app.db-wal" in cli("ls", f"latest:{path.parent}").out


@pytest.mark.parametrize("words", [("--in-place",), ("--target", "TARGET")])
def test_a_restored_file_does_not_take_in_the_log_of_the_one_before(cli: Cli, words: tuple[str, ...]) -> None:
    path = cli.home / "data/app.db"
    path.parent.mkdir()
    fill(path, 100)
    (path.parent / "other-wal").write_bytes(b"no log of anything")
    assert cli("backup", path.parent).code == 0
    fill(path, 50)
    with closing(sqlite3.connect(path, isolation_level=None)) as live:  # as a machine that lost power leaves it
        live.execute("PRAGMA synchronous = OFF")
        live.execute("INSERT INTO words VALUES ('in the log')")
        log = path.with_name("app.db-wal").read_bytes()
    path.with_name("app.db-wal").write_bytes(log)
    where = tuple(os.fspath(path.parent) if word == "TARGET" else word for word in words)
    source = "latest" if "--in-place" in words else f"latest:{path.parent}"
    assert "app.db-wal" in cli("restore", source, *where, "--dry-run").out
    assert path.with_name("app.db-wal").exists()
    done = cli("restore", source, *where)
    assert done.code == 0, done.err
    assert {name.name for name in path.parent.iterdir()} == {"app.db", "other-wal"}
    assert count(path) == 100
