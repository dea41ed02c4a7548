"""Options that every command shares, wherever they stand, and those that choose among snapshots."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])


class Common:
    """What the shared options said, wherever they stood: before the command or after it."""

    # Not a dataclass: that module alone is 2 ms of the 50 that --help takes.

    vault: str | None = None
    config: str | None = None
    password_file: str | None = None
    password_command: str | None = None
    json: bool = False
    quiet: bool = False
    verbose: bool = False
    no_lock: bool = False
    retry_lock: float = 0.0
    no_cache: bool = False
    cache_limit: int | None = None
    limit_upload: int | None = None
    limit_download: int | None = None
    connections: int | None = None
    retry_for: float | None = None
    no_color: bool = False
    afterwards: Callable[[], None] | None = None
    """What is left to do when the command has told everything."""


def _keep(ctx: click.Context, parameter: click.Parameter, value: Any) -> Any:
    """Remember a shared option's value; what was not said here leaves what was said before the command."""
    if value == "":
        # Such as --vault "$UNSET": falling back to the default vault would save or show the wrong things.
        raise click.BadParameter("it is empty.", ctx, parameter)
    if value and parameter.name:
        setattr(ctx.ensure_object(Common), parameter.name, value)
    return value


def _keep_duration(ctx: click.Context, parameter: click.Parameter, value: str | None) -> None:
    if value is not None:
        from holdfast.cli.values import DURATION  # only now: --help shall not pay for what it imports

        seconds = float(value) if value.isdecimal() else DURATION.convert(value, parameter, ctx)
        setattr(ctx.ensure_object(Common), str(parameter.name), seconds)


def _shared(*names: str, **attributes: Any) -> Callable[[F], F]:
    return click.option(*names, expose_value=False, callback=_keep, **attributes)


_VAULT = _shared(
    "--vault", metavar="VAULT", help="The vault's location or configured name. [default: $HOLDFAST_VAULT, the default]"
)
_CONFIG = _shared(
    "--config", metavar="FILE", help="The configuration. [default: $HOLDFAST_CONFIG, ./holdfast.yaml, ..]"
)
_NO_LOCK = _shared("--no-lock", is_flag=True, help="Take no lock: write nothing at all into the vault.")
_RETRY_LOCK = click.option(
    "--retry-lock",
    expose_value=False,
    callback=_keep_duration,
    metavar="DURATION",
    help="How long to wait for the locks of others, such as 10m. [default: not at all]",
)
_PASSWORD = (
    _shared("--password-file", metavar="FILE", help="Read the vault's password from FILE."),
    _shared("--password-command", metavar="COMMAND", help="Read the password from what COMMAND prints."),
)
_CACHE = (
    _shared("--no-cache", is_flag=True, help="Keep no local copies of what a remote vault holds."),
    _shared("--cache-limit", type=click.IntRange(1), metavar="MIB", help="Most MiB of such copies. [default: 4096]"),
)
_REMOTE = (
    _shared("--limit-upload", type=click.IntRange(1), metavar="KIB", help="Most KiB a second to a remote vault."),
    _shared("--limit-download", type=click.IntRange(1), metavar="KIB", help="Most KiB a second from a remote vault."),
    _shared("--connections", type=click.IntRange(1, 64), metavar="N", help="Most calls at once to a remote vault."),
    click.option(
        "--retry-for",
        expose_value=False,
        callback=_keep_duration,
        metavar="DURATION",
        help="How long to try again when a remote vault is out of reach. [default: 15m]",
    ),
)
_GENERAL = (
    _shared("--json", is_flag=True, help="One JSON object a line on standard output, a summary last."),
    _shared("-q", "--quiet", is_flag=True, help="Only problems and errors."),
    _shared("-v", "--verbose", is_flag=True, help="Tell more: a line for every file."),
    _shared("--no-color", is_flag=True, help="No colours (as with NO_COLOR set)."),
)


def shared(*, vault: bool = True, no_lock: bool = False, locks: bool = True, config: bool = True) -> Callable[[F], F]:
    """Add the shared options to a command. The command gets them all as :class:`Common` through ``click.pass_obj``.

    ``vault``: it works on a vault. ``no_lock``: it can do so without a lock. ``locks``: it takes one.
    ``config``: it looks at the configuration.
    """

    def decorate(function: F) -> F:
        chosen = [
            *([_VAULT] if vault else []),
            *([_CONFIG] if config else []),
            *([*_PASSWORD, *_CACHE, *_REMOTE] if vault else []),
            *_GENERAL,
            *([_NO_LOCK] if no_lock else []),
        ]
        chosen += [_RETRY_LOCK] if vault and locks else []
        for option in reversed(chosen):
            function = option(function)
        return function

    return decorate


def everywhere(function: F) -> F:
    """The shared options as the program itself takes them, before the command."""
    return shared(vault=True, no_lock=True)(function)


def from_password(function: F) -> F:
    """What opens the second vault, from which something is taken: see ``app.other.other_vault``."""
    options = (
        click.option("--from-password-file", metavar="FILE", help="Read the other vault's password from FILE."),
        click.option("--from-password-command", metavar="COMMAND", help="Read it from what COMMAND prints."),
    )
    for option in reversed(options):
        function = option(function)
    return function


def which_latest(function: F) -> F:
    """``--host``, ``--tag`` and ``--path``: which snapshots are meant (and which one is the latest)."""
    options = (
        click.option("--host", "hosts", multiple=True, metavar="NAME", help="Only snapshots of this host. Repeatable."),
        click.option(
            "--tag",
            "tags",
            multiple=True,
            metavar="TAG,..",
            help="Only snapshots with all of these tags. Repeatable: any.",
        ),
        click.option(
            "--path", "paths", multiple=True, metavar="PATH", help="Only snapshots of this path. Repeatable: all."
        ),
    )
    for option in reversed(options):
        function = option(function)
    return function
