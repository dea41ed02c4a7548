"""Files beneath a folder of an SFTP server: written durably, read in ranges, listed."""

from __future__ import annotations

import asyncio
import contextlib
import os
import stat
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import asyncssh
from asyncssh import SFTPAttrs, SFTPClient, SFTPClientFile

from holdfast.kernel.errors import NotFound
from holdfast.storage.base import TEMPORARY, Info, is_hash, is_name
from holdfast.storage.existing import rival, wrong_size

PRIVATE, SHARED = (0o700, 0o400), (0o770, 0o440)
"""Modes of folders and of finished files, as in a local vault: shared where the group may read ``config``."""

SLICE = 32 << 20
"""A larger file is sent in pieces of this size, each of which is copied once."""

MISSING = (asyncssh.SFTPNoSuchFile, asyncssh.SFTPNoSuchPath, asyncssh.SFTPNotADirectory)
REFUSED = (asyncssh.SFTPFailure, asyncssh.SFTPFileAlreadyExists, asyncssh.SFTPPermissionDenied)
"""How servers say that a name is taken (OpenSSH: "Failure"), among other things."""


class Files:
    """The files beneath ``root``. Methods take the channel to use, and raise what asyncssh raises beside our own."""

    def __init__(self, root: bytes, location: str) -> None:
        self.root = root
        self._inside = root.rstrip(b"/") + b"/"
        self._location = location
        self._modes: tuple[int, int] | None = None

    async def prepare(self, client: SFTPClient, folders: Sequence[str]) -> None:
        """Make the place and these folders in it."""
        mode = (await self._modes_of(client))[0]
        await _make_with_parents(client, self.root, mode)
        steps = sorted(
            {step for folder in folders for step in _steps(os.fsencode(folder))}, key=lambda s: s.count(b"/")
        )
        there: set[bytes] = set()
        with contextlib.suppress(*MISSING):  # restic's 256 folders of packs are asked for again and again
            there = {b"data/" + _bytes(entry.filename) for entry in await client.readdir(self._inside + b"data")}
        for depth in sorted({step.count(b"/") for step in steps}):
            level = [step for step in steps if step.count(b"/") == depth and step not in there]
            await asyncio.gather(*(_make_folder(client, self._inside + step, mode) for step in level))

    async def exists(self, client: SFTPClient) -> bool:
        """Whether the place itself is there."""
        return await _is_folder(client, self.root)

    async def room(self, client: SFTPClient) -> int | None:
        """Bytes that may still be written, or None where the server does not say."""
        try:
            found = await client.statvfs(self.root)
        except asyncssh.SFTPError:
            return None
        return found.bavail * found.frsize if found.bavail is not None and found.frsize is not None else None

    async def size(self, client: SFTPClient, name: str) -> int:
        """Bytes of a regular file. Raises ``NotFound`` for a folder."""
        found = await client.stat(self._path(name))
        if not stat.S_ISREG(found.permissions or stat.S_IFREG):
            raise NotFound(f"{self._location} holds no file {name}", name=name)
        return found.size or 0

    async def read(self, client: SFTPClient, name: str, offset: int, length: int | None) -> tuple[bytes, int | None]:
        """What there is of a range; with ``length`` None also the size of the file."""
        try:
            async with _opened(client, self._path(name)) as file:
                if length is not None:
                    return (await _range(file, offset, length) if length else b""), None
                size = (await file.stat()).size or 0
                return (await _range(file, offset, size - offset) if size > offset else b""), size
        except REFUSED:
            await self.size(client, name)  # raises NotFound: some servers open folders, and only then fail to read
            raise

    async def write(self, client: SFTPClient, name: str, view: memoryview) -> None:
        """Keep ``view`` under ``name``, with the promises of ``Storage.write``."""
        if await self._is_kept(client, name, view):
            return
        temporary = self._temporary(name)
        mode = (await self._modes_of(client))[1]
        try:
            async with await self._create(client, name, temporary, mode) as file:
                await _fill(file, view)
                await self._place(client, name, temporary, view, mode)
                # Once more, for the name: file systems write down the last renaming of a file when they sync the file.
                await _sync(file)
            if (found := await self.size(client, name)) != len(view):
                raise wrong_size(self._location, name, found, len(view))
        except BaseException:
            await _discard(client, temporary)
            raise

    async def replace(self, client: SFTPClient, name: str, view: memoryview) -> None:
        """Put ``view`` in the place of the file ``name``."""
        await self.size(client, name)
        temporary, final = self._temporary(name), self._path(name)
        try:
            async with await self._create(client, name, temporary, (await self._modes_of(client))[1]) as file:
                await _fill(file, view)
                try:
                    await client.posix_rename(temporary, final)
                except asyncssh.SFTPOpUnsupported:
                    await client.remove(final)
                    await client.rename(temporary, final)
                await _sync(file)
        except BaseException:
            await _discard(client, temporary)
            raise

    async def delete(self, client: SFTPClient, name: str) -> None:
        """Remove a file; a missing one is fine, and so is a folder, which stays."""
        try:
            await client.remove(self._path(name))
        except MISSING:
            if not await self.exists(client):
                raise
        except (*REFUSED, asyncssh.SFTPFileIsADirectory):
            if not await _is_folder(client, self._path(name)):
                raise

    async def folder(self, client: SFTPClient, prefix: str) -> tuple[list[Info], list[str]]:
        """Finished files directly in the folder ``prefix`` (which ends with a slash, or is empty), and its folders."""
        infos, folders = [], []
        try:
            entries = await client.readdir(self._path(prefix) if prefix else self.root)
        except MISSING:
            if not prefix or not await self.exists(client):
                raise
            return [], []
        except asyncssh.SFTPFailure:
            if prefix and not await _is_folder(client, self._path(prefix)):
                return [], []  # a file holds nothing
            raise
        for entry in entries:
            base = os.fsdecode(entry.filename)
            if base in (".", "..") or not is_name(name := prefix + base):
                continue
            attributes = entry.attrs
            if not stat.S_ISREG(attributes.permissions or 0):
                if stat.S_ISDIR(attributes.permissions or 0):
                    folders.append(name + "/")
                    continue
                try:
                    attributes = await client.stat(self._path(name))  # a link, or a server that tells no kinds
                except MISSING:
                    continue
                if not stat.S_ISREG(attributes.permissions or 0):
                    continue
            infos.append(Info(name, attributes.size or 0))
        return infos, folders

    async def sweep(self, client: SFTPClient, prefix: str, before: float) -> None:
        """Remove what writes left in a folder that died before that time (seconds since 1970)."""
        for entry in await client.readdir(self._path(prefix)):
            changed = entry.attrs.mtime
            if TEMPORARY.fullmatch(os.fsdecode(entry.filename)) and changed is not None and changed < before:
                await _discard(client, self._path(prefix) + _bytes(entry.filename))

    def _path(self, name: str) -> bytes:
        return self._inside + os.fsencode(name)

    def _temporary(self, name: str) -> bytes:
        return b"%s-tmp-%s" % (self._path(name), os.urandom(8).hex().encode())

    async def _modes_of(self, client: SFTPClient) -> tuple[int, int]:
        """Modes of folders and files; asked again until there is a ``config`` to look at."""
        if self._modes is None:
            try:
                found = await client.stat(self._path("config"))
            except asyncssh.SFTPError:
                return PRIVATE
            self._modes = SHARED if (found.permissions or 0) & 0o040 else PRIVATE
        return self._modes

    async def _is_kept(self, client: SFTPClient, name: str, view: memoryview) -> bool:
        """Whether ``name`` holds ``view`` already. Raises ``Corrupt`` or ``Invalid`` if it holds something else."""
        try:
            found = await self.size(client, name)
        except MISSING:
            return False
        if is_hash(name):
            if found != len(view):
                raise wrong_size(self._location, name, found, len(view))
        elif found != len(view) or (await self.read(client, name, 0, None))[0] != view:
            raise rival(self._location, name)
        return True

    async def _create(self, client: SFTPClient, name: str, path: bytes, mode: int) -> SFTPClientFile:
        """A new file beside ``name``, open for writing; the folders above are made, but never the place itself."""
        attributes = SFTPAttrs(permissions=mode)
        try:
            return await client.open(path, "xb", attrs=attributes, encoding=None)
        except MISSING:
            above = [step for step in _steps(os.fsencode(name)) if step != os.fsencode(name)]
            if not above:
                raise
            for step in above:
                await _make_folder(client, self._inside + step, (await self._modes_of(client))[0])
            return await client.open(path, "xb", attrs=attributes, encoding=None)

    async def _place(self, client: SFTPClient, name: str, temporary: bytes, view: memoryview, mode: int) -> None:
        """Give a written file its name, unless the name is taken.

        The protocol says that renaming overwrites nothing. OpenSSH keeps to it, some servers do not: that is harmless
        for a name that is a hash. ``config`` becomes a hard link, or, where there are none, is made in place.
        """
        final = self._path(name)
        try:
            if is_hash(name):
                await client.rename(temporary, final)
                return
            await client.link(temporary, final)
        except (*REFUSED, asyncssh.SFTPOpUnsupported):
            if not await self._is_kept(client, name, view):
                if is_hash(name):
                    raise
                await self._create_in_place(client, name, view, mode)
        await _discard(client, temporary)

    async def _create_in_place(self, client: SFTPClient, name: str, view: memoryview, mode: int) -> None:
        """For ``config`` where there are no links: a crash leaves a part of it, but then there is no vault yet."""
        try:
            file = await client.open(self._path(name), "xb", attrs=SFTPAttrs(permissions=mode), encoding=None)
        except REFUSED:
            if not await self._is_kept(client, name, view):
                raise
            return
        async with file:
            await _fill(file, view)


