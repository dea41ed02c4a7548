"""Backups of databases that are killed, and dumps that break off: nothing of them stays, and the next run is whole."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from tests.e2e.conftest import Cli
from tests.faults.proxy import Proxy
from tests.servers.mariadb import Mariadb
from tests.servers.postgres import Postgres
from tests.servers.redis import Redis, Start

pytest_plugins = ["tests.e2e.conftest"]

PATIENCE = 60.0  # seconds; nothing here takes one of them on an idle machine


def soon(condition: Callable[[], object], what: str) -> None:
    """Wait for something that has to come."""
    until = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < until, what
        time.sleep(0.02)


def ended(pid: int) -> bool:
    """Whether a process is gone, or only waits for somebody to ask for its exit status."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except OSError:
        return True


def below(pid: int) -> set[int]:
    """All descendants of a process."""
    found: set[int] = set()
    try:
        tasks = [entry.path for entry in os.scandir(f"/proc/{pid}/task")]
    except OSError:  # it has ended meanwhile
        return found
    for task in tasks:
        try:
            children = [int(child) for child in Path(task, "children").read_text().split()]
        except OSError:
            continue
        for child in children:
            found |= {child} | below(child)
    return found


def names(pids: set[int]) -> set[str]:
    found = set()
    for pid in pids:
        try:
            found.add(Path(f"/proc/{pid}/comm").read_text().strip())
        except OSError:
            continue
    return found


@contextmanager
def started(cli: Cli, *words: str, **environ: str) -> Iterator[subprocess.Popen[bytes]]:
    """``holdfast`` while it runs."""
    child = subprocess.Popen(
        [*cli.words, *words],
        env={**cli.environ, **environ},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd=cli.home,
    )
    try:
        yield child
    finally:
        child.kill()
        child.communicate(timeout=PATIENCE)


def killed_with_all_it_started(child: subprocess.Popen[bytes], ready: Callable[[set[int]], object]) -> None:
    """Wait until ``ready``, given all descendants, kill the one, and see the others go."""
    soon(lambda: child.poll() is not None or ready(below(child.pid)), "it never came to its dump")
    assert child.poll() is None, child.communicate()
    started_by_it = below(child.pid)
    child.kill()
    child.wait()
    soon(lambda: all(map(ended, started_by_it)), f"still there: {names(started_by_it)}")


def snapshots(cli: Cli) -> int:
    return sum(event["event"] == "snapshot" for event in cli("snapshots", "--json").events)


@contextmanager
def holding(words: list[str], statements: str, **environ: str) -> Iterator[None]:
    """A database client that has run ``statements`` (the last prints something), and stays connected."""
    client = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={**os.environ, **environ})
    assert client.stdin is not None and client.stdout is not None
    try:
        client.stdin.write(statements.encode())
        client.stdin.flush()
        assert client.stdout.readline()
        yield
    finally:
        client.kill()
        client.communicate()


@contextmanager
def locked_postgres(postgres: Postgres) -> Iterator[list[str]]:
    name = f"kill_{os.getpid()}_{time.monotonic_ns()}"
    postgres.sql(f"CREATE DATABASE {name}")
    postgres.sql("CREATE TABLE numbers AS SELECT generate_series(1, 1000) AS n", name)
    words = [str(postgres.programs / "psql"), "-XAtq", "-d", postgres.url(name)]
    with holding(words, "BEGIN; LOCK TABLE numbers; SELECT 1;\n"):
        yield ["--postgres", f"main={postgres.url(name)}"]


@contextmanager
def locked_mariadb(mariadb: Mariadb) -> Iterator[list[str]]:
    name = f"kill_{os.getpid()}_{time.monotonic_ns()}"
    mariadb.sql(f"CREATE DATABASE {name}")
    mariadb.sql("CREATE TABLE numbers SELECT seq FROM seq_1_to_1000", name)
    words = [mariadb.client, "--no-defaults", "-h127.0.0.1", f"-P{mariadb.port}", "-utester", '-ppass"word', "-BNn"]
    with holding([*words, name], "LOCK TABLES numbers WRITE; SELECT 1;\n"):
        yield ["--mariadb", f"main={mariadb.url(name)}"]


def test_a_killed_backup_leaves_no_pg_dump(cli: Cli, postgres: Postgres) -> None:
    with locked_postgres(postgres) as words, started(cli, "backup", *words) as child:
        waiting = "SELECT count(*) FROM pg_locks l JOIN pg_class c ON c.oid = l.relation WHERE NOT granted"
        name = words[1].rpartition("/")[2]
        killed_with_all_it_started(child, lambda pids: "pg_dump" in names(pids) and postgres.sql(waiting, name) != "0")
    assert snapshots(cli) == 0
    assert cli("backup", *words).code == 0
    assert cli("check", "--read-data").code == 0


