"""``restic forget`` and ours keep the same snapshots for the same reasons, over generated histories and policies."""

from __future__ import annotations

import json
import os
import random
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.restickit import SECRET, Restic

from holdfast.app.context import Context
from holdfast.app.forget import ForgetOptions, Forgotten, forget
from holdfast.app.tag import change_tags, hold
from holdfast.app.unlock import unlock
from holdfast.cli.values import SPAN
from holdfast.format.snapshot import Snapshot
from holdfast.format.time import format_time, parse_time
from holdfast.kernel.cancel import Cancel
from holdfast.kernel.clock import SystemClock
from holdfast.kernel.errors import Denied
from holdfast.kernel.events import ignore
from holdfast.kernel.ids import BlobId
from holdfast.repository import Repository, layout
from holdfast.repository.lockowner import Standing
from holdfast.storage import LocalStorage
from holdfast.vaults.archive import ArchiveVault
from holdfast.vaults.base import SnapshotFilter
from holdfast.vaults.retention import Policy, plan
from holdfast.vaults.tags import TagChange

ROUNDS = int(os.environ.get("HOLDFAST_FORGET_ROUNDS", "12"))
"""Histories to compare, each with four policies. 12 take three seconds."""

ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe", "Pacific/Kiritimati")
COUNTS = ("last", "hourly", "daily", "weekly", "monthly", "yearly")
GAPS = (1, 60, 3600, 6 * 3600, 86_400, 86_400, 7 * 86_400, 40 * 86_400, 300 * 86_400)

History = list[Snapshot]


@pytest.fixture
def zone() -> Iterator[Callable[[str], None]]:
    """Sets this process's time zone, for as long as the test runs."""
    before = os.environ.get("TZ")

    def use(name: str) -> None:
        os.environ["TZ"] = name
        time.tzset()

    yield use
    if before is None:
        os.environ.pop("TZ", None)
    else:
        os.environ["TZ"] = before
    time.tzset()


def history(draw: random.Random, now_ns: int) -> History:
    """Up to 40 snapshots with gaps of every size, some at once, near changes of summer time, in several zones."""
    found: History = []
    at = draw.choice((now_ns, parse_time("2026-03-29T03:10:00Z"), parse_time("2024-11-03T08:00:00Z"),
                      parse_time("2021-01-03T23:30:00Z"), parse_time("2024-03-01T00:30:00Z")))  # fmt: skip
    zones = draw.choice(
        ((), (0,), (3600, 7200), (-18_000, -14_400), (19_800,), (37_800, 39_600, 50_400), (-43_200, 0, 50_400))
    )
    gaps = draw.sample(GAPS, draw.randrange(1, 4))
    for _ in range(draw.randrange(1, 40)):
        gap = draw.choice(gaps) * draw.randrange(0, 3) * 1_000_000_000 + draw.choice((0, 0, 1, 999_999_999))
        if gap == 0 and found:
            # restic does not say which one of an instant comes first: nothing else may differ between them.
            found.append(replace(found[-1], tree=BlobId(draw.randbytes(32))))
            continue
        at -= gap
        offset = draw.choice(zones) if zones else SystemClock().utc_offset(at)
        found.append(
            Snapshot(
                time=format_time(at, offset),
                tree=BlobId(draw.randbytes(32)),
                paths=draw.choice((("/home",), ("/home",), ("/home", "/etc"), ("/etc", "/home"))),
                hostname=draw.choice(("ada", "ada", "bob")),
                tags=tuple(draw.sample(("a", "b", "c"), draw.choice((0, 0, 1, 2)))),
            )
        )
    draw.shuffle(found)
    return found


def span(draw: random.Random) -> str:
    units = draw.sample(list("ymdh"), draw.randrange(1, 4))
    most = {"y": 3, "m": 14, "d": 60, "h": 50}
    return "".join(f"{draw.randrange(0, most[unit])}{unit}" for unit in units)


def words_of_policy(draw: random.Random) -> tuple[list[str], Policy]:
    """The same policy for restic and for us."""
    while True:
        words: list[str] = []
        fields: dict[str, Any] = {}
        for name in draw.sample(COUNTS, draw.choice((0, 1, 1, 2, 3, 6))):
            fields[name] = draw.choice((1, 2, 3, 5, 12, 50))
            words += [f"--keep-{name}", str(fields[name])]
        for name in draw.sample(("", *COUNTS[1:]), draw.choice((0, 0, 1, 2))):
            text = span(draw)
            key = f"within_{name}" if name else "within"
            fields[key] = SPAN.convert(text, None, None)
            words += [f"--keep-{key.replace('_', '-')}", text]
        for tags in draw.sample((("a",), ("b",), ("a", "b"), ("",)), draw.choice((0, 0, 1, 2))):
            fields["tags"] = (*fields.get("tags", ()), tags)
            words += ["--keep-tag", ",".join(tags)]
        policy = Policy(**fields)
        if not policy.is_empty:
            return words, policy


