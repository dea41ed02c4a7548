"""The users' side of a clerk process: starting it, lines to it, and what became of it."""

from __future__ import annotations

import contextlib
import os
import pickle
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable

from holdfast.kernel.errors import HoldfastError, Unavailable
from holdfast.storage import wire
from holdfast.storage.wire import Opening, take, take_into, widen

Tell = Callable[[str], None]

CONFIRMED = sys.platform == "darwin"
"""Whether to keep the clerk's end of a new line open until it has arrived: macOS may lose it (python/cpython#58874)."""

_BOOT = (
    "import sys; path = sys.argv[1]; path in sys.path or sys.path.insert(0, path); "
    "from holdfast.storage.clerk import serve; serve()"
)
_PACKAGES = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
_LOOK_MILLISECONDS = 250  # how soon a waiting call notices that the run is to end

HANG_UP_SECONDS = 30.0
"""So long a call may still take after the run was asked to end: an upload under way gets its chance, a server that went
silent does not hold up the end."""

_ENDING_SECONDS = 1.5  # a clerk takes up to a second to part from its place


class Gone(Exception):
    """The clerk ``hired`` died."""

    def __init__(self, hired: Hired) -> None:
        super().__init__("the clerk died")
        self.hired = hired


class Hired:
    """A running clerk. It lives as long as any process holds the life line, which forked children inherit."""

    def __init__(self, opening: Opening) -> None:
        """Start it without waiting for it. Raises ``Unavailable`` where no process can be started."""
        self._life, far = socket.socketpair()
        self._home = os.getpid()
        self._unread = b""
        self._hearing = threading.Lock()
        with far:
            self._process = _started(far)
        with contextlib.suppress(OSError):  # it died at once: the first line tells
            opening.send(self._life)

    @property
    def is_ours(self) -> bool:
        """Whether this very process started it; only that one hears its sentences."""
        return self._home == os.getpid()

    @property
    def pid(self) -> int:
        """The clerk's process id."""
        return self._process.pid

    def fileno(self) -> int:
        """The life line, for ``poll``; -1 once it is cut."""
        return self._life.fileno()

    def line(self) -> socket.socket:
        """A new line. Raises :class:`Gone`."""
        near, far = socket.socketpair()
        widen(near)
        try:
            with far:
                socket.send_fds(self._life, [wire.LINE_CONFIRMED if CONFIRMED else wire.LINE], [far.fileno()])
                if CONFIRMED:
                    self._await_confirmation(near)
        except (OSError, EOFError):
            near.close()
            raise Gone(self) from None
        return near

    def hear(self, tell: Tell) -> bool:
        """Pass on the sentences that have arrived; false when no more will come."""
        with self._hearing:
            return self._hear(tell)

    def dismiss(self, tell: Tell) -> None:
        """Let go of it. In the process that started it, wait a moment for its end, so that no zombie stays."""
        if self.is_ours:
            self.hear(tell)
        self._life.close()
        if self.is_ours:
            with contextlib.suppress(subprocess.TimeoutExpired):  # other processes still use it
                self._process.wait(_ENDING_SECONDS)

    def how_it_ended(self) -> str:
        """Such as ``killed by SIGKILL``; empty where this is not known."""
        if not self.is_ours:
            return ""
        try:
            code = self._process.wait(_ENDING_SECONDS)
        except subprocess.TimeoutExpired:
            return ""
        return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"

    def _hear(self, tell: Tell) -> bool:
        while True:
            try:
                data = self._life.recv(4096, socket.MSG_DONTWAIT)
            except (BlockingIOError, InterruptedError):
                return True
            except OSError:
                return False
            if not data:
                return False
            self._unread += data
            while len(self._unread) >= wire.NOTICE.size:
                end = wire.NOTICE.size + wire.NOTICE.unpack_from(self._unread)[0]
                if len(self._unread) < end:
                    break
                words, self._unread = self._unread[wire.NOTICE.size : end], self._unread[end:]
                tell(words.decode("utf-8", "replace"))

    def _await_confirmation(self, near: socket.socket) -> None:
        poll = select.poll()
        poll.register(near, select.POLLIN)
        poll.register(self._life, 0)  # only its hanging up
        while not (ready := dict(poll.poll(_LOOK_MILLISECONDS))).get(near.fileno()):
            if ready:
                raise EOFError
        take(near, len(wire.LINE_CONFIRMED))


