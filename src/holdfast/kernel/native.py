"""The one extension module, optional: ``native`` is None where no compiler was there, or where it is of other sources.

Whoever uses it has the same in Python, slower: decision 0012.
"""

from __future__ import annotations

from typing import Final

VERSION: Final = 4
"""What the functions of the extension are like. Rises with every change of one, here and in ``native/native.h``: an
extension that was built before, and was left beside newer sources, counts as missing."""

__all__ = ["VERSION", "native"]

try:
    from holdfast import _native as native
except ImportError:
    native = None  # type: ignore[assignment]
else:
    if getattr(native, "VERSION", 0) != VERSION:
        native = None  # type: ignore[assignment]
