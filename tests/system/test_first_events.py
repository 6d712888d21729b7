"""A real Prometheus counts the first events of types that are born while the exporter runs; so does a second one.

Both scrape one exporter, over 127.0.0.1 and over ::1; one of them is restarted in between, and so is the exporter.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from fake_sqs import FakeSqs
from programs import path_of
from prometheus_server import WAIT_SECONDS, Prometheus, free_port
from test_web import has_ipv6

if TYPE_CHECKING:
    from collections.abc import Iterator

SCRAPE_SECONDS = 0.5
SERIES = re.compile(r'^sqs_events_total\{.*type="([^"]*)".*\} (\S+)$', re.MULTILINE)


@contextmanager
def exporter(folder: Path, sqs: FakeSqs, port: int) -> Iterator[None]:
    """Run the exporter on both families of addresses, with the ledger of the folder."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "EXPORTER_"))}
    environment |= sqs.environment | {
        "EXPORTER_LEDGER__PATH": str(folder / "ledger.db"),
        "EXPORTER_SHUTDOWN__TIMEOUT": "1s",
        "EXPORTER_SQS__WAIT_SECONDS": "1",
        "EXPORTER_WEB__LISTEN_ADDRESS": f"[::]:{port}",
    }
    program = Path(sys.executable).parent / "sqs-event-exporter"
    with (folder / "exporter.log").open("ab") as log:
        process = subprocess.Popen([program, "run", "--queue", sqs.queue_name], env=environment, stdout=log, stderr=log)
        try:
            yield
        finally:
            process.send_signal(signal.SIGTERM)
            code = process.wait(WAIT_SECONDS)
    assert code == 0, (folder / "exporter.log").read_text()


@contextmanager
def scraping(folder: Path, target: str, port: int) -> Iterator[Prometheus]:
    """Run a Prometheus that scrapes the target twice a second; what it stored before in the folder is still there."""
    folder.mkdir(exist_ok=True)
    config = {
        "global": {"scrape_interval": f"{SCRAPE_SECONDS * 1000:.0f}ms", "scrape_timeout": "400ms"},
        "scrape_configs": [{"job_name": "exporter", "static_configs": [{"targets": [target]}]}],
    }
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    command = [path_of("prometheus", "prometheus"), f"--config.file={folder / 'prometheus.yml'}"]
    command += [f"--storage.tsdb.path={folder / 'data'}", f"--web.listen-address=127.0.0.1:{port}"]
    with (folder / "prometheus.log").open("ab") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        server = Prometheus(port)
        deadline = time.monotonic() + WAIT_SECONDS
        while True:
            assert process.poll() is None, (folder / "prometheus.log").read_text()
            assert time.monotonic() < deadline, "Prometheus does not answer"
            try:
                if server.number("up") == 1:
                    break
            except (OSError, ValueError, http.client.HTTPException):
                pass
            time.sleep(0.05)
        yield server
    finally:
        process.terminate()
        process.wait(WAIT_SECONDS)


def shown_to_a_person(port: int) -> dict[str, float]:
    """Return the counts by type as someone without Prometheus' header sees them."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=WAIT_SECONDS)
    try:
        connection.request("GET", "/metrics")
        text = connection.getresponse().read().decode()
    finally:
        connection.close()
    counts = {found[1]: float(found[2]) for found in SERIES.finditer(text)}
    assert counts.pop("__other__") == 0
    return counts


class Sent:
    """Events of types that nobody knew before, and how many of each there are."""

    def __init__(self, sqs: FakeSqs) -> None:
        self._sqs = sqs
        self.counts: dict[str, float] = {}

    def send(self, **counts: int) -> None:
        """Send so many events of each type."""
        for name, count in counts.items():
            body = json.dumps({"type": name, "value": 2, "occurred_at": "2020-10-06 10:02:05"})
            self._sqs.send([body] * count)
            self.counts[name] = self.counts.get(name, 0) + count

    def are_seen_by(self, *servers: Prometheus) -> None:
        """Wait until each Prometheus has scraped all of them with their values."""
        for server in servers:
            server.wait_until("sum(sqs_events_total)", sum(self.counts.values()))


def increases(server: Prometheus, metric: str) -> dict[str, float]:
    """Return `increase()` by type over all that the server stored, as of its last scrape, and assert that none fell."""
    at_seconds = max(server.query(f"timestamp({metric})").values())
    assert set(server.query(f"resets({metric}[1h])", at_seconds).values()) == {0.0}
    found = server.query(f"sum by (type) (increase({metric}[1h]))", at_seconds)
    assert found.pop("__other__") == 0
    return found


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no ::1")
def test_increase_over_new_types_is_what_was_sent(tmp_path: Path) -> None:
    """Two Prometheus servers, a restart of one and of the exporter: nothing is missing, nothing falls."""
    port, first_port, second_port = free_port(), free_port(), free_port()
    with ExitStack() as stack:
        sqs = stack.enter_context(FakeSqs())
        sent = Sent(sqs)
        running = stack.enter_context(ExitStack())
        running.enter_context(exporter(tmp_path, sqs, port))
        first = stack.enter_context(scraping(tmp_path / "first", f"127.0.0.1:{port}", first_port))
        with scraping(tmp_path / "second", f"[::1]:{port}", second_port) as second:
            sent.send(pageview=30, basket=20)
            sent.are_seen_by(first, second)
            sent.send(basket=5, purchase=7)
            sent.are_seen_by(first, second)
            assert shown_to_a_person(port) == sent.counts
        sent.send(refund=11, purchase=1)
        sent.are_seen_by(first)
        with scraping(tmp_path / "second", f"[::1]:{port}", second_port) as second:
            sent.send(search=13)
            sent.are_seen_by(first, second)
            running.close()
            sent.send(newsletter=17, refund=2)
            with exporter(tmp_path, sqs, port):
                sent.are_seen_by(first, second)
                sent.send(voucher=19, newsletter=1)
                sent.are_seen_by(first, second)
                assert shown_to_a_person(port) == sent.counts
                for server in (first, second):
                    counted: dict[str, Any] = increases(server, "sqs_events_total")
                    assert counted == pytest.approx(sent.counts)
                    assert increases(server, "sqs_event_value_total") == pytest.approx(
                        {name: 2 * count for name, count in sent.counts.items()}
                    )
