"""What OpenTelemetry costs: the same backlog with it off, and with metrics or all traces, whatever the collector does.

`make bench` runs it as a section of its own; by itself it is started with PYTHONPATH=tests. Linux only: it reads /proc.
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self

import scenarios
from stub_events import Load
from stub_sqs import StubSqs
from subject import exporter

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from multiprocessing.connection import Connection

Collector = Literal["well", "slow", "absent"]
COLLECTORS: tuple[Collector, ...] = ("well", "slow", "absent")
SLOW_SECONDS = 5.0
"""How long a slow collector thinks about each push."""
SIGNALS = {"metrics": "METRICS", "traces": "TRACES"}
LEAST_SHARE = {"metrics": 0.95, "traces": 0.90}
"""Of the throughput without OpenTelemetry, what has to remain."""
NOWHERE = "http://127.0.0.1:1"
MESSAGES = 200_000


@dataclass(frozen=True)
class Cost:
    """What is left with a signal on and a collector in some state, each round beside one with it off."""

    signal: str
    collector: str
    throughput_share: float
    """Median over the rounds of messages a second with it, divided by those without."""
    cpu_share: float
    """Median over the rounds of CPU a message with it, divided by that without."""


class CollectorProcess:
    """A collector that reads each push and forgets it, in a process of its own; a context manager."""

    def __init__(self, thinks_seconds: float) -> None:
        context = multiprocessing.get_context("spawn")
        port, theirs = context.Pipe()
        self._process = context.Process(target=_collect, args=(theirs, thinks_seconds), daemon=True)
        self._process.start()
        self.endpoint_url = f"http://127.0.0.1:{port.recv()}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.join()


def measure(directory: Path, rounds: int, messages: int) -> list[Cost]:
    """Take `messages` with OpenTelemetry off, on, off, on, for each signal and each state of the collector."""
    directory.mkdir(exist_ok=True)
    ledgers = scenarios.ledgers(directory)
    with StubSqs() as stub, CollectorProcess(0.0) as well, CollectorProcess(SLOW_SECONDS) as slow:
        endpoints = {"well": well.endpoint_url, "slow": slow.endpoint_url, "absent": NOWHERE}
        return [
            _compare(stub, ledgers, signal, collector, endpoints[collector], rounds, messages)
            for signal in SIGNALS
            for collector in COLLECTORS
        ]


def table(costs: list[Cost]) -> str:
    """Return the figures as Markdown."""
    lines = ["| on | collector | throughput | CPU a message | at least |", "|---|---|---|---|---|"]
    lines += [
        f"| {cost.signal} | {cost.collector} | {cost.throughput_share:.0%} | {cost.cpu_share:.0%} "
        f"| {LEAST_SHARE[cost.signal]:.0%} |"
        for cost in costs
    ]
    return "\n".join(lines)


def _compare(  # noqa: PLR0913, PLR0917 - one row of the table
    stub: StubSqs,
    ledgers: Iterator[Path],
    signal: str,
    collector: Collector,
    endpoint_url: str,
    rounds: int,
    messages: int,
) -> Cost:
    print(f"measuring: {signal}, collector {collector}", file=sys.stderr, flush=True)
    variable = f"OTEL_EXPORTER_OTLP_{SIGNALS[signal]}_ENDPOINT"
    on = {variable: f"{endpoint_url}/v1/{signal}"}
    throughput, cpu = [], []
    for _ in range(rounds):
        without = _run(stub, next(ledgers), messages, {})
        with_it = _run(stub, next(ledgers), messages, on)
        throughput.append(with_it.messages_per_second / without.messages_per_second)
        cpu.append(with_it.cpu_us / without.cpu_us)
    return Cost(signal, collector, statistics.median(throughput), statistics.median(cpu))


def _run(stub: StubSqs, ledger: Path, messages: int, environment: Mapping[str, str]) -> scenarios.Run:
    stub.watch()
    subject = exporter(stub, ledger, *scenarios.MANY_RECEIVES, environment=environment)
    return scenarios.load(stub, subject, Load(messages))


def _collect(port: Connection, thinks_seconds: float) -> None:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            time.sleep(thinks_seconds)
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Keep the output clean."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None:
            """Pass over a subject that ends without waiting for its answer."""

    server = Server(("127.0.0.1", 0), Handler)
    port.send(server.server_port)
    server.serve_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="of off and on; medians are shown")
    parser.add_argument("--messages", type=int, default=MESSAGES)
    parser.add_argument("--directory", default=".", help="where the ledgers are meanwhile")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-", dir=arguments.directory) as ledger_directory:
        print(table(measure(Path(ledger_directory), arguments.rounds, arguments.messages)))
