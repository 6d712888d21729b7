"""The committed dashboard as the tests read it: its panels, and its queries with Grafana's variables filled in."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parent.parent
DASHBOARD: dict[str, Any] = json.loads((ROOT / "grafana" / "dashboards" / "sqs-event-exporter.json").read_text())
PANELS: list[dict[str, Any]] = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]


class Query(NamedTuple):
    """One query of one panel, as it stands in the JSON."""

    panel: str
    legend: str
    expr: str
    over_time: bool
    """Whether Grafana asks for a line over the range, not for a number at its end."""

    def filled_in(self, **values: str) -> str:
        """Return what Grafana would ask Prometheus with `All` chosen in every variable, or with `values`."""
        chosen = {"__rate_interval": "1m", "__range": "1h", "label": "type", "price": "0.40", "cluster": ".*"} | values
        return re.sub(r"\$(\w+)", lambda found: chosen.get(found[1], ".+"), self.expr)


QUERIES = [
    Query(panel["title"], target["legendFormat"] or target["refId"], target["expr"], bool(target.get("range")))
    for panel in PANELS
    for target in panel["targets"]
]
