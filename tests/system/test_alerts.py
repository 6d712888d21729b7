"""Every alert fires when it must, with nothing beside it, and at no other time: promtool judges simulated exporters."""

from __future__ import annotations

import json
import re
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from alert_scenarios import FIRING, QUIET, Scenario
from dashboard_queries import ROOT
from programs import path_of
from simulated_exporter import DAY, MINUTE, promtool_values

if TYPE_CHECKING:
    from pathlib import Path

RULES = ROOT / "prometheus-rules.yml"
ALERTS: dict[str, dict[str, Any]] = {
    rule["alert"]: rule
    for group in yaml.safe_load(RULES.read_text())["groups"]
    for rule in group["rules"]
    if "alert" in rule
}


def as_a_selector(alert: str, labels: dict[str, str]) -> str:
    """Return the series that Prometheus keeps of a firing alert."""
    labels = {
        "alertname": alert,
        "alertstate": "firing",
        "severity": ALERTS[alert]["labels"]["severity"],
        **labels,
    }
    return "ALERTS{" + ", ".join(f"{name}={json.dumps(value)}" for name, value in labels.items()) + "}"


@pytest.mark.parametrize("scenario", [*QUIET.values(), *FIRING.values()], ids=[*QUIET, *FIRING])
def test_what_fires_is_what_the_scenario_says(scenario: Scenario, tmp_path: Path) -> None:
    """All firing alerts, with all their labels, are those of the scenario: none is missing and none is too many."""
    interval = MINUTE if scenario.at <= 2 * DAY else 5 * MINUTE
    case = {
        "interval": f"{interval:.0f}s",
        "input_series": [
            {"series": str(one), "values": promtool_values(one, scenario.at, interval)} for one in scenario.series
        ],
        "promql_expr_test": [
            {
                "expr": 'ALERTS{alertstate="firing"}',
                "eval_time": f"{scenario.at:.0f}s",
                "exp_samples": [
                    {"labels": as_a_selector(alert, dict(labels)), "value": 1} for alert, labels in scenario.firing
                ],
            }
        ],
    }
    path = tmp_path / "scenario.test.yml"
    path.write_text(
        json.dumps({"rule_files": [str(RULES)], "evaluation_interval": f"{interval:.0f}s", "tests": [case]})
    )
    done = subprocess.run(
        [path_of("promtool", "prometheus"), "test", "rules", str(path)], check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("alert", ALERTS)
def test_every_alert_fires_in_some_scenario(alert: str) -> None:
    """No alert is added without a case in which it fires; in every scenario that doesn't name it, it must not."""
    assert any(alert == name for scenario in FIRING.values() for name, _ in scenario.firing)


@pytest.mark.parametrize("alert", ALERTS.values(), ids=ALERTS)
def test_every_label_that_an_annotation_names_is_there(alert: dict[str, Any]) -> None:
    """No annotation has a gap where a label was aggregated away (a `with` looks first)."""
    text = " ".join(alert["annotations"].values())
    named = set(re.findall(r"\$labels\.(\w+)", re.sub(r"\{\{ with.*?end \}\}", "", text)))
    for scenario in (*QUIET.values(), *FIRING.values()):
        for name, labels in scenario.firing:
            assert name != alert["alert"] or named <= set(labels)


def test_one_cause_pages_once() -> None:
    """In no scenario do two critical alerts fire; warnings beside one name its cause."""
    for scenario in (*QUIET.values(), *FIRING.values()):
        pages = [name for name, _ in scenario.firing if ALERTS[name]["labels"]["severity"] == "critical"]
        assert len(pages) <= 1
