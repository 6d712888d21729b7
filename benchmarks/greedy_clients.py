"""What greedy clients of the exporter's port cost: the consumer's rate, a scrape's 99th percentile, and memory.

Each load comes and goes beside a consumer that works off a full queue, so that its rates with and without are
comparable on a machine that has other work. The clients, the stub of SQS and whatever else runs take processors from
the consumer as well, which is no doing of the exporter: so what it kept is also given for each second in which the
consumer did not wait for a processor, as Linux counts it. Waiting for the web server's thread is not such a wait.
`--tree` measures another checkout with its own `.venv`. Linux only: it reads /proc.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import re
import resource
import select
import socket
import statistics
import subprocess
import tempfile
import threading
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

from stub_events import BATCH_SIZE, Load
from stub_server import queue_names
from stub_sqs import StubSqs
from subject import Subject

if TYPE_CHECKING:
    from collections.abc import Iterator
    from multiprocessing.synchronize import Event

REQUEST = (
    b"GET /metrics HTTP/1.1\r\nHost: exporter:9797\r\nUser-Agent: greedy\r\n"
    b"Accept: text/plain;version=0.0.4;q=0.5,*/*;q=0.1\r\n\r\n"
)
SCRAPE_EVERY_SECONDS = 0.1
SCRAPE_TIMEOUT_SECONDS = 10.0
RECONNECT_SECONDS = 2.0
PHASE_SECONDS = 3.0
"""Of each rate."""
MANY_MESSAGES = 1_000_000_000
WARM_UP_SECONDS = 1.0
PIPELINED = 50
DEFAULT_TYPES = ("page_view", "added_to_basket", "purchase")


@dataclass(frozen=True)
class Greed:
    """One load: how many clients, what each does, and the types that the exporter shows meanwhile."""

    name: str
    clients: int
    deaf: bool = False
    pipelined: int = 1
    types: tuple[str, ...] = DEFAULT_TYPES


LOADS = (
    Greed("200 parallel scrapes", 200),
    Greed("2,000 deaf clients, pipelined", 2_000, deaf=True, pipelined=PIPELINED),
    Greed(
        "500 deaf clients, 200 long types",
        500,
        deaf=True,
        types=tuple(f"{n:03}" + "\U0001f6d2" * 125 for n in range(200)),
    ),
    Greed("500 deaf clients, 10,000 types", 500, deaf=True, types=tuple(f"type_{n:05}" for n in range(10_000))),
)


class Pace(NamedTuple):
    """How the consumer gets on."""

    messages_per_second: float
    messages_per_own_second: float
    """The same without the time in which the consumer was ready to run but other processes had the processors."""
    cpu_us: float
    """The main thread's processor time for a message."""
    others_share: float
    """Of a core, taken by the other threads: the web server's, nearly all of it."""


@dataclass(frozen=True)
class Measured:
    """What one run found."""

    without: Pace
    under: Pace
    scrapes_seconds: list[float]
    failed_scrapes: int
    peak_megabytes: float
    """Resident memory and what the kernel holds for its connections, together, at most."""
    kernel_megabytes: float
    """The latter alone."""

    def scrape_ms(self, percent: int) -> float:
        """Return a percentile of the scrapes, in milliseconds."""
        if len(self.scrapes_seconds) < 2:  # noqa: PLR2004 - quantiles need two
            return float("nan")
        return statistics.quantiles(self.scrapes_seconds, n=100, method="inclusive")[percent - 1] * 1000


