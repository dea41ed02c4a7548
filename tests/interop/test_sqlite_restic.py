"""SQLite files and dumps as we store them, in stock restic's hands."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from tests.restickit import Restic, ours, save

from holdfast.vaults.base import Outcome


def rows(path: Path) -> list[tuple[int, str]]:
    with closing(sqlite3.connect(path)) as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        return database.execute("SELECT id, data FROM rows").fetchall()


def test_restic_checks_restores_and_goes_on_from_a_database_in_blocks(
    tmp_path: Path, need: Callable[[str], str]
) -> None:
    folder, dice = tmp_path / "src", random.Random(4)
    folder.mkdir()
    with closing(sqlite3.connect(folder / "big.db")) as database:
        database.execute("CREATE TABLE rows (id INTEGER PRIMARY KEY, data TEXT)")
        texts = ((number, dice.randbytes(450).hex()) for number in range(6000))
        database.executemany("INSERT INTO rows VALUES (?, ?)", texts)
        database.commit()
    restic = Restic(need("restic"), tmp_path / "vault")
    vault = ours(restic.place, make=True)
    assert save(vault, tmp_path, "src", sqlite=True).outcome is Outcome.OK
    with closing(sqlite3.connect(folder / "big.db")) as database:
        database.execute("UPDATE rows SET data = 'changed' WHERE id = 3000")
        database.commit()
    wanted = rows(folder / "big.db")
    second = save(vault, tmp_path, "src", sqlite=True)
    assert 0 < second.data_added <= 4 * (64 << 10)
    restic.run("check", "--read-data")
    restic.run("restore", "latest", "--target", str(tmp_path / "out"))
    assert rows(tmp_path / "out/src/big.db") == wanted
    restic.back_up(tmp_path, "src", force=True)
    restic.run("check", "--read-data")
