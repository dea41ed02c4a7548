"""One open restic repository: its keys, configuration, index, blobs, snapshots and locks."""

from __future__ import annotations

import os
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from hashlib import sha256

from holdfast.format.compression import Compressor, Decompressor
from holdfast.format.config import RepoConfig, polynomial_from_random
from holdfast.format.crypto import MasterKey, seal, unseal
from holdfast.format.index import decode_entries
from holdfast.format.pack import BlobType
from holdfast.format.snapshot import Snapshot
from holdfast.format.unpacked import decode_unpacked, encode_unpacked
from holdfast.kernel.clock import Clock, SystemClock
from holdfast.kernel.errors import Corrupt, HoldfastError, Invalid, NotFound, Unsupported
from holdfast.kernel.heap import paused_collection
from holdfast.kernel.ids import BlobId, SnapshotId, short
from holdfast.kernel.secret import Secret
from holdfast.repository import keys, layout
from holdfast.repository.index import Index, Place
from holdfast.repository.locks import Locks
from holdfast.repository.reading import Ahead, Copies, Listed, read_files
from holdfast.storage.base import Storage

Draw = Callable[[int], bytes]
_BYTES_PER_BLOB = 40
_REPAIR_INDEX = "Run 'holdfast repair index': it makes the index anew from what the packs say."
_REPAIR_PACKS = (
    "Run 'holdfast check' to see what is affected. 'holdfast repair packs --all-damaged' saves what can be saved, with "
    "--from VAULT also what another vault still has."
)
_RECOVER = "'holdfast recover' brings back what no other snapshot holds; 'holdfast repair snapshots' tells more."


