"""Write metrics for node_exporter's textfile collector: whole or not at all, and readable for it."""

from __future__ import annotations

from pathlib import Path

from holdfast.files.whole import replace_file
from holdfast.kernel.errors import Denied, Invalid, NoSpace, NotFound


def write_textfile(path: Path, text: bytes) -> None:
    """Put ``text`` at ``path`` in one step, with the permissions 0644: node_exporter is another user.

    Raises ``Invalid`` for a name without ``.prom``, which node_exporter would pass over, ``NotFound`` without the
    folder, ``Denied``, ``NoSpace``. What was there stays as it is then.
    """
    if path.suffix != ".prom":
        raise Invalid(
            f"{path} does not end in .prom", hint="node_exporter reads only such files: name it holdfast.prom."
        )
    try:
        replace_file(path, text, 0o644)  # the temporary file's end is not .prom: nobody takes it for one
    except OSError as error:
        raise _meaning(path, error) from error


def _meaning(path: Path, error: OSError) -> Exception:
    import errno

    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        hint = "Make it, and point node_exporter at it with --collector.textfile.directory."
        return NotFound(f"there is no folder {path.parent}", hint=hint)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return NoSpace(f"cannot write {path}: {error.strerror}", hint="Make room and try again.")
    if error.errno == errno.EISDIR:
        return Invalid(f"{path} is a folder", hint="Name the file, such as holdfast.prom in it.")
    return Denied(f"cannot write {path}: {error.strerror}", hint="Look at the owner and permissions of the folder.")
