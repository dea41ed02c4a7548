"""Compares a restored tree with its source, byte for byte."""

from __future__ import annotations

import os
from pathlib import Path

from datasets import regular_files

BLOCK = 1024 * 1024


def differences(source: Path, restored: Path) -> list[str]:
    """The first file, if any, that is missing or has other content; at most one, because one is enough."""
    for path, _ in regular_files(source):
        copy = os.path.join(restored, os.path.relpath(path, source))
        try:
            with open(path, "rb") as expected, open(copy, "rb") as found:
                while block := expected.read(BLOCK):
                    if found.read(BLOCK) != block:
                        return [f"{copy} has other content"]
        except OSError as error:
            return [f"{copy}: {error}"]
    return []
