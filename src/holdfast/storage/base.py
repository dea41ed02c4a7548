"""The promise that every place for sealed files keeps: named bytes go in whole, stay unchanged, and come out again."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Protocol

from holdfast.kernel.errors import Invalid
from holdfast.kernel.values import dataclass

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

STAGING_PREFIX = "hf-tmp-"
"""How the name of a file begins that is prepared in :meth:`Storage.staging` (followed by anything random)."""

TEMPORARY = re.compile(r"hf-tmp-.+|.+-tmp-(?:[0-9]{1,20}|[0-9a-f]{16})")
"""File names of unfinished writes: ours (16 hex digits), restic's (up to 20 digits, from Go), staged files."""

_PLAIN = re.compile(r"(?:[0-9a-z]+/)*[0-9a-z]+")
_HASH = re.compile(r"(?:.*/)?[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Info:
    """One finished file: its full name within the storage and its size in bytes."""

    name: str
    size: int


@dataclass(frozen=True, slots=True)
class Traits:
    """What a caller may rely on.

    ``atomic_create``: of several writers of a name that is no hash (``config``) one wins, and the others learn it.
    ``immediate_listing``: what was written is listed at once, so there is no need to wait after taking a lock.
    ``fork_safe``: may be used in a forked child.
    ``read_only``: every change raises ``Denied``. ``append_only``: deleting anything but locks does.
    ``connections``: how many calls at once are worth making; more than one means that every call waits for a network,
    so that few large reads beat many small ones.
    ``atomic_replace``: a crash in the middle of :meth:`Storage.replace` leaves the old content or the new one.
    """

    atomic_create: bool
    immediate_listing: bool
    fork_safe: bool
    read_only: bool = False
    append_only: bool = False
    connections: int = 1
    atomic_replace: bool = True


class Storage(Protocol):
    """A place that keeps named bytes.

    A name is a relative path such as ``config`` or ``data/ab/<hex>`` (see :func:`check_name`); a bad one raises
    ``Invalid``. Every method may raise ``Unavailable`` (out of reach), ``Denied`` (not allowed) and, when it writes,
    ``NoSpace``. Methods may be called from several threads at once.
    """

    @property
    def location(self) -> str:
        """Where this is, for people; holds no secret."""
        ...

    @property
    def traits(self) -> Traits:
        """What a caller may rely on; never changes."""
        ...

    def prepare(self, folders: Sequence[str]) -> None:
        """Make the place itself and these folders in it; what is there already stays as it is."""
        ...

    def list(self, folder: str) -> Iterator[Info]:
        """Every finished file beneath ``folder`` at any depth, in any order; ``""`` means everything.

        A missing folder holds nothing; a missing place raises. Unfinished writes, and files with names that
        :func:`check_name` refuses, are left out. What is written or deleted meanwhile may or may not appear.
        """
        ...

    def read(self, name: str, offset: int = 0, length: int | None = None) -> bytes:
        """Exactly ``length`` bytes from ``offset`` on, or everything from there.

        Raises ``NotFound``, and ``Corrupt`` if the file ends before the range does. No bytes can be asked for anywhere.
        """
        ...

    def read_into(self, name: str, buffer: WriteableBuffer, offset: int = 0) -> int:
        """Fill ``buffer`` from ``offset`` on; returns how many bytes there were (0 at and after the end).

        Raises ``NotFound``.
        """
        ...

    def size(self, name: str) -> int:
        """Size in bytes. Raises ``NotFound``."""
        ...

    def write(self, name: str, data: ReadableBuffer) -> None:
        """Keep ``data`` under ``name``; folders are made on demand.

        After return the file survives power loss; after a crash it is complete or absent. An existing file is never
        overwritten. If the name is a hash (its last part is 64 hex digits), an existing file of the same size counts as
        written, one of another size raises ``Corrupt``. For any other name the contents are compared, and a difference
        raises ``Invalid``: somebody else was first.
        """
        ...

    def staging(self) -> str | None:
        """A local folder from where :meth:`adopt` only renames, or None. Name files there ``hf-tmp-<random>``."""
        ...

    def adopt(self, path: str, name: str) -> None:
        """Take over the finished local file ``path`` under ``name``, with the promises of :meth:`write`.

        On success ``path`` is gone. On an error it may still be there, unchanged, and the caller decides. A link or a
        folder as ``path`` is ``Invalid``, a missing one ``NotFound``.
        """
        ...

    def replace(self, name: str, data: ReadableBuffer) -> None:
        """Put ``data`` in the place of the existing file ``name``: only ``config`` ever changes, in a migration.

        After return the new content survives power loss. A crash leaves the old content or the new one, or, without
        ``traits.atomic_replace``, perhaps neither: the caller keeps a copy. Raises ``NotFound``, and ``Invalid`` for a
        name that is a hash, whose content cannot change.
        """
        ...

    def delete(self, name: str) -> None:
        """Remove a file; a missing one is fine.

        After power loss a file that was just deleted may be back, but not one below ``index`` or ``keys``: packs are
        deleted after the index files that name them.
        """
        ...

    def close(self) -> None:
        """Give back connections. May be called twice; nothing else may be called afterwards."""
        ...


def is_name(name: str) -> bool:
    """Whether ``name`` may name a finished file: see :func:`check_name`."""
    if _PLAIN.fullmatch(name):
        return True
    parts = name.split("/")
    return (
        all(part not in ("", ".", "..") for part in parts)
        and name.isprintable()
        and "\\" not in name
        and not TEMPORARY.fullmatch(parts[-1])
    )


def check_name(name: str) -> None:
    """Raise ``Invalid`` unless ``name`` is a relative path that stays inside and means the same on every system.

    Refused: nothing, ``/`` at either end or twice, the parts ``.`` and ``..``, a backslash, unprintable characters, and
    names that look like an unfinished write (they would never be listed).
    """
    if not is_name(name):
        raise Invalid(f"not a name that a storage takes: {name!r}", hint="Use a relative path such as keys/0123abcd.")


def check_folder(folder: str) -> None:
    """Raise ``Invalid`` unless ``folder`` is a name, or ``""`` for the whole place."""
    if folder:
        check_name(folder)


def check_range(offset: int, length: int | None = None) -> None:
    """Raise ``Invalid`` for a negative offset or length."""
    if offset < 0 or (length is not None and length < 0):
        raise Invalid(f"a range cannot be negative: offset {offset}, length {length}")


def check_replaceable(name: str) -> None:
    """Raise ``Invalid`` unless ``name`` is proper and no hash: what a hash names never changes."""
    check_name(name)
    if is_hash(name):
        raise Invalid(f"{name} is named by its content, which never changes", name=name)


def is_hash(name: str) -> bool:
    """Whether the name says what the content is: its last part is 64 lowercase hex digits."""
    return _HASH.fullmatch(name) is not None