class Watch:
    """Scrapes ten times a second, each time over a new connection, and looks at memory."""

    def __init__(self, subject: Subject) -> None:
        self._subject = subject
        self._address = (urlsplit(subject.url).hostname or "", urlsplit(subject.url).port or 0)
        self._over = threading.Event()
        self.scrapes_seconds: list[float] = []
        self.failed = 0
        self.peak_bytes = self.kernel_bytes = 0

    @contextmanager
    def looking(self) -> Iterator[None]:
        """Do so for a while."""
        self._over.clear()
        threads = [threading.Thread(target=work) for work in (self._scrape, self._look)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._over.set()
            for thread in threads:
                thread.join()

    def _scrape(self) -> None:
        while not self._over.wait(SCRAPE_EVERY_SECONDS):
            started = time.perf_counter()
            try:
                with socket.create_connection(self._address, timeout=SCRAPE_TIMEOUT_SECONDS) as connection:
                    connection.sendall(
                        REQUEST.replace(b"\r\n\r\n", b"\r\nAccept-Encoding: gzip\r\nConnection: close\r\n\r\n")
                    )
                    answer = b"".join(iter(lambda: connection.recv(1 << 20), b""))
                head, _, body = answer.partition(b"\r\n\r\n")
                whole = head.startswith(b"HTTP/1.1 200") and f"content-length: {len(body)}".encode() in head.lower()
            except OSError:
                whole = False
            if whole:
                self.scrapes_seconds.append(time.perf_counter() - started)
            else:
                self.failed += 1

    def _look(self) -> None:
        while not self._over.wait(0.1):
            kernel = _kernel_bytes(self._address[1])
            self.kernel_bytes = max(self.kernel_bytes, kernel)
            self.peak_bytes = max(self.peak_bytes, kernel + _resident_bytes(self._subject.process_id))


def _kernel_bytes(port: int) -> int:
    """Return what the kernel holds for the exporter's connections: received, being sent, and set aside for them."""
    command = ["ss", "-tmnH", "state", "all", "sport", "=", f":{port}"]
    listed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return sum(int(size) for size in re.findall(r"[(,][rwf](\d+)", listed))


def _resident_bytes(process_id: int) -> int:
    return int(Path(f"/proc/{process_id}/statm").read_text().split()[1]) * resource.getpagesize()


def be_greedy(address: tuple[str, int], greed: Greed, over: Event) -> None:
    """Do what the load says until it is over, on one thread; clients that were closed connect again."""
    soft = min(resource.getrlimit(resource.RLIMIT_NOFILE)[1], 10_000)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, soft))
    poll = select.epoll()
    clients: dict[int, socket.socket] = {}
    due = [time.monotonic()] * greed.clients
    while not over.is_set():
        now = time.monotonic()
        while due and due[-1] <= now:
            due.pop()
            try:
                client = socket.create_connection(address, timeout=2)
                client.setblocking(False)  # noqa: FBT003 - its only parameter
                client.send(REQUEST * greed.pipelined)
            except OSError:
                due.insert(0, now + RECONNECT_SECONDS)
                continue
            clients[client.fileno()] = client
            poll.register(client, select.EPOLLRDHUP if greed.deaf else select.EPOLLIN)
        for descriptor, _ in poll.poll(0.05):
            client = clients[descriptor]
            with suppress(OSError):
                if not greed.deaf and (got := client.recv(1 << 20)):
                    if _ends_an_answer(client, got):
                        client.send(REQUEST)
                    continue
            poll.unregister(client)
            del clients[descriptor]
            _LEFT.pop(client.fileno(), None)
            client.close()
            due.insert(0, time.monotonic() + RECONNECT_SECONDS)


_LEFT: dict[int, int] = {}


def _ends_an_answer(client: socket.socket, got: bytes) -> bool:
    left = _LEFT.get(client.fileno(), 0)
    if not left:
        head, _, body = got.partition(b"\r\n\r\n")
        length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        left = int(length.partition(b":")[2])
        got = body
    _LEFT[client.fileno()] = left - len(got)
    return left == len(got)


@contextmanager
def greedy(address: tuple[str, int], greed: Greed) -> Iterator[None]:
    """Run the load in a process of its own."""
    context = multiprocessing.get_context("spawn")
    over = context.Event()
    process = context.Process(target=be_greedy, args=(address, greed, over), daemon=True)
    process.start()
    try:
        yield
    finally:
        over.set()
        process.join(5)
        process.kill()


