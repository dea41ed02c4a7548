"""The clerk: a process of its own that holds the connections to a place, and serves the processes of a run.

Network libraries neither survive a fork nor like to be used beside one (obstore hangs), and the engine forks. So the
clerk is spawned, never forks, and answers calls that come through Unix sockets; see ``apart`` for the other side.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import pickle
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from typing import NoReturn, Protocol

from holdfast.kernel.errors import HoldfastError, Internal
from holdfast.storage import wire
from holdfast.storage.base import Storage
from holdfast.storage.manner import Manner
from holdfast.storage.retrying import Pause
from holdfast.storage.wire import Opening, take, take_into, widen

HURRY_SECONDS = 5.0
"""So long a call is still tried again after the user asked the run to end."""

_KEPT_BUFFER = 16 << 20
_BATCH, _BATCH_SECONDS = 1000, 0.1  # files that are listed in one frame, and how long the first of them may wait
_CLOSING_SECONDS = 1.0


class Opener(Protocol):
    """Opens a place in the clerk, as ``locations.open_directly`` does."""

    def __call__(self, text: str, manner: Manner, *, pause: Pause, tell: Callable[[str], None]) -> Storage: ...


def serve() -> NoReturn:
    """Be the clerk: standard input is the life line. Ends when its last holder is gone, whatever is under way then."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # they are meant for the users, who may still need the place to end well
    life = socket.socket(fileno=os.dup(0))
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    status = 0
    try:
        clerk = Clerk(life, Opening.receive(life))
        while clerk.welcome():
            pass
        clerk.close()
    except EOFError:
        pass
    except BaseException:
        sys.excepthook(*sys.exc_info())
        status = 1
    finally:
        os._exit(status)  # threads may wait for the network: nobody wants their results any more


class Clerk:
    """One place, opened at the first call, and a thread for every line."""

    def __init__(self, life: socket.socket, opening: Opening) -> None:
        self._life = life
        self._opening = opening
        self._place: Storage | None = None
        self._lock = threading.Lock()
        self._telling = threading.Lock()
        self._here = threading.local()

    def welcome(self) -> bool:
        """Wait for the next line and serve it in a thread; false when nobody holds the life line any more."""
        try:
            word, ends, _, _ = socket.recv_fds(self._life, 1, 1)
        except ConnectionResetError:  # the last user died with sentences unread
            return False
        for end in ends:
            os.set_inheritable(end, False)
            line = socket.socket(fileno=end)
            if word == wire.LINE_CONFIRMED:
                line.sendall(wire.LINE_CONFIRMED)
            threading.Thread(target=self._serve, args=(Line(line),), daemon=True).start()
        return bool(word)

    def close(self) -> None:
        """Part from the place politely, if that does not take long."""
        if self._place is not None:
            thread = threading.Thread(target=self._place.close, daemon=True)
            thread.start()
            thread.join(_CLOSING_SECONDS)

    def tell(self, words: str) -> None:
        """Send a sentence to the person at the other end of the life line."""
        message = words.encode("utf-8", "replace")
        with self._telling, contextlib.suppress(OSError):
            self._life.sendall(wire.NOTICE.pack(len(message)) + message)

    def pause(self, seconds: float) -> bool:
        """Wait on behalf of the call that this thread serves; true when its caller is gone or the run is to end."""
        line: Line = self._here.line
        return line.pause(seconds)

    def _serve(self, line: Line) -> None:
        self._here.line = line
        with contextlib.suppress(EOFError, OSError), line.socket:
            while True:
                request = line.request()
                try:
                    line.perform(self._opened(), *request)
                except HoldfastError as error:
                    line.fail(error)
                except OSError as error:
                    if line.is_cut:
                        raise
                    line.fail(_unexpected(error))
                except Exception as error:
                    line.fail(_unexpected(error))
                finally:
                    line.forget_content()

    def _opened(self) -> Storage:
        with self._lock:
            if self._place is None:
                module, _, function = self._opening.opener.partition(":")
                opener: Opener = getattr(importlib.import_module(module), function)
                self._place = opener(self._opening.text, self._opening.manner, pause=self.pause, tell=self.tell)
            return self._place


