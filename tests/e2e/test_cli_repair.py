"""Repairing from the command line: what it says, its exit codes, its JSON, and what it leaves behind."""

from __future__ import annotations

import os
import random
import shutil
from pathlib import Path

import pytest

from holdfast.format.pack import BlobType
from holdfast.kernel.secret import Secret
from holdfast.repository import Repository, layout
from holdfast.storage import LocalStorage


@pytest.fixture
def saved(cli, documents: Path) -> Path:
    """The default vault with two snapshots of ``documents``, in which one file is large."""
    draw = random.Random(1)
    (documents / "large").write_bytes(draw.randbytes(2 << 20))
    assert cli("backup", documents).code == 0
    (documents / "secret.pem").write_bytes(draw.randbytes(500))
    assert cli("backup", documents).code == 0
    return documents


def packs(cli, kind: BlobType) -> list[Path]:
    secret = Secret(cli.default_key.read_bytes().strip(), random=True)
    repository = Repository.open(LocalStorage(str(cli.default_vault)), secret)
    repository.load_index()
    found = {pack for pack, blob in repository.index.blobs() if blob.type == kind}
    paths = [cli.default_vault / layout.name_of(layout.DATA, pack) for pack in found]
    return sorted(paths, key=lambda path: -path.stat().st_size)


def damage(path: Path, at: int = 100) -> None:
    path.chmod(0o600)
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def aside(cli) -> list[str]:
    return sorted(path.name for path in (cli.home / ".local/state/holdfast/set-aside").rglob("*") if path.is_file())


def test_a_sound_vault_needs_nothing(cli, saved: Path, snapshot_of) -> None:
    before = snapshot_of(cli.default_vault)
    said = {
        ("repair", "index"): "The index is in order: 4 packs",
        ("repair", "packs", "--all-damaged"): "No pack is damaged.",
        ("repair", "snapshots"): "No snapshot is damaged: 2 snapshots looked at.",
        ("recover",): "Nothing to recover",
        ("rewrite", "-e", "nothing"): "Nothing matches: 2 snapshots looked at.",
    }
    for words, sentence in said.items():
        done = cli(*words)
        assert (done.code, done.err) == (0, ""), done
        assert sentence in done.out
        assert cli(*words, "--quiet").out == ""
        assert cli(*words, "--json").summary["outcome"] == "ok"
    assert snapshot_of(cli.default_vault) == before
    assert aside(cli) == []


def test_the_whole_way_from_damage_to_a_sound_vault(cli, saved: Path, snapshot_of, need, tmp_path: Path) -> None:
    index = next((cli.default_vault / "index").iterdir())
    damage(index)
    pack = packs_on_disk(cli)[0]
    damage(pack)
    # A backup says what comes first.
    stopped = cli("backup", saved)
    assert stopped.code == 13
    assert "hint: Run 'holdfast repair index'" in stopped.err
    told = cli("check", "--read-data")
    assert told.code == 13
    assert "'holdfast repair index'" in told.out
    before = snapshot_of(cli.default_vault)
    dry = cli("repair", "index", "-n")
    assert (dry.code, "The index would be repaired" in dry.out) == (0, True)
    assert snapshot_of(cli.default_vault) == before

    done = cli("repair", "index")
    assert done.code == 0
    assert "The index is repaired: " in done.out and "1 damaged index files" in done.out
    assert str(cli.home / ".local/state/holdfast/set-aside") in done.out
    assert aside(cli) == [f"index-{index.name}"]

    told = cli("check", "--read-data")
    assert told.code == 13
    assert "'holdfast repair packs --all-damaged'" in told.out
    done = cli("repair", "packs", "--all-damaged", "--json")
    assert done.code == 13
    assert done.summary["damaged"] == 1 and done.summary["outcome"] == "failed"
    assert len(done.summary["needed"]) == 1
    assert [event["id"] for event in done.events if event["event"] == "pack"] == [pack.name]
    assert not pack.exists()
    assert f"data-{pack.name[:2]}-{pack.name}" in aside(cli)

    told = cli("check")
    assert told.code == 13
    assert "'holdfast repair snapshots' gives it up" in told.out
    dry = cli("repair", "snapshots", "-n")
    assert dry.code == 13 and "2 would be repaired" in dry.out
    done = cli("repair", "snapshots")
    assert done.code == 13
    assert f"{saved}/large: " in done.out and "are lost; the rest is kept" in done.out
    assert "'holdfast repair snapshots --forget' deletes them" in done.out
    done = cli("repair", "snapshots", "--forget", "--json")
    assert (done.code, done.summary["forgotten"], done.summary["repaired"]) == (0, 2, 2)
    assert cli("check", "--read-data").code == 0
    assert "repaired" in cli("snapshots").out


def packs_on_disk(cli) -> list[Path]:
    """All packs, the largest first, whatever the index says."""
    found = [path for path in (cli.default_vault / "data").rglob("*") if path.is_file()]
    return sorted(found, key=lambda path: -path.stat().st_size)


