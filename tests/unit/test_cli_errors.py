"""The table of exit codes: complete, documented, and right for errors that nobody expected."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from holdfast.cli.errors import EXIT_CODES, EXIT_OF, OUTCOMES, failure
from holdfast.kernel import errors
from holdfast.vaults.base import Outcome

DOCUMENT = Path(__file__).parents[2] / "docs" / "exit-codes.md"


def _kinds(kind: type[errors.HoldfastError]) -> list[type[errors.HoldfastError]]:
    return [kind, *(deeper for below in kind.__subclasses__() for deeper in _kinds(below))]


def test_every_error_and_every_outcome_has_a_documented_exit_code() -> None:
    for kind in _kinds(errors.HoldfastError):
        assert EXIT_OF[kind.code] in EXIT_CODES
    assert EXIT_OF[errors.Cancelled.code] in EXIT_CODES
    assert {OUTCOMES[outcome] for outcome in Outcome} <= set(EXIT_CODES)


def test_the_document_shows_the_table() -> None:
    rows = [line for line in DOCUMENT.read_text().splitlines() if line.startswith("| ")][1:]
    assert rows == [f"| {code} | {meaning} |" for code, meaning in EXIT_CODES.items()]


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (errors.NotFound("no vault"), 10, "no vault"),
        (errors.Locked("locked by ada"), 11, "locked by ada"),
        (errors.WrongPassword("opens none"), 12, "opens none"),
        (errors.Corrupt("damaged"), 13, "damaged"),
        (errors.Unavailable("gone"), 75, "gone"),
        (errors.NoSpace("full"), 1, "full"),
        (errors.Invalid("bad"), 2, "bad"),
        (errors.Cancelled("stopped"), 130, "stopped"),
        (KeyboardInterrupt(), 130, "cancelled"),
        (PermissionError(errno.EACCES, "Permission denied", "/x"), 12, "/x: Permission denied"),
        (OSError(errno.EROFS, "Read-only file system", b"/x"), 12, "/x: Read-only file system"),
        (OSError(errno.ENOSPC, "No space left on device"), 1, "No space left on device"),
        (FileNotFoundError(errno.ENOENT, "No such file or directory", "/y"), 10, "/y: No such file or directory"),
        (MemoryError(), 1, "out of memory"),
        (ZeroDivisionError("division by zero"), 1, "unexpected error: ZeroDivisionError: division by zero"),
    ],
)
def test_errors_are_told(error: BaseException, code: int, words: str) -> None:
    told = failure(error)
    assert (told.exit_code, told.message) == (code, words)


def test_an_unexpected_error_says_how_to_report_it() -> None:
    assert "HOLDFAST_DEBUG=1" in failure(RuntimeError("boo")).hint


def test_nobody_is_told_that_they_closed_the_pipe() -> None:
    assert failure(BrokenPipeError(errno.EPIPE, "Broken pipe")).message == ""
