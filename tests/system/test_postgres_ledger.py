"""The ledger in PostgreSQL against a real server: what it counts, what it remembers, what it refuses."""

# ruff: noqa: S608 - the schema's name is a constant, the rest a test's own

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from postgres_replica import QUEUE, Replica, event, new_id, purchases

from exporter.errors import LedgerError
from exporter.ledger import OTHER, Delivery, QueueBatch, QueueIdentity
from exporter.ledger.postgres import statements
from exporter.ledger.postgres.batches import chunks
from exporter.ledger.postgres.connection import Statement
from exporter.ledger.postgres.flow import query, retried
from exporter.ledger.postgres.waiting import finish

if TYPE_CHECKING:
    from collections.abc import Callable

    from postgres_server import PostgresServer

    from exporter.events.event import Event

TABLES = "sqs_event_exporter"


class Tables:
    """The ledger's tables, as the database's superuser sees and changes them."""

    def __init__(self, postgres: PostgresServer, database_url: str) -> None:
        self._postgres = postgres
        self.database = database_url.rpartition("/")[2]

    def ask(self, sql: str) -> list[tuple[Any, ...]]:
        """Ask the test's database; `$` stands for the schema."""
        return self._postgres.execute(sql.replace("$", f"{TABLES}."), database=self.database)

    def let_the_clock_run(self, one: Replica, seconds: float) -> None:
        """Let receives succeed for so long: the database has to believe that so much time has passed."""
        self.ask(f"UPDATE $clocks SET registered_at = registered_at - interval '{seconds} s'")
        one.ledger.advance("orders", seconds)
        one.flush()
        one.beat()
        one.beat()
        one.flush()


@pytest.fixture
def tables(postgres: PostgresServer, database_url: str) -> Tables:
    """Show the tables of the test's ledger."""
    return Tables(postgres, database_url)


def settled_message(one: Replica) -> Delivery:
    """Count a new message whose delete is confirmed."""
    (message,) = purchases(1)
    one.commit([message])
    one.settle([message])
    return message


def test_outcomes_are_counted_exactly(open_replica: Callable[..., Replica]) -> None:
    """Counts, sums of both signs and any size, the newest timestamp, rejections and releases are those submitted."""
    one = open_replica(types=("purchase", "refund"))
    huge = 10**24 + 1
    outcomes: list[Event | str] = [event(nano=huge, at=3), event(nano=huge, at=7.5), event(nano=-5, at=1), "too_large"]
    outcomes += [event("page_view", nano=0, at=None), "too_large", "invalid_json"]
    assert one.commit([Delivery(new_id(), outcome) for outcome in outcomes], {"md5_mismatch": 2}) == [True] * 7
    snapshot = one.snapshot()
    purchase = snapshot.series["purchase",]
    assert (purchase.count, purchase.value_nano, purchase.negative_nano) == (3, 2 * huge, 5)
    assert purchase.last_occurred_seconds == 7.5
    assert snapshot.series["page_view",].count == 1
    assert snapshot.series["page_view",].last_occurred_seconds is None
    assert {key for key, totals in snapshot.series.items() if not totals.count} == {("refund",), (OTHER,)}
    assert snapshot.rejected == {"too_large": 2, "invalid_json": 1}
    assert snapshot.released == {"md5_mismatch": 2}
    assert (snapshot.received, snapshot.duplicate, snapshot.timestamps_unreadable) == (9, 0, 1)
    assert (snapshot.messages, snapshot.unsettled_messages) == (7, 7)
    assert snapshot.oldest_message_seconds is not None


def test_a_message_is_counted_once_by_all_replicas(open_replica: Callable[..., Replica]) -> None:
    """Within a batch, across commits and across replicas the second delivery is a duplicate."""
    one, other = open_replica(), open_replica()
    first, second = purchases(2)
    assert one.commit([first, first, second]) == [True, False, True]
    assert other.commit([second, first, *purchases(1)]) == [False, False, True]
    snapshot = one.snapshot()
    assert (snapshot.counted, snapshot.duplicate, snapshot.messages) == (3, 3, 3)


