"""A restored backup does not let a counter fall: shown on a real Prometheus."""

from __future__ import annotations

import os
import signal
import subprocess
from typing import TYPE_CHECKING

from exporter_process import INHERITED, PROGRAM, ExporterProcess
from fake_sqs import FakeSqs
from prometheus_server import free_port, prometheus

if TYPE_CHECKING:
    from pathlib import Path

EVENT = '{"type": "purchase", "value": 1}'


def test_increase_over_a_restore_adds_nothing_that_was_not_counted(tmp_path: Path) -> None:
    """100 are counted, backed up, 50 more counted; the backup is restored, and 30 more are counted.

    The old series stays at 150, the restored one, under its new name, begins at 100 and is no reset of the old one:
    together they rise by 30 over the restore. The 50 are in the old series alone.
    """
    path = tmp_path / "ledger.db"
    port = free_port()
    with FakeSqs() as sqs, ExporterProcess(sqs.environment, path, "--ledger.name", "shop", start=False) as exporter:
        exporter.port = port
        exporter.start()
        with prometheus(tmp_path, [port]) as server:
            sqs.send([EVENT] * 100)
            server.wait_until('sqs_events_total{type="purchase"}', 100)
            exporter.process.send_signal(signal.SIGUSR1)
            exporter.wait_until_logged("backup written")
            sqs.send([EVENT] * 50)
            server.wait_until('sqs_events_total{ledger="shop",type="purchase"}', 150)
            exporter.terminate()

            inherited = {name: os.environ[name] for name in INHERITED if name in os.environ}
            command = [str(PROGRAM), "ledger", "restore", "--ledger.path", str(path), "--ledger.name", "shop-2"]
            subprocess.run(command, env=inherited, check=True, timeout=60, capture_output=True)
            exporter.arguments = ("--ledger.name", "shop-2")
            exporter.start()
            server.wait_until('sqs_events_total{ledger="shop-2",type="purchase"}', 100)
            sqs.send([EVENT] * 30)
            server.wait_until('sqs_events_total{ledger="shop-2",type="purchase"}', 130)
            sums = server.query('sum by (ledger) (increase(sqs_events_total{type="purchase"}[10m]))')
            resets = server.query('sum by (ledger) (resets(sqs_events_total{type="purchase"}[10m]))')
            least = server.query('sum by (ledger) (min_over_time(sqs_events_total{type="purchase"}[10m]))')
            exporter.terminate()
    assert resets == {"shop": 0, "shop-2": 0}
    # What the restored series began with was counted before, and is no increase. Prometheus extrapolates a little.
    assert least["shop-2"] == 100
    assert 30 <= sums["shop-2"] < 60
    assert 150 <= sums["shop"] < 200
