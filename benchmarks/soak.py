"""Two thousand kills and a million messages on one ledger, and the account at the end. `make soak` runs it.

    python benchmarks/soak.py --kills 200 --messages 100000    # a tenth of it

Ends with 0 if everything that was sent was counted exactly once, to the last digit, and the queue is empty.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from crash_loop import CrashLoop, counted_of, sent_of


class Soak(CrashLoop):
    """A crash loop that shows how far it is, and gives up after `limit_seconds`."""

    def __init__(self, directory: Path, *, kills: int, messages: int, seed: int, limit_seconds: float) -> None:
        super().__init__(directory, kills=kills, messages=messages, seed=seed)
        self._started = time.monotonic()
        self._limit_seconds = limit_seconds

    @property
    def seconds(self) -> float:
        """How long it runs."""
        return time.monotonic() - self._started

    def died(self, number: int) -> None:
        """Print a line now and then."""
        if self.seconds > self._limit_seconds:
            raise TimeoutError(f"only {number} kills in {self.seconds:.0f} s")
        if number % max(1, self.kills // 40) == 0:
            account = self.account()
            print(
                f"{self.seconds:6.0f} s  {number:6,} kills  {account.sent:9,} messages sent  "
                f"{account.deliveries:9,} deliveries  {account.deleted:9,} deleted",
                flush=True,
            )


def main() -> int:
    """Run it and print its account."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=2_000)
    parser.add_argument("--messages", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--limit-minutes", type=float, default=60)
    arguments = parser.parse_args()

    with tempfile.TemporaryDirectory() as directory:
        soak = Soak(
            Path(directory),
            kills=arguments.kills,
            messages=arguments.messages,
            seed=arguments.seed,
            limit_seconds=60 * arguments.limit_minutes,
        )
        account, snapshot = soak.run()

    kills = ", ".join(f"{name} {times:,}" for name, times in sorted(soak.deaths.items()))
    print(f"\n{soak.deaths.total():,} kills in {soak.seconds:.0f} s: {kills}")
    print(f"{account.sent:,} messages were sent and {account.deleted:,} deleted; {account.remaining} are in the queue")
    print(
        f"{account.deliveries:,} deliveries: {account.duplicates:,} copies, {account.returned_after_delete:,} back "
        f"after a confirmed delete, {account.stale_deletes:,} deletes that SQS confirmed without deleting"
    )
    print(
        f"{snapshot.received:,} received = {snapshot.counted:,} counted + {snapshot.duplicate:,} duplicates + "
        f"{sum(snapshot.rejected.values()):,} rejected + {sum(snapshot.released.values()):,} released; "
        f"{snapshot.messages:,} ids are remembered"
    )
    sent, counted = sent_of(account), counted_of(snapshot)
    print(f"\n{'type':20} {'sent':>10} {'counted':>10} {'sum sent, in 1e-9':>24} {'sum counted':>24}")
    for name in sorted(sent | counted):
        (count, value, negative), (has, has_value, has_negative) = (
            sent.get(name, (0, 0, 0)),
            counted.get(name, (0, 0, 0)),
        )
        print(f"{name:20} {count:10,} {has:10,} {value - negative:24,} {has_value - has_negative:24,}")
    exact = sent == counted and account.invalid == snapshot.rejected and not account.remaining
    print("\nexact" if exact else "\nNOT EXACT")
    return 0 if exact else 1


if __name__ == "__main__":
    sys.exit(main())
