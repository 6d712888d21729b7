"""The tables, how they are created and migrated, and the server settings that a durable commit needs."""

# ruff: noqa: S608 - the name of the schema is a constant, that of a ledger was checked

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING

from exporter.errors import LedgerError
from exporter.ledger.postgres.connection import PostgresError
from exporter.ledger.postgres.flow import pause_after, query, retried, script, single, text

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from exporter.ledger.postgres.flow import Flow

SCHEMA = "sqs_event_exporter"
VERSION = 1
OLDEST_SERVER = 140_000
GONE_SECONDS = 60
"""A replica that has not written for so long is taken for gone."""

# Rows that each commit changes leave half of their page free, so that a change stays on its page and in no index.
# A message's row is changed once, when it is settled.
TABLES = f"""
CREATE TABLE {SCHEMA}.schema (
  only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row), version int NOT NULL, oldest_writer int NOT NULL);
INSERT INTO {SCHEMA}.schema (version, oldest_writer) VALUES (1, 1);
CREATE TABLE {SCHEMA}.ledgers (
  id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text NOT NULL UNIQUE, instance_id text NOT NULL,
  created_seconds float8 NOT NULL DEFAULT extract(epoch FROM clock_timestamp()));
CREATE TABLE {SCHEMA}.speakers (
  ledger_id int PRIMARY KEY REFERENCES {SCHEMA}.ledgers, replica_id int NOT NULL DEFAULT 0,
  expires_at timestamptz NOT NULL DEFAULT '-infinity', term bigint NOT NULL DEFAULT 0) WITH (fillfactor = 50);
CREATE TABLE {SCHEMA}.queues (
  id smallint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, ledger_id int NOT NULL REFERENCES {SCHEMA}.ledgers,
  name text NOT NULL, arn text NOT NULL, visibility_timeout_seconds int NOT NULL, retention_seconds int,
  clock_seconds float8 NOT NULL DEFAULT 0, UNIQUE (ledger_id, name));
CREATE TABLE {SCHEMA}.replicas (
  id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, ledger_id int NOT NULL REFERENCES {SCHEMA}.ledgers,
  version int NOT NULL, seq bigint NOT NULL DEFAULT 0, epoch bigint NOT NULL DEFAULT 0,
  renewed_at timestamptz NOT NULL DEFAULT clock_timestamp(), folded_at timestamptz) WITH (fillfactor = 50);
CREATE TABLE {SCHEMA}.clocks (
  replica_id int, queue_id smallint, start_seconds float8 NOT NULL, clock_seconds float8 NOT NULL,
  registered_at timestamptz NOT NULL DEFAULT clock_timestamp(), PRIMARY KEY (replica_id, queue_id))
  WITH (fillfactor = 50);
CREATE TABLE {SCHEMA}.clock_marks (
  queue_id smallint, clock_seconds int, at_seconds float8 NOT NULL, PRIMARY KEY (queue_id, clock_seconds));
CREATE TABLE {SCHEMA}.series (
  id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, queue_id smallint NOT NULL REFERENCES {SCHEMA}.queues,
  digest uuid NOT NULL, type text NOT NULL, labels text NOT NULL,
  created_seconds float8 NOT NULL DEFAULT extract(epoch FROM clock_timestamp()), UNIQUE (queue_id, digest));
CREATE TABLE {SCHEMA}.totals (
  replica_id int, series_id int, count numeric NOT NULL, value_nano numeric NOT NULL, negative_nano numeric NOT NULL,
  last_occurred_seconds float8, PRIMARY KEY (replica_id, series_id)) WITH (fillfactor = 50);
CREATE TABLE {SCHEMA}.counts (
  replica_id int, queue_id smallint, name text, count numeric NOT NULL, PRIMARY KEY (replica_id, queue_id, name))
  WITH (fillfactor = 50);
CREATE TABLE {SCHEMA}.message_ids (
  id uuid, event_id uuid, last_seen int NOT NULL, queue_id smallint, state smallint NOT NULL,
  PRIMARY KEY (queue_id, id)) WITH (fillfactor = 55, autovacuum_vacuum_scale_factor = 0.02,
  autovacuum_vacuum_insert_scale_factor = 0.5, autovacuum_vacuum_cost_delay = 0);
CREATE INDEX message_ids_last_seen ON {SCHEMA}.message_ids (queue_id, last_seen);
CREATE TABLE {SCHEMA}.event_ids (
  id uuid, last_seen int NOT NULL, unsettled int NOT NULL, queue_id smallint, repeated boolean NOT NULL,
  PRIMARY KEY (queue_id, id)) WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.02,
  autovacuum_vacuum_insert_scale_factor = 0.5, autovacuum_vacuum_cost_delay = 0);
CREATE INDEX event_ids_last_seen ON {SCHEMA}.event_ids (queue_id, last_seen);
"""


