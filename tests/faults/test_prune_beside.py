"""A prune beside others: backups that find unused blobs again, a second prune, locks that are held or taken away."""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.archivekit import files, on_disk, open_vault, save
from tests.faults.faulty import Faulty
from tests.prunekit import THOROUGH, Meanwhile, Used, orphan, run, run_restic, used_vault

from holdfast.kernel.errors import Denied, Locked
from holdfast.repository import writing
from holdfast.storage import LocalStorage, Traits
from holdfast.vaults.archive.prune import PruneOptions


@pytest.fixture
def used(tmp_path: Path) -> Used:
    return used_vault(tmp_path)


def old_content(used: Used) -> dict[Path, bytes]:
    """What was in the source before every file was replaced; all of it is in the vault, and no snapshot needs it."""
    before = {path: path.read_bytes() for path in used.source.rglob("f*")}
    saved = save(open_vault(used.place), used.source).snapshot
    assert saved is not None
    for path in before:
        path.write_bytes(random.Random(path.name).randbytes(3000))
    for snapshot in [*used.kept, saved]:
        open_vault(used.place).repository.delete_unpacked("snapshots", snapshot)
    used.kept.clear()
    saved = save(open_vault(used.place), used.source).snapshot
    assert saved is not None
    used.kept[saved] = on_disk(used.source)
    return before


# The moments: before anything was copied, before the copies are in the index, between the two locks.
@pytest.mark.parametrize(("method", "folder"), [("adopt", "data/"), ("write", "index/"), ("delete", "locks/")])
def test_a_backup_that_finds_unused_blobs_again(
    used: Used, method: str, folder: str, need: Callable[[str], str]
) -> None:
    before = old_content(used)

    def back_up_the_old() -> None:
        for path, content in before.items():
            path.write_bytes(content)
        summary = save(open_vault(used.place), used.source)
        assert summary.data_blobs == 0, "the index still knew all of it"
        assert summary.snapshot is not None
        used.kept[summary.snapshot] = on_disk(used.source)

    storage = Meanwhile(used.place, method, folder, back_up_the_old)
    if folder != "locks/":  # something to copy: a pack of which only a part is used
        path = next(iter(before))
        path.write_bytes(before[path])
        saved = save(open_vault(used.place), used.source).snapshot
        assert saved is not None
        used.kept[saved] = on_disk(used.source)
    summary = run(storage)
    assert summary.rescued_packs > 0
    used.assert_whole(need("restic"))
    run(used.place)
    used.assert_whole(need("restic"))
    used.assert_clean()


def test_a_second_prune_between_the_two_locks(used: Used, need: Callable[[str], str]) -> None:
    storage = Meanwhile(used.place, "delete", "locks/", lambda: None)

    def prune_as_well() -> None:
        for lock in (used.place / "locks").iterdir():
            lock.unlink()  # as if the first one had released it already
        assert run(used.place).removed_packs > 0

    storage._act = prune_as_well
    run(storage)
    used.assert_whole(need("restic"))
    used.assert_clean()


def test_a_running_backup_keeps_its_packs_and_the_deletion_waits(used: Used, need: Callable[[str], str]) -> None:
    running = open_vault(used.place).repository
    with writing(running):
        orphan(running, b"of the running backup, in no index yet")
        before = {path.name for path in (used.place / "data").rglob("*") if path.is_file()}
        with pytest.raises(Locked) as caught:
            run(used.place)
        assert caught.value.context["waiting_packs"] > 0
        assert "--retry-lock" in caught.value.hint and f"process {os.getpid()}" in caught.value.message
        assert before <= {path.name for path in (used.place / "data").rglob("*") if path.is_file()}
        used.assert_whole(None)
    assert run(used.place).new_packs == 0, "what was copied the first time is not copied again"
    used.assert_whole(need("restic"))
    used.assert_clean()


def test_repacking_alone_needs_no_exclusive_lock(used: Used) -> None:
    run(used.place)
    with open_vault(used.place).repository.locks.hold(exclusive=False):
        assert run(used.place).removed_packs == 0  # nothing to do: the shared lock is enough


