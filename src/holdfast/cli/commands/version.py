"""``holdfast version``."""

from __future__ import annotations

import click

from holdfast.cli.console import Console
from holdfast.cli.options import Common, shared


@click.command("version")
@shared(vault=False, config=False)
@click.pass_obj
def command(common: Common) -> None:
    """Print the version."""
    import platform

    from holdfast import __version__
    from holdfast.format.chunker import native_available

    console = Console(common)
    chunker = "native" if native_available() else "pure Python"
    console.line(f"holdfast {__version__} (Python {platform.python_version()}, {platform.system()}, {chunker} chunker)")
    console.event("summary", version=__version__, python=platform.python_version(), native_chunker=native_available())
