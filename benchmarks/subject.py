"""A program that is measured: started, scraped, its CPU and memory read from /proc, and held to what it counted."""

from __future__ import annotations

import json
import os
import re
import resource
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections import Counter, defaultdict
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from types import MappingProxyType
from typing import IO, TYPE_CHECKING, Self

from stub_server import queue_names

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stub_events import Totals
    from stub_sqs import StubSqs

BENCHMARKS = Path(__file__).parent
_LISTENING = re.compile(r"\blistening=(http://\S+)")
_START_SECONDS = 30.0
_STOP_SECONDS = 30.0
_RELEASE_EVERY_SECONDS = 0.2
_LISTENING_EVERY_SECONDS = 0.1


class WrongCountError(Exception):
    """A program counted something else than it was given: its figures are worth nothing."""


@dataclass(frozen=True)
class Ended:
    """What a whole process took, from its start to its end."""

    seconds: float
    cpu_seconds: float


class Subject:
    """A process under measurement; a context manager that kills what still runs."""

    def __init__(  # noqa: PLR0913 - by name
        self,
        name: str,
        command: list[str],
        stub: StubSqs,
        *,
        exact: bool,
        directory: Path | None = None,
        environment: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """Start it in a directory. What counts in floats is not `exact`: its sums are compared in whole cents."""
        self.name = name
        self._stub = stub
        self._exact = exact
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        self.started_at = time.monotonic()
        self._cpu_before = _cpu_of_children()
        self._process = subprocess.Popen(
            command,
            env={**kept, **stub.environment, **environment},
            cwd=directory,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.url = ""
        self._listening = threading.Event()
        self._lines: list[str] = []
        pipes = [pipe for pipe in (self._process.stdout, self._process.stderr) if pipe is not None]
        self._readers = [threading.Thread(target=self._read, args=(pipe,), daemon=True) for pipe in pipes]
        for reader in self._readers:
            reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()

    def listening(self) -> Self:
        """Wait until it can be scraped."""
        until = self.started_at + _START_SECONDS
        while not self._listening.wait(_LISTENING_EVERY_SECONDS):
            if self._process.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"{self.name} does not listen\n" + "".join(self._lines))
        return self

    def cpu_seconds(self) -> float:
        """User and system time so far."""
        # What clock_getcpuclockid(3) returns: /proc/PID/stat is no finer than 10 ms.
        return time.clock_gettime(~self._process.pid << 3 | 2)

    @property
    def process_id(self) -> int:
        """Of the program."""
        return self._process.pid

    def peak_megabytes(self) -> float:
        """Peak resident memory so far, in 10^6 bytes."""
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        (kibibytes,) = re.findall(r"VmHWM:\s+(\d+) kB", status)
        return int(kibibytes) * 1024 / 1e6

    def scrape_seconds(self) -> float:
        """Scrape once over a new connection; returns how long it took."""
        started = time.perf_counter()
        self._scrape()
        return time.perf_counter() - started

    def stop(self) -> Ended:
        """Ask it to end, and wait for that; no long poll holds it up."""
        self._process.send_signal(signal.SIGTERM)
        until = time.monotonic() + _STOP_SECONDS
        while time.monotonic() < until:
            try:
                self._process.wait(_RELEASE_EVERY_SECONDS)
            except subprocess.TimeoutExpired:
                self._stub.release()
            else:
                break
        return self.ended(_RELEASE_EVERY_SECONDS)

    def ended(self, timeout_seconds: float) -> Ended:
        """Wait until it ends by itself."""
        exit_code = self._process.wait(timeout_seconds)
        ended = Ended(time.monotonic() - self.started_at, _cpu_of_children() - self._cpu_before)
        for reader in self._readers:
            reader.join()
        if exit_code:
            raise RuntimeError(f"{self.name} ended with {exit_code}\n" + "".join(self._lines))
        return ended

    def check(self, totals: Totals) -> None:
        """Raise WrongCountError unless what it said at its end is what it was given: counts and sums, by type."""
        expected = {name: (total.count, float(total.value)) for name, total in totals.items()}
        last = {}  # each line says what one type of one queue comes to so far
        for line in self._lines:
            if line.startswith(('{"type"', '{"queue"')):
                said = json.loads(line, parse_float=Decimal)
                last[said.get("queue"), said["type"]] = said["count"], said["sum"]
        counts: Counter[str] = Counter()
        sums: defaultdict[str, Decimal] = defaultdict(Decimal)
        for (_, name), (count, value) in last.items():
            counts[name] += count
            sums[name] += value
        counted = {
            name: (count, float(sums[name] if self._exact else round(sums[name], 2))) for name, count in counts.items()
        }
        if counted != expected:
            raise WrongCountError(f"{self.name} counted {counted}, and was given {expected}")

    def _scrape(self) -> str:
        with urllib.request.urlopen(f"{self.url}/metrics") as answer:  # noqa: S310 - our own
            return str(answer.read().decode())

    def _read(self, pipe: IO[str]) -> None:
        for line in pipe:
            self._lines.append(line)
            found = _LISTENING.search(line) if not self.url else None
            if found:
                self.url = found[1]
                self._listening.set()


def exporter(
    stub: StubSqs,
    ledger: Path | str,
    *arguments: str,
    queues: int = 1,
    checkout: Path | None = None,
    environment: Mapping[str, str] = MappingProxyType({}),
) -> Subject:
    """Start the exporter as it is by default, its durable ledger in the file `ledger` or at that URL.

    `checkout` is where another exporter than this one is to be found; `environment` is more of it.
    """
    command = [sys.executable, "-m", "exporter", "run"]
    command += ["--ledger.url", ledger] if isinstance(ledger, str) else ["--ledger.path", str(ledger.resolve())]
    for name in queue_names(queues):
        command += ["--queue", name]
    command += ["--web.listen-address", "127.0.0.1:0", *arguments]
    return Subject("exporter", command, stub, exact=True, directory=checkout, environment=environment)


def boto3_loop(stub: StubSqs, threads: int, *arguments: str) -> Subject:
    """Start the yardstick."""
    command = [sys.executable, str(BENCHMARKS / "boto3_loop.py"), "--queue", *queue_names(1), "--threads", str(threads)]
    return Subject(f"boto3 x {threads}", [*command, *arguments], stub, exact=False)


def _cpu_of_children() -> float:
    """User and system time of all children that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime
