"""The simulated exporter and all that is asked of Prometheus speak of the metrics that the exporter has."""

from __future__ import annotations

import re

from dashboard_queries import QUERIES, ROOT
from simulated_exporter import AGE_BUCKETS, ledger, process

from exporter.telemetry.metrics import names

NAMES = {name.name: name for name in vars(names).values() if isinstance(name, names.Name)}
OF_THE_LIBRARY_OR_PROMETHEUS = re.compile(r"up|process_\w+")


def base(name: str) -> str:
    """Return the metric whose series it is: a histogram has several."""
    return name if name in NAMES else re.sub(r"_(?:bucket|count|sum)$", "", name)


def test_every_simulated_series_has_the_name_and_labels_of_a_metric() -> None:
    """What rules and dashboard are tested with is what they get."""
    for one in (*process({}), *ledger({})):
        if not OF_THE_LIBRARY_OR_PROMETHEUS.fullmatch(one.name):
            labels = set(one.labels) - {"le", "instance"}
            assert labels == set(NAMES[base(one.name)].labels), one.name


def test_every_metric_is_simulated() -> None:
    """No metric is added that the tests of rules and dashboard don't know."""
    assert {base(one.name) for one in (*process({}), *ledger({}))} >= NAMES.keys()


def test_every_metric_that_rules_and_dashboard_name_exists() -> None:
    """No panel and no alert asks for a name that nothing shows."""
    text = "\n".join([(ROOT / "prometheus-rules.yml").read_text(), *(query.expr for query in QUERIES)])
    asked = set(re.findall(r"\b(sqs_\w+)\{", text)) | set(re.findall(r"\b(sqs_\w+_total)\b", text))
    assert {base(name) for name in asked} - {"sqs_exporter_messages_"} <= NAMES.keys()


def test_the_buckets_of_ages_are_the_exporters() -> None:
    """The simulation that shows ages to be right within a quarter has the true buckets."""
    assert list(AGE_BUCKETS) == list(names.AGE_BUCKETS)
