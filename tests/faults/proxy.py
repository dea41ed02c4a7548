"""A TCP proxy that makes the weather between client and server: slow, cut off, throttled, or answering by itself."""

from __future__ import annotations

import contextlib
import random
import select
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

STEP = 64 << 10


@dataclass(slots=True)
class Weather:
    """What happens on the way. May be changed at any time; it counts for the requests that begin after.

    ``latency``: seconds before a request goes on. ``resets``: the share of requests whose connection is reset, as
    chance (seeded) wants it before the request arrives, after it took effect, or in the middle of the answer. ``cuts``:
    after how many bytes each of the next requests of at least that size is reset. ``rate``: bytes a second, both ways
    together. ``answers``: what the proxy itself answers to the next requests, as (status, Retry-After or None).
    """

    latency: float = 0.0
    resets: float = 0.0
    cuts: deque[int] = field(default_factory=deque)
    rate: float | None = None
    answers: deque[tuple[int, str | None]] = field(default_factory=deque)


class Proxy:
    """Listens on ``port`` of loopback and passes everything on to ``upstream``. Counts what it did.

    A request begins where the client speaks after the server did, which is right for HTTP/1.1 without pipelining.
    """

    def __init__(self, upstream: int, seed: int = 1) -> None:
        self.weather = Weather()
        self.requests = self.resets_made = self.cuts_made = self.answers_made = 0
        self._upstream = upstream
        self._random = random.Random(seed)
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._free_at = 0.0
        self._listener = self._listen(0)
        self.port: int = self._listener.getsockname()[1]

    @contextlib.contextmanager
    def closed(self) -> Iterator[None]:
        """Nobody listens, and all connections are reset, until the end of the block."""
        self.close()
        yield
        self._listener = self._listen(self.port)

    def close(self) -> None:
        """Stop listening and reset all connections."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            for end in self._open:
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)

    def _listen(self, port: int) -> socket.socket:
        listener = socket.create_server(("127.0.0.1", port), backlog=64)
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()
        return listener

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        try:
            server = socket.create_connection(("127.0.0.1", self._upstream))
        except OSError:
            return _reset(client)
        with self._lock:
            self._open |= {client, server}
        try:
            _Passing(self, client, server).run()
        except OSError:
            _reset(client)
        finally:
            with self._lock:
                self._open -= {client, server}
            client.close()
            server.close()

    def begin(self) -> _Fate:
        """A request begins: what becomes of it."""
        weather = self.weather
        with self._lock:
            self.requests += 1
            if weather.answers:
                self.answers_made += 1
                return _Fate(answer=weather.answers.popleft())
            if self._random.random() < weather.resets:
                self.resets_made += 1
                return _Fate(reset=self._random.choice(("before", "after", "during")))
            return _Fate(cut_at=weather.cuts[0] if weather.cuts else None)

    def cut(self) -> None:
        """A cut was made."""
        with self._lock:
            self.cuts_made += 1
            if self.weather.cuts:
                self.weather.cuts.popleft()

    def throttle(self, size: int) -> None:
        """Wait until ``size`` more bytes may pass."""
        if self.weather.rate is None:
            return
        with self._lock:
            self._free_at = max(self._free_at, time.monotonic()) + size / self.weather.rate
            left = self._free_at - time.monotonic()
        time.sleep(max(left, 0.0))


@dataclass(frozen=True, slots=True)
class _Fate:
    reset: str = ""
    cut_at: int | None = None
    answer: tuple[int, str | None] | None = None


class _Passing:
    """One connection."""

    def __init__(self, proxy: Proxy, client: socket.socket, server: socket.socket) -> None:
        self.proxy = proxy
        self.client = client
        self.server = server
        self.fate = _Fate()
        self.sent = 0
        self.asking = False

    def run(self) -> None:
        """Pass on until one side ends. Raises ``OSError`` where the client is to be reset."""
        while True:
            ready, _, _ = select.select([self.client, self.server], [], [])
            if self.client in ready:
                data = self.client.recv(STEP)
                if not data:
                    return
                if not self.asking:
                    self.asking, self.sent, self.fate = True, 0, self.proxy.begin()
                    time.sleep(self.proxy.weather.latency)
                    if self.fate.answer is not None:
                        self._answer()
                        return
                    if self.fate.reset == "before":
                        raise ConnectionResetError
                self._up(data)
            elif self.server in ready:
                data = self.server.recv(STEP)
                if not data:
                    return
                self.asking = False
                if self.fate.reset == "after":
                    raise ConnectionResetError
                if self.fate.reset == "during":
                    self.client.sendall(data[: len(data) // 2])
                    raise ConnectionResetError
                self.proxy.throttle(len(data))
                self.client.sendall(data)

    def _up(self, data: bytes) -> None:
        cut_at = self.fate.cut_at
        if cut_at is not None and self.sent + len(data) >= cut_at:
            self.server.sendall(data[: cut_at - self.sent])
            self.proxy.cut()
            raise ConnectionResetError
        self.proxy.throttle(len(data))
        self.server.sendall(data)
        self.sent += len(data)

    def _answer(self) -> None:
        """Take the whole request, so that the client gets to read, and answer it."""
        assert self.fate.answer is not None
        self.client.settimeout(0.3)
        with contextlib.suppress(TimeoutError):
            while self.client.recv(STEP):
                pass
        status, retry_after = self.fate.answer
        lines = [f"HTTP/1.1 {status} Made by the proxy", "Content-Length: 0", "Connection: close"]
        lines += [f"Retry-After: {retry_after}"] if retry_after is not None else []
        self.client.sendall("\r\n".join([*lines, "", ""]).encode())


def _reset(end: socket.socket) -> None:
    """Close so that the other side gets a reset (RST) and not an orderly end."""
    with contextlib.suppress(OSError):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    end.close()
