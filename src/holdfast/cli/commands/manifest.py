"""``holdfast manifest``."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import click

from holdfast.cli.commands.snapshots import fields
from holdfast.cli.console import clean_value
from holdfast.cli.entries import entry_fields
from holdfast.cli.errors import DAMAGE, OK
from holdfast.cli.options import Common, shared, which_latest
from holdfast.cli.session import session
from holdfast.cli.values import SNAPSHOT_ID

if TYPE_CHECKING:
    from holdfast.app.manifest import Line, Manifest

SCHEMA = 1


@click.command("manifest")
@click.argument("snapshot", type=SNAPSHOT_ID, metavar="SNAPSHOT")
@click.option("--hashes", is_flag=True, help="Read every file and tell its SHA-256.")
@which_latest
@shared(no_lock=True)
@click.pass_obj
def command(
    common: Common,
    snapshot: str,
    hashes: bool,
    hosts: tuple[str, ...],
    tags: tuple[str, ...],
    paths: tuple[str, ...],
) -> int:
    """Tell in one document what a snapshot holds, as JSON.

    The snapshot, the run that made it (where this machine's journal knows it), every item with size, time, owner and
    the ids of its pieces, and of every path that was saved how much of it is there and what went wrong.
    """
    from holdfast.app.manifest import manifest
    from holdfast.app.selection import make_filter

    # The answer is one document; what else there is to say goes to standard error. Only an error that comes before the
    # document stands in its place.
    wanted, common.json = common.json, False
    begun = False
    try:
        with session(common) as here:
            chosen = make_filter(hosts, paths, tags)
            for found in manifest(here.context, snapshot, chosen, hashes=hashes):
                begun = True
                _write(found)
            return DAMAGE if here.console.saw_damage else OK
    except BaseException:
        common.json = wanted and not begun
        raise


def _write(found: Manifest) -> None:
    from holdfast.app.manifest import source_fields

    write = sys.stdout.write
    write(_json(_head(found))[:-1] + ',"items":[')
    between = "\n"
    for line in found.lines:
        write(between + _json(_item(found, line)))
        between = ",\n"
    # The outcome of the sources is known when everything was told.
    end = {"sources": [source_fields(source) for source in found.sources], "totals": found.counts}
    write("\n]," + _json(end)[1:] + "\n")


def _head(found: Manifest) -> dict[str, Any]:
    from holdfast.app.recording import without_password

    return {
        "schema": SCHEMA,
        "vault": without_password(found.location),
        "kind": found.kind,
        "snapshot": fields(found.snapshot),
        "run": None if found.run is None else found.run.to_json(),
    }


def _item(found: Manifest, line: Line) -> dict[str, Any]:
    told = entry_fields(line.item.entry, found.snapshot)
    del told["snapshot"]
    if line.sha256 is not None:
        told["sha256"] = line.sha256.hex()
    if line.blobs:
        told["blobs"] = [blob.hex() for blob in line.blobs]
    return told


def _json(value: dict[str, Any]) -> str:
    return json.dumps(clean_value(value), ensure_ascii=False, separators=(",", ":"))
