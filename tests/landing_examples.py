"""Landing pages with something on them, for tests and for the picture in the README: a shop, well and ill."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from exporter.sqs import QueueDepth
from exporter.web.history import Ages
from exporter.web.landing import LandingPage, LandingPages

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

STARTED_SECONDS = 1_790_000_000.0
UP_SECONDS = 11_400.0
NANO = 10**9


@dataclass(frozen=True)
class Totals:
    """What the ledger keeps of a type."""

    count: int = 0
    value_nano: int = 0
    negative_nano: int = 0
    last_occurred_seconds: float | None = None


@dataclass(frozen=True)
class Kept:
    """What the ledger keeps of a queue, as far as the page shows it."""

    types: Mapping[str, Totals]
    received: int = 0
    duplicate: int = 0
    rejected: Mapping[str, int] = field(default_factory=dict)
    released: Mapping[str, int] = field(default_factory=dict)
    messages: int = 0
    unsettled_messages: int = 0


def shop(now: float) -> Kept:
    """Return what a shop's exporter has counted after so many seconds: more in the evening than in the morning."""

    def counted(per_second: float, phase: float) -> int:
        waves = ((25, 80), (7, 23), (2, 6), (0.6, 1.7))
        return int(per_second * (now + sum(size * math.sin(now / long + phase * size) for size, long in waves)))

    views, baskets, purchases = counted(41.3, 0), counted(6.1, 1), counted(1.37, 2)
    refunds, searches = counted(0.043, 3), counted(12.7, 4)
    at = STARTED_SECONDS + now
    types = {
        "pageview": Totals(views, views * NANO, 0, at - 0.4),
        "search": Totals(searches, searches * NANO, 0, at - 2.2),
        "added-to-basket": Totals(baskets, baskets * 27_350_000_000, 0, at - 3.1),
        "purchase": Totals(purchases, purchases * 61_437_500_000, 0, at - 9.8),
        "refund": Totals(refunds, 0, refunds * 38_910_000_000, at - 74.0),
    }
    total = views + baskets + purchases + refunds + searches
    return Kept(
        types,
        received=total + 412 + 37,
        duplicate=412,
        rejected={"invalid_json": 31, "missing_field": 6, "too_large": 0},
        released={"expired": 0},
        messages=216_430,
        unsettled_messages=143,
    )


def page(now: float, **changes: Any) -> LandingPage:  # noqa: ANN401 - the page's own fields
    """Return the page of that shop after so many seconds."""
    fields: dict[str, Any] = {
        "version": "0.1.0 (revision 0123456789ab, Python 3.13.5)",
        "started_seconds": STARTED_SECONDS,
        "ready": True,
        "state": "Ready.",
        "snapshots": {"shop-events": shop(now)},
        "depths": {"shop-events": QueueDepth(184, 92, 0, "shop-events-dead", 0)},
        "problems": {"shop-events": None},
        "ledger": "shop-eu",
        "max_messages": 1_000_000,
    }
    return LandingPage(**{**fields, **changes})


def rendered(
    at: Callable[[float], LandingPage] = page,
    *,
    seconds: float = UP_SECONDS,
    ages: Callable[[float], Mapping[str, Ages]] = lambda now: {"shop-events": Ages(now * 62 * 0.34, now * 62)},
) -> str:
    """Return the page after so many seconds, the last minutes of which were looked at."""
    now = [max(0.0, seconds - 300)]
    pages = LandingPages(
        lambda: at(now[0]),
        "/metrics",
        lambda: ages(now[0]),
        monotonic=lambda: now[0],
        wall_clock=lambda: STARTED_SECONDS + now[0],
    )
    while now[0] < seconds:
        pages.take()
        now[0] = min(seconds, now[0] + 1)
    return pages.body().decode()


def ill(now: float) -> LandingPage:
    """Return the page of two queues on a full volume: one has a backlog, dead letters and a nearly full memory."""
    reason = "the ledger /data/ledger.db can't grow (database or disk is full): free space on its volume"
    behind = shop(now)
    return page(
        now,
        ready=False,
        state=reason,
        snapshots={"shop-events": replace(behind, messages=912_000, unsettled_messages=1_022)},
        depths={"shop-events": QueueDepth(1_204_332, 118_004, 12, "shop-events-dead", 17)},
        problems={"shop-events": reason, "shop-orders": reason},
    )


def one_fails(now: float) -> LandingPage:
    """Return the page of two queues, one of which is denied."""
    reason = "receives fail (access_denied): AccessDeniedException"
    return page(
        now,
        state=f"Ready, but 1 of 2 queues: shop-orders: {reason}",
        problems={"shop-events": None, "shop-orders": reason},
    )
