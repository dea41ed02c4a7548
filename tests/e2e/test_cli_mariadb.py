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


OBJECTS = """
CREATE TABLE parent (id int PRIMARY KEY, name varchar(20)) ENGINE=InnoDB;
CREATE TABLE child (id int PRIMARY KEY, parent int, FOREIGN KEY (parent) REFERENCES parent (id)) ENGINE=InnoDB;
INSERT INTO parent VALUES (1, 'one'); INSERT INTO child VALUES (1, 1);
CREATE TABLE `odd ``name` (a int);
CREATE SEQUENCE counter START WITH 7;
CREATE VIEW a_view AS SELECT z.name FROM z_view z;
CREATE VIEW few AS SELECT id FROM users WHERE id < 10;
CREATE VIEW calling AS SELECT three() AS number;
CREATE PROCEDURE add_one() INSERT INTO parent VALUES (99, 'added');
CREATE EVENT often ON SCHEDULE EVERY 1 YEAR DO DELETE FROM parent;
"""


def objects(mariadb: Mariadb, name: str) -> list[str]:
    """Everything that a database holds, by kind and name; events with whether they are on."""
    where = f"_schema = '{name}'"
    return mariadb.sql(
        f"SELECT concat(table_type, ' ', table_name) FROM information_schema.tables WHERE table{where} UNION"
        f" SELECT concat('trigger ', trigger_name) FROM information_schema.triggers WHERE trigger{where} UNION"
        f" SELECT concat(routine_type, ' ', routine_name) FROM information_schema.routines WHERE routine{where} UNION"
        f" SELECT concat('event ', event_name, ' ', status) FROM information_schema.events WHERE event{where}"
        " ORDER BY 1"
    ).splitlines()


def fill(mariadb: Mariadb, name: str) -> list[str]:
    mariadb.sql("CREATE VIEW z_view AS SELECT name FROM (SELECT 'x' AS name) AS x", name)
    mariadb.sql(OBJECTS, name)
    return objects(mariadb, name)


def databases(mariadb: Mariadb, name: str) -> list[str]:
    return mariadb.sql(f"SHOW DATABASES LIKE '{name}%'").splitlines()


def test_a_filled_database_is_replaced_and_kept(cli: Cli, mariadb: Mariadb, database: str) -> None:
    wanted = fill(mariadb, database)
    assert cli("backup", "--mariadb", f"main={mariadb.url(database)}").code == 0
    mariadb.sql("DELETE FROM users WHERE id > 10; DROP VIEW few; CREATE TABLE later (a int)", database)
    mariadb.sql("CREATE TRIGGER late BEFORE INSERT ON later FOR EACH ROW SET NEW.a = 1", database)
    former = objects(mariadb, database)

    words = ("restore", "latest", "--database", "main", "--to", mariadb.url(database), "--replace")
    would = cli(*words, "--dry-run")
    assert would.code == 0 and objects(mariadb, database) == former
    done = cli(*words, "--json")
    assert done.code == 0, done.err
    assert objects(mariadb, database) == wanted
    assert rows(mariadb, database) == 500
    assert mariadb.sql("SELECT count(*) FROM few", database) == "9"
    assert mariadb.sql("SELECT name FROM a_view", database) == "x"
    assert mariadb.sql("SELECT number FROM calling", database) == "3"
    mariadb.sql("CALL add_one()", database)
    keys = "SELECT concat(constraint_schema, '.', table_name, '.', unique_constraint_schema) FROM"
    keys += " information_schema.referential_constraints WHERE constraint_schema = '{0}'"
    assert mariadb.sql(keys.format(database)) == f"{database}.child.{database}"

    kept = done.summary["kept"]
    assert objects(mariadb, kept) == [line.replace("ENABLED", "DISABLED") for line in former]
    assert mariadb.sql(keys.format(kept)) == f"{kept}.child.{kept}"
    assert rows(mariadb, kept) == 10
    mariadb.sql("INSERT INTO later VALUES (5)", kept)
    assert mariadb.sql("SELECT a FROM later", kept) == "1"
    assert mariadb.sql("SELECT count(*) FROM parent WHERE id = 99", kept) == "0"
    assert databases(mariadb, database) == [database, kept]


def test_a_replacement_that_cannot_take_the_name_leaves_all_as_it_was(
    cli: Cli, mariadb: Mariadb, database: str
) -> None:
    wanted = fill(mariadb, database)
    assert cli("backup", "--mariadb", f"main={mariadb.url(database)}").code == 0
    # who may not drop tables may drop triggers, but not move tables
    mariadb.sql("DELETE FROM users WHERE id > 10", database)
    mariadb.sql("CREATE USER IF NOT EXISTS halfway@'127.0.0.1' IDENTIFIED BY 'p'")
    mariadb.sql("GRANT ALL ON *.* TO halfway@'127.0.0.1'; REVOKE DROP ON *.* FROM halfway@'127.0.0.1'")
    mariadb.sql(f"GRANT DROP ON `{database}\\_new%`.* TO halfway@'127.0.0.1'")
    mariadb.sql(f"GRANT DROP ON `{database}\\_before%`.* TO halfway@'127.0.0.1'")
    (cli.home / ".my.cnf").write_text("[client]\nuser=halfway\npassword=p\n")
    failed = cli("restore", "latest", "--database", "main", "--to", mariadb.url(database), "--replace")
    assert failed.code == 1 and "denied" in failed.err, failed.err
    assert objects(mariadb, database) == wanted
    assert rows(mariadb, database) == 10
    assert databases(mariadb, database) == [database]
