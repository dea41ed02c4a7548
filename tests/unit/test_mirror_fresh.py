"""Files that changed a moment before they were mirrored: they are looked at again, and restored like any other."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path

import pytest
from tests.mirrorkit import assert_mirrors, save, tree

from holdfast.kernel.cancel import Cancel
from holdfast.kernel.clock import SystemClock
from holdfast.kernel.events import ignore
from holdfast.vaults.base import Outcome, Overwrite, RestoreOptions
from holdfast.vaults.mirror import MirrorVault, make_mirror, open_mirror

OPTIONS = RestoreOptions(target=b"", workers=0, owner=None, overwrite=Overwrite.ALWAYS)


class Leaping(SystemClock):
    """Stands still at ``at`` (nanoseconds) for some questions, and is a minute later ever after."""

    def __init__(self, at: int, questions: int) -> None:
        self._at = at
        self._left = questions

    def now_ns(self) -> int:
        self._left -= 1
        return self._at + (60_000_000_000 if self._left < 0 else 0)


def restore(vault: MirrorVault, source: Path, target: Path) -> None:
    options = replace(OPTIONS, target=os.fsencode(target), path=os.fsencode(source))
    done = vault.restore(vault.snapshots()[-1], options, emit=ignore, cancel=Cancel())
    assert done.outcome is Outcome.OK, done.problems


@pytest.mark.parametrize("questions", range(5))
def test_names_of_one_file_stay_so_though_one_was_seen_too_fresh(tmp_path: Path, questions: int) -> None:
    source = tmp_path / "source"
    (source / "inner" / "deep").mkdir(parents=True)
    (source / "first").write_text("the same\n")
    os.link(source / "first", source / "inner" / "second")
    os.link(source / "first", source / "inner" / "deep" / "third")
    make_mirror(os.fsencode(tmp_path / "m"), protect=False, identifier=bytes(32))
    clock = Leaping((source / "first").stat().st_ctime_ns, questions)
    vault = open_mirror(os.fsencode(tmp_path / "m"), clock=clock)
    save(vault, source)
    assert_mirrors(vault, source)
    restore(vault, source, tmp_path / "target")
    assert tree(tmp_path / "target") == tree(source)


def test_a_fresh_file_of_a_protected_mirror_comes_back_with_its_own_permissions(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "file").write_text("may be written\n")
    make_mirror(os.fsencode(tmp_path / "m"), protect=True, identifier=bytes(32))
    clock = Leaping(time.time_ns(), 1_000)
    vault = open_mirror(os.fsencode(tmp_path / "m"), clock=clock)
    save(vault, source)
    restore(vault, source, tmp_path / "target")
    assert tree(tmp_path / "target") == tree(source)


def test_a_new_name_of_a_file_in_a_folder_that_is_known_as_a_whole(tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "done").mkdir(parents=True)
    (source / "later").mkdir()
    (source / "done" / "first").write_text("the same\n")
    os.link(source / "done" / "first", source / "later" / "second")
    make_mirror(os.fsencode(tmp_path / "m"), protect=False, identifier=bytes(32))
    clock = Leaping(time.time_ns(), 0)
    vault = open_mirror(os.fsencode(tmp_path / "m"), clock=clock)
    save(vault, source / "done")  # as far as a run comes that is stopped
    save(vault, source)
    assert_mirrors(vault, source)
