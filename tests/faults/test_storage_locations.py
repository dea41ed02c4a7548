"""What people write as a location, right and wrong, and on which file systems they land."""

from __future__ import annotations

import os
import socket
import subprocess
import threading
from pathlib import Path

import pytest

from holdfast.kernel.errors import Invalid, Unsupported
from holdfast.storage import OPENERS, REMOTE, LocalStorage, Manner, mounts, open_directly, open_location
from holdfast.storage.apart import Apart
from holdfast.storage.memory import MemoryStorage
from holdfast.storage.retrying import Retrying


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("/srv/backups", "/srv/backups"),
        ("/srv/backups/", "/srv/backups"),
        ("/srv/with space:colon", "/srv/with space:colon"),
        ("file:/srv/backups", "/srv/backups"),
        ("file:///srv/back%20ups", "/srv/back ups"),
        ("file://localhost/srv/b", "/srv/b"),
        ("FILE:///srv/b", "/srv/b"),
        ("local:/srv/100%20", "/srv/100%20"),
        ("backups/home", "{cwd}/backups/home"),
        ("./s3:odd", "{cwd}/s3:odd"),
        ("local:s3:odd", "{cwd}/s3:odd"),
        ("./me@host:x", "{cwd}/me@host:x"),
        (".", "{cwd}"),
    ],
)
def test_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, path: str) -> None:
    monkeypatch.chdir(tmp_path)
    storage = open_location(text)
    assert isinstance(storage, LocalStorage)
    assert storage.location == path.replace("{cwd}", os.getcwd())
    assert list(tmp_path.iterdir()) == []


def test_memory_is_fresh_each_time() -> None:
    first, second = open_location("memory:a"), open_location("memory:a")
    assert isinstance(first, MemoryStorage)
    first.write("config", b"c")
    assert list(second.list("")) == []


REMOTE_PLACES = {
    "s3": ("s3:s3.amazonaws.com/bucket/prefix", "s3:https://me:hunter2@example.org/bucket"),
    "gs": ("gs:bucket:/prefix", "gs://me:hunter2@bucket/prefix"),
    "azure": ("azure:container:/prefix", "azure://me:hunter2@container/prefix"),
    "sftp": ("sftp:me@host:/vault", "sftp:me:hunter2@host:/vault"),
    "rest": ("rest:https://host:8000/vault/", "rest:https://me:hunter2@host/vault/"),
}


@pytest.mark.parametrize("scheme", REMOTE)
def test_places_beyond_this_machine(scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a process was started, or something was contacted, before the first call")

    monkeypatch.setattr(subprocess, "Popen", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)
    threads = threading.active_count()
    text, _ = REMOTE_PLACES[scheme]
    for written in (text, scheme.upper() + text[len(scheme) :]):
        place = open_location(written, Manner(connections=3))
        assert isinstance(place, Apart)
        assert place.location == text
        assert place.traits.fork_safe and place.traits.connections == 3
        assert place.staging() is None
        place.close()
    assert threading.active_count() == threads


@pytest.mark.parametrize("scheme", REMOTE)
def test_a_password_in_the_location_is_refused_and_not_repeated(scheme: str) -> None:
    with pytest.raises(Invalid) as caught:
        open_location(REMOTE_PLACES[scheme][1])
    assert caught.value.hint
    assert "hunter2" not in f"{caught.value} {caught.value.hint} {caught.value.context}"


@pytest.mark.parametrize("scheme", REMOTE)
def test_a_remote_place_that_names_nothing(scheme: str) -> None:
    with pytest.raises(Invalid) as caught:
        open_location(f"{scheme}:")
    assert f"{scheme}:" in caught.value.message and f"{scheme}:" in caught.value.hint


def test_what_a_remote_place_is_made_of() -> None:
    place = open_directly("rest:http://host/vault/", Manner(connections=1))
    assert isinstance(place, Retrying)
    assert not place.traits.fork_safe
    assert place.traits.connections == 2, "never fewer: callers know a remote place by this"


def test_places_of_later_versions() -> None:
    with pytest.raises(Unsupported, match="later version") as caught:
        open_location("gdrive:me:hunter2")
    assert caught.value.hint
    assert "hunter2" not in f"{caught.value} {caught.value.hint} {caught.value.context}"


def test_all_kinds_are_named_where_one_is_unknown() -> None:
    with pytest.raises(Invalid, match="ftp:") as caught:
        open_location("ftp://host/vault")
    assert all(scheme in caught.value.hint for scheme in (*OPENERS, *REMOTE))


@pytest.mark.parametrize(
    "text",
    ["", "  ", "local:", "file:", "file:relative", "file://server/share", "ftp://me:hunter2@host/", "a\0b", "file:///a%00b",
     "me@host:/srv"],
)  # fmt: skip
def test_locations_that_make_no_sense(text: str) -> None:
    with pytest.raises(Invalid) as caught:
        open_location(text)
    assert caught.value.hint
    assert "hunter2" not in f"{caught.value} {caught.value.hint} {caught.value.context}"


MOUNTINFO = r"""
22 27 0:21 / /proc rw,relatime - proc proc rw
27 1 254:0 / / rw,relatime - ext4 /dev/vda rw
30 27 0:30 / /mnt/nas rw shared:5 master:1 - nfs4 nas:/export rw
31 30 0:31 / /mnt/nas/local rw - xfs /dev/sdb1 rw
32 27 0:32 / /mnt/two\040words rw - cifs //nas/share rw
33 27 0:33 / /mnt/usb rw - vfat /dev/sdc1 rw
34 27 0:34 / /mnt/auto rw - autofs systemd-1 rw
35 34 0:35 / /mnt/auto rw - btrfs /dev/sdd rw
36 27 0:36 / /home/me/remote rw - fuse.sshfs me@host: rw
37 27 0:37 / /mnt/ntfs rw - fuseblk /dev/sde1 rw
""".strip()


@pytest.mark.parametrize(
    ("path", "kind", "at_once"),
    [
        ("/srv/backups", "ext4", True),
        ("/", "ext4", True),
        ("/mnt/nas", "nfs4", False),
        ("/mnt/nas/vault", "nfs4", False),
        ("/mnt/nasty/vault", "ext4", True),
        ("/mnt/nas/local/vault", "xfs", True),
        ("/mnt/two words/vault", "cifs", False),
        ("/mnt/usb/vault", "vfat", True),
        ("/mnt/auto/vault", "btrfs", True),
        ("/home/me/remote", "fuse.sshfs", False),
        ("/mnt/ntfs/vault", "fuseblk", True),
    ],
)
def test_network_file_systems_are_known(path: str, kind: str, at_once: bool) -> None:
    assert mounts.file_system_kind(path, MOUNTINFO) == kind
    assert mounts.lists_at_once(kind) is at_once


def test_an_unknown_place_counts_as_network() -> None:
    assert mounts.file_system_kind("/srv", "") == ""
    assert not mounts.lists_at_once("")
    assert mounts.lists_at_once(None)


def test_hard_links_are_not_expected_where_there_are_none() -> None:
    assert mounts.has_hard_links("ext4")
    assert not mounts.has_hard_links("vfat")
