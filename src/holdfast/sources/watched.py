"""A server of our own for a moment: started as an unprivileged user, and ended with us even where we are killed."""

from __future__ import annotations

import contextlib
import os
import pwd
import signal
import stat
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager

from holdfast.files.scratch import scratch_folder
from holdfast.kernel.cancel import Cancel
from holdfast.kernel.clock import Clock
from holdfast.kernel.errors import HoldfastError, NoSpace, NotFound, Unavailable
from holdfast.kernel.values import dataclass

_LONGEST_PATH = 70
"""Of the folder for a socket, in bytes. A socket's whole path has at most 107 (104 on macOS)."""

_START_SECONDS = 120.0  # a loaded machine, and a disk that has to be waited for
_END_SECONDS = 12.0
_LOOK_SECONDS = 0.05
_TAIL = 600  # characters of the server's log in a message

# The inner shell reads a pipe that only we could write to, and nobody ever does: it ends with us, by kill -9 too. $1 is
# the signal by which the server ends at once and tidily, the rest is the server.
_WATCH = """
number=$1; shift
exec 3<&0 </dev/null
"$@" 3<&- &
server=$!
(read -r nothing <&3; kill -s "$number" $server; sleep 8; kill -s KILL $server) 2>/dev/null &
watcher=$!
wait $server
code=$?
kill -s KILL $watcher 2>/dev/null
exit $code
"""


