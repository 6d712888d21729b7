"""One line of `check`: what was checked, what was found, and whether it would keep `run` from working."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable

Status = Literal["ok", "warning", "error"]

OBSTACLE = 1
WRONG_SETTING = 2

_WIDTH = 12


@dataclass(frozen=True, slots=True)
class Finding:
    """What was looked at, in a word or two, and what was found, in one sentence.

    `exit_code` is 0 unless it is an error: OBSTACLE where something outside the settings stands in the way of a run,
    WRONG_SETTING where a setting does.
    """

    subject: str
    sentence: str
    status: Status = "ok"
    exit_code: int = 0


def warning(subject: str, sentence: str) -> Finding:
    """Make a finding that a run can live with."""
    return Finding(subject, sentence, "warning")


def error(subject: str, sentence: str, exit_code: int = OBSTACLE) -> Finding:
    """Make a finding that a run can't live with."""
    return Finding(subject, sentence, "error", exit_code)


def exit_code(findings: Iterable[Finding]) -> int:
    """Return 2 where a setting is wrong, else 1 where something else stands in the way, else 0."""
    return max((finding.exit_code for finding in findings), default=0)


def as_text(finding: Finding) -> str:
    """Return a line for people: `ok       queue        orders: ...`."""
    return f"{finding.status:<8} {finding.subject:<{_WIDTH}} {finding.sentence}"


def as_json(findings: Iterable[Finding]) -> str:
    """Return all of it as one JSON object."""
    findings = list(findings)
    return json.dumps(
        {"exit_code": exit_code(findings), "findings": [dataclasses.asdict(finding) for finding in findings]}, indent=2
    )


def in_words(findings: Iterable[Finding]) -> str:
    """Return the last line for people: what it comes to."""
    findings = list(findings)
    errors = sum(finding.status == "error" for finding in findings)
    warnings = sum(finding.status == "warning" for finding in findings)
    counted = f"{_number(warnings, 'warning')}"
    if not errors:
        return f"run will work here ({counted})"
    return f"run will not work here: {_number(errors, 'error')}, {counted}"


def _number(count: int, what: str) -> str:
    return f"{count or 'no'} {what}{'' if count == 1 else 's'}"