def test_an_event_is_counted_once_by_its_own_id(open_replica: Callable[..., Replica]) -> None:
    """Two messages with one event id are one event: in a batch, across commits, replicas and redeliveries."""
    queue = QueueIdentity("orders", QUEUE.arn, event_ids=True)
    one, other = open_replica(queues=[queue]), open_replica(queues=[queue])
    both = [Delivery(new_id(), event(event_id=b"e" * 16)) for _ in range(2)]
    assert one.commit(both) == [True, False]
    assert other.commit([*both, Delivery(new_id(), event(event_id=b"e" * 16)), *purchases(1)]) == [False] * 3 + [True]
    snapshot = one.snapshot()
    assert (snapshot.counted, snapshot.duplicate, snapshot.without_event_id) == (2, 4, 1)
    assert snapshot.messages == 5  # four messages and an event


def test_a_rejected_message_does_not_use_up_an_event_id(open_replica: Callable[..., Replica]) -> None:
    """Only the message's own id is remembered, so that a corrected one counts."""
    one = open_replica()
    assert one.commit([Delivery(new_id(), "invalid_value")]) == [True]
    assert one.commit([Delivery(new_id(), event(event_id=b"e" * 16))]) == [True]


def test_settled_messages_are_forgotten_after_the_window(tables: Tables, open_replica: Callable[..., Replica]) -> None:
    """What is settled goes when the window is over on the queue's clock; unsettled ids stay until the retention."""
    one = open_replica(window_seconds=100)
    settled, unsettled = purchases(1)[0], purchases(1)[0]
    one.commit([settled, unsettled])
    one.settle([settled])
    tables.let_the_clock_run(one, 99)
    assert one.snapshot().messages == 2
    tables.let_the_clock_run(one, 2)
    snapshot = one.snapshot()
    assert (snapshot.messages, snapshot.unsettled_messages, snapshot.forgotten_early) == (1, 1, 0)
    assert one.commit([unsettled]) == [False]
    tables.let_the_clock_run(one, 86_401)
    assert one.snapshot().messages == 0


def test_a_duplicate_is_remembered_anew(tables: Tables, open_replica: Callable[..., Replica]) -> None:
    """A redelivered message that was settled is unsettled again, and its window begins once more."""
    one = open_replica(window_seconds=100)
    message = settled_message(one)
    tables.let_the_clock_run(one, 90)
    assert one.commit([message]) == [False]
    assert one.snapshot().unsettled_messages == 1
    one.settle([message])
    tables.let_the_clock_run(one, 90)
    assert one.commit([message]) == [False]


def test_an_event_id_outlives_its_messages(tables: Tables, open_replica: Callable[..., Replica]) -> None:
    """It is remembered until every message seen under it is settled, and for its window from then on."""
    one = open_replica(window_seconds=100, id_window_seconds=100)
    first, second, third = (Delivery(new_id(), event(event_id=b"e" * 16)) for _ in range(3))
    assert one.commit([first, second]) == [True, False]
    one.settle([first])
    tables.let_the_clock_run(one, 150)
    assert one.snapshot().messages == 2  # the unsettled message, and the event
    one.settle([second])
    tables.let_the_clock_run(one, 90)
    assert one.commit([third]) == [False]
    one.settle([third])
    tables.let_the_clock_run(one, 102)
    assert one.snapshot().messages == 0
    assert one.commit([Delivery(new_id(), event(event_id=b"e" * 16))]) == [True]


def test_an_event_id_outlives_the_retention(tables: Tables, open_replica: Callable[..., Replica]) -> None:
    """A producer's retry is a new message: it is a duplicate for the window, however short SQS keeps the queue's."""
    queue = QueueIdentity("orders", QUEUE.arn, 10, 60, event_ids=True)
    one = open_replica(queues=[queue], window_seconds=100, id_window_seconds=200)
    first, second, third = (Delivery(new_id(), event(event_id=b"e" * 16)) for _ in range(3))
    assert one.commit([first]) == [True]
    one.settle([first])
    tables.let_the_clock_run(one, 90)
    assert one.snapshot().messages == 2
    assert one.commit([second]) == [False]
    tables.let_the_clock_run(one, 190)
    assert one.commit([third]) == [False]
    assert one.snapshot().forgotten_early == 0