def test_a_killed_backup_leaves_no_mariadb_dump(cli: Cli, mariadb: Mariadb) -> None:
    (cli.home / ".my.cnf").write_text(mariadb.my_cnf)
    with locked_mariadb(mariadb) as words, started(cli, "backup", *words) as child:
        killed_with_all_it_started(
            child, lambda _: "metadata lock" in mariadb.sql("SHOW PROCESSLIST") and below(child.pid)
        )
    assert snapshots(cli) == 0
    assert cli("backup", *words).code == 0


def slow(redis: Start) -> Redis:
    """A server whose dump takes half a minute."""
    server = redis("--enable-debug-command", "yes", "--rdb-key-save-delay", "1000")
    server("DEBUG", "POPULATE", 30_000)
    return server


def saving(server: Redis) -> bool:
    return b"rdb_bgsave_in_progress:1" in server("INFO", "persistence")


def test_a_killed_backup_leaves_nothing_at_redis(cli: Cli, redis: Start) -> None:
    server = slow(redis)
    with started(cli, "backup", "--redis", server.url()) as child:
        killed_with_all_it_started(child, lambda _: saving(server))
    soon(lambda: not saving(server), "the server still makes a dump for nobody")
    assert snapshots(cli) == 0
    server("CONFIG", "SET", "rdb-key-save-delay", 0)
    done = cli("backup", "--redis", server.url(), "--json")
    assert done.code == 0 and done.summary["total_bytes"] > 500_000


def test_a_redis_server_that_dies_in_the_middle_leaves_no_snapshot(cli: Cli, redis: Start) -> None:
    server = slow(redis)
    with started(cli, "backup", "--redis", server.url()) as child:
        soon(lambda: child.poll() is not None or saving(server), "it never came to its dump")
        os.kill(server.pid, signal.SIGKILL)
        out, _ = child.communicate(timeout=PATIENCE)
    assert child.returncode != 0
    assert b"too early" in out and b"Traceback" not in out
    assert snapshots(cli) == 0


def test_a_backup_outlives_the_shell_that_started_it(cli: Cli, tmp_path: Path) -> None:
    ready, go = tmp_path / "ready", tmp_path / "go"
    wait = f"sh -c 'touch {ready}; while [ ! -e {go} ]; do sleep 0.05; done; echo all of it'"
    backup = ["backup", "--workers", "0", "--command", f"slow={wait}"]
    shell = subprocess.Popen(["sh", "-c", '"$@" & wait', "sh", *cli.words, *backup], env=cli.environ, cwd=cli.home)
    soon(ready.exists, "it never came to its command")
    shell.kill()
    shell.wait()
    time.sleep(0.5)  # longer than between two looks of whoever might mind
    go.touch()
    soon(lambda: snapshots(cli) == 1, "the backup ended with the shell")
    assert cli("dump", "latest:/.holdfast/databases/command/slow").out == "all of it\n"


def test_redis_takes_longer_than_allowed(cli: Cli, redis: Start) -> None:
    server = slow(redis)
    done = cli("backup", "--redis", server.url(), "--dump-timeout", "1s")
    assert done.code != 0 and "longer than its limit of 1 s" in done.err
    assert snapshots(cli) == 0


def test_a_server_that_ends_the_dump_leaves_no_snapshot(cli: Cli, postgres: Postgres, mariadb: Mariadb) -> None:
    (cli.home / ".my.cnf").write_text(mariadb.my_cnf)
    with locked_postgres(postgres) as words, started(cli, "backup", *words) as child:
        end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'holdfast'"
        waits = f"{end} AND wait_event_type = 'Lock'"
        soon(lambda: child.poll() is not None or postgres.sql(waits), "pg_dump never waited")
        out, _ = child.communicate(timeout=PATIENCE)
    assert child.returncode == 3 and b"pg_dump" in out and b"Traceback" not in out
    assert ".dump" not in cli("ls", "latest:/.holdfast/databases/postgres/main").out  # the roles are there
    with locked_mariadb(mariadb) as words, started(cli, "backup", *words) as child:
        waits = "SELECT id FROM information_schema.processlist WHERE state LIKE '%metadata lock%'"
        soon(lambda: child.poll() is not None or mariadb.sql(waits), "mariadb-dump never waited")
        mariadb.sql(f"KILL {mariadb.sql(waits)}")
        out, _ = child.communicate(timeout=PATIENCE)
    assert child.returncode == 1 and b"mariadb-dump" in out and b"Traceback" not in out
    assert snapshots(cli) == 1


MISBEHAVING = """#!/bin/sh
case "$*" in *--version*) exec {real} "$@";; esac
{real} "$@" | {{ {deed}; }}
"""


