"""A storage on a server that speaks restic's REST protocol: rest-server, ``rclone serve restic`` and others.

Facts: restic's document "REST Backend"; what its servers do beyond it was read in rest-server and tried with rclone:

- It knows ``config`` and files named by a hash in five folders; the server puts packs into their 256 folders itself.
- rest-server answers 403 to a name that exists, rclone overwrites (403 only with ``--append-only``): hence the look
  before and after each upload. Two makers of ``config`` at the same moment are told apart by rest-server only.
- rest-server sends ``null`` for an empty list, 404 for a missing folder, and the whole of ``config`` for a range of it;
  rclone an empty list for a missing folder, and 206 with no bytes for a range behind the end.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING

from holdfast.kernel.errors import Corrupt, Denied, Invalid, NotFound, Unavailable, Unsupported
from holdfast.storage.base import (
    Info,
    Storage,
    Traits,
    check_folder,
    check_name,
    check_range,
    check_replaceable,
    is_hash,
)
from holdfast.storage.existing import rival, wrong_size
from holdfast.storage.handover import handed_over
from holdfast.storage.rest.server import Server, address

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

HASHED = ("keys", "locks", "snapshots", "index", "data")
LISTING_V2 = "application/vnd.x.restic.rest.v2"
EXISTS = (403, 405, 409, 412)
"""How servers refuse to overwrite; some of these can mean something else as well."""

_FILE = re.compile(r"config|(?:keys|locks|snapshots|index)/[0-9a-f]{64}|data/([0-9a-f]{2})/\1[0-9a-f]{62}")
_FOLDER = re.compile(r"(?:keys|locks|snapshots|index)|data(?:/[0-9a-f]{2})?")
_ID = re.compile(r"[0-9a-f]{64}")
_CONTENT_RANGE = re.compile(r"bytes ([0-9]+)-([0-9]+)/([0-9]+|\*)")
_SLICE = 1 << 18  # what is handed to the connection at once; larger slices are copied once more on the way


def open_storage(scheme: str, rest: str, environ: Mapping[str, str] | None = None) -> Storage:
    """The storage that ``rest:<rest>`` names; nothing is contacted. Raises ``Invalid``, ``Unsupported``."""
    url = address(rest)
    if find_spec("httpx") is None:
        raise Unsupported("storing on a REST server needs the library httpx", hint="Run: pip install 'holdfast[rest]'")
    return RestStorage(url, os.environ if environ is None else environ)


class RestStorage:
    """One repository of a REST server, at ``url`` (which ends with a slash and holds no credentials).

    Only the names of a vault exist here; others are ``Invalid``. Safe in threads, useless in forked children.
    """

    traits = Traits(atomic_create=False, immediate_listing=True, fork_safe=False, connections=5)

    def __init__(self, url: str, environ: Mapping[str, str]) -> None:
        self.location = f"rest:{url}"
        self._server = Server(url, environ)
        self._begun: set[str] = set()  # uploads of ours that broke off: what the server has of them is not damage
        self._prepared = False
        self._busy: set[str] = set()  # names that a thread of ours is writing
        self._free = threading.Condition()

    def prepare(self, folders: Sequence[str]) -> None:
        for folder in folders:
            check_folder(folder)
            if not _FOLDER.fullmatch(folder):
                raise self._foreign(folder)
        with self._server.answer("POST", "", "", query="create=true") as answer:
            if answer.status_code not in (200, 201, 204):
                raise self._server.refusal(answer, "POST", "")
        self._prepared = True

    def list(self, folder: str) -> Iterator[Info]:
        check_folder(folder)
        if folder and not _FOLDER.fullmatch(folder):
            return iter(())  # also "config": a file holds nothing
        return self._list(folder)

    def read(self, name: str, offset: int = 0, length: int | None = None) -> bytes:
        check_range(offset, length)
        data = b"".join(self._pieces(name, offset, length))
        is_short = len(data) != length if length is not None else not data and offset > 0 and offset > self.size(name)
        if is_short:
            raise Corrupt(
                f"{self.location}: {name} ends at byte {offset + len(data)}, before the range that was asked for",
                hint="The file was cut off: check the vault and the server's disk.",
                name=name,
                offset=offset,
                length=length,
            )
        return data

    def read_into(self, name: str, buffer: WriteableBuffer, offset: int = 0) -> int:
        check_range(offset)
        view = memoryview(buffer).cast("B")
        done = 0
        for piece in self._pieces(name, offset, len(view)):
            view[done : done + len(piece)] = piece
            done += len(piece)
        return done

    def size(self, name: str) -> int:
        with self._server.answer("HEAD", self._path(name), name) as answer:
            if answer.status_code != 200:
                raise self._server.refusal(answer, "HEAD", name)
            length = answer.headers.get("Content-Length", "")
        if not length.isdigit():
            raise self._server.strange("HEAD", name, "the server does not tell the size of a file")
        return int(length)

    def write(self, name: str, data: ReadableBuffer) -> None:
        check_name(name)
        if not _FILE.fullmatch(name):
            raise self._foreign(name)
        view = memoryview(data).cast("B")
        with self._one_writer(name):
            if self._is_kept(name, view):
                return
            try:
                self._upload(name, view)
            except Unavailable:
                self._begun.add(name)
                raise
            self._begun.discard(name)

    def staging(self) -> str | None:
        return None

    def adopt(self, path: str, name: str) -> None:
        check_name(name)
        with handed_over(path) as view:
            self.write(name, view)

    def replace(self, name: str, data: ReadableBuffer) -> None:
        check_replaceable(name)
        self.size(name)
        self.delete(name)  # rest-server overwrites nothing
        self._upload(name, memoryview(data).cast("B"))

    def delete(self, name: str) -> None:
        try:
            path = self._path(name)
        except NotFound:
            return
        with self._server.answer("DELETE", path, name) as answer:
            if answer.status_code not in (200, 202, 204, 404):
                raise self._server.refusal(answer, "DELETE", name)

    def close(self) -> None:
        self._server.close()

    @contextmanager
    def _one_writer(self, name: str) -> Iterator[None]:
        """Keep other threads from writing ``name``: rclone shows a file that is being uploaded, with too few bytes."""
        with self._free:
            while name in self._busy:
                self._free.wait()
            self._busy.add(name)
        try:
            yield
        finally:
            with self._free:
                self._busy.discard(name)
                self._free.notify_all()

    def _path(self, name: str) -> str:
        """Where the protocol has ``name``: it leaves the first folder of packs to the server."""
        if _FILE.fullmatch(name):
            return f"data/{name[8:]}" if name.startswith("data/") else name
        check_name(name)
        if _FOLDER.fullmatch(name):
            raise NotFound(f"{self.location} holds no file {name}", name=name)
        raise self._foreign(name)

    def _foreign(self, name: str) -> Invalid:
        return Invalid(
            f"a REST server keeps only the files of a vault, not {name}",
            hint="These are config, and files named by their hash in data, index, keys, locks and snapshots.",
            name=name,
        )

    def _pieces(self, name: str, offset: int, length: int | None) -> Iterator[bytes]:
        """The bytes from ``offset`` on, at most ``length``, as far as there are any."""
        if length == 0:
            self.size(name)
            return
        headers = {}
        if offset or length is not None:
            headers["Range"] = f"bytes={offset}-" if length is None else f"bytes={offset}-{offset + length - 1}"
        with self._server.answer("GET", self._path(name), name, headers=headers) as answer:
            if answer.status_code == 416 and headers:
                return
            if answer.status_code == 206 and headers:
                yield from self._part(name, offset, length, answer.headers.get("Content-Range", ""), answer.iter_raw())
            elif answer.status_code == 200:
                yield from _cut_out(answer.iter_raw(), offset, length)
            else:
                raise self._server.refusal(answer, "GET", name)

    def _part(self, name: str, offset: int, length: int | None, told: str, pieces: Iterator[bytes]) -> Iterator[bytes]:
        """The body of a partial answer, if it is the part that was asked for."""
        match = _CONTENT_RANGE.fullmatch(told)
        if match is None or int(match[1]) != offset:
            raise self._server.strange("GET", name, "the server answers with another part than the one asked for")
        left = max(int(match[2]) + 1 - offset, 0)  # rclone, behind the end: "bytes 11-9/10"
        is_short = length is None or left < length
        if (length is not None and left > length) or (is_short and left and match[3] not in ("*", str(offset + left))):
            raise self._server.strange("GET", name, "the server answers with another part than the one asked for")
        for piece in pieces:
            left -= len(piece)
            if left < 0:
                break
            yield piece
        if left:
            raise self._server.strange("GET", name, "the server sends another count of bytes than it says")

    def _list(self, folder: str) -> Iterator[Info]:
        found = False
        if not folder:
            try:
                yield Info("config", self.size("config"))
                found = True
            except NotFound:
                pass
        kind, _, prefix = folder.partition("/")
        for each in (kind,) if kind else HASHED:
            start = f"{each}/"
            for identifier, size in self._listed(each):
                found = True
                if each == "data":
                    start = f"data/{identifier[:2]}/"
                if identifier.startswith(prefix):
                    yield Info(start + identifier, size)
        if not found and not self._prepared and kind != "locks":
            self._look_for_vault()

    def _listed(self, kind: str) -> Iterator[tuple[str, int]]:
        with self._server.answer("GET", f"{kind}/", kind, headers={"Accept": LISTING_V2}) as answer:
            if answer.status_code == 404:
                return
            if answer.status_code != 200:
                raise self._server.refusal(answer, "GET", f"{kind}/")
            body = answer.read()
        from orjson import JSONDecodeError, loads

        try:
            for item in loads(body) or ():
                if isinstance(item, str):  # version 1 of the protocol: names alone
                    if _ID.fullmatch(item):
                        yield item, self.size(f"data/{item[:2]}/{item}" if kind == "data" else f"{kind}/{item}")
                elif _ID.fullmatch(item["name"]):
                    yield item["name"], int(item["size"])
        except (JSONDecodeError, TypeError, KeyError, ValueError) as error:
            raise self._server.strange("GET", f"{kind}/", "the answer is no list of files") from error

    def _look_for_vault(self) -> None:
        """Servers list a place that is missing as empty, too; whoever deletes what nobody uses must not believe it."""
        try:
            self.size("config")
        except NotFound:
            raise NotFound(
                f"there is no vault at {self.location}",
                hint="Check the path, and whether the server sees its disk; a new vault is made with init.",
                location=self.location,
            ) from None

    def _is_kept(self, name: str, view: memoryview) -> bool:
        """Whether ``name`` holds ``view`` already. Raises ``Corrupt`` or ``Invalid`` if it holds something else."""
        try:
            found = self.size(name)
        except NotFound:
            return False
        if found == len(view):
            if is_hash(name) or self.read(name) == view:
                return True
            raise rival(self.location, name)
        if not is_hash(name):
            raise rival(self.location, name)
        if name not in self._begun:
            raise wrong_size(self.location, name, found, len(view))
        try:
            self.delete(name)
        except Denied as error:
            raise Unavailable(
                f"{self.location} still keeps the first {found} bytes of {name} from an upload that broke off",
                hint="An append-only server does not let a client remove it. If it stays, remove it on the server.",
                name=name,
            ) from error
        return False

    def _upload(self, name: str, view: memoryview) -> None:
        pieces = (view[at : at + _SLICE] for at in range(0, len(view), _SLICE))
        headers = {"Content-Length": str(len(view)), "Content-Type": "application/octet-stream"}
        with self._server.answer("POST", self._path(name), name, headers=headers, content=pieces) as answer:
            status = answer.status_code
            refusal = None if status in (200, 201, 204) else self._server.refusal(answer, "POST", name)
        if refusal is not None:
            if status in EXISTS and self._is_kept(name, view):
                return
            raise refusal
        try:
            found = self.size(name)
        except NotFound:
            found = -1
        if found != len(view):
            raise self._server.strange("POST", name, "the server does not have what it took")
        if not is_hash(name) and self.read(name) != view:
            raise rival(self.location, name)


def _cut_out(pieces: Iterator[bytes], offset: int, length: int | None) -> Iterator[bytes]:
    """What was asked for, out of a whole file: a server may ignore a range."""
    at, end = 0, None if length is None else offset + length
    for piece in pieces:
        first, last = max(offset - at, 0), len(piece) if end is None else min(end - at, len(piece))
        if first < last:
            yield piece[first:last]
        at += len(piece)
        if end is not None and at >= end:
            return
