"""What the folder of a vault goes through: full and read-only disks, unmounting, odd file systems, dead writes."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from holdfast.kernel.errors import Denied, Invalid, NoSpace, NotFound, Unavailable
from holdfast.storage import LocalStorage

PACK = "data/ab/" + "ab" + "1" * 62
DAY_NS = 24 * 3600 * 1_000_000_000
NOW_NS = 1_700_000_000_000_000_000


def vault(folder: Path) -> LocalStorage:
    storage = LocalStorage(str(folder / "vault"))
    storage.prepare(["data", "keys"])
    return storage


def names(storage: LocalStorage) -> list[str]:
    return sorted(info.name for info in storage.list(""))


def files_in(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def refuse(code: int, when: Callable[..., bool], real: Callable[..., object]) -> Callable[..., object]:
    """The system function ``real``, failing with ``code`` for the arguments that ``when`` picks."""

    def call(*arguments: object, **options: object) -> object:
        if when(*arguments):
            raise OSError(code, os.strerror(code))
        return real(*arguments, **options)

    return call


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MiB of its own."""
    if os.geteuid() != 0 or sys.platform != "linux":
        pytest.skip("mounting a file system needs root on Linux")
    point = tmp_path / "disk"
    point.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "holdfast-test", str(point)]
    done = subprocess.run(mount, capture_output=True, check=False)
    if done.returncode:
        pytest.skip(f"mounting is not allowed here: {done.stderr.decode().strip()}")
    yield point
    subprocess.run(["umount", str(point)], capture_output=True, check=False)


def test_a_full_disk(small_disk: Path, tmp_path: Path) -> None:
    storage = vault(small_disk)
    written = []
    with pytest.raises(NoSpace) as caught:
        for number in range(20):
            storage.write(f"data/{number:02x}/{number:064x}", bytes(100_000))
            written.append(f"data/{number:02x}/{number:064x}")
    assert "space" in caught.value.hint
    assert len(written) > 5
    assert names(storage) == written == files_in(small_disk / "vault"), "a part of a file was left behind"
    elsewhere = tmp_path / "pack"
    elsewhere.write_bytes(bytes(100_000))
    with pytest.raises(NoSpace):
        storage.adopt(str(elsewhere), PACK)
    assert elsewhere.stat().st_size == 100_000
    assert names(storage) == written == files_in(small_disk / "vault")
    storage.delete(written[0])
    storage.adopt(str(elsewhere), PACK)
    assert storage.size(PACK) == 100_000
    assert not elsewhere.exists()


def test_a_disk_mounted_read_only(small_disk: Path) -> None:
    storage = vault(small_disk)
    storage.write(PACK, b"pack")
    (small_disk / "source").write_bytes(b"data")
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True, capture_output=True)
    nothing_can_be_changed(storage, small_disk / "source")


