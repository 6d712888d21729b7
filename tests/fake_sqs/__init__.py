"""A fake Amazon SQS for tests and benchmarks: the real protocol, AWS's worst-case semantics, the true account.

It runs in a process of its own: `with FakeSqs() as sqs:` in a test, `python tests/fake_sqs --port 9324` by hand.
"""

from fake_sqs.account import Account, Message, TypeTotals
from fake_sqs.process import FakeSqs, FakeSqsError

__all__ = ["Account", "FakeSqs", "FakeSqsError", "Message", "TypeTotals"]
