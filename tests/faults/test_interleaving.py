"""Several writers, a forgetter, a pruner, a copier and a reader at once in one vault, against a model.

Hypothesis chooses who takes how many steps when, and who is killed; a failure shrinks to the shortest such story. A
step is a call of the storage, so every interleaving that two machines could produce can come up.
``HOLDFAST_MODEL_EXAMPLES`` sets the number of stories (12), ``HOLDFAST_MODEL_SECONDS`` plays new ones until so many
seconds are over; ``--hypothesis-seed`` repeats them.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test
from tests.archivekit import SECRET, files, new_vault, open_vault, save
from tests.copykit import bring
from tests.faults.stepping import Actor

from holdfast.kernel.cancel import Cancel
from holdfast.kernel.events import ignore
from holdfast.repository import packer, writer
from holdfast.storage import LocalStorage, Storage
from holdfast.vaults.archive.forget import forget
from holdfast.vaults.archive.prune import prune
from holdfast.vaults.archive.prune.model import PruneOptions, Tolerance
from holdfast.vaults.base import CheckOptions, Subset

WRITERS = 2
NAMES = ["one", "two", "three"]
CONTENTS = 3
ANY, WRITER = st.integers(0, 11), st.integers(0, WRITERS - 1)
Contents = dict[str, str]


def digest(contents: dict[bytes, bytes]) -> Contents:
    return {os.fsdecode(path): hashlib.sha256(data).hexdigest() for path, data in sorted(contents.items())}


def small_packs() -> None:
    """Several packs and index files from little data; in a child process."""
    packer.TARGET_SIZE, packer.BATCH = 40_000, 10_000  # type: ignore[misc]
    writer.INTERIM_BLOBS = 3  # type: ignore[misc]


class Vault(RuleBasedStateMachine):
    """The model: what each snapshot must hold, which ones were promised, and which ones somebody began to forget."""

    restic: str | None = None

    def __init__(self) -> None:
        super().__init__()
        self.base = Path(tempfile.mkdtemp(prefix="holdfast-model-"))
        self.place, self.other = self.base / "vault", self.base / "other"
        self.actors: list[tuple[str, Any, Actor]] = []
        self.saved: dict[str, Contents] = {}
        self.promised: set[str] = set()
        self.doomed: set[str] = set()
        self.copied: set[str] = set()

    @initialize()
    def make(self) -> None:
        new_vault(self.place)
        new_vault(self.other)
        for number in range(WRITERS):
            folder = self.folder(number)
            folder.mkdir()
            for place, name in enumerate(NAMES):
                self.change(number, name, 1 + (number + place) % CONTENTS)
            self.begin_backup(number)
            self.finish_all()
            self.change(number, NAMES[number], 0)
            self.begin_backup(number)
            self.finish_all()
        self.forget_one("save0")
        self.finish_all()

    def folder(self, number: int) -> Path:
        return self.base / f"folder{number}"

    def start(self, kind: str, about: Any, work: Any) -> None:
        def small(storage: Storage) -> Any:
            small_packs()
            return work(storage)

        self.actors.append((kind, about, Actor(small, lambda: LocalStorage(str(self.place)))))
        self.settle()

    def busy(self, kind: str, about: Any = None) -> bool:
        return any(actor[0] == kind and about in (None, actor[1]) for actor in self.actors)

    def chosen(self, which: int) -> list[Actor]:
        """One of those at work, if there is one. Not a draw that depends on how many there are: ids are random, so a
        story that is played again may take a step more or less."""
        return [self.actors[which % len(self.actors)][2]] if self.actors else []

    # -- what people do --------------------------------------------------------------------------------------------

    @rule(number=WRITER, name=st.sampled_from(NAMES), seed=st.integers(0, CONTENTS))
    def change(self, number: int, name: str, seed: int) -> None:
        """The same content comes up again and again, in both folders: blobs that were unused are found anew."""
        if not self.busy("backup", number):
            path = self.folder(number) / name
            if seed == 0 and len(list(self.folder(number).iterdir())) > 1:
                path.unlink(missing_ok=True)
            elif seed:
                path.write_bytes(hashlib.shake_128(bytes([seed])).digest(9_000))

    @rule(number=WRITER)
    def begin_backup(self, number: int) -> None:
        if self.busy("backup", number):
            return
        label, folder = f"save{len(self.saved)}", self.folder(number)
        self.saved[label] = digest({os.fsencode(path.name): path.read_bytes() for path in folder.iterdir()})

        def work(storage: Storage) -> Any:
            summary = save(open_vault(storage), folder, tags=(label, f"of{number}"))
            return {"label": label, "outcome": str(summary.outcome)}

        self.start("backup", number, work)

    @rule(which=ANY)
    def begin_forget(self, which: int) -> None:
        left = sorted(self.promised - self.doomed)
        if len(left) > 1 and not self.busy("forget"):
            self.forget_one(left[which % len(left)])

    def forget_one(self, label: str) -> None:
        self.doomed.add(label)

        def work(storage: Storage) -> Any:
            repository = open_vault(storage).repository
            with repository.locks.hold(exclusive=True) as lock:
                found = [identifier for identifier, snapshot in repository.snapshots() if label in snapshot.tags]
                return {"forgot": forget(repository, found, lock, emit=ignore, cancel=Cancel())}

        self.start("forget", label, work)

    @rule(small=st.booleans())
    def begin_prune(self, small: bool) -> None:
        if self.busy("prune"):
            return

        def work(storage: Storage) -> Any:
            options = PruneOptions(max_unused=Tolerance(size=0), repack_small=small, workers=0)
            prune(open_vault(storage).repository, options, emit=ignore, cancel=Cancel())
            return {"pruned": True}

        self.start("prune", None, work)

    @rule(changes=st.integers(1, 9), number=WRITER, name=st.sampled_from(NAMES), seed=st.integers(0, CONTENTS))
    def back_up_beside_a_prune(self, changes: int, number: int, name: str, seed: int) -> None:
        """What a prune found unused may be used again before it deletes."""
        self.begin_prune(small=bool(seed % 2))
        for kind, _, actor in self.actors:
            if kind == "prune":
                actor.advance(changes)
        self.change(number, name, seed)
        self.begin_backup(number)
        for kind, about, actor in self.actors:
            if (kind, about) == ("backup", number):
                actor.finish()
        self.settle()

    @rule(which=ANY)
    def begin_read(self, which: int) -> None:
        if self.busy("read"):
            return
        label = sorted(self.promised)[which % len(self.promised)]

        def work(storage: Storage) -> Any:
            vault = open_vault(storage)
            found = {tag: pair[0] for pair in vault.repository.snapshots() for tag in pair[1].tags}
            if label not in found:
                return {"label": label, "absent": True}
            with vault.reading():
                numbers = [
                    n for n in range(WRITERS) if f"of{n}" in dict(vault.repository.snapshots())[found[label]].tags
                ]
                return {"label": label, "contents": digest(files(vault, self.folder(numbers[0]), found[label]))}

        self.start("read", label, work)

    @rule()
    def begin_copy(self) -> None:
        if self.busy("copy"):
            return

        def work(storage: Storage) -> Any:
            summary = bring(storage, self.other)
            return {"copied": [old.hex() for old, _ in summary.copied], "problems": len(summary.problems)}

        self.start("copy", None, work)

    # -- what fate does --------------------------------------------------------------------------------------------

    @rule(which=ANY, count=st.integers(1, 12))
    def step(self, which: int, count: int) -> None:
        for actor in self.chosen(which):
            actor.step(count)
        self.settle()

    @rule(which=ANY, changes=st.integers(1, 8))
    def advance(self, which: int, changes: int) -> None:
        """To a point just before a change: what others do there is what matters most."""
        for actor in self.chosen(which):
            actor.advance(changes)
        self.settle()

    @rule(which=ANY)
    def run_to_the_end(self, which: int) -> None:
        for actor in self.chosen(which):
            actor.finish()
        self.settle()

    @rule(which=ANY)
    def kill(self, which: int) -> None:
        for actor in self.chosen(which):
            actor.kill()
        self.settle()

    # -- what must hold --------------------------------------------------------------------------------------------

    def settle(self) -> None:
        """Take in what ended."""
        for kind, about, actor in [entry for entry in self.actors if not entry[2].is_alive]:
            self.judge(kind, about, actor.outcome)
        self.actors = [entry for entry in self.actors if entry[2].is_alive]

    def judge(self, kind: str, about: Any, outcome: Any) -> None:
        if outcome == "killed":
            return
        assert "crash" not in outcome, outcome["crash"]
        if "error" in outcome:
            gone = kind in ("read", "copy") and bool(self.doomed)
            allowed = {"locked"} | ({"not_found", "corrupt"} if gone else set())
            assert outcome["error"] in allowed, f"{kind}: {outcome}"
            return
        if kind == "backup":
            assert outcome["outcome"] == "ok"
            self.promised.add(outcome["label"])
        elif kind == "read" and outcome.get("absent"):
            assert about in self.doomed, f"{about} was promised and is not there"
        elif kind == "read":
            assert outcome["contents"] == self.saved[about]
        elif kind == "copy":
            assert outcome["problems"] == 0

    def finish_all(self) -> None:
        for _, _, actor in self.actors:
            actor.finish()
        self.settle()

    def teardown(self) -> None:
        try:
            self.finish_all()
            if self.place.exists():
                self.everything_is_there()
        finally:
            for _, _, actor in self.actors:
                actor.kill()
            shutil.rmtree(self.base, ignore_errors=True)

    def everything_is_there(self) -> None:
        vault = open_vault(self.place)
        vault.repository.locks.remove_stale()
        self.compare(vault)
        with_all = PruneOptions(max_unused=Tolerance(size=0), repack_small=True, workers=0)
        prune(vault.repository, with_all, emit=ignore, cancel=Cancel())
        self.compare(open_vault(self.place))
        report = open_vault(self.place).check(CheckOptions(read_data=Subset(), workers=0), emit=ignore, cancel=Cancel())
        assert report.damage == []
        open_vault(self.other).repository.locks.remove_stale()
        bring(self.place, self.other)
        if self.restic is not None:
            done = subprocess.run(
                [self.restic, "-r", str(self.place), "--no-cache", "check", "--read-data"],
                env={**os.environ, "RESTIC_PASSWORD": SECRET.reveal().decode()},
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.returncode == 0, done.stderr

    def compare(self, vault: Any) -> None:
        there = set()
        for identifier, snapshot in vault.repository.snapshots():
            label, of = snapshot.tags
            there.add(label)
            assert digest(files(vault, self.folder(int(of[2:])), identifier)) == self.saved[label]
        assert self.promised - self.doomed <= there


@pytest.mark.parametrize("with_restic", [False, True])
def test_any_interleaving(with_restic: bool) -> None:
    Vault.restic = shutil.which("restic") if with_restic else None
    examples = int(os.environ.get("HOLDFAST_MODEL_EXAMPLES", "12")) // (4 if with_restic else 1)
    until = time.monotonic() + float(os.environ.get("HOLDFAST_MODEL_SECONDS", "0")) / 2
    chosen = settings(
        max_examples=max(1, examples),
        stateful_step_count=50,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        print_blob=True,
    )
    while True:
        run_state_machine_as_test(Vault, settings=chosen)  # type: ignore[no-untyped-call]
        if time.monotonic() >= until:
            return
