"""docs/performance.md, and the parts of it that the benchmarks write."""

from __future__ import annotations

from pathlib import Path

PAGE = Path(__file__).parent.parent / "docs" / "performance.md"


def write(name: str, text: str) -> None:
    """Replace what stands between the two comments of that name."""
    begin, end = f"<!-- {name}: written by a benchmark -->", f"<!-- end of {name} -->"
    head, found, rest = PAGE.read_text().partition(begin)
    if not found or end not in rest:
        raise ValueError(f"{PAGE} lacks the comments {begin} and {end}")
    PAGE.write_text(f"{head}{begin}\n\n{text}\n\n{end}{rest.partition(end)[2]}")
