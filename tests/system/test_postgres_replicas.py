"""The real program, several times on one ledger in PostgreSQL: killed, stopped, and left without its database.

REPLICA_KILLS says how many deaths the long test has (default 12, a few minutes for each hundred).
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from exporter_process import INHERITED, PROGRAM, ExporterProcess
from fake_sqs import FakeSqs
from otlp_receiver import OtlpReceiver, Pushed
from postgres_server import ROLE, PostgresServer, free_port, postgres_server_on_a_small_volume
from replicas import DEADLINE_SECONDS, drain, shown_at_last, speaker_of, wait_for_speaker

from exporter.telemetry.otlp import names

if TYPE_CHECKING:
    from pathlib import Path

KILLS = int(os.environ.get("REPLICA_KILLS", "12"))
REPLICAS = 3
VISIBILITY_SECONDS = 10
FLAGS = ("--sqs.wait-seconds", "1", "--ledger.window", "20s")
WORST_CASE: dict[str, Any] = {
    "latency_seconds": 0.002,
    "duplicate_in_batch": 0.1,
    "duplicate_across_batches": 0.1,
    "return_after_delete": 0.01,
    "return_after_seconds": 1.0,
    "hide": 0.05,
}


def test_replicas_are_exact_while_they_and_postgresql_are_killed(postgres: PostgresServer) -> None:
    """Replicas, sessions and the server die at random under load; totals equal the truth to the last digit."""
    choose = random.Random(7)  # noqa: S311 - repeatable on purpose
    url = postgres.new_database("killed")
    with ExitStack() as stack:
        sqs = stack.enter_context(
            FakeSqs(attributes={"VisibilityTimeout": str(VISIBILITY_SECONDS)}, seed=7, **WORST_CASE)
        )
        replicas = [stack.enter_context(ExporterProcess(sqs.environment, url, *FLAGS)) for _ in range(REPLICAS)]
        for number in range(KILLS):
            sqs.load(400, seed=number, invalid_fraction=0.05)
            time.sleep(choose.uniform(0.1, 1.5))  # the moment of death is to be any
            match choose.choices(["replica", "sessions", "server"], [8, 2, 1])[0]:
                case "replica":
                    dies = choose.choice(replicas)
                    dies.kill()
                    dies.port = 0  # another program may have the old one by now
                    dies.start()
                case "sessions":
                    postgres.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = %s", ROLE)
                case "server":
                    postgres.stop(signal.SIGQUIT)
                    postgres.start()
            sqs.advance(2.0)
        account = drain(sqs, replicas, VISIBILITY_SECONDS)
        scrape = shown_at_last(replicas, account)
        assert scrape.agrees_with(account)
        assert scrape.duplicate > account.sent // 20
        assert scrape.total("sqs_exporter_speaker") == 1


def test_only_the_speaker_writes_the_summary(postgres: PostgresServer) -> None:
    """Stopped one after the other, each replica hands over: the last one has said all there is, no other a part."""
    url = postgres.new_database("summary")
    with FakeSqs() as sqs, ExitStack() as stack:
        replicas = [
            stack.enter_context(ExporterProcess(sqs.environment, url, *FLAGS, "--summary.interval", "1s"))
            for _ in range(2)
        ]
        sqs.load(300, seed=1)
        account = drain(sqs, replicas)
        shown_at_last(replicas, account)
        first = speaker_of(replicas)
        assert first is not None
        other = next(one for one in replicas if one is not first[0])
        assert first[0].terminate() == 0
        lines = [json.loads(line) for line in first[0].stdout[-len(account.types) :]]
        assert {line["type"]: line["count"] for line in lines} == {
            name: totals.count for name, totals in account.types.items()
        }
        shown_at_last([other], account)
        assert other.terminate() == 0
        assert sum(json.loads(line)["count"] for line in other.stdout[-len(account.types) :]) == 300


def test_the_speaker_alone_pushes_what_the_ledger_keeps(postgres: PostgresServer) -> None:
    """OTLP has two resources: the ledger's, which stays the same whoever speaks, and each process's for its health."""
    url = postgres.new_database("pushed")
    with FakeSqs() as sqs, ExitStack() as stack:
        receivers = [stack.enter_context(OtlpReceiver()) for _ in range(2)]
        replicas = [
            stack.enter_context(
                ExporterProcess(sqs.environment | receiver.environment, url, *FLAGS, "--ledger.name", "shop")
            )
            for receiver in receivers
        ]
        sqs.load(300, seed=2)
        account = drain(sqs, replicas)
        sent = sum(totals.count for totals in account.types.values())
        shown_at_last(replicas, account)
        speaks = replicas.index(wait_for_speaker(replicas))

        def all_counted(push: Pushed) -> bool:
            return sum(count for count, _ in push.points("sqs.events", names.EVENT_TYPE).values()) == sent

        first = receivers[speaks].wait_for_push(all_counted)
        (silent,) = [one for one in receivers if one is not receivers[speaks]]
        of_silent = silent.wait_for_push(lambda push: "sqs.exporter.ready" in push.metrics, len(silent.pushed))
        of_process, of_ledger = first.resources["sqs.exporter.ready"], first.resource
        assert of_ledger[names.SERVICE_INSTANCE_ID] == "shop"
        (health,) = {resource[names.SERVICE_INSTANCE_ID] for resource in of_silent.resources.values()}
        assert len({"shop", of_process[names.SERVICE_INSTANCE_ID], health}) == 3
        assert first.metrics.keys() - of_silent.metrics.keys() >= {"sqs.events", "sqs.exporter.messages.received"}
        kept = {name for name, resource in first.resources.items() if resource == of_ledger}
        assert kept.isdisjoint(of_silent.metrics)
        speakers = [push.metrics["sqs.exporter.speaker"].gauge.data_points[0] for push in (first, of_silent)]
        assert [point.as_int for point in speakers] == [1, 0]
        assert replicas[speaks].terminate() == 0
        then = silent.wait_for_push(all_counted)
        assert then.resource == of_ledger
        assert then.points("sqs.events", names.EVENT_TYPE) == first.points("sqs.events", names.EVENT_TYPE)


def test_a_backup_is_left_to_postgresqls_own_tools(postgres: PostgresServer) -> None:
    """SIGUSR1 is answered by a line of the log that says what to use, and all goes on."""
    with FakeSqs() as sqs, ExporterProcess(sqs.environment, postgres.new_database("backup"), *FLAGS) as exporter:
        exporter.wait_until_ready()
        exporter.process.send_signal(signal.SIGUSR1)
        sqs.load(10, seed=1)
        assert shown_at_last([exporter], drain(sqs, [exporter])).counted == 10
        assert exporter.terminate() == 0
        (line,) = [line for line in exporter.stderr if "no backup was begun" in line]
        assert "pg_dump" in line


def test_postgresql_that_is_absent_at_the_start_is_waited_for(postgres: PostgresServer) -> None:
    """Health is served, readiness says where PostgreSQL is looked for, nothing is received; then all is counted."""
    url = postgres.new_database("absent")
    with FakeSqs() as sqs:
        sqs.load(100, seed=1)
        postgres.stop()
        with ExporterProcess(sqs.environment, url, *FLAGS) as exporter:
            assert "PostgreSQL" in exporter.wait_until_ready(ready=False)
            assert exporter.healthy()
            assert sqs.account().deleted == 0
            postgres.start()
            exporter.wait_until_ready(60)
            account = drain(sqs, [exporter])
            assert shown_at_last([exporter], account).agrees_with(account)
            assert exporter.terminate() == 0


def test_a_disk_that_is_full_is_waited_for() -> None:
    """PostgreSQL finds no space in earnest: what it did not commit is not deleted, and all is exact afterwards."""
    small = {"max_wal_size": "32MB", "min_wal_size": "32MB", "max_connections": "20", "shared_buffers": "16MB"}
    with (
        postgres_server_on_a_small_volume(72, small) as server,
        FakeSqs() as sqs,
        ExporterProcess(sqs.environment, server.url(), *FLAGS) as exporter,
    ):
        sqs.load(500, seed=1)
        drain(sqs, [exporter])
        fill(server.directory / "other")
        for seed in range(2, 12):
            sqs.load(1_000, seed=seed)
        exporter.wait_until_told("No space left on device")
        assert sqs.account().deleted < 10_500
        (server.directory / "other").unlink()
        exporter.wait_until_ready()
        account = drain(sqs, [exporter])
        assert shown_at_last([exporter], account).agrees_with(account)
        assert exporter.terminate() == 0


def fill(path: Path) -> None:
    """Write to a file until its volume is full."""
    with contextlib.suppress(OSError), path.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))


def test_a_paused_speaker_is_silent_when_it_goes_on(postgres: PostgresServer) -> None:
    """SIGSTOP for longer than the lease: another replica speaks, and the sleeper's first answer shows nothing."""
    url = postgres.new_database("paused")
    with FakeSqs() as sqs, ExitStack() as stack:
        replicas = [stack.enter_context(ExporterProcess(sqs.environment, url, *FLAGS)) for _ in range(2)]
        sqs.load(200, seed=3)
        account = drain(sqs, replicas)
        shown_at_last(replicas, account)
        found = speaker_of(replicas)
        assert found is not None
        sleeper = found[0]
        sleeper.process.send_signal(signal.SIGSTOP)
        (other,) = [one for one in replicas if one is not sleeper]
        other.wait_for(lambda scrape: scrape.total("sqs_exporter_speaker") == 1, DEADLINE_SECONDS)
        sleeper.process.send_signal(signal.SIGCONT)
        scrape = sleeper.scrape()
        assert scrape.total("sqs_exporter_speaker") == 0
        assert scrape.received == 0
        assert shown_at_last([other], account).agrees_with(account)