def theirs(restic: Restic, words: list[str], group_by: tuple[str, ...]) -> list[Any] | None:
    """What restic would keep, by group, as (time, tags, reasons), and remove; None if it refuses to empty a group."""
    command = [restic._program, "--no-cache", "--no-lock", "-r", str(restic.place), "forget", "--dry-run", "--json"]
    done = subprocess.run(
        [*command, *words, "--group-by", ",".join(group_by)],
        env={**os.environ, "RESTIC_PASSWORD": SECRET.reveal().decode()},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if "refusing to delete last snapshot" in done.stdout + done.stderr:
        return None
    assert done.returncode == 0, done.stdout + done.stderr
    found = []
    for group in json.loads(done.stdout.splitlines()[0]) or []:
        why = [_reasons(kept["snapshot"], kept["matches"]) for kept in group["reasons"] or []]
        gone = [(parse_time(s["time"]), _sorted(s)) for s in group["remove"] or []]
        common = [group["host"], ", ".join(group["paths"] or []), ", ".join(group["tags"] or [])]
        found.append((common, sorted(why), sorted(gone)))
    return sorted(found, key=str)


def ours(restic: Restic, policy: Policy, group_by: tuple[str, ...], *, oldest: bool) -> list[Any] | None:
    """The same by our rules; None if a group would be emptied. ``oldest`` False leaves out what old restics lack."""
    vault = ArchiveVault(Repository.open(LocalStorage(str(restic.place)), SECRET))
    clock = SystemClock()
    made = plan(
        vault.snapshots(), policy, now_ns=clock.now_ns(), local_offset=clock.utc_offset, group_by=group_by
    )  # fmt: skip
    found = []
    for group in made.groups:
        values = dict(group.common)
        common = [values.get(name, "") for name in ("host", "paths", "tags")]
        why, gone = [], []
        for verdict in group.verdicts:
            reasons = [reason for reason in verdict.reasons if oldest or not reason.startswith("oldest ")]
            snapshot = verdict.snapshot
            if reasons:
                why.append((snapshot.time_ns, tuple(sorted(snapshot.tags)), tuple(reasons)))
            else:
                gone.append((snapshot.time_ns, tuple(sorted(snapshot.tags))))
        found.append((common, sorted(why), sorted(gone)))
        if oldest and not why:
            return None
    return sorted(found, key=str)


def _sorted(snapshot: dict[str, Any]) -> tuple[str, ...]:
    return tuple(sorted(snapshot.get("tags") or ()))  # restic sorts them while it groups by them


def _reasons(snapshot: dict[str, Any], matches: list[str]) -> tuple[int, tuple[str, ...], tuple[str, ...]]:
    return parse_time(snapshot["time"]), _sorted(snapshot), tuple(matches)


def write(place: Path, snapshots: History) -> Repository:
    repository = Repository.init(LocalStorage(str(place)), [SECRET], username="tester", hostname="here")
    for snapshot in snapshots:
        repository.write_unpacked(layout.SNAPSHOTS, snapshot.encode())
    return repository


def keeps_the_oldest(restic: Restic) -> bool:
    """Whether this restic keeps the oldest snapshot where a rule has room for more (it does since 0.16 or so)."""
    found = theirs(restic, ["--keep-daily", "2"], ())
    assert found is not None
    return "oldest daily snapshot" in str(found)


@pytest.mark.parametrize("number", range(ROUNDS))
def test_same_policy_same_snapshots_same_reasons(
    number: int, tmp_path: Path, need: Callable[[str], str], zone: Callable[[str], None]
) -> None:
    program = os.environ.get("HOLDFAST_RESTIC") or need("restic")
    probe = Restic(program, tmp_path / "probe")
    days = [format_time(parse_time("2026-01-01T10:00:00Z") + hour * 3_600_000_000_000, 0) for hour in range(3)]
    write(probe.place, [Snapshot(time=day, tree=BlobId(bytes(32)), paths=("/",)) for day in days])
    oldest = keeps_the_oldest(probe)
    draw = random.Random(number)
    zone(draw.choice(ZONES))
    restic = Restic(program, tmp_path / "vault")
    write(restic.place, history(draw, time.time_ns()))
    for _ in range(4):
        words, policy = words_of_policy(draw)
        group_by = draw.choice((("host", "paths"), ("host", "paths"), (), ("tags",), ("host", "tags", "paths")))
        wanted = theirs(restic, words, group_by)
        if wanted is None:
            assert ours(restic, policy, group_by, oldest=oldest) is None, words
        else:
            assert ours(restic, policy, group_by, oldest=oldest) == wanted, (os.environ["TZ"], words, group_by)


# -- tags, holds and locks --------------------------------------------------------------------------------------------


def context_of(place: Path) -> Context:
    """What the use cases need; the password comes from a file, and everything that is told is forgotten."""
    key = place.parent / "key"
    key.write_text(SECRET.reveal().decode())
    key.chmod(0o600)
    environ = {"HOME": str(place.parent), "HOLDFAST_PASSWORD_FILE": str(key)}
    return Context(ignore, Cancel(), lambda _words: None, vault=str(place), environ=environ)


def stored(place: Path) -> list[tuple[bytes, Snapshot]]:
    return list(Repository.open(LocalStorage(str(place)), SECRET).snapshots())


@pytest.fixture
def pair(tmp_path: Path, need: Callable[[str], str]) -> tuple[Restic, Restic]:
    """Two copies of one vault with three snapshots."""
    place = tmp_path / "one" / "vault"
    place.parent.mkdir()
    days = [format_time(parse_time("2026-01-01T10:00:00Z") + day * 86_400_000_000_000, 3600) for day in range(3)]
    tags = ((), ("a",), ("a", "b", "c"))
    snapshots = [
        Snapshot(
            time=day, tree=BlobId(bytes(32)), paths=("/x",), hostname="h", tags=some, extra={"description": "note"}
        )
        for day, some in zip(days, tags, strict=True)
    ]
    write(place, snapshots)
    restic = Restic(need("restic"), place)
    (tmp_path / "two").mkdir()
    return restic, restic.copy(tmp_path / "two" / "vault")


@pytest.mark.parametrize(
    ("words", "change"),
    [
        (("--add", "b", "--add", "d,e"), TagChange(add=("b", "d", "e"))),
        (("--remove", "a,c"), TagChange(remove=("a", "c"))),
        (("--add", "z", "--remove", "a"), TagChange(add=("z",), remove=("a",))),
        (("--set", "b,q"), TagChange(replace=("b", "q"))),
    ],
)
def test_tag_leaves_what_restic_leaves(words: tuple[str, ...], change: TagChange, pair: tuple[Restic, Restic]) -> None:
    restic, twin = pair
    restic.run("tag", *words, "--host", "h")
    change_tags(context_of(twin.place), (), SnapshotFilter(hosts=("h",)), change)
    left, right = stored(restic.place), stored(twin.place)
    assert len(left) == len(right) == 3
    for (_, one), (_, other) in zip(left, right, strict=True):
        assert set(one.tags) == set(other.tags)
        assert one.original == other.original
        assert other.extra == {"description": "note"}  # restic drops what it does not know, where it rewrites
        assert replace(one, tags=(), extra={}) == replace(other, tags=(), extra={})
    assert twin.run("snapshots", "--json")


def test_a_hold_survives_restic_and_restic_can_honour_it(pair: tuple[Restic, Restic]) -> None:
    restic, _ = pair
    context = context_of(restic.place)
    first = stored(restic.place)[0][0].hex()
    hold(context, (first,), SnapshotFilter(), until="2999-12-31")
    restic.run("tag", "--add", "rewritten", "--host", "h")
    restic.run("forget", "--keep-last", "1", "--keep-tag", "hold")
    left = stored(restic.place)
    assert [set(snapshot.tags) for _, snapshot in left] == [
        {"hold", "hold-until:2999-12-31", "rewritten"},
        {"a", "b", "c", "rewritten"},
    ]
    told: list[Forgotten] = []
    forget(context, ForgetOptions(policy=Policy(last=1), force=True), lambda _plan: None, told.append)
    assert [(done.removed, done.kept) for done in told] == [(0, 2)]
    with pytest.raises(Denied, match="held until 2999-12-31"):
        forget(context, ForgetOptions(named=(left[0][0].hex(),), force=True), lambda _plan: None)
    (released,) = hold(context, (first,), SnapshotFilter(), release=True)  # by the id that it had at first
    forget(context, ForgetOptions(named=(released.id.hex(),)), lambda _plan: None)
    assert len(stored(restic.place)) == 1


def test_restic_reads_our_locks_and_unlock_explains_its(pair: tuple[Restic, Restic]) -> None:
    restic, _ = pair
    repository = Repository.open(LocalStorage(str(restic.place)), SECRET)
    with repository.locks.hold(exclusive=True) as lock:
        told = json.loads(restic.run("--no-lock", "cat", "lock", lock.id.hex()))
        assert (told["pid"], told["exclusive"], told["hostname"]) == (os.getpid(), True, os.uname().nodename)
    sleeper = subprocess.Popen(
        [restic._program, "--no-cache", "-r", str(restic.place), "backup", "--stdin"],
        env={**os.environ, "RESTIC_PASSWORD": SECRET.reveal().decode()},
        stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        for _ in range(600):
            if repository.locks.held():
                break
            time.sleep(0.05)
        context = context_of(restic.place)
        alive = unlock(context)
        assert [(one.info.pid, one.standing) for one in alive.left] == [(sleeper.pid, Standing.NAMESAKE)]
    finally:
        sleeper.kill()
        sleeper.wait()
    # The name of this host and a number that nobody has: gone, or in a container of that name. A person may decide.
    assert [one.standing for one in unlock(context, dry_run=True).gone] == [Standing.ABSENT]
    assert not repository.locks.remove_stale()
    assert [one.info.pid for one in unlock(context).gone] == [sleeper.pid]
    assert not repository.locks.held()
