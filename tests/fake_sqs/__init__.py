"""A fake Amazon SQS: the real protocol, AWS's worst-case semantics, the true account.

It runs in a process of its own: `with FakeSqs() as sqs:`.
"""

from fake_sqs.account import Account, Message, TypeTotals
from fake_sqs.process import FakeSqs, FakeSqsError

__all__ = ["Account", "FakeSqs", "FakeSqsError", "Message", "TypeTotals"]
