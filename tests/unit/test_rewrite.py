"""Taking files out of snapshots: the same trees as a backup with those rules makes, and nothing else moves."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Sequence
from pathlib import Path

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.archivekit import new_vault, nodes, open_vault, save
from tests.repairkit import contents
from tests.restickit import make_everything
from tests.restorekit import Forge, forge

from holdfast.files.rules import Rules
from holdfast.format.gostring import json_value
from holdfast.format.pack import BlobType
from holdfast.format.snapshot import Snapshot
from holdfast.format.tree import raw_nodes
from holdfast.kernel.cancel import Cancel
from holdfast.kernel.errors import Cancelled, Denied
from holdfast.kernel.events import ignore
from holdfast.kernel.ids import SnapshotId
from holdfast.repository import layout
from holdfast.vaults.archive import ArchiveVault
from holdfast.vaults.archive.rewrite import RewriteOptions, RewriteSummary, rewrite
from holdfast.vaults.archive.rewrite.trees import RawNode
from holdfast.vaults.base import CheckOptions, Outcome


def compiled(lines: Sequence[str]) -> Rules:
    return Rules.compile(lines, defaults=False, cachedir_tag=False, ignore_file=b"")


def take_out(
    vault: ArchiveVault, *lines: str, protected: Callable[[Snapshot], bool] = lambda snapshot: False, **options: object
) -> RewriteSummary:
    chosen = RewriteOptions(compiled(lines), **options)  # type: ignore[arg-type]
    return rewrite(vault.repository, chosen, protected=protected, emit=ignore, cancel=Cancel())


def snapshots(vault: ArchiveVault) -> dict[SnapshotId, Snapshot]:
    return dict(vault.repository.snapshots())


def sound(vault: ArchiveVault) -> bool:
    report = open_vault(Path(vault.location)).check(CheckOptions(workers=0), emit=ignore, cancel=Cancel())
    return report.outcome is Outcome.OK


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("rewrite") / "home"
    for name in (
        "docs/build/x.o",
        "docs/a.txt",
        "docs/keys/secret.pem",
        "src/build/out",
        "src/docs/a.txt",
        "secret.pem",
    ):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
    (root / "empty").mkdir()
    (root / "link").symlink_to("docs")
    return root


LINES = st.lists(
    st.sampled_from(
        [
            *(
                "*.pem",
                "build/",
                "/docs",
                "docs",
                "a.txt",
                "/build",
                "docs/keys",
                "**/x.o",
                "/src/*",
                "!a.txt",
                "empty",
            ),
            *("empty", "link", "link/", "nothing", "docs/**/a.txt", "*", "!docs", "/home", "home/docs"),
        ]
    ),
    min_size=1,
    max_size=3,
)


@given(lines=LINES, several=st.booleans(), relative=st.booleans())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_as_if_the_backup_had_had_these_rules(
    source: Path, tmp_path_factory: pytest.TempPathFactory, lines: list[str], several: bool, relative: bool
) -> None:
    """Whatever the patterns: rewriting gives the very trees that a backup with them gives."""
    vault = new_vault(tmp_path_factory.mktemp("vault"))
    names = ["home/docs", "home/src"] if several else ["home"]
    paths = [os.fsencode(name if relative else str(source.parent / name)) for name in names]
    before = Path.cwd()
    os.chdir(source.parent)
    try:
        plain = save(vault, *paths).snapshot
        wanted = save(open_vault(Path(vault.location)), *paths, rules=compiled(lines)).snapshot
    finally:
        os.chdir(before)
    opened = open_vault(Path(vault.location))
    assert plain is not None and wanted is not None
    done = take_out(opened, *lines, only=frozenset((plain,)))
    result = done.replaced[0].new if done.replaced else plain
    assert result is not None
    # Other programs change the times of the folders above.
    above = b"" if relative else os.fsencode(source.parent)
    kept, expected = (
        {
            path: (node.type, node.subtree, node.content)
            for path, node in nodes(opened, snapshot)
            if path.startswith(above + b"/home/")
        }
        for snapshot in (result, wanted)
    )
    assert kept == expected
    assert bool(done.removed) == bool(done.replaced)
    if done.replaced:
        summary = snapshots(opened)[wanted].summary
        new = snapshots(opened)[result].summary
        assert summary is not None and new is not None
        for key in ("total_files_processed", "total_bytes_processed"):
            assert new[key] == summary[key]
    assert sound(vault)


def test_a_leaked_file_goes_from_every_snapshot(source: Path, tmp_path: Path) -> None:
    vault = new_vault(tmp_path / "vault")
    for number in range(3):
        (source / "docs" / "counter").write_text(str(number))
        save(open_vault(tmp_path / "vault"), source, tags=(f"t{number}",))
    clean = save(vault, source / "src").snapshot
    (source / "docs" / "counter").unlink()
    before = snapshots(vault)
    stored = contents(tmp_path / "vault")
    planned = take_out(vault, "*.pem", dry_run=True)
    assert contents(tmp_path / "vault") == stored
    done = take_out(vault, "*.pem")
    assert len(done.replaced) == len(planned.replaced) == 3
    # The root's file each time anew (its folder's tree differs), the one below only once: that folder is the same.
    assert [path.rpartition(b"/")[2] for _, path in done.removed] == [b"secret.pem"] * 4
    after = snapshots(vault)
    assert before.items() <= after.items()
    for replacement in done.replaced:
        old, new = before[replacement.old], after[replacement.new]  # type: ignore[index]
        assert new.original == replacement.old
        assert new.tags == (*old.tags, "rewrite")
        assert (new.time, new.paths, new.hostname, new.parent) == (old.time, old.paths, old.hostname, old.parent)
        assert new.summary["total_files_processed"] == old.summary["total_files_processed"] - 2  # type: ignore[index]
    assert clean in after
    assert sound(vault)
    # A second run makes no further copies, and with --forget the old ones go.
    assert [item.new for item in take_out(vault, "*.pem").replaced] == [None] * 3
    last = take_out(vault, "*.pem", forget=True)
    assert last.forgotten == 3
    left = snapshots(vault)
    assert not set(before) & set(left) - {clean}
    assert not take_out(vault, "*.pem").replaced
    assert sound(vault)


def test_forgetting_at_once_leaves_no_mark(source: Path, tmp_path: Path) -> None:
    """As with restic: the successor has no tag if it takes the old one's place."""
    vault = new_vault(tmp_path / "vault")
    old = save(vault, source).snapshot
    done = take_out(vault, "secret.pem", forget=True)
    ((new, snapshot),) = snapshots(vault).items()
    assert done.replaced[0].new == new != old
    assert snapshot.original == old
    assert snapshot.tags == ()


