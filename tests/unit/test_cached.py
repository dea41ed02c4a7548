"""Copies on local disk of what a remote vault holds: what is kept, what is asked of the place, and what bounds it."""

from __future__ import annotations

import os
import stat
import threading
from hashlib import sha256
from pathlib import Path

import pytest
from tests.archivekit import SECRET, files, new_vault, on_disk, open_vault, save
from tests.remotekit import Far, cached, copies
from tests.restorekit import bring_back

from holdfast.app.backup import BackupRequest, back_up
from holdfast.app.context import Context
from holdfast.app.snapshots import list_snapshots
from holdfast.config.secrets import PasswordChoice
from holdfast.kernel.cancel import Cancel
from holdfast.kernel.errors import Corrupt, NotFound, WrongPassword
from holdfast.kernel.events import ignore
from holdfast.kernel.secret import Secret
from holdfast.repository import Repository, layout, locks
from holdfast.repository.reading import Ahead
from holdfast.storage import LocalStorage, Manner, ReadOnly, Storage
from holdfast.storage.apart import Apart
from holdfast.vaults.base import SnapshotFilter


def name_of(folder: str, data: bytes) -> str:
    digest = sha256(data).hexdigest()
    return f"{folder}/{digest[:2]}/{digest}" if folder == "data" else f"{folder}/{digest}"


def kept(root: Path) -> dict[str, bytes]:
    """Everything in a cache folder that is a copy, by its name within the place."""
    return {
        str(path.relative_to(root)).partition("/")[2]: path.read_bytes()
        for path in root.rglob("*")
        if path.is_file() and len(path.name) == 64
    }


@pytest.fixture
def far(tmp_path: Path) -> Far:
    place = tmp_path / "place"
    place.mkdir()
    return Far(place)


# -- the decorator -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("folder", ["index", "keys", "snapshots"])
def test_small_files_are_asked_for_once_and_then_come_from_local_disk(far: Far, tmp_path: Path, folder: str) -> None:
    name = name_of(folder, b"sealed")
    far.write(name, b"sealed")
    far.asked()
    assert cached(far, tmp_path / "cache").read(name) == b"sealed"
    assert far.asked() == [name]
    again = cached(far, tmp_path / "cache")
    assert again.read(name) == b"sealed"
    assert again.read(name, 2, 3) == b"ale"
    buffer = bytearray(10)
    assert again.read_into(name, buffer, 4) == 2
    assert buffer[:2] == b"ed"
    assert again.copy_of(name) == b"sealed"
    with pytest.raises(Corrupt):
        again.read(name, 4, 3)
    assert far.asked() == []


def test_what_is_written_is_kept_at_once(far: Far, tmp_path: Path) -> None:
    storage = cached(far, tmp_path / "cache")
    name = name_of("index", b"new")
    storage.write(name, b"new")
    far.asked()
    assert storage.read(name) == b"new"
    assert far.asked() == []


def test_a_file_that_could_not_be_written_is_not_kept(far: Far, tmp_path: Path) -> None:
    storage = cached(ReadOnly(far), tmp_path / "cache")
    with pytest.raises(Exception, match="read-only"):
        storage.write(name_of("index", b"new"), b"new")
    assert kept(tmp_path / "cache") == {}


def test_configuration_locks_and_listings_always_come_from_the_place(far: Far, tmp_path: Path) -> None:
    storage = cached(far, tmp_path / "cache")
    lock = name_of("locks", b"lock")
    storage.write("config", b"one")
    storage.write(lock, b"lock")
    far.asked()
    for _ in range(2):
        assert storage.read("config") == b"one"
        assert storage.read(lock) == b"lock"
        assert [info.name for info in storage.list("locks")] == [lock]
    assert far.asked() == ["config", lock, "locks"] * 2
    assert kept(tmp_path / "cache") == {}


def test_a_pack_is_fetched_whole_only_if_somebody_named_it(far: Far, tmp_path: Path) -> None:
    tree, data = os.urandom(100_000), os.urandom(100_000)
    names = [name_of("data", tree), name_of("data", data)]
    for name, content in zip(names, (tree, data), strict=True):
        far.write(name, content)
    storage = cached(far, tmp_path / "cache")
    storage.keep(names[:1])
    far.asked()
    for at in (0, 500, 99_990):
        assert storage.read(names[0], at, 10) == tree[at : at + 10]
        assert storage.read(names[1], at, 10) == data[at : at + 10]
    assert far.asked() == [names[0], names[1], names[1], names[1]]
    assert kept(tmp_path / "cache") == {names[0]: tree}
    assert storage.read(names[0]) == tree
    assert storage.read(names[0], 99_000) == tree[99_000:]
    buffer = bytearray(20)
    assert storage.read_into(names[0], buffer, 99_990) == 10
    assert storage.read_into(names[0], buffer, 100_000) == 0
    assert far.asked() == []
    with pytest.raises(Corrupt):
        storage.read(names[0], 99_990, 11)


