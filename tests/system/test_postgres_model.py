"""Several replicas against a slow and obvious reference: random deliveries, settling, clocks and failures.

How long they run and from which seeds: POSTGRES_MODEL_STEPS (default 120) and POSTGRES_MODEL_SEEDS (default 2).
"""

# ruff: noqa: S608 - the schema's name is a constant, the rest a test's own

from __future__ import annotations

import os
import random
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from postgres_replica import Proxy, Replica, event, new_id

from exporter.ledger import Delivery, QueueIdentity

if TYPE_CHECKING:
    from collections.abc import Sequence

    from postgres_server import PostgresServer

    from exporter.events.event import Event

STEPS = int(os.environ.get("POSTGRES_MODEL_STEPS", "120"))
SEEDS = range(int(os.environ.get("POSTGRES_MODEL_SEEDS", "2")))
WINDOW_SECONDS, ID_WINDOW_SECONDS, RETENTION_SECONDS = 100, 150, 1_000
QUEUE = QueueIdentity("orders", "arn:aws:sqs:eu-central-1:1:orders", 10, RETENTION_SECONDS, event_ids=True)
SETTINGS: dict[str, Any] = {"window_seconds": WINDOW_SECONDS, "id_window_seconds": ID_WINDOW_SECONDS}


@dataclass
class Remembered:
    """What is known of one message."""

    last_seen: int
    event_id: bytes | None
    settled: bool = False


@dataclass
class Reference:
    """The promise, one id at a time."""

    clock: int = 0
    messages: dict[bytes, Remembered] = field(default_factory=dict)
    events: dict[bytes, int] = field(default_factory=dict)
    counted: Counter[tuple[str, ...]] = field(default_factory=Counter)
    sums: Counter[tuple[str, ...]] = field(default_factory=Counter)
    rejected: Counter[str] = field(default_factory=Counter)
    duplicate: int = 0

    def forget(self) -> None:
        """Drop what is due."""
        for id_, message in list(self.messages.items()):
            age = self.clock - message.last_seen
            if (message.settled and age >= WINDOW_SECONDS) or age >= RETENTION_SECONDS:
                del self.messages[id_]
        held = {message.event_id for message in self.messages.values() if not message.settled}
        for id_, last_seen in list(self.events.items()):
            if id_ not in held and self.clock - last_seen >= ID_WINDOW_SECONDS:
                del self.events[id_]

    def commit(self, deliveries: Sequence[Delivery]) -> list[bool]:
        """Record deliveries, one after the other."""
        return [self._record(delivery.message_id, delivery.outcome) for delivery in deliveries]

    def _record(self, message_id: bytes, outcome: Event | str) -> bool:
        before = self.messages.get(message_id)
        event_id = None if isinstance(outcome, str) else outcome.event_id
        if before is not None:
            if before.settled and before.event_id is not None:
                self.events[before.event_id] = self.clock
            before.last_seen, before.settled = self.clock, False
            self.duplicate += 1
            return False
        self.messages[message_id] = Remembered(self.clock, event_id)
        if event_id is not None:
            known = event_id in self.events
            self.events[event_id] = self.clock
            if known:
                self.duplicate += 1
                return False
        if isinstance(outcome, str):
            self.rejected[outcome] += 1
        else:
            self.counted[outcome.series] += 1
            self.sums[outcome.series] += outcome.value_nano
        return True

    def settle(self, message_id: bytes) -> None:
        """Settle a message."""
        message = self.messages.get(message_id)
        if message is not None and not message.settled:
            message.settled = True
            if message.event_id is not None:
                self.events[message.event_id] = self.clock


