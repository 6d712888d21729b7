"""`ledger export` and `ledger import` between a SQLite file and PostgreSQL: counts and memory of ids come along."""

# ruff: noqa: S608 - the schema's name is a constant

from __future__ import annotations

import json
import os
import subprocess
import time
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from exporter_process import INHERITED, PROGRAM, ExporterProcess
from fake_sqs import FakeSqs
from ledger_program import ledger
from postgres_replica import event, new_id
from postgres_server import free_port

from exporter.ledger import Delivery, QueueBatch, QueueIdentity
from exporter.ledger.sqlite.ledger import SqliteLedger

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from postgres_replica import Replica
    from postgres_server import PostgresServer

QUEUES = [
    QueueIdentity(name, f"arn:aws:sqs:eu-west-1:123456789012:{name}", event_ids=True) for name in ("orders", "carts")
]
TABLES = ("ledgers", "speakers", "queues", "series", "totals", "counts", "message_ids", "event_ids", "clock_marks")
DEADLINE_SECONDS = 60
SETTINGS: dict[str, Any] = {"name": "shop", "label_names": ("currency",)}


class Sent:
    """What a queue was sent: of each kind of message one or more."""

    def __init__(self) -> None:
        self.settled = [self._message(f"settled {n}", nano=n * 10**20 - 3) for n in range(3)]
        self.unsettled = [self._message(f"unsettled {n}", nano=-7) for n in range(2)]
        self.twin = Delivery(new_id(), self.unsettled[0].outcome)
        """Another message with the event of one that is unsettled."""
        self.rejected = Delivery(new_id(), "invalid_json")
        self.without_id = Delivery(new_id(), event("typo", "", nano=5, at=None))

    @property
    def all(self) -> list[Delivery]:
        """All messages, one of them twice."""
        rest = [self.twin, self.rejected, self.without_id, self.settled[0]]
        return [*self.settled, *self.unsettled, *rest]

    @staticmethod
    def _message(event_id: str, nano: int) -> Delivery:
        return Delivery(new_id(), event("purchase", "EUR", nano=nano, at=1.5, event_id=event_id.encode().ljust(16)))


@pytest.fixture
def sent() -> dict[str, Sent]:
    """Make messages for two queues."""
    return {queue.name: Sent() for queue in QUEUES}


@pytest.fixture
def path(tmp_path: Path, sent: dict[str, Sent]) -> Path:
    """Make a SQLite ledger of two queues that received them, some two minutes apart on their clocks."""
    file = tmp_path / "ledger.db"
    kept = SqliteLedger(str(file), **SETTINGS)
    for queue in QUEUES:
        kept.bind(queue)
    for name, messages in sent.items():
        for batch in (messages.settled, messages.all):
            kept.submit({name: QueueBatch(batch, {"md5_mismatch": 2})})
            assert kept.completed() is not None
            kept.advance(name, 130.5)
        kept.settle(name, [message.message_id for message in messages.settled])
        kept.submit({})
        assert kept.completed() is not None
    kept.close()
    return file


def shown(where: Path | str, *arguments: str) -> dict[str, Any]:
    """Return what `ledger show` says, with labels."""
    config = ("--config.file", str(arguments[0])) if arguments else ()
    found: dict[str, Any] = json.loads(ledger("show", where, "--format", "json", *config).stdout)
    return found


def created(where: Path | str) -> dict[str, float]:
    """Return when each type of the queue `events` began."""
    return {one["type"]: one["created_seconds"] for one in shown(where)["queues"]["events"]["series"]}


def deliver(file: Path, name: str, deliveries: Sequence[Delivery]) -> list[bool]:
    """Deliver messages to the SQLite ledger; returns which were new."""
    kept = SqliteLedger(str(file), **SETTINGS)
    for queue in QUEUES:
        kept.bind(queue)
    kept.submit({name: QueueBatch(deliveries)})
    completed = kept.completed()
    kept.close()
    assert completed is not None
    assert completed.fresh is not None
    return list(completed.fresh[name])


def again(messages: Sent) -> list[Delivery]:
    """Return all messages once more, and others with the events of a settled and of an unsettled one."""
    others = [Delivery(new_id(), message.outcome) for message in (messages.settled[1], messages.unsettled[1])]
    return [*messages.all, *others]


