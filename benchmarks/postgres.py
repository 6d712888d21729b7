"""What the ledger in PostgreSQL costs, measured without SQS, with a server of its own in a temporary directory.

    PYTHONPATH=tests python benchmarks/postgres.py [whole] [cost] [disk] [replicas]

- whole: the exporter with a full backlog of the benchmarks' stub of SQS, beside the same with SQLite
- cost: CPU a message in the exporter beside SQLite, in PostgreSQL, and its write-ahead log, by the size of a commit
- disk: bytes on disk a remembered id, over four windows; every id is settled at once, and forgotten a window later
- replicas: messages a second of 1, 2 and 4 replicas with processes of their own, and of one behind a network
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from postgres_replica import QUEUE, Proxy, Replica
from postgres_server import PostgresServer, postgres_server
from scenarios import load
from stub_events import Load
from stub_sqs import StubSqs
from subject import exporter

from exporter.events.event import Event
from exporter.ledger import Delivery, QueueBatch
from exporter.ledger.sqlite.ledger import SqliteLedger

if TYPE_CHECKING:
    from collections.abc import Callable

TYPES = [(name,) for name in ("purchase", "basket", "page_view")]
BACKLOG = 100_000
COST_MESSAGES = 40_000
WINDOW_MESSAGES = 200_000
WINDOWS = 4
COMMIT = 320
"""Messages: what 32 receives in flight bring."""
REPLICA_SECONDS = 10.0
TABLE = "sqs_event_exporter.message_ids"


def messages(number: int) -> list[Delivery]:
    """Make new messages."""
    return [
        Delivery(os.urandom(16), Event(TYPES[index % len(TYPES)], index * 10_000_000, 1_700_000_000.0 + index))
        for index in range(number)
    ]


def server_cpu_seconds(server: PostgresServer) -> float:
    """Return the CPU time of the server's processes, those that have ended included."""
    postmaster = int((server.data / "postmaster.pid").read_text().split()[0])
    ticks = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == postmaster:
            ticks += int(fields[11]) + int(fields[12])
        elif int(stat.parent.name) == postmaster:
            ticks += sum(map(int, fields[11:15]))
    return ticks / os.sysconf("SC_CLK_TCK")


def wal_bytes(server: PostgresServer) -> int:
    """Return how much was written to the write-ahead log."""
    return int(server.execute("SELECT pg_current_wal_lsn() - '0/0'")[0][0])


def in_commits(deliveries: list[Delivery], size: int, commit: Callable[[list[Delivery]], None]) -> float:
    """Commit deliveries; returns CPU microseconds a message of this process."""
    started = time.process_time()
    for first in range(0, len(deliveries), size):
        commit(deliveries[first : first + size])
    return (time.process_time() - started) / len(deliveries) * 1e6


def whole(server: PostgresServer) -> None:
    """Print what a whole exporter does with a backlog, its counts compared with the truth."""
    print("ledger       messages/s   exporter us   PostgreSQL us   (a message)")
    with tempfile.TemporaryDirectory() as directory, StubSqs() as stub:
        for name, place in (("SQLite", Path(directory, "ledger.db")), ("PostgreSQL", server.new_database("whole"))):
            stub.load(Load(0))
            stub.watch()
            cpu = server_cpu_seconds(server)
            ran = load(stub, exporter(stub, place, "--sqs.max-receives", "32"), Load(BACKLOG))
            cpu = server_cpu_seconds(server) - cpu
            print(f"{name:11} {ran.messages_per_second:11.0f} {ran.cpu_us:13.1f} {cpu / BACKLOG * 1e6:15.1f}")


