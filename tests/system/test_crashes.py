"""`kill -9` under load: at every named place and at random moments, again and again on one ledger."""

from __future__ import annotations

from typing import TYPE_CHECKING

from crash_loop import FAILPOINTS, CrashLoop, counted_of, sent_of

if TYPE_CHECKING:
    from pathlib import Path

KILLS = 210
MESSAGES = 80_000


def test_no_kill_loses_or_doubles_anything(tmp_path: Path) -> None:
    """After more than 200 SIGKILLs counts and sums are the truth to the last digit, and the queue is empty."""
    loop = CrashLoop(tmp_path, kills=KILLS, messages=MESSAGES, seed=20)
    account, snapshot = loop.run()

    assert counted_of(snapshot) == sent_of(account)
    assert snapshot.rejected == account.invalid
    assert (account.deleted, account.remaining, account.expired) == (account.sent, 0, 0)

    assert loop.deaths.total() == KILLS
    assert all(loop.deaths[name] >= 4 for name in FAILPOINTS), f"hardly killed at some failpoint: {loop.deaths}"
    assert account.duplicates + account.returned_after_delete > account.sent // 6
    assert snapshot.messages < account.sent - 1_000, "hardly anything was old enough to be forgotten"
