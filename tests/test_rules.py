"""The Prometheus rules: checked and proved by promtool, and about metrics that exist."""

from __future__ import annotations

import re
import subprocess
from typing import Any

import yaml
from prometheus_client import generate_latest

from nstd.service.metrics import Metrics
from tests.conftest import ROOT

FOLDER = ROOT / "systemd" / "prometheus"
FOREIGN = {"up", "DCGM_FI_DEV_XID_ERRORS"}


def rules() -> list[dict[str, Any]]:
    (group,) = yaml.safe_load((FOLDER / "rules.yaml").read_text())["groups"]
    found: list[dict[str, Any]] = group["rules"]
    return found


def promtool_says(promtool: str, *args: str) -> str:
    done = subprocess.run(
        [promtool, *args], cwd=FOLDER, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_promtool_accepts_the_rules(promtool: str) -> None:
    assert f"{len(rules())} rules found" in promtool_says(promtool, "check", "rules", "rules.yaml")


def test_each_alert_fires_when_it_should_and_not_before(promtool: str) -> None:
    assert "SUCCESS" in promtool_says(promtool, "test", "rules", "rules_test.yaml")


def test_every_alert_is_proved() -> None:
    tests = yaml.safe_load((FOLDER / "rules_test.yaml").read_text())["tests"]
    fired = {c["alertname"] for test in tests for c in test["alert_rule_test"] if c["exp_alerts"]}
    assert fired == {rule["alert"] for rule in rules()}


def test_alerts_speak_of_metrics_that_nstd_has() -> None:
    text = generate_latest(Metrics().registry).decode()
    known = set(re.findall(r"^(nstd_\w+)", text, re.MULTILINE)) | FOREIGN
    for rule in rules():
        names = set(re.findall(r"\b(?:nstd_\w+|up\b|DCGM_\w+)", rule["expr"]))
        assert names, rule["alert"]
        assert names <= known, rule["alert"]


def test_every_alert_says_what_it_means_and_how_urgent_it_is() -> None:
    for rule in rules():
        assert rule["labels"]["severity"] in ("page", "ticket", "info")
        assert set(rule["annotations"]) == {"summary", "description"}


def test_promtool_accepts_the_scrape_example(promtool: str, tmp_path: Any) -> None:
    (tmp_path / "rules.yaml").write_text((FOLDER / "rules.yaml").read_text())
    (tmp_path / "prometheus.yml").write_text((FOLDER / "scrape.yaml").read_text())
    promtool_says(promtool, "check", "config", str(tmp_path / "prometheus.yml"))
