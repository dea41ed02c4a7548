"""``holdfast metrics``."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from holdfast.cli.errors import OK
from holdfast.cli.options import Common, shared
from holdfast.cli.session import Session, session


@click.command("metrics")
@click.option(
    "--listen",
    is_flag=False,
    flag_value="",
    metavar="[HOST:PORT]",
    help="Serve them at /metrics until Ctrl-C. [metrics.listen, 127.0.0.1:9797]",
)
@click.option("--expose", is_flag=True, help="Let other machines reach it as well: metrics ask for no password.")
@click.option(
    "--textfile",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write them into FILE.prom for node_exporter, in one step.",
)
@shared(vault=False)
@click.pass_obj
def command(common: Common, listen: str | None, expose: bool, textfile: Path | None) -> int:
    """Print, write or serve metrics for Prometheus.

    They are counted from the journal: every run of every command and schedule counts, whoever started it, and ages go
    on while nothing runs.
    """
    if listen is not None and textfile is not None:
        raise click.UsageError("Give --listen or --textfile, not both.")
    if expose and listen is None:
        raise click.UsageError("--expose goes with --listen.")
    with session(common, hard=listen is None) as here:
        if listen is not None:
            return _serve(here, listen, exposed=expose)
        if textfile is not None:
            from holdfast.app.metrics import write_metrics

            count = write_metrics(here.context, textfile)
            here.console.remark(f"wrote {textfile}")
            here.console.event("summary", file=str(textfile), bytes=count)
            return OK
        from holdfast.app.metrics import metrics_text

        text = metrics_text(here.context).decode()
        if here.console.json:
            here.console.event("summary", text=text)
        else:
            sys.stdout.write(text)
        return OK


def _serve(here: Session, listen: str, *, exposed: bool) -> int:
    from holdfast.app.metrics import choice, served
    from holdfast.kernel.addresses import address
    from holdfast.monitor.metrics.serve import MetricsServer

    said = choice(here.context)
    host, port = address(listen or said.listen)
    server = MetricsServer(
        host,
        port,
        served(here.context, here.console.warn),
        exposed=exposed or said.expose,
        on_trouble=here.console.warn,
    )
    try:
        shown = f"[{host}]" if ":" in host else host
        here.console.remark(f"metrics at http://{shown}:{server.port}/metrics; Ctrl-C ends it")
        here.console.event("listening", host=host, port=server.port)
        sys.stdout.flush()
        server.serve(lambda: here.context.cancel.requested)
    finally:
        server.close()
    here.console.event("summary", outcome="ok")
    return OK
