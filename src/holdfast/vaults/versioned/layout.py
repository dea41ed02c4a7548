"""Where everything of a versioned vault lies: plain files at their absolute paths, the rest in one hidden folder."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass

import orjson

from holdfast.files.safepath import translated
from holdfast.kernel.errors import Corrupt, Invalid, NotFound, Unsupported

FOLDER = b".holdfast"
MARKER = b"vault.json"
KIND = "versioned"
FORMAT = 1

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
    def marker(self) -> bytes:
        return self.folder + b"/" + MARKER

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


def create(root: bytes, random: bytes) -> Layout:
    """Make an empty vault in a folder that is missing or empty; ``random`` (16 bytes) becomes its identity.

    Raises ``Invalid`` where something else is. A crash leaves a folder without a marker; a further call completes it.
    """
    layout = Layout(os.path.abspath(root))
    try:
        os.makedirs(layout.root, exist_ok=True)
        foreign = [name for name in os.listdir(layout.root) if name != FOLDER]
        if foreign or os.path.lexists(layout.marker):
            raise Invalid(
                f"{os.fsdecode(layout.root)} is not empty.", hint="Choose an empty folder, or one that does not exist."
            )
        for folder in (layout.folder, layout.manifest, layout.history, layout.staging):
            os.makedirs(folder, mode=0o700, exist_ok=True)
        os.close(os.open(layout.lock, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
        marker = {"kind": KIND, "version": FORMAT, "id": random.hex()}
        write_durable(layout.marker, orjson.dumps(marker) + b"\n")
    except OSError as error:
        raise translated(error, "make a vault in", layout.root) from error
    return layout


def is_versioned(root: bytes) -> bool:
    """Whether a versioned vault (of any format version) is in the folder ``root``. Never raises."""
    try:
        return bool(_marker(Layout(root)).get("kind") == KIND)
    except (OSError, ValueError, AttributeError):
        return False


def open_layout(root: bytes) -> Layout:
    """The vault in ``root``. Raises ``NotFound``, ``Unsupported`` (a later format), ``Corrupt``, ``Denied``."""
    layout = Layout(os.path.abspath(root))
    shown = os.fsdecode(layout.root)
    try:
        marker = _marker(layout)
        kind, version = marker.get("kind"), marker.get("version")
    except FileNotFoundError:
        raise NotFound(
            f"There is no versioned vault in {shown}.", hint="'holdfast init LOCATION --kind versioned' makes one."
        ) from None
    except OSError as error:
        raise translated(error, "open the vault", layout.root) from error
    except (ValueError, AttributeError) as error:
        raise Corrupt(
            f"The marker file of the vault {shown} is damaged: {error}",
            hint=f"It must hold {{'kind': '{KIND}', 'version': {FORMAT}, 'id': '...'}} as JSON.",
        ) from error
    if kind != KIND or version != FORMAT:
        raise Unsupported(
            f"The vault {shown} is of the kind {kind!r}, version {version!r}.", hint="Use a newer Holdfast."
        )
    return layout


def _marker(layout: Layout) -> dict[str, object]:
    with open(layout.marker, "rb") as file:
        found: dict[str, object] = orjson.loads(file.read(65536))
    return found


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
