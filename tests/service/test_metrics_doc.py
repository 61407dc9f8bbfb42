"""The page about metrics names every one of them, and none that does not exist."""

from __future__ import annotations

import re

from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from nstd.service.metrics import Metrics
from tests.conftest import ROOT

TEXT = (ROOT / "docs" / "metrics.md").read_text()
ROWS = dict(re.findall(r"^\| `(nstd_\w+)` \| (.*)$", TEXT, re.MULTILINE))


def families() -> dict[str, set[str]]:
    """Return the names of the labels of each metric."""
    metrics = Metrics()
    metrics.job_started("a", "w0")
    found = {}
    for family in text_string_to_metric_families(generate_latest(metrics.registry).decode()):
        name = family.name + ("_total" if family.type == "counter" else "")
        if not name.endswith("_created"):
            found[name] = {key for sample in family.samples for key in sample.labels} - {"le"}
    return found


def test_every_metric_has_its_row_and_every_row_its_metric() -> None:
    assert set(ROWS) == set(families())


def test_every_label_is_named() -> None:
    for name, labels in families().items():
        for label in labels:
            assert f"`{label}`" in ROWS[name], (name, label)


def test_the_manual_names_every_alert() -> None:
    manual = (ROOT / "docs" / "administration.md").read_text()
    rules = (ROOT / "systemd" / "prometheus" / "rules.yaml").read_text()
    for alert in re.findall(r"- alert: (\w+)", rules):
        assert alert in manual
