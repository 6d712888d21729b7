"""What PostgreSQL says when it fails, as the ledger's error: one sentence, with what helps."""

from __future__ import annotations

from exporter.errors import LedgerError
from exporter.ledger.postgres.schema import SCHEMA, read_only_error

_REASONS = {
    "25006": "read_only",
    "42501": "unreadable",
    "53100": "full",
    "58030": "io_error",
    "XX001": "corrupt",
    "XX002": "corrupt",
}
_HINTS = {
    "53300": "raise max_connections, or the role's CONNECTION LIMIT",
    "3D000": "make the database, or correct --ledger.url",
    "28P01": "correct the password where libpq looks for it: PGPASSFILE, ~/.pgpass or a service file",
    "28000": "allow the role in pg_hba.conf, or correct --ledger.url",
}


def ledger_error(sqlstate: str | None, message: str, where: str) -> LedgerError:
    """Return the error for a SQLSTATE (None: the connection failed) and PostgreSQL's own words.

    `where` names the server and the database.
    """
    if sqlstate == "25006":
        return read_only_error()
    if sqlstate == "42501":
        return LedgerError(
            "unreadable",
            f"PostgreSQL at {where} refuses: {message}; as the owner of the tables run:"
            f" GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {SCHEMA}",
        )
    hint = next((f"; {hint}" for state, hint in _HINTS.items() if state == sqlstate), "")
    if sqlstate is None and "password" in message:
        hint = f"; {_HINTS['28P01']}"
    verb = "can't be reached" if sqlstate is None else "fails"
    return LedgerError(_REASONS.get(sqlstate or "", "unavailable"), f"PostgreSQL at {where} {verb}: {message}{hint}")
