"""The Prometheus rules and the mixin: valid, generated, and each alert linked to a section of the runbook."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import _jsonnet  # type: ignore[import-untyped]
import pytest
import yaml
from dashboard_queries import DASHBOARD, ROOT
from programs import path_of

from exporter.ledger import ERROR_REASONS as LEDGER_REASONS
from exporter.sqs import REASONS as SQS_REASONS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

RULES = ROOT / "prometheus-rules.yml"
ALERTS: list[dict[str, Any]] = [
    rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"] if "alert" in rule
]
NAMES = [alert["alert"] for alert in ALERTS]
SELECTOR = 'namespace="shop"'


@pytest.fixture(scope="module")
def promtool() -> str:
    """Return the path of promtool."""
    return path_of("promtool", "prometheus")


def run(*command: str) -> str:
    """Return what the command writes; a failure shows it."""
    done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def evaluated(configuration: str) -> Any:  # noqa: ANN401 - JSON
    """Return rules and dashboards of the mixin with a `_config` of one's own."""
    snippet = (
        f"local mixin = (import 'mixin.libsonnet') {{ _config+:: {configuration} }};"
        "{ rules: mixin.prometheusRules, dashboards: mixin.grafanaDashboards }"
    )
    return json.loads(_jsonnet.evaluate_snippet("<test>", snippet, jpathdir=[str(ROOT / "mixin")]))


def expressions(value: Any) -> Iterator[str]:  # noqa: ANN401 - JSON
    """Yield all expressions of rules or dashboards."""
    if isinstance(value, dict):
        for name, member in value.items():
            if name == "expr":
                yield member
            else:
                yield from expressions(member)
    elif isinstance(value, list):
        for member in value:
            yield from expressions(member)


def test_generating_the_rules_changes_nothing() -> None:
    """The committed rules are what the program writes from the mixin."""
    run(sys.executable, str(ROOT / "grafana" / "rules.py"), "--check")


def test_promtool_finds_nothing_to_complain_about(promtool: str) -> None:
    """Prometheus loads the rules and its linter has no remark."""
    run(promtool, "check", "rules", "--lint=all", "--lint-fatal", str(RULES))


def test_prometheus_loads_the_configuration(promtool: str, tmp_path: Path) -> None:
    """prometheus.yml is valid for Debian's Prometheus, with the rules where the compose file mounts them."""
    for name in ("prometheus.yml", "prometheus-rules.yml"):
        shutil.copy(ROOT / name, tmp_path / name)
    run(promtool, "check", "config", "--lint=all", "--lint-fatal", str(tmp_path / "prometheus.yml"))


def test_the_mixin_is_the_committed_dashboard_and_rules() -> None:
    """Without a `_config` of one's own the mixin gives what is committed."""
    plain = evaluated("{}")
    assert plain["rules"] == yaml.safe_load(RULES.read_text())
    assert plain["dashboards"] == {"sqs-event-exporter.json": DASHBOARD}


def test_a_selector_of_ones_own_is_in_every_selector_of_rules_and_dashboard() -> None:
    """Each series that an expression reads is chosen by the configured matchers, too."""
    found = list(expressions(evaluated(f"{{ selector: '{SELECTOR}' }}")))
    assert len(found) > len(ALERTS) + 50
    for expression in found:
        braces = re.findall(r"\{[^}]*\}", expression)
        assert braces
        assert all(SELECTOR in one for one in braces), expression
        emptied = re.sub(r"\{[^}]*\}", "{}", expression)
        assert not re.search(r"(?<![\w:])(?:up|ALERTS|sqs_\w+|process_\w+|instance:\w+:\w+)(?![\w:])(?!\{\})", emptied)


def test_a_selector_of_ones_own_leaves_valid_rules(promtool: str, tmp_path: Path) -> None:
    """Prometheus loads the rules that a site makes from the mixin, with its own thresholds and addresses in them."""
    changed = evaluated(
        f"{{ selector: '{SELECTOR}', lagSeconds: 77, dashboardUrl: 'https://g/d/x', clusterLabel: 'region' }}"
    )
    path = tmp_path / "rules.yml"
    path.write_text(yaml.safe_dump(changed["rules"]))
    run(promtool, "check", "rules", "--lint=all", "--lint-fatal", str(path))
    (lag,) = [rule for rule in changed["rules"]["groups"][0]["rules"] if rule.get("alert") == "SqsExporterLag"]
    assert lag["expr"].endswith("> 77")
    assert lag["annotations"]["dashboard_url"] == "https://g/d/x"


def test_a_cluster_label_of_ones_own_is_chosen_by_the_dashboard() -> None:
    """The variable is shown on top and asks for the label that tells the site's clusters apart."""
    changed = evaluated("{ clusterLabel: 'region', showCluster: true }")["dashboards"]["sqs-event-exporter.json"]
    (cluster,) = [one for one in changed["templating"]["list"] if one["name"] == "cluster"]
    assert cluster["hide"] == 0
    assert cluster["query"] == "label_values(sqs_exporter_build_info, region)"
    assert all('region=~"$cluster"' in expression for expression in expressions(changed))


@pytest.mark.parametrize("alert", ALERTS, ids=NAMES)
def test_every_alert_tells_the_operator_what_it_is_and_where_to_read_on(alert: dict[str, Any]) -> None:
    """Name, severity, summary, description, dashboard and a link to a section of the runbook that exists."""
    runbook = (ROOT / "docs" / "runbook.md").read_text()
    anchors = {heading.lower() for heading in re.findall(r"^## (\w+)$", runbook, re.MULTILINE)}
    annotations = alert["annotations"]
    page, _, anchor = annotations["runbook_url"].partition("#")
    assert alert["alert"].startswith("SqsExporter")
    assert alert["labels"]["severity"] in {"critical", "warning"}
    assert annotations["summary"].endswith(".")
    assert annotations["description"].endswith(".")
    assert annotations["dashboard_url"].endswith(f"/d/{DASHBOARD['uid']}")
    assert page.endswith("/docs/runbook.md")
    assert anchor == alert["alert"].lower()
    assert anchor in anchors


def test_every_section_of_the_runbook_that_names_an_alert_has_one() -> None:
    """No section outlives its alert."""
    runbook = (ROOT / "docs" / "runbook.md").read_text()
    assert sorted(re.findall(r"^## (SqsExporter\w+)$", runbook, re.MULTILINE)) == sorted(NAMES)


def test_every_reason_that_readiness_or_the_ledger_gives_is_in_the_runbook() -> None:
    """Whoever reads a reason on /-/ready, in the log or in a label finds what to do."""
    runbook = (ROOT / "docs" / "runbook.md").read_text()
    explained = set(re.findall(r"`(\w+)`|\((\w+)\)`", runbook))
    words = {word for pair in explained for word in pair}
    assert {*SQS_REASONS, *LEDGER_REASONS} <= words


def test_no_rule_names_a_job() -> None:
    """The rules work under whatever name the user scrapes the exporter."""
    assert not re.search(r"\bjob\s*[=!]", RULES.read_text())
