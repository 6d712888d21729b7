"""The few failures a caller distinguishes. Each message is one sentence that a user can act on."""

from __future__ import annotations


class ExporterError(Exception):
    """Ends a command with one sentence on stderr and `exit_code`."""

    exit_code = 1


class WrongSettingError(ExporterError):
    """A flag, variable or line of a file is wrong; the sentence names its source, its value and what would be right."""

    exit_code = 2


class QueueUnavailableError(ExporterError):
    """SQS can't be asked about the queue.

    `reason` is one of the bounded reasons of `exporter.sqs.REASONS`.
    """

    def __init__(self, reason: str, sentence: str) -> None:
        super().__init__(sentence)
        self.reason = reason


class InvalidEvent(Exception):  # noqa: N818 - the name is the design's: a message that is not an event is no error of ours
    """A message that is not an event; `reason` is one of the bounded reasons of `exporter.event.REASONS`."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class LedgerError(ExporterError):
    """The ledger can't keep its promise now.

    `reason` is one of `exporter.ledger.ERROR_REASONS`. At the start it ends the program, with exit code 2 where
    another path or queue would help; while running it stops receives until `Ledger.reopen` succeeds.
    """

    def __init__(self, reason: str, sentence: str) -> None:
        super().__init__(sentence)
        self.reason = reason
        self.exit_code = 2 if reason in {"locked", "newer_schema", "other_queue", "read_only", "unreadable"} else 1