def test_healing_from_a_copy(cli, saved: Path, snapshot_of, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(cli.default_vault, copy)
    untouched = snapshot_of(copy)
    gone, damaged = packs(cli, BlobType.DATA)[0], packs(cli, BlobType.TREE)[0]
    gone.unlink()
    damage(damaged)
    told = cli("check", "--read-data")
    assert told.code == 13 and "'holdfast repair packs --from VAULT'" in told.out
    # The copy has the same keys; it is not the default vault, so its key file must be named.
    words = ("repair", "packs", "--from", copy, "--from-password-file", cli.default_key)
    dry = cli(*words, "-n", "--json")
    assert (dry.code, dry.summary["fetched"], dry.summary["dry_run"]) == (0, 1, True)
    done = cli(*words)
    assert done.code == 0, done
    assert "1 pack brought back whole" in done.out and "from the second vault" in done.out
    assert cli("check", "--read-data").code == 0
    assert snapshot_of(copy) == untouched
    short = cli("repair", *words[2:])  # without a word, --from means packs
    assert short.code == 0, short.err
    again = cli(*words, "--from-no-lock")
    assert (again.code, again.out.strip()) == (0, "No pack is damaged.")


def test_a_named_pack(cli, saved: Path, tmp_path: Path) -> None:
    pack = packs(cli, BlobType.DATA)[0]
    done = cli("repair", "packs", pack.name[:8], "--aside", tmp_path / "kept")
    assert done.code == 0
    assert "Replaced 1 damaged pack" in done.out
    assert [path.name for path in (tmp_path / "kept").iterdir()] == [f"data-{pack.name[:2]}-{pack.name}"]
    assert cli("check", "--read-data").code == 0


def test_mistakes(cli, saved: Path, tmp_path: Path) -> None:
    for words, code, message in (
        (("repair", "packs"), 2, "no pack is named"),
        (("repair", "packs", "abcd", "--all-damaged"), 2, "not both"),
        (("repair", "packs", "--all-damaged", "--from-no-lock"), 2, "go with --from"),
        (("repair", "packs", "--from", ""), 2, "it is empty"),
        (("repair",), 2, "Say what to repair"),
        (("repair", "--from", "x", "index"), 2, "stand after 'packs'"),
        (("repair", "packs", "--aside", "", "abcd"), 2, "it is empty"),
        (("repair", "packs", "0123456789"), 10, "No pack has an id that begins with '0123456789'"),
        (("repair", "packs", "--from", cli.default_vault), 2, "cannot be healed from itself"),
        (("repair", "packs", "--from", tmp_path / "nowhere"), 10, "There is no vault at"),
        (("repair", "snapshots", "beef"), 10, "no snapshot has an id that begins with beef"),
        (("repair", "snapshots", "--host", "nobody"), 10, "no snapshot fits"),
        (("rewrite",), 2, "nothing says what to take out"),
        (("rewrite", "-e", "[a"), 2, "can never match anything"),
        (("repair",), 2, ""),
    ):
        done = cli(*words)
        assert done.code == code, (words, done)
        assert message in done.err + done.out, (words, done)


def test_taking_a_leaked_file_out_of_history(cli, saved: Path, snapshot_of) -> None:
    before = snapshot_of(cli.default_vault)
    dry = cli("rewrite", "--exclude", "*.pem", "--dry-run")
    assert dry.code == 0
    assert f"would go: {dry.out.split(':')[1].strip()}:{saved}/secret.pem" in dry.out
    assert "2 snapshots looked at, 1 would be rewritten." in dry.out
    assert snapshot_of(cli.default_vault) == before

    done = cli("rewrite", "--exclude", "*.pem")
    assert done.code == 0
    assert "the old ones are still there" in done.out and "prune" in done.out
    assert "rewrite" in cli("snapshots").out
    done = cli("rewrite", "--exclude", "*.pem", "--forget", "--json")
    assert (done.summary["rewritten"], done.summary["forgotten"], done.summary["removed"]) == (1, 1, 1)
    assert "secret.pem" not in cli("find", "secret.pem", "--json").out
    assert cli("check").code == 0


def test_a_held_snapshot_is_not_rewritten_away(cli, saved: Path) -> None:
    assert cli("backup", saved, "--tag", "hold").code == 0
    done = cli("rewrite", "-e", "*.pem", "--forget")
    assert done.code == 12
    assert "is held" in done.err and "holdfast hold --release" in done.err


def test_what_was_forgotten_by_mistake_comes_back(cli, saved: Path, tmp_path: Path) -> None:
    for path in (cli.default_vault / "snapshots").iterdir():
        path.unlink()
    dry = cli("recover", "-n")
    assert dry.code == 0 and "2 folders" in dry.out and "would be recovered" in dry.out
    done = cli("recover", "--json")
    assert (done.code, done.summary["roots"]) == (0, 2)
    names = [event["name"] for event in done.events if event["event"] == "root"]
    assert cli("restore", "latest", "--target", tmp_path / "back").code == 0
    assert sorted(os.listdir(tmp_path / "back")) == sorted(names)
    assert (tmp_path / "back" / names[0] / str(saved)[1:] / "notes.txt").read_text() == "first line\nsecond line\n"
    assert "Nothing to recover" in cli("recover").out


def test_a_vault_in_use_is_not_repaired(cli, saved: Path, snapshot_of) -> None:
    secret = Secret(cli.default_key.read_bytes().strip(), random=True)
    repository = Repository.open(LocalStorage(str(cli.default_vault)), secret)
    with repository.locks.hold(exclusive=False):
        before = snapshot_of(cli.default_vault)
        for words in (("repair", "index"), ("repair", "packs", "--all-damaged"), ("repair", "snapshots"), ("recover",)):
            done = cli(*words)
            assert done.code == 11, (words, done)
            assert "hint: " in done.err
        assert cli("repair", "index", "--dry-run").code == 0
        assert snapshot_of(cli.default_vault) == before
    assert list((cli.default_vault / "locks").iterdir()) == []
