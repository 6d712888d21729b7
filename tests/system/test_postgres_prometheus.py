"""A real Prometheus with the shipped configuration, over a speaker that changes: one series a type that never falls.

SPEAKER_KILLS says how many speakers die (default 5, about ten seconds each).
"""

from __future__ import annotations

import os
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

from exporter_process import ExporterProcess
from fake_sqs import FakeSqs
from prometheus_server import free_port, prometheus

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

KILLS = int(os.environ.get("SPEAKER_KILLS", "5"))
DEADLINE_SECONDS = 120.0
FLAGS = ("--sqs.wait-seconds", "1", "--ledger.name", "shop")


def speaker_of(replicas: Sequence[ExporterProcess]) -> ExporterProcess:
    """Wait for the one that speaks."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while True:
        for one in replicas:
            try:
                if one.scrape().total("sqs_exporter_speaker") == 1:
                    return one
            except OSError:
                continue
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_a_counter_goes_on_whoever_speaks(database_url: str, tmp_path: Path) -> None:
    """Three replicas, the speaker killed again and again, one more at another address: no reset, nothing missing."""
    with FakeSqs(latency_seconds=0.002) as sqs, ExitStack() as stack:
        ports = [free_port() for _ in range(4)]
        replicas = [
            stack.enter_context(ExporterProcess(sqs.environment, database_url, *FLAGS, start=False)) for _ in ports
        ]
        for one, port in zip(replicas, ports, strict=True):
            one.port = port
        for one in replicas[:3]:
            one.start()
        with prometheus(tmp_path, ports) as server:
            sqs.load(50, seed=0)
            speaker_of(replicas[:3])
            server.wait_until("sum(sqs_events_total)", 50)
            for number in range(KILLS):
                sqs.load(100, seed=number + 1)
                speaker_of(replicas[:3]).restart()
            replicas[3].start()
            sqs.load(100, seed=1_000)
            for one in replicas[:3]:
                one.terminate()
            account = sqs.account()
            while sqs.account().remaining:
                sqs.advance(30)
                time.sleep(0.5)
            sent = sum(totals.count for totals in account.types.values())
            server.wait_until("sum(last_over_time(sqs_events_total[1m]))", sent)
            for name in ("sqs_events_total", "sqs_exporter_messages_received_total"):
                resets = server.query(f"resets({name}[1h])")
                assert resets
                assert set(resets.values()) == {0.0}
            instances = server.query("count by (instance) (last_over_time(sqs_events_total[1h]))")
            assert set(instances) == {"shop"}
            for name, totals in account.types.items():
                assert server.number(f'max_over_time(sqs_events_total{{type="{name}"}}[1h])') == totals.count
        replicas[3].terminate()
