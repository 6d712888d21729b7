"""One exporter on one ledger under load, killed again and again: at named failpoints and at random moments."""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from exporter_process import INHERITED, ExporterProcess
from fake_sqs import FakeSqs
from forking_exporter import ForkingExporter

from exporter.ledger.failpoint import NAMES, VARIABLE
from exporter.ledger.sqlite.ledger import SqliteLedger

if TYPE_CHECKING:
    from pathlib import Path

    from fake_sqs import Account

    from exporter.ledger import Snapshot

VISIBILITY_SECONDS = 10
"""Less than this the exporter does not ask for."""
WINDOW_SECONDS = 20
"""The least that is possible, so that ids are forgotten while it is killed."""
DOWN_SECONDS = 4.0
"""How much time passes for SQS between two processes: what a killed one was given comes back to the third after it."""
LIFE_SECONDS = WINDOW_SECONDS + 20.0
"""A failpoint that was not reached by then is not waited for. Whoever dies in a prune first has to wait the window."""
FEED_SECONDS = 0.5
MOST_TIMES = {"at_open": 1, "in_prune": 3, "in_checkpoint": 1}
"""Up to which time of reaching it a failpoint is armed; 10 where it is not said. The checkpoint is the opening's, of
the log that the killed process before left: the next one would come after some hundred commits."""
FAILPOINTS = NAMES - {"in_migration"}
"""A ledger is migrated once: `test_ledger_migration.py` kills it there."""
DRAIN_SECONDS = 60.0
TRIED_SECONDS = 3.0
"""What is still in flight after this, of a process that nobody kills, is brought back."""


class Life(NamedTuple):
    """How one process is to die: by its own hand at a failpoint, or, without one, after so many seconds."""

    failpoint: str | None
    times: int
    seconds: float
    under_load: bool
    """Whether the seconds begin with its first delete, not with its start."""
    max_receives: int


