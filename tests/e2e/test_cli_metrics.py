"""``holdfast metrics``: printed, written for node_exporter, served."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import urllib.request

from tests.e2e.conftest import Cli
from tests.metricskit import parsed, value

CONFIG = """
vaults: {home: {location: vault, password_env: SECRET}}
plans:
  documents: {paths: [texts], expect: {every: 26h}}
  never: {paths: [texts]}
"""


def configured(cli: Cli) -> None:
    (cli.home / "holdfast.yaml").write_text(CONFIG)
    (cli.home / "texts").mkdir()
    (cli.home / "texts" / "a.txt").write_text("a")
    cli.environ["SECRET"] = "open sesame"
    assert cli("init", "home").code == 0


def test_runs_of_the_command_line_count(cli: Cli) -> None:
    configured(cli)
    assert cli("backup", "documents").code == 0
    assert cli("check").code == 0
    assert cli("backup", "/nowhere").code == 10
    done = cli("metrics")
    assert done.code == 0
    seen = parsed(done.out.encode())
    assert value(seen, "runs_total", operation="backup", plan="documents", vault="home", outcome="ok") == 1
    assert value(seen, "runs_total", operation="backup", plan="documents", vault="", outcome="ok") == 1
    assert value(seen, "verifications_total", vault="home", outcome="ok") == 1
    assert value(seen, "snapshots", plan="documents", vault="home") == 1
    assert 0 <= value(seen, "plan_success_age_seconds", plan="documents") < 3600
    assert value(seen, "plan_success_age_seconds", plan="never") == float("inf")
    assert value(seen, "plan_expected_seconds", plan="documents") == 26 * 3600
    assert value(seen, "vault_free_bytes", vault="home") > 0
    assert parsed(json.loads(cli("metrics", "--json").out)["text"].encode()).keys() == seen.keys()


def test_the_file_for_node_exporter(cli: Cli) -> None:
    configured(cli)
    done = cli("metrics", "--textfile", "out.prom", "--json")
    assert done.code == 0 and done.summary["bytes"] == (cli.home / "out.prom").stat().st_size
    assert value(parsed((cli.home / "out.prom").read_bytes()), "up") == 1
    wrong = cli("metrics", "--textfile", "out.txt")
    assert wrong.code == 2 and ".prom" in wrong.err
    state = cli.home / ".local/state/holdfast"
    for name in os.listdir(state):
        if name.startswith("journal"):
            (state / name).unlink()
    (state / "journal.db").mkdir()
    assert cli("metrics", "--textfile", "out.prom").code != 0
    assert value(parsed((cli.home / "out.prom").read_bytes()), "up") == 0


def test_served_until_it_is_ended(cli: Cli) -> None:
    configured(cli)
    server = subprocess.Popen(
        [*cli.words, "metrics", "--listen", "127.0.0.1:0", "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=cli.environ,
        cwd=cli.home,
    )
    try:
        assert server.stdout is not None
        port = json.loads(server.stdout.readline())["port"]
        assert cli("backup", "documents").code == 0
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=60) as answer:
            seen = parsed(answer.read())
        assert value(seen, "runs_total", operation="backup", plan="documents", vault="home") == 1
        server.send_signal(signal.SIGTERM)
        out, errors = server.communicate(timeout=60)
        assert server.returncode == 0, errors
        assert json.loads(out.splitlines()[-1])["event"] == "summary"
    finally:
        server.kill()
        server.communicate()


def test_other_machines_are_refused_unless_exposed(cli: Cli) -> None:
    refused = cli("metrics", "--listen", "0.0.0.0:0")
    assert refused.code == 12 and "--expose" in refused.err
    assert cli("metrics", "--listen", "nonsense").code == 2
    assert cli("metrics", "--expose").code == 2
    assert cli("metrics", "--listen", ":0", "--textfile", "a.prom").code == 2
