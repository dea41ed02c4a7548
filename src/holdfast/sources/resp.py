"""A connection to a Redis server (or Valkey, KeyDB): words sent, replies read, and its dump as a stream."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from holdfast.kernel.cancel import Cancel
from holdfast.kernel.errors import Corrupt, Denied, HoldfastError, Unavailable
from holdfast.kernel.pool import abandoned

if TYPE_CHECKING:
    from holdfast.sources.redis import Server

SILENCE = 120.0
"""Seconds without a byte after which a server counts as gone; while it prepares a dump it sends one every second."""

_LOOK = 0.2  # seconds between two looks at the clock and the stop button
_PIECE = 256 << 10
_MARK = 40  # bytes that end a dump whose length nobody knows (Redis: replication.c, "$EOF:")

Word = bytes | str | int
Value = Any
"""What a server replies: bytes, int, None, a list of them, or a :class:`Refusal`."""


class Refusal(Exception):
    """An error as the server words it."""


class Connection:
    """One connection, logged in. Use it in a ``with`` block.

    Raises ``Unavailable`` where nobody answers or ``limit`` seconds are over, ``Denied``, ``Cancelled``.
    """

    def __init__(self, server: Server, cancel: Cancel, limit: float | None = None) -> None:
        self._server = server
        self._cancel = cancel
        self._limit = limit
        self._end = None if limit is None else time.monotonic() + limit
        self._data = bytearray()
        self._closed = False
        self._socket = _connect(server)
        try:
            self._log_in()
        except BaseException:
            self._socket.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()
        self._socket.close()

    def close(self) -> None:
        """Make every call end soon, in whatever thread it is."""
        self._closed = True
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def call(self, *words: Word) -> Value:
        """The reply to one command. Raises ``HoldfastError`` with the server's words where it refuses."""
        (reply,) = self.calls([words])
        if isinstance(reply, Refusal):
            raise refused(reply)
        return reply

    def calls(self, commands: Sequence[Sequence[Word]]) -> list[Value]:
        """The replies to several commands that are sent at once; a :class:`Refusal` stands for itself."""
        self._send(b"".join(map(_packed, commands)))
        return [self._reply() for _ in commands]

    def dump(self) -> Iterator[bytes]:
        """All that the server holds, as the bytes of an RDB file: what a replica that joins is given.

        It ends where the server says that it ends: a connection that breaks off before raises ``Unavailable``.
        """
        # refused by servers that do not know them: then they give the length first, and what changes afterwards
        self.calls([("REPLCONF", "capa", "eof"), ("REPLCONF", "rdb-only", 1)])
        self._send(b"SYNC\r\n")
        while not (line := self._line()):
            pass  # it is preparing
        if line[:1] == b"-":
            raise refused(Refusal(line[1:].decode("utf-8", "replace")))
        if line[:5] == b"$EOF:" and len(line) == 5 + _MARK:
            yield from self._until(line[5:])
        elif line[:1] == b"$" and line[1:].isdigit():
            yield from self._exactly(int(line[1:]))
        else:
            raise self._senseless()

    def _until(self, mark: bytes) -> Iterator[bytes]:
        while not self._data.endswith(mark):  # it sends nothing behind the mark until we speak again
            if len(self._data) > _PIECE:
                yield self._take(len(self._data) - _MARK)
            self._fill()
        yield self._take(len(self._data) - _MARK)

    def _exactly(self, left: int) -> Iterator[bytes]:
        while left:
            if not self._data:
                self._fill()
            piece = self._take(min(left, len(self._data)))
            left -= len(piece)
            yield piece

    def _log_in(self) -> None:
        password = self._server.find_password()
        if not password:
            return
        user = [self._server.user] if self._server.user else []
        (reply,) = self.calls([("AUTH", *user, password)])
        if isinstance(reply, Refusal) and "without any password" not in str(reply):
            raise refused(reply)

    def _reply(self) -> Value:
        line = self._line()
        kind, rest = line[:1], line[1:]
        if kind == b"+":
            return rest
        if kind == b"-":
            return Refusal(rest.decode("utf-8", "replace"))
        try:
            number = int(rest)
        except ValueError:
            raise self._senseless() from None
        if kind == b":":
            return number
        if kind in (b"$", b"*") and number < 0:
            return None
        if kind == b"$":
            while len(self._data) < number + 2:
                self._fill()
            return self._take(number + 2)[:-2]
        if kind == b"*":
            return [self._reply() for _ in range(number)]
        raise self._senseless()

    def _line(self) -> bytes:
        while (end := self._data.find(b"\n")) < 0:
            if len(self._data) > _PIECE:
                raise self._senseless()
            self._fill()
        return self._take(end + 1).rstrip(b"\r\n")

    def _senseless(self) -> Corrupt:
        return Corrupt(f"{self._server.label} does not speak as Redis does", hint="Is this its port? TLS: rediss://")

    def _take(self, count: int) -> bytes:
        taken = bytes(self._data[:count])
        del self._data[:count]
        return taken

    def _fill(self) -> None:
        silent = time.monotonic() + SILENCE
        while True:
            self._look(silent)
            try:
                data = self._socket.recv(_PIECE)
            except TimeoutError:
                continue
            except OSError as error:
                raise self._gone(error) from error
            if not data:
                raise self._gone(None)
            self._data += data
            return

    def _send(self, data: bytes) -> None:
        view, silent = memoryview(data), time.monotonic() + SILENCE
        while view:
            self._look(silent)
            try:
                count = self._socket.send(view[:_PIECE])
            except TimeoutError:
                continue
            except OSError as error:
                raise self._gone(error) from error
            view, silent = view[count:], time.monotonic() + SILENCE

    def _look(self, silent: float) -> None:
        self._cancel.check()
        if self._closed or abandoned():
            raise self._gone(None)
        now = time.monotonic()
        if self._end is not None and now > self._end:
            raise Unavailable(f"Redis took longer than its limit of {self._limit:g} s and was left.")
        if now > silent:
            raise Unavailable(f"{self._server.label} has said nothing for {SILENCE:g} s", hint="Does Redis hang?")

    def _gone(self, error: OSError | None) -> Unavailable:
        why = f": {error.strerror or error}" if error is not None else ""
        return Unavailable(
            f"Redis ended the connection to {self._server.label} too early{why}", hint="What does its log say?"
        )


