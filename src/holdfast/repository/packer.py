"""Turn blobs into finished pack files: compress, seal in batches, append to a spool file, close it with its header."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
from collections.abc import Callable, Sequence

from holdfast.format.compression import Compressor, Decompressor
from holdfast.format.crypto import OVERHEAD, BatchSealer, MasterKey, seal, unseal
from holdfast.format.pack import Blob, BlobType, Listed, decode_header, describe, encode_trailer
from holdfast.kernel.errors import Corrupt, Denied, HoldfastError, NoSpace, Unavailable
from holdfast.kernel.ids import BlobId, PackId
from holdfast.kernel.values import dataclass
from holdfast.repository import layout
from holdfast.repository.reading import Copies
from holdfast.storage.base import Storage

TARGET_SIZE = 16 << 20  # restic's default: a pack is closed once it has reached this size
MAX_BLOBS = 250_000  # keeps the header below restic's limit of 16 MiB
BATCH = 512 << 10  # plaintext that is sealed in one go
SPOOL_PREFIX = "hf-tmp-"
_PROBE_FROM = 64 << 10
_PROBE_SIZE = 8 << 10
_ENTRY_PLAIN, _ENTRY_COMPRESSED = 37, 41

Draw = Callable[[int], bytes]


@dataclass(frozen=True, slots=True)
class Pack:
    """A pack that is durable in the storage.

    ``header`` lists its blobs as the pack's own header does before encryption, ``listed`` as an index does: bytes pass
    from process to process at a tenth of what objects cost. ``size`` is the file's, ``payload`` that of its blobs.
    """

    id: PackId
    header: bytes
    listed: bytes
    count: int
    size: int
    payload: int

    @property
    def blobs(self) -> list[Blob]:
        """The blobs in order."""
        return decode_header(self.header)


@dataclass(frozen=True, slots=True)
class OpenPack:
    """A pack without header, set down in a spool file, so that another process can go on with it."""

    type: BlobType
    path: str
    blobs: list[Listed]
    size: int


class Packer:
    """Collects blobs of one type into packs of about 16 MiB. Not for several threads; every worker has its own.

    Nothing is handed to the storage before a pack is complete, and :attr:`finished` only ever holds packs that the
    storage has made durable. A crash leaves at most a spool file, which the storage sweeps away later. Every blob is
    decrypted, authenticated and decompressed again before it is written, as restic does, to catch faulty memory.
    """

    def __init__(
        self,
        storage: Storage,
        key: MasterKey,
        blob_type: BlobType,
        draw: Draw,
        *,
        target: int = 0,
        spool_tag: str = "",
        compress: bool = True,
    ) -> None:
        """``compress`` must be off for repositories of format version 1: their readers know no compressed blobs."""
        self._storage = storage
        self._key = key
        self._type = blob_type
        self._draw = draw
        self._target = target or TARGET_SIZE
        self._spool_tag = spool_tag
        self._compress = compress
        self._compressor = Compressor()
        self._probe = Compressor(-5)
        self._decompressor = Decompressor()
        self._sealer = BatchSealer(key)
        self._ids: list[BlobId] = []
        self._payloads: list[bytes | memoryview] = []
        self._raw_lengths: list[int | None] = []
        self._pending = 0
        self._blobs: list[Listed] = []
        self._fd = -1
        self._path = ""
        self._size = 0
        self._hash = hashlib.sha256()
        self.finished: list[Pack] = []

    def add(self, identifier: BlobId, plaintext: bytes | memoryview) -> None:
        """Take one blob, which the caller knows to be new. A view is used until this returns, and no longer."""
        size = len(plaintext)
        payload = self._compressed(plaintext, size)
        if payload is not None:
            self._queue(identifier, payload, size)
        elif size >= BATCH:  # sealed at once
            self._queue(identifier, plaintext, None)
        else:
            self._queue(identifier, bytes(plaintext), None)

    def add_frame(self, identifier: BlobId, frame: bytes, size: int) -> None:
        """Take one blob as another repository keeps it: a zstd frame that the caller has proved to hold ``size`` bytes
        of that id. Not for repositories of format version 1.
        """
        self._queue(identifier, frame, size)

    def _queue(self, identifier: BlobId, payload: bytes | memoryview, raw_length: int | None) -> None:
        self._ids.append(identifier)
        self._payloads.append(payload)
        self._raw_lengths.append(raw_length)
        self._pending += len(payload)
        if self._pending >= BATCH or len(self._ids) >= 2048:
            self._flush_batch()

    def add_sealed(self, listed: Sequence[Listed], units: Sequence[bytes | memoryview]) -> None:
        """Take blobs as they lie in another pack of this repository, sealed; the caller has proved that they open.

        ``units`` together hold the blobs of ``listed`` in order; one may hold several that lie back to back.
        """
        self._flush_batch()
        self._append(units)
        self._blobs += listed
        self._close_if_full()

    def finish(self) -> list[Pack]:
        """Close the pack that is being filled and return every pack finished since the last call."""
        self._flush_batch()
        if self._blobs:
            self._close_pack()
        packs, self.finished = self.finished, []
        return packs

    def leave_open(self, smallest: int) -> OpenPack | None:
        """Close what is at least ``smallest`` bytes; set anything smaller down for another packer to go on with."""
        self._flush_batch()
        if not self._blobs or self._size >= smallest:
            if self._blobs:
                self._close_pack()
            return None
        os.close(self._fd)
        left = OpenPack(self._type, self._path, self._blobs, self._size)
        self._reset()
        return left

    def take_over(self, pack: OpenPack) -> None:
        """Append another packer's open pack to ours; its spool file is removed."""
        self._flush_batch()
        with open(pack.path, "rb") as spool:
            data = spool.read()
        if len(data) != pack.size:
            raise Corrupt("A spool file changed while a backup was using it.", path=pack.path)
        self._append([data])
        self._blobs += pack.blobs
        os.unlink(pack.path)
        self._close_if_full()

    def discard(self) -> None:
        """Drop what is not finished, and its spool file."""
        if self._fd >= 0:
            os.close(self._fd)
            with contextlib.suppress(OSError):
                os.unlink(self._path)
        self._reset()
        self._ids, self._payloads, self._raw_lengths, self._pending = [], [], [], 0

    def _compressed(self, plaintext: bytes | memoryview, size: int) -> bytes | None:
        """The zstd frame, checked by decompressing it, or None where it would not be smaller or is not allowed."""
        if not self._compress:
            return None
        if size >= _PROBE_FROM and self._type == BlobType.DATA:
            middle = size // 2
            parts = (plaintext[:_PROBE_SIZE], plaintext[middle : middle + _PROBE_SIZE], plaintext[-_PROBE_SIZE:])
            sample = b"".join(parts)
            # level -5 takes 1/20 of level 3's time; what it cannot shrink by 1 % anywhere, level 3 cannot either
            if len(self._probe.compress(sample)) > len(sample) * 0.99:
                return None
        plaintext = bytes(plaintext)  # comparing a memoryview is 20x slower
        payload = self._compressor.compress(plaintext)
        if len(payload) >= size:
            return None
        if self._decompressor.decompress_own(payload) != plaintext:
            raise Corrupt("Compression went wrong: the machine's memory or processor is faulty.", hint=_FAULTY_HINT)
        return payload

    def _flush_batch(self) -> None:
        if not self._ids:
            return
        self._append(self._sealer.seal_joined(self._draw(16), self._payloads))
        lengths = [len(payload) + OVERHEAD for payload in self._payloads]
        self._blobs += zip(self._ids, lengths, self._raw_lengths, strict=True)
        self._ids, self._payloads, self._raw_lengths, self._pending = [], [], [], 0
        self._close_if_full()

    def _close_if_full(self) -> None:
        if self._size >= self._target or len(self._blobs) >= MAX_BLOBS:
            self._close_pack()

    def _append(self, units: Sequence[bytes | bytearray | memoryview]) -> None:
        """Write to the spool file."""
        if self._fd < 0:
            self._fd, self._path = _spool(spool_folder(self._storage), self._spool_tag)
        data = units[0] if len(units) == 1 else b"".join(units)
        _write_all(self._fd, data, self._path)
        self._hash.update(data)
        self._size += len(data)

    def _close_pack(self) -> None:
        plain, listed = describe(self._type, self._blobs)
        payload, header = self._size, seal(self._key, self._draw(16), plain)
        if unseal(self._key, header) != plain:
            raise Corrupt("Encryption went wrong: the machine's memory or processor is faulty.", hint=_FAULTY_HINT)
        self._append([header + encode_trailer(len(header))])
        os.close(self._fd)
        self._fd = -1
        pack = PackId(self._hash.digest())
        name = layout.name_of(layout.DATA, pack)
        if self._type == BlobType.TREE and isinstance(self._storage, Copies):
            self._storage.keep([name])
        self._storage.adopt(self._path, name)
        self.finished.append(Pack(pack, plain, listed, len(self._blobs), self._size, payload))
        self._reset()

    def _reset(self) -> None:
        self._fd, self._path, self._size = -1, "", 0
        self._blobs = []
        self._hash = hashlib.sha256()