class CrashLoop:
    """A queue that gets about `messages` events while the exporter dies `kills` times; a fifth of all is duplicated."""

    def __init__(self, directory: Path, *, kills: int, messages: int, seed: int) -> None:
        self.kills = kills
        self.messages = messages
        self.deaths: Counter[str] = Counter()
        """How the processes died: by failpoint, or `random`."""
        self._ledger = directory / "ledger.db"
        self._log = directory / "log"
        self._choose = random.Random(seed)  # noqa: S311 - repeatable on purpose
        self._sqs = FakeSqs(
            attributes={"VisibilityTimeout": str(VISIBILITY_SECONDS)},
            seed=seed,
            latency_seconds=0.002,
            duplicate_in_batch=0.1,
            duplicate_across_batches=0.1,
            return_after_delete=0.01,
            return_after_seconds=1.0,
            hide=0.05,
        )

    def run(self) -> tuple[Account, Snapshot]:
        """Kill so many times, let a last process finish; returns the truth and what is in the ledger."""
        with self._sqs as sqs:
            with ForkingExporter(self._log) as exporter:
                for number in range(self.kills):
                    self._feed(number)
                    self.deaths[self._live(exporter, self._plan(number))] += 1
                    self.died(number + 1)
            return self._finish(sqs), self._read_ledger()

    def died(self, number: int) -> None:
        """Be told of each death, for those who want to show progress."""

    def account(self) -> Account:
        """Return the truth so far."""
        return self._sqs.account()

    def _feed(self, number: int) -> None:
        sent = self.messages * number // self.kills
        self._sqs.load(self.messages * (number + 1) // self.kills - sent, seed=number, invalid_fraction=0.05)

    def _plan(self, number: int) -> Life:
        choose = self._choose
        # Nothing is dropped before the window has passed for the first time.
        names = sorted(FAILPOINTS if number > self.kills * 2 // 3 else FAILPOINTS - {"in_prune"})
        failpoint = names[number // 2 % len(names)] if number % 2 else None
        under_load = failpoint is None and choose.random() < 0.7
        if failpoint is None:
            seconds = choose.uniform(0, 0.15 if under_load else 0.4)
        else:
            seconds = choose.choice((0.0, choose.uniform(0, 0.005)))
        times = choose.randint(1, MOST_TIMES.get(failpoint or "", 10))
        return Life(failpoint, times, seconds, under_load, choose.choice((1, 4, 16)))

    def _live(self, exporter: ForkingExporter, life: Life) -> str:
        environment = {name: os.environ[name] for name in INHERITED if name in os.environ} | self._sqs.environment
        if life.failpoint is not None:
            environment[VARIABLE] = f"{life.failpoint}:{life.times}:{life.seconds}"
        deleted = self._sqs.account().deleted
        exporter.start(self._arguments(life.max_receives), environment)
        died = self._dies(exporter, life, deleted)
        if not died:
            exporter.kill()
        code = exporter.wait()
        self._sqs.advance(DOWN_SECONDS)
        assert code == -signal.SIGKILL, f"it ended with {code} by itself\n{exporter.last_lines}"
        return life.failpoint if died and life.failpoint is not None else "random"

    def _dies(self, exporter: ForkingExporter, life: Life, deleted: int) -> bool:
        """Let the process live; returns whether it died by its own hand."""
        deadline = time.monotonic() + LIFE_SECONDS
        if life.failpoint is not None:
            while not (died := exporter.ended_within(FEED_SECONDS)) and time.monotonic() < deadline:
                self._sqs.load(10, seed=self._choose.randrange(1 << 30))
            return died
        while life.under_load and self._sqs.account().deleted == deleted and time.monotonic() < deadline:
            time.sleep(0.002)
        return exporter.ended_within(life.seconds)

    def _arguments(self, max_receives: int) -> list[str]:
        flags = {
            "--queue": self._sqs.queue_name,
            "--ledger.path": str(self._ledger),
            "--ledger.window": f"{WINDOW_SECONDS}s",
            "--sqs.max-receives": str(max_receives),
            "--sqs.wait-seconds": "1",
            "--web.listen-address": "127.0.0.1:0",
        }
        return ["run", *(part for flag in flags.items() for part in flag)]

    def _finish(self, sqs: FakeSqs) -> Account:
        """Let one process that nobody kills, started in earnest, take the rest; it has to agree on /metrics too."""
        flags = ("--ledger.window", f"{WINDOW_SECONDS}s", "--sqs.wait-seconds", "1")
        with ExporterProcess(sqs.environment, self._ledger, *flags) as exporter:
            # Above the last moments of a short loop, a long one leaves a backlog: at least 2,000 messages a second.
            deadline = time.monotonic() + DRAIN_SECONDS + sqs.account().remaining / 2_000
            while True:
                try:
                    account = sqs.wait_until(lambda account: account.remaining == 0, TRIED_SECONDS)
                    break
                except TimeoutError:
                    assert time.monotonic() < deadline, f"{sqs.account()}\n{exporter.last_lines}"
                    sqs.advance(VISIBILITY_SECONDS)
            scrape = exporter.scrape()
            assert exporter.terminate() == 0
        assert scrape.agrees_with(account)
        return account

    def _read_ledger(self) -> Snapshot:
        ledger = SqliteLedger(str(self._ledger))
        try:
            return ledger.snapshots[self._sqs.queue_name]
        finally:
            ledger.close()


Exact = dict[str, tuple[int, int, int]]
"""Of each type its count, the sum of its values that are not negative and that of the others' magnitudes, in 1e-9."""


def sent_of(account: Account) -> Exact:
    """Return what was sent."""
    return {name: (totals.count, totals.value_nano, totals.negative_nano) for name, totals in account.types.items()}


def counted_of(snapshot: Snapshot) -> Exact:
    """Return what was counted, without types at 0."""
    types = snapshot.types.items()
    return {name: (totals.count, totals.value_nano, totals.negative_nano) for name, totals in types if totals.count}