def refused(reply: Refusal) -> HoldfastError:
    """What the server said, as an error of ours."""
    text = str(reply)
    code = text.partition(" ")[0]
    if code in ("NOAUTH", "WRONGPASS", "NOPERM"):
        return Denied(
            f"Redis refuses: {text}",
            hint="The password is taken from REDISCLI_AUTH, or from ?password_file=FILE in the URL; the user from the"
            " URL. Saving needs the right to +sync and +replconf.",
        )
    if code in ("LOADING", "NOMASTERLINK", "BUSY", "MASTERDOWN"):
        return Unavailable(f"Redis is not ready: {text}", hint="Try again in a while.")
    return HoldfastError(f"Redis refuses: {text}")


def _connect(server: Server) -> socket.socket:
    try:
        if server.socket:
            link = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                link.settimeout(15.0)
                link.connect(server.socket)
            except BaseException:
                link.close()
                raise
        else:
            link = socket.create_connection((server.host, server.port), timeout=15.0)
            link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if server.tls:
            link = _sealed(link, server)
    except OSError as error:
        raise Unavailable(
            f"no Redis answers at {server.label}: {error.strerror or error}", hint="Is it running, and is it this port?"
        ) from error
    link.settimeout(_LOOK)
    return link


def _sealed(link: socket.socket, server: Server) -> socket.socket:
    import ssl  # 10 ms that few need

    try:
        context = ssl.create_default_context(cafile=server.ca or None)
        if server.cert:
            context.load_cert_chain(server.cert, server.key or None)
        return context.wrap_socket(link, server_hostname=server.host)
    except BaseException:
        link.close()
        raise


def _packed(words: Sequence[Word]) -> bytes:
    raw = [word if isinstance(word, bytes) else os.fsencode(str(word)) for word in words]
    return b"*%d\r\n" % len(raw) + b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in raw)
