"""The composition root: turns what the user chose (vault, password, folders) into open vaults."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from holdfast.config import keyfile, secrets
from holdfast.config.paths import Paths
from holdfast.config.secrets import Ask, PasswordChoice, Warn
from holdfast.kernel.cancel import Cancel
from holdfast.kernel.clock import Clock, SystemClock
from holdfast.kernel.errors import NotFound
from holdfast.kernel.events import Emit
from holdfast.kernel.secret import Secret

if TYPE_CHECKING:
    from holdfast.repository import Repository
    from holdfast.storage import Storage
    from holdfast.vaults.archive import ArchiveVault

Meanwhile = Callable[["Storage", Callable[[], bool]], None]
"""Work beside the derivation of a key: given the vault's storage, and a function that says when to stop."""


@dataclass(frozen=True, slots=True)
class Context:
    """Everything that a use case needs from outside.

    ``vault`` is a location, or None for ``$HOLDFAST_VAULT`` and then the default vault. ``ask`` is None where nobody
    can be asked. ``warn`` takes sentences for a person; ``emit`` takes the engines' events.
    """

    emit: Emit
    cancel: Cancel
    warn: Warn
    vault: str | None = None
    password: PasswordChoice = field(default_factory=PasswordChoice)
    no_lock: bool = False
    ask: Ask | None = None
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)
    clock: Clock = field(default_factory=SystemClock)
    random: Callable[[int], bytes] = os.urandom

    @property
    def paths(self) -> Paths:
        """The folders on this machine."""
        return Paths.of(self.environ)

    @property
    def location(self) -> str:
        """The vault's location: chosen, from ``$HOLDFAST_VAULT``, or the default."""
        return self.chosen or str(self.paths.default_vault)

    @property
    def chosen(self) -> str | None:
        """The location that the user chose; None where the default vault is meant."""
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
        return secrets.find(
            self.password,
            self.environ,
            key_file=self.key_file,
            ask=self.ask,
            what=f"the new vault {self.location}" if new else f"the vault {self.location}",
            new=new,
            warn=self.warn,
        )

    def storage(self) -> Storage:
        """The place of the vault, not yet looked at."""
        from holdfast.storage import open_location

        return open_location(os.path.expanduser(self.location))

    @contextmanager
    def opened(self, meanwhile: Meanwhile | None = None) -> Iterator[ArchiveVault]:
        """The existing vault; given back at the end.

        ``meanwhile(storage, until)`` is called while the key is derived, which takes half a second for a password: it
        may work until ``until()`` is true. Raises ``NotFound``, ``WrongPassword``, ``Denied``, ``Corrupt``,
        ``Unsupported``, ``Unavailable``.
        """
        from holdfast.storage import ReadOnly

        storage = self.storage()
        try:
            self._refuse_missing(storage)
            place = ReadOnly(storage) if self.no_lock else storage
            yield self._vault(self._open(place) if meanwhile is None else self._open_beside(place, meanwhile))
        finally:
            storage.close()

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
        from holdfast.kernel.errors import Unavailable

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

    def _refuse_missing(self, storage: Storage) -> None:
        """Say it before a password is asked for, and before a scan puts its staging folder where no vault is."""
        if self.chosen is not None:
            try:
                storage.size("config")
            except NotFound:
                self._open(storage, Secret(b""))  # looks for the configuration before any key, and tells what is there
        elif not self.has_vault(storage):
            raise NotFound(
                f"there is no vault yet: the default one would be at {self.location}",
                hint="'holdfast backup PATH' makes it. For another vault give --vault LOCATION or set HOLDFAST_VAULT.",
                location=self.location,
            )

    def _open(self, storage: Storage, secret: Secret | None = None) -> Repository:
        from holdfast.repository import Repository

        secret = secret or self.secret()
        return Repository.open(storage, secret, clock=self.clock, random=self.random, username=username())

    def _open_beside(self, storage: Storage, meanwhile: Meanwhile) -> Repository:
        """Open in a thread, which has ended when this returns: the engine forks later, and only without threads."""
        secret = self.secret()
        opened: list[Repository] = []
        failed: list[BaseException] = []

        def work() -> None:
            try:
                opened.append(self._open(storage, secret))
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
        from holdfast.vaults.archive import ArchiveVault

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
