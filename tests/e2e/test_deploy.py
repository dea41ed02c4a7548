"""What ``deploy/`` offers: alert rules that fire as they should, and a dashboard that shows something everywhere."""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.metricskit import Told
from tests.servers.prometheus import Prometheus, Scraping
from tests.unit.test_metrics_server import running

from holdfast.monitor.metrics.exposed import Expected, View

DEPLOY = Path(__file__).parents[2] / "deploy"


def test_every_alert_fires_when_it_should_and_only_then(need: Callable[[str], str]) -> None:
    promtool = need("promtool")
    folder = DEPLOY / "prometheus"
    for words in (["check", "rules", "alerts.yml"], ["test", "rules", "tests/alerts.yml"]):
        done = subprocess.run([promtool, *words], cwd=folder, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    named = set(re.findall(r"alert: (\w+)", (folder / "alerts.yml").read_text()))
    tested = set(re.findall(r"alertname: (\w+)", (folder / "tests" / "alerts.yml").read_text()))
    assert named == tested


def expressions() -> dict[str, str]:
    """Panel and letter -> what is asked there, with its variables filled in as "All" fills them."""
    found: dict[str, str] = {}
    for panel in json.loads((DEPLOY / "grafana" / "dashboard.json").read_text())["panels"]:
        for target in panel.get("targets", ()):
            found[f"{panel['title']} {target['refId']}"] = re.sub(r"\$(plan|vault|host)\b", ".*", target["expr"])
    return found


def everything(told: Told) -> None:
    """Facts of every kind, as a busy week leaves them."""
    data: dict[str, Any] = {"total_bytes": 500, "total_files": 5, "data_added_packed": 50, "problems": 1}
    told.run("backup", "partial", plan="documents", vault="home", snapshot=f"{told.number:064x}", **data)
    told.run("backup", "ok", plan="documents")
    told.run("backup", "failed", plan="documents", vault="cloud", error={"code": "unavailable"}, **data)
    told.run("copy", "ok", plan="documents", vault="cloud", stored=70)
    told.run("check", "ok", vault="home")
    told.run("restore", "ok", vault="home")
    told.run("prune", "ok", vault="home", removed_bytes=7)
    told.fact("snapshot.forgotten", {"snapshot": "gone"}, vault="home")
    told.fact("damage.found", {}, vault="home")
    told.fact("vault.space", {"free": 30, "total": 100, "used": 70}, vault="home")
    told.fact("drill.finished", {"outcome": "ok", "seconds": 9, "data_age_seconds": 60}, plan="documents", vault="home")
    told.fact("health.checked", {"ok": True, "checks": [{"result": "pass"}]})
    told.fact("notice.raised", {"rule": "failed"})
    told.fact("notice.sent", {"channel": "phone"})


def unanswered(server: Prometheus, wanted: dict[str, str]) -> list[str]:
    return [where for where, expression in wanted.items() if not server.query(expression)]


def test_every_expression_of_the_dashboard_returns_a_series(prometheus: Scraping, tmp_path: Path) -> None:
    told = Told(tmp_path / "state")
    told.notice("failed", "mail")
    expected = Expected(("documents",), {"documents": 3600.0}, "here")

    def view() -> View:
        everything(told)  # something happens all the time: rates need two different values
        return View(told.state(), expected, told.clock.now, "1")

    wanted = expressions()
    assert len(wanted) > 30
    with running(view) as (port, troubles), prometheus(port) as server:
        until = time.monotonic() + 60
        while (missing := unanswered(server, wanted)) and time.monotonic() < until:
            time.sleep(0.5)
        assert not missing
        assert not troubles
        names = {series["metric"]["__name__"] for series in server.query('{__name__=~"holdfast_.+"}')}
        used = " ".join([*wanted.values(), (DEPLOY / "prometheus" / "alerts.yml").read_text()])
        # What nobody looks at is not worth telling, and what is looked at has to exist.
        mentioned = set(re.findall(r"\bholdfast_\w+", used))
        assert mentioned <= names, mentioned - names
        assert all(rule["health"] != "err" for rule in server.rules())