def test_an_event_id_lives_as_long_as_a_message_that_holds_it(
    tables: Tables, open_replica: Callable[..., Replica]
) -> None:
    """A message that can't be deleted is delivered again and again: its event is counted once for as long."""
    one = open_replica(queues=[QueueIdentity("orders", QUEUE.arn, 10, 200, event_ids=True)], window_seconds=100)
    first, second = (Delivery(new_id(), event(event_id=b"e" * 16)) for _ in range(2))
    assert one.commit([first]) == [True]
    tables.let_the_clock_run(one, 150)
    assert one.commit([first]) == [False]
    tables.let_the_clock_run(one, 100)
    assert one.commit([second]) == [False]
    one.settle([second])
    tables.let_the_clock_run(one, 250)
    assert one.snapshot().messages == 0


def test_the_window_is_at_least_twice_the_visibility_timeout(
    tables: Tables, open_replica: Callable[..., Replica]
) -> None:
    """A delete that is lost shows itself after a visibility timeout: until then the message is known."""
    one = open_replica(queues=[QueueIdentity("orders", QUEUE.arn, 100)], window_seconds=50)
    message = settled_message(one)
    tables.let_the_clock_run(one, 195)
    assert one.snapshot().messages == 1
    tables.let_the_clock_run(one, 6)
    snapshot = one.snapshot()
    assert (snapshot.messages, snapshot.forgotten_early) == (0, 0)
    assert one.commit([message]) == [True]


def test_a_queue_without_messages_fills_no_table(tables: Tables, open_replica: Callable[..., Replica]) -> None:
    """Of the marks of its clock one is kept, although no id is as old as that."""
    one = open_replica(window_seconds=100)
    for _ in range(3):
        tables.let_the_clock_run(one, 100)
    assert tables.ask("SELECT clock_seconds >= 300 FROM $clock_marks") == [(True,)]


def test_a_queue_that_is_bound_again_uses_up_no_number(tables: Tables, open_replica: Callable[..., Replica]) -> None:
    """There are 32,767, and each start of each replica binds its queues."""
    for _ in range(3):
        open_replica()
    open_replica(queues=[QUEUE, QueueIdentity("returns", "arn:aws:sqs:eu-central-1:123456789012:returns")])
    assert tables.ask("SELECT id, name FROM $queues ORDER BY id") == [(1, "orders"), (2, "returns")]


def test_the_clock_is_not_faster_than_the_database(tables: Tables, open_replica: Callable[..., Replica]) -> None:
    """A replica that claims an hour of receives within a second forgets nothing."""
    one = open_replica(window_seconds=100)
    message = settled_message(one)
    one.ledger.advance("orders", 3_600)
    one.flush()
    assert tables.ask("SELECT max(clock_seconds) < 60 FROM $clocks") == [(True,)]
    assert one.commit([message]) == [False]


def test_the_clock_goes_on_with_another_replica(tables: Tables, open_replica: Callable[..., Replica]) -> None:
    """A replica that registers later starts at the queue's clock; what it records is as new as anybody's."""
    one = open_replica(window_seconds=100)
    tables.let_the_clock_run(one, 500)
    late = open_replica(window_seconds=100)
    message = settled_message(late)
    tables.let_the_clock_run(one, 50)
    assert one.commit([message]) == [False]


def test_a_full_memory_forgets_the_oldest_settled_ids(tables: Tables, open_replica: Callable[..., Replica]) -> None:
    """Beyond --ledger.max-ids settled ids go early and are counted; unsettled and young ones stay and slow receives."""
    one = open_replica(window_seconds=10_000, max_ids=400)
    old = purchases(390)
    one.commit(old)
    tables.let_the_clock_run(one, 70)
    assert one.ledger.capacity("orders") == 10
    assert "raise --ledger.max-ids" in (one.ledger.limited("orders") or "")
    one.settle(old[:200])
    assert one.snapshot().messages == 390  # as young as their last delivery allows
    tables.let_the_clock_run(one, 1)
    snapshot = one.snapshot()
    assert (snapshot.messages, snapshot.forgotten_early) == (300, 90)
    assert one.ledger.capacity("orders") == 100
    assert one.commit(old[200:]) == [False] * 190