@dataclass(frozen=True, slots=True)
class Migration:
    """A step from one version of the schema to the next."""

    version: int
    """To which it leads."""
    oldest_writer: int
    """The oldest version that may write afterwards. A lower one than `version`: the step only adds."""
    statements: tuple[str, ...]
    """What replicas that start together may each run: IF NOT EXISTS."""


MIGRATIONS: tuple[Migration, ...] = ()

# What concurrent attempts to make the same thing meet: it is there when they look again.
_MADE_BY_ANOTHER = frozenset({"23505", "42P06", "42P07", "42710", "40001", "40P01"})
_ATTEMPTS = 20


@dataclass(frozen=True, slots=True)
class Selected:
    """The ledger in the database."""

    id: int
    name: str
    instance_id: str
    created_seconds: float


@dataclass(frozen=True, slots=True)
class Found:
    """What is in the database already."""

    schema: bool
    tables: bool


def prepare(version: int = VERSION, migrations: Sequence[Migration] = MIGRATIONS) -> Flow[None]:
    """Make or migrate the tables where that is needed.

    Raises LedgerError where the server could lose commits, the role lacks a right, or the schema is from a newer
    program.
    """
    for attempt in range(_ATTEMPTS):
        try:
            found = yield from look_at_the_server()
            if not found.schema:
                yield script(f"CREATE SCHEMA {SCHEMA}")
            if not found.tables:
                yield script(TABLES)
            if (yield from _migrate_a_step(version, migrations)):
                return
        except PostgresError as error:
            if error.sqlstate not in _MADE_BY_ANOTHER or attempt == _ATTEMPTS - 1:
                raise
            yield pause_after(attempt)


def look_at_the_server() -> Flow[Found]:
    """Refuse a server or role that won't do; tell what is there. Changes nothing."""
    rows = yield query(
        "SELECT current_setting('server_version_num')::int, current_setting('fsync') = 'off',"
        " current_setting('server_encoding'), current_setting('transaction_read_only') = 'on',"
        " has_database_privilege(current_database(), 'CREATE'), quote_ident(current_database()),"
        " quote_ident(current_user), n.oid IS NOT NULL, coalesce(has_schema_privilege(n.oid, 'USAGE'), false),"
        " coalesce(has_schema_privilege(n.oid, 'CREATE'), false),"
        " exists(SELECT FROM pg_class c WHERE c.relnamespace = n.oid AND c.relname = 'schema')"
        " FROM (SELECT) AS one LEFT JOIN pg_namespace n ON n.nspname = $1::text",
        SCHEMA,
    )
    version, no_fsync, encoding, read_only, may_make_schema, *names, has_schema, may_use, may_create, made = map(
        text, single(rows)
    )
    database, role = names
    if int(version) < OLDEST_SERVER:
        raise LedgerError("unsafe", f"PostgreSQL {int(version) // 10_000} is too old: 14 or newer is needed")
    if no_fsync == "t":
        raise LedgerError(
            "unsafe", "PostgreSQL runs with fsync = off and could lose what it says is committed: set fsync = on"
        )
    if encoding != "UTF8":
        raise LedgerError(
            "unsafe", f"database {database} has the encoding {encoding}, which can't hold every type: make one in UTF8"
        )
    if has_schema == "f" and may_make_schema == "f":
        raise LedgerError(
            "unreadable",
            f"role {role} may not make the schema {SCHEMA} in database {database}:"
            f" GRANT CREATE ON DATABASE {database} TO {role}",
        )
    if has_schema == "t" and (may_use == "f" or (made == "f" and may_create == "f")):
        raise LedgerError(
            "unreadable",
            f"role {role} may not use the schema {SCHEMA} of database {database}:"
            f" GRANT USAGE, CREATE ON SCHEMA {SCHEMA} TO {role}",
        )
    if read_only == "t":
        raise read_only_error()
    return Found(schema=has_schema == "t", tables=made == "t")


