"""A local folder for copies of damaged files, made durable before anything takes the files out of a vault."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from holdfast.kernel.errors import Corrupt, Denied, HoldfastError, NoSpace, NotFound, Unavailable
from holdfast.repository import Repository
from holdfast.vaults.archive.check.files import still_there

PIECE = 16 << 20  # a usual pack in one call
SECTOR = 4096  # what is given up together where a disk cannot read


class Aside:
    """Copies of files of one vault in ``folder``, which is made with the first one."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.kept = 0

    def keep(self, repository: Repository, name: str) -> bool:
        """Copy the file ``name`` of the vault; True when all of it is here, durable.

        Where the storage cannot read a part of it, zeros stand in the copy, and the answer is False. A file that is
        gone needs no copy. An older copy of the same name stays as it is. Raises ``Denied`` or ``NoSpace`` where the
        folder cannot be written, and what the storage raises when the whole place is out of reach.
        """
        whole = True

        def note_hole() -> None:
            nonlocal whole
            whole = False

        try:
            repository.storage.size(name)
            self._write(name.replace("/", "-"), _pieces(repository, name, note_hole))
        except NotFound:
            return True
        except OSError as error:
            kind = NoSpace if error.errno == 28 else Denied
            raise kind(
                f"The damaged file {name} cannot be copied to {self.folder}: {error.strerror}.",
                hint="Nothing was taken out of the vault. Choose another folder with --aside.",
            ) from error
        self.kept += 1
        return whole

    def _write(self, name: str, pieces: Iterator[bytes]) -> None:
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self.folder / name
        number = 1
        while path.exists():
            number += 1
            path = self.folder / f"{name}.{number}"
        unfinished = self.folder / f"{path.name}.unfinished"
        with open(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            for piece in pieces:
                file.write(piece)
            file.flush()
            os.fsync(file.fileno())
        unfinished.rename(path)
        folder = os.open(self.folder, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _pieces(repository: Repository, name: str, note_hole: Callable[[], None]) -> Iterator[bytes]:
    """The file from its front to its end, zeros for what cannot be read."""
    storage = repository.storage
    size = storage.size(name)
    at = 0
    while at < size:
        want = min(PIECE, size - at)
        try:
            piece = storage.read(name, at, want)
        except (Unavailable, Corrupt) as error:
            still_there(storage, error)
            piece = b"".join(_sectors(repository, name, at, want, note_hole))
        yield piece
        at += want


def _sectors(
    repository: Repository, name: str, begin: int, length: int, note_hole: Callable[[], None]
) -> Iterator[bytes]:
    for at in range(begin, begin + length, SECTOR):
        want = min(SECTOR, begin + length - at)
        try:
            yield repository.storage.read(name, at, want)
        except HoldfastError as error:
            if not isinstance(error, Unavailable | Corrupt):
                raise
            note_hole()
            yield bytes(want)
