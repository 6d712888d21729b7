"""What holds a million message ids: memory an id, and time to find out that one is new and to remember it.

    python benchmarks/ids.py [NUMBER]

Each row is measured in a process of its own. `buckets` is the ledger's.
"""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from exporter.ledger.message_ids import split
from exporter.ledger.sqlite.ids import IdIndex

if TYPE_CHECKING:
    from collections.abc import Callable

COMMIT = 160


def buckets() -> Callable[[tuple[bytes, ...], int], None]:
    """Use `exporter.ledger.sqlite.ids.IdIndex`."""
    index = IdIndex()

    def remember(ids: tuple[bytes, ...], seq: int) -> None:
        if not index.known(ids):
            index.add(ids, seq)

    return remember


def dictionary() -> Callable[[tuple[bytes, ...], int], None]:
    """Use `dict[bytes, int]`: knows the commit of each id, as the ledger has to."""
    held: dict[bytes, int] = {}

    def remember(ids: tuple[bytes, ...], seq: int) -> None:
        if not [i for i in ids if i in held]:
            held.update(dict.fromkeys(ids, seq))

    return remember


def plain_set() -> Callable[[tuple[bytes, ...], int], None]:
    """Use `set[bytes]`: can't tell an id that was renewed from one that was not."""
    held: set[bytes] = set()

    def remember(ids: tuple[bytes, ...], _: int) -> None:
        if not held.intersection(ids):
            held.update(ids)

    return remember


def temporary_table() -> Callable[[tuple[bytes, ...], int], None]:
    """Use a table in SQLite's memory, keyed by id."""
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.execute("CREATE TABLE held (id BLOB PRIMARY KEY, seq INTEGER) WITHOUT ROWID")

    def remember(ids: tuple[bytes, ...], seq: int) -> None:
        connection.execute("BEGIN")
        connection.executemany("INSERT OR IGNORE INTO held VALUES (?, ?)", [(i, seq) for i in ids])
        connection.execute("COMMIT")

    return remember


CANDIDATES = {maker.__name__: maker for maker in (buckets, dictionary, plain_set, temporary_table)}


def resident_bytes() -> int:
    """Memory of this process that is in RAM."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def measure(name: str, number: int) -> None:
    """Print one row."""
    before_bytes = resident_bytes()
    remember = CANDIDATES[name]()
    spent_seconds = 0.0
    for seq in range(number // COMMIT):
        ids = split(os.urandom(16 * COMMIT))
        started = time.process_time()
        remember(ids, seq)
        spent_seconds += time.process_time() - started
    held_bytes = resident_bytes() - before_bytes
    print(f"{name:>16} {held_bytes / number:12.0f} {spent_seconds / number * 1e6:10.2f}")


def main() -> None:
    """Measure all, or, in the process of its own, one."""
    number = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    if len(sys.argv) > 2:  # noqa: PLR2004 - the name follows the number
        measure(sys.argv[2], number)
        return
    print(f"{'':>16} {'bytes an id':>12} {'us an id':>10}", flush=True)
    for name in CANDIDATES:
        subprocess.run([sys.executable, __file__, str(number), name], check=True)


if __name__ == "__main__":
    main()
