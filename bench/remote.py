"""Measures vaults behind a server on this machine side by side with one in a folder: ``python bench/remote.py --help``.

Servers: ``rclone serve restic`` for REST, MinIO for S3, each with storage of its own beside the data. Every place has
its turn in each round (A B C, then C B A); what is compared are medians. The servers share the machine's processors
with what is measured, and their processor time is not counted.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median

from datasets import DATA_SETS, size_of
from measure import CommandFailed, Measurement, measure
from peers import holdfast_command
from report import machine
from run import make_work
from verify import differences

HERE = Path(__file__).parent
OPERATIONS = {
    "first": "first backup",
    "nochange": "no change",
    "cold": "restore, empty cache",
    "restore": "restore",
    "check": "check --read-data",
    "snapshots": "snapshots",
}
TARGETS = {"cold": 1.3, "restore": 1.3, "check": 1.3}
"""Wall time of a remote vault over that of the local one."""

BUCKET = "bench"


@dataclass
class Place:
    """One vault. Everything that is measured with it runs in a home of its own, so that caches do not mix."""

    name: str
    location: str
    home: Path
    environment: dict[str, str] = field(default_factory=dict)
    figures: dict[str, list[Measurement]] = field(default_factory=dict)

    def wall(self, operation: str) -> float | None:
        found = self.figures.get(operation)
        return median(one.wall for one in found) if found else None

    def cpu(self, operation: str) -> float | None:
        found = self.figures.get(operation)
        return median(one.cpu for one in found) if found else None


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the bench; 0, or 1 if something failed or a restored tree differs."""
    options = parse(arguments)
    work = Path(tempfile.mkdtemp(prefix="remote-", dir=make_work(options.work)))
    try:
        with contextlib.ExitStack() as stack:
            places = [Place("local", str(work / "local"), work / "home-local")]
            for name in options.places:
                place = stack.enter_context(SERVERS[name](work))
                if place is None:
                    print(f"The server for {name} is not installed: it is left out.", file=sys.stderr)
                else:
                    places.append(place)
            bench = Bench(options, work, places)
            failures = bench.run()
    finally:
        if not options.keep:
            shutil.rmtree(work, ignore_errors=True)
    print_table(places)
    write(options, places, failures)
    for failure in failures:
        print(failure, file=sys.stderr)
    return 1 if failures else 0


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--set", choices=DATA_SETS, default="b", help="which data (b: a real tree)")
    parser.add_argument("--places", type=lambda text: text.split(","), default=list(SERVERS), help=",".join(SERVERS))
    parser.add_argument("--runs", type=int, default=3, help="rounds; the median counts (3)")
    parser.add_argument("--work", type=Path, help="where data and vaults are made (default: a memory disk)")
    parser.add_argument("--quick", action="store_true", help="small data, to try the bench itself")
    parser.add_argument("--keep", action="store_true", help="leave data and vaults for a look")
    parser.add_argument("--json", type=Path, default=HERE / "results" / "work" / "remote.json")
    return parser.parse_args(arguments)


class Bench:
    """One run over all places."""

    def __init__(self, options: argparse.Namespace, work: Path, places: list[Place]) -> None:
        self._options = options
        self._work = work
        self._places = places
        self._source = work / "data"
        self._password = work / "password"
        self._failures: list[str] = []

    def run(self) -> list[str]:
        """Makes the data and the vaults, and measures; returns what failed."""
        self._source.mkdir()
        self._password.write_text(secrets.token_hex(32))
        self._password.chmod(0o600)
        chosen = DATA_SETS[self._options.set]
        print(f"making {chosen.title} ...", file=sys.stderr)
        chosen.make(self._source, self._options.quick)
        turn = self._places.copy()
        for place in turn:
            self._run(place, "init", "init", place.location)
            self._run(place, "first", "backup", str(self._source), "--no-default-excludes", "--to", place.location)
        for number in range(self._options.runs):
            for operation in ("nochange", "cold", "restore", "check", "snapshots"):
                for place in turn:
                    try:
                        self._one(place, operation, whole=number == 0)
                    except CommandFailed as failure:
                        self._failures.append(f"{place.name} {operation}: {failure}")
                print(f"round {number + 1}: {operation} done", file=sys.stderr)
            turn.reverse()
        return self._failures

    def _one(self, place: Place, operation: str, *, whole: bool) -> None:
        at = ["--vault", place.location]
        if operation == "nochange":
            self._run(place, operation, "backup", str(self._source), "--no-default-excludes", "--to", place.location)
        elif operation == "check":
            self._run(place, operation, "check", "--read-data", *at)
        elif operation == "snapshots":
            self._run(place, operation, "snapshots", *at)
        else:
            if operation == "cold":
                shutil.rmtree(place.home / "cache" / "holdfast" / "remote", ignore_errors=True)
            target = self._work / "restored"
            target.mkdir()
            try:
                self._run(place, operation, "restore", "latest", *at, "--target", str(target))
                self._compare(target / self._source.relative_to("/"), whole=whole)
            finally:
                shutil.rmtree(target)

    def _run(self, place: Place, operation: str, *words: str) -> None:
        place.home.mkdir(exist_ok=True)
        folders = {
            "HOME": place.home,
            "XDG_CACHE_HOME": place.home / "cache",
            "XDG_CONFIG_HOME": place.home / "config",
            "XDG_DATA_HOME": place.home / "data",
            "XDG_STATE_HOME": place.home / "state",
        }
        environment = os.environ | place.environment | {name: str(path) for name, path in folders.items()}
        command = [*holdfast_command(), *words, "--password-file", str(self._password), "-q"]
        figures = measure(command, env=environment, cwd=self._work, log=self._work / f"{place.name}.log")
        place.figures.setdefault(operation, []).append(figures)

    def _compare(self, restored: Path, *, whole: bool) -> None:
        expected, found = size_of(self._source), size_of(restored)
        if expected != found:
            raise CommandFailed(f"restored {found.files} files, {found.bytes} bytes instead of {expected}")
        if whole and (problems := differences(self._source, restored)):
            raise CommandFailed(f"restored something else: {problems[0]}")