def test_an_adopted_pack_is_kept_when_the_place_has_it(far: Far, tmp_path: Path) -> None:
    storage = cached(far, tmp_path / "cache")
    tree = os.urandom(50_000)
    name = name_of("data", tree)
    storage.keep([name])
    spool = storage.spool()
    assert spool is not None
    path = Path(spool) / "hf-tmp-1"
    path.write_bytes(tree)
    storage.adopt(str(path), name)
    assert not path.exists()
    assert LocalStorage(str(tmp_path / "place")).read(name) == tree
    far.asked()
    assert storage.read(name, 10, 10) == tree[10:20]
    assert far.asked() == []


def test_a_pack_that_the_place_refuses_is_not_kept(far: Far, tmp_path: Path) -> None:
    storage = cached(ReadOnly(far), tmp_path / "cache")
    name = name_of("data", b"tree")
    storage.keep([name])
    path = tmp_path / "pack"
    path.write_bytes(b"tree")
    with pytest.raises(Exception, match="read-only"):
        storage.adopt(str(path), name)
    assert path.read_bytes() == b"tree"
    assert [entry for entry in (tmp_path / "cache").rglob("*") if entry.is_file()] == []


def test_copies_go_with_what_is_deleted_and_with_what_is_not_listed_any_more(far: Far, tmp_path: Path) -> None:
    root = tmp_path / "cache"
    contents = [b"one", b"two", b"three"]
    names = [name_of("snapshots", content) for content in contents]
    storage = cached(far, root)
    for name, content in zip(names, contents, strict=True):
        storage.write(name, content)
    storage.delete(names[0])
    assert kept(root).keys() == set(names[1:])
    far.delete(names[1])  # by another machine
    assert [info.name for info in storage.list("snapshots")] == [names[2]]
    assert kept(root).keys() == set(names[1:])  # a fresh copy may be newer than the listing
    for path in root.rglob("*"):
        os.utime(path, (1, 1))
    assert [info.name for info in storage.list("index")] == []
    assert kept(root).keys() == set(names[1:])
    list(storage.list("snapshots"))
    assert kept(root).keys() == {names[2]}


def test_two_places_do_not_mix_and_nobody_else_can_look(far: Far, tmp_path: Path) -> None:
    root = tmp_path / "cache"
    name = name_of("keys", b"key")
    far.write(name, b"key")
    cached(far, root).read(name)
    assert copies(root, "elsewhere").read(name) is None
    assert copies(root).read(name) == b"key"
    for path in root.rglob("*"):
        mode = stat.S_IMODE(path.stat().st_mode)
        assert mode == (0o700 if path.is_dir() else 0o600), path


# -- bounds ------------------------------------------------------------------------------------------------------------


def test_the_limit_holds_for_all_places_and_what_was_not_used_for_longest_goes_first(tmp_path: Path) -> None:
    root = tmp_path / "cache"
    contents = [bytes([number]) * 100_000 for number in range(10)]
    names = [name_of("index", content) for content in contents]
    for number, (name, content) in enumerate(zip(names, contents, strict=True)):
        folder = copies(root, f"place {number % 2}")
        folder.put(name, content)
        path = next(root.rglob(name[-64:]))
        os.utime(path, (number + 1, number + 1))
    assert copies(root, "place 0", days=0).read(names[0]) == contents[0]  # used just now
    copies(root, limit=500_000).trim()
    assert kept(root).keys() == {names[0], *names[7:]}
    copies(root, limit=500_000).trim()
    assert len(kept(root)) == 4


def test_many_processes_that_add_little_trim_together(tmp_path: Path) -> None:
    root = tmp_path / "cache"
    for number in range(100):
        content = number.to_bytes(2, "big") * 500
        folder = copies(root, limit=16_000)
        folder.put(name_of("snapshots", content), content)
        folder.close()
    assert sum(map(len, kept(root).values())) <= 17_000
    assert len(kept(root)) >= 10


def test_unfinished_files_of_the_dead_are_removed_after_a_day(tmp_path: Path) -> None:
    root = tmp_path / "cache"
    spool = copies(root).spool()
    assert spool is not None
    left = Path(spool) / "hf-tmp-abc"
    left.write_bytes(b"pack")
    copies(root, days=0.9).trim()
    assert left.exists()
    copies(root, days=1.1).trim()
    assert not left.exists()