_FAULTY_HINT = "Run a memory test before you trust this machine with data. Nothing wrong was stored."


def spool_folder(storage: Storage) -> str:
    """Where packs are built: beside their final place where the storage has one, else beside the local copies of a
    place beyond this machine, else among temporary files.
    """
    folder = storage.staging()
    if folder is None and isinstance(storage, Copies):
        folder = storage.spool()
    if folder:
        return folder
    import tempfile  # 6 ms, and whoever only reads does without

    return tempfile.gettempdir()


def sweep_spool(storage: Storage, tag: str, now_ns: int) -> None:
    """Remove spool files: those with ``tag``, which dead workers of this run left, and any that nobody wrote to for a
    day before ``now_ns``."""
    yesterday = now_ns / 1e9 - 86_400
    with contextlib.suppress(OSError), os.scandir(spool_folder(storage)) as entries:
        for entry in entries:
            own = bool(tag) and entry.name.startswith(SPOOL_PREFIX + tag)
            if own or (entry.name.startswith(SPOOL_PREFIX) and entry.stat().st_mtime < yesterday):
                with contextlib.suppress(OSError):
                    os.unlink(entry.path)


def _spool(folder: str, tag: str) -> tuple[int, str]:
    """A private file to build a pack in."""
    try:
        import tempfile

        return tempfile.mkstemp(prefix=f"{SPOOL_PREFIX}{tag}", dir=folder)
    except OSError as error:
        raise translate(error, folder) from error


def _write_all(fd: int, data: bytes | bytearray | memoryview, path: str) -> None:
    view = memoryview(data)
    try:
        while view:
            view = view[os.write(fd, view) :]
    except OSError as error:
        raise translate(error, path) from error


def translate(error: OSError, path: str) -> HoldfastError:
    """A spool file's error as one of ours."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return NoSpace(
            "No space left while writing to the vault.",
            hint="Free some space and run the same command again: it goes on where it stopped.",
            path=path,
        )
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return Denied(
            f"The vault cannot be written: {error.strerror}.", hint="Check who owns the vault's folder.", path=path
        )
    return Unavailable(
        f"The vault's folder cannot be written any more: {error.strerror}.",
        hint="Was it moved, deleted or unmounted? Put it back and run the same command again.",
        path=path,
    )