class Connection:
    """The user's end of one line: ``ask``, then ``answer`` and take what it announced."""

    def __init__(self, hired: Hired, tell: Tell, in_hurry: Callable[[], bool]) -> None:
        """Raises :class:`Gone`."""
        self.hired = hired
        self._socket = hired.line()
        self._tell = tell
        self._in_hurry = in_hurry
        self._hurried = False
        self._busy = False
        self._last = False
        self._poll = select.poll()
        self._poll.register(self._socket, select.POLLIN)
        if hired.is_ours and hired.fileno() >= 0:
            self._poll.register(hired, select.POLLIN)

    @property
    def is_usable(self) -> bool:
        """Whether another request may be sent: the last answer was taken to its end."""
        return not self._busy and not self._hurried

    def ask(
        self, operation: int, name: str, offset: int = 0, length: int = 0, content: memoryview | None = None
    ) -> Connection:
        """Send a request. Raises :class:`Gone`."""
        self._busy, self._last = True, False
        words = name.encode("utf-8", "surrogateescape")
        try:
            self._socket.sendall(wire.REQUEST.pack(operation, len(words), offset, length) + words)
            if content:
                self._socket.sendall(content)
        except OSError:
            raise Gone(self.hired) from None
        return self

    def answer(self) -> tuple[int, int]:
        """Wait for the next frame: its kind and size.

        Raises what the call raised in the clerk, :class:`Gone`, and ``Unavailable`` where the run is to end and nothing
        comes.
        """
        self._wait()
        try:
            kind, size = wire.ANSWER.unpack(take(self._socket, wire.ANSWER.size))
        except (OSError, EOFError):
            raise Gone(self.hired) from None
        self._last = kind in (wire.DONE, wire.FAILED)
        if kind == wire.FAILED:
            error: HoldfastError = pickle.loads(self.take(size))
            raise error
        return kind, size

    def take(self, size: int) -> bytes:
        """What the frame holds. Raises :class:`Gone`."""
        try:
            data = take(self._socket, size)
        except (OSError, EOFError):
            raise Gone(self.hired) from None
        self._busy = not self._last
        return data

    def take_into(self, view: memoryview) -> None:
        """What the frame holds, received into ``view``. Raises :class:`Gone`."""
        try:
            take_into(self._socket, view)
        except (OSError, EOFError):
            raise Gone(self.hired) from None
        self._busy = not self._last

    def finish(self) -> bytes:
        """:meth:`answer` and all of it, for calls that answer in one frame."""
        return self.take(self.answer()[1])

    def close(self) -> None:
        """Hang up; what is under way for this line is not tried again."""
        self._socket.close()

    def _wait(self) -> None:
        """Return when something can be read, passing on meanwhile what the clerk has to tell."""
        number = self._socket.fileno()
        hang_up_at: float | None = None
        while True:
            ready = dict(self._poll.poll(_LOOK_MILLISECONDS))
            if number in ready:
                return
            if ready and not self.hired.hear(self._tell):
                self._poll.unregister(self.hired)
            if not self._hurried and self._in_hurry():
                self._hurried = True
                hang_up_at = time.monotonic() + HANG_UP_SECONDS
                with contextlib.suppress(OSError):  # it is gone: the next look finds that out
                    self._socket.sendall(wire.HURRY)
            if hang_up_at is not None and time.monotonic() > hang_up_at:
                raise Unavailable(f"the storage did not answer within {HANG_UP_SECONDS:.0f} s when the run was to end")


def _started(life: socket.socket) -> subprocess.Popen[bytes]:
    """The new process with ``life`` as its standard input.

    In a session of its own, so that neither Ctrl-C nor a closed terminal ends it before its users. ``-P`` keeps the
    current folder, whose files may be named like any module, out of its path.
    """
    debug = os.environ.get("HOLDFAST_DEBUG") == "1"
    try:
        process: subprocess.Popen[bytes] = subprocess.Popen(
            [sys.executable, "-I" if sys.flags.isolated else "-P", "-c", _BOOT, _PACKAGES],
            stdin=life.fileno(),
            stdout=subprocess.DEVNULL,
            stderr=None if debug else subprocess.DEVNULL,
            start_new_session=True,
        )
        return process
    except OSError as error:
        raise Unavailable(
            f"cannot start the process that talks to the storage: {error.strerror}",
            hint="The machine may be out of memory or of processes (ulimit -u).",
        ) from error
