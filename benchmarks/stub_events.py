"""The messages that the stub hands out: rendered ahead, each with an id of its own, and what they must come to."""

from __future__ import annotations

import json
import math
import time
from dataclasses import dataclass, field
from decimal import Decimal
from hashlib import md5
from random import Random

BATCH_SIZE = 10
MESSAGES = 5_000
"""Messages rendered ahead. Bodies repeat after so many, ids and receipt handles never."""
RECEIPT_HANDLE_CHARACTERS = 344
"""About what those of SQS have."""

_HOLE = b"holeholehole"
_SENT = b"sent_at_in_ms"
_SPREAD = 0x5DEECE66D  # odd, so that no two answers get the same number modulo 2^48
_COMMON_TYPES = ("page_view", "added_to_basket", "purchase")


@dataclass(frozen=True)
class Total:
    """What was handed out of one type."""

    count: int = 0
    value: Decimal = Decimal(0)

    def __add__(self, other: Total) -> Total:
        return Total(self.count + other.count, self.value + other.value)


Totals = dict[str, Total]


@dataclass(frozen=True)
class Load:
    """What to hand out, and how long each answer takes."""

    messages: int
    types: int = 3
    latency_seconds: float = 0.0
    per_second: float = math.inf
    """How fast messages come in; by default all are there at once. A receive gets what is there, up to ten."""
    poisson: bool = False
    """Whether they come independently of each other, rather than evenly spaced."""
    queues: int = 1
    """How many queues share them."""
    measured_after_seconds: float = 0.0
    """Requests and waits count from then on, until the last message has arrived."""

    @property
    def seconds(self) -> float:
        """How long messages arrive, about."""
        return self.messages / self.per_second


@dataclass
class Report:
    """What became of a load once all of it was deleted. Times run from the moment it was there."""

    totals: Totals
    """What was handed out, each message once."""
    deleted: int
    seconds: float
    """Until the last delete."""
    cpu_seconds: float
    """What it cost the stub."""
    receives: int
    widened_after_seconds: dict[int, float] = field(default_factory=dict)
    """When so many receives were first in flight at once."""
    arrived: int = 0
    """How many messages arrived while it was measured."""
    requests: int = 0
    """How many requests of all kinds came meanwhile: what SQS bills."""
    mean_wait_seconds: float = 0.0
    """How long those messages were in the queue before SQS handed them out."""


class Messages:
    """Answers to ReceiveMessage, of messages in a fixed order."""

    def __init__(self, types: int) -> None:
        """Use so many event types; up to three have the names that everybody uses."""
        sample = Random(types)  # noqa: S311 - a sample, no secret
        names = _COMMON_TYPES[:types] if types <= len(_COMMON_TYPES) else [f"type_{n:03}" for n in range(types)]
        events = [_event(sample, names) for _ in range(MESSAGES)]
        self._messages = [_render(number, body) for number, (_, _, body) in enumerate(events)]
        self._full = [self._join(first, BATCH_SIZE) for first in range(0, MESSAGES, BATCH_SIZE)]
        self._values = [(name, value) for name, value, _ in events]

    def answer(self, first: int, count: int, sent_at_seconds: float) -> bytes:
        """Return so many messages, from number `first` on, that were sent at a Unix time, as a whole HTTP answer."""
        index = first % MESSAGES
        whole = count == BATCH_SIZE and index % BATCH_SIZE == 0
        template = self._full[index // BATCH_SIZE] if whole else self._join(index, count)
        # As many digits as the hole has characters: the length of the answer is said already.
        sent = b"%0*d" % (len(_SENT), sent_at_seconds * 1000)
        return template.replace(_HOLE, b"%012x" % (first * _SPREAD & 0xFFFF_FFFF_FFFF)).replace(_SENT, sent)

    def totals(self, messages: int) -> Totals:
        """Add up the first so many messages."""
        rounds, rest = divmod(messages, MESSAGES)
        totals: Totals = {}
        for index, (name, value) in enumerate(self._values):
            times = rounds + (index < rest)
            if times:
                totals[name] = totals.get(name, Total()) + Total(times, value * times)
        return totals

    def _join(self, first: int, count: int) -> bytes:
        messages = (self._messages[number % MESSAGES] for number in range(first, first + count))
        return http_answer(b'{"Messages":[' + b",".join(messages) + b"]}")


def http_answer(body: bytes) -> bytes:
    """Render an answer as SQS gives it."""
    head = (
        "HTTP/1.1 200 OK\r\nx-amzn-RequestId: 00000000-0000-4000-8000-000000000000\r\n"
        f"Content-Type: application/x-amz-json-1.0\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def _event(sample: Random, names: tuple[str, ...] | list[str]) -> tuple[str, Decimal, str]:
    name, cents = sample.choice(names), sample.randint(0, 10_000)
    occurred_seconds = time.time() - sample.randint(0, 60)
    event = {
        "type": name,
        "value": cents / 100,
        "occurred_at": time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(occurred_seconds)),
    }
    return name, Decimal(cents) / 100, json.dumps(event)


def _render(number: int, body: str) -> bytes:
    hole = _HOLE.decode()  # the same for the whole answer: the number tells its messages apart
    message = {
        "MessageId": f"{number:08x}-0000-4000-8000-{hole}",
        "ReceiptHandle": f"{hole}{number:08x}".ljust(RECEIPT_HANDLE_CHARACTERS, "A"),
        "MD5OfBody": md5(body.encode(), usedforsecurity=False).hexdigest(),
        "Body": body,
        "Attributes": {"SentTimestamp": _SENT.decode()},
    }
    return json.dumps(message).encode()
