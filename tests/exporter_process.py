"""The real program in a process of its own, as an operator has it: started, scraped, stopped, killed, started again."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Self

import leftovers
from prometheus_client.parser import text_string_to_metric_families

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType

    from fake_sqs import Account

PROGRAM = Path(sys.executable).parent / "sqs-event-exporter"
POLL_SECONDS = 0.05
SCRAPE_SECONDS = 15.0
START_SECONDS = 60.0
WAIT_SECONDS = 60.0
"""A deadline: where all is well it is not waited for, and a machine that is three times as busy is no finding."""
INHERITED = ("PATH", "HOME", "LANG", "TMPDIR", "LD_LIBRARY_PATH", "COVERAGE_PROCESS_START", leftovers.VARIABLE)
"""What of the test's own environment the program gets: none of its AWS settings."""
LISTENING = re.compile(r"https?://[^/]*:(\d+)")
LINES_SHOWN = 30

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


@dataclass(frozen=True)
class Scrape:
    """The samples of one scrape. Making one asserts that received = counted + duplicate + rejected + released."""

    samples: Samples = field(repr=False)

    def __post_init__(self) -> None:
        accounted = self.counted + self.duplicate + self.rejected + self.released
        assert self.received == accounted, (
            f"received {self.received}, but counted {self.counted} + duplicate {self.duplicate} + "
            f"rejected {self.rejected} + released {self.released} = {accounted}"
        )

    def total(self, name: str, **labels: str) -> float:
        """Return the sum of the samples of that name that have these labels; 0 where there is none."""
        wanted = labels.items()
        return sum(value for (found, has), value in self.samples.items() if found == name and wanted <= has)

    def by(self, name: str, label: str) -> dict[str, float]:
        """Return the samples of that name by one of their labels."""
        return {dict(has)[label]: value for (found, has), value in self.samples.items() if found == name}

    @property
    def received(self) -> float:
        """Deliveries."""
        return self.total("sqs_exporter_messages_received_total")

    @property
    def counted(self) -> float:
        """Events, of all types."""
        return self.total("sqs_events_total")

    @property
    def duplicate(self) -> float:
        """Deliveries of a message that was in the ledger already."""
        return self.total("sqs_exporter_messages_duplicate_total")

    @property
    def rejected(self) -> float:
        """Messages that are not an event."""
        return self.total("sqs_exporter_messages_rejected_total")

    @property
    def released(self) -> float:
        """Deliveries left to expire uncounted."""
        return self.total("sqs_exporter_messages_released_total")

    def agrees_with(self, account: Account) -> bool:
        """Assert that counts, sums and rejections are exactly those of all that was sent; returns True."""
        sent = {name: (totals.count, totals.value, totals.negative) for name, totals in account.types.items()}
        counts = self.by("sqs_events_total", "type")
        values = self.by("sqs_event_value_total", "type")
        negatives = self.by("sqs_event_negative_value_total", "type")
        shown = {name: (count, values[name], negatives[name]) for name, count in counts.items() if count}
        assert shown == sent
        rejected = self.by("sqs_exporter_messages_rejected_total", "reason")
        assert {reason: count for reason, count in rejected.items() if count} == account.invalid
        return True


