"""The Prometheus rules: valid, tested alert by alert, and each linked to a section of the runbook that exists."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from programs import path_of

ROOT = Path(__file__).parents[2]
RULES = ROOT / "prometheus-rules.yml"
UNIT_TESTS = sorted((ROOT / "tests" / "rules").glob("*.test.yml"))
ALERTS: list[dict[str, Any]] = [
    rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"] if "alert" in rule
]
NAMES = [alert["alert"] for alert in ALERTS]


@pytest.fixture(scope="module")
def promtool() -> str:
    """Return the path of promtool."""
    return path_of("promtool", "prometheus")


def run(*command: str) -> str:
    """Return what the command writes; a failure shows it."""
    done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_promtool_finds_nothing_to_complain_about(promtool: str) -> None:
    """Prometheus loads the rules and its linter has no remark."""
    run(promtool, "check", "rules", "--lint=all", "--lint-fatal", str(RULES))


def test_prometheus_loads_the_configuration(promtool: str, tmp_path: Path) -> None:
    """prometheus.yml is valid, with the rules where the compose file mounts them."""
    for name in ("prometheus.yml", "prometheus-rules.yml"):
        shutil.copy(ROOT / name, tmp_path / name)
    run(promtool, "check", "config", "--lint=all", "--lint-fatal", str(tmp_path / "prometheus.yml"))


@pytest.mark.parametrize("path", UNIT_TESTS, ids=lambda path: path.name)
def test_rules_do_what_their_unit_tests_say(promtool: str, path: Path) -> None:
    """Alerts fire when they must and not on a near miss; recorded values are right."""
    run(promtool, "test", "rules", str(path))


@pytest.mark.parametrize("name", NAMES)
def test_every_alert_has_a_case_that_fires_and_a_near_miss(name: str) -> None:
    """No alert is added without a case in which it fires and one in which it must not."""
    cases = [
        bool(case["exp_alerts"])
        for path in UNIT_TESTS
        for test in yaml.safe_load(path.read_text())["tests"]
        for case in test.get("alert_rule_test", [])
        if case["alertname"] == name
    ]
    assert set(cases) == {True, False}


@pytest.mark.parametrize("alert", ALERTS, ids=NAMES)
def test_every_alert_tells_the_operator_what_it_is_and_where_to_read_on(alert: dict[str, Any]) -> None:
    """Name, severity, summary, description and a link to a section of the runbook that exists."""
    runbook = (ROOT / "docs" / "runbook.md").read_text()
    anchors = {heading.lower() for heading in re.findall(r"^## (\w+)$", runbook, re.MULTILINE)}
    annotations = alert["annotations"]
    page, _, anchor = annotations["runbook_url"].partition("#")
    assert alert["alert"].startswith("SqsExporter")
    assert alert["labels"]["severity"] in {"critical", "warning"}
    assert annotations["summary"].endswith(".")
    assert annotations["description"].endswith(".")
    assert page.endswith("/docs/runbook.md")
    assert anchor == alert["alert"].lower()
    assert anchor in anchors


def test_every_section_of_the_runbook_that_names_an_alert_has_one() -> None:
    """No section outlives its alert."""
    runbook = (ROOT / "docs" / "runbook.md").read_text()
    assert sorted(re.findall(r"^## (SqsExporter\w+)$", runbook, re.MULTILINE)) == sorted(NAMES)


def test_no_rule_names_a_job() -> None:
    """The rules work under whatever name the user scrapes the exporter."""
    assert not re.search(r"\bjob\s*[=!]", RULES.read_text())
