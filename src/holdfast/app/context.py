"""The composition root: turns what the user chose (vault, password, folders) into open vaults."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from holdfast.app.hearing import Hearing
from holdfast.app.recorder import Recorder
from holdfast.config import keyfile, secrets
from holdfast.config.flaws import did_you_mean
from holdfast.config.paths import Paths
from holdfast.config.secrets import Ask, PasswordChoice, Warn
from holdfast.config.words import is_name
from holdfast.kernel.cancel import Cancel
from holdfast.kernel.clock import Clock, SystemClock
from holdfast.kernel.errors import Invalid, NotFound
from holdfast.kernel.events import Emit
from holdfast.kernel.secret import Secret
from holdfast.kernel.values import dataclass

if TYPE_CHECKING:
    from holdfast.app.plain import PlainVault
    from holdfast.config.locate import Configured
    from holdfast.config.settings import NamedVault, Settings
    from holdfast.repository import Repository
    from holdfast.storage import Manner, Storage
    from holdfast.vaults.archive import ArchiveVault

CACHE_LIMIT = 4 << 30
"""Bytes of copies in the cache folder unless somebody wants another limit: index, folders and snapshots of some 30
million files, by the figures of a real tree (about 130 bytes each)."""

Meanwhile = Callable[["Storage", Callable[[], bool]], None]
"""Work beside the derivation of a key: given the vault's storage, and a function that says when to stop."""