def test_a_folder_without_write_permission(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("permissions do not hold root back")
    storage = vault(tmp_path)
    storage.write(PACK, b"pack")
    (tmp_path / "source").write_bytes(b"data")
    folders = [tmp_path / "vault" / part for part in ("data/ab", "data", "keys", "")]
    for folder in folders:
        folder.chmod(0o500)
    try:
        nothing_can_be_changed(storage, tmp_path / "source")
        assert (tmp_path / "vault" / PACK).stat().st_mode & 0o777 == 0o400
    finally:
        for folder in folders:
            folder.chmod(0o700)


def nothing_can_be_changed(storage: LocalStorage, source: Path) -> None:
    new = "data/cd/" + "cd" + "2" * 62
    changes: list[Callable[[], object]] = [
        lambda: storage.write(new, b"data"),
        lambda: storage.write("config", b"data"),
        lambda: storage.adopt(str(source), new),
        lambda: storage.delete(PACK),
        lambda: storage.prepare(["locks"]),
    ]
    for change in changes:
        with pytest.raises(Denied) as caught:
            change()
        assert caught.value.hint
    assert source.read_bytes() == b"data"
    storage.prepare(["data", "keys"])
    assert names(storage) == [PACK]
    assert storage.read(PACK) == b"pack"


def test_an_unreadable_file_is_denied(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("permissions do not hold root back")
    storage = vault(tmp_path)
    storage.write(PACK, b"pack")
    (tmp_path / "vault" / PACK).chmod(0)
    with pytest.raises(Denied, match="permission denied"):
        storage.read(PACK)


def test_an_unmounted_disk_is_not_an_empty_vault(small_disk: Path) -> None:
    storage = LocalStorage(str(small_disk))
    storage.prepare(["data"])
    storage.write(PACK, b"pack")
    subprocess.run(["umount", str(small_disk)], check=True, capture_output=True)
    everything_is_unavailable(storage)
    assert list(small_disk.iterdir()) == [], "something was written beneath the mount point"


def test_a_vanished_folder_is_not_an_empty_vault(tmp_path: Path) -> None:
    storage = vault(tmp_path)
    storage.write(PACK, b"pack")
    (tmp_path / "vault").rename(tmp_path / "away")
    everything_is_unavailable(storage)
    assert not (tmp_path / "vault").exists()
    (tmp_path / "away").rename(tmp_path / "vault")
    assert storage.read(PACK) == b"pack"


def everything_is_unavailable(storage: LocalStorage) -> None:
    calls: list[Callable[[], object]] = [
        lambda: list(storage.list("data")),
        lambda: list(storage.list("")),
        lambda: storage.read(PACK),
        lambda: storage.size(PACK),
        lambda: storage.write("data/cd/" + "cd" + "2" * 62, b"data"),
        lambda: storage.write("config", b"data"),
        lambda: storage.delete(PACK),
        lambda: storage.staging(),
        lambda: storage.sweep(NOW_NS),
    ]
    for call in calls:
        with pytest.raises(Unavailable, match=r"disappeared|another file system") as caught:
            call()
        assert "mount" in caught.value.hint.lower()


def test_a_place_that_never_was(tmp_path: Path) -> None:
    storage = LocalStorage(str(tmp_path / "typo"))
    calls: list[Callable[[], object]] = [
        lambda: list(storage.list("")),
        lambda: storage.read("config"),
        lambda: storage.write("config", b"x"),
    ]
    for call in calls:
        with pytest.raises(NotFound, match="there is no folder") as caught:
            call()
        assert "init" in caught.value.hint
    assert not (tmp_path / "typo").exists()


def test_a_file_where_the_folder_should_be(tmp_path: Path) -> None:
    (tmp_path / "vault").write_bytes(b"a letter")
    storage = LocalStorage(str(tmp_path / "vault"))
    for call in (lambda: storage.prepare(["data"]), lambda: list(storage.list("")), lambda: storage.write("a/b", b"x")):
        with pytest.raises(Invalid):
            call()
    assert (tmp_path / "vault").read_bytes() == b"a letter"


def test_the_current_folder_may_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    storage = LocalStorage("vault")
    storage.prepare([])
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "other")
    storage.write("config", b"c")
    assert (tmp_path / "vault" / "config").read_bytes() == b"c"


def modes(folder: Path) -> dict[str, int]:
    return {path.relative_to(folder).as_posix(): path.stat().st_mode & 0o777 for path in folder.rglob("*")}


def test_only_the_owner_may_look_and_nobody_may_change(tmp_path: Path) -> None:
    storage = vault(tmp_path)
    storage.write("config", b"c")
    source = tmp_path / "source"
    source.write_bytes(b"pack")
    source.chmod(0o666)
    storage.adopt(str(source), PACK)
    found = modes(tmp_path)
    assert found == {
        "vault": 0o700, "vault/data": 0o700, "vault/keys": 0o700, "vault/data/ab": 0o700,
        "vault/config": 0o400, f"vault/{PACK}": 0o400,
    }  # fmt: skip


def test_a_vault_shared_with_the_group_stays_shared(tmp_path: Path) -> None:
    storage = vault(tmp_path)
    storage.write("config", b"c")
    (tmp_path / "vault" / "config").chmod(0o440)
    old = os.umask(0o022)
    try:
        storage = LocalStorage(str(tmp_path / "vault"))
        storage.write(PACK, b"pack")
        os.umask(0o002)
        storage.write("snapshots/aa", b"snapshot")
    finally:
        os.umask(old)
    found = modes(tmp_path / "vault")
    assert (found[PACK], found["data/ab"]) == (0o440, 0o750)
    assert (found["snapshots/aa"], found["snapshots"]) == (0o440, 0o770)


def aged(path: Path, age_ns: int) -> None:
    path.write_bytes(b"half a fi")
    os.utime(path, ns=(NOW_NS - age_ns, NOW_NS - age_ns))


def test_only_old_leftovers_are_swept(tmp_path: Path) -> None:
    storage = vault(tmp_path)
    storage.write(PACK, b"pack")
    root = tmp_path / "vault"
    leftovers = [f"{PACK}-tmp-0123456789abcdef", f"{PACK}-tmp-1234567890", "config-tmp-18446744073709551615",
                 "data/hf-tmp-9f", "keys/" + "c" * 64 + "-tmp-7"]  # fmt: skip
    young = f"{PACK}-tmp-42"
    kept = ["keys/notes-tmp-draft", "readme.txt", "data/tmp-1"]
    for name in leftovers:
        aged(root / name, DAY_NS + 1)
    aged(root / young, DAY_NS - 1)
    for name in kept:
        aged(root / name, 100 * DAY_NS)
    (root / "data" / "hf-tmp-folder").mkdir()
    (root / "data" / "hf-tmp-link").symlink_to("../readme.txt")
    assert names(storage) == sorted([PACK, *kept])
    assert storage.sweep(NOW_NS) == len(leftovers)
    assert files_in(root) == sorted([PACK, young, *kept, "data/hf-tmp-link"])
    assert storage.sweep(NOW_NS) == 0


def test_what_is_no_file_is_not_listed(tmp_path: Path) -> None:
    storage = vault(tmp_path)
    root = tmp_path / "vault"
    storage.write(PACK, b"pack")
    os.mkfifo(root / "data" / "pipe")
    (root / "data" / "broken").symlink_to("nowhere")
    (root / "lost+found").mkdir()
    (root / "lost+found" / "12").write_bytes(b"")
    (root / "back\\slash").write_bytes(b"")
    assert names(storage) == [PACK]
    for info in storage.list(""):
        assert len(storage.read(info.name)) == info.size


def test_linked_folders_are_followed_but_not_in_circles(tmp_path: Path) -> None:
    storage = vault(tmp_path)
    root = tmp_path / "vault"
    (tmp_path / "other disk").mkdir()
    (root / "data").rmdir()
    (root / "data").symlink_to(tmp_path / "other disk")
    (root / "keys" / "up").symlink_to("..")
    (root / "keys" / "self").symlink_to(".")
    storage.write(PACK, b"pack")
    storage.write("keys/aa", b"key")
    assert names(storage) == [PACK, "keys/aa"]
    assert (tmp_path / "other disk" / PACK.removeprefix("data/")).exists()


@pytest.mark.parametrize("name", [PACK, "config"])
def test_adopting_from_another_file_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    storage = vault(tmp_path)
    data = os.urandom(3_000_001)
    source = tmp_path / "source"
    source.write_bytes(data)

    def crosses(path: str, *_rest: object) -> bool:
        return path == str(source)

    monkeypatch.setattr(os, "rename", refuse(errno.EXDEV, crosses, os.rename))
    monkeypatch.setattr(os, "link", refuse(errno.EXDEV, crosses, os.link))
    storage.adopt(str(source), name)
    assert storage.read(name) == data
    assert files_in(tmp_path) == [f"vault/{name}"]
    assert (tmp_path / "vault" / name).stat().st_mode & 0o777 == 0o400


def test_adopting_from_a_memory_disk(tmp_path: Path) -> None:
    shared = Path("/dev/shm")
    if not os.access(shared, os.W_OK) or shared.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("needs /dev/shm as another file system")
    storage = vault(tmp_path)
    folder = shared / f"holdfast-test-{os.getpid()}"
    folder.mkdir()
    try:
        (folder / "pack").write_bytes(b"pack" * 500_000)
        storage.adopt(str(folder / "pack"), PACK)
        assert list(folder.iterdir()) == []
    finally:
        shutil.rmtree(folder)
    assert storage.read(PACK) == b"pack" * 500_000


def test_adopting_a_file_that_lies_at_its_name_already(tmp_path: Path) -> None:
    storage = vault(tmp_path)
    storage.write(PACK, b"pack")
    storage.adopt(str(tmp_path / "vault" / PACK), PACK)
    assert storage.read(PACK) == b"pack"


@pytest.mark.parametrize("code", [errno.EINVAL, errno.ENOTSUP])
def test_file_systems_that_cannot_flush_are_forgiven(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    monkeypatch.setattr(os, "fsync", refuse(code, lambda _file: True, os.fsync))
    storage = vault(tmp_path)
    storage.write(PACK, b"pack")
    assert storage.read(PACK) == b"pack"


@pytest.mark.parametrize("code", [errno.EPERM, errno.ENOTSUP])
def test_file_systems_without_modes_and_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    monkeypatch.setattr(os, "fchmod", refuse(code, lambda *_: True, os.fchmod))
    monkeypatch.setattr(os, "link", refuse(code, lambda *_: True, os.link))
    storage = vault(tmp_path)
    storage.write("config", b"first")
    with pytest.raises(Invalid, match="other content"):
        storage.write("config", b"other")
    assert storage.read("config") == b"first"
    assert files_in(tmp_path / "vault") == ["config"]


def test_reads_that_the_kernel_cuts_short_are_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = vault(tmp_path)
    data = bytes(range(256)) * 16
    storage.write(PACK, data)
    pread, preadv = os.pread, os.preadv
    monkeypatch.setattr(os, "pread", lambda file, length, offset: pread(file, min(length, 1000), offset))
    monkeypatch.setattr(os, "preadv", lambda file, views, offset: preadv(file, [views[0][:700]], offset))
    assert storage.read(PACK) == data
    assert storage.read(PACK, 5, 3000) == data[5:3005]
    buffer = bytearray(5000)
    assert storage.read_into(PACK, buffer, 6) == len(data) - 6
    assert buffer[: len(data) - 6] == data[6:]


@pytest.mark.parametrize(
    ("code", "kind", "hint"),
    [
        (errno.EIO, Unavailable, "smartctl"),
        (errno.ESTALE, Unavailable, "mount it again"),
        (errno.EDQUOT, NoSpace, "quota"),
        (errno.EACCES, Denied, "permissions"),
        (errno.EROFS, Denied, "read-only"),
        (errno.EMFILE, Unavailable, "ulimit"),
        (errno.EPROTO, Unavailable, "Try again"),
    ],
)
def test_errors_say_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, kind: type[Exception], hint: str
) -> None:
    storage = vault(tmp_path)
    monkeypatch.setattr(os, "open", refuse(code, lambda path, *_: "keys" in str(path), os.open))
    for call in (lambda: storage.read("keys/aa"), lambda: storage.write("keys/aa", b"x")):
        with pytest.raises(kind, match="keys/aa") as caught:
            call()
        assert hint in caught.value.hint  # type: ignore[attr-defined]
        assert caught.value.context["errno"] == errno.errorcode[code]  # type: ignore[attr-defined]
