"""``holdfast completion``."""

from __future__ import annotations

import click

from holdfast.cli.console import Console
from holdfast.cli.options import Common, shared


@click.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@shared(vault=False, config=False)
@click.pass_obj
def command(common: Common, shell: str) -> None:
    """Print a script that completes commands in your shell.

    \b
    bash:  echo 'eval "$(holdfast completion bash)"' >> ~/.bashrc
    zsh:   echo 'eval "$(holdfast completion zsh)"' >> ~/.zshrc
    fish:  holdfast completion fish > ~/.config/fish/completions/holdfast.fish
    """
    from click.shell_completion import get_completion_class

    from holdfast.cli.root import program

    kind = get_completion_class(shell)
    if kind is None:
        raise click.UsageError(f"There is no completion for {shell}.")
    # The template itself, not source(): that would start bash only to ask for its version.
    completer = kind(program, {}, "holdfast", "_HOLDFAST_COMPLETE")
    script = completer.source_template % completer.source_vars()
    console = Console(common)
    console.line(script)
    console.event("summary", shell=shell, script=script)
