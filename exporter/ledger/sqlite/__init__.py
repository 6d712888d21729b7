"""The ledger on one machine: a SQLite file."""
