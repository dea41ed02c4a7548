"""A plan over vaults of all kinds reads each directory of its source once, as the system's calls tell."""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections import Counter
from pathlib import Path

import pytest

from holdfast.config import keyfile

PASSWORD = {"HOLDFAST_PASSWORD": keyfile.generate(bytes).decode()}
KINDS = ("archive", "mirror", "versioned")


@pytest.fixture
def configured(cli, documents: Path, tmp_path: Path) -> None:
    path = cli.home / ".config/holdfast/holdfast.yaml"
    path.parent.mkdir(parents=True)
    places = "".join(f"  {kind}: {{kind: {kind}, location: {tmp_path}/{kind}}}\n" for kind in KINDS)
    path.write_text(f"vaults:\n{places}plans:\n  docs:\n    paths: [{documents}]\n    to: [{', '.join(KINDS)}]\n")
    for kind in KINDS:
        assert cli("init", kind, **PASSWORD).code == 0
    changed = max(path.stat().st_ctime_ns for path in (documents, *documents.rglob("*")))
    if changed % 1_000_000_000 == 0:  # a disk that counts in seconds: what is younger than two is read again
        time.sleep(max(0.0, changed / 1e9 + 2.1 - time.time()))


def directory_reads(cli, need, documents: Path, log: Path, *words: str) -> tuple[Counter[str], str]:
    """How often each directory of the source was read to its end; and what the command said."""
    traced = [need("strace"), "-f", "-y", "-qq", "-e", "trace=getdents64", "-o", str(log)]
    done = subprocess.run(
        [*traced, *cli.words, *words],
        env={**cli.environ, **PASSWORD},
        cwd=cli.home,
        capture_output=True,
        timeout=120,
        check=False,
    )
    if b"ptrace" in done.stderr or not log.exists():
        pytest.skip("strace may not trace here")
    assert done.returncode == 0, done.stderr
    ends = re.findall(r"getdents64\(\d+<([^>]*)>.* = 0$", log.read_text(errors="surrogateescape"), re.MULTILINE)
    return Counter(path for path in ends if path.startswith(str(documents))), done.stdout.decode()


@pytest.mark.usefixtures("configured")
def test_one_reading_serves_all_vaults_of_a_plan(cli, need, documents: Path, tmp_path: Path) -> None:
    folders = {str(documents), *(str(path) for path in documents.rglob("*") if path.is_dir())}
    for _ in range(2):  # the first run, and one without a change
        reads, out = directory_reads(cli, need, documents, tmp_path / "log", "backup", "docs", "--json")
        assert set(reads) == folders and set(reads.values()) == {1}
        done = [json.loads(line) for line in out.splitlines()]
        assert len({event["total_files"] for event in done if "total_files" in event}) == 1
    for kind in KINDS:
        shown = cli("diff", "--vault", kind, "latest", "--json", **PASSWORD)
        assert shown.code == 0, shown.err


@pytest.mark.usefixtures("configured")
def test_one_reading_serves_all_vaults_that_are_named(cli, need, documents: Path, tmp_path: Path) -> None:
    (tmp_path / "leave out").write_text("bob.txt\n")
    words = ["backup", str(documents), "--exclude-file", str(tmp_path / "leave out")]
    for kind in KINDS:
        words += ["--to", kind]
    reads, out = directory_reads(cli, need, documents, tmp_path / "log", *words)
    assert set(reads.values()) == {1} and "bob.txt" not in out
    for kind in ("mirror", "versioned"):
        assert not list((tmp_path / kind).rglob("bob.txt"))