def cost(server: PostgresServer) -> None:
    """Print what a message costs, each recorded and settled."""
    print("commit   exporter us   SQLite us   ratio   PostgreSQL us   WAL bytes   (a message)")
    for size in (10, 100, 1_000):
        number = COST_MESSAGES if size > 10 else COST_MESSAGES // 10  # noqa: PLR2004 - small commits take long
        one = Replica(server.new_database(f"cost_{size}"))

        def commit(deliveries: list[Delivery], one: Replica = one) -> None:
            one.commit(deliveries)
            one.ledger.settle("orders", [delivery.message_id for delivery in deliveries])

        commit(messages(size))
        cpu, wal = server_cpu_seconds(server), wal_bytes(server)
        exporter = in_commits(messages(number), size, commit)
        cpu, wal = server_cpu_seconds(server) - cpu, wal_bytes(server) - wal
        one.ledger.close()
        with tempfile.TemporaryDirectory() as directory:
            sqlite = SqliteLedger(f"{directory}/ledger.db")
            sqlite.bind(QUEUE)

            def commit_there(deliveries: list[Delivery], ledger: SqliteLedger = sqlite) -> None:
                ledger.submit({"orders": QueueBatch(deliveries)})
                ledger.completed()
                ledger.settle("orders", [delivery.message_id for delivery in deliveries])

            there = in_commits(messages(number), size, commit_there)
            sqlite.close()
        print(
            f"{size:6} {exporter:13.1f} {there:11.1f} {exporter / there:7.1f} {cpu / number * 1e6:15.1f}"
            f" {wal / number:11.0f}"
        )


def disk(server: PostgresServer) -> None:
    """Print the size of the memory of ids at the end of each window, while it is at its greatest."""
    url = server.new_database("disk")
    one = Replica(url, window_seconds=1_000)
    print(f"window   ids remembered   bytes an id   of it the table   (each window {WINDOW_MESSAGES} messages)")
    for window in range(1, WINDOWS + 1):
        for _ in range(0, WINDOW_MESSAGES, COMMIT):
            deliveries = messages(COMMIT)
            one.commit(deliveries)
            one.ledger.settle("orders", [delivery.message_id for delivery in deliveries])
            step = 1_000 * COMMIT / WINDOW_MESSAGES
            server.execute(
                f"UPDATE sqs_event_exporter.clocks SET registered_at = registered_at - interval '{step} s'",  # noqa: S608
                database="disk",
            )
            one.ledger.advance("orders", step)
        ids, total, table = server.execute(
            f"SELECT (SELECT count(*) FROM {TABLE}), pg_total_relation_size('{TABLE}'), pg_relation_size('{TABLE}')",  # noqa: S608
            database="disk",
        )[0]
        print(f"{window:6} {ids:16} {total / ids:13.0f} {table / ids:17.0f}")
    one.ledger.close()


def replicas(server: PostgresServer) -> None:
    """Print what several replicas reach, each in a process of its own; they share the cores with PostgreSQL."""
    print("replicas   round trip ms   messages/s   PostgreSQL CPU us   exporter CPU us   (a message)")
    for number, delay_seconds in ((1, 0.0), (2, 0.0), (4, 0.0), (1, 0.001), (1, 0.005)):
        url = server.new_database("speed")
        proxy = Proxy(server.port) if delay_seconds else None
        if proxy is not None:
            proxy.delay_seconds = delay_seconds / 2
            url = f"{server.url(database='speed', port=proxy.port)}?sslmode=disable"
        Replica(url).ledger.close()
        cpu = server_cpu_seconds(server)
        running = [
            subprocess.Popen([sys.executable, __file__, "--replica", url], stdout=subprocess.PIPE, text=True)
            for _ in range(number)
        ]
        results = [process.communicate()[0].split() for process in running]
        cpu = server_cpu_seconds(server) - cpu
        done = sum(int(result[0]) for result in results)
        own = sum(float(result[1]) for result in results)
        print(
            f"{number:8} {delay_seconds * 1000:15.0f} {done / REPLICA_SECONDS:12.0f} {cpu / done * 1e6:19.1f}"
            f" {own / done * 1e6:17.1f}"
        )
        if proxy is not None:
            proxy.close()


def be_a_replica(url: str) -> None:
    """Commit as fast as it goes for some seconds; print how many messages, and the CPU seconds of it."""
    one = Replica(url)
    done, cpu = 0, 0.0
    ends_at = time.monotonic() + REPLICA_SECONDS
    while time.monotonic() < ends_at:
        deliveries = messages(COMMIT)
        started = time.process_time()
        one.commit(deliveries)
        one.ledger.settle("orders", [delivery.message_id for delivery in deliveries])
        cpu += time.process_time() - started
        done += len(deliveries)
    one.ledger.close()
    print(done, cpu)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--replica"]:
        be_a_replica(sys.argv[2])
    else:
        parts = {"whole": whole, "cost": cost, "disk": disk, "replicas": replicas}
        for name in sys.argv[1:] or parts:
            with postgres_server([("autovacuum_naptime", "1")], parent=Path(tempfile.gettempdir())) as running_server:
                parts[name](running_server)