def rows(postgres: PostgresServer, database_url: str) -> dict[str, int]:
    """Count the rows of each table that a ledger has."""
    database = database_url.rpartition("/")[2]
    ((there,),) = postgres.execute("SELECT to_regclass('sqs_event_exporter.ledgers') IS NOT NULL", database=database)
    if not there:
        return dict.fromkeys(TABLES, 0)
    counts = "UNION ALL ".join(f"SELECT '{table}', count(*) FROM sqs_event_exporter.{table} " for table in TABLES)
    return dict(postgres.execute(counts, database=database))


def test_a_ledger_moves_to_postgresql_and_back(path: Path, tmp_path: Path, database_url: str) -> None:
    """Counts, sums, creation times, name and the numbers of ids are the same there, and back in a file again."""
    config = tmp_path / "config.yaml"
    config.write_text("events:\n  labels: [currency]\n")
    before = shown(path, str(config))
    assert before["queues"]["orders"]["duplicate"] == 5
    assert before["queues"]["orders"]["unsettled_messages"] == 5
    done = ledger("import", database_url, stdin=ledger("export", path).stdout)
    assert "holds the ledger shop as it was exported" in done.stdout
    assert shown(database_url, str(config)) == before
    ledger("import", tmp_path / "back.db", stdin=ledger("export", database_url).stdout)
    assert shown(tmp_path / "back.db", str(config)) == before
    assert "every account adds up" in ledger("verify", tmp_path / "back.db").stdout


def test_a_ledger_moves_from_one_database_to_another(path: Path, postgres: PostgresServer, database_url: str) -> None:
    """What is exported from PostgreSQL can be imported there, too."""
    ledger("import", database_url, stdin=ledger("export", path).stdout)
    other_url = postgres.new_database("another")
    ledger("import", other_url, stdin=ledger("export", database_url, "--ledger.name", "shop").stdout)
    assert shown(other_url) == shown(database_url) == shown(path)


def test_what_was_counted_in_a_file_is_not_counted_again_in_postgresql(
    path: Path, sent: dict[str, Sent], database_url: str, open_replica: Callable[..., Replica]
) -> None:
    """By their own ids and by their events', settled and unsettled; new messages count on top."""
    ledger("import", database_url, stdin=ledger("export", path).stdout)
    one = open_replica(queues=QUEUES, **SETTINGS)
    for name, messages in sent.items():
        before = one.snapshot(name)
        assert before.oldest_message_seconds is not None
        assert before.oldest_message_seconds <= time.time()
        new = Delivery(new_id(), event("purchase", "EUR", nano=4, event_id=new_id()))
        assert one.commit([*again(messages), new], queue=name) == [False] * len(again(messages)) + [True]
        after = one.snapshot(name)
        assert (after.counted, after.received) == (before.counted + 1, before.received + len(again(messages)) + 1)
        assert after.created_seconds == before.created_seconds


def test_unsettled_messages_hold_their_events_after_the_move(
    path: Path, sent: dict[str, Sent], postgres: PostgresServer, database_url: str, open_replica: Callable[..., Replica]
) -> None:
    """Each event knows how many unsettled messages hold it; once they are settled, none does."""
    ledger("import", database_url, stdin=ledger("export", path).stdout)
    database = database_url.rpartition("/")[2]
    held = "SELECT unsettled, count(*) FROM sqs_event_exporter.event_ids GROUP BY 1 ORDER BY 1"
    assert postgres.execute(held, database=database) == [(0, 6), (1, 2), (2, 2)]
    one = open_replica(queues=QUEUES, **SETTINGS)
    for name, messages in sent.items():
        one.settle(messages.all, queue=name)
        assert one.snapshot(name).unsettled_messages == 0
    assert postgres.execute(held, database=database) == [(0, 10)]


def test_ids_keep_their_age(
    path: Path, sent: dict[str, Sent], database_url: str, open_replica: Callable[..., Replica]
) -> None:
    """What was settled before goes when its window is over, not a whole window after the move."""
    ledger("import", database_url, stdin=ledger("export", path).stdout)
    one = open_replica(queues=QUEUES, window_seconds=100, id_window_seconds=100, **SETTINGS)
    assert one.snapshot("orders").messages > one.snapshot("orders").unsettled_messages
    one.beat()
    snapshot = one.snapshot("orders")
    assert snapshot.forgotten_early == 0
    assert snapshot.unsettled_messages == 5
    assert one.commit(sent["orders"].unsettled) == [False, False]


