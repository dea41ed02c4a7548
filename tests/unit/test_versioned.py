"""A versioned vault: what it keeps, what it counts, and that every state comes back as it was."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.versionedkit import bring_back, check, new_vault, save, state, with_ordinary_tools

from holdfast.files.rules import Rules
from holdfast.kernel.cancel import Cancel
from holdfast.kernel.errors import Corrupt, Invalid, Locked, NotFound
from holdfast.kernel.events import Event, Fact, ignore
from holdfast.vaults.base import CheckOptions, Outcome, Overwrite
from holdfast.vaults.diff import Change, DiffSummary, compare
from holdfast.vaults.versioned import VersionedVault, draft, is_versioned
from holdfast.vaults.versioned.lock import locked

LINES = [f"line {number}\n" for number in range(200)]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    root = tmp_path / "source"
    (root / "docs/old").mkdir(parents=True)
    (root / "docs/notes.txt").write_text("".join(LINES))
    (root / "docs/old/a.txt").write_text("a\n")
    (root / "picture").write_bytes(bytes(range(256)) * 40)
    (root / "empty").touch()
    (root / "emptied").mkdir()
    (root / "link").symlink_to("docs/notes.txt")
    (root / "dangling").symlink_to("nowhere")
    return root


@pytest.fixture
def vault(tmp_path: Path) -> VersionedVault:
    return new_vault(tmp_path / "vault")


def current(vault: VersionedVault, source: Path) -> Path:
    return Path(vault.location + str(source))


# -- the current tree --------------------------------------------------------------------------------------------------


def test_the_current_tree_is_plain_files_at_their_absolute_paths(vault: VersionedVault, source: Path) -> None:
    summary = save(vault, source)
    assert (summary.outcome, summary.files_new, summary.total_files) == (Outcome.OK, 4, 4)
    assert state(current(vault, source)) == state(source)


def test_a_run_without_a_change_makes_no_snapshot_and_counts_nothing_as_copied(
    vault: VersionedVault, source: Path
) -> None:
    first = save(vault, source)
    again = save(vault, source)
    assert again.snapshot == first.snapshot
    assert len(vault.snapshots()) == 1
    assert (again.files_new, again.files_changed, again.files_unmodified) == (0, 0, 4)
    assert again.data_added == again.data_added_packed == 0


def test_vanished_and_excluded_things_leave_the_current_tree_but_not_the_history(
    vault: VersionedVault, source: Path, tmp_path: Path
) -> None:
    save(vault, source)
    before = state(source)
    (source / "docs/old/a.txt").unlink()
    save(vault, source, rules=Rules.compile(["picture"], defaults=False))
    assert not (current(vault, source) / "docs/old/a.txt").exists()
    assert not (current(vault, source) / "picture").exists()
    assert (current(vault, source) / "emptied").is_dir()
    assert bring_back(vault, tmp_path / "out", source, vault.snapshots()[0]).outcome == Outcome.OK
    assert state(tmp_path / "out") == before


def test_a_dry_run_changes_nothing_and_says_what_would_change(vault: VersionedVault, source: Path) -> None:
    save(vault, source)
    (source / "docs/notes.txt").write_text("other")
    (source / "new").write_text("new")
    (source / "picture").unlink()
    before = state(vault.location.encode())
    told: list[Event] = []
    summary = save(vault, source, dry_run=True, emit=told.append)
    assert state(vault.location.encode()) == before
    assert (summary.files_new, summary.files_changed, summary.snapshot) == (1, 1, None)
    kinds = {(fact.kind, os.path.basename(fact.data["path"])) for fact in told if isinstance(fact, Fact)}
    assert kinds == {("item.new", b"new"), ("item.changed", b"notes.txt"), ("item.removed", b"picture")}


def test_the_same_size_and_time_with_other_content_is_found_with_force_and_by_its_ctime(
    vault: VersionedVault, source: Path
) -> None:
    path = source / "picture"
    save(vault, source)
    st = path.stat()
    path.write_bytes(bytes(reversed(path.read_bytes())))
    os.utime(path, ns=(st.st_mtime_ns, st.st_mtime_ns))
    assert save(vault, source).files_changed == 1
    assert (current(vault, source) / "picture").read_bytes() == path.read_bytes()
    assert save(vault, source, force=True).files_changed == 0


def test_a_file_that_is_replaced_by_an_older_one(vault: VersionedVault, source: Path) -> None:
    save(vault, source)
    other = source.parent / "older"
    other.write_text("older")
    os.utime(other, (1_000_000_000, 1_000_000_000))
    os.replace(other, source / "docs/notes.txt")
    assert save(vault, source).files_changed == 1
    assert (current(vault, source) / "docs/notes.txt").read_text() == "older"


def test_a_missing_source_and_one_that_is_empty_on_another_device_keep_what_the_vault_has(
    vault: VersionedVault, source: Path
) -> None:
    save(vault, source, source.parent / "other" if (source.parent / "other").exists() else source)
    gone = source.parent / "moved"
    source.rename(gone)
    with pytest.raises(NotFound) as raised:
        save(vault, source)
    assert "mounted" in raised.value.hint
    assert (current(vault, source) / "picture").exists()


def test_an_unreadable_file_is_a_problem_and_its_old_version_stays(vault: VersionedVault, source: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root reads everything")
    save(vault, source)
    (source / "picture").write_bytes(b"new")
    (source / "picture").chmod(0)
    summary = save(vault, source)
    assert summary.outcome == Outcome.PARTIAL
    assert [problem.path for problem in summary.problems] == [os.fsencode(source / "picture")]
    assert (current(vault, source) / "picture").read_bytes() == bytes(range(256)) * 40


def test_two_sources_in_one_vault_do_not_touch_each_other(vault: VersionedVault, source: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "x").write_text("x")
    save(vault, source)
    save(vault, other)
    assert (current(vault, source) / "picture").exists()
    first, second = vault.snapshots()
    assert not any(entry.path.startswith(os.fsencode(source) + b"/") for entry in vault.entries(second))
    assert os.fsencode(other / "x") in {entry.path for entry in vault.entries(second)}
    assert os.fsencode(other / "x") not in {entry.path for entry in vault.entries(first)}
    assert save(vault, source).snapshot == first.id


# -- history -----------------------------------------------------------------------------------------------------------


def histories(vault: VersionedVault) -> list[str]:
    return sorted(path.suffix for path in (Path(vault.location) / ".holdfast/history").rglob("*") if path.is_file())


def test_a_text_change_is_a_diff_and_everything_else_a_zstd_copy(vault: VersionedVault, source: Path) -> None:
    save(vault, source)
    (source / "docs/notes.txt").write_text("".join(LINES).replace("line 77\n", "LINE\n"))
    (source / "picture").write_bytes(b"\0other")
    (source / "docs/old/a.txt").unlink()
    summary = save(vault, source)
    assert histories(vault) == [".diff", ".zst", ".zst"]
    first = vault.snapshots()[0]
    assert b"".join(vault.read(first, os.fsencode(source / "docs/notes.txt"))) == "".join(LINES).encode()
    assert b"".join(vault.read(first, os.fsencode(source / "docs/old/a.txt"))) == b"a\n"
    assert summary.data_added_packed > summary.data_added


def test_other_permissions_make_a_version_without_a_copy(vault: VersionedVault, source: Path, tmp_path: Path) -> None:
    (source / "picture").chmod(0o640)
    save(vault, source)
    (source / "picture").chmod(0o604)
    save(vault, source)
    assert histories(vault) == []
    assert stat.S_IMODE((current(vault, source) / "picture").stat().st_mode) == 0o604
    bring_back(vault, tmp_path / "out", source, vault.snapshots()[0])
    assert stat.S_IMODE((tmp_path / "out/picture").stat().st_mode) == 0o640


def test_two_changes_at_once_are_two_versions(vault: VersionedVault, source: Path) -> None:
    path = source / "docs/notes.txt"
    for text in ("one\n", "two\n", "three\n"):
        path.write_text(text)
        os.utime(path, (1_500_000_000, 1_500_000_000))
        save(vault, source)
    assert [b"".join(vault.read(one, os.fsencode(path))) for one in vault.snapshots()] == [
        b"one\n",
        b"two\n",
        b"three\n",
    ]


def test_more_versions_in_a_row_than_diffs_may_depend_on_each_other(vault: VersionedVault, source: Path) -> None:
    path = source / "docs/notes.txt"
    lines = list(LINES)
    texts = []
    for number in range(60):
        lines[number * 3] = f"changed {number}\n"
        path.write_text("".join(lines))
        texts.append("".join(lines).encode())
        save(vault, source)
    assert ".zst" in histories(vault)
    assert [b"".join(vault.read(one, os.fsencode(path))) for one in vault.snapshots()] == texts


def test_a_file_became_a_folder_and_back(vault: VersionedVault, source: Path, tmp_path: Path) -> None:
    states = []
    shapes: list[Callable[[Path], object]] = [
        lambda path: path.write_text("file\n"),
        lambda path: (
            (path / "deep/er").mkdir(parents=True),
            (path / "deep/er/f").write_text("f"),
            (path / "g").touch(),
        ),
        lambda path: path.symlink_to("deep"),
        lambda path: os.mkfifo(path),
        lambda path: path.write_text("file again\n"),
    ]
    for shape in shapes:
        path = source / "shifting"
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
        shape(path)
        save(vault, source)
        states.append(state(source))
        assert state(current(vault, source)) == states[-1]
    for number, snapshot in enumerate(vault.snapshots()):
        out = tmp_path / f"out{number}"
        assert bring_back(vault, out, source, snapshot).problems == []
        assert state(out) == states[number]
    assert check(vault).damage == []


NAMES = [
    b"a\nb", b"caf\xe9", b"\xff\xfe", b"x" * 255, b".holdfast", b"history", b"0000000001", b"1.diff", b"1.zst", b"-n",
    b" ", b"'\"$(x)", b"a~", b"a.orig", b"lock", b"%", b"\\", b"@",
]  # fmt: skip


def test_names_never_collide(vault: VersionedVault, source: Path, tmp_path: Path) -> None:
    top = os.fsencode(source)
    for name in NAMES:
        Path(os.fsdecode(top + b"/" + name)).write_bytes(b"first " + name + b"\n")
    save(vault, source)
    first = state(source)
    for name in NAMES:
        Path(os.fsdecode(top + b"/" + name)).unlink()
        Path(os.fsdecode(top + b"/" + name)).mkdir()
        for inner in NAMES:
            Path(os.fsdecode(top + b"/" + name + b"/" + inner)).write_bytes(inner)
    save(vault, source)
    second = state(source)
    for snapshot, wanted in zip(vault.snapshots(), (first, second), strict=True):
        out = tmp_path / snapshot.id.hex()
        assert bring_back(vault, out, source, snapshot).problems == []
        assert state(out) == wanted
    assert check(vault).damage == []


def test_hard_links_come_back_as_such(vault: VersionedVault, source: Path, tmp_path: Path) -> None:
    os.link(source / "picture", source / "docs/second")
    save(vault, source)
    bring_back(vault, tmp_path / "out", source)
    assert (tmp_path / "out/picture").samefile(tmp_path / "out/docs/second")


# -- ordinary tools, and any sequence of changes -----------------------------------------------------------------------


def disturb(rng: random.Random, root: Path) -> None:
    """A few random changes."""
    for _ in range(rng.randint(1, 6)):
        folders = [root, *(path for path in root.rglob("*") if path.is_dir() and not path.is_symlink())]
        path = rng.choice(folders) / rng.choice(["a", "b", "c", "d e"])
        what = rng.choice(["text", "text", "text", "edit", "edit", "binary", "folder", "remove", "mode", "crlf"])
        if what == "edit" and path.is_file():
            lines = path.read_bytes().split(b"\n")
            lines[rng.randrange(len(lines))] = b"edited %d" % rng.randrange(1000)
            path.write_bytes(b"\n".join(lines))
        elif what == "mode" and path.exists():
            path.chmod(rng.choice([0o700, 0o711]))
        elif what in ("remove", "folder", "text", "binary", "crlf"):
            if path.is_dir() and what != "folder":
                shutil.rmtree(path)
            if what == "remove":
                path.unlink(missing_ok=True)
            elif what == "folder":
                if path.is_file():
                    path.unlink()
                path.mkdir(exist_ok=True)
            elif what == "binary":
                path.write_bytes(rng.randbytes(300))
            else:
                end = b"\r\n" if what == "crlf" else b"\n"
                path.write_bytes(end.join(b"%d" % rng.randrange(9) for _ in range(60)) + rng.choice([b"", end]))


@pytest.mark.parametrize("seed", range(6))
def test_every_state_comes_back_also_with_ordinary_tools_and_after_pruning(
    tmp_path: Path, seed: int, need: Callable[[str], str]
) -> None:
    patch, zstd = need("patch"), need("zstd")
    rng = random.Random(seed)
    vault, source = new_vault(tmp_path / "vault"), tmp_path / "source"
    source.mkdir()
    states = {}
    for _ in range(9):
        disturb(rng, source)
        summary = save(vault, source)
        assert summary.snapshot is not None
        assert state(current(vault, source)) == state(source)
        states[bytes(summary.snapshot)] = state(source)
    assert check(vault).damage == []
    with vault.reading() as browser:
        snapshots = [browser.state(one) for one in vault.snapshots()]
    paths = {path for one in states.values() for path in one}
    for snapshot in snapshots:
        wanted = states[snapshot.identifier]
        for path in sorted(paths)[:: 1 + len(paths) // 12]:
            is_file = path in wanted and wanted[path][0] == stat.S_IFREG
            if is_file:
                full = os.fsencode(source) + path
                assert with_ordinary_tools(vault, full, snapshot.step, patch, zstd) == wanted[path][3]
    while len(vault.snapshots()) > 1:
        gone = rng.choice(vault.snapshots()).id
        summary = vault.forget([gone], emit=ignore, cancel=Cancel())
        assert summary.problems == []
        assert check(vault).damage == []
        for snapshot in vault.snapshots():
            out = tmp_path / "out"
            assert bring_back(vault, out, source, snapshot).problems == []
            assert state(out) == states[snapshot.id]
            shutil.rmtree(out)
        with vault.reading() as browser:
            oldest = browser.state(vault.snapshots()[0])
        for path, wanted in states[oldest.identifier].items():
            if wanted[0] == stat.S_IFREG:
                full = os.fsencode(source) + path
                assert with_ordinary_tools(vault, full, oldest.step, patch, zstd) == wanted[3]
        disturb(rng, source)
        newest = save(vault, source).snapshot
        assert newest is not None
        states[bytes(newest)] = state(source)
        if len(vault.snapshots()) > 6:
            vault.forget([one.id for one in vault.snapshots()[:-1:2]], emit=ignore, cancel=Cancel())
        if rng.random() < 0.35:
            break
    assert check(vault).damage == []


def test_forgetting_frees_what_only_that_snapshot_needed(vault: VersionedVault, source: Path) -> None:
    save(vault, source)
    (source / "picture").write_bytes(random.Random(1).randbytes(5000))
    save(vault, source)
    (source / "picture").write_bytes(b"last")
    save(vault, source)
    first, second, _ = vault.snapshots()
    dry = vault.forget([second.id], dry_run=True, emit=ignore, cancel=Cancel())
    assert len(vault.snapshots()) == 3
    done = vault.forget([second.id], emit=ignore, cancel=Cancel())
    assert (dry.versions, dry.files_removed) == (done.versions, done.files_removed) == (1, 1)
    assert done.bytes_freed >= 5000
    assert vault.snapshots()[0].id == first.id
    assert b"".join(vault.read(first, os.fsencode(source / "picture"))) == bytes(range(256)) * 40


def test_a_state_whose_snapshot_was_forgotten_is_not_taken_for_an_older_one(
    vault: VersionedVault, source: Path
) -> None:
    first = save(vault, source).snapshot
    (source / "picture").write_bytes(b"changed")
    second = save(vault, source).snapshot
    assert second is not None
    vault.forget([second], emit=ignore, cancel=Cancel())
    assert save(vault, source).snapshot not in (first, second)


# -- looking and restoring ---------------------------------------------------------------------------------------------


def test_diff_between_snapshots_through_the_common_code(vault: VersionedVault, source: Path) -> None:
    save(vault, source)
    (source / "docs/notes.txt").write_text("x\n")
    (source / "added").write_text("x")
    save(vault, source)
    with vault.reading() as browser:
        first, second = (browser.find(one, os.fsencode(source)) for one in vault.snapshots())
        found = list(compare(browser, first, browser, second, browser.same))
    summary = DiffSummary()
    for one in found:
        summary.count(one)
    assert (summary.files_modified, summary.files_added) == (1, 1)
    assert [one.path for one in found if one.change is Change.ADDED] == [os.fsencode(source / "added")]


def test_restore_overwrites_deletes_and_skips_as_asked(vault: VersionedVault, source: Path, tmp_path: Path) -> None:
    save(vault, source)
    out = tmp_path / "out"
    bring_back(vault, out, source)
    (out / "foreign").write_text("x")
    (out / "picture").write_text("mine")
    assert bring_back(vault, out, source, overwrite=Overwrite.NEVER).files_restored == 0
    assert (out / "picture").read_text() == "mine"
    dry = bring_back(vault, out, source, delete=True, dry_run=True)
    assert ("delete", os.fsencode(out / "foreign")) in dry.actions
    assert (out / "foreign").exists()
    bring_back(vault, out, source, delete=True, overwrite=Overwrite.IF_CHANGED, verify=True)
    assert state(out) == state(source)


def test_restore_in_place_and_of_one_file(vault: VersionedVault, source: Path, tmp_path: Path) -> None:
    save(vault, source)
    before = state(source)
    (source / "docs/notes.txt").write_text("ruined")
    shutil.rmtree(source / "emptied")
    bring_back(vault, tmp_path / "one", source / "docs/notes.txt")
    assert (tmp_path / "one/notes.txt").read_text() == "".join(LINES)
    assert bring_back(vault, tmp_path, in_place=True).outcome == Outcome.OK
    assert state(source) == before


def test_restore_of_a_part_by_patterns(vault: VersionedVault, source: Path, tmp_path: Path) -> None:
    save(vault, source)
    only = Rules.compile(["*.txt"], defaults=False, ignore_file=b"", cachedir_tag=False)
    summary = bring_back(vault, tmp_path / "out", source, include=only)
    assert summary.files_restored == 2
    assert not (tmp_path / "out/picture").exists()


def test_a_target_inside_of_the_vault_is_refused(vault: VersionedVault, source: Path) -> None:
    save(vault, source)
    with pytest.raises(Invalid):
        bring_back(vault, Path(vault.location) / "out")


# -- damage ------------------------------------------------------------------------------------------------------------


def rot(path: Path) -> None:
    """One bit, as a disk would do it: the times stay."""
    st = path.stat()
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(st.st_atime_ns, st.st_mtime_ns))


def test_bit_rot_in_a_current_file_is_named(vault: VersionedVault, source: Path, tmp_path: Path) -> None:
    save(vault, source)
    rot(current(vault, source) / "picture")
    report = check(vault)
    assert report.outcome == Outcome.FAILED
    assert [damage.kind for damage in report.damage] == ["current.damaged"]
    assert str(source / "picture") in report.damage[0].message
    summary = bring_back(vault, tmp_path / "out", source)
    assert summary.outcome == Outcome.PARTIAL
    assert not (tmp_path / "out/picture").exists()
    with pytest.raises(Corrupt):
        list(vault.read(vault.snapshots()[-1], os.fsencode(source / "picture")))


def test_bit_rot_in_the_history_and_in_the_manifest_is_named(vault: VersionedVault, source: Path) -> None:
    save(vault, source)
    (source / "picture").write_bytes(b"\0new")
    (source / "docs/notes.txt").write_text("".join(LINES[:100] + LINES[101:]))
    save(vault, source)
    for path in (Path(vault.location) / ".holdfast/history").rglob("*.*"):
        rot(path)
    assert [damage.kind for damage in check(vault).damage] == ["history.damaged", "history.damaged"]
    rot(Path(vault.location) / ".holdfast/manifest/0000000001.jsonl")
    assert [damage.kind for damage in check(vault).damage] == ["manifest.corrupt"]


def test_a_current_file_that_was_lost_or_changed_in_the_vault_does_not_stop_the_next_backup(
    vault: VersionedVault, source: Path
) -> None:
    save(vault, source)
    (current(vault, source) / "picture").unlink()
    rot(current(vault, source) / "docs/notes.txt")
    (source / "picture").write_bytes(b"new")
    (source / "docs/notes.txt").write_text("new")
    summary = save(vault, source)
    assert summary.outcome == Outcome.PARTIAL
    assert (current(vault, source) / "picture").read_bytes() == b"new"
    report = check(vault)
    assert {damage.kind for damage in report.damage} == {"history.damaged"}
    assert len(report.damage) == 2


def test_foreign_files_in_the_vault_are_told_and_never_deleted(vault: VersionedVault, source: Path) -> None:
    save(vault, source)
    (current(vault, source) / "emptied/foreign").write_text("precious")
    assert [damage.severity for damage in check(vault).damage] == ["hint"]
    shutil.rmtree(source / "emptied")
    save(vault, source)
    aside = list((Path(vault.location) / ".holdfast/aside").rglob("foreign"))
    assert [path.read_text() for path in aside] == ["precious"]


def test_a_lost_index_is_made_again(vault: VersionedVault, source: Path, tmp_path: Path) -> None:
    save(vault, source)
    before = state(source)
    (source / "docs/notes.txt").write_text("other\n")
    save(vault, source)
    index = Path(vault.location) / ".holdfast/index.sqlite"
    for damage in (index.unlink, lambda: index.write_bytes(b"garbage" * 1000)):
        damage()
        bring_back(vault, tmp_path / "out", source, vault.snapshots()[0], delete=True)
        assert state(tmp_path / "out") == before
        assert save(vault, source).files_changed == 0
        assert check(vault).damage == []


# -- the vault itself --------------------------------------------------------------------------------------------------


def test_two_runs_at_once_are_refused(vault: VersionedVault, source: Path) -> None:
    save(vault, source)
    with vault.reading(), pytest.raises(Locked) as raised:
        save(vault, source)
    assert raised.value.hint
    from holdfast.kernel.clock import SystemClock

    with locked(vault.layout, exclusive=True, clock=SystemClock()), pytest.raises(Locked):
        vault.snapshots()


def test_only_an_empty_folder_becomes_a_vault(tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full/file").touch()
    with pytest.raises(Invalid):
        new_vault(tmp_path / "full")
    with pytest.raises(NotFound):
        VersionedVault.open(os.fsencode(tmp_path / "full"))
    assert not is_versioned(os.fsencode(tmp_path / "full"))
    new_vault(tmp_path / "empty")
    assert is_versioned(os.fsencode(tmp_path / "empty"))


def test_a_vault_inside_of_its_source_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    vault = new_vault(tmp_path / "vault")
    save(vault, tmp_path)
    assert save(vault, tmp_path).files_new == 0
    assert not any(b"/.holdfast" in entry.path for entry in vault.entries(vault.snapshots()[-1]))


def test_cancelling_leaves_a_vault_that_goes_on(vault: VersionedVault, source: Path) -> None:
    from holdfast.kernel.errors import Cancelled

    cancel = Cancel()
    cancel.cancel()
    with pytest.raises(Cancelled):
        save(vault, source, cancel=cancel)
    assert vault.snapshots() == []
    save(vault, source)
    assert check(vault).damage == []


# -- sizes -------------------------------------------------------------------------------------------------------------


def test_a_run_of_several_steps_is_one_snapshot(
    vault: VersionedVault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(draft, "MOST_CHANGES", 2)
    rng = random.Random(5)
    source = tmp_path / "tree"
    source.mkdir()
    states = []
    for _ in range(8):
        disturb(rng, source)
        before = len(vault.snapshots())
        save(vault, source)
        assert len(vault.snapshots()) <= before + 1
        assert state(current(vault, source)) == state(source)
        if len(vault.snapshots()) > before:
            states.append(state(source))
    for number, snapshot in enumerate(vault.snapshots()):
        out = tmp_path / f"out{number}"
        assert bring_back(vault, out, source, snapshot).problems == []
        assert state(out) == states[number]
    assert check(vault).damage == []


def test_files_of_many_megabytes_keep_their_history(vault: VersionedVault, source: Path, tmp_path: Path) -> None:
    rng = random.Random(2)
    contents = [rng.randbytes(6 << 20), b"text\n" * 1_500_000, b"text\n" * 1_500_000 + b"more\n", b"short\n"]
    for content in contents:
        (source / "large").write_bytes(content)
        save(vault, source)
    (source / "large").unlink()
    save(vault, source)
    for snapshot, content in zip(vault.snapshots(), contents, strict=False):
        bring_back(vault, tmp_path / "out", source / "large", snapshot)
        assert (tmp_path / "out/large").read_bytes() == content
    assert check(vault).damage == []


def test_an_empty_folder_on_another_device_is_taken_for_a_missing_disk(vault: VersionedVault, source: Path) -> None:
    import sqlite3

    save(vault, source)
    db = sqlite3.connect(os.fsdecode(vault.layout.index))  # as if the folder had been a mounted disk until now
    with db:
        db.execute("UPDATE versions SET device = device + 1 WHERE name = ?", (b"docs",))
    db.close()
    shutil.rmtree(source / "docs")
    (source / "docs").mkdir()
    for _ in range(2):
        summary = save(vault, source)
        assert summary.outcome == Outcome.PARTIAL
        assert "mounted" in summary.problems[0].message
        assert (current(vault, source) / "docs/notes.txt").exists()
    assert save(vault, source, allow_empty=True).outcome == Outcome.OK
    assert not (current(vault, source) / "docs/notes.txt").exists()


def test_a_text_may_have_any_line_ends_and_encoding(vault: VersionedVault, source: Path) -> None:
    path = source / "docs/notes.txt"
    rng = random.Random(3)
    words = [rng.randbytes(8).hex().encode() for _ in range(90)]
    base = [b"caf\xe9 %b\r\n" % word if word < b"8" else b"\xf0\x9f\x8e\x89 \x0c\x1b %b\n" % word for word in words]
    versions = [
        b"".join(base),
        b"".join(base)[:-1],
        b"".join(base[:40] + [b"\\ No newline at end of file\n", b"@@ -1 +1 @@\n", b"--- x\n"] + base[40:]),
        b"".join(base[10:]) + b"last without end",
    ]
    for version in versions:
        path.write_bytes(version)
        save(vault, source)
    assert histories(vault) == [".diff"] * 3
    assert [b"".join(vault.read(one, os.fsencode(path))) for one in vault.snapshots()] == versions


def test_paths_longer_than_the_system_takes_at_once(vault: VersionedVault, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    depth, name = 30, "n" * 200

    def deepest() -> int:
        fd = os.open(source, os.O_RDONLY)
        for _ in range(depth):
            with contextlib.suppress(FileExistsError):
                os.mkdir(name, dir_fd=fd)
            inner = os.open(name, os.O_RDONLY, dir_fd=fd)
            os.close(fd)
            fd = inner
        return fd

    fd = deepest()
    path = os.fsencode(source) + (b"/" + name.encode()) * depth + b"/file"
    for text in (b"one\n", b"two\n"):
        with open("file", "wb", opener=lambda name, flags: os.open(name, flags, dir_fd=fd)) as file:
            file.write(text)
        assert save(vault, source).outcome == Outcome.OK
    os.close(fd)
    assert [b"".join(vault.read(one, path)) for one in vault.snapshots()] == [b"one\n", b"two\n"]
    assert check(vault).damage == []


def test_a_device_that_we_cannot_make_is_a_problem_and_stops_nothing(vault: VersionedVault, tmp_path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root can make devices")
    summary = save(vault, b"/dev/null", tmp_path)
    assert summary.outcome == Outcome.PARTIAL
    assert [problem.path for problem in summary.problems] == [b"/dev/null"]


def test_a_source_behind_a_link_and_a_single_file(vault: VersionedVault, source: Path, tmp_path: Path) -> None:
    (tmp_path / "way").symlink_to(source)
    assert save(vault, tmp_path / "way/docs", source / "picture").outcome == Outcome.OK
    paths = {entry.path for entry in vault.entries(vault.snapshots()[-1])}
    assert os.fsencode(tmp_path / "way/docs/notes.txt") in paths
    assert os.fsencode(source / "picture") in paths
    assert os.fsencode(source / "empty") not in paths
    assert save(vault, tmp_path / "way/docs", source / "picture").files_unmodified == 3
    assert check(vault).damage == []


def test_a_rotten_page_of_the_index_is_named_and_rebuilt(vault: VersionedVault, source: Path) -> None:
    for number in range(600):
        (source / f"file {number}").touch()
    save(vault, source)
    index = Path(os.fsdecode(vault.layout.index))
    data = bytearray(index.read_bytes())
    data[8192:-4096] = b"\xa5" * (len(data) - 12288)
    index.write_bytes(data)
    with pytest.raises(Corrupt) as raised:
        list(vault.entries(vault.snapshots()[-1]))
    assert "--rebuild" in raised.value.hint
    rebuilt = vault.check(CheckOptions(rebuild=True), emit=ignore, cancel=Cancel())
    assert rebuilt.damage == []
    assert save(vault, source).files_unmodified == 604
