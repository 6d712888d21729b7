"""The documentation is in line with the code: its tables, its links, its words."""

from __future__ import annotations

import ast
import json
import re
import runpy
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PROGRAM: dict[str, Any] = runpy.run_path(str(DOCS / "generate.py"))
filled: Callable[[str], str] = PROGRAM["filled"]

PAGES = sorted(
    page
    for pattern in ("*.md", "docs/*.md", "charts/*/*.md", "grafana/*.md", "tests/*/*.md")
    for page in ROOT.glob(pattern)
)
CODE_BLOCK = re.compile(r"^ *```.*?^ *```$", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\]\(([^)\s]+)\)")
LINK_TO_HEADING = re.compile(r"\[([^]]*)\]\([^)]*\)")
NOT_OUR_WORDS = re.compile(
    r"""
    \brooms? \b                                                    # module; memory, space, limit
    | \b(?:a|the|each|every|one|this|that|next|whole|per) \s turns? \b(?! \s of \s)  # iteration, batch, commit
    | \bturns? \s of \s the \b                                     # iteration
    | \bloop \s (?:has \s)? (?:not \s)? turn(?:s|ed) \b             # goes on
    | \bheld \s back \b                                            # suppressed
    """,
    re.IGNORECASE | re.VERBOSE,
)
"""Words that the project once had of its own, and what is said today."""


@pytest.mark.parametrize("page", PROGRAM["PAGES"])
def test_the_tables_of_a_page_are_those_of_the_code(page: str) -> None:
    """Whoever adds a metric or a setting runs `make docs`."""
    assert (DOCS / page).read_text(encoding="utf-8") == filled(page)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_links_of_a_page_lead_somewhere(page: Path) -> None:
    """Every relative link names a file of the repository, and every anchor a heading of a page."""
    dead = []
    for link in LINK.findall(_without_code(page)):
        path, _, anchor = link.partition("#")
        if re.match(r"[a-z]+:", link):
            continue
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in _anchors(target)):
            dead.append(link)
    assert dead == []


def test_every_panel_that_the_runbook_names_is_on_the_dashboard() -> None:
    """Who is sent to a panel finds one of that name."""
    dashboard = json.loads((ROOT / "grafana/dashboards/sqs-event-exporter.json").read_text(encoding="utf-8"))
    titles = {panel["title"].replace("$label", "type") for panel in dashboard["panels"]}
    quoted = re.findall(r'"([A-Z][^"]+)"', _without_code(DOCS / "runbook.md"))
    assert len(quoted) > 10
    assert {*quoted} - {"Targets"} <= titles, "Targets is a page of Prometheus"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_page_speaks_the_words_of_the_field(page: Path) -> None:
    """No page has a word that only this project would understand."""
    assert NOT_OUR_WORDS.findall(_without_code(page)) == []


def test_the_program_speaks_the_words_of_the_field() -> None:
    """Neither a log line, nor an error, nor a docstring has a word that only this project would understand."""
    found = [
        f"{path.relative_to(ROOT)}:{line}: {NOT_OUR_WORDS.findall(text)}"
        for path in sorted((ROOT / "exporter").rglob("*.py"))
        for line, text in _texts(path)
        if NOT_OUR_WORDS.search(text)
    ]
    assert found == []


def _without_code(page: Path) -> str:
    return CODE_BLOCK.sub("", page.read_text(encoding="utf-8"))


def _anchors(page: Path) -> set[str]:
    """Return the anchors that GitHub gives a page's headings."""
    headings = re.findall(r"^#+ (.*)$", _without_code(page), re.MULTILINE)
    plain = (LINK_TO_HEADING.sub(r"\1", heading).strip().lower() for heading in headings)
    return {re.sub(r"[^\w\- ]", "", heading).replace(" ", "-") for heading in plain}


def _texts(path: Path) -> Iterator[tuple[int, str]]:
    """Give every string of a module, docstrings included, with its line."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.lineno, node.value
