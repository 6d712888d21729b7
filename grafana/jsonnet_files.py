"""The files of mixin/ as Python reads them: jsonnet, evaluated."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import _jsonnet  # type: ignore[import-untyped]

FOLDER = Path(__file__).parents[1] / "mixin"


def evaluate(snippet: str) -> Any:  # noqa: ANN401 - JSON
    """Return what a jsonnet expression gives; `import` finds the files of mixin/."""
    return json.loads(_jsonnet.evaluate_snippet("<snippet>", snippet, jpathdir=[str(FOLDER)]))


CONFIG: dict[str, Any] = evaluate("(import 'config.libsonnet')._config")
"""The thresholds and addresses that dashboard and rules share."""