def measure(tree: Path, stub: StubSqs, ledger: Path, greed: Greed, rounds: int) -> Measured:
    """Let the exporter of the tree work off a queue without end, while the load comes and goes."""
    environment = {"EXPORTER_EVENTS__TYPES": ",".join(greed.types)}
    (queue,) = queue_names(1)
    command = [str(tree / ".venv/bin/python"), "-m", "exporter", "run", "--queue", queue, "--ledger.path", str(ledger)]
    command += ["--web.listen-address", "127.0.0.1:0"]
    subject = Subject("exporter", command, stub, exact=True, environment=environment)
    paces: dict[bool, list[Pace]] = {False: [], True: []}
    with subject:
        subject.listening()
        address = (urlsplit(subject.url).hostname or "", urlsplit(subject.url).port or 0)
        stub.load(Load(MANY_MESSAGES))
        time.sleep(WARM_UP_SECONDS)
        watch = Watch(subject)
        for _ in range(rounds):
            paces[False].append(_pace(stub, subject.process_id))
            with greedy(address, greed):
                time.sleep(WARM_UP_SECONDS)
                with watch.looking():
                    paces[True].append(_pace(stub, subject.process_id))
        subject.stop()
    return Measured(
        _median(paces[False]),
        _median(paces[True]),
        watch.scrapes_seconds,
        watch.failed,
        watch.peak_bytes / 1e6,
        watch.kernel_bytes / 1e6,
    )


def _median(paces: list[Pace]) -> Pace:
    return Pace(*(statistics.median(column) for column in zip(*paces, strict=True)))


def _pace(stub: StubSqs, process_id: int) -> Pace:
    """Look at the consumer for a while."""
    receives, began_at, waited = stub.receives(), time.monotonic(), _waited_seconds(process_id)
    main, every = _cpu_seconds(process_id, process_id), _cpu_seconds(process_id)
    time.sleep(PHASE_SECONDS)
    messages, seconds = (stub.receives() - receives) * BATCH_SIZE, time.monotonic() - began_at
    main, every = _cpu_seconds(process_id, process_id) - main, _cpu_seconds(process_id) - every
    own_seconds = seconds - (_waited_seconds(process_id) - waited)
    return Pace(messages / seconds, messages / own_seconds, main / max(1, messages) * 1e6, (every - main) / seconds)


def _waited_seconds(process_id: int) -> float:
    """Return how long the main thread was ready to run and had no processor (run_delay).

    https://docs.kernel.org/scheduler/sched-stats.html#proc-pid-schedstat
    """
    return int(Path(f"/proc/{process_id}/task/{process_id}/schedstat").read_text().split()[1]) / 1e9


def _cpu_seconds(process_id: int, thread_id: int | None = None) -> float:
    """Return the processor time of a thread, or of all threads."""
    folder = Path(f"/proc/{process_id}") if thread_id is None else Path(f"/proc/{process_id}/task/{thread_id}")
    fields = (folder / "stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    """Measure each load and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tree", type=Path, default=Path(__file__).parent.parent, help="checkout to measure")
    parser.add_argument("--rounds", type=int, default=3, help="how often each load comes and goes")
    parser.add_argument("--only", type=int, help="number of the one load to measure, from 0")
    arguments = parser.parse_args()
    os.chdir(arguments.tree)
    heads = "| load | messages/s without | with | kept | kept, waits for a processor aside "
    heads += "| us a message without | with | web server's share of a core "
    print(heads + "| scrape p50 | p99 | failed | memory with kernel | kernel |")
    print("|---|" + "---:|" * (heads.count("|") + 3))
    loads = LOADS if arguments.only is None else LOADS[arguments.only : arguments.only + 1]
    with StubSqs() as stub, tempfile.TemporaryDirectory() as folder:
        for number, greed in enumerate(loads):
            found = measure(arguments.tree, stub, Path(folder, f"{number}.db"), greed, arguments.rounds)
            scrapes = found.failed_scrapes + len(found.scrapes_seconds)
            print(
                f"| {greed.name} | {found.without.messages_per_second:,.0f} | {found.under.messages_per_second:,.0f} "
                f"| {found.under.messages_per_second / found.without.messages_per_second:.0%} "
                f"| {found.under.messages_per_own_second / found.without.messages_per_own_second:.0%} "
                f"| {found.without.cpu_us:.1f} | {found.under.cpu_us:.1f} | {found.under.others_share:.0%} "
                f"| {found.scrape_ms(50):.0f} ms "
                f"| {found.scrape_ms(99):.0f} ms | {found.failed_scrapes} of {scrapes} "
                f"| {found.peak_megabytes:.0f} MB | {found.kernel_megabytes:.0f} MB |",
                flush=True,
            )


if __name__ == "__main__":
    main()
