"""The ledger on many machines: PostgreSQL, shared by replicas that one SQS queue shares its messages among."""
