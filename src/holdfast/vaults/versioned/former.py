"""Former content: kept as a diff to be undone or as a zstd file, and brought back, always verified by its hash."""

from __future__ import annotations

import os
from collections.abc import Iterator
from hashlib import sha256

from holdfast.kernel.errors import Corrupt
from holdfast.sources.directory import read_small
from holdfast.vaults.versioned.current import open_current
from holdfast.vaults.versioned.index import Index
from holdfast.vaults.versioned.layout import Layout, place, step_name
from holdfast.vaults.versioned.model import CURRENT, LOST, SAME, Version, join
from holdfast.vaults.versioned.staging import PIECE, SMALL
from holdfast.vaults.versioned.unified import is_text, make_diff, undo_diff

LONGEST_TEXT = 4 << 20
"""Bytes a side: a diff of more takes seconds."""

DEEPEST = 50
"""Diffs in a row; the next former version is kept complete, so that no version needs more steps than that."""

_LEVEL = 3
_CHECK = "Run 'holdfast check' on the vault to see what else is damaged."


class Keeper:
    """Writes the history of one step: ``history/<step>/<number>.diff`` or ``.zst``. Nothing refers to it before the
    step is in the manifest; a crash leaves files that the next run removes."""

    def __init__(self, layout: Layout, step: int) -> None:
        self._layout = layout
        self._step = os.fsdecode(step_name(step))
        self._folder = layout.history + b"/" + step_name(step)
        self._made = False
        import zstandard  # 5 ms, and only where something is former

        self._compressor = zstandard.ZstdCompressor(level=_LEVEL, write_checksum=True, write_content_size=True)
        self.count = 0
        self.bytes = 0

    def keep(self, before: bytes, after: bytes | None, depth: int) -> tuple[str, int]:
        """Keep ``before``, which ``after`` follows (None: nothing, or another kind of thing).

        Returns the history and the depth of what follows: a diff where that is shorter than the compressed whole.
        """
        packed = self._compressor.compress(before)
        if (
            after is not None
            and depth < DEEPEST
            and max(len(before), len(after)) <= LONGEST_TEXT
            and is_text(before)
            and is_text(after)
        ):
            diff = make_diff(before, after)
            if len(diff) < len(packed):
                return self._write(diff, "diff"), depth + 1
        return self._write(packed, "zst"), 0

    def keep_long(self, fd: int) -> tuple[str, bytes]:
        """Keep an open file of any length; returns the history and the SHA-256 of what was kept."""
        digest = sha256()
        path = self._next("zst")
        with open(self._layout.former(path), "xb") as file:
            packer = self._compressor.compressobj(size=os.fstat(fd).st_size)
            at = 0
            while piece := os.pread(fd, PIECE, at):
                digest.update(piece)
                at += len(piece)
                self.bytes += file.write(packer.compress(piece))
            self.bytes += file.write(packer.flush())
        return path, digest.digest()

    def _write(self, data: bytes, kind: str) -> str:
        path = self._next(kind)
        with open(self._layout.former(path), "xb", buffering=0) as file:
            view = memoryview(data)
            while view:
                view = view[file.write(view) :]
        self.bytes += len(data)
        return path

    def _next(self, kind: str) -> str:
        if not self._made:
            os.makedirs(self._folder, mode=0o700, exist_ok=True)
            self._made = True
        self.count += 1
        return f"{self._step}/{self.count}.{kind}"


class Reader:
    """Content of any version of any file."""

    def __init__(self, layout: Layout, index: Index) -> None:
        self._layout = layout
        self._index = index

    def pieces(self, folder: bytes, version: Version) -> Iterator[bytes]:
        """The content of a file, piece by piece; ``Corrupt`` at the end, at the latest, where its hash is another."""
        digest, size = sha256(), 0
        for piece in self._unverified(folder, version):
            digest.update(piece)
            size += len(piece)
            yield piece
        if digest.digest() != version.sha256:
            raise damaged(join(folder, version.name), version, f"it has another hash ({size:,} bytes)")

    def current(self, path: bytes, version: Version) -> bytes | None:
        """The content of a small file that is current still, verified; None: read it another way, which tells why."""
        if version.last != CURRENT or not version.is_file or version.size > SMALL:
            return None
        try:
            found = read_small(None, self._layout.root + b"/" + place(path), version.size)
        except OSError:
            return None
        return found[0] if found is not None and sha256(found[0]).digest() == version.sha256 else None

    def whole(self, folder: bytes, version: Version) -> bytes:
        """The same in one piece."""
        return b"".join(self.pieces(folder, version))

    def _unverified(self, folder: bytes, version: Version) -> Iterator[bytes]:
        """Walk on to the first complete version, then undo the diffs from there."""
        diffs: list[str] = []
        path = join(folder, version.name)
        at: Version | None = version
        while True:
            if at is None:
                raise damaged(path, version, "the version that it was kept with is gone")
            if at.last == CURRENT:
                found = self._current(path, version)
                break
            if at.history.endswith(".zst"):
                found = self._complete(path, version, at.history)
                break
            if at.history == LOST or not (at.history == SAME or at.history.endswith(".diff")):
                raise damaged(path, version, "its content was gone already when it was to be kept")
            if at.history != SAME:
                diffs.append(at.history)
            at = self._index.next(folder, at)
        if not diffs:
            yield from found
            return
        data = b"".join(found)
        for diff in reversed(diffs):
            try:
                with open(self._layout.former(diff), "rb") as file:
                    data = undo_diff(data, file.read())
            except (OSError, Corrupt) as error:
                raise damaged(path, version, f"{diff}: {getattr(error, 'strerror', None) or error}") from error
        yield data

    def _current(self, path: bytes, version: Version) -> Iterator[bytes]:
        try:
            fd = open_current(self._layout.root, path)
        except OSError as error:
            raise damaged(path, version, f"its current copy: {error.strerror}") from error
        try:
            while piece := os.read(fd, PIECE):
                yield piece
        except OSError as error:
            raise damaged(path, version, f"its current copy: {error.strerror}") from error
        finally:
            os.close(fd)

    def _complete(self, path: bytes, version: Version, history: str) -> Iterator[bytes]:
        import zstandard

        try:
            with open(self._layout.former(history), "rb") as file:
                # A reader, for it bounds what a piece yields; where the frame ends too early the hash tells.
                unpacker = zstandard.ZstdDecompressor().stream_reader(file)
                while piece := unpacker.read(PIECE):
                    yield piece
        except (OSError, zstandard.ZstdError) as error:
            raise damaged(path, version, f"{history}: {getattr(error, 'strerror', None) or error}") from error


def damaged(path: bytes, version: Version, why: str) -> Corrupt:
    """The error for content that cannot be brought back."""
    shown = os.fsdecode(path)
    when = "" if version.last == CURRENT else f" (as it was until step {version.last})"
    return Corrupt(f"The file {shown}{when} is damaged in the vault: {why}.", hint=_CHECK, path=shown)
