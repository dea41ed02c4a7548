"""The content of one file: hashed, and copied by the cheapest way that the file systems have."""

from __future__ import annotations

import errno
import os
from hashlib import sha256

from holdfast.files.sparse import write_at, write_sparse

PIECE = 1 << 20
CLONE_FROM = 1 << 16
"""Files of fewer bytes are not worth the call."""

_FICLONE = 0x40049409  # linux/fs.h
_CANNOT = frozenset(
    {errno.EOPNOTSUPP, errno.ENOTSUP, errno.EXDEV, errno.EINVAL, errno.ENOTTY, errno.ENOSYS, errno.EPERM, errno.EBADF}
)


class Copier:
    """Copies contents. What a pair of file systems cannot do is tried once.

    First the blocks are shared (``FICLONE``; the hash is then made of the clone), else the kernel copies what was just
    read for the hash (``copy_file_range``, worth it where a server does it), else it is written. Holes stay holes.
    """

    def __init__(self) -> None:
        self._cannot_clone: set[tuple[int, int]] = set()
        self._cannot_range: set[tuple[int, int]] = set()

    def copy(self, source: int, target: int, st: os.stat_result, device: int) -> tuple[bytes, int]:
        """Copy all of ``source`` into the new, empty file ``target`` on ``device``; the content's SHA-256 and length.

        Raises ``OSError``, of the source with ``filename`` set to ``"source"``: the two need other answers.
        """
        pair = (st.st_dev, device)
        large = st.st_size >= CLONE_FROM
        if large and self._clone(source, target, pair):
            return hash_of(target)
        digest, at = sha256(), 0
        sparse = st.st_blocks * 512 < st.st_size
        by_range = large and not sparse and st.st_dev == device and pair not in self._cannot_range
        while piece := read_piece(source, at):
            digest.update(piece)
            if sparse:
                write_sparse(target, at, piece)
            elif not (by_range and self._range(source, target, at, len(piece), pair)):
                by_range = False
                write_at(target, at, piece)
            at += len(piece)
        if sparse:
            os.ftruncate(target, at)
        return digest.digest(), at

    def _clone(self, source: int, target: int, pair: tuple[int, int]) -> bool:
        if pair in self._cannot_clone:
            return False
        try:
            import fcntl

            fcntl.ioctl(target, _FICLONE, source)
        except OSError as error:
            if error.errno not in _CANNOT:
                raise
            self._cannot_clone.add(pair)
            return False
        except ImportError:
            return False
        return True

    def _range(self, source: int, target: int, at: int, size: int, pair: tuple[int, int]) -> bool:
        done = 0
        try:
            while done < size:
                count = os.copy_file_range(source, target, size - done, at + done, at + done)
                if not count:
                    return False
                done += count
        except (OSError, AttributeError) as error:
            if isinstance(error, OSError) and error.errno not in _CANNOT:
                raise
            self._cannot_range.add(pair)
            return False
        return True


def read_piece(source: int, at: int) -> bytes:
    """Up to 1 MiB at an offset. What it raises tells by ``filename`` that the source was at fault."""
    try:
        return os.pread(source, PIECE, at)
    except OSError as error:
        error.filename = "source"
        raise


def hash_of(file: int) -> tuple[bytes, int]:
    """SHA-256 and length of all that an open file holds. Raises ``OSError``."""
    digest, at = sha256(), 0
    while piece := read_piece(file, at):
        digest.update(piece)
        at += len(piece)
    return digest.digest(), at
