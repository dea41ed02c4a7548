"""MariaDB through the installed command: saved, loaded back, and what it says where it cannot be done."""

from __future__ import annotations

import pytest
from tests.e2e.conftest import Cli
from tests.servers.mariadb import Mariadb

PLACE = "/.holdfast/databases/mariadb"


@pytest.fixture
def database(mariadb: Mariadb, cli: Cli, request: pytest.FixtureRequest) -> str:
    """A database of the test's own, with 500 rows, a routine and a trigger; the user's option file has the password."""
    name = f"app_{abs(hash(request.node.name)) % 10**8}"
    mariadb.sql(f"CREATE DATABASE {name}")
    mariadb.sql("CREATE TABLE users (id int PRIMARY KEY, data blob)", name)
    mariadb.sql("INSERT INTO users SELECT seq, concat(char(0), seq) FROM seq_1_to_500", name)
    mariadb.sql("CREATE FUNCTION three() RETURNS int DETERMINISTIC RETURN 3", name)
    mariadb.sql("CREATE TRIGGER t BEFORE INSERT ON users FOR EACH ROW SET NEW.id = NEW.id + 1000", name)
    (cli.home / ".my.cnf").write_text(mariadb.my_cnf)
    return name


def rows(mariadb: Mariadb, name: str) -> int:
    return int(mariadb.sql("SELECT count(DISTINCT data) FROM users", name))


def test_mariadb_there_and_back(cli: Cli, mariadb: Mariadb, database: str) -> None:
    done = cli("backup", "--mariadb", f"main={mariadb.url(database)}", "--json")
    assert done.code == 0, done.err
    assert done.summary["databases"] == 1
    again = cli("backup", "--mariadb", f"main={mariadb.url(database)}", "--json")
    assert again.summary["data_blobs"] == 0

    words = ("restore", "latest", "--database", database)
    refused = cli(*words, "--to", mariadb.url(database))
    assert refused.code == 2 and "is not empty" in refused.err
    assert cli(*words, "--to", mariadb.url(f"{database}_two")).code == 0
    assert rows(mariadb, f"{database}_two") == 500
    assert mariadb.sql("SELECT three()", f"{database}_two") == "3"
    mariadb.sql("INSERT INTO users VALUES (1, 'x')", f"{database}_two")
    assert mariadb.sql("SELECT id FROM users WHERE data = 'x'", f"{database}_two") == "1001"
    assert cli(*words, "--to", mariadb.url("x"), "--replace").code == 2


def test_all_databases_but_the_systems_own(cli: Cli, mariadb: Mariadb, database: str) -> None:
    assert cli("backup", "--mariadb", f"main={mariadb.url()}").code == 0
    names = cli("ls", f"latest:{PLACE}/main").out
    assert f"{database}.sql" in names
    assert "information_schema" not in names and "mysql" not in names


def test_a_database_that_is_not_there_leaves_nothing(cli: Cli, mariadb: Mariadb, database: str) -> None:
    done = cli("backup", "--mariadb", mariadb.url("no_such_database"))
    assert done.code == 1
    assert "Unknown database" in done.err


def test_a_wrong_password_is_told(cli: Cli, mariadb: Mariadb, database: str) -> None:
    (cli.home / ".my.cnf").write_text("[client]\nuser=tester\npassword=wrong\n")
    done = cli("backup", "--mariadb", mariadb.url())
    assert done.code == 1
    assert "Access denied" in done.err and ".my.cnf" in done.err
    refused = cli("backup", "--mariadb", "mariadb://tester:s3cret@127.0.0.1/x")
    assert refused.code == 2 and "s3cret" not in refused.err


def test_a_dump_that_breaks_off_while_it_is_loaded(cli: Cli, mariadb: Mariadb, database: str) -> None:
    mariadb.sql("CREATE VIEW broken AS SELECT * FROM users", database)
    assert cli("backup", "--mariadb", f"main={mariadb.url(database)}").code == 0
    mariadb.sql("CREATE USER IF NOT EXISTS small@'127.0.0.1' IDENTIFIED BY 'p'")
    mariadb.sql("GRANT CREATE, INSERT, DROP, SELECT, ALTER, LOCK TABLES ON *.* TO small@'127.0.0.1'")
    (cli.home / ".my.cnf").write_text("[client]\nuser=small\npassword=p\n")
    failed = cli("restore", "latest", "--database", "main", "--to", mariadb.url(f"{database}_three"))
    assert failed.code == 1 and "denied" in failed.err
    assert mariadb.sql(f"SHOW DATABASES LIKE '{database}_three'") == ""