@pytest.mark.parametrize(
    ("deed", "told"),
    [
        ("cat; echo the disk is on fire >&2; exit 1", "the disk is on fire"),
        ("head -c 300; kill -9 $$", "SIGKILL"),
        ("head -c 300; sleep 1000", "longer than its limit of 2 s"),
    ],
    ids=["fails after all is written", "is killed", "hangs"],
)
def test_a_pg_dump_that_misbehaves_leaves_nothing(
    cli: Cli, postgres: Postgres, documents: Path, tmp_path: Path, deed: str, told: str
) -> None:
    postgres.sql("CREATE TABLE IF NOT EXISTS misbehaving AS SELECT generate_series(1, 1000) AS n")
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "pg_dump").write_text(MISBEHAVING.format(real=postgres.programs / "pg_dump", deed=deed))
    (programs / "pg_dump").chmod(0o755)
    words = ("backup", str(documents), "--postgres", f"main={postgres.url('postgres')}")
    limit = ("--dump-timeout", "2s") if "sleep" in deed else ()
    done = cli(*words, *limit, PATH=f"{programs}:{cli.environ['PATH']}")
    assert done.code == 3 and told in done.err, done.err
    place = "latest:/.holdfast/databases/postgres/main"
    assert "postgres.dump" not in cli("ls", place).out
    assert "notes.txt" in cli("ls", "latest", "-r").out
    assert cli(*words).code == 0
    assert "postgres.dump" in cli("ls", place).out


def mark(server: Redis) -> bytes:
    """What the key says that is there while a load goes on; asked without starting a program each time."""
    with socket.create_connection(("127.0.0.1", server.port)) as link:
        link.sendall(b"GET holdfast:restoring\r\n")
        return link.recv(1000)


def test_a_killed_load_into_redis_is_told_and_made_good(cli: Cli, redis: Start) -> None:
    server, other = redis("--enable-debug-command", "yes"), redis()
    server("DEBUG", "POPULATE", 50_000)
    assert cli("backup", "--redis", f"main={server.url()}").code == 0
    other("SET", "former", "1")
    words = ("restore", "latest", "--database", "main", "--replace", "--to")
    line = Proxy(other.port)
    line.weather.rate = 200_000  # so it takes 20 seconds
    with closing(line), started(cli, *words, f"redis://127.0.0.1:{line.port}") as child:
        soon(lambda: child.poll() is not None or mark(other) != b"$-1\r\n", "it never began")
        child.kill()
        child.wait()
    assert 0 < int(other("DBSIZE")) < 50_000
    told = cli(*words[:4], "--to", other.url())
    assert told.code == 2 and "cut short" in told.err
    done = cli(*words, other.url(), "--json")
    assert done.code == 0, done.err
    assert int(other("DBSIZE")) == 50_000
    assert b"former" in Path(done.summary["kept"]).read_bytes()


@pytest.mark.parametrize("call", [4, 24, 25, 27], ids=["loaded", "moved", "cleared", "made anew"])
def test_a_killed_replacement_in_mariadb_loses_nothing(
    cli: Cli, mariadb: Mariadb, tmp_path: Path, need: Callable[[str], str], call: int
) -> None:
    """Killed at the end of a certain one of its 28 calls to the server."""
    name = f"swap_{os.getpid()}_{time.monotonic_ns()}"
    (cli.home / ".my.cnf").write_text(mariadb.my_cnf)
    mariadb.sql(f"CREATE DATABASE {name}")
    mariadb.sql("CREATE TABLE numbers SELECT seq FROM seq_1_to_100", name)
    mariadb.sql("CREATE TRIGGER t BEFORE INSERT ON numbers FOR EACH ROW SET NEW.seq = 0", name)
    mariadb.sql("CREATE VIEW few AS SELECT * FROM numbers WHERE seq < 10", name)
    assert cli("backup", "--mariadb", f"main={mariadb.url(name)}").code == 0
    mariadb.sql("DELETE FROM numbers WHERE seq > 7", name)
    programs = tmp_path / "programs"
    programs.mkdir()
    for program in ("mariadb", "mariadb-dump"):
        (programs / program).write_text(
            f'#!/bin/sh\necho x >> {tmp_path}/calls\n{need(program)} "$@"; code=$?\n'
            f"[ $(wc -l < {tmp_path}/calls) -ne {call} ] || kill -9 $PPID\nexit $code\n"
        )
        (programs / program).chmod(0o755)
    words = ("restore", "latest", "--database", "main", "--to", mariadb.url(name), "--replace")
    killed = cli(*words, PATH=f"{programs}:{cli.environ['PATH']}")
    assert killed.code == -signal.SIGKILL, (killed, (tmp_path / "calls").read_text())
    places = [name, *mariadb.sql(f"SHOW DATABASES LIKE '{name}_before%'").split()]
    has_rows = "SELECT count(*) FROM information_schema.tables WHERE table_schema = '{}' AND table_name = 'numbers'"
    counts = [
        mariadb.sql("SELECT count(*) FROM numbers", db) for db in places if mariadb.sql(has_rows.format(db)) == "1"
    ]
    assert counts in (["7"], ["100", "7"])
    done = cli(*words, "--json")
    assert done.code == 0, done.err
    assert mariadb.sql("SELECT count(*) FROM few", name) == "9"
    mariadb.sql("INSERT INTO numbers VALUES (5)", name)
    assert mariadb.sql("SELECT count(*) FROM numbers WHERE seq = 0", name) == "1"
    assert mariadb.sql("SELECT count(*) FROM numbers", done.summary["kept"]) in ("7", "100")
