"""Small files in the state folder that are replaced as a whole, so that whoever reads them never sees a half."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path

from holdfast.storage.durable import flush


def replace_file(path: Path, content: bytes, mode: int = 0o600) -> None:
    """Put ``content`` into the place of ``path``; its folder is made where missing (0700). Durable on return.

    After a crash the file is the former or the new one. Raises ``OSError``; then nothing is left behind.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    file, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(file, "wb") as written:
            written.write(content)
            os.fchmod(written.fileno(), mode)
            written.flush()
            flush(written.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