def read_only_error() -> LedgerError:
    """Return the error of a server that takes no writes."""
    return LedgerError(
        "read_only",
        "PostgreSQL is read-only: it is a standby, or default_transaction_read_only is on;"
        " with several hosts in --ledger.url add target_session_attrs=read-write",
    )


def _migrate_a_step(version: int, migrations: Sequence[Migration]) -> Flow[bool]:
    """Go one step towards the version of this program; True: nothing is left to do."""
    found = yield from read_version(version)
    step = next((migration for migration in migrations if found < migration.version <= version), None)
    if step is None:
        return True
    if step.oldest_writer >= step.version:
        older = yield query(
            f"SELECT FROM {SCHEMA}.replicas WHERE version < $1::int AND folded_at IS NULL"
            f" AND renewed_at > clock_timestamp() - interval '{GONE_SECONDS} s'",
            step.version,
        )
        if older:
            raise LedgerError(
                "locked",
                f"{len(older)} older replicas still write to the ledger in PostgreSQL, which is to become version"
                f" {step.version}: stop them",
            )
    yield script(
        f"UPDATE {SCHEMA}.schema SET version = {step.version}, "
        f"oldest_writer = greatest(oldest_writer, {step.oldest_writer}) WHERE version < {step.version}",
        *step.statements,
    )
    return False


def read_version(version: int = VERSION) -> Flow[int]:
    """Return the version of the tables; raises LedgerError where a program of `version` may not write them."""
    rows = yield query(f"SELECT version, oldest_writer FROM {SCHEMA}.schema")
    found, oldest_writer = (int(text(value)) for value in single(rows))
    if oldest_writer > version:
        raise LedgerError(
            "newer_schema",
            f"the ledger in PostgreSQL has version {found} and takes no writer older than {oldest_writer};"
            f" this program writes version {version}: use the newer program",
        )
    return found


def select_ledger(name: str) -> Flow[Selected]:
    """Find the ledger of that name or make it; without a name the only one there, or one under a random name."""
    while (found := (yield from find_ledger(name))) is None:
        instance_id = str(uuid.uuid4())
        condition = f"name = '{name}'" if name else "true"
        yield from retried(
            script(
                f"SELECT FROM {SCHEMA}.schema FOR UPDATE",
                f"INSERT INTO {SCHEMA}.ledgers (name, instance_id) SELECT '{name or instance_id[:8]}', '{instance_id}'"
                f" WHERE NOT exists(SELECT FROM {SCHEMA}.ledgers WHERE {condition})",
                f"INSERT INTO {SCHEMA}.speakers (ledger_id) SELECT id FROM {SCHEMA}.ledgers ON CONFLICT DO NOTHING",
            )
        )
    return found


def find_ledger(name: str) -> Flow[Selected | None]:
    """Find the ledger of that name, without a name the only one. Raises LedgerError where there are several."""
    columns = f"SELECT id, name, instance_id, created_seconds FROM {SCHEMA}.ledgers"
    rows = yield from retried(query(f"{columns} WHERE name = $1::text OR $1 = '' ORDER BY name", name))
    if len(rows) > 1:
        raise several_ledgers(text(row[1]) for row in rows)
    for row in rows:
        ledger_id, name_, instance_id, created_seconds = map(text, row)
        return Selected(int(ledger_id), name_, instance_id, float(created_seconds))
    return None


def several_ledgers(names: Iterable[str]) -> LedgerError:
    """Return the error of a database that holds several ledgers of which none was asked for."""
    return LedgerError(
        "other_name", f"the database holds several ledgers, say which with --ledger.name: {', '.join(names)}"
    )
