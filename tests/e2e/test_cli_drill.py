"""``holdfast drill`` through the installed command: plans, databases, reports, and what it says when it fails."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.conftest import Cli, Done
from tests.servers.mariadb import Mariadb
from tests.servers.postgres import Postgres
from tests.servers.redis import Start

from holdfast.config import keyfile
from holdfast.files.scratch import scratch_folder

# A key, which unlike a password opens a vault without half a second of derivation.
PASSWORD = {"HOLDFAST_PASSWORD": keyfile.generate(bytes).decode()}


@pytest.fixture
def plan(cli: Cli, documents: Path, tmp_path: Path) -> Callable[..., None]:
    """Writes a configuration with the vault ``one`` of a kind, made, and a plan ``docs`` with more lines in it."""

    def write(*lines: str, kind: str = "archive") -> None:
        path = cli.home / ".config/holdfast/holdfast.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(
            f"vaults: {{one: {{location: {tmp_path}/one, kind: {kind}}}}}\n"
            f"plans:\n  docs:\n    paths: [{documents}]\n" + "".join(f"    {line}\n" for line in lines)
        )
        if not (tmp_path / "one").exists():
            assert cli("init", "one", **PASSWORD).code == 0

    return write


def drill(cli: Cli, *words: str, **environ: str) -> Done:
    """Drill, and see that nothing is left in the scratch place."""
    done = cli("drill", *words, **PASSWORD, **environ)
    if "--keep" not in words:
        place = cli.home / ".cache/holdfast/drill"
        assert not place.exists() or os.listdir(place) == []
    return done


@pytest.mark.parametrize("kind", ["archive", "mirror", "versioned"])
def test_every_kind_of_vault_is_proven(cli: Cli, plan: Any, documents: Path, kind: str) -> None:
    with closing(sqlite3.connect(documents / "app.db")) as database:
        database.execute("CREATE TABLE users (id)")
        database.executemany("INSERT INTO users VALUES (?)", [(1,), (2,)])
        database.commit()
    plan(
        'drill: {queries: {app.db: ["select count(*) = 2 from users"]}, commands: ["test -d letters"]}',
        kind=kind,
    )
    assert cli("backup", "docs", **PASSWORD).code == 0
    done = drill(cli, "docs", "--json")
    assert done.code == 0, done.out + done.err
    summary = done.summary
    assert (summary["outcome"], summary["plan"], summary["vault"], summary["vault_kind"]) == ("ok", "docs", "one", kind)
    assert (summary["files"], summary["files_total"]) == (4, 4)
    assert summary["compared"]["files_with_source"] == 3  # not the database: the vault has a copy of one instant
    sample = drill(cli, "docs", "--sample", "9", "--json").summary
    assert sample["files"] == 2 and sample["outcome"] == "ok"  # one of the letters, and the database of the queries
    (database_seen,) = summary["databases"]
    assert database_seen["rows"] == {"users": 2} and database_seen["queries"][0]["ok"]
    assert summary["commands"][0]["ok"] and not summary["damage"]
    finished = [event for event in done.events if event.get("kind") == "drill.finished"]
    assert len(finished) == 1 and finished[0]["data"]["outcome"] == "ok"


def test_drills_have_a_trend_and_tables_that_shrink_are_told(cli: Cli, plan: Any, documents: Path) -> None:
    with closing(sqlite3.connect(documents / "app.db")) as database:
        database.execute("CREATE TABLE users (id)")
        database.executemany("INSERT INTO users VALUES (?)", [(1,), (2,)])
        database.commit()
        plan()
        assert cli("backup", "docs", **PASSWORD).code == 0
        assert drill(cli, "docs").code == 0
        database.execute("DELETE FROM users WHERE id = 1")
        database.commit()
    assert cli("backup", "docs", **PASSWORD).code == 0
    done = drill(cli, "docs", "--json")
    assert done.code == 0
    assert done.summary["databases"][0]["fewer_rows"] == {"users": {"before": 2, "now": 1}}
    assert any(event.get("kind") == "drill.shrunk" and event["level"] == "warning" for event in done.events)
    assert [earlier["outcome"] for earlier in done.summary["previous"]] == ["ok"]
    history = cli("history", "--json")
    runs = [event for event in history.events if event.get("operation") == "drill"]
    assert len(runs) == 2 and all(run["outcome"] == "ok" for run in runs)


def test_reports_in_three_forms(cli: Cli, plan: Any, tmp_path: Path) -> None:
    plan()
    assert cli("backup", "docs", **PASSWORD).code == 0
    for ending in ("html", "json", "txt"):
        file = tmp_path / f"report.{ending}"
        assert drill(cli, "docs", "-q", "--report", str(file)).code == 0
        words = file.read_text()
        assert "docs" in words and "SHA-256" in words
    assert json.loads((tmp_path / "report.json").read_text())["outcome"] == "ok"
    assert (tmp_path / "report.html").read_text().startswith("<!doctype html>")
    assert sorted(path.name for path in tmp_path.glob("report*")) == ["report.html", "report.json", "report.txt"]
    refused = drill(cli, "docs", "--report", "report.pdf")
    assert refused.code == 2 and ".html" in refused.err


def test_what_is_not_as_it_should_be_fails_the_drill(cli: Cli, plan: Any, documents: Path) -> None:
    with closing(sqlite3.connect(documents / "app.db")) as database:
        database.execute("CREATE TABLE users (id)")
        database.commit()
    plan(
        'drill: {queries: {app: ["select count(*) from users", "select 1"], lost: ["select 1"]},'
        ' commands: [{run: "echo before; exit 3", name: look}]}'
    )
    assert cli("backup", "docs", **PASSWORD).code == 0
    done = drill(cli, "docs", "--json")
    assert done.code == 13
    messages = " ".join(damage["message"] for damage in done.summary["damage"])
    assert "a query is not true: select count(*) from users (0)" in messages
    assert "lost" in messages and "no database of this name" in messages
    assert "look" in messages and "exit status 3" in messages
    assert done.summary["commands"][0]["output"] == "before"


def test_damage_in_a_mirror_is_named(cli: Cli, plan: Any, documents: Path, tmp_path: Path) -> None:
    plan(kind="mirror")
    assert cli("backup", "docs", **PASSWORD).code == 0
    copy = Path(f"{tmp_path}/one{documents}/letters/ada.txt")
    copy.chmod(0o600)
    copy.write_text("Dear Adx\n")
    done = drill(cli, "docs", "--json")
    assert done.code == 13
    assert done.summary["damage"][0]["files"][0].endswith("letters/ada.txt")


def test_a_sample_without_a_plan_and_a_kept_tree(cli: Cli, documents: Path) -> None:
    assert cli("backup", str(documents)).code == 0
    done = cli("drill", "--sample", "50%", "--keep", "--json")
    assert done.code == 0, done.err
    summary = done.summary
    assert 1 <= summary["files"] < summary["files_total"] == 3 and not summary["whole"]
    assert any("only a sample" in words for words in summary["not_proven"])
    kept = Path(summary["kept"])
    assert [path.read_bytes() for path in kept.rglob("*") if path.is_file()]
    assert cli("drill").code == 0
    assert kept.exists()


def test_mistakes_are_told(cli: Cli, plan: Any, documents: Path, tmp_path: Path) -> None:
    assert cli("drill").code == 10
    plan()
    missing = drill(cli, "docs")
    assert missing.code == 10 and "no snapshot of the plan 'docs'" in missing.err
    assert drill(cli, "dcs").code == 10
    assert drill(cli, "docs", "--sample", "0").code == 2
    assert drill(cli, "docs", "--snapshot", "newest").code == 2
    assert cli("backup", "docs", **PASSWORD).code == 0
    assert drill(cli, "docs", "--snapshot", "random").code == 0
    plan("drill: {vault: two}")
    wrong = drill(cli, "docs")
    assert wrong.code == 2 and "no vault named 'two'" in wrong.err
    plan('drill: {postgres: "postgresql://me:s3cret@localhost/"}')
    secret = drill(cli, "docs")
    assert secret.code == 2 and "s3cret" not in secret.err
    plan(f"drill: {{scratch: {documents}/notes.txt}}")
    assert drill(cli, "docs").code == 2


# -- servers -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def app(postgres: Postgres, request: pytest.FixtureRequest) -> str:
    """A database of PostgreSQL with rows, an owner of its own and a policy that names a role."""
    name = f"drill_{abs(hash(request.node.name)) % 10**8}"
    for sql in (f"CREATE ROLE owner_{name}", f"CREATE DATABASE {name} OWNER owner_{name}"):
        postgres.sql(sql)
    postgres.sql(
        "CREATE TABLE users (id int PRIMARY KEY, name text);"
        "INSERT INTO users SELECT i, 'x' FROM generate_series(1, 50) i;"
        f"ALTER TABLE users OWNER TO owner_{name}; CREATE POLICY own ON users TO owner_{name} USING (true)",
        name,
    )
    return name


def test_dumps_of_postgres_are_loaded_into_a_server_of_its_own(
    cli: Cli, plan: Any, postgres: Postgres, app: str
) -> None:
    queries = f'queries: {{{app}: ["select count(*) = 50 from users", "select false"]}}'
    plan(f'databases: [{{postgres: {{url: "{postgres.url(app)}", name: main}}}}]', f"drill: {{{queries}}}")
    assert cli("backup", "docs", **PASSWORD).code == 0
    databases = postgres.sql("SELECT count(*) FROM pg_database")
    # What our own environment says of servers must not lead to another one.
    done = drill(cli, "docs", "--json", PGHOST="127.0.0.1", PGPORT=str(postgres.port), PGUSER="tester")
    assert done.code == 13, done.out + done.err
    (found,) = done.summary["databases"]
    assert (found["name"], found["kind"], found["rows"]) == (f"main/{app}", "postgres", {"users": 50})
    assert [query["ok"] for query in found["queries"]] == [True, False]
    assert found["load_seconds"] > 0 and done.summary["recovery"]["load_seconds"] > 0
    assert postgres.sql("SELECT count(*) FROM pg_database") == databases
    plain = drill(cli, "docs", "--no-databases", "--json")
    assert plain.code == 0 and not plain.summary["databases"]
    assert any("not opened" in words for words in plain.summary["not_proven"])


def test_a_configured_server_gets_a_database_that_goes_away(cli: Cli, plan: Any, postgres: Postgres, app: str) -> None:
    url = postgres.url()
    plan(
        f'databases: [{{postgres: {{url: "{postgres.url(app)}"}}}}]',
        f'drill: {{postgres: "{url}", queries: {{{app}: ["select count(*) = 50 from users"]}}}}',
    )
    assert cli("backup", "docs", **PASSWORD).code == 0
    done = drill(cli, "docs", "--json")
    assert done.code == 0, done.out + done.err
    assert done.summary["databases"][0]["rows"] == {"users": 50}
    assert postgres.sql("SELECT count(*) FROM pg_database WHERE datname LIKE 'holdfast_drill%'") == "0"
    plan(
        f'databases: [{{postgres: {{url: "{postgres.url(app)}"}}}}]',
        'drill: {postgres: "postgresql://127.0.0.1:1/"}',
    )
    gone = drill(cli, "docs", "--json")
    assert gone.code == 3 and gone.summary["databases"][0]["ok"] is None


def test_dumps_of_mariadb_are_loaded_into_a_server_of_its_own(cli: Cli, plan: Any, mariadb: Mariadb) -> None:
    mariadb.sql("CREATE DATABASE IF NOT EXISTS drilled")
    mariadb.sql("CREATE OR REPLACE TABLE `a ``b` (id int PRIMARY KEY)", "drilled")
    mariadb.sql("INSERT INTO `a ``b` SELECT seq FROM seq_1_to_70", "drilled")
    mariadb.sql("CREATE OR REPLACE VIEW seen AS SELECT * FROM `a ``b`", "drilled")  # runs as tester, whom nobody saves
    (cli.home / ".my.cnf").write_text(mariadb.my_cnf)
    plan(
        f'databases: [{{mariadb: {{url: "{mariadb.url("drilled")}"}}}}]',
        'drill: {queries: {drilled: ["select count(*) = 70 from `a ``b`", "select count(*) = 70 from seen"]}}',
    )
    assert cli("backup", "docs", **PASSWORD).code == 0
    done = drill(cli, "docs", "--json")
    assert done.code == 0, done.out + done.err
    (found,) = done.summary["databases"]
    assert (found["kind"], found["rows"]) == ("mariadb", {"a `b": 70})
    assert [query["ok"] for query in found["queries"]] == [True, True]
    assert not any("changed at their source" in sentence for sentence in done.summary["not_proven"])  # a dump has none


@pytest.mark.parametrize("kind", ["mirror", "versioned"])
def test_what_a_vault_of_plain_files_never_takes_is_no_damage(cli: Cli, plan: Any, documents: Path, kind: str) -> None:
    plan("databases: [{command: {name: app, run: echo one}}]", 'drill: {queries: {app: "select 1"}}', kind=kind)
    assert cli("backup", "docs").code == 0
    done = drill(cli, "docs", "--json")
    assert done.code == 3, done.out + done.err
    assert done.summary["databases"][0]["ok"] is None and not done.summary["damage"]


def test_a_mirror_of_several_plans_is_proven_for_each(cli: Cli, plan: Any, documents: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other/file").write_text("x")
    plan(kind="mirror")
    assert cli("backup", "docs").code == 0
    made = cli("snapshots", "--vault", "one", "--json").events[0]["time"]
    assert cli("backup", tmp_path / "other", "--to", "one").code == 0
    done = drill(cli, "docs", "--json")
    assert done.code == 0
    assert done.summary["snapshot_time"] == made, "as old as the plan's own files there"
    assert done.summary["files"] == done.summary["files_total"] > 1  # of all that the mirror holds


def test_a_database_that_a_killed_drill_left_is_dropped(
    cli: Cli, plan: Any, postgres: Postgres, tmp_path: Path
) -> None:
    scratch = tmp_path / "scratch"
    name = f"holdfast_drill_{os.urandom(6).hex()}"
    precious = f"precious_{os.urandom(4).hex()}"
    for each in (name, precious):
        postgres.sql(f"CREATE DATABASE {each}")
    pid = os.fork()
    if pid == 0:
        opened = scratch_folder(os.fsencode(scratch))
        left = opened.__enter__()
        left.add("databases", ["postgres", name])
        left.add("databases", ["postgres", precious])
        os._exit(0)
    os.waitpid(pid, 0)
    plan(f'drill: {{postgres: "{postgres.url()}", scratch: {scratch}}}')
    assert cli("backup", "docs", **PASSWORD).code == 0
    assert drill(cli, "docs").code == 0
    assert os.listdir(scratch) == []
    found = postgres.sql(f"SELECT datname FROM pg_database WHERE datname IN ('{name}', '{precious}')")
    assert found == precious  # only names of ours


def test_dumps_of_redis_are_loaded_into_a_server_of_its_own(cli: Cli, plan: Any, redis: Start) -> None:
    server = redis()
    for number in range(5):
        server("SET", f"key{number}", "value")
    plan(
        f'databases: [{{redis: {{url: "{server.url()}", name: cache}}}}]',
        'drill: {queries: {cache: ["EXISTS key1", "EXISTS nothing"]}}',
    )
    assert cli("backup", "docs", **PASSWORD).code == 0
    done = drill(cli, "docs", "--json", REDISCLI_AUTH="another server's")
    assert done.code == 13, done.out + done.err
    (found,) = done.summary["databases"]
    assert (found["kind"], found["name"], found["rows"]) == ("redis", "cache", {"db0": 5})
    assert [query["ok"] for query in found["queries"]] == [True, False]
