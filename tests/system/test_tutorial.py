"""The tutorial's commands work, and print what the tutorial shows."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

DOCS = Path(__file__).resolve().parents[2] / "docs"
PROGRAM: dict[str, Any] = runpy.run_path(str(DOCS / "tutorial.py"))


def test_the_commands_print_what_is_shown() -> None:
    """But for numbers, ids and times; whoever changes what is printed runs `make docs`."""
    page = (DOCS / "tutorial.md").read_text(encoding="utf-8")
    printed = PROGRAM["filled"](page)
    masked = PROGRAM["masked"]
    assert sorted(masked(printed).splitlines()) == sorted(masked(page).splitlines())
    assert page.count("<!-- run -->") >= 6
