"""A real Prometheus with the shipped configuration, over a speaker that changes: one series a type that never falls.

SPEAKER_KILLS says how many speakers die (default 3, some seconds each), SCRAPE_INTERVALS how many seconds are between
two scrapes (default 1; with commas for several, one after the other).
"""

from __future__ import annotations

import os
import random
import time
from collections import deque
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest
from exporter_process import ExporterProcess
from fake_sqs import FakeSqs
from prometheus_server import free_port, prometheus
from replicas import drain, wait_for_speaker

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from fake_sqs import Account
    from prometheus_server import Prometheus

KILLS = int(os.environ.get("SPEAKER_KILLS", "3"))
SCRAPE_INTERVALS = [float(seconds) for seconds in os.environ.get("SCRAPE_INTERVALS", "1").split(",")]
MOST_REPLICAS = 10
KILL_WITHIN_SECONDS = 20.0
FLAGS = ("--sqs.wait-seconds", "1", "--ledger.name", "shop")
LEDGER_SERIES = ("sqs_events_total", "sqs_event_value_total", "sqs_exporter_messages_received_total")


def samples(server: Prometheus, series: str) -> dict[str, list[tuple[float, float]]]:
    """Return all that was scraped of a ledger's series, by its labels: time and value."""
    found = server.get("query", query=f"{series}[2h]")["result"]
    return {str(one["metric"]): [(at, float(value)) for at, value in one["values"]] for one in found}


def assert_exact(server: Prometheus, account: Account) -> None:
    """One series a type, which never fell, and whose increase() is what was sent, to the last digit."""
    sent = {name: totals.count for name, totals in account.types.items()}
    shown = 'last_over_time(sqs_events_total{ledger="shop",type!="__other__"}[2h])'
    assert server.query(f"count by (instance) ({shown})") == {"shop": len(sent)}
    for name in LEDGER_SERIES:
        resets = server.query(f'resets({name}{{ledger="shop"}}[2h])')
        assert set(resets.values()) == {0.0}
        for scraped in samples(server, f'{name}{{ledger="shop"}}').values():
            values = [value for _, value in scraped]
            assert values == sorted(values)
    for name, count in sent.items():
        series = f'sqs_events_total{{ledger="shop",type="{name}"}}'
        (scraped,) = samples(server, series).values()
        assert scraped[-1][1] == count
        # From a first sample of 0 to the time of the last one nothing is extrapolated.
        assert server.number(f"increase({series}[2h])", scraped[-1][0]) == count


@pytest.mark.parametrize("scrape_seconds", SCRAPE_INTERVALS)
def test_a_counter_goes_on_whoever_speaks(scrape_seconds: float, database_url: str, tmp_path: Path) -> None:
    """From one replica to ten and back to one, speakers killed, every other one back at another address."""
    choose = random.Random(3)  # noqa: S311 - repeatable on purpose
    wait_seconds = 3 * scrape_seconds + 30
    with FakeSqs(latency_seconds=0.002) as sqs, ExitStack() as stack:
        ports = [free_port() for _ in range(2 * MOST_REPLICAS)]
        replicas = [
            stack.enter_context(ExporterProcess(sqs.environment, database_url, *FLAGS, start=False))
            for _ in range(MOST_REPLICAS)
        ]
        for one, port in zip(replicas, ports, strict=False):
            one.port = port
        unused = deque(ports[MOST_REPLICAS:])
        with prometheus(tmp_path, ports, scrape_seconds) as server:
            replicas[0].start()
            sqs.load(50, seed=0)
            server.wait_until("sum(sqs_events_total)", 50, wait_seconds)
            scale_up(replicas[1:])
            for number in range(KILLS):
                sqs.load(100, seed=number + 1)
                dies = wait_for_speaker(replicas)
                time.sleep(choose.uniform(0, min(scrape_seconds, KILL_WITHIN_SECONDS)))  # any moment between scrapes
                dies.kill()
                if number % 2:
                    unused.append(dies.port)
                    dies.port = unused.popleft()
                dies.start()
            scale_down(replicas[1:])
            sqs.load(100, seed=1_000)
            account = drain(sqs, replicas)
            sent = sum(totals.count for totals in account.types.values())
            server.wait_until("sum(last_over_time(sqs_events_total[10m]))", sent, wait_seconds)
            assert_exact(server, account)
        assert replicas[0].terminate() == 0


def scale_up(replicas: Sequence[ExporterProcess]) -> None:
    """Start them all at once."""
    for one in replicas:
        one.launch()
    for one in replicas:
        one.wait_until_listening()


def scale_down(replicas: Sequence[ExporterProcess]) -> None:
    """Stop them in order, all at once."""
    for one in replicas:
        one.wait_until_ready()  # before that a signal ends it at once
        one.process.terminate()
    assert [one.wait() for one in replicas] == [0] * len(replicas)