def test_check_says_what_is_there_and_changes_nothing(postgres: PostgresServer) -> None:
    """Before the first run no table is made; afterwards the events are counted; a server that is away is a sentence."""
    url = postgres.new_database("checked")
    with FakeSqs() as sqs:
        before = check(sqs, url)
        assert before.returncode == 0, before.stderr
        assert "does not hold it yet" in before.stdout
        assert postgres.execute("SELECT 1 FROM pg_namespace WHERE nspname ~ 'exporter'", database="checked") == []
        sqs.load(50, seed=1)
        with ExporterProcess(sqs.environment, url, *FLAGS) as exporter:
            shown_at_last([exporter], drain(sqs, [exporter]))
            exporter.terminate()
        assert "holds 50 events" in check(sqs, url).stdout
        away = check(sqs, f"postgresql://exporter@127.0.0.1:{free_port()}/shop")
        assert away.returncode == 1
        assert "can't be reached" in away.stdout


def check(sqs: FakeSqs, url: str) -> subprocess.CompletedProcess[str]:
    """Run `check`."""
    inherited = {name: os.environ[name] for name in INHERITED if name in os.environ}
    return subprocess.run(
        [PROGRAM, "check", "--queue", sqs.queue_name, "--ledger.url", url],
        env=inherited | sqs.environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