class Repository:
    """A repository that a secret has opened. Make one with :meth:`init` or :meth:`open`.

    Nothing is read ahead: call :meth:`load_index` before blobs are looked up. Order matters (restic's design): list
    snapshots first, then load the index; the other way a snapshot may refer to an index that was not seen.
    """

    def __init__(
        self,
        storage: Storage,
        config: RepoConfig,
        master: MasterKey,
        key_id: bytes,
        *,
        clock: Clock,
        draw: Draw,
        username: str,
    ) -> None:
        self.storage = storage
        self.config = config
        self.master = master
        self.key_id = key_id
        self.clock = clock
        self.draw = draw
        self.username = username
        self.index = Index()
        self._index_files: set[bytes] = set()  # those that were read
        self.index_files: set[bytes] = set()
        """The index files that were there when the index was last loaded, and those written since."""
        self.packs_of_file: dict[bytes, array[int]] = {}
        """By index file that was read: the packs that it names, as positions in ``index.packs``."""
        self._compressor = Compressor()
        self._decompressor = Decompressor()
        self._ahead = Ahead(storage) if storage.traits.connections > 1 else None
        self.locks = Locks(storage, clock, self._seal_unpacked, self._open_unpacked, username=username)

    @classmethod
    def init(
        cls,
        storage: Storage,
        secrets: Sequence[Secret],
        *,
        clock: Clock | None = None,
        random: Draw = os.urandom,
        username: str = "",
        hostname: str = "",
        polynomial: int | None = None,
    ) -> Repository:
        """Make a new repository with one key for each secret.

        ``polynomial`` is another repository's chunker polynomial, to share chunk boundaries with it. The configuration
        is written last: a crash before that leaves something that is not yet a repository. Raises ``Invalid`` where a
        repository, or anything else, already is.
        """
        clock = clock or SystemClock()
        _refuse_occupied(storage)
        config = RepoConfig(version=2, id=random(32), polynomial=polynomial or polynomial_from_random(random), extra={})
        master = MasterKey.from_random(random(64))
        storage.prepare(layout.FOLDERS)
        ids = [
            keys.write_key(storage, master, secret, clock=clock, draw=random, username=username, hostname=hostname)
            for secret in secrets
        ]
        storage.write(layout.CONFIG, seal(master, random(16), config.encode()))
        return cls(storage, config, master, ids[0], clock=clock, draw=random, username=username)

    @classmethod
    def open(
        cls,
        storage: Storage,
        secret: Secret,
        *,
        clock: Clock | None = None,
        random: Draw = os.urandom,
        username: str = "",
        config: bytes | None = None,
    ) -> Repository:
        """Open a repository, made by any compatible tool. Writes nothing.

        ``config`` is what the file ``config`` holds, if the caller has read it already.

        Raises ``NotFound`` (no repository there), ``WrongPassword``, ``Corrupt`` (damaged configuration or keys) and
        ``Unsupported`` (a format version that this program does not know).
        """
        sealed = read_config(storage) if config is None else config
        master, key_id = keys.open_with(storage, secret)
        try:
            parsed = RepoConfig.parse(unseal(master, sealed))
        except Corrupt as error:
            raise Corrupt(
                f"The vault's configuration file is damaged: {error.message}",
                hint="Put back the file 'config' from a copy of the vault; the data itself is not touched by this.",
            ) from error
        return cls(storage, parsed, master, key_id, clock=clock or SystemClock(), draw=random, username=username)

    # -- keys ------------------------------------------------------------------------------------------------------

    def keys(self) -> list[keys.KeyInfo]:
        """All readable keys of the repository."""
        return keys.list_keys(self.storage, self.key_id)

    def add_key(self, secret: Secret, *, username: str = "", hostname: str = "") -> str:
        """Let one more secret open the repository; returns the new key's hex id."""
        new = keys.write_key(
            self.storage, self.master, secret, clock=self.clock, draw=self.draw, username=username, hostname=hostname
        )
        return new.hex()

    def remove_key(self, prefix: str) -> str:
        """Delete a key (not the one in use); returns its whole hex id."""
        return keys.remove_key(self.storage, prefix, self.key_id)

    # -- unpacked files --------------------------------------------------------------------------------------------

    def write_unpacked(self, folder: str, plaintext: bytes) -> bytes:
        """Store a snapshot, index or lock; returns its id. Durable when it returns."""
        sealed = self._seal_unpacked(plaintext)
        identifier = sha256(sealed).digest()
        self.storage.write(layout.name_of(folder, identifier), sealed)
        if folder == layout.INDEX:
            self.index_files.add(identifier)
        return identifier

    def read_unpacked(self, folder: str, identifier: bytes) -> bytes:
        """The plaintext of a snapshot or index file. ``Corrupt`` if it does not hash to its name or does not open."""
        return self._open_file(folder, identifier, self.storage.read(layout.name_of(folder, identifier)))

    def read_many(self, folder: str, files: Iterable[Listed]) -> Iterator[tuple[bytes, Callable[[], bytes]]]:
        """What :meth:`read_unpacked` gives for each of the files that ``layout.listing`` told of ``folder``, in any
        order: (id, a function that returns the plaintext or raises). Over a network several are read at once.
        """
        for (identifier, _), found in read_files(self.storage, files):
            yield identifier, partial(self._open_file, folder, identifier, found)

    def _open_file(self, folder: str, identifier: bytes, sealed: bytes | HoldfastError) -> bytes:
        if isinstance(sealed, HoldfastError):
            raise sealed
        if sha256(sealed).digest() != identifier:
            raise Corrupt(f"The file {folder}/{short(identifier)} is damaged: its content does not match its name.")
        return self._open_unpacked(sealed)

    def delete_unpacked(self, folder: str, identifier: bytes) -> None:
        """Delete a snapshot, index or lock file; a missing one is fine."""
        self.storage.delete(layout.name_of(folder, identifier))
        self.index_files.discard(identifier)

    def _seal_unpacked(self, plaintext: bytes) -> bytes:
        encoded = plaintext if self.config.version == 1 else encode_unpacked(plaintext, self._compressor)
        sealed = seal(self.master, self.draw(16), encoded)
        if unseal(self.master, sealed) != encoded:
            raise Corrupt("Encryption went wrong: the machine's memory or processor is faulty.")
        return sealed

    def _open_unpacked(self, sealed: bytes) -> bytes:
        return decode_unpacked(unseal(self.master, sealed))

    # -- snapshots -------------------------------------------------------------------------------------------------

    def snapshots(
        self, on_damage: Callable[[bytes, HoldfastError], None] | None = None
    ) -> list[tuple[SnapshotId, Snapshot]]:
        """All snapshots, oldest first. Damaged ones go to ``on_damage``, or raise where it is None."""
        found: list[tuple[SnapshotId, Snapshot]] = []
        listed = layout.listing(self.storage, layout.SNAPSHOTS)
        for identifier, plaintext in self.read_many(layout.SNAPSHOTS, listed):
            try:
                found.append((SnapshotId(identifier), Snapshot.parse(plaintext())))
            except NotFound:
                continue  # forgotten by somebody between the listing and now
            except (Corrupt, Unsupported) as error:
                if on_damage is None:
                    raise Corrupt(f"Snapshot {short(identifier)} is damaged: {error.message}", hint=_RECOVER) from error
                on_damage(identifier, error)
        found.sort(key=lambda pair: (pair[1].time_ns, pair[0]))
        return found

    # -- index and blobs -------------------------------------------------------------------------------------------

    def load_index(self, on_damage: Callable[[bytes, HoldfastError], None] | None = None) -> None:
        """Read every index file that was not read yet. Damaged ones go to ``on_damage``, or raise where it is None."""
        listed = list(layout.listing(self.storage, layout.INDEX))
        self.index_files = {identifier for identifier, _ in listed}
        new = [pair for pair in listed if pair[0] not in self._index_files]
        # A blob's entry takes some 200 bytes of JSON, of which 41 and more stay: ids do not compress.
        self.index.reserve(sum(info.size for _, info in new) // _BYTES_PER_BLOB)
        with paused_collection():
            for identifier, plaintext in self.read_many(layout.INDEX, new):
                packs = self.packs_of_file[identifier] = array("I")
                try:
                    for pack, entries in decode_entries(plaintext()):
                        self.index.add_entries(pack, entries)
                        packs.append(self.index.position(pack))
                except NotFound:
                    continue  # replaced by a prune meanwhile
                except Corrupt as error:
                    if on_damage is None:
                        raise Corrupt(
                            f"The index file {short(identifier)} is damaged: {error.message}",
                            hint=_REPAIR_INDEX,
                            file=layout.name_of(layout.INDEX, identifier),
                        ) from error
                    on_damage(identifier, error)
                self._index_files.add(identifier)
        if isinstance(self.storage, Copies):
            self.storage.keep([layout.name_of(layout.DATA, pack) for pack in self.index.tree_packs()])

    def reload_index(self) -> None:
        """Forget the index, which somebody else may have replaced, and read all of it anew."""
        self.index = Index()
        self._index_files.clear()
        self.packs_of_file.clear()
        self.load_index()

    def read_blob(self, identifier: BlobId) -> bytes:
        """The plaintext of one blob, verified against its id; every copy is tried.

        Raises ``NotFound`` if no index knows it, ``Corrupt`` if no copy is intact.
        """
        places = self.index.places(identifier)
        if not places:
            raise NotFound(f"The blob {short(identifier)} is in no index.", hint=_REPAIR_INDEX, blob=identifier.hex())
        failure: HoldfastError | None = None
        for place in places:
            try:
                name = layout.name_of(layout.DATA, place.pack)
                return self.open_blob(identifier, place, self._read_part(name, place))
            except (Corrupt, NotFound) as error:
                failure = error
        raise Corrupt(
            f"The blob {short(identifier)} is damaged: {failure.message if failure else ''}",
            hint=_REPAIR_PACKS,
            blob=identifier.hex(),
            pack=places[0].pack.hex(),
        ) from failure

    def _read_part(self, name: str, place: Place) -> bytes:
        if self._ahead is None or (place.type == BlobType.TREE and isinstance(self.storage, Copies)):
            return self.storage.read(name, place.offset, place.length)
        return self._ahead.read(name, place.offset, place.length)

    def open_blob(self, identifier: BlobId, place: Place, sealed: bytes) -> bytes:
        """Decrypt, decompress and verify one stored blob."""
        plaintext = unseal(self.master, sealed)
        if place.raw_length is not None:
            plaintext = self._decompressor.decompress(plaintext, size=place.raw_length)
        if sha256(plaintext).digest() != identifier:
            raise Corrupt(f"The blob {short(identifier)} does not match its hash.")
        return plaintext


def read_config(storage: Storage) -> bytes:
    """The sealed configuration. Raises ``NotFound`` with what seems to be there instead of a repository."""
    try:
        return storage.read(layout.CONFIG)
    except NotFound as error:
        # The place itself may be what is missing (a bucket): then that error knows what to do.
        hint = error.hint if error.context.get("missing") == "place" else _no_config_hint(storage)
        raise NotFound(f"There is no vault at {storage.location}.", hint=hint, location=storage.location) from None


def _refuse_occupied(storage: Storage) -> None:
    try:
        if next(iter(storage.list("")), None) is None:
            return
    except NotFound:
        return
    try:
        storage.size(layout.CONFIG)
    except NotFound:
        names = {info.name.split("/")[0] for info in storage.list("")}
        if names <= {layout.KEYS}:
            return  # an init that was interrupted before it wrote the configuration
        raise Invalid(
            f"{storage.location} is not empty and is not a vault.",
            hint="Choose an empty or a new folder.",
        ) from None
    raise Invalid(f"There is already a vault at {storage.location}.", hint="Use it as it is, or choose another place.")


def _no_config_hint(storage: Storage) -> str:
    try:
        has_keys = next(iter(storage.list(layout.KEYS)), None) is not None
    except HoldfastError:
        has_keys = False
    if has_keys:
        return "Its 'config' file is missing, though keys are there: put it back from a copy of the vault."
    return f"Make one with 'holdfast init {storage.location}', or check the location."
