"""Numbers, times and rates of the landing page, as people read them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from exporter.web.history import Point

UNKNOWN = "&ndash;"
NANO = 10**9
_DAY_SECONDS = 86_400
_WIDTH, _HEIGHT = 120, 24
"""Of a sparkline, in its own units."""


def sparkline(points: list[Point]) -> str:
    """Return rates as inline SVG, as wide as they are known; without any it is a line at 0."""
    highest = max((point.rate for point in points), default=0.0)
    width = max((point.seconds_ago for point in points), default=0.0) or 1.0
    drawn = " ".join(
        f"{_WIDTH * (1 - point.seconds_ago / width):.0f},"
        f"{_HEIGHT - 1 - (_HEIGHT - 3) * (point.rate / highest if highest else 0):.0f}"
        for point in points
    )
    label = f"rate of the last minutes, at most {rate_text(highest)}"
    line = f'<polyline points="{drawn}"/>' if points else ""
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" preserveAspectRatio="none" role="img" aria-label="{label}">'
        f'<path d="M0 {_HEIGHT - 1}H{_WIDTH}"/>{line}</svg>'
    )


def number(value: int) -> str:
    """Return a whole number with its thousands marked."""
    return f"{value:,}"


def amount(nano: int) -> str:
    """Return a sum of 1e-9 exactly, without zeros at the end."""
    whole, fraction = divmod(abs(nano), NANO)
    digits = f"{fraction:09}".rstrip("0")
    sign = "&minus;" if nano < 0 else ""
    return f"{sign}{whole:,}{'.' if digits else ''}{digits}"


def rate_text(rate: float | None) -> str:
    """Return events a second with two or three digits."""
    if rate is None:
        return UNKNOWN
    if rate >= 100 or not rate:  # noqa: PLR2004 - three digits say enough
        return f"{rate:,.0f}/s"
    return f"{rate:.3g}/s" if rate >= 1 else f"{rate:.2g}/s"


def duration(seconds: float) -> str:
    """Return a duration for people, by its two largest units."""
    if seconds < 1:
        return f"{max(0, round(seconds * 1000))} ms"
    parts = []
    rest = round(seconds)
    for unit, size in (("d", _DAY_SECONDS), ("h", 3600), ("min", 60), ("s", 1)):
        count, rest = divmod(rest, size)
        if count:
            parts.append(f"{count} {unit}")
    return " ".join(parts[:2])


def when(seconds: float | None, now_seconds: float) -> str:
    """Return how long ago a moment (Unix time) was, or its date where that was yesterday or before."""
    if seconds is None:
        return UNKNOWN
    try:
        at = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")
    except (OverflowError, ValueError, OSError):
        return UNKNOWN
    ago = now_seconds - seconds
    text = at if ago >= _DAY_SECONDS else f"{duration(ago)} ago" if ago >= 1 else "now"
    return f'<time title="{at} UTC">{text}</time>'
