"""Metrics: what facts count as, that each counts once, that labels are bounded, and that ages go on."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from tests.metricskit import PLACES, Told, value
from tests.monitorkit import HOUR

from holdfast.app.metrics import places
from holdfast.config.load import check_text
from holdfast.config.settings import Settings
from holdfast.monitor.metrics import fold, store
from holdfast.monitor.metrics.exposed import Expected, View, families


@pytest.fixture
def told(tmp_path: Path) -> Told:
    return Told(tmp_path)


def test_a_backup_counts_with_its_size_its_duration_and_its_snapshot(told: Told) -> None:
    data = {"snapshot": "ab" * 32, "total_bytes": 5_000, "total_files": 7, "data_added_packed": 900, "seconds": 12.5}
    told.run("backup", plan="documents", vault="home", **data)
    told.run("backup", plan="documents", seconds=13.0)
    told.clock.sleep(3600)
    seen = told.series()
    assert value(seen, "runs_total", operation="backup", plan="documents", vault="home", outcome="ok") == 1
    assert value(seen, "runs_total", operation="backup", vault="") == 1
    assert value(seen, "run_duration_seconds_count", operation="backup") == 2
    assert value(seen, "run_duration_seconds_sum", operation="backup") == 25.5
    assert value(seen, "run_duration_seconds_bucket", operation="backup", le="5.0") == 0
    assert value(seen, "run_duration_seconds_bucket", operation="backup", le="15.0") == 2
    assert value(seen, "added_bytes_total", vault="home") == 900
    assert value(seen, "snapshot_size_bytes", plan="documents") == 5_000
    assert value(seen, "snapshot_files", plan="documents") == 7
    assert value(seen, "snapshots", plan="documents", vault="home") == 1
    assert value(seen, "snapshot_newest_age_seconds", vault="home") == 3600
    assert value(seen, "last_success_age_seconds", vault="home", host="here") == 3600
    assert value(seen, "last_run_ok", vault="home") == 1


def test_a_mirror_holds_one_snapshot_of_each_plan(told: Told) -> None:
    for name, size in (("aa", 10), ("bb", 30)):
        told.run("backup", plan="docs", vault="disk", kind="mirror", snapshot=name, total_bytes=size)
        told.run("backup", plan="tunes", vault="disk", kind="mirror", snapshot=name * 2, total_bytes=size)
        told.clock.sleep(100)
    seen = told.series()
    for plan in ("docs", "tunes"):
        assert value(seen, "snapshots", plan=plan) == 1 and value(seen, "snapshots_size_bytes", plan=plan) == 30
        assert value(seen, "snapshot_oldest_age_seconds", plan=plan) == 100


def test_every_operation_has_its_counter(told: Told) -> None:
    told.run("check", "failed", vault="home")
    told.run("restore", vault="home")
    told.run("prune", vault="home", removed_bytes=70)
    told.run("backup", plan="p", vault="cloud", data_added_packed=11, snapshot="aa")
    told.run("copy", "failed", plan="p", vault="home", stored=22, error={"code": "unavailable", "message": "away"})
    told.run("backup", "partial", vault="home", problems=3)
    told.run("drill", "ok", plan="p", vault="home")
    told.fact("drill.finished", {"outcome": "ok", "seconds": 9.0, "data_age_seconds": 60}, plan="p", vault="home")
    told.fact("damage.found", {}, vault="home")
    told.fact("vault.space", {"free": 1, "total": 3, "used": 2}, vault="home")
    told.fact("health.checked", {"ok": False, "checks": [{"name": "a", "result": "fail"}, {"result": "pass"}]})
    told.fact("notice.raised", {"rule": "failed"})
    told.fact("notice.sent", {"channel": "phone"})
    told.fact("notice.failed", {"channel": "mail"})
    told.notice("failed", "mail")
    told.clock.sleep(5)
    seen = told.series()
    assert value(seen, "notices_open", rule="failed") == value(seen, "notice_deliveries_waiting", channel="mail") == 1
    assert value(seen, "verifications_total", outcome="failed") == 1
    assert value(seen, "restores_total", vault="home") == 1
    assert value(seen, "pruned_bytes_total") == 70
    assert value(seen, "uploads_total", operation="backup", vault="cloud", outcome="ok") == 1
    assert value(seen, "uploads_total", operation="copy", outcome="failed") == 1
    assert value(seen, "uploads_total") == 2  # not the backup into a vault of this machine
    assert value(seen, "uploaded_bytes_total", vault="cloud") == 11
    assert value(seen, "uploaded_bytes_total", vault="home") == 22
    assert value(seen, "upload_duration_seconds_count", operation="copy") == 1
    assert value(seen, "errors_total", operation="copy", code="unavailable") == 1
    assert value(seen, "items_failed_total", operation="backup") == 3
    assert value(seen, "drills_total", plan="p", outcome="ok") == 1
    assert value(seen, "drill_recovery_seconds") == 9 and value(seen, "drill_data_age_seconds") == 60
    assert value(seen, "drill_success_age_seconds") == 5
    assert value(seen, "damage_found_total") == 1
    assert value(seen, "vault_free_bytes") == 1 and value(seen, "vault_size_bytes") == 3
    assert value(seen, "health_ok") == 0 and value(seen, "health_checks", result="fail") == 1
    assert value(seen, "notices_total", rule="failed", event="raised") == 1
    assert value(seen, "notice_deliveries_total", channel="mail", outcome="failed") == 1
    assert value(seen, "up") == 1 and value(seen, "build_info", version="1.2.3") == 1


def test_each_fact_counts_once_however_often_one_looks(told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "STEP", 7)
    for _ in range(30):
        told.run("backup", vault="home")
        told.fact("run.started")
    for _ in range(3):
        assert value(told.series(), "runs_total") == 30
    told.run("backup", vault="home")
    assert value(told.series(), "runs_total") == 31
    assert value(told.series(), "journal_lag_facts") == 0


def test_what_there_is_no_time_for_is_counted_next_time_and_told(told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "STEP", 10)
    for _ in range(25):
        told.run("check", vault="home")

    class Slow:
        """Every look at it takes 3 s."""

        def __init__(self) -> None:
            self.at = 0.0

        def monotonic(self) -> float:
            self.at += 3
            return self.at

    store.advance(told.journal, PLACES, Slow(), seconds=5.0)  # type: ignore[arg-type]
    assert store.state(told.journal).waiting == 15
    assert value(told.series(), "runs_total") == 25


def test_a_step_that_fails_counts_nothing_twice(told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    told.run("backup", vault="home", snapshot="aa")

    def broken(*_words: object) -> None:
        raise RuntimeError("killed")

    with monkeypatch.context() as patch:
        patch.setattr(store, "_snapshot", broken)
        with pytest.raises(RuntimeError):
            told.state()
    assert value(told.series(), "runs_total") == 1 and value(told.series(), "snapshots") == 1


def test_snapshots_come_are_renamed_copied_and_go(told: Told) -> None:
    for name in ("aa", "bb", "cc"):
        told.run("backup", plan="p", vault="home", snapshot=name, total_bytes=10)
        told.clock.sleep(100)
    told.fact("snapshot.copied", {"from": "cc", "to": "c2"}, vault="cloud", operation="copy")
    told.fact("snapshot.copied", {"from": "unknown", "to": "u2"}, vault="cloud", operation="copy")
    told.fact("snapshot.tagged", {"before": "bb", "snapshot": "b2"}, vault="home")
    told.fact("snapshot.forgotten", {"snapshot": "aa"}, vault="home")
    seen = told.series()
    assert value(seen, "snapshots", vault="home") == 2 and value(seen, "snapshots_size_bytes", vault="home") == 20
    assert value(seen, "snapshot_oldest_age_seconds", vault="home") == 200
    assert value(seen, "snapshot_newest_age_seconds", vault="cloud", plan="p") == 100
    assert value(seen, "snapshots", vault="cloud") == 2
    assert value(seen, "snapshots_forgotten_total") == 1
    told.fact("snapshot.forgotten", {"snapshot": "b2"}, vault="home")
    told.fact("snapshot.forgotten", {"snapshot": "cc"}, vault="home")
    seen = told.series()
    assert all(("vault", "home") not in labels for labels in seen["holdfast_snapshots"])


def test_ages_go_on_while_nothing_runs_and_a_plan_that_never_ran_is_infinitely_late(told: Told) -> None:
    expected = Expected(("documents", "never"), {"documents": 26 * 3600.0}, "here")
    told.run("backup", plan="documents", vault="home")
    told.run("backup", plan="documents")
    told.clock.sleep(HOUR // 10**9 * 30)
    told.run("backup", "failed", plan="documents")
    seen = told.series(expected)
    assert value(seen, "plan_success_age_seconds", plan="documents", host="here") == 30 * 3600
    assert value(seen, "plan_success_age_seconds", plan="never") == math.inf
    assert value(seen, "plan_expected_seconds", plan="documents") == 26 * 3600
    told.clock.now -= 100 * HOUR
    assert value(told.series(expected), "plan_success_age_seconds", plan="documents") == 0


def test_series_are_bounded_and_odd_facts_do_no_harm(told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fold, "MOST_SERIES", 5)
    for number in range(20):
        told.run("run", plan=f"job{number}")
    told.run("backup", "unheard of", vault="/some/where", error={"code": ["x"]}, seconds="long", total_bytes=None)
    told.fact("run.finished", {}, operation="x" * 500)
    told.fact("drill.finished", {"outcome": 5, "seconds": True})
    told.fact("health.checked", {"checks": "none"})
    told.fact("snapshot.forgotten", {"snapshot": 5})
    seen = told.series()
    assert value(seen, "runs_total") == 22
    assert len({key for key, count in seen["holdfast_runs_total"].items() if count}) <= 8
    assert value(seen, "runs_total", plan="other", operation="other", vault="other", outcome="ok") == 15
    assert all(len(text) <= 64 for labels in seen["holdfast_runs_total"] for _, text in labels)


def test_without_a_journal_there_is_up_0_and_no_count() -> None:
    names = {family.name: family for family in families(View(None, Expected(("p",), {"p": 60.0}), 0, "1"))}
    assert names["holdfast_up"].samples[0].value == 0
    assert "holdfast_runs" not in names and "holdfast_plan_expected_seconds" in names


def test_vaults_are_called_by_their_names_and_ad_hoc_places_are_one(tmp_path: Path) -> None:
    text = """
vaults:
  home: {location: /srv/home, default: true}
  cloud: {location: "s3:bucket/prefix"}
plans: {p: {paths: [/a]}}
"""
    settings = Settings(check_text(text, tmp_path / "holdfast.yaml", {}))
    known = places(settings, "/data/vault")
    assert [known.label(text) for text in ("home", "/srv/home", "/data/vault", "/else", "sftp:u@h:/x", "gone", "")] == [
        "home",
        "home",
        "default",
        "other",
        "other",
        "gone",
        "",
    ]
    assert [known.is_remote(text) for text in ("home", "cloud", "rest:http://h/", "/x")] == [False, True, True, False]
    assert places(None, "/data/vault").label("/data/vault") == "default"