def test_a_large_batch_is_several_statements(open_replica: Callable[..., Replica]) -> None:
    """At most 2,500 ids go into one statement; the batch has one end, and an answer for each delivery."""
    one = open_replica()
    deliveries = [*purchases(3_000), *(Delivery(new_id(), event(event_id=new_id())) for _ in range(3_000))]
    assert one.commit([*deliveries, deliveries[0]]) == [True] * 6_000 + [False]
    assert one.commit(deliveries) == [False] * 6_000
    snapshot = one.snapshot()
    assert (snapshot.counted, snapshot.duplicate, snapshot.messages) == (6_000, 6_001, 9_000)


def test_several_queues_share_a_commit(open_replica: Callable[..., Replica]) -> None:
    """The same id in two queues is two messages; each queue has its own sums."""
    returns = QueueIdentity("returns", "arn:aws:sqs:eu-central-1:123456789012:returns")
    one = open_replica(queues=[QUEUE, returns])
    (message,) = purchases(1)
    one.ledger.submit({"orders": QueueBatch([message]), "returns": QueueBatch([message, message], {"malformed": 1})})
    assert one.end().fresh == {"orders": [True], "returns": [True, False]}
    assert one.snapshot("orders").received == 1
    assert one.snapshot("returns").received == 3


def test_rows_belong_to_a_queue_by_its_arn(open_replica: Callable[..., Replica]) -> None:
    """Another queue of the same name is refused, and the first goes on."""
    one = open_replica()
    other = open_replica(queues=[], wait=False)
    other.ledger.bind(QueueIdentity("orders", "arn:aws:sqs:us-east-1:1:orders"))

    def refused() -> bool:
        try:
            other.ledger.bound("orders")
        except LedgerError as error:
            return error.reason == "other_queue" and "us-east-1" in str(error)
        return False

    other.until(refused)
    other.submit(purchases(1))
    assert other.end().fresh is None
    assert one.commit(purchases(1)) == [True]


def test_replicas_admit_no_more_than_the_caps_together(open_replica: Callable[..., Replica]) -> None:
    """Types and label sets beyond the caps are counted under __other__, whichever replica met them first."""
    settings: dict[str, Any] = {"max_types": 2, "max_series": 3, "label_names": ("currency",), "types": ("purchase",)}
    one, other = open_replica(**settings), open_replica(**settings)
    one.commit([Delivery(new_id(), event("a", "EUR")), Delivery(new_id(), event("b", "EUR"))])
    other.commit([Delivery(new_id(), event("c", "EUR")), Delivery(new_id(), event("a", "USD"))])
    one.commit([Delivery(new_id(), event("a", currency)) for currency in ("USD", "GBP", "")])
    counts = {key: totals.count for key, totals in one.snapshot().series.items()}
    assert sum(counts.values()) == 7
    assert counts[OTHER, OTHER] == 1
    assert counts["a", "EUR"] == counts["b", "EUR"] == 1
    assert len([key for key in counts if OTHER not in key and key != ("purchase", "")]) == 3
    assert sum(count for key, count in counts.items() if key[0] == "a") == 5
    assert one.snapshot().overflowed["types"] == 1
    assert one.snapshot().overflowed["series"] == counts["a", OTHER]


def test_labels_may_be_removed_and_added(open_replica: Callable[..., Replica]) -> None:
    """What was counted under a removed label sums into the rest; a new label is empty there."""
    one = open_replica(label_names=("currency", "country"))
    one.commit([Delivery(new_id(), event("a", "EUR", country)) for country in ("de", "fr")])
    one.ledger.close()
    other = open_replica(label_names=("channel", "currency"))
    other.commit([Delivery(new_id(), event("a", "", "EUR"))])
    assert {key: totals.count for key, totals in other.snapshot().series.items() if totals.count} == {
        ("a", "", "EUR"): 3
    }


