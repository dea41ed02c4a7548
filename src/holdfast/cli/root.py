"""The program itself: the table of commands, each imported only when it is called, and the way out."""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
from typing import Any, NoReturn

import click

from holdfast.cli.options import Common, everywhere

COMMANDS: dict[str, tuple[str, str]] = {
    "ack": ("ack", "Say that you know of a notice."),
    "backup": ("backup", "Save files and folders as a new snapshot."),
    "check": ("check", "Look for damage in a vault."),
    "completion": ("completion", "Print a script that completes commands in your shell."),
    "config": ("config", "Write, check and show the configuration, holdfast.yaml."),
    "copy": ("copy", "Bring snapshots from one vault into another."),
    "diff": ("diff", "Show what changed between two snapshots, or since one."),
    "drill": ("drill", "Prove that a snapshot comes back, databases included."),
    "dump": ("dump", "Write a saved file, or a folder as tar, to standard output."),
    "find": ("find", "Find files in snapshots by name, size and time."),
    "forget": ("forget", "Delete snapshots by a policy, or by name."),
    "health": ("health", "Look whether everything that protects the data does."),
    "history": ("history", "Look back at what was done, and at what came of it."),
    "hold": ("hold", "Hold snapshots back from being forgotten."),
    "init": ("init", "Make a new vault."),
    "key": ("key", "List, add, remove, change and export the keys of a vault."),
    "logs": ("logs", "Show what was logged, and follow it."),
    "ls": ("ls", "List what a snapshot holds."),
    "manifest": ("manifest", "Tell in one document what a snapshot holds, as JSON."),
    "metrics": ("metrics", "Print, write or serve metrics for Prometheus."),
    "migrate": ("migrate", "Bring a vault of restic's old format to the current one."),
    "notify": ("notify", "Tell people what went wrong, and try out how they are told."),
    "prune": ("prune", "Free the space of what no snapshot uses any more."),
    "recover": ("recover", "Bring back folders that no snapshot leads to any more."),
    "repair": ("repair", "Mend a damaged vault: its index, packs and snapshots."),
    "report": ("report", "Tell what the last day or week brought, and what did not happen."),
    "restore": ("restore", "Bring back files and folders from a snapshot."),
    "rewrite": ("rewrite", "Take files out of existing snapshots."),
    "run": ("run", "Run any command as a monitored run."),
    "schedule": ("schedule", "Let this machine start everything by itself."),
    "snapshots": ("snapshots", "List the snapshots in a vault."),
    "stats": ("stats", "Show sizes, savings and growth."),
    "status": ("status", "Show how every plan and vault stands."),
    "storage": ("storage", "Try out places where vaults are kept."),
    "tag": ("tag", "Change the tags of snapshots."),
    "unlock": ("unlock", "Tell whose locks there are, and remove those of nobody."),
    "version": ("version", "Print the version."),
}
"""Command -> (its module in ``holdfast.cli.commands``, its one-line help, shown without importing the module)."""


class Lazy(click.Group):
    """A group that knows its commands by the table above."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"holdfast.cli.commands.{COMMANDS[cmd_name][0]}")
        command: click.Command = module.command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            import difflib

            near = difflib.get_close_matches(args[0], COMMANDS, n=1)
            ctx.fail(f"There is no command {args[0]!r}." + (f" Did you mean {near[0]!r}?" if near else ""))
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, short) for name, (_, short) in COMMANDS.items()])


def _version(ctx: click.Context, _parameter: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        from holdfast import __version__

        click.echo(f"holdfast {__version__}")
        ctx.exit()


@click.group(cls=Lazy, context_settings={"help_option_names": ["-h", "--help"]}, no_args_is_help=True)
@everywhere
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_version, help="Print the version."
)
@click.pass_context
def program(ctx: click.Context) -> None:
    """Holdfast keeps your data, and proves it.

    \b
      holdfast backup ~/Documents                     save; makes a vault on the first run
      holdfast restore latest --target /tmp/restored  bring it back

    A vault is a restic repository: stock restic reads what Holdfast wrote, and the other way round.
    """
    ctx.ensure_object(Common)


def run(arguments: list[str] | None = None) -> NoReturn:
    """Run one command and end the process with its exit code. No traceback, unless ``HOLDFAST_DEBUG=1``."""
    _open_missing_streams()
    for stream in (sys.stdout, sys.stderr):
        # A locale without UTF-8 must not break the output of a name that it cannot write.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    common = Common()
    program.context_settings["terminal_width"] = _help_columns()
    code = _run(common, arguments)
    try:
        sys.stdout.flush()
    except OSError as error:
        # Nobody reads, or the disk is full. What is left in the buffer goes nowhere: otherwise the interpreter tries
        # once more while it ends, and complains in its own words.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        code = code or _tell(common, error)
    if common.afterwards is not None:
        # People hear of what went wrong once the one who waits for the command has read it.
        with contextlib.suppress(KeyboardInterrupt):
            common.afterwards()
    sys.exit(code)


def _open_missing_streams() -> None:
    """Give a process that was started without some of its three standard streams (``>&-``) /dev/null in their place.

    Otherwise the next file to be opened, one of a vault perhaps, gets the number that messages are written to.
    """
    if sys.stdin is not None and sys.stdout is not None and sys.stderr is not None:
        return
    while (lowest := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(lowest)
    sys.stdin = sys.stdin or os.fdopen(0)
    sys.stdout = sys.stdout or os.fdopen(1, "w")
    sys.stderr = sys.stderr or os.fdopen(2, "w")


def _help_columns() -> int:
    """How wide help is, by click's own rule; click would import shutil only for this (4 ms)."""
    try:
        columns = int(os.environ.get("COLUMNS") or os.get_terminal_size(1).columns)
    except (OSError, ValueError):
        columns = 80
    return max(min(columns or 80, 80) - 2, 50)


def _run(common: Common, arguments: list[str] | None) -> int:
    try:
        result: Any = program.main(args=arguments, prog_name="holdfast", standalone_mode=False, obj=common)
    except click.exceptions.Exit as error:
        return error.exit_code
    except click.exceptions.Abort:
        return _tell(common, KeyboardInterrupt())
    except click.ClickException as error:
        # What is wrong with the words may have been found before the word --json.
        said = sys.argv[1:] if arguments is None else arguments
        common.json = common.json or "--json" in said[: said.index("--") if "--" in said else None]
        return _bad_usage(common, error)
    except SystemExit:
        raise
    except BaseException as error:
        if os.environ.get("HOLDFAST_DEBUG") == "1":
            import traceback

            traceback.print_exc()
        return _tell(common, error)
    return result if isinstance(result, int) else 0


def _bad_usage(common: Common, error: click.ClickException) -> int:
    from holdfast.cli.console import Console
    from holdfast.cli.errors import USAGE, Failure

    context = getattr(error, "ctx", None)
    hint = f"'{context.command_path} --help' shows how it is used." if context is not None else ""
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        click.echo(error.format_message(), err=True)
        return USAGE
    Console(common).fail(Failure(USAGE, "usage", error.format_message(), hint))
    return USAGE


def _tell(common: Common, error: BaseException) -> int:
    import signal

    from holdfast.cli.console import Console
    from holdfast.cli.errors import failure

    # From here on a second Ctrl-C may end the process at once.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    told = failure(error)
    # Where nobody can read it, the exit code still tells.
    with contextlib.suppress(OSError):
        Console(common).fail(told)
    return told.exit_code
