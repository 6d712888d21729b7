"""Events made from a seed: page views, baskets and purchases in the ratio 3:2:1, some of them wrong."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fake_sqs.account import NANO

if TYPE_CHECKING:
    from collections.abc import Iterator

NANO_PER_CENT = NANO // 100
PALETTE = 1 << 12
"""Distinct bodies of a large load: enough for realistic parsing, and few enough to stay in the processor's cache."""
HOUR_OLD_EVERY = 10


@dataclass(frozen=True, slots=True)
class Body:
    """A body and what it is: an event's type and value in 1e-9, or the reason why it is none."""

    text: str
    meaning: tuple[str, int] | str


@dataclass(frozen=True, slots=True)
class Mix:
    """What to make. `types` replaces the usual three by so many of its own, one after the other."""

    seed: int = 0
    invalid_fraction: float = 0.0
    types: int = 0

    def bodies(self, count: int) -> Iterator[Body]:
        """Make so many bodies. Types and values follow from the seed alone; times are the last minute's, some older."""
        choose = random.Random(self.seed)  # noqa: S311 - repeatable on purpose
        now = int(time.time())
        stamps = [_stamp(now - age) for age in range(60)]
        old_stamps = [_stamp(now - 3600 - age) for age in range(60)]
        for number in range(count):
            stamp = choose.choice(old_stamps if number % HOUR_OLD_EVERY == 0 else stamps)
            if self.invalid_fraction and choose.random() < self.invalid_fraction:
                yield _invalid(choose.randrange(5), stamp)
                continue
            name, cents = self._event(choose, number)
            yield Body(
                f'{{"type": "{name}", "value": {_decimal(cents)}, "occurred_at": "{stamp}"}}',
                (name, cents * NANO_PER_CENT),
            )

    def _event(self, choose: random.Random, number: int) -> tuple[str, int]:
        if self.types:
            return f"type-{number % self.types}", choose.randint(0, 10_000)
        draw = choose.randrange(6)
        if draw < 3:
            return "pageview", 100
        if draw < 5:
            return "added-to-basket", 100 * choose.randint(1, 5)
        return "purchase", choose.randint(0, 10_000)


def _stamp(seconds: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(seconds))


def _decimal(cents: int) -> str:
    return str(cents // 100) if cents % 100 == 0 else f"{cents // 100}.{cents % 100:02d}"


def _invalid(kind: int, stamp: str) -> Body:
    return (
        Body(f'{{"type": "purchase", "occurred_at": "{stamp}"}}', "missing_field"),
        Body(f'{{"type": "purchase", "value": "a lot", "occurred_at": "{stamp}"}}', "invalid_value"),
        Body(f'{{"type": 7, "value": 1, "occurred_at": "{stamp}"}}', "invalid_type"),
        Body('{"type": "pageview", "val', "invalid_json"),
        Body('["pageview", 1]', "not_an_object"),
    )[kind]
