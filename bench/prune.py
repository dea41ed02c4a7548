"""Measures pruning: ``python bench/prune.py days`` against restic, ``python bench/prune.py memory`` for huge indexes.

``days`` saves a data set every day while 1 % of it changes, forgets all but the last days, and lets both tools prune
copies of that one vault in turns. ``memory`` makes a vault whose packs are holes, with real trees and index files for
any number of blobs, and measures the whole process tree while it is pruned.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
from array import array
from collections.abc import Iterator, Sequence
from hashlib import sha256
from pathlib import Path

from datasets import DATA_SETS, change_one_percent
from measure import Measurement, measure
from peers import holdfast_command

PASSWORD = "a password for the bench"
INDEX_BLOBS = 50_000
PACK_BLOBS = 400
NODES = 1_000
CONTENTS = 5


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs what the first word says."""
    options = parse(arguments)
    work = Path(tempfile.mkdtemp(prefix="prune-", dir=make_folder(options.work)))
    try:
        if options.what == "days":
            compare(options, work)
        else:
            fill_memory(options, work)
    finally:
        if not options.keep_files:
            shutil.rmtree(work, ignore_errors=True)
    return 0


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("days", "memory"))
    parser.add_argument("--work", type=Path, help="where everything is made (default: a memory disk)")
    parser.add_argument("--vault", type=Path, help="days: a vault to copy, made by an earlier run with --keep-files")
    parser.add_argument("--set", choices=tuple(DATA_SETS), default="b", help="days: the data set (b)")
    parser.add_argument("--days", type=int, default=100, help="days: snapshots that are made (100)")
    parser.add_argument("--keep", type=int, default=10, help="days: snapshots that stay (10)")
    parser.add_argument("--rounds", type=int, default=3, help="days: turns of each tool; the median counts (3)")
    parser.add_argument("--restic", default="restic", help="days: the peer's program")
    parser.add_argument("--blobs", type=int, default=10_000_000, help="memory: entries of the index (10 million)")
    parser.add_argument("--quick", action="store_true", help="days: the small version of the data set")
    parser.add_argument("--keep-files", action="store_true", help="leave the vaults for a look")
    return parser.parse_args(arguments)


def make_folder(chosen: Path | None) -> Path:
    """What was asked for, else a memory disk, else the system's folder for temporary files."""
    memory = Path("/dev/shm")
    folder = chosen or (memory if os.access(memory, os.W_OK) else Path(tempfile.gettempdir())) / "holdfast-bench"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def environment(work: Path) -> dict[str, str]:
    """Every folder that a tool keeps state in lies below ``work``; all caches start empty."""
    home = work / "home"
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir()
    moved = {"HOME": home, "XDG_CACHE_HOME": home / "cache", "XDG_DATA_HOME": home / "data"}
    return os.environ | {name: str(path) for name, path in moved.items()} | {"RESTIC_PASSWORD": PASSWORD}


def run(work: Path, *command: str) -> None:
    """Runs a step that is not measured."""
    subprocess.run(command, env=environment(work), cwd=work, check=True, stdout=subprocess.DEVNULL)


# -- days --------------------------------------------------------------------------------------------------------------


def compare(options: argparse.Namespace, work: Path) -> None:
    """Prints the figures of both tools and their ratio."""
    vault = options.vault or make_days(options, work)
    commands = {
        "holdfast": [*holdfast_command(), "prune", "-q", "--vault"],
        "restic": [options.restic, "prune", "-q", "--repo"],
    }
    found: dict[str, list[Measurement]] = {name: [] for name in commands}
    for turn in range(options.rounds):
        for name in list(commands)[:: -1 if turn % 2 else 1]:
            copy = work / "copy"
            shutil.rmtree(copy, ignore_errors=True)
            subprocess.run(["cp", "-a", vault, copy], check=True)
            command = [*commands[name], str(copy)]
            found[name].append(measure(command, env=environment(work), cwd=work, log=work / "log"))
            print(f"{name}: {found[name][-1].wall:.2f} s, left {used_bytes(copy):,} bytes", flush=True)
            run(work, options.restic, "--repo", str(copy), "--no-cache", "check")
    medians = {name: statistics.median(each.wall for each in measured) for name, measured in found.items()}
    for name, measured in found.items():
        peak = max(each.peak_pss or 0 for each in measured) >> 20
        cpu = statistics.median(each.cpu for each in measured)
        print(f"{name}: median {medians[name]:.2f} s, processor {cpu:.2f} s, peak {peak} MiB")
    print(f"ratio: {medians['holdfast'] / medians['restic']:.2f}")


def make_days(options: argparse.Namespace, work: Path) -> Path:
    """A vault with a snapshot for each day, of which all but the last were forgotten."""
    source, vault = work / "source", work / "vault"
    source.mkdir()
    DATA_SETS[options.set].make(source, options.quick)
    run(work, options.restic, "init", "--repo", str(vault))
    for day in range(options.days):
        if day:
            change_one_percent(source, day)
        run(work, *holdfast_command(), "backup", "-q", str(source), "--no-default-excludes", "--to", str(vault))
    run(work, options.restic, "--repo", str(vault), "forget", "--keep-last", str(options.keep))
    print(f"{options.days} days, {used_bytes(vault):,} bytes", flush=True)
    return vault