def pool(rng: random.Random, number: int) -> list[Delivery]:
    """Make messages; several carry the same event."""
    events = [
        event(rng.choice("abc"), nano=rng.randint(-(10**20), 10**20), event_id=new_id()) for _ in range(number // 4)
    ]
    outcomes: list[Event | str] = ["invalid_json", "too_large", *(event(name, nano=7) for name in "abc")]
    return [
        Delivery(new_id(), rng.choice(events) if rng.random() < 0.5 else rng.choice(outcomes)) for _ in range(number)
    ]


@pytest.mark.parametrize("seed", SEEDS)
def test_replicas_remember_as_the_reference_does(postgres: PostgresServer, seed: int) -> None:
    """Step by step over three replicas: which deliveries are new, what is remembered, and all totals are the same."""
    rng = random.Random(seed)  # noqa: S311 - the seed makes it the same again
    name = f"model_{seed}"
    url = postgres.new_database(name)
    replicas = [Replica(url, queues=[QUEUE], **SETTINGS) for _ in range(3)]
    reference = Reference()
    messages = pool(rng, 40)
    for _ in range(STEPS):
        one = rng.choice(replicas)
        match rng.choices(["commit", "settle", "advance", "replace"], [6, 4, 2, 0.3])[0]:
            case "commit":
                deliveries = rng.choices(messages, k=rng.randint(1, 12))
                _forget(one)
                reference.forget()
                assert one.commit(deliveries) == reference.commit(deliveries)
            case "settle":
                settled = rng.sample(messages, rng.randint(1, 15))
                _forget(one)
                reference.forget()
                one.settle(settled)
                for delivery in settled:
                    reference.settle(delivery.message_id)
            case "advance":
                seconds = rng.choice([1, 10, 60, 99, 151, 400])
                postgres.execute(
                    f"UPDATE sqs_event_exporter.clocks SET registered_at = registered_at - interval '{seconds} s'",
                    database=name,
                )
                for other in replicas:
                    other.ledger.advance("orders", seconds)
                    other.flush()
                reference.clock += seconds
            case "replace":
                replicas.remove(one)
                one.ledger.close()
                replicas.append(Replica(url, queues=[QUEUE], **SETTINGS))
        for other in replicas:
            other.ledger.completed()
        _forget(one if one in replicas else replicas[0])
        reference.forget()
        stored = postgres.execute(
            "SELECT (SELECT count(*) FROM sqs_event_exporter.message_ids), (SELECT count(*) FROM"
            " sqs_event_exporter.message_ids WHERE state & 1 = 0), (SELECT count(*) FROM sqs_event_exporter.event_ids)",
            database=name,
        )
        unsettled = sum(not message.settled for message in reference.messages.values())
        assert stored == [(len(reference.messages), unsettled, len(reference.events))]
    drive_to_the_speaker(replicas)
    speaker = next(one for one in replicas if one.ledger.speaker)
    snapshot = speaker.snapshot()
    assert {key: totals.count for key, totals in snapshot.series.items() if totals.count} == reference.counted
    assert {key: t.value_nano - t.negative_nano for key, t in snapshot.series.items() if t.count} == reference.sums
    assert snapshot.rejected == reference.rejected
    assert snapshot.duplicate == reference.duplicate
    assert snapshot.messages == len(reference.messages) + len(reference.events)
    assert snapshot.unsettled_messages == unsettled
    for one in replicas:
        one.ledger.close()


def _forget(one: Replica) -> None:
    """Have a replica forget what is due, now. Twice: an event may go only after the last message seen under it."""
    for _ in range(2):
        one.beat()


def drive_to_the_speaker(replicas: Sequence[Replica]) -> None:
    """Drive all replicas until one speaks."""
    replicas[0].until(lambda: any(one.ledger.speaker or one.ledger.completed() is not None for one in replicas))


@pytest.mark.parametrize("seed", SEEDS)
def test_totals_are_exact_whatever_fails(  # noqa: C901 - what may happen, in one place
    postgres: PostgresServer, seed: int
) -> None:
    """Four replicas share messages while connections are cut, held and ended, and replicas sleep, are folded and go.

    At the end each event was counted once, and every delivery that was submitted is accounted for.
    """
    rng = random.Random(seed)  # noqa: S311 - the seed makes it the same again
    name = f"chaos_{seed}"
    url = postgres.new_database(name)
    proxies = [Proxy(postgres.port) for _ in range(4)]
    replicas = [_through(proxy, name) for proxy in proxies]
    messages = pool(rng, 60 * STEPS // 10)
    waiting = list(messages)
    submitted = 0
    under_way: dict[int, list[Delivery]] = {}
    steps = 0
    while waiting or under_way:
        steps += 1
        assert steps < 200 * STEPS
        for number, one in enumerate(replicas):
            if rng.random() < 0.1:
                continue
            completed = one.ledger.completed()
            if completed is not None:
                deliveries = under_way.pop(number)
                if completed.fresh is None or rng.random() < 0.2:
                    waiting += deliveries
                else:
                    one.ledger.settle("orders", [delivery.message_id for delivery in deliveries])
            elif number not in under_way and one.ledger.problem is None and one.ledger.bound("orders"):
                batch = [waiting.pop(rng.randrange(len(waiting))) for _ in range(min(len(waiting), rng.randint(0, 25)))]
                batch += batch[: rng.randint(0, 2)]
                submitted += len(batch)
                under_way[number] = batch
                one.submit(batch)
        _disturb(rng, proxies, postgres, name)
        replicas[0].wait()
    for proxy in proxies:
        proxy.flowing.set()
        proxy.answering.set()
    for one in replicas:
        one.deliver([])
        one.deliver([])
        one.ledger.close()
    watcher = Replica(url, queues=[QUEUE], **SETTINGS)
    snapshot = watcher.snapshot()
    outcomes = [delivery.outcome for delivery in messages]
    events = {outcome.event_id: outcome for outcome in outcomes if not isinstance(outcome, str) and outcome.event_id}
    counted = [o for o in outcomes if not isinstance(o, str) and not o.event_id] + list(events.values())
    truth = Counter(outcome.series for outcome in counted)
    assert {key: totals.count for key, totals in snapshot.series.items() if totals.count} == truth
    for key in truth:
        assert snapshot.series[key].value_nano - snapshot.series[key].negative_nano == sum(
            outcome.value_nano for outcome in counted if outcome.series == key
        )
    assert snapshot.rejected == Counter(outcome for outcome in outcomes if isinstance(outcome, str))
    assert snapshot.received == submitted
    watcher.ledger.close()
    for proxy in proxies:
        proxy.close()


def _through(proxy: Proxy, name: str) -> Replica:
    return Replica(f"postgresql://exporter@127.0.0.1:{proxy.port}/{name}?sslmode=disable", queues=[QUEUE], **SETTINGS)


def _disturb(rng: random.Random, proxies: Sequence[Proxy], postgres: PostgresServer, name: str) -> None:
    proxy = rng.choice(proxies)
    match rng.choices(["nothing", "cut", "hold", "go on", "end", "fold"], [30, 1, 2, 4, 0.3, 0.3])[0]:
        case "cut":
            proxy.cut()
        case "hold":
            rng.choice([proxy.flowing, proxy.answering]).clear()
        case "go on":
            proxy.flowing.set()
            proxy.answering.set()
        case "end":
            postgres.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", name)
        case "fold":
            postgres.execute(
                "UPDATE sqs_event_exporter.replicas SET renewed_at = now() - interval '2 min' WHERE id ="
                " (SELECT id FROM sqs_event_exporter.replicas ORDER BY random() LIMIT 1)",
                database=name,
            )
