"""What a message costs in each part of the exporter, measured one part at a time: CPU microseconds a message.

    python benchmarks/parts.py

What is left of the whole are libcurl, the kernel's sockets, the loop itself and the metrics of the exporter's health.
"""

from __future__ import annotations

import tempfile
import time
from typing import TYPE_CHECKING, TypeVar

from stub_events import BATCH_SIZE, Messages

from exporter.events.event import EventMapping, EventParser
from exporter.ledger import Delivery, QueueBatch, QueueIdentity
from exporter.ledger.message_ids import remembered_ids
from exporter.ledger.sqlite.ledger import SqliteLedger
from exporter.sqs import Credentials, Target
from exporter.sqs.parsing import parse_receive
from exporter.sqs.requests import QueueRequests

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

ITERATION_BATCHES = 32
REPEATS = 15
ITERATIONS = 40
_TARGET = Target(
    "http://127.0.0.1", "eu-west-1", "http://127.0.0.1/123456789012/events", Credentials("AKIDEXAMPLE", "secret")
)


def measure(directory: str) -> dict[str, float]:
    """Return CPU microseconds a message by part: the best of some repeats, for the work is always the same."""
    source = Messages(types=3)
    bodies = [
        source.answer(number * BATCH_SIZE, BATCH_SIZE, time.time()).partition(b"\r\n\r\n")[2]
        for number in range(ITERATION_BATCHES * ITERATIONS * REPEATS)
    ]
    iterations = [bodies[first : first + ITERATION_BATCHES] for first in range(0, len(bodies), ITERATION_BATCHES)]
    messages = [[message for body in iteration for message in parse_receive(body)[0]] for iteration in iterations]
    now_seconds = time.time()
    parse = EventParser(EventMapping()).parse
    ids = [[one.message_id for one in iteration] for iteration in messages]
    deliveries = [
        [
            Delivery(message_id, parse(one.body, sent_at_seconds=None, now_seconds=now_seconds))
            for one, message_id in zip(iteration, remembered_ids(of_iteration), strict=True)
        ]
        for iteration, of_iteration in zip(messages, ids, strict=True)
    ]
    handles = [[one.receipt_handle for one in iteration] for iteration in messages]
    requests = QueueRequests("events")
    requests.aim(_TARGET)
    ledger = SqliteLedger(f"{directory}/parts.db")
    ledger.bind(QueueIdentity("events", "arn:aws:sqs:eu-west-1:123456789012:events"))

    def by_answer(do: Callable[[list[str]], object]) -> Callable[[list[str]], object]:
        return lambda iteration: [
            do(iteration[first : first + BATCH_SIZE]) for first in range(0, len(iteration), BATCH_SIZE)
        ]

    def record(iteration: list[Delivery]) -> None:
        ledger.submit({"events": QueueBatch(iteration)})
        ledger.completed()
        ledger.settle("events", [delivery.message_id for delivery in iteration])

    parts = {
        "read the answer, check the MD5s": _best(
            lambda iteration: [parse_receive(body) for body in iteration], iterations
        ),
        "read the ids": _best(remembered_ids, ids),
        "read and judge the bodies": _best(
            lambda iteration: [parse(one.body, sent_at_seconds=None, now_seconds=now_seconds) for one in iteration],
            messages,
        ),
        f"commit {ITERATION_BATCHES * BATCH_SIZE} messages (the fsync is waited for)": _best(record, deliveries),
        "write and sign the batch delete": _best(by_answer(lambda some: requests.delete(0, some)), handles),
    }
    ledger.close()
    return parts


def _best(do: Callable[[T], object], iterations: list[T]) -> float:
    best = float("inf")
    for first in range(0, len(iterations), ITERATIONS):
        started = time.thread_time()
        for iteration in iterations[first : first + ITERATIONS]:
            do(iteration)
        best = min(best, time.thread_time() - started)
    return best / ITERATIONS / ITERATION_BATCHES / BATCH_SIZE * 1e6


def main() -> None:
    """Print the parts."""
    with tempfile.TemporaryDirectory() as directory:
        for name, microseconds in measure(directory).items():
            print(f"{microseconds:6.2f} us  {name}")


if __name__ == "__main__":
    main()
