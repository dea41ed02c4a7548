"""Where a vault's password comes from: a file, a command, the environment, a key file, or a person at a terminal."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Mapping
from pathlib import Path

from holdfast.config import keyfile
from holdfast.kernel.errors import Denied, Invalid, NotFound
from holdfast.kernel.secret import Secret
from holdfast.kernel.values import dataclass

Ask = Callable[[str, bool], str]
"""Asks a person for a secret: (what for, whether to ask twice) -> the answer."""
Warn = Callable[[str], None]

MAX_BYTES = 1 << 20
NO_PASSWORD_HINT = (
    "Give --password-file FILE or --password-command COMMAND, or set HOLDFAST_PASSWORD or HOLDFAST_PASSWORD_FILE."
)
TOO_OPEN_MODES = stat.S_IRGRP | stat.S_IWGRP | stat.S_IROTH | stat.S_IWOTH


@dataclass(frozen=True, slots=True)
class PasswordChoice:
    """What the user said about the password, on the command line or for a configured vault; ``variable`` is the name of
    an environment variable."""

    file: str | None = None
    command: str | None = None
    variable: str | None = None

    def __bool__(self) -> bool:
        return self.file is not None or self.command is not None or self.variable is not None


def find(
    choice: PasswordChoice,
    environ: Mapping[str, str],
    *,
    key_file: Path | None,
    ask: Ask | None,
    what: str,
    new: bool,
    warn: Warn,
    limit: float | None = None,
) -> Secret:
    """The password, from the first of these that is there.

    ``choice``; ``HOLDFAST_PASSWORD``, ``HOLDFAST_PASSWORD_FILE``,
    ``HOLDFAST_PASSWORD_COMMAND``; ``key_file`` where given and present (the default vault's own key); the same three
    variables with ``RESTIC_`` in place of ``HOLDFAST_``, so that restic users can try Holdfast as they are; ``ask``
    (twice for a ``new`` password). A command may take ``limit`` seconds, where given. Raises ``Invalid`` where there is
    none, or where it is empty.
    """
    secret = _explicit(choice, environ, warn, limit) or _from_environment(environ, "HOLDFAST", warn, limit)
    if secret is None and key_file is not None and os.path.lexists(key_file):
        secret = from_file(str(key_file), warn)
    if secret is None and key_file is None:
        secret = _from_environment(environ, "RESTIC", warn, limit)
    if secret is None and ask is not None:
        secret = Secret(ask(what, new).encode("utf-8", "surrogateescape"), origin="the terminal")
    if secret is None:
        raise Invalid(f"no password for {what}", hint=NO_PASSWORD_HINT)
    return secret_not_empty(secret)


def secret_not_empty(secret: Secret) -> Secret:
    """``secret`` itself; raises ``Invalid`` where it is empty."""
    if not secret.reveal():
        raise Invalid(f"the password is empty ({secret.origin})", hint="A vault is never protected by nothing.")
    return secret


def _explicit(choice: PasswordChoice, environ: Mapping[str, str], warn: Warn, limit: float | None) -> Secret | None:
    if choice.file is not None and choice.command is not None:
        raise Invalid("--password-file and --password-command are both given", hint="Give one of them.")
    if choice.file is not None:
        return from_file(choice.file, warn)
    if choice.command is not None:
        return from_command(choice.command, limit)
    if choice.variable is not None:
        if choice.variable not in environ:
            raise Invalid(
                f"the environment variable {choice.variable}, which should hold the password, is not set",
                hint="The vault's password_env names it in the configuration.",
            )
        return _secret(environ[choice.variable].encode("utf-8", "surrogateescape"), choice.variable)
    return None


def _from_environment(environ: Mapping[str, str], prefix: str, warn: Warn, limit: float | None) -> Secret | None:
    name = f"{prefix}_PASSWORD"
    if environ.get(name):
        return _secret(environ[name].encode("utf-8", "surrogateescape"), name)
    if environ.get(f"{name}_FILE"):
        return from_file(environ[f"{name}_FILE"], warn)
    if environ.get(f"{name}_COMMAND"):
        return from_command(environ[f"{name}_COMMAND"], limit)
    return None


def from_file(path: str, warn: Warn) -> Secret:
    """The password in the file at ``path``: a byte-order mark and white space at its ends do not count (restic's rule).

    Also reads pipes such as ``/dev/fd/3``. ``warn`` hears of a file that others may read. Raises ``NotFound``,
    ``Denied``, ``Invalid``.
    """
    from holdfast.format.keyfile import normalise_password

    path = os.path.expanduser(path)
    try:
        with open(path, "rb") as file:
            status = os.fstat(file.fileno())
            raw = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise NotFound(
            f"no password file at {path}", hint="Check the path, and that the disk with it is mounted."
        ) from None
    except IsADirectoryError:
        raise Invalid(f"the password file {path} is a folder", hint="Name a file in it.") from None
    except OSError as error:
        raise Denied(f"cannot read the password file {path}: {error.strerror}") from error
    if len(raw) > MAX_BYTES:
        raise Invalid(f"the password file {path} is larger than 1 MiB", hint="Is it the right file?")
    if stat.S_ISREG(status.st_mode) and status.st_mode & TOO_OPEN_MODES:
        warn(f"others on this machine may read the password file {path}; chmod 600 {path} mends that")
    return _secret(normalise_password(raw, from_file=True), f"password file {path}")


def from_command(command: str, limit: float | None = None) -> Secret:
    """What ``command`` prints, without white space at both ends. It runs without a shell; its messages pass through.

    Raises ``Invalid`` where it cannot run, fails, prints nothing, or is not done after ``limit`` seconds (then it is
    killed).
    """
    import shlex
    import subprocess

    from holdfast.format.keyfile import normalise_password

    try:
        words = shlex.split(command)
    except ValueError as error:
        raise Invalid(f"the password command cannot be read: {error}", hint="Look at its quotes.") from None
    if not words:
        raise Invalid("the password command is empty")
    try:
        done = subprocess.run(words, stdout=subprocess.PIPE, check=False, timeout=limit)
    except subprocess.TimeoutExpired:
        raise Invalid(
            f"the password command did not end within {limit:g} s: {words[0]}", hint="Does it wait for a person?"
        ) from None
    except OSError as error:
        raise Invalid(
            f"the password command cannot run: {words[0]}: {error.strerror}",
            hint="It runs without a shell; for pipes and variables use: sh -c '...'.",
        ) from error
    if done.returncode != 0:
        raise Invalid(
            f"the password command failed: {words[0]} "
            + (f"ended with {done.returncode}" if done.returncode > 0 else f"was killed by signal {-done.returncode}")
        )
    return _secret(normalise_password(done.stdout, from_file=False), f"password command {words[0]}")


def _secret(value: bytes, origin: str) -> Secret:
    return Secret(value, origin=origin, random=keyfile.is_generated(value))
