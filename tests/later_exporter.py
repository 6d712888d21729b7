"""The program as a later version may be: its tables have a higher VERSION, to which the migrations here lead.

The number of that version is the first argument; the others are the program's.
"""

from __future__ import annotations

import sys
from functools import partial

from exporter.__main__ import main
from exporter.ledger.postgres import batches, replica, schema
from exporter.ledger.postgres.schema import SCHEMA, Migration
from exporter.ledger.postgres.statements import COMMIT

ADDITIVE = Migration(
    2,
    1,
    (
        f"ALTER TABLE {SCHEMA}.message_ids ADD COLUMN IF NOT EXISTS writer text",
        f"CREATE TABLE IF NOT EXISTS {SCHEMA}.writers (name text PRIMARY KEY)",
    ),
)
"""A column that the older version leaves null, in the table that it writes to most, and a table unknown to it."""
BREAKING = Migration(3, 3, (f"ALTER TABLE {SCHEMA}.message_ids ALTER writer SET DEFAULT 'unknown'",))
"""What no older version may write beside."""


def become(version: int) -> None:
    """Put another version in the place of this one's, and have its commits write the new column."""
    migrations = (ADDITIVE, BREAKING)
    replica.VERSION = version  # type: ignore[attr-defined]  # imported there by name
    replica.prepare = partial(schema.prepare, version, migrations)  # type: ignore[attr-defined]  # the same
    columns, values = "event_id, last_seen, state)", "SELECT queue_id, id, event_id, clock, 0 FROM given"
    assert COMMIT.count(columns) == COMMIT.count(values) == 1
    batches.COMMIT = COMMIT.replace(columns, columns.replace("state", "state, writer")).replace(  # type: ignore[attr-defined]
        values, values.replace("0 FROM", f"0, 'version {version}' FROM")
    )


if __name__ == "__main__":
    become(int(sys.argv.pop(1)))
    sys.exit(main())