def test_what_was_counted_in_postgresql_is_not_counted_again_in_a_file(
    sent: dict[str, Sent], tmp_path: Path, database_url: str, open_replica: Callable[..., Replica]
) -> None:
    """Of several replicas: their sums are one, and so is their memory."""
    replicas = [open_replica(queues=QUEUES, **SETTINGS) for _ in range(2)]
    for name, messages in sent.items():
        for one in replicas:
            one.commit(messages.all, {"md5_mismatch": 2}, queue=name)
        replicas[0].settle(messages.settled, queue=name)
    replicas[1].ledger.close()
    snapshots = {name: replicas[0].snapshot(name) for name in sent}
    replicas[0].ledger.close()
    file = tmp_path / "ledger.db"
    ledger("import", file, stdin=ledger("export", database_url).stdout)
    assert shown(file) == shown(database_url)
    for name, messages in sent.items():
        found = shown(file)["queues"][name]
        assert found["received"] == snapshots[name].received
        assert found["messages"] == snapshots[name].messages
        expected = [False] * len(again(messages)) + [True]
        new = Delivery(new_id(), event("purchase", "EUR", nano=4, event_id=new_id()))
        assert deliver(file, name, [*again(messages), new]) == expected
    assert "every account adds up" in ledger("verify", file).stdout


def test_many_ids_are_many_rows(tmp_path: Path, database_url: str, open_replica: Callable[..., Replica]) -> None:
    """None of 12,000 is lost on the way into PostgreSQL and back, whether settled or not."""
    file = tmp_path / "ledger.db"
    kept = SqliteLedger(str(file), **SETTINGS)
    kept.bind(QUEUES[0])
    messages = [Delivery(new_id(), event("purchase", "EUR", event_id=new_id())) for _ in range(12_000)]
    kept.submit({"orders": QueueBatch(messages)})
    assert kept.completed() is not None
    kept.settle("orders", [message.message_id for message in messages[::2]])
    kept.close()
    ledger("import", database_url, stdin=ledger("export", file).stdout)
    one = open_replica(queues=QUEUES, **SETTINGS)
    assert one.commit(messages[:3_000]) == [False] * 3_000
    one.ledger.close()
    ledger("import", tmp_path / "back.db", stdin=ledger("export", database_url).stdout)
    assert shown(tmp_path / "back.db")["queues"]["orders"]["messages"] == 24_000
    assert shown(tmp_path / "back.db")["queues"]["orders"]["unsettled_messages"] == 7_500
    assert deliver(tmp_path / "back.db", "orders", messages) == [False] * 12_000


def test_import_replaces_no_ledger_in_postgresql(path: Path, postgres: PostgresServer, database_url: str) -> None:
    """One of that name, or the same one under another name, is refused and stays; another one may be beside it."""
    exported = ledger("export", path).stdout
    ledger("import", database_url, stdin=exported)
    before, counted = shown(database_url), rows(postgres, database_url)
    renamed = exported.replace('"name": "shop"', '"name": "shop-2"', 1)
    for lines in (exported, renamed):
        done = ledger("import", database_url, stdin=lines, code=2)
        assert "holds the ledger shop already: import makes a new one" in done.stderr
    assert shown(database_url) == before
    assert rows(postgres, database_url) == counted
    other = json.loads(renamed.splitlines()[0])["sqs_event_exporter_ledger"]["instance_id"]
    ledger("import", database_url, stdin=renamed.replace(other, "another", 1))
    assert "several ledgers" in ledger("show", database_url, code=2).stderr
    assert "ledger shop-2" in ledger("show", database_url, "--ledger.name", "shop-2").stdout


def test_an_import_that_is_cut_short_leaves_nothing(path: Path, postgres: PostgresServer, database_url: str) -> None:
    """Exit code 1, a sentence, and no row."""
    lines = ledger("export", path).stdout.splitlines(keepends=True)
    done = ledger("import", database_url, stdin="".join(lines[:-1]), code=1)
    assert "is not what `sqs-event-exporter ledger export` writes" in done.stderr
    assert rows(postgres, database_url) == dict.fromkeys(TABLES, 0)