def test_what_was_settled_and_comes_again_is_unsettled(open_replica: Callable[..., Replica]) -> None:
    """A delivery in the same commit as its settling wins: it is not gone."""
    one = open_replica()
    first, second = purchases(2)
    one.commit([first, second])
    one.ledger.settle("orders", [first.message_id, second.message_id])
    assert one.commit([first]) == [False]
    assert one.snapshot().unsettled_messages == 1
    one.settle([first])
    assert one.snapshot().unsettled_messages == 0


def rows_read_in_vain(one: Replica, statement: Statement) -> int:
    """Run a statement as the replica would, and add up the rows that PostgreSQL's plan for it read and dropped."""
    explain = Statement(b"EXPLAIN (ANALYZE, FORMAT JSON) " + statement.sql, statement.parameters)
    ((answer,),) = finish(one.ledger.target, retried(explain))
    (found,) = json.loads(answer or b"")

    def dropped(plan: dict[str, Any]) -> int:
        of_this = sum(number for key, number in plan.items() if key.startswith("Rows Removed by"))
        return int(of_this) + sum(map(dropped, plan.get("Plans", ())))

    return dropped(found["Plan"])


def test_looking_for_what_is_due_does_not_read_what_is_not(
    tables: Tables, open_replica: Callable[..., Replica]
) -> None:
    """Whatever PostgreSQL knows of the tables: a few of 50,000 ids are due, and no others are looked at."""
    one = open_replica()
    row = one.ledger._replica.row  # noqa: SLF001 - it fences the statement
    ((queue_id,),) = tables.ask("SELECT id FROM $queues")
    ids = f"SELECT gen_random_uuid(), NULL, n / 100, {queue_id}, 1 FROM generate_series(0, 49999) n"
    tables.ask(f"INSERT INTO $message_ids {ids}")
    tables.ask("INSERT INTO $event_ids SELECT id, last_seen, 0, queue_id, false FROM $message_ids")
    tables.ask("ANALYZE")
    pruned = query(statements.PRUNE, row.id, row.epoch, queue_id, 201, 0, 1_250, 201, 0, 0, 200, 200)
    assert rows_read_in_vain(one, pruned) < 10_000


def test_a_commit_does_not_compare_each_event_with_each(open_replica: Callable[..., Replica]) -> None:
    """With 300 events that have ids of their own PostgreSQL looks at each a few times, not at 90,000 pairs."""
    one = open_replica(queues=[QueueIdentity("orders", QUEUE.arn, event_ids=True)])
    one.commit(purchases(1))
    replica = one.ledger._replica  # noqa: SLF001 - the statement as it makes it
    deliveries = [Delivery(new_id(), event(event_id=new_id())) for _ in range(300)]
    (chunk,) = chunks({"orders": QueueBatch(deliveries)}, replica.queues)
    chunk.seq = replica.row.seq + 1
    assert rows_read_in_vain(one, chunk.statement(replica.row.id, replica.row.epoch, replica.queues)) < 10_000


def test_a_message_that_comes_again_while_it_is_due_is_not_forgotten(
    postgres: PostgresServer, tables: Tables, open_replica: Callable[..., Replica]
) -> None:
    """What another transaction is changing is left alone, and looked at again once it is changed."""
    one = open_replica(window_seconds=100)
    message = settled_message(one)
    tables.ask("UPDATE $clocks SET registered_at = registered_at - interval '1000 s'")
    with psycopg.connect(postgres.url(role="postgres", database=tables.database)) as other:
        other.execute(f"UPDATE {TABLES}.message_ids SET last_seen = 200, state = 2")
        one.ledger.advance("orders", 200)
        one.flush()
        one.beat()
        assert tables.ask("SELECT count(*) FROM $message_ids") == [(1,)]
        other.commit()
    one.beat()
    assert one.commit([message]) == [False]