# -- servers -----------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def serve_rest(work: Path) -> Iterator[Place | None]:
    """rclone's REST server over a folder, without authentication."""
    rclone = shutil.which("rclone")
    if rclone is None:
        yield None
        return
    port = free_port()
    (work / "rest").mkdir()
    (work / "rclone.conf").touch()
    environment = os.environ | {"RCLONE_CONFIG": str(work / "rclone.conf")}
    command = [rclone, "serve", "restic", "--addr", f"127.0.0.1:{port}", str(work / "rest")]
    with running(command, port, environment, work / "rclone.log"):
        yield Place("rest", f"rest:http://127.0.0.1:{port}/vault/", work / "home-rest")


@contextlib.contextmanager
def serve_s3(work: Path) -> Iterator[Place | None]:
    """MinIO over a folder."""
    minio = shutil.which("minio")
    if minio is None:
        yield None
        return
    port = free_port()
    keys = {"MINIO_ROOT_USER": "bench", "MINIO_ROOT_PASSWORD": secrets.token_hex(16)}
    (work / "s3" / BUCKET).mkdir(parents=True)  # MinIO takes folders at the top for buckets
    command = [minio, "server", "--quiet", "--address", f"127.0.0.1:{port}", str(work / "s3")]
    login = {
        "AWS_ACCESS_KEY_ID": keys["MINIO_ROOT_USER"],
        "AWS_SECRET_ACCESS_KEY": keys["MINIO_ROOT_PASSWORD"],
        "AWS_REGION": "us-east-1",
    }
    with running(command, port, os.environ | keys | {"HOME": str(work)}, work / "minio.log"):
        yield Place("s3", f"s3:http://127.0.0.1:{port}/{BUCKET}/vault", work / "home-s3", login)


SERVERS = {"rest": serve_rest, "s3": serve_s3}


@contextlib.contextmanager
def running(command: list[str], port: int, environment: dict[str, str], log: Path) -> Iterator[None]:
    """A server that answers on ``port`` by the time the block begins, and is gone when it ends."""
    with log.open("wb") as output:
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=subprocess.STDOUT)
        try:
            for _ in range(300):
                with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                    break
                time.sleep(0.1)
            else:
                raise SystemExit(f"{command[0]} does not answer: see {log}")
            yield
        finally:
            process.terminate()
            process.wait()


def free_port() -> int:
    """A port that nobody listens on at this moment."""
    with socket.socket() as line:
        line.bind(("127.0.0.1", 0))
        port: int = line.getsockname()[1]
        return port


# -- results -----------------------------------------------------------------------------------------------------------


def print_table(places: Sequence[Place]) -> None:
    """Wall and processor seconds of each place, and ratios of wall time against the local vault."""
    local = places[0]
    print(f"\n{'':22}" + "".join(f"{place.name:>8} {'cpu':>7}{'ratio':>7}" for place in places) + "   target")
    for operation, title in OPERATIONS.items():
        line = f"{title:22}"
        for place in places:
            wall, cpu, base = place.wall(operation), place.cpu(operation), local.wall(operation)
            if wall is None or cpu is None or base is None:
                line += f"{'-':>8} {'-':>7}{'-':>7}"
            else:
                line += f"{wall:8.2f} {cpu:7.2f}{wall / base:7.2f}"
        print(line + (f"   {TARGETS[operation]:.1f}" if operation in TARGETS else ""))


def write(options: argparse.Namespace, places: Sequence[Place], failures: Sequence[str]) -> None:
    """Everything as JSON."""
    found = {
        "machine": machine(),
        "set": options.set,
        "quick": options.quick,
        "runs": options.runs,
        "targets": TARGETS,
        "failures": list(failures),
        "places": {
            place.name: {name: [asdict(one) for one in figures] for name, figures in place.figures.items()}
            for place in places
        },
    }
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(found, indent=1) + "\n")
    print(f"\nWritten: {options.json}")


if __name__ == "__main__":
    sys.exit(main())
