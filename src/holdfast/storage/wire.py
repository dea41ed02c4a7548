"""What a storage's users and its clerk process say to each other: small binary frames over Unix sockets.

On a *line* (one socket pair, one call at a time) a request is ``REQUEST``, the name, and for WRITE and REPLACE the
content; the answer is any number of ``MORE`` frames (listings) and then ``DONE`` or ``FAILED``. While it waits, the
user may send ``HURRY``, after which the line is not used again. On the *life line* the user sends its ``Opening``
and then one byte for each new line with the line's end attached; the clerk sends sentences for the person. Both ends
are the same program on the same machine, so pickles are as good as our own code.
"""

from __future__ import annotations

import contextlib
import pickle
import socket
import struct

from holdfast.kernel.values import dataclass
from holdfast.storage.manner import Manner

PREPARE, LIST, READ, FILL, SIZE, WRITE, ADOPT, DELETE, REPLACE = range(1, 10)
HURRY = b"!"
"""Sent during a call: the run is to end, so trying again for long makes no sense any more."""

LINE, LINE_CONFIRMED = b"l", b"c"
"""A new line; a new line whose arrival the clerk is to confirm by one byte on it."""

REQUEST = struct.Struct("<BxxxIqq")
"""Operation, length of the name, offset (or size of the content), length (-1: to the end)."""

ANSWER = struct.Struct("<BxxxxxxxQ")
"""Kind, and how many bytes follow."""

DONE, FAILED, MORE = range(3)

SIZE_ONLY = struct.Struct("<Q")
NOTICE = struct.Struct("<I")

LARGEST_FILL = 16 << 20
"""Longer reads into a buffer are made in several calls: the clerk holds this much for each line."""

BUFFER = 1 << 20
"""Bytes under way in a socket: reads of 16 MiB ran at 2.0 GB/s with it, at 1.7 GB/s with the usual 208 KiB."""


@dataclass(frozen=True, slots=True)
class Opening:
    """What a clerk needs to know: which function opens the place (``module:function``), and what it gets."""

    opener: str
    text: str
    manner: Manner

    def send(self, line: socket.socket) -> None:
        message = pickle.dumps((self.opener, self.text, self.manner), 5)
        line.sendall(NOTICE.pack(len(message)) + message)

    @staticmethod
    def receive(line: socket.socket) -> Opening:
        head = take(line, NOTICE.size)
        return Opening(*pickle.loads(take(line, NOTICE.unpack(head)[0])))


def widen(line: socket.socket) -> None:
    """Let more bytes be under way, so that the two processes switch less often."""
    for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
        with contextlib.suppress(OSError):  # as far as the system allows
            line.setsockopt(socket.SOL_SOCKET, option, BUFFER)


def take(line: socket.socket, size: int) -> bytes:
    """Exactly so many bytes. Raises ``EOFError`` where the other end is gone."""
    data = line.recv(size, socket.MSG_WAITALL) if size else b""
    if len(data) == size:
        return data
    pieces = [data]
    while data and (size := size - len(data)):
        data = line.recv(size, socket.MSG_WAITALL)
        pieces.append(data)
    if size:
        raise EOFError
    return b"".join(pieces)


def take_into(line: socket.socket, view: memoryview) -> None:
    """Fill ``view``. Raises ``EOFError`` where the other end is gone."""
    while view:
        count = line.recv_into(view, 0, socket.MSG_WAITALL)
        if not count:
            raise EOFError
        view = view[count:]
