"""Makes the chart's README and values.schema.json from values.yaml, where each value's description stands above it.

Also copies the alerts and the dashboard into the chart, whose templates can read no file outside of it.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, NamedTuple

import yaml

HERE = Path(__file__).parent
CHART = HERE / "sqs-event-exporter"
COPIES = {
    "prometheus-rules.yml": HERE.parent / "prometheus-rules.yml",
    "sqs-event-exporter.json": HERE.parent / "grafana" / "dashboards" / "sqs-event-exporter.json",
}
INDENT = 2
KEY = re.compile(r"( *)([A-Za-z]+):(.*)")

TYPES = {bool: "boolean", int: "integer", str: "string", list: "array", dict: "object"}
NARROWER: dict[str, dict[str, Any]] = {
    "queue": {"type": ["string", "array"], "items": {"type": "string"}},
    "ledger.mode": {"enum": ["sqlite", "postgres"]},
    "ledger.name": {"pattern": "^[a-zA-Z0-9._-]{0,63}$"},
    "ledger.cluster": {"pattern": "^[a-zA-Z0-9._-]{0,63}$"},
    "ledger.sqlite.accessMode": {"enum": ["ReadWriteOncePod", "ReadWriteOnce"]},
    "ledger.postgres.url": {"pattern": "^(postgres(ql)?://.*)?$"},
    "replicas": {"minimum": 1},
    "web.port": {"minimum": 1, "maximum": 65535},
    "web.scheme": {"enum": ["HTTP", "HTTPS"]},
    "keda.minReplicas": {"minimum": 1},
    "keda.maxReplicas": {"minimum": 1},
    "keda.messagesPerSecond": {"minimum": 1},
    "keda.drainSeconds": {"minimum": 1},
    "podDisruptionBudget.maxUnavailable": {"type": ["integer", "string"]},
    "image.pullPolicy": {"enum": ["Always", "IfNotPresent", "Never"]},
}
"""What a value's default alone does not say."""


class Value(NamedTuple):
    """One value: its path, its description and its default."""

    path: tuple[str, ...]
    description: str
    default: Any

    @property
    def name(self) -> str:
        """As `--set` names it."""
        return ".".join(self.path)


def values() -> list[Value]:
    """Read values.yaml: every key with a comment above it is a value, the others lead to some."""
    text = (CHART / "values.yaml").read_text(encoding="utf-8")
    defaults = yaml.safe_load(text)
    found: list[Value] = []
    path: list[str] = []
    comment: list[str] = []
    inside = -1
    for line in text.splitlines():
        stripped = line.strip()
        if stripped.startswith("#"):
            comment.append(stripped.removeprefix("#").strip())
            continue
        match = KEY.fullmatch(line)
        if match is None:
            comment = []
            continue
        depth = len(match[1]) // INDENT
        if inside >= 0 and depth > inside:
            continue  # below a value that is a mapping
        inside = -1
        path = [*path[:depth], match[2]]
        if comment:
            default = defaults
            for key in path:
                default = default[key]
            found.append(Value(tuple(path), " ".join(comment), default))
            inside = depth
        comment = []
    return found


def schema() -> str:
    """Return values.schema.json: the type of each value, and no unknown ones."""
    root: dict[str, Any] = {
        "$schema": "https://json-schema.org/draft-07/schema#",
        "title": "Values of the chart sqs-event-exporter",
    }
    _object(root)
    root["properties"]["global"] = {"type": "object"}  # Helm's own, where the chart is another one's dependency
    for value in values():
        parent = root
        for key in value.path[:-1]:
            parent = parent["properties"].setdefault(key, {})
            _object(parent)
        own: dict[str, Any] = {"description": value.description, "type": TYPES[type(value.default)]}
        parent["properties"][value.path[-1]] = own | NARROWER.get(value.name, {})
    return json.dumps(root, indent=2) + "\n"


def _object(node: dict[str, Any]) -> None:
    node.setdefault("type", "object")
    node.setdefault("additionalProperties", False)
    node.setdefault("properties", {})


def readme() -> str:
    """Return README.md: what stands above the table, and the table of values."""
    head, _, _ = (CHART / "README.md").read_text(encoding="utf-8").partition("| value |")
    rows = [
        f"| `{value.name}` | {value.description} | `{json.dumps(value.default, ensure_ascii=False)}` |"
        for value in values()
    ]
    return "\n".join([head + "| value | what it is | default |", "|---|---|---|", *rows]) + "\n"


def generated() -> dict[Path, str]:
    """Return the text of every file that is made."""
    made = {CHART / "values.schema.json": schema(), CHART / "README.md": readme()}
    return made | {CHART / "files" / name: source.read_text(encoding="utf-8") for name, source in COPIES.items()}


if __name__ == "__main__":
    for file, content in generated().items():
        file.write_text(content, encoding="utf-8")