def used_bytes(vault: Path) -> int:
    """Bytes of all files."""
    return sum(path.stat().st_size for path in vault.rglob("*") if path.is_file())


# -- memory ------------------------------------------------------------------------------------------------------------


def fill_memory(options: argparse.Namespace, work: Path) -> None:
    """Prints time and memory of a prune that deletes a fifth of the packs and writes the whole index anew."""
    vault = work / "vault"
    run(work, "restic", "init", "--repo", str(vault))
    make_blobs(vault, options.blobs)
    command = [*holdfast_command(), "prune", "--max-unused", "unlimited", "--vault", str(vault)]
    measured = measure(command, env=environment(work), cwd=work, log=work / "log")
    print((work / "log").read_text())
    figures = f"{measured.wall:.1f} s, processor {measured.cpu:.1f} s, peak {(measured.peak_pss or 0) / 1e9:.2f} GB"
    print(f"{options.blobs:,} blobs: {figures} (sum of PSS)")


def make_blobs(vault: Path, count: int) -> None:
    """Index files and packs of holes for ``count`` blobs, and one snapshot that uses two thirds of them.

    It uses every fifth pack not at all, every fifth to a third, the others wholly.
    """
    from holdfast.format.index import Entries
    from holdfast.format.pack import BlobType
    from holdfast.format.snapshot import Snapshot
    from holdfast.kernel.ids import BlobId, PackId
    from holdfast.kernel.secret import Secret
    from holdfast.repository import Repository, writing
    from holdfast.repository.packer import Packer
    from holdfast.repository.reindex import replace_index
    from holdfast.storage import LocalStorage

    chance = random.Random(1)
    repository = Repository.open(LocalStorage(str(vault)), Secret(PASSWORD.encode()))
    used: list[bytes] = []
    packer = Packer(repository.storage, repository.master, BlobType.TREE, repository.draw)
    below: list[tuple[str, bytes]] = []

    def add_tree(content: bytes) -> bytes:
        identifier = sha256(content).digest()
        packer.add(BlobId(identifier), content)
        return identifier

    def packs() -> Iterator[tuple[PackId, Entries]]:
        for number in range(count // PACK_BLOBS):
            ids = chance.randbytes(32 * PACK_BLOBS)
            lengths = array("I", [chance.randrange(1000, 60_000) for _ in range(PACK_BLOBS)])
            offsets = array("I", [0] * PACK_BLOBS)
            for at in range(1, PACK_BLOBS):
                offsets[at] = offsets[at - 1] + lengths[at - 1]
            pack = PackId(chance.randbytes(32))
            path = vault / "data" / pack.hex()[:2] / pack.hex()
            path.touch()
            os.truncate(path, sum(lengths) + 41 * PACK_BLOBS + 36)
            share = {0: 0, 1: PACK_BLOBS // 3}.get(number % 5, PACK_BLOBS)
            used.extend(ids[at * 32 : at * 32 + 32] for at in range(share))
            while len(used) >= NODES * CONTENTS:
                below.append((f"d{len(below):09}", add_tree(tree_of(used[: NODES * CONTENTS]))))
                del used[: NODES * CONTENTS]
            yield pack, Entries(ids, bytes(PACK_BLOBS), offsets, lengths, array("I", [60_000] * PACK_BLOBS))

    replace_index(repository, [], packs())
    nodes = ",".join(f'{node(name, "dir", "null")[:-1]},"subtree":"{tree.hex()}"}}' for name, tree in below)
    root = add_tree(f'{{"nodes":[{nodes}]}}\n'.encode())
    with writing(repository) as writer:
        for pack in packer.finish():
            writer.record(pack)
        writer.commit(Snapshot(time="2026-01-01T00:00:00Z", tree=BlobId(root), paths=("/bench",), hostname="bench"))


def tree_of(contents: Sequence[bytes]) -> bytes:
    """A tree of files with that content."""
    listed = []
    for number in range(NODES):
        ids = ",".join(f'"{blob.hex()}"' for blob in contents[number * CONTENTS : (number + 1) * CONTENTS])
        listed.append(node(f"f{number:09}", "file", f"[{ids}]"))
    return f'{{"nodes":[{",".join(listed)}]}}\n'.encode()


def node(name: str, kind: str, content: str) -> str:
    """The JSON of a node."""
    moment = "2026-01-01T00:00:00Z"
    return (
        f'{{"name":"{name}","type":"{kind}","mode":420,"mtime":"{moment}","atime":"{moment}","ctime":"{moment}",'
        f'"uid":0,"gid":0,"user":"root","group":"root","content":{content}}}'
    )


if __name__ == "__main__":
    sys.exit(main())
