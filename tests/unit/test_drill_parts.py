"""The parts of a drill: scratch folders, samples, the witness of a restore, queries, rows, and the report's pages."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from holdfast.app.drill_databases import _Asked, compare_rows
from holdfast.app.drill_report import rows_before
from holdfast.app.drill_results import DatabaseProof, is_true
from holdfast.cli import drillhtml, drilltext
from holdfast.config import words
from holdfast.files.chosen import Chosen
from holdfast.files.scratch import MARK, PREFIX, scratch_folder, sweep
from holdfast.kernel.cancel import Cancel
from holdfast.kernel.errors import Denied, HoldfastError, Invalid
from holdfast.sources.sqliteproof import prove
from holdfast.vaults.drill.model import Sample
from holdfast.vaults.proven import Proving
from holdfast.vaults.witness import Witness, compare, fastest

LATER = 1 << 62


def fork_and_die(work: object) -> None:
    """Run ``work`` in a process that ends without cleaning up."""
    pid = os.fork()
    if pid == 0:
        try:
            work()  # type: ignore[operator]
        finally:
            os._exit(0)  # while ``work`` still holds what it opened
    os.waitpid(pid, 0)


def test_a_scratch_folder_is_private_and_goes_away_with_all_that_is_in_it(tmp_path: Path) -> None:
    base = os.fsencode(tmp_path / "base")
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_text("here")
    with scratch_folder(base) as scratch:
        assert os.stat(scratch.path).st_mode & 0o777 == 0o700
        closed = os.path.join(scratch.path, b"closed")
        os.makedirs(os.path.join(closed, b"a/b"))
        os.symlink(outside, os.path.join(closed, b"link"))
        for number in range(100):
            os.makedirs(os.path.join(scratch.path, b"many/%d/x" % number))
        os.chmod(closed, 0)
        assert sweep(base) == []
        assert os.path.isdir(scratch.path)
    assert os.listdir(base) == []
    assert (outside / "precious").read_text() == "here"


def test_what_a_dead_process_left_is_swept_and_nothing_else(tmp_path: Path) -> None:
    base = os.fsencode(tmp_path)

    def leave() -> None:
        opened = scratch_folder(base)
        scratch = opened.__enter__()
        scratch.add("databases", ["postgres", "holdfast_drill_1"])
        scratch.add("databases", ["mariadb", "holdfast_drill_2"])
        os.mkdir(scratch.path + b"/tree")
        os._exit(0)

    fork_and_die(leave)
    for name in (PREFIX + b"named-so", b"other"):
        os.mkdir(base + b"/" + name)
        (tmp_path / os.fsdecode(name) / "file").write_text("not ours")
    (tmp_path / "other" / os.fsdecode(MARK)).write_text("{}")
    (left,) = sweep(base)
    assert left.notes["databases"] == [["postgres", "holdfast_drill_1"], ["mariadb", "holdfast_drill_2"]]
    assert not os.path.lexists(left.path)
    assert sorted(os.listdir(tmp_path)) == [os.fsdecode(PREFIX) + "named-so", "other"]


def test_a_kept_folder_is_nobodys_to_remove(tmp_path: Path) -> None:
    base = os.fsencode(tmp_path)
    with scratch_folder(base) as scratch:
        os.mkdir(scratch.path + b"/tree")
        scratch.keep()
    assert sweep(base) == []
    assert os.path.isdir(scratch.path + b"/tree")


def test_where_no_scratch_folder_can_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises((Invalid, Denied)) as refused, scratch_folder(os.fsencode(tmp_path / "file" / "base")):
        pass
    assert "--scratch" in refused.value.hint


def test_a_choice_of_files_says_which_and_no_others() -> None:
    chosen = Chosen.of([b"/a/b/one", b"/a/two", b"/three"])
    assert chosen.excludes(b"three", False) and not chosen.excludes(b"four", False)
    assert not chosen.excludes(b"a", True)
    assert chosen.root(b"/a").excludes(b"two", False)
    assert chosen.enter(b"a").enter(b"b").excludes(b"one", False)
    assert not chosen.enter(b"a").excludes(b"b", False)
    assert not chosen.enter(b"x").excludes(b"one", False)


def test_samples_as_people_write_them() -> None:
    assert words.sample("5%") == Sample(percent=5.0)
    assert words.sample("20G") == Sample(size=20 << 30)
    assert words.sample("5%").of(1000) == 50 and words.sample("1K").of(100) == 100
    for wrong in ("0%", "101%", "0", "much", ""):
        with pytest.raises(ValueError, match="a share or a size"):
            words.sample(wrong)


class Written:
    """A file below a root, as a restore writes it, with an original elsewhere."""

    def __init__(self, folder: Path, data: bytes) -> None:
        self.original = folder / "source" / "file"
        self.original.parent.mkdir(parents=True)
        self.original.write_bytes(data)
        self.place = os.fsencode(self.original)[1:]
        self.copy = folder / "copy"
        self.copy.write_bytes(data)
        self.proving = Proving((os.fsencode(self.original.parent) + b"/",), frozenset(), LATER)

    @property
    def mtime(self) -> int:
        return self.original.stat().st_mtime_ns

    def seen(self, data: bytes, mtime: int | None = None, proving: Proving | None = None) -> Any:
        """What witnesses say, of the whole file and of its parts, by the extension and without it."""
        found = []
        for parts, how in ((False, compare), (True, compare), (False, fastest()), (True, fastest())):
            witness = Witness(proving or self.proving, compare=how)
            when = self.mtime if mtime is None else mtime
            with open(self.copy, "rb") as file:
                if parts:
                    half = len(data) // 2
                    witness.part(file.fileno(), self.place, 0, data[:half], len(data), when)
                    witness.part(file.fileno(), self.place, half, data[half:], len(data), when)
                    witness.finished(self.place, len(data), when)
                else:
                    witness.whole(file.fileno(), self.place, data, when)
            found.append(witness.take())
        return found


@pytest.mark.parametrize("size", [40, 5000, 700_000])
def test_a_witness_reads_back_and_compares_with_the_original(tmp_path: Path, size: int) -> None:
    data = bytes(range(256)) * (size // 256 + 1)
    written = Written(tmp_path, data)
    for seen in written.seen(data):
        assert (seen.files, seen.size, seen.originals, seen.original_size) == (1, len(data), 1, len(data))
        assert not seen.findings and not seen.changed
    for seen in written.seen(data, proving=Proving()):
        assert (seen.files, seen.originals, seen.changed) == (1, 0, 0)
    with open(written.copy, "r+b") as file:
        file.seek(len(data) - 3)
        file.write(b"!")
    for seen in written.seen(data):
        assert [kind for kind, _, _ in seen.findings] == ["file.differs"]


@pytest.mark.parametrize("size", [0, 1, 262_144, 262_145])
def test_a_witness_sees_that_there_is_more_or_less(tmp_path: Path, size: int) -> None:
    data = b"x" * size
    written = Written(tmp_path, data)
    with open(written.copy, "ab") as file:
        file.write(b"!")
    for seen in written.seen(data):
        assert {kind for kind, _, _ in seen.findings} == {"file.differs"}
    os.truncate(written.copy, max(0, size - 1))
    for seen in written.seen(data):
        assert {kind for kind, _, _ in seen.findings} == ({"file.differs"} if size else set())


def test_an_original_that_changed_since_is_no_finding_and_a_rotten_one_is(tmp_path: Path) -> None:
    data = b"content" * 2000
    written = Written(tmp_path, data)
    was = written.mtime
    written.original.write_bytes(data[:-1] + b"X")
    os.utime(written.original, ns=(was, was + 10**9))
    for seen in written.seen(data, was):
        assert not seen.findings and seen.changed == 1 and not seen.originals
    os.utime(written.original, ns=(was, was))  # as if only the bytes had changed, before the snapshot (LATER) was made
    for seen in written.seen(data, was):
        assert [kind for kind, _, _ in seen.findings] == ["original.differs"]
    # The inode has changed since the snapshot: somebody wrote it and set its time back.
    for seen in written.seen(data, was, Proving(written.proving.prefixes, frozenset(), 1)):
        assert not seen.findings and seen.changed
    written.original.unlink()
    for seen in written.seen(data, was):
        assert not seen.findings and seen.changed == 1


def test_databases_of_sqlite_are_noted_and_not_compared_with_the_live_file(tmp_path: Path) -> None:
    place = tmp_path / "db"
    with closing(sqlite3.connect(place)) as database:
        database.execute("CREATE TABLE t (a)")
        database.commit()
    data = place.read_bytes()
    written = Written(tmp_path, data)
    was = written.mtime
    written.original.write_bytes(data[:50] + b"\1" + data[51:])
    os.utime(written.original, ns=(was, was))
    for seen in written.seen(data, was):
        assert not seen.findings and seen.sqlite == [b"/" + written.place] and not seen.originals


def test_what_counts_as_true() -> None:
    for value in (1, 0.5, "t", "true", "3", "yes", "hello", "-1"):
        assert is_true(value), value
    for value in (None, 0, 0.0, False, "", "f", "False", "0", "0.00", "NULL", " "):
        assert not is_true(value), value


def test_a_restored_sqlite_file_is_checked_counted_and_asked(tmp_path: Path) -> None:
    place = os.fsencode(tmp_path / "db")
    with closing(sqlite3.connect(place)) as database:
        database.execute('CREATE TABLE "odd "" name" (a)')
        database.executemany('INSERT INTO "odd "" name" VALUES (?)', [(1,), (2,)])
        database.commit()
    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"
    asked = ['SELECT count(*) FROM "odd "" name"', "SELECT 1 WHERE 0", "SELECT no_such", endless]
    proof = prove(place, asked, Cancel(), limit=0.2)
    assert (proof.damage, proof.unproven, proof.rows) == ("", "", {'odd " name': 2})
    assert proof.answers[:2] == [(2,), None]
    assert "no such column" in str(proof.answers[2]) and "longer than" in str(proof.answers[3])
    assert sorted(os.listdir(tmp_path)) == ["db"]

    data = bytearray(Path(os.fsdecode(place)).read_bytes())
    data[4096 + 5 : 4096 + 60] = b"\xff" * 55
    Path(os.fsdecode(place)).write_bytes(data)
    assert prove(place, [], Cancel(), limit=1).damage


def test_queries_find_their_database_by_any_of_its_names() -> None:
    asked = _Asked([("app", ("one", "two")), ("main/app", ("three",)), ("gone", ("four",))])
    assert asked.of(["main/app", "app"]) == ["one", "two", "three"]
    assert asked.left() == ["gone"]


def test_tables_that_shrank_are_found_and_older_snapshots_may_have_fewer_rows() -> None:
    earlier = [
        {
            "snapshot_time_ns": 5,
            "databases": [{"kind": "postgres", "name": "main/app", "rows": {"users": 9, "gone": 1}}],
        }
    ]
    now = DatabaseProof("main/app", "postgres", b"", 1, rows={"users": 4, "new": 1})
    compare_rows([now], rows_before(earlier, 6))
    assert now.before == {"users": 9, "gone": 1}
    compare_rows([now], rows_before(earlier, 4))
    assert now.before == {}


def report(**changes: Any) -> dict[str, Any]:
    data: dict[str, Any] = {
        "at": "2026-11-22T04:00:00Z", "ended": "2026-11-22T04:00:09Z", "outcome": "ok", "snapshot": "ab" * 32,
        "seconds": 4.0, "data_age_seconds": 3600.0, "files": 3, "bytes": 10, "whole": True, "program": "holdfast 1",
        "host": "desk", "plan": "docs", "vault": "home", "vault_kind": "archive", "snapshot_time": "2026-11-22",
        "snapshot_host": "desk", "snapshot_paths": ["/home"], "snapshot_program": "holdfast", "tree": None,
        "recovery": {"seconds": 4.0, "open_seconds": 1.0, "restore_seconds": 2.0, "load_seconds": 1.0},
        "drill_seconds": 9.0, "sample": None, "files_total": 3, "bytes_total": 10, "restored": {"bytes": 10},
        "compared": {"files": 3, "bytes": 10, "hash": "SHA-256", "files_with_source": 1, "bytes_with_source": 4},
        "databases": [], "commands": [], "damage": [], "not_proven": [], "previous": [], "kept": None,
    }  # fmt: skip
    return {**data, **changes}


def test_the_page_escapes_what_comes_from_outside_and_loads_nothing() -> None:
    evil = "<script>alert(1)</script>\u202e&"
    database = {
        "name": evil, "kind": "sqlite", "ok": None, "rows": {}, "rows_total": 0, "message": evil, "bytes": 1,
        "load_seconds": 0.0, "queries": [{"query": evil, "ok": False, "value": evil, "message": ""}],
        "fewer_rows": {evil: {"before": 2, "now": 1}},
    }  # fmt: skip
    data = report(
        plan=evil,
        snapshot_paths=[evil],
        databases=[database],
        commands=[{"name": evil, "ok": False, "seconds": 1.0, "output": evil, "message": evil}],
        damage=[{"kind": "x", "message": evil, "files": [evil, evil], "files_total": 200}],
        not_proven=[evil],
        previous=[report(seconds=2.0), report(seconds=8.0, outcome=evil)],
    )
    page = drillhtml.page(data)
    assert "<script" not in page and "\u202e" not in page and "&lt;script&gt;" in page
    assert "http" not in page.replace("http-equiv", "") and "<svg" in page and "198 more" in page
    text = "\n".join(drilltext.lines(data))
    assert "\u202e" not in text and "not proven" in text


def test_the_text_compares_with_the_drill_before() -> None:
    text = "\n".join(drilltext.lines(report(previous=[report(seconds=2.0)])))
    assert "PROVEN" in text and "+100 %" in text
    assert "the drill before" not in "\n".join(drilltext.lines(report(previous=[report(seconds=2.0, whole=False)])))


def test_errors_of_scratch_servers_are_words_with_hints() -> None:
    from holdfast.sources.watched import place_for, unprivileged

    with pytest.raises(HoldfastError) as refused, place_for(b"/tmp", unprivileged(), 1 << 62):
        pass
    assert "--scratch" in refused.value.hint
