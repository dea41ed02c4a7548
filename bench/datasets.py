"""The data that is backed up: five sets, the same bytes in every run on one machine, and a fresh 1 % of change."""

from __future__ import annotations

import os
import random
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

MIB = 1024 * 1024
BIG_FILE = 16 * MIB
"""Files of at least this size change by 1 % of their bytes, each of them; smaller ones are 1 % of the files, whole."""


@dataclass(frozen=True, slots=True)
class DataSet:
    """``make(folder, quick)`` fills an empty folder; ``quick`` asks for a small version to try the bench itself."""

    name: str
    title: str
    make: Callable[[Path, bool], None]


@dataclass(frozen=True, slots=True)
class Size:
    """What a folder holds."""

    files: int
    bytes: int


def noise(seed: str, size: int) -> bytes:
    """Incompressible bytes: an AES-CTR key stream."""
    key = seed.encode().ljust(32, b".")[:32]
    return Cipher(algorithms.AES(key), modes.CTR(bytes(16))).encryptor().update(bytes(size))


def regular_files(folder: Path) -> Iterator[tuple[str, int]]:
    """Path and size of every regular file, in an order that does not depend on the file system."""
    for parent, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            path = os.path.join(parent, name)
            if not os.path.islink(path):
                yield path, os.path.getsize(path)


def size_of(folder: Path) -> Size:
    """How many regular files and bytes there are."""
    files = size = 0
    for _, length in regular_files(folder):
        files += 1
        size += length
    return Size(files, size)


def change_one_percent(folder: Path, turn: int) -> int:
    """Changes 1 % of what is there, other places and other content each ``turn``. Returns how many files changed."""
    chance = random.Random(turn)
    small = []
    changed = 0
    for path, size in list(regular_files(folder)):
        if size < BIG_FILE:
            small.append(path)
            continue
        stretch = size // 100
        with open(path, "r+b") as file:
            file.seek(chance.randrange(size - stretch))
            file.write(noise(f"change {turn} {changed}", stretch))
        changed += 1
    for path in chance.sample(small, max(1, len(small) // 100) if small else 0):
        with open(path, "rb") as file:
            content = file.read()
        # A new file under the old name, as editors write: also where the old one is read-only.
        os.unlink(path)
        with open(path, "wb") as file:
            file.write(b"changed in turn %d\n" % turn + content)
        changed += 1
    return changed


def _incompressible(folder: Path, quick: bool) -> None:
    size = (64 if quick else 2048) * MIB // 20
    for number in range(20):
        (folder / f"{number:02}.bin").write_bytes(noise(f"incompressible {number}", size))


def _single(folder: Path, quick: bool) -> None:
    with (folder / "single.bin").open("wb") as file:
        for number in range(2 if quick else 32):
            file.write(noise(f"single {number}", 64 * MIB))


def _texts(folder: Path, quick: bool, least: int = 2_000, most: int = 40_000) -> None:
    chance = random.Random(1)
    prose = _prose(chance)
    for number in range(300 if quick else 5815):
        size = chance.randrange(least, most)
        pieces = [b"text %d\n" % number]
        while size > 0:
            length = min(size, chance.randrange(300, 2_000))
            start = chance.randrange(len(prose) - length)
            pieces.append(prose[start : start + length])
            size -= length
        place = folder / f"{number % 97:02}"
        place.mkdir(exist_ok=True)
        (place / f"text-{number}.txt").write_bytes(b"".join(pieces))


def _short_texts(folder: Path, quick: bool) -> None:
    _texts(folder, quick, 300, 11_000)


def _tiny(folder: Path, quick: bool) -> None:
    chance = random.Random(2)
    prose = _prose(chance)
    for number in range(5_000 if quick else 300_000):
        place = f"{folder}/{number // 10_000:02}/{number // 200 % 50:02}"
        if number % 200 == 0:
            os.makedirs(place)
        start = chance.randrange(len(prose) - 450)
        with open(f"{place}/{number}", "wb") as file:
            file.write(b"%d\n" % number + prose[start : start + chance.randrange(10, 445)])


def _prose(chance: random.Random) -> bytes:
    """4 MiB in which a few words are frequent and most are rare; zstd makes it about half as long."""
    letters = "etaoinshrdlucmfwygpbvk"
    weights = [len(letters) - rank for rank in range(len(letters))]
    words = ["".join(chance.choices(letters, weights, k=chance.randrange(2, 11))) for _ in range(20_000)]
    totals, total = [], 0.0
    for rank in range(len(words)):
        total += 1 / (rank + 3)
        totals.append(total)
    text = chance.choices(words, cum_weights=totals, k=4 * MIB // 6)
    for position in range(9, len(text), 11):
        text[position] += "\n"
    return " ".join(text).encode()


def _real_tree(folder: Path, quick: bool) -> None:
    """Copies from this machine, place by place, until there are 60,000 files and 1.5 GB."""
    want = Size(2_000, 30_000_000) if quick else Size(60_000, 1_500_000_000)
    home = Path.home()
    places = [
        Path(sys.base_prefix) / "lib",
        Path("/usr/include"),
        Path("/usr/lib/python3"),
        Path("/usr/share"),
        *(home / name for name in (".pyenv", ".cargo/registry", ".rustup", "go/pkg/mod", ".nvm", "node_modules")),
        Path("/usr/local"),
        Path("/usr/lib"),
        Path("/opt"),
    ]
    copied: list[str] = []
    files = size = 0
    for number, place in enumerate(places):
        real = os.path.realpath(place)
        if any(real == done or real.startswith(done + os.sep) for done in copied):
            continue
        copied.append(real)
        for source, length in regular_files(Path(real)):
            if files >= want.files and size >= want.bytes:
                return
            target = f"{folder}/{number:02}/{os.path.relpath(source, real)}"
            try:
                os.makedirs(os.path.dirname(target), exist_ok=True)
                shutil.copy2(source, target)
            except OSError:  # not ours to read, or gone meanwhile
                continue
            files += 1
            size += length
    raise SystemExit(f"This machine has only {files} files and {size / 1e9:.1f} GB to copy: run without the set b.")


DATA_SETS = {
    made.name: made
    for made in (
        DataSet("a", "2 GiB incompressible", _incompressible),
        DataSet("b", "a real tree: interpreters, headers, sources", _real_tree),
        DataSet("c", "texts of 2-40 KB", _texts),
        DataSet("d", "tiny files", _tiny),
        DataSet("one", "one single file", _single),
    )
}
SHORT_TEXTS = DataSet("e", "texts of 0.3-11 KB", _short_texts)
"""For vaults of plain files, where it is each file that costs; not one of the sets that vaults are compared by."""
