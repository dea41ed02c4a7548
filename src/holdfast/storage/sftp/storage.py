"""A storage in a folder of a server that is reached over SSH."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, TypeVar

from holdfast.kernel.errors import Corrupt, HoldfastError, Unsupported
from holdfast.storage.base import (
    Info,
    Storage,
    Traits,
    check_folder,
    check_name,
    check_range,
    check_replaceable,
)
from holdfast.storage.handover import handed_over
from holdfast.storage.sftp.place import Place

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer
    from asyncssh import SFTPClient

    from holdfast.storage.sftp.files import Files
    from holdfast.storage.sftp.session import Session

Result = TypeVar("Result")

FOLDERS_AT_ONCE = 16
SPARE_BYTES = 1 << 20
"""What a file system needs beside the content of a file."""

LEFTOVER_SECONDS = 24 * 3600
"""A temporary file that nobody touched for a day belongs to a write that died."""


def open_storage(scheme: str, rest: str, environ: Mapping[str, str] | None = None) -> Storage:
    """The storage that ``sftp:<rest>`` names; nothing is contacted. Raises ``Invalid``, ``Unsupported``."""
    place = Place.parse(rest)
    if find_spec("asyncssh") is None:
        raise Unsupported("storing over SFTP needs the library asyncssh", hint="Run: pip install 'holdfast[sftp]'")
    return SftpStorage(place, os.environ if environ is None else environ)


class SftpStorage:
    """The folder ``place``, through one connection that an event loop in a thread of its own works on.

    Safe in threads, useless in forked children. What writes left behind that died more than a day ago is removed
    when packs are first deleted: whoever prunes cleans up.
    """

    traits = Traits(atomic_create=True, immediate_listing=True, fork_safe=False, connections=5, atomic_replace=False)

    def __init__(self, place: Place, environ: Mapping[str, str]) -> None:
        self.location = place.location
        self._place = place
        self._environ = environ
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._was_seen = False
        self._swept = False

    def prepare(self, folders: Sequence[str]) -> None:
        for folder in folders:
            check_folder(folder)
        self._call("make the folder", "", lambda client: self._files.prepare(client, folders))

    def list(self, folder: str) -> Iterator[Info]:
        check_folder(folder)
        return self._list(folder)

    def read(self, name: str, offset: int = 0, length: int | None = None) -> bytes:
        check_name(name)
        check_range(offset, length)
        data, size = self._call("read", name, lambda client: self._files.read(client, name, offset, length))
        wanted = length if length is not None else (size or 0) - offset
        if len(data) != wanted:
            raise Corrupt(
                f"{self.location}: {name} ends at byte {offset + len(data)}, before the range that was asked for",
                hint="The file was cut off: check the vault and the server's disk.",
                name=name,
                offset=offset,
                length=length,
            )
        return data

    def read_into(self, name: str, buffer: WriteableBuffer, offset: int = 0) -> int:
        check_name(name)
        check_range(offset)
        view = memoryview(buffer).cast("B")
        data, _ = self._call("read", name, lambda client: self._files.read(client, name, offset, len(view)))
        view[: len(data)] = data
        return len(data)

    def size(self, name: str) -> int:
        check_name(name)
        return self._call("look at", name, lambda client: self._files.size(client, name))

    def write(self, name: str, data: ReadableBuffer) -> None:
        check_name(name)
        with memoryview(data).cast("B") as view:
            self._call("write", name, lambda client: self._files.write(client, name, view), len(view))

    def staging(self) -> str | None:
        return None

    def adopt(self, path: str, name: str) -> None:
        check_name(name)
        with handed_over(path) as view:
            self.write(name, view)

    def replace(self, name: str, data: ReadableBuffer) -> None:
        check_replaceable(name)
        with memoryview(data).cast("B") as view:
            self._call("write", name, lambda client: self._files.replace(client, name, view), len(view))

    def delete(self, name: str) -> None:
        check_name(name)
        self._call("remove", name, lambda client: self._files.delete(client, name))
        if name.startswith("data/") and not self._swept:
            self._swept = True
            self._sweep()

    def close(self) -> None:
        with self._lock:
            loop, thread, self._loop, self._thread = self._loop, self._thread, None, None
        if loop is None or thread is None:
            return
        with contextlib.suppress(Exception):  # a server that no longer answers is not waited for
            asyncio.run_coroutine_threadsafe(self._end(), loop).result(5)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()

    def _list(self, folder: str) -> Iterator[Info]:
        pending = [folder + "/" if folder else ""]
        while pending:
            batch, pending = pending[-FOLDERS_AT_ONCE:], pending[:-FOLDERS_AT_ONCE]

            async def look(client: SFTPClient, batch: list[str] = batch) -> list[tuple[list[Info], list[str]]]:
                return await asyncio.gather(*(self._files.folder(client, prefix) for prefix in batch))

            for infos, folders in self._call("list", folder, look):
                yield from infos
                pending += folders

    def _sweep(self) -> None:
        before = time.time() - LEFTOVER_SECONDS
        pending = ["", "keys/", "locks/", "snapshots/", "index/", *(f"data/{number:02x}/" for number in range(256))]

        async def look(client: SFTPClient) -> None:
            sweeps = (self._files.sweep(client, prefix, before) for prefix in pending)
            await asyncio.gather(*sweeps, return_exceptions=True)

        self._call("look through", "", look)

    def _call(self, doing: str, name: str, work: Callable[[SFTPClient], Awaitable[Result]], needed: int = 0) -> Result:
        """Do ``work``, which writes ``needed`` bytes, in the event loop; its foreign errors become ours."""
        loop = self._loop or self._start()
        future = asyncio.run_coroutine_threadsafe(self._guarded(doing, name, work, needed), loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    async def _guarded(
        self, doing: str, name: str, work: Callable[[SFTPClient], Awaitable[Result]], needed: int
    ) -> Result:
        import asyncssh

        try:
            result = await self._session.run(work)
        except (asyncssh.Error, OSError, EOFError) as error:
            raise await self._explained(error, doing, name, needed) from error
        self._was_seen = True
        return result

    async def _explained(self, error: Exception, doing: str, name: str, needed: int) -> HoldfastError:
        """What went wrong; the server is asked for more where its answer could mean several things."""
        import asyncssh

        from holdfast.storage.sftp.errors import gone, translated
        from holdfast.storage.sftp.files import MISSING

        room: int | None = None
        with contextlib.suppress(asyncssh.Error, OSError, EOFError, HoldfastError):
            if isinstance(error, MISSING) and not await self._session.run(self._files.exists):
                return gone(self.location, self._was_seen)
            if isinstance(error, asyncssh.SFTPFailure) and doing in ("write", "make the folder"):
                room = await self._session.run(self._files.room)
        # What was written in part is gone again by now: there may be room, but not for all of it.
        is_full = room is not None and room < needed + SPARE_BYTES
        return translated(error, self.location, doing, name, is_full)

    async def _end(self) -> None:
        await self._session.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    def _start(self) -> asyncio.AbstractEventLoop:
        from holdfast.storage.sftp.files import Files
        from holdfast.storage.sftp.session import Session

        with self._lock:
            if self._loop is None:
                loop = asyncio.new_event_loop()
                self._files: Files = Files(self._place.path, self.location)
                self._session: Session = Session(self._place, self._environ)
                self._thread = threading.Thread(target=loop.run_forever, name="sftp", daemon=True)
                self._thread.start()
                self._loop = loop
            return self._loop