def test_a_cache_that_cannot_be_written_is_told_of_once_and_breaks_nothing(far: Far, tmp_path: Path) -> None:
    (tmp_path / "cache").write_bytes(b"a file where a folder is needed")
    told: list[str] = []
    storage = cached(far, tmp_path / "cache", tell=told.append)
    tree = os.urandom(1000)
    names = [name_of("keys", b"key"), name_of("snapshots", b"snapshot"), name_of("data", tree)]
    storage.keep(names[2:])
    for name, content in zip(names, (b"key", b"snapshot", tree), strict=True):
        path = tmp_path / "file"
        path.write_bytes(content)
        if name == names[1]:
            storage.write(name, content)
        else:
            storage.adopt(str(path), name)
    assert [storage.read(name) for name in names] == [b"key", b"snapshot", tree]
    assert storage.read(names[2], 5, 5) == tree[5:10]
    assert storage.spool() is None
    storage.close()
    assert len(told) == 1
    assert str(tmp_path / "cache") in told[0]
    assert "everything works" in told[0]


def test_trouble_of_a_forked_process_is_told_by_the_one_that_forked(far: Far, tmp_path: Path) -> None:
    told: list[str] = []
    name = name_of("keys", b"key")
    far.write(name, b"key")
    storage = cached(far, tmp_path / "cache", tell=told.append)
    child = os.fork()
    if child == 0:
        (tmp_path / "cache").write_bytes(b"")
        storage.read(name)
        os._exit(0 if not told else 1)
    assert os.waitpid(child, 0)[1] == 0
    storage.close()
    assert len(told) == 1


# -- the vault ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def vault_of_many(tmp_path: Path) -> Path:
    """A vault with 30 snapshots, and as many index files."""
    place, source = tmp_path / "vault", tmp_path / "source"
    (source / "inner").mkdir(parents=True)
    vault = new_vault(place)
    for number in range(30):
        (source / "inner" / "file").write_text(f"content {number}")
        save(vault, source)
    return place


class FarContext(Context):
    """A context whose vault is the ``Far`` named here."""

    far: Far

    def storage(self) -> Storage:
        return self.far


def context_of(far: Far, tmp_path: Path, **changes: object) -> Context:
    (tmp_path / "password").write_bytes(SECRET.reveal() + b"\n")
    context = FarContext(
        emit=ignore,
        cancel=Cancel(),
        warn=lambda _: None,
        vault="far",
        password=PasswordChoice(str(tmp_path / "password"), None),
        environ={"HOLDFAST_CACHE_DIR": str(tmp_path / "cache"), "HOME": str(tmp_path)},
        **changes,  # type: ignore[arg-type]
    )
    FarContext.far = far
    return context


def test_listing_snapshots_with_a_warm_cache_takes_three_round_trips(vault_of_many: Path, tmp_path: Path) -> None:
    far = Far(vault_of_many, delay=0.005)
    first = list_snapshots(context_of(far, tmp_path), SnapshotFilter())
    assert len(first[0][1]) == 30
    assert far.most_at_once > 1
    far.calls.clear()
    assert list_snapshots(context_of(far, tmp_path), SnapshotFilter()) == first
    assert far.calls == [("read", "config"), ("list", "keys"), ("list", "snapshots")]


def test_a_backup_of_what_has_not_changed_takes_ten_round_trips(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "file").write_text("content")
    new_vault(tmp_path / "vault")
    far = Far(tmp_path / "vault")
    for _ in range(2):
        far.calls.clear()
        back_up(context_of(far, tmp_path), BackupRequest(paths=(os.fsencode(source),), default_excludes=False))
    # Configuration, keys, locks; our lock, locks again; snapshots, index; is our lock still there; snapshot; lock away.
    asked = ["read", "list", "list", "write", "list", "list", "list", "size", "write", "delete"]
    assert [method for method, _ in far.calls] == asked


def test_without_a_cache_nothing_is_kept_and_calls_are_still_made_at_once(vault_of_many: Path, tmp_path: Path) -> None:
    far = Far(vault_of_many, delay=0.005)
    found = list_snapshots(context_of(far, tmp_path, no_cache=True), SnapshotFilter())
    assert len(found[0][1]) == 30
    assert far.most_at_once > 1
    assert not (tmp_path / "cache").exists()


def test_a_removed_key_does_not_open_from_the_cache(vault_of_many: Path, tmp_path: Path) -> None:
    far = Far(vault_of_many)
    storage = cached(far, tmp_path / "cache")
    second = Secret(b"another secret", random=True)
    repository = Repository.open(storage, SECRET)
    identifier = repository.add_key(second)
    assert Repository.open(storage, second).key_id.hex() == identifier
    Repository.open(Far(vault_of_many), SECRET).remove_key(identifier)  # by another machine
    with pytest.raises(WrongPassword):
        Repository.open(cached(far, tmp_path / "cache"), second)