class ExporterProcess:
    """One exporter on one ledger, a file or the URL of a database; a context manager that kills what still runs.

    `environment` is SQS's (`FakeSqs.environment`) and whatever else a test sets; `arguments` are further flags of
    `run`. `through` is a command that runs the program under a limit or in a namespace. `program` is what is run, an
    older or newer one perhaps. The port is free at first and stays the same over restarts.
    """

    def __init__(  # noqa: PLR0913 - by name
        self,
        environment: dict[str, str],
        ledger: Path | str,
        *arguments: str,
        queue: str = "events",
        through: Sequence[str] = (),
        program: Sequence[str] = (str(PROGRAM),),
        start: bool = True,
    ) -> None:
        self.environment = environment
        self.ledger = ledger
        self.queue = queue
        self.arguments = arguments
        self.through = through
        self.program = program
        self.port = 0
        self.stdout: list[str] = []
        """Lines of all processes so far."""
        self.stderr: list[str] = []
        self._process: subprocess.Popen[str] | None = None
        self._readers: list[threading.Thread] = []
        self._listening = threading.Event()
        if start:
            self.start()

    def start(self, **environment: str) -> None:
        """Start the program and wait until it listens. `environment` is for this process only."""
        self.launch(**environment)
        self.wait_until_listening()

    def wait_until_listening(self) -> None:
        """Wait until the program that was launched listens."""
        deadline = time.monotonic() + START_SECONDS
        while not self._listening.wait(POLL_SECONDS):
            assert self.running, f"it ended with {self.exit_code} before it listened\n{self.last_lines}"
            assert time.monotonic() < deadline, f"it does not listen\n{self.last_lines}"

    def launch(self, **environment: str) -> None:
        """Start the program without waiting for anything."""
        self._join_readers()
        self._listening.clear()
        inherited = {name: os.environ[name] for name in INHERITED if name in os.environ}
        command = [*self.through, *self.program, "run", "--queue", self.queue]
        command += ["--ledger.path" if isinstance(self.ledger, Path) else "--ledger.url", str(self.ledger)]
        command += ["--web.listen-address", f"127.0.0.1:{self.port}", *self.arguments]
        process = subprocess.Popen(
            command,
            env={**inherited, "EXPORTER_LOG__FORMAT": "json", **self.environment, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            errors="backslashreplace",
        )
        self._process = process
        for pipe, lines in ((process.stdout, self.stdout), (process.stderr, self.stderr)):
            reader = threading.Thread(target=self._read, args=(pipe, lines), daemon=True)
            reader.start()
            self._readers.append(reader)

    @property
    def process(self) -> subprocess.Popen[str]:
        """The process that was started last."""
        assert self._process is not None, "it was never started"
        return self._process

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.process.pid

    @property
    def running(self) -> bool:
        """Whether the process has not ended."""
        return self.process.poll() is None

    @property
    def exit_code(self) -> int | None:
        """Its exit code, negative where a signal ended it; None while it runs."""
        return self.process.poll()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> list[dict[str, Any]]:
        """The log so far, of all processes; lines that are not JSON are left out (they are in `stderr`)."""
        records = []
        for line in list(self.stderr):
            try:
                records.append(json.loads(line))
            except ValueError:
                continue
        return records

    @property
    def last_lines(self) -> str:
        """The end of stderr, for the message of a failed assertion."""
        return "\n".join(self.stderr[-LINES_SHOWN:])

    def get(self, path: str) -> tuple[int, str]:
        """Return status and body of a page. Raises OSError where nothing answers."""
        try:
            with urllib.request.urlopen(self.url + path, timeout=SCRAPE_SECONDS) as answer:  # noqa: S310 - our own
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def scrape(self) -> Scrape:
        """Return the metrics, the accounting identity asserted."""
        status, text = self.get("/metrics")
        assert status == 200, text
        families = text_string_to_metric_families(text)
        samples = (sample for family in families for sample in family.samples)
        return Scrape({(sample.name, frozenset(sample.labels.items())): sample.value for sample in samples})

    def ready(self) -> tuple[bool, str]:
        """Return whether it is ready, and the sentence."""
        status, text = self.get("/-/ready")
        return status == 200, text

    def healthy(self) -> bool:
        """Return whether its loop goes on."""
        return self.get("/-/healthy")[0] == 200

    def wait_for(self, condition: Callable[[Scrape], bool], timeout_seconds: float = WAIT_SECONDS) -> Scrape:
        """Return the first scrape that meets the condition; fails, with the last one's totals, if none does."""
        deadline = time.monotonic() + timeout_seconds
        while True:
            assert self.running, f"it ended with {self.exit_code}\n{self.last_lines}"
            scrape = self.scrape()
            if condition(scrape):
                return scrape
            assert time.monotonic() < deadline, (
                f"not within {timeout_seconds} s: received {scrape.received}, counted {scrape.counted}, duplicate "
                f"{scrape.duplicate}, rejected {scrape.rejected}, released {scrape.released}\n{self.last_lines}"
            )
            time.sleep(POLL_SECONDS)

    def wait_until_ready(self, timeout_seconds: float = WAIT_SECONDS, *, ready: bool = True) -> str:
        """Wait until it is ready, or not ready; returns the sentence."""
        deadline = time.monotonic() + timeout_seconds
        while True:
            assert self.running, f"it ended with {self.exit_code}\n{self.last_lines}"
            is_ready, sentence = self.ready()
            if is_ready == ready:
                return sentence
            assert time.monotonic() < deadline, f"not within {timeout_seconds} s: {sentence}\n{self.last_lines}"
            time.sleep(POLL_SECONDS)

    def wait_until_told(self, words: str, timeout_seconds: float = WAIT_SECONDS) -> str:
        """Wait until what /-/ready says holds these words; returns the sentence."""
        deadline = time.monotonic() + timeout_seconds
        while words not in (sentence := self.ready()[1]):
            assert self.running, f"it ended with {self.exit_code}\n{self.last_lines}"
            assert time.monotonic() < deadline, f"not within {timeout_seconds} s: {sentence}\n{self.last_lines}"
            time.sleep(POLL_SECONDS)
        return sentence

    def wait_until_logged(self, words: str, **fields: str) -> None:
        """Wait until a line of the log holds these words in its message, and these fields."""
        deadline = time.monotonic() + WAIT_SECONDS
        while not any(words in line["msg"] and fields.items() <= line.items() for line in self.log):
            assert time.monotonic() < deadline, f"not logged: {words}\n{self.last_lines}"
            time.sleep(POLL_SECONDS)

    def wait(self, timeout_seconds: float = WAIT_SECONDS) -> int:
        """Wait for the process's end and for its last line; returns its exit code."""
        code = self.process.wait(timeout_seconds)
        self._join_readers()
        return code

    def terminate(self, timeout_seconds: float = WAIT_SECONDS) -> int:
        """Send SIGTERM and wait; returns the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.wait(timeout_seconds)

    def kill(self) -> None:
        """Send SIGKILL and wait."""
        self.process.kill()
        self.wait()

    def restart(self, **environment: str) -> None:
        """Start again on the same ledger and port; kills a process that still runs."""
        if self.running:
            self.kill()
        self.start(**environment)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._process is not None:
            self.kill()

    def _read(self, pipe: IO[str], lines: list[str]) -> None:
        with pipe:
            for line in pipe:
                lines.append(line.rstrip("\n"))
                if lines is self.stderr and not self._listening.is_set() and '"listening"' in line:
                    found = LISTENING.search(str(json.loads(line).get("listening")))
                    if found:
                        self.port = int(found[1])
                        self._listening.set()

    def _join_readers(self) -> None:
        for reader in self._readers:
            reader.join(WAIT_SECONDS)
        self._readers.clear()
