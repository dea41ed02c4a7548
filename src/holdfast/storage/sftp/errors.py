"""What the refusals of an SFTP server mean to the person who reads them."""

from __future__ import annotations

import asyncssh

from holdfast.kernel.errors import Denied, HoldfastError, NoSpace, NotFound, Unavailable, Unsupported
from holdfast.storage.sftp.files import MISSING

_FULL = "Free some space there (prune old snapshots, remove other files) and run this again."


def gone(location: str, was_seen: bool) -> HoldfastError:
    """The error for a place that is not there."""
    if was_seen:
        return Unavailable(
            f"the folder of {location} has disappeared",
            hint="Check the disk of the server, then run this again.",
            location=location,
        )
    return NotFound(
        f"there is no folder {location}",
        hint="Check the path, and whether the server has mounted its disk; a new vault is made with init.",
        location=location,
    )


def translated(error: Exception, location: str, doing: str, name: str, is_full: bool) -> HoldfastError:
    """The error to raise instead of ``error``. ``is_full``: there is no room for what was to be written."""
    what = f"{location}: cannot {doing} {name}".rstrip()
    reason = str(error) or type(error).__name__
    context = {"location": location, "name": name, "doing": doing}
    if isinstance(error, MISSING):
        return NotFound(f"{location} holds no file {name}", hint="If it should be there, check the vault.", **context)
    if isinstance(error, asyncssh.SFTPQuotaExceeded | asyncssh.SFTPNoSpaceOnFilesystem):
        return NoSpace(f"{what}: {reason}", hint=_FULL, **context)
    if isinstance(error, asyncssh.SFTPPermissionDenied | asyncssh.SFTPWriteProtect):
        return Denied(
            f"{what}: the server denies it",
            hint="Check the owner and the permissions on the server, and which user logs in there.",
            **context,
        )
    if isinstance(error, asyncssh.SFTPOpUnsupported):
        return Unsupported(f"{what}: the server cannot do that", **context)
    if isinstance(error, asyncssh.SFTPFailure):
        if is_full:
            return NoSpace(f"{what}: the server's disk is full", hint=_FULL, **context)
        return Unavailable(
            f"{what}: the server fails and does not say why",
            hint="Look at the server: its disk, its quota, its log.",
            **context,
        )
    return Unavailable(
        f"{what}: the connection broke off: {reason}",
        hint="Try again; if it stays, look at the network and at the server's log.",
        **context,
    )
