"""However many types somebody invents: memory, scrape and ledger stay small, totals exact, known types unharmed.

`HYPOTHESIS_PROFILE=soak` sends a million distinct types instead of 50,000.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from exporter_process import ExporterProcess, Scrape
from fake_sqs import FakeSqs
from hostile_traffic import SOAK, peak_mib

if TYPE_CHECKING:
    from pathlib import Path

    from fake_sqs import Account

TYPES = 1_000_000 if SOAK else 50_000
MAX_TYPES = 50
KNOWN = ("pageview", "added-to-basket", "purchase")
SHOP = 1_000
PEAK_MIB = 160
SCRAPE_BYTES = 64 * 1024
SCRAPE_SECONDS = 0.5
LEDGER_BYTES_PER_MESSAGE = 64
"""The ids of messages are remembered, and nothing of their types."""
LEDGER_BYTES = 8 * 1024 * 1024
"""What the ledger may take beyond that, its write-ahead log included."""


def overflow_is_exact(scrape: Scrape, account: Account) -> None:
    """Assert that known types are exact, all others are in the admitted ones or `__other__`, and nothing is lost."""
    counts = scrape.by("sqs_events_total", "type")
    values = scrape.by("sqs_event_value_total", "type")
    for name in KNOWN:
        assert (counts[name], values[name]) == (account.types[name].count, account.types[name].value)
    assert len(counts) == MAX_TYPES + len(KNOWN) + 1
    assert counts["__other__"] == TYPES - MAX_TYPES
    others = [totals for name, totals in account.types.items() if name not in counts]
    assert values["__other__"] == sum(totals.value_nano for totals in others) / 1e9
    assert scrape.counted == account.counted == TYPES + 2 * SHOP


def seconds_of_a_scrape(exporter: ExporterProcess) -> float:
    """Return how long /metrics takes."""
    started = time.perf_counter()
    exporter.get("/metrics")
    return time.perf_counter() - started


def test_a_flood_of_types_is_bounded_exact_and_visible_also_after_a_restart(tmp_path: Path) -> None:
    """Each message has a type of its own, before and after them come known ones; then all of it again, restarted."""
    flags = ("--events.types", ",".join(KNOWN), "--events.max-types", str(MAX_TYPES), "--summary.interval", "1s")
    with FakeSqs() as sqs:
        sqs.load(SHOP, seed=1)
        sqs.load(TYPES, types=TYPES)
        sqs.load(SHOP, seed=2)
        with ExporterProcess(sqs.environment, tmp_path / "ledger.db", *flags) as exporter:
            exporter.wait_for(lambda scrape: scrape.counted == TYPES + 2 * SHOP, 60 + TYPES / 1_000)
            account = sqs.wait_until(lambda account: account.deleted == TYPES + 2 * SHOP)
            overflow_is_exact(exporter.scrape(), account)

            assert min(seconds_of_a_scrape(exporter) for _ in range(3)) < SCRAPE_SECONDS, "a busy machine adds to each"
            assert len(exporter.get("/metrics")[1]) < SCRAPE_BYTES
            assert peak_mib(exporter.pid) < PEAK_MIB
            size = sum(path.stat().st_size for path in tmp_path.iterdir())
            assert size < LEDGER_BYTES + TYPES * LEDGER_BYTES_PER_MESSAGE

            exporter.terminate()
            assert any('"__other__"' in line for line in exporter.stdout)
            exporter.start()
            overflow_is_exact(exporter.scrape(), account)
            assert len(exporter.stderr) < 50

            sqs.load(SHOP, seed=3)
            sqs.send([f'{{"type": "late-{number}", "value": -1}}' for number in range(10)])
            scrape = exporter.wait_for(lambda scrape: scrape.counted == TYPES + 3 * SHOP + 10)
            again = sqs.account()
            counts = scrape.by("sqs_events_total", "type")
            assert {name: counts[name] for name in KNOWN} == {name: again.types[name].count for name in KNOWN}
            assert counts["__other__"] == TYPES - MAX_TYPES + 10
            assert scrape.by("sqs_event_negative_value_total", "type")["__other__"] == 10
