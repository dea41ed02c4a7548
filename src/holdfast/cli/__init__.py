"""The command line: parses, calls a use case, shows what came of it."""

from __future__ import annotations

import gc
from typing import NoReturn

_ALLOCATIONS = 100_000
"""How many more objects are made than freed before a search for cycles. Python's own 700 makes a start 10 ms longer (of
130), for nothing: what is imported stays."""


def main() -> NoReturn:
    """Run the command line with ``sys.argv`` and end the process with one of the documented exit codes."""
    gc.set_threshold(_ALLOCATIONS, 50, 50)
    from holdfast.cli.root import run

    run()