def test_a_second_index_load_asks_only_for_the_listing(vault_of_many: Path, tmp_path: Path) -> None:
    far = Far(vault_of_many)
    first = open_vault(cached(far, tmp_path / "cache")).repository
    first.load_index()
    second = open_vault(cached(far, tmp_path / "cache")).repository
    far.asked()
    second.load_index()
    assert far.asked() == ["index"]
    assert sorted(second.index.packs) == sorted(first.index.packs)
    assert second.index_files == first.index_files


def test_a_backup_leaves_its_folders_in_the_cache_and_reads_them_there(tmp_path: Path) -> None:
    source = tmp_path / "source"
    for number in range(20):
        (source / f"folder {number}").mkdir(parents=True)
        (source / f"folder {number}" / "file").write_text(str(number))
    far = Far(tmp_path / "vault")
    save(new_vault(cached(far, tmp_path / "cache")), source)
    (source / "folder 3" / "file").write_text("changed")
    vault = open_vault(cached(far, tmp_path / "cache"))
    far.calls.clear()
    save(vault, source)
    reads = [name for method, name in far.calls if method in ("read", "read_into", "size")]
    assert [name for name in reads if not name.startswith("locks/")] == []
    spool = cached(far, tmp_path / "cache").spool()
    assert spool is not None
    assert os.listdir(spool) == []


def test_a_lock_asks_for_two_listings_and_its_own_file_alone(vault_of_many: Path) -> None:
    far = Far(vault_of_many)
    repository = open_vault(far).repository
    far.calls.clear()
    with repository.locks.hold(exclusive=False):
        pass
    assert [method for method, _ in far.calls] == ["list", "write", "list", "delete"]


def test_a_lock_is_renewed_through_a_clerk_and_the_copies(
    vault_of_many: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locks, "RENEW_SECONDS", 0.01)
    storage = cached(Apart(str(vault_of_many), Manner(), LocalStorage(str(vault_of_many))), tmp_path / "cache")
    repository = open_vault(storage).repository
    with repository.locks.hold(exclusive=False) as lock:
        first = lock.id
        lock.start_renewing()
        for _ in range(2000):
            if lock.id != first:
                break
            repository.locks.held()
            threading.Event().wait(0.01)
        assert lock.id != first
        lock.stop_renewing()
        lock.confirm()
    assert list((vault_of_many / "locks").iterdir()) == []
    storage.close()


def test_a_restore_reads_packs_in_few_requests(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for number in range(300):
        (source / f"{number}").write_bytes(os.urandom(20_000))
    (source / "big").write_bytes(os.urandom(9_000_000))
    place = tmp_path / "vault"
    save(new_vault(place), source)
    far = Far(place)
    vault = open_vault(cached(far, tmp_path / "cache"))
    far.calls.clear()
    bring_back(vault, tmp_path / "target")
    assert on_disk(tmp_path / "target" / source.relative_to("/")) == on_disk(source)
    packs = [name for method, name in far.calls if method in ("read", "read_into") and name.startswith(layout.DATA)]
    assert len(packs) < 10


def test_reading_files_one_by_one_costs_few_requests(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for number in range(300):
        (source / f"{number:03}").write_bytes(os.urandom(20_000))
    place = tmp_path / "vault"
    save(new_vault(place), source)
    for storage in (far := Far(place), cached(far, tmp_path / "cache")):
        far.calls.clear()
        assert files(open_vault(storage), source) == on_disk(source)
        assert len([name for _, name in far.calls if name.startswith(layout.DATA)]) < 20


def test_reading_on_gives_what_is_there(far: Far) -> None:
    content = os.urandom(3_000_000)
    name = name_of("data", content)
    far.write(name, content)
    ahead = Ahead(far)
    far.calls.clear()
    for at in [*range(0, 2_990_000, 10_000), 5, 2_999_990, *range(1_000_000, 2_000_000, 300_000)]:
        assert ahead.read(name, at, 10) == content[at : at + 10]
    assert len(far.calls) < 20
    with pytest.raises(Corrupt):
        ahead.read(name, 2_999_995, 10)
    with pytest.raises(NotFound):
        ahead.read(name_of("data", b"other"), 0, 1)


def test_a_file_that_the_place_does_not_have_is_not_found(far: Far, tmp_path: Path) -> None:
    storage = cached(far, tmp_path / "cache")
    missing = name_of("data", b"nothing")
    storage.keep([missing])
    for name in (missing, name_of("index", b"nothing"), "config"):
        with pytest.raises(NotFound):
            storage.read(name, 0, 1)
        with pytest.raises(NotFound):
            storage.read_into(name, bytearray(1))