def test_what_was_named_in_the_backup_itself(source: Path, tmp_path: Path) -> None:
    """A file by its name or path, a folder only by its absolute path."""
    vault = new_vault(tmp_path / "vault")
    both = save(vault, source / "secret.pem", source / "docs").snapshot
    only = frozenset((both,))
    assert [path for _, path in take_out(vault, "secret.pem", only=only, dry_run=True).removed] == [
        os.fsencode(source / "secret.pem"),
        os.fsencode(source / "docs/keys/secret.pem"),
    ]
    assert not take_out(vault, "docs", "docs/", "/docs", only=only, dry_run=True).removed
    for path in ("secret.pem", "docs"):
        done = take_out(vault, str(source / path), only=only, dry_run=True)
        assert [removed for _, removed in done.removed] == [os.fsencode(source / path)]
    assert take_out(vault, str(source / "docs/keys"), only=only, dry_run=True).removed


def test_a_held_snapshot_is_not_forgotten(source: Path, tmp_path: Path) -> None:
    vault = new_vault(tmp_path / "vault")
    save(vault, source)
    save(vault, source, tags=("hold",))
    stored = {name for name in contents(tmp_path / "vault") if name.startswith("snapshots")}
    with pytest.raises(Denied, match="held") as caught:
        take_out(vault, "*.pem", forget=True, protected=lambda snapshot: "hold" in snapshot.tags)
    assert "--release" in caught.value.hint
    assert {name for name in contents(tmp_path / "vault") if name.startswith("snapshots")} == stored
    assert take_out(vault, "nothing", forget=True, protected=lambda snapshot: True).forgotten == 0