@dataclass(frozen=True, slots=True)
class Context:
    """Everything that a use case needs from outside.

    ``vault`` is a location or the name of a vault in ``configured``, or None for ``$HOLDFAST_VAULT``, then for the
    configured default, then for the default vault. Without ``configured`` there are no names. What a named vault says
    about its password and its use counts where the command line says nothing. ``remembered`` (location -> password),
    where given, keeps passwords, so that a run that opens a vault twice asks once. ``ask`` is None where nobody can be
    asked; ``command_limit`` is how many seconds a password command may take. ``warn`` takes sentences for a person;
    ``emit`` takes the engines' events. ``cache_limit`` bounds, in bytes, the copies of what vaults beyond this machine
    hold (None: 4 GiB). ``upload``, ``download`` (bytes a second), ``connections`` and ``retry_for`` (seconds) say how
    such a vault is used; see ``storage.Manner``. ``plan`` and ``run`` are what the work is a part of, for the
    record (``app.recording``); ``recorder`` keeps what runs came to.
    """

    emit: Emit
    cancel: Cancel
    warn: Warn
    vault: str | None = None
    configured: Configured | None = None
    remembered: dict[str, Secret] | None = None
    password: PasswordChoice = field(default_factory=PasswordChoice)
    no_lock: bool = False
    retry_lock: float = 0.0
    no_cache: bool = False
    cache_limit: int | None = None
    upload: int | None = None
    download: int | None = None
    connections: int | None = None
    retry_for: float | None = None
    ask: Ask | None = None
    command_limit: float | None = None
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)
    clock: Clock = field(default_factory=SystemClock)
    random: Callable[[int], bytes] = os.urandom
    plan: str = ""
    run: str = ""
    recorder: Recorder = field(default_factory=Recorder)

    @property
    def paths(self) -> Paths:
        """The folders on this machine."""
        return Paths.of(self.environ)

    @property
    def location(self) -> str:
        """The vault's location: chosen, from ``$HOLDFAST_VAULT``, or the default."""
        return self.chosen or str(self.paths.default_vault)

    @property
    def named(self) -> NamedVault | None:
        """The configured vault that is meant, if one is."""
        return None if self.configured is None else self.configured.vault(self._said)

    def required(self) -> Settings:
        """The configuration. Raises ``NotFound`` where there is none."""
        if self.configured is None:
            raise NotFound("no configuration is used here")
        return self.configured.required()

    @property
    def chosen(self) -> str | None:
        """The location that the user chose; None where the default vault is meant."""
        named = self.named
        return self._said if named is None else named.location

    @property
    def _said(self) -> str | None:
        return self.vault or self.environ.get("HOLDFAST_VAULT") or None

    @property
    def key_file(self) -> Path | None:
        """The key file that belongs to the vault: only the default vault has one."""
        default = self.paths.default_vault
        if self.chosen is None or os.path.abspath(os.path.expanduser(self.chosen)) == str(default):
            return self.paths.default_key
        return None

    def secret(self, *, new: bool = False) -> Secret:
        """The vault's password, from wherever it comes (see ``config.secrets.find``)."""
        location = self.location
        if self.remembered is not None and location in self.remembered:
            return self.remembered[location]
        named = self.named
        found = secrets.find(
            self.password if self.password or named is None else named.password,
            self.environ,
            key_file=self.key_file,
            ask=self.ask,
            what=f"the new vault {location}" if new else f"the vault {location}",
            new=new,
            warn=self.warn,
            limit=self.command_limit,
        )
        if self.remembered is not None:
            self.remembered[location] = found
        return found

    def storage(self) -> Storage:
        """The place of the vault, not yet looked at."""
        from holdfast.storage import open_location

        manner = self._manner()
        place = os.path.expanduser(self.location)
        storage = open_location(place, manner, cancel=self.cancel, on_trouble=self.warn)
        if isinstance(self.emit, Hearing):
            self.emit.listen_to(storage)
        return storage

    def _manner(self) -> Manner:
        """How a remote vault is used: as the command line says, else as the configuration says of it."""
        from holdfast.storage import Manner

        named = self.named
        upload, download, connections, patience = self.upload, self.download, self.connections, self.retry_for
        if named is not None:
            upload = named.upload if upload is None else upload
            download = named.download if download is None else download
            connections = named.connections if connections is None else connections
            patience = named.retry_for if patience is None else patience
        manner = Manner(upload, download, connections)
        return manner if patience is None else replace(manner, patience=patience, first_patience=patience)

    @contextmanager
    def opened(self, meanwhile: Meanwhile | None = None, *, cached: bool = True) -> Iterator[ArchiveVault]:
        """The existing vault; given back at the end.

        Of a vault beyond this machine, what is read again and again is kept on local disk. Without ``cached``
        everything comes from the vault itself: for work that finds out, or repairs, what is really there.

        ``meanwhile(storage, until)`` is called while the key is derived, which takes half a second for a password: it
        may work until ``until()`` is true. Raises ``NotFound``, ``WrongPassword``, ``Denied``, ``Corrupt``,
        ``Unsupported``, ``Unavailable``.
        """
        from holdfast.app.plain import refuse_plain
        from holdfast.storage import ReadOnly, begin

        storage = self.storage()
        try:
            refuse_plain(storage)
            begin(storage)  # what a remote place needs gets ready while the engine is imported
            import holdfast.vaults.archive  # noqa: F401

            config = self._read_config(storage)
            self.check_kind("archive")
            if self.no_lock:
                storage = ReadOnly(storage)
            if cached:
                storage = self._with_copies(storage)
            opening = partial(self._open, storage, config)
            yield self._vault(
                opening(self.secret()) if meanwhile is None else self._beside(opening, storage, meanwhile)
            )
        finally:
            storage.close()

    @contextmanager
    def opened_any(self, *, cached: bool = True) -> Iterator[ArchiveVault | PlainVault]:
        """The existing vault, of whatever kind it is; see :meth:`opened`."""
        from holdfast.app.plain import plain_vault

        plain = plain_vault(self)
        if plain is not None:
            yield plain
            return
        with self.opened(cached=cached) as vault:
            yield vault

    @contextmanager
    def imagined(self) -> Iterator[ArchiveVault]:
        """An empty vault in memory, gone with the ``with`` block: what a dry run without a vault counts against."""
        from holdfast.repository import Repository
        from holdfast.storage.memory import MemoryStorage

        secret = Secret(keyfile.generate(self.random), random=True)
        storage = MemoryStorage("dry run")
        yield self._vault(Repository.init(storage, [secret], clock=self.clock, random=self.random, username=username()))

    def has_vault(self, storage: Storage) -> bool:
        """Whether something that calls itself a vault is at ``storage``."""
        from holdfast.app.plain import kind_of
        from holdfast.kernel.errors import Unavailable

        if kind_of(storage) is not None:
            return True
        try:
            storage.size("config")
        except NotFound:
            return False
        except Unavailable:
            # The place itself is not there yet. Anything worse shows when the vault is made.
            return False
        return True

    def new_key(self) -> Secret:
        """A generated key in the default vault's key file, or the key that an interrupted first run left there."""
        path = self.paths.default_key
        if os.path.lexists(path):
            return secrets.from_file(str(path), self.warn)
        return keyfile.write_new(path, self.random)

    def _with_copies(self, storage: Storage) -> Storage:
        """The same; if it is not on this machine, with copies of small files and of folders in the cache folder."""
        if self.no_cache or storage.traits.connections <= 1:
            return storage
        from holdfast.storage.cached import Cached
        from holdfast.storage.copies import CopyFolder

        copies = CopyFolder(
            str(self.paths.cache / "remote"),
            storage.location,
            limit=self.cache_limit or CACHE_LIMIT,
            clock=self.clock,
            tell=self.warn,
        )
        return Cached(storage, copies, whole=("index", "keys", "snapshots"))

    def _read_config(self, storage: Storage) -> bytes:
        """The sealed configuration. That there is none is said before a password is asked for, and before a scan puts
        its staging folder where no vault is."""
        if self.chosen is not None or self.has_vault(storage):
            try:
                return storage.read("config")
            except NotFound:
                from holdfast.repository import read_config

                try:
                    return read_config(storage)  # tells what is there instead
                except NotFound as error:
                    raise self._perhaps_a_name(error) from None
        else:
            raise NotFound(
                f"there is no vault yet: the default one would be at {self.location}",
                hint="'holdfast backup PATH' makes it. For another vault give --vault LOCATION or set HOLDFAST_VAULT.",
                location=self.location,
            )

    def check_kind(self, kind: str) -> None:
        """Raise ``Invalid`` where the configuration calls the vault, which is of this ``kind``, something else."""
        named = self.named
        if named is not None and named.kind != kind:
            raise Invalid(
                f"the vault {named.name!r} at {named.location} is of the kind {kind}, and not {named.kind}",
                hint=f"Write 'kind: {kind}' into the configuration, or another location.",
            )

    def _perhaps_a_name(self, error: NotFound) -> NotFound:
        """``error``, that there is no vault, with what that means for a configured name."""
        named, said = self.named, self._said
        if named is not None:
            return NotFound(
                f"the vault {named.name!r} is not there: {error.message}",
                hint=f"Is its disk mounted? If it was never made: 'holdfast init {named.name}'.",
                **error.context,
            )
        if said is None or self.configured is None or not is_name(said):
            return error
        settings = self.configured.settings()
        if settings is None:
            return error
        return NotFound(
            f"{settings.path} names no vault {said!r}, and there is none at ./{said}",
            hint=did_you_mean(said, settings.vault_names) or error.hint,
            **error.context,
        )

    def _open(self, storage: Storage, config: bytes, secret: Secret) -> Repository:
        from holdfast.repository import Repository

        return Repository.open(
            storage, secret, clock=self.clock, random=self.random, username=username(), config=config
        )

    def _beside(self, opening: Callable[[Secret], Repository], storage: Storage, meanwhile: Meanwhile) -> Repository:
        """Open in a thread, which has ended when this returns: the engine forks later, and only without threads."""
        secret = self.secret()
        opened: list[Repository] = []
        failed: list[BaseException] = []

        def work() -> None:
            try:
                opened.append(opening(secret))
            except BaseException as error:
                failed.append(error)

        thread = threading.Thread(target=work, name="key derivation")
        thread.start()
        try:
            meanwhile(storage, lambda: not thread.is_alive() or self.cancel.requested)
        finally:
            thread.join()
            # Why the vault does not open says more than what that did to the scan beside it.
            if failed:
                raise failed[0] from None
        return opened[0]

    def _vault(self, repository: Repository) -> ArchiveVault:
        from holdfast.app.lockwait import patience
        from holdfast.vaults.archive import ArchiveVault

        repository.locks.patience = patience(self.retry_lock, self.emit, self.cancel)
        return ArchiveVault(repository, self.paths.cache, no_lock=self.no_lock)


def hostname() -> str:
    """This machine's name, as restic records it."""
    return os.uname().nodename


def username() -> str:
    """Who runs this, as restic records it: the name of the real user id, else the number."""
    import pwd

    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())
