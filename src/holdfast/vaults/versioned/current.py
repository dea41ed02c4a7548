"""The current copies in a vault by the paths of their sources, also where a path is too long for the system."""

from __future__ import annotations

import errno
import os

from holdfast.sources.directory import open_directory, open_file
from holdfast.vaults.versioned.layout import place


def open_current(root: bytes, path: bytes) -> int:
    """Open the current copy of a file to be read. Raises ``OSError``."""
    here = root + b"/" + place(path)
    try:
        return open_file(here)
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
    above, _, name = here.rpartition(b"/")
    folder = open_directory(above)
    try:
        return open_file(name, folder)
    finally:
        os.close(folder)


def look_at_current(root: bytes, path: bytes) -> tuple[os.stat_result, bytes | None]:
    """``lstat`` of the current copy, and where it leads if it is a link. Raises ``OSError``."""
    above, _, name = (root + b"/" + place(path)).rpartition(b"/")
    folder = open_directory(above)
    try:
        st = os.lstat(name, dir_fd=folder)
        return st, os.readlink(name, dir_fd=folder) if st.st_mode & 0o170000 == 0o120000 else None
    finally:
        os.close(folder)


def open_current_folder(root: bytes, path: bytes) -> int:
    """Open the current copy of a folder. Raises ``OSError``."""
    return open_directory(root + b"/" + place(path) if path else root)