def test_an_import_that_is_killed_leaves_nothing(
    path: Path, postgres: PostgresServer, database_url: str, open_replica: Callable[..., Replica]
) -> None:
    """It dies while it waits for a table, with half of it written; the next one succeeds."""
    open_replica(queues=[], name="another", wait=True).ledger.close()
    before = rows(postgres, database_url)
    exported = ledger("export", path).stdout
    database = database_url.rpartition("/")[2]
    with psycopg.connect(postgres.url(role="postgres", database=database)) as other:
        other.execute("LOCK TABLE sqs_event_exporter.event_ids")
        with subprocess.Popen(
            [str(PROGRAM), "ledger", "import", "--ledger.url", database_url],
            env={name: os.environ[name] for name in INHERITED if name in os.environ},
            stdin=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stdin is not None
            process.stdin.write(exported)
            process.stdin.close()
            waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query ~ '^COPY'"
            deadline = time.monotonic() + DEADLINE_SECONDS
            while postgres.execute(waiting) == [(0,)]:
                assert time.monotonic() < deadline
                time.sleep(0.05)
            process.kill()
    assert rows(postgres, database_url) == before
    ledger("import", database_url, stdin=exported)
    assert ledger("show", database_url, "--ledger.name", "shop", "--format", "json").stdout == (
        ledger("show", path, "--format", "json").stdout
    )


def test_a_ledger_that_a_replica_uses_is_not_exported(database_url: str, open_replica: Callable[..., Replica]) -> None:
    """It is a sentence while one is there; one that has left is in nobody's way, and `show` may look at any time."""
    one = open_replica(queues=QUEUES, **SETTINGS)
    done = ledger("export", database_url, code=2)
    assert "replicas that use the ledger shop in PostgreSQL at 127.0.0.1" in done.stderr
    assert not done.stdout
    assert shown(database_url)["name"] == "shop"
    one.ledger.close()
    assert ledger("export", database_url).stdout


def test_where_there_is_no_ledger_it_is_said(postgres: PostgresServer, database_url: str) -> None:
    """An empty database, a name that none has, and a server that is not there."""
    assert "holds no ledger\n" in ledger("export", database_url, code=2).stderr
    assert "holds no ledger called shop" in ledger("show", database_url, "--ledger.name", "shop", code=2).stderr
    assert rows(postgres, database_url) == dict.fromkeys(TABLES, 0)
    nowhere = postgres.url(port=free_port())
    assert "can't be reached" in ledger("export", nowhere, code=1).stderr


def test_what_does_not_work_in_postgresql_says_what_does(database_url: str) -> None:
    """The other commands work on files."""
    for action in ("verify", "backup", "restore", "forget-type", "rebind"):
        done = ledger(action, database_url, code=2)
        assert f"ledger {action} works on a file (--ledger.path)" in done.stderr


def test_rows_without_an_arn_have_to_be_tied_to_a_queue_first(path: Path, tmp_path: Path, database_url: str) -> None:
    """A queue that was never bound is left out where it holds nothing, and else a sentence."""
    lines = ledger("export", path).stdout
    unbound = lines.replace(f'"{QUEUES[0].arn}"', "null")
    assert "ledger rebind --queue orders" in ledger("import", database_url, stdin=unbound, code=2).stderr
    kept = SqliteLedger(str(tmp_path / "new.db"), queues=["later"], **SETTINGS)
    kept.close()
    ledger("import", database_url, stdin=ledger("export", tmp_path / "new.db").stdout)
    assert shown(database_url)["queues"] == {}


def test_run_goes_on_in_postgresql_and_in_a_file_again(tmp_path: Path, database_url: str) -> None:
    """The real program with a file, PostgreSQL and a file: messages that come again after a move count once."""
    file, back = tmp_path / "ledger.db", tmp_path / "back.db"
    flags = ("--sqs.wait-seconds", "1", "--ledger.name", "shop")
    with FakeSqs(latency_seconds=0.002, return_after_delete=0.2, return_after_seconds=25) as sqs:
        sqs.load(500, seed=1)
        with ExporterProcess(sqs.environment, file, *flags) as one:
            before = one.wait_for(lambda scrape: scrape.received >= 500)
            one.kill()  # some of what it counted is not deleted
        ledger("import", database_url, stdin=ledger("export", file).stdout)
        with ExporterProcess(sqs.environment, database_url, *flags) as replica:
            replica.wait_for(lambda scrape: scrape.counted >= before.counted)
            sqs.load(500, seed=2)
            sqs.advance(31)
            replica.wait_for(lambda scrape: scrape.received >= 1_000)
            replica.terminate()
        assert created(file).items() <= created(database_url).items()
        ledger("import", back, stdin=ledger("export", database_url).stdout)
        assert created(back) == created(database_url)
        with ExporterProcess(sqs.environment, back, *flags) as one:
            deadline = time.monotonic() + DEADLINE_SECONDS
            while sqs.account().remaining:
                assert time.monotonic() < deadline
                sqs.advance(31)
                time.sleep(0.1)
            sent = sum(totals.count for totals in sqs.account().types.values())
            assert one.wait_for(lambda scrape: scrape.counted == sent).agrees_with(sqs.account())
            assert one.scrape().duplicate > 0
