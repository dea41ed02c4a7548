"""The command line: parses, calls a use case, shows what came of it."""

from __future__ import annotations

from typing import NoReturn


def main() -> NoReturn:
    """Run the command line with ``sys.argv`` and end the process with one of the documented exit codes."""
    from holdfast.cli.root import run

    run()