def test_damage_elsewhere_is_told_and_kept(source: Path, tmp_path: Path) -> None:
    """A snapshot with a folder that cannot be read stays as it is, unless that folder is what goes."""
    vault = new_vault(tmp_path / "vault")
    sound_one = save(vault, source / "src").snapshot
    broken = save(vault, source / "docs").snapshot
    vault.repository.load_index()
    tree = snapshots(vault)[broken].tree  # type: ignore[index]
    place = vault.repository.index.place(tree)
    assert place is not None and place.type == BlobType.TREE
    path = tmp_path / "vault" / layout.name_of(layout.DATA, place.pack)
    path.chmod(0o600)
    with path.open("r+b") as file:
        file.seek(place.offset + 20)
        file.write(b"\0\0\0\0")
    done = take_out(open_vault(tmp_path / "vault"), "a.txt")
    assert done.outcome is Outcome.FAILED
    assert [identifier for identifier, _ in done.damaged] == [broken]
    assert "repair" in done.damaged[0][1]
    assert [item.old for item in done.replaced] == [sound_one]


def test_folders_nested_without_limit(tmp_path: Path) -> None:
    vault = new_vault(tmp_path / "vault")

    def make(smith: Forge) -> list[object]:
        node = smith.file(b"leak", b"secret")
        for _ in range(3000):
            node = smith.folder(b"d", node)
        return [node]

    forge(vault, make)  # type: ignore[arg-type]
    done = take_out(open_vault(tmp_path / "vault"), "leak")
    assert len(done.replaced) == 1
    assert done.folders == 3001


def test_a_cancelled_rewrite_leaves_everything(source: Path, tmp_path: Path) -> None:
    vault = new_vault(tmp_path / "vault")
    save(vault, source)
    before = snapshots(vault)
    cancel = Cancel()
    cancel.cancel("enough")
    with pytest.raises(Cancelled, match="enough"):
        options = RewriteOptions(compiled(["*.pem"]))
        rewrite(vault.repository, options, protected=lambda snapshot: False, emit=ignore, cancel=cancel)
    assert snapshots(vault) == before
    assert not list((tmp_path / "vault" / "locks").iterdir())


def test_every_kind_of_node_is_written_as_it_was_read(tmp_path: Path, need: Callable[[str], str]) -> None:
    """A node that must be made from its parsed form has the same bytes as before, whatever is in it."""
    make_everything(tmp_path / "everything", need)
    vault = new_vault(tmp_path / "vault")
    save(vault, tmp_path / "everything")
    repository = vault.repository
    repository.load_index()
    count = 0
    for _, blob in repository.index.blobs():
        if blob.type == BlobType.TREE:
            for _, raw, fields in raw_nodes(repository.read_blob(blob.id)):
                assert json_value(fields) == raw
                count += 1
    assert count > 5000


def test_a_file_keeps_the_order_of_its_fields() -> None:
    draw = random.Random(3)
    ids = [draw.randbytes(32).hex() for _ in range(3)]
    raw = (
        b'{"name":"n","type":"file","mode":420,"mtime":"2026-01-02T03:04:05Z","uid":1,"inode":7,"size":9,"links":2,'
        b'"content":["%s","%s"],"later":{"b":1,"a":[]}}' % (ids[0].encode(), ids[1].encode())
    )
    node = RawNode(b"n", orjson.loads(raw), raw)
    assert node.encoded() == raw
    shorter = node.with_content(ids[1:2], 4).encoded()
    assert shorter == raw.replace(b'"%s",' % ids[0].encode(), b"").replace(b'"size":9', b'"size":4')
    none = node.with_content([], 0)
    assert b"size" not in none.encoded() and b'"content":[]' in none.encoded()
    assert none.with_content(ids[:2], 9).encoded() == raw