@dataclass(frozen=True, slots=True)
class Account:
    """Who a server runs as; both None where that is ourselves."""

    user: int | None = None
    group: int | None = None

    @property
    def owner(self) -> tuple[int, int] | None:
        """For a folder that the server writes to."""
        return None if self.user is None or self.group is None else (self.user, self.group)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a server keeps its data, and the folder of its socket, whose path is short."""

    data: str
    sockets: str


def unprivileged(*names: str) -> Account:
    """Where we are root, a user that may do nothing: servers refuse to run as root. Raises ``NotFound``.

    ``nobody``, or else one of ``names``: the user of the machine's own server could reach its data.
    """
    if os.geteuid() != 0:
        return Account()
    for name in ("nobody", *names):
        with contextlib.suppress(KeyError):
            found = pwd.getpwnam(name)
            return Account(found.pw_uid, found.pw_gid)
    raise NotFound(f"there is no user {names[0]!r} as whom a server could run", hint="Run the drill as another user.")


def temporary_bases() -> list[bytes]:
    """Where scratch folders may be besides the place that the user chose."""
    return [os.fsencode(place) for place in dict.fromkeys((tempfile.gettempdir(), "/var/tmp", "/tmp"))]


@contextmanager
def place_for(base: bytes, account: Account, needed: int) -> Iterator[Place]:
    """Folders for a server of ``account``: in ``base`` if that user gets there, else in a folder for temporary files.

    Raises ``NoSpace`` where there is no room for ``needed`` bytes. Both folders are removed on leaving, or by the next
    drill.
    """
    bases = [base, *temporary_bases()]
    with ExitStack() as stack:
        fitting = [place for place in bases if _reaches(place, account) and _free(place) >= needed]
        if not fitting:
            raise NoSpace(
                f"a scratch server needs {needed:,} bytes, and no place that it may use has them",
                hint="Name a place with more room by --scratch, or a server in the plan's drill.",
            )
        data = stack.enter_context(scratch_folder(fitting[0], owner=account.owner)).path
        sockets = data
        if len(sockets) > _LONGEST_PATH:
            short = [place for place in bases if len(place) + 30 <= _LONGEST_PATH and _reaches(place, account)]
            if not short:
                raise Unavailable("there is no folder with a short enough path for a socket", hint="Set TMPDIR=/tmp.")
            sockets = stack.enter_context(scratch_folder(short[0], owner=account.owner)).path
        yield Place(os.fsdecode(data), os.fsdecode(sockets))


@contextmanager
def server_running(
    words: Sequence[str],
    *,
    name: str,
    place: Place,
    account: Account,
    end: str,
    socket: str,
    answers: Callable[[], bool],
    clock: Clock,
    cancel: Cancel,
) -> Iterator[None]:
    """Run a server until the context is left, or until this process is no more.

    ``end`` is the signal that ends it at once. Once its ``socket`` is there, ``answers`` is called until it is true; a
    ``HoldfastError`` of it means not yet. Raises ``Unavailable`` with the server's last words where it does not come
    up, ``NotFound`` where it cannot be started, or cannot be asked because a program is missing.
    """
    log_path = os.path.join(place.data, "log")
    log = os.open(log_path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        child = start_as(["/bin/sh", "-c", _WATCH, "sh", end, *words], account, place.data, log)
        try:
            deadline = clock.monotonic() + _START_SECONDS
            while not (os.path.exists(socket) and _is_true(answers)):
                cancel.check()
                if child.poll() is not None or clock.monotonic() > deadline:
                    raise Unavailable(
                        f"the scratch server ({name}) did not start: {_tail(log)}",
                        hint="Name a server in the plan's drill, or leave databases out by --no-databases.",
                    )
                clock.sleep(_LOOK_SECONDS)
            yield
        finally:
            _end(child)
    finally:
        os.close(log)


def _is_true(answers: Callable[[], bool]) -> bool:
    try:
        return answers()
    except NotFound:
        raise
    except HoldfastError:
        return False


def start_as(words: Sequence[str], account: Account, folder: str, log: int) -> subprocess.Popen[bytes]:
    """Start a program as ``account``, in a session of its own, with as little of our environment as will do."""
    environ = {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "HOME": folder}
    groups: list[int] | None = None if account.user is None else []
    try:
        return subprocess.Popen(
            words,
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            env=environ,
            cwd=folder,
            start_new_session=True,
            user=account.user,
            group=account.group,
            extra_groups=groups,
        )
    except OSError as error:
        raise NotFound(f"a scratch server cannot be started: {error.strerror or error}") from error


def prepare(words: Sequence[str], *, name: str, place: Place, account: Account, cancel: Cancel, clock: Clock) -> None:
    """Run a program that prepares a server's data, to its end. Raises ``HoldfastError`` with its last words."""
    log = os.open(os.path.join(place.data, "log"), os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        child = start_as(words, account, place.data, log)
        try:
            deadline = clock.monotonic() + _START_SECONDS
            while child.poll() is None:
                cancel.check()
                if clock.monotonic() > deadline:
                    raise Unavailable(f"{name} did not end within {_START_SECONDS:g} s")
                clock.sleep(_LOOK_SECONDS)
            if child.returncode:
                raise HoldfastError(f"{name} failed: {_tail(log)}", hint="Name a server in the plan's drill.")
        finally:
            _end(child)
    finally:
        os.close(log)


def _end(child: subprocess.Popen[bytes]) -> None:
    """Let the watcher end the server; what is left of the session after that is killed."""
    if child.stdin is not None:
        child.stdin.close()
    with contextlib.suppress(subprocess.TimeoutExpired):
        child.wait(_END_SECONDS)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()


def _tail(log: int) -> str:
    size = os.fstat(log).st_size
    text = os.pread(log, 4 * _TAIL, max(0, size - 4 * _TAIL)).decode("utf-8", "replace")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return " / ".join(lines[-3:])[-_TAIL:] or "it said nothing"


def _free(base: bytes) -> int:
    while not os.path.isdir(base) and base != os.path.dirname(base):
        base = os.path.dirname(base)
    found = os.statvfs(base)
    return found.f_bavail * found.f_frsize


def _reaches(base: bytes, account: Account) -> bool:
    """Whether ``account`` gets into ``base``, and we may make folders there (it need not be there yet, then we may)."""
    place = os.path.realpath(base)
    while not os.path.isdir(place) and place != os.path.dirname(place):
        place = os.path.dirname(place)
    if not os.access(place, os.W_OK | os.X_OK):
        return False
    if account.user is None:
        return True
    if place != os.path.realpath(base):
        return False  # it would be made for us alone
    while True:
        st = os.stat(place)
        shift = 6 if st.st_uid == account.user else 3 if st.st_gid == account.group else 0
        if not st.st_mode >> shift & stat.S_IXOTH:
            return False
        if place == os.path.dirname(place):
            return True
        place = os.path.dirname(place)
