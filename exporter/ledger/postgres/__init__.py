"""The ledger on many machines: one PostgreSQL database, shared by all replicas that receive from the same queues."""
