"""Durations in the Prometheus manner: `10s`, `1h30m`, `100ms`, `0`.

https://prometheus.io/docs/prometheus/latest/configuration/configuration/ (`<duration>`)
"""

from __future__ import annotations

import re

UNIT_MILLISECONDS = {
    "y": 365 * 86_400_000,
    "w": 7 * 86_400_000,
    "d": 86_400_000,
    "h": 3_600_000,
    "m": 60_000,
    "s": 1_000,
    "ms": 1,
}
_DURATION = re.compile("".join(rf"(?:([0-9]{{1,9}}){unit})?" for unit in UNIT_MILLISECONDS))


def parse_duration(text: str) -> float:
    """Return seconds. Raises ValueError for anything but units in falling order, each once, or a plain 0."""
    if text == "0":
        return 0.0
    found = _DURATION.fullmatch(text)
    if not text or found is None:
        message = "not a duration such as 10s or 1h30m"
        raise ValueError(message)
    counts = (int(digits or 0) for digits in found.groups())
    return sum(count * unit for count, unit in zip(counts, UNIT_MILLISECONDS.values(), strict=True)) / 1_000


def format_duration(seconds: float) -> str:
    """Return the duration as `parse_duration` reads it, to the millisecond, in days at most: `90.0` is `1m30s`."""
    left = round(seconds * 1_000)
    parts = []
    for unit, milliseconds in UNIT_MILLISECONDS.items():
        count, left = (0, left) if unit in {"y", "w"} else divmod(left, milliseconds)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0"
