"""Use case: write the key of a vault onto a sheet that can be printed, and note that it was."""

from __future__ import annotations

import errno
import os
from dataclasses import replace
from pathlib import Path

from holdfast.app.context import Context, hostname, username
from holdfast.app.exported import Exported, note_export
from holdfast.config import keyfile
from holdfast.kernel.errors import Denied, HoldfastError, Invalid, NoSpace, NotFound, Unsupported
from holdfast.kernel.values import dataclass
from holdfast.monitor.record import time_text

LINE = "=" * 78


@dataclass(frozen=True, slots=True)
class Sheet:
    """``text`` holds the key: it goes to nobody but the person. ``path`` is None where it is to be printed at once."""

    text: str
    path: Path | None
    key_id: str
    vault_id: str
    location: str
    unnoted: str = ""


def export_key(context: Context, file: str) -> Sheet:
    """Write what opens the vault into the new ``file`` (0600; ``-``: into the sheet only), with all that a person needs
    to get at the data with it, and note in the state folder which key of which vault was exported and when.

    The key has opened the vault before it is written. Raises ``Invalid`` where ``file`` exists, ``Unsupported`` for a
    vault of plain files, and what opening a vault raises.
    """
    context = replace(context, remembered={})  # opening and showing ask once
    path = None if file == "-" else Path(os.path.abspath(os.path.expanduser(file)))
    if path is not None and os.path.lexists(path):
        raise _exists(path)
    with context.opened() as vault:
        secret = context.secret()
        key_id = vault.repository.key_id.hex()
        vault_id = vault.repository.config.id.hex()
        location = vault.location
    try:
        words = secret.reveal().decode()
    except UnicodeDecodeError:
        raise Unsupported(
            "the password is no text, and cannot be printed",
            hint="Add a key that can: 'holdfast key add --new-key-file FILE'; then export that one.",
        ) from None
    at = time_text(context.clock.now_ns())
    text = _sheet(location, vault_id, key_id, words, at, generated=keyfile.is_generated(secret.reveal()))
    if path is not None:
        _write(path, text)
    to = "printed" if path is None else str(path)
    unnoted = ""
    try:
        note_export(context.paths.state, vault_id, Exported(key_id, at, location, to))
    except OSError as error:
        unnoted = f"that it was exported could not be noted in {context.paths.state}: {error.strerror}"
    return Sheet(text, path, key_id, vault_id, location, unnoted)


def _sheet(location: str, vault_id: str, key_id: str, words: str, at: str, *, generated: bool) -> str:
    kind = "generated key: one line, no spaces, small letters" if generated else "password"
    return f"""{LINE}
HOLDFAST RECOVERY SHEET                       keep it away from the machine
{LINE}

Whoever has this sheet and the vault can read everything in it.
Whoever has the vault without it can read nothing, and nobody can help them.

Vault      {location}
Vault id   {vault_id}
Key id     {key_id}
Exported   {at} by {username()} on {hostname()}

The {kind}:

{words}

To get at the data, on any machine that reaches the vault:

  1. Put the line above into a file, such as recovery.key, and chmod 600 it.
  2. With Holdfast:
       holdfast --vault VAULT --password-file recovery.key snapshots
       holdfast --vault VAULT --password-file recovery.key restore latest --target DIR
     or with stock restic, which reads the same vaults (https://restic.net):
       restic -r VAULT --password-file recovery.key snapshots
       restic -r VAULT --password-file recovery.key restore latest --target DIR
     where VAULT is where the vault is now; it was at the place named above.

When the key is changed ('holdfast key passwd'), this sheet opens nothing any more: export it again.
{LINE}
"""


def _write(path: Path, text: str) -> None:
    try:
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        raise _exists(path) from None
    except FileNotFoundError as error:
        raise NotFound(f"there is no folder {path.parent}", hint="Make it, or name another file.") from error
    except OSError as error:
        raise _refused(path, error) from error
    try:
        with os.fdopen(file, "wb") as written:
            written.write(text.encode())
            written.flush()
            os.fsync(file)
    except OSError as error:
        path.unlink(missing_ok=True)
        raise _refused(path, error) from error


def _refused(path: Path, error: OSError) -> HoldfastError:
    kind = NoSpace if error.errno in (errno.ENOSPC, errno.EDQUOT) else Denied
    return kind(f"cannot write {path}: {error.strerror}", hint="Name another file.")


def _exists(path: Path) -> Invalid:
    return Invalid(f"there is a file at {path} already", hint="It is never overwritten: name another one.")
