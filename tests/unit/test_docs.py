"""The tables of the documentation are those of the code."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

DOCS = Path(__file__).resolve().parents[2] / "docs"
PROGRAM: dict[str, Any] = runpy.run_path(str(DOCS / "generate.py"))
filled: Callable[[str], str] = PROGRAM["filled"]


@pytest.mark.parametrize("page", PROGRAM["PAGES"])
def test_the_tables_of_a_page_are_those_of_the_code(page: str) -> None:
    """Whoever adds a metric or a setting runs `make docs`."""
    assert (DOCS / page).read_text(encoding="utf-8") == filled(page)