class Line:
    """The clerk's end of one line. Every answer is sent here."""

    def __init__(self, end: socket.socket) -> None:
        widen(end)
        self.socket = end
        self.is_cut = False
        self._buffer = bytearray()
        self._content = memoryview(b"")
        self._poll = select.poll()
        self._poll.register(end, select.POLLIN)
        self._hurried_until: float | None = None

    def request(self) -> tuple[int, str, int, int]:
        """The next request: operation, name, offset (or size), length. Raises ``EOFError`` when the user is gone."""
        operation, name_length, offset, length = wire.REQUEST.unpack(take(self.socket, wire.REQUEST.size))
        name = take(self.socket, name_length).decode("utf-8", "surrogateescape")
        if operation in (wire.WRITE, wire.REPLACE):
            self._content = self._room(offset)
            take_into(self.socket, self._content)
        return operation, name, offset, length

    def perform(self, place: Storage, operation: int, name: str, offset: int, length: int) -> None:
        """Make the call and send what came of it. Raises what the call raises."""
        if operation == wire.FILL:
            view = self._room(length)
            self._answer(view[: place.read_into(name, view, offset)])
        elif operation == wire.READ:
            self._answer(place.read(name, offset, None if length < 0 else length))
        elif operation == wire.SIZE:
            self._answer(wire.SIZE_ONLY.pack(place.size(name)))
        elif operation == wire.LIST:
            self._list(place, name)
        else:
            if operation == wire.WRITE:
                place.write(name, self._content)
            elif operation == wire.REPLACE:
                place.replace(name, self._content)
            elif operation == wire.DELETE:
                place.delete(name)
            elif operation == wire.ADOPT:
                final, _, path = name.partition("\0")
                place.adopt(path, final)
            elif operation == wire.PREPARE:
                place.prepare(name.split("\0") if name else [])
            self._answer(b"")

    def forget_content(self) -> None:
        """Give back the memory of a large wire.WRITE."""
        self._content = memoryview(b"")

    def fail(self, error: HoldfastError) -> None:
        """Send what went wrong."""
        try:
            message = pickle.dumps(error, 5)
        except Exception:  # a detail that cannot travel
            message = pickle.dumps(type(error)(error.message, hint=error.hint), 5)
        self._send(wire.FAILED, message)

    def pause(self, seconds: float) -> bool:
        """Wait; true when the user hung up, or is in a hurry and the time for that is over."""
        until = time.monotonic() + seconds
        while (left := min(until, self._hurried_until or until) - time.monotonic()) > 0:
            if self._poll.poll(left * 1000):
                if self._hurried_until is not None or self.socket.recv(1, socket.MSG_PEEK) != wire.HURRY:
                    return True
                self.socket.recv(1)
                self._hurried_until = time.monotonic() + HURRY_SECONDS
        return self._hurried_until is not None and self._hurried_until < until

    def _list(self, place: Storage, folder: str) -> None:
        batch: list[tuple[str, int]] = []
        sent_at = time.monotonic()
        for info in place.list(folder):
            batch.append((info.name, info.size))
            if len(batch) == _BATCH or time.monotonic() - sent_at > _BATCH_SECONDS:
                self._send(wire.MORE, pickle.dumps(batch, 5))
                batch.clear()
                sent_at = time.monotonic()
        self._send(wire.MORE, pickle.dumps(batch, 5))
        self._answer(b"")

    def _answer(self, content: bytes | memoryview) -> None:
        self._send(wire.DONE, content)

    def _send(self, kind: int, content: bytes | memoryview) -> None:
        head = wire.ANSWER.pack(kind, len(content))
        try:
            if len(content) < 4096:
                self.socket.sendall(head + bytes(content))
            else:
                self.socket.sendall(head, socket.MSG_MORE if hasattr(socket, "MSG_MORE") else 0)
                self.socket.sendall(content)
        except OSError:
            self.is_cut = True
            raise

    def _room(self, size: int) -> memoryview:
        """``size`` bytes to receive into, used again by the next call: fresh memory costs a page fault every 4 KiB."""
        if size > _KEPT_BUFFER:
            return memoryview(bytearray(size))
        if len(self._buffer) < size:
            self._buffer = bytearray(size)
        return memoryview(self._buffer)[:size]


def _unexpected(error: Exception) -> Internal:
    import traceback

    text = "".join(traceback.format_exception(error))
    return Internal(f"The storage failed unexpectedly: {type(error).__name__}: {error}", traceback=text)
