"""docs/exactly-once.md names the test that shows each part of the promise: they have to be there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

TESTS = Path(__file__).parents[1]
NAMED = re.compile(r"`(test_\w+\.py)::(\w+)`")


def test_every_test_that_the_promise_names_exists() -> None:
    """A test that is renamed or dropped takes its line of the page along."""
    named = NAMED.findall((TESTS.parent / "docs" / "exactly-once.md").read_text(encoding="utf-8"))
    assert len(named) >= 30
    files = {path.name: path for path in TESTS.glob("*/test_*.py")}
    missing = [f"{file}::{name}" for file, name in named if name not in defined_in(files.get(file))]
    assert missing == []


def defined_in(path: Path | None) -> set[str]:
    """Return the functions and classes at the top of a file; none where there is no file."""
    tree = ast.parse(path.read_text(encoding="utf-8") if path else "")
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