def test_a_backup_without_its_lock_commits_nothing(used: Used) -> None:
    """A machine slept, its lock went stale, somebody removed it and pruned: its packs may be gone."""

    def unlock_and_prune() -> None:
        for lock in (used.place / "locks").iterdir():
            lock.unlink()
        run(used.place)

    (used.source / "new").write_bytes(random.Random(1).randbytes(5000))
    storage = Meanwhile(used.place, "write", "index/", lambda: None)
    vault = open_vault(storage)
    with pytest.raises(Locked, match="lock of this run was removed"), writing(vault.repository) as writer:
        unlock_and_prune()
        writer.lock.confirm()
    storage = Meanwhile(used.place, "adopt", "data/", unlock_and_prune)
    with pytest.raises(Locked, match="lock of this run was removed"):
        save(open_vault(storage), used.source)
    used.assert_whole(None)
    assert run(used.place).figures.orphans > 0
    used.assert_clean()


def test_restic_and_a_prune_keep_each_other_out(used: Used, need: Callable[[str], str]) -> None:
    restic = need("restic")
    codes: list[int] = []

    def try_restic() -> None:
        codes.append(run_restic(restic, used.place, "backup", str(used.source)).returncode)
        codes.append(run_restic(restic, used.place, "prune").returncode)

    run(Meanwhile(used.place, "delete", "index/", try_restic))
    assert len(codes) == 2 and 0 not in codes, "under the exclusive lock nobody else gets in"
    used.assert_whole(restic)
    with open_vault(used.place).repository.locks.hold(exclusive=True), pytest.raises(Locked, match="exclusively"):
        run(used.place)


def test_a_place_that_nothing_may_be_deleted_from(used: Used) -> None:
    storage = Faulty(LocalStorage(str(used.place)))
    storage.traits = Traits(atomic_create=True, immediate_listing=True, fork_safe=True, append_only=True)
    with pytest.raises(Denied) as caught:
        run(storage)
    assert caught.value.hint
    assert not [call for call in storage.calls if call[0] in ("write", "adopt", "delete")]
    assert run(storage, PruneOptions(dry_run=True)).figures.remove_packs > 0


def test_a_server_that_lets_nobody_delete_is_asked_before_anything_is_copied(used: Used) -> None:
    class AppendOnlyServer(Faulty):
        def delete(self, name: str) -> None:
            if not name.startswith("locks/"):
                raise Denied("403 Forbidden")
            super().delete(name)

    storage = AppendOnlyServer(LocalStorage(str(used.place)))
    with pytest.raises(Denied, match="403"):
        run(storage)
    assert not [name for method, name in storage.calls if method in ("write", "adopt") and not name.startswith("locks")]
    used.assert_whole(None)


def test_one_file_that_may_not_be_deleted_keeps_none_of_the_others(used: Used) -> None:
    class Guarded(Faulty):
        guarded = ""

        def delete(self, name: str) -> None:
            if name.startswith("data/") and self.guarded in ("", name) and (used.place / name).exists():
                self.guarded = name
                raise Denied("this object is held")
            super().delete(name)

    summary = run(Guarded(LocalStorage(str(used.place))))
    assert summary.outcome == "partial" and summary.removed_packs > 0
    used.assert_whole(None)
    assert run(used.place).figures.orphans == 1
    used.assert_clean()


def test_over_a_network_deletions_run_at_once(used: Used) -> None:
    storage = Faulty(LocalStorage(str(used.place)))
    storage.traits = Traits(atomic_create=True, immediate_listing=True, fork_safe=True, connections=4)
    assert run(storage, THOROUGH).removed_packs > 1
    used.assert_whole(None)
    used.assert_clean()


def test_it_is_the_same_with_workers(used: Used, need: Callable[[str], str]) -> None:
    alone = used.copy(used.place.with_name("alone"))
    options = PruneOptions(max_unused=THOROUGH.max_unused, workers=3)
    together = run(used.place, options)
    assert together.figures == run(alone.place).figures
    used.assert_whole(need("restic"))
    used.assert_clean()
    assert files(open_vault(used.place), used.source, next(iter(used.kept)))


def test_a_lock_that_was_taken_away_is_not_written_again(used: Used, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a machine that slept would look as if it had held its lock all the time."""
    monkeypatch.setattr("holdfast.repository.locks.RENEW_SECONDS", 0.01)
    with open_vault(used.place).repository.locks.hold(exclusive=False) as lock:
        lock.start_renewing()
        lock.confirm()
        lock.stop_renewing()
        for file in (used.place / "locks").iterdir():
            file.unlink()
        lock.start_renewing()
        while lock.failure is None:
            threading.Event().wait(0.01)
        lock.stop_renewing()
        assert list((used.place / "locks").iterdir()) == []
        with pytest.raises(Locked, match="was removed by somebody"):
            lock.confirm()