def _bytes(filename: bytes | str) -> bytes:
    return os.fsencode(filename)


def _steps(path: bytes) -> list[bytes]:
    """``a/b/c`` as ``a``, ``a/b``, ``a/b/c``."""
    parts = path.split(b"/")
    return [b"/".join(parts[: count + 1]) for count in range(len(parts))]


@asynccontextmanager
async def _opened(client: SFTPClient, path: bytes) -> AsyncIterator[SFTPClientFile]:
    """A file to read; nobody waits for its closing."""
    file = await client.open(path, "rb", encoding=None)
    try:
        yield file
    finally:
        closing = asyncio.ensure_future(file.close())
        closing.add_done_callback(lambda done: done.cancelled() or done.exception())


async def _range(file: SFTPClientFile, offset: int, length: int) -> bytes:
    return bytes(await file.read(length, offset))  # type: ignore[arg-type]


async def _fill(file: SFTPClientFile, view: memoryview) -> None:
    """Write everything, and have the server's disk take it."""
    for at in range(0, len(view), SLICE):
        await file.write(bytes(view[at : at + SLICE]), at)
    await _sync(file)


async def _sync(file: SFTPClientFile) -> None:
    with contextlib.suppress(asyncssh.SFTPOpUnsupported):  # then it is as durable as that server makes it
        await file.fsync()


async def _discard(client: SFTPClient, path: bytes) -> None:
    with contextlib.suppress(asyncssh.Error, OSError):
        await client.remove(path)


async def _is_folder(client: SFTPClient, path: bytes) -> bool:
    try:
        found = await client.stat(path)
    except MISSING:
        return False
    return stat.S_ISDIR(found.permissions or 0)


async def _make_folder(client: SFTPClient, path: bytes, mode: int) -> None:
    try:
        await client.mkdir(path, SFTPAttrs(permissions=mode))
    except REFUSED:
        if not await _is_folder(client, path):
            raise


async def _make_with_parents(client: SFTPClient, path: bytes, mode: int) -> None:
    try:
        await _make_folder(client, path, mode)
    except MISSING:
        above = os.path.dirname(path)
        if above in (b"", b"/", path):
            raise
        await _make_with_parents(client, above, 0o777)
        await _make_folder(client, path, mode)
