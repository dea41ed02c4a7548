"""Where everything of a versioned vault lies: plain files at their absolute paths, the rest in one hidden folder."""

from __future__ import annotations

import contextlib
import os

from holdfast.files.safepath import translated
from holdfast.kernel.errors import Corrupt, HoldfastError, Invalid, NotFound
from holdfast.kernel.values import dataclass
from holdfast.vaults.marker import FOLDER, Marker, read_marker, write_marker

KIND = "versioned"

_ESCAPED = FOLDER + b"/current"
"""Where the one source folder stands that has the name of our own: ``/.holdfast``."""


@dataclass(frozen=True, slots=True)
class Layout:
    """The places in the vault at ``root`` (an absolute path)."""

    root: bytes

    @property
    def folder(self) -> bytes:
        return self.root + b"/" + FOLDER

    @property
    def lock(self) -> bytes:
        return self.folder + b"/lock"

    @property
    def manifest(self) -> bytes:
        return self.folder + b"/manifest"

    @property
    def history(self) -> bytes:
        return self.folder + b"/history"

    @property
    def staging(self) -> bytes:
        return self.folder + b"/staging"

    @property
    def aside(self) -> bytes:
        return self.folder + b"/aside"

    @property
    def index(self) -> bytes:
        return self.folder + b"/index.sqlite"

    def stage(self, step: int) -> bytes:
        """The folder in which the new files of a step wait."""
        return self.staging + b"/" + step_name(step)

    def former(self, history: str) -> bytes:
        """The file that a manifest calls ``history``. Raises ``Corrupt`` for what leads out of the vault."""
        step, _, name = history.partition("/")
        if not (step.isdigit() and name.partition(".")[0].isdigit() and "/" not in name):
            raise Corrupt(f"{history!r} is no place of a former version", hint="Run 'holdfast check' on the vault.")
        return self.history + b"/" + os.fsencode(history)


def step_name(step: int) -> bytes:
    """``0000000012``: sorts by name as it does by number."""
    return b"%010d" % step


def place(path: bytes) -> bytes:
    """Where the current copy of a source path (``/home/me``) is, relative to the vault's root."""
    relative = path[1:]
    if relative == FOLDER or relative.startswith(FOLDER + b"/"):
        return _ESCAPED + path
    return relative


def create(root: bytes, identifier: bytes) -> Layout:
    """Make an empty vault in a folder that is missing or empty; ``identifier``: 32 random bytes.

    Raises ``Invalid`` where something else is, and the errors of ``translated``.
    """
    layout = Layout(os.path.abspath(root))
    shown = os.fsdecode(layout.root)
    try:
        if os.path.lexists(layout.root) and (not os.path.isdir(layout.root) or os.listdir(layout.root)):
            raise Invalid(
                f"{shown} is not an empty folder.", hint="Choose an empty folder, or one that does not exist."
            )
        write_marker(layout.root, Marker(KIND, identifier))
        _make_folders(layout)
    except OSError as error:
        raise translated(error, "make a vault in", layout.root) from error
    return layout


def is_versioned(root: bytes) -> bool:
    """Whether a versioned vault is in the folder ``root``. Never raises."""
    try:
        marker = read_marker(root)
    except (OSError, HoldfastError):
        return False
    return marker is not None and marker.kind == KIND


def open_layout(root: bytes) -> Layout:
    """The vault in ``root``. Raises ``NotFound``, ``Unsupported`` (a later format), ``Corrupt``, ``Denied``."""
    layout = Layout(os.path.abspath(root))
    try:
        marker = read_marker(layout.root)
        if marker is None or marker.kind != KIND:
            shown = os.fsdecode(layout.root)
            raise NotFound(
                f"There is no versioned vault in {shown}.", hint=f"'holdfast init --kind versioned {shown}' makes one."
            )
        if os.access(layout.folder, os.W_OK) and not os.path.isdir(layout.staging):
            _make_folders(layout)  # it was being made when the power failed
    except OSError as error:
        raise translated(error, "open the vault", layout.root) from error
    return layout


def _make_folders(layout: Layout) -> None:
    for folder in (layout.manifest, layout.history, layout.staging):
        os.makedirs(folder, mode=0o700, exist_ok=True)
    os.close(os.open(layout.lock, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))


def write_durable(path: bytes, data: bytes) -> None:
    """A file of these bytes under its final name, or none: temporary file, fsync, rename, fsync of the folder."""
    temporary = path + b".tmp"
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(fd, view) :]
        os.fsync(fd)
    finally:
        os.close(fd)
    os.rename(temporary, path)
    flush_folder(os.path.dirname(path))


def flush_folder(path: bytes) -> None:
    """Make the names in a folder durable, where the file system can."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with contextlib.suppress(OSError):
            os.fsync(fd)
    finally:
        os.close(fd)
