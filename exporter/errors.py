"""The few failures a caller distinguishes, one sentence each, and how a sentence quotes what somebody else wrote."""

from __future__ import annotations

import difflib
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

SHOWN_CHARACTERS = 200
# Whatever stands before the last @: a password that was not encoded may hold a slash.
_USER_AND_PASSWORD = re.compile(r"//\S*@")
_QUERY = re.compile(r"\?.*", re.DOTALL)


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
    """A message that is not an event.

    `reason` is one of the bounded reasons of `exporter.events.event.REASONS`. `field` is the field that was wrong, as
    the settings or the envelope name it, and `kind` the kind of JSON value that it held: `string`, `number`, `object`,
    `array`, `boolean`, `null` or `absent`. Both are empty where the body as a whole is wrong. None says what it held.
    """

    def __init__(self, reason: str, field: str = "", kind: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.field = field
        self.kind = kind


_WRONG_SETTINGS = {"locked", "newer_schema", "other_name", "other_queue", "read_only", "unreadable"}


class LedgerError(ExporterError):
    """The ledger can't keep its promise now.

    `reason` is one of `exporter.ledger.ERROR_REASONS`. At the start it ends the program, with exit code 2 where
    another path, name or queue would help; while running it stops receives until `Ledger.reopen` succeeds.
    """

    def __init__(self, reason: str, sentence: str) -> None:
        super().__init__(sentence)
        self.reason = reason
        self.exit_code = 2 if reason in _WRONG_SETTINGS else 1


def shown(value: str | list[str]) -> str:
    """Return the value as an error shows it; a URL loses its user, password and query."""
    text = value if isinstance(value, str) else ",".join(value)
    if "://" in text:
        text = _QUERY.sub("?...", _USER_AND_PASSWORD.sub("//...@", text))
    return repr(text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}...")


def nearest(name: str, known: Iterable[str]) -> str:
    """Return `; did you mean ...?`, or nothing where no known name is near."""
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.7)
    return f"; did you mean {near[0]}?" if near else ""


def one_line(text: str) -> str:
    """Return what somebody else said, fit for a sentence of ours: printable characters, at most 200 of them."""
    return " ".join("".join(character if character.isprintable() else " " for character in text).split())[
        :SHOWN_CHARACTERS
    ]
