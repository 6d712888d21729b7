"""The producer: sends a shop's mix of events, good and bad, and enters exactly what it sent in an account."""

from __future__ import annotations

import logging
import signal
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from itertools import islice
from typing import TYPE_CHECKING

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectTimeoutError,
    EndpointConnectionError,
    ProxyConnectionError,
)

from exporter.backoff import Backoff
from exporter.errors import QueueUnavailableError
from exporter.producer.account import Account
from exporter.producer.sample import messages
from exporter.sqs import BATCH_SIZE
from exporter.sqs.aws import connect
from exporter.sqs.failures import reason_of
from exporter.telemetry.line_writer import line_start

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from contextlib import AbstractContextManager
    from types import FrameType

    from mypy_boto3_sqs.type_defs import SendMessageBatchRequestEntryTypeDef

    from exporter.producer.sample import Message
    from exporter.sqs.aws import Connection

    Trace = Callable[[int], AbstractContextManager[Mapping[str, str]]]
    """Held around the sending of so many messages; gives the message attributes that carry the trace's context."""

TICK_SECONDS = 0.25
BACKLOG_SECONDS = 1.0

_NEVER_SENT = (EndpointConnectionError, ConnectTimeoutError, ProxyConnectionError)
_REFUSED = frozenset({"throttled", "over_limit"})
_UNCERTAIN = frozenset({"connection", "timeout", "server", "malformed"})

log = logging.getLogger(__name__)


def run(  # noqa: PLR0913 - they are the command's options
    queue: str,
    *,
    rate: float | None = None,
    count: int | None = None,
    seed: int | None = None,
    invalid_fraction: float = 0.0,
    duplicate_fraction: float = 0.0,
    event_ids: bool = False,
    trace: Trace | None = None,
    account: Account | None = None,
) -> None:
    """Send until `count` or a signal, then print the account on stdout; a second signal ends the process at once.

    `queue` is a name or a URL. Raises WrongSettingError, or QueueUnavailableError (after the account).
    """
    connection = connect(queues=[queue]).for_queue(queue)
    try:
        queue_url = connection.queue_url(queue)
    except (BotoCoreError, ClientError) as error:
        raise connection.unavailable(queue, error) from None
    stop = threading.Event()
    account = account or Account()
    _stop_at_signal(stop)
    try:
        # On a thread of its own: a signal's handler that sets an event which its own thread waits for can deadlock.
        with ThreadPoolExecutor(max_workers=1) as sender:
            sender.submit(
                produce,
                connection,
                queue_url,
                rate=rate,
                count=count,
                seed=seed,
                invalid_fraction=invalid_fraction,
                duplicate_fraction=duplicate_fraction,
                event_ids=event_ids,
                stop=stop,
                account=account,
                trace=trace,
            ).result()
    finally:
        print(line_start(sys.stdout) + account.as_json(), flush=True)  # noqa: T201 - the account is what the command is for


def produce(  # noqa: PLR0913 - they are the command's options
    connection: Connection,
    queue_url: str,
    *,
    rate: float | None = None,
    count: int | None = None,
    seed: int | None = None,
    invalid_fraction: float = 0.0,
    duplicate_fraction: float = 0.0,
    event_ids: bool = False,
    stop: threading.Event,
    max_backlog: int | None = None,
    account: Account | None = None,
    trace: Trace | None = None,
) -> Account:
    """Send `count` messages (None: until `stop`), `rate` a second (None: as fast as it goes), and return the account.

    `count` includes the invalid ones and the duplicates. With `max_backlog` it pauses while more messages are visible
    in the queue. In a FIFO queue each type is a message group. Raises QueueUnavailableError where trying again is of no
    use; an `account` that was passed in holds what was sent until then.
    """
    account = account or Account()
    account.event_ids = event_ids
    stream = messages(
        seed, invalid_fraction=invalid_fraction, duplicate_fraction=duplicate_fraction, event_ids=event_ids
    )
    if count is not None:
        stream = islice(stream, count)
    schedule = _Schedule(rate)
    backlog = _Backlog(connection, queue_url, max_backlog)
    backoff = Backoff()
    batch: list[Message] = []
    while not stop.is_set():
        if not backoff.due(time.monotonic()) or backlog.too_long():
            stop.wait(TICK_SECONDS)
            continue
        wanted = schedule.take(BATCH_SIZE - len(batch))
        batch += islice(stream, wanted)
        if batch:
            uncertain = account.uncertain
            batch = _send(connection, queue_url, batch, account, trace or _untraced)
            if batch or account.uncertain > uncertain:
                backoff.failed(time.monotonic())
            else:
                backoff.succeeded()
        elif wanted:
            break
        else:
            stop.wait(schedule.wait_seconds())
    return account


class _Schedule:
    """Says how many messages are due at `rate` a second; of a stall, no more than a second is made up."""

    def __init__(self, rate: float | None) -> None:
        self._rate = rate
        self._allowance = 1.0
        self._at = time.monotonic()

    def take(self, most: int) -> int:
        """Return how many may be sent now, and count them as sent."""
        if self._rate is None:
            return most
        now = time.monotonic()
        self._allowance = min(max(1.0, self._rate), self._allowance + (now - self._at) * self._rate)
        self._at = now
        taken = min(most, int(self._allowance))
        self._allowance -= taken
        return taken

    def wait_seconds(self) -> float:
        """Return how long to wait until it is worth asking again: a batch costs SQS as much as a message."""
        return max(TICK_SECONDS, (1.0 - self._allowance) / self._rate) if self._rate else 0.0


class _Backlog:
    """Looks once a second whether more messages wait in the queue than should."""

    def __init__(self, connection: Connection, queue_url: str, most: int | None) -> None:
        self._client = connection.client
        self._queue_url = queue_url
        self._most = most
        self._looked_at = float("-inf")
        self._too_long = False

    def too_long(self) -> bool:
        """Whether to pause. Where SQS does not say, a send will tell more."""
        now = time.monotonic()
        if self._most is not None and now - self._looked_at >= BACKLOG_SECONDS:
            self._looked_at = now
            try:
                said = self._client.get_queue_attributes(
                    QueueUrl=self._queue_url,
                    AttributeNames=["ApproximateNumberOfMessages"],
                )["Attributes"]
                self._too_long = int(said["ApproximateNumberOfMessages"]) > self._most
            except (BotoCoreError, ClientError, LookupError, ValueError):
                self._too_long = False
        return self._too_long


def _send(
    connection: Connection, queue_url: str, batch: list[Message], account: Account, trace: Trace
) -> list[Message]:
    """Send one batch, enter in the account what became of it, and return what SQS refused for now."""
    try:
        with trace(len(batch)) as context:
            fifo = queue_url.endswith(".fifo")
            entries = [_entry(position, message, context, fifo=fifo) for position, message in enumerate(batch)]
            answer = connection.client.send_message_batch(QueueUrl=queue_url, Entries=entries)
    except Exception as error:
        reason = reason_of(error)
        if isinstance(error, _NEVER_SENT) or reason in _REFUSED:
            log.warning("%s; the producer tries again", connection.unavailable(queue_url, error))
            return batch
        if reason not in _UNCERTAIN:
            raise connection.unavailable(queue_url, error) from error
        log.warning("%s; whether it took %d messages is unknown", connection.unavailable(queue_url, error), len(batch))
        account.uncertain += len(batch)
        return []
    taken = {entry["Id"] for entry in answer.get("Successful", ())}
    refused = {entry["Id"]: entry for entry in answer.get("Failed", ())}
    again = []
    for entry, message in zip(entries, batch, strict=True):
        if entry["Id"] in taken:
            account.confirm(message)
        elif entry["Id"] not in refused:
            account.uncertain += 1
        elif refused[entry["Id"]]["SenderFault"]:
            raise QueueUnavailableError("request", f"SQS refuses a message for good ({refused[entry['Id']]['Code']})")
        else:
            again.append(message)
    return again


def _entry(
    position: int, message: Message, context: Mapping[str, str], *, fifo: bool
) -> SendMessageBatchRequestEntryTypeDef:
    entry: SendMessageBatchRequestEntryTypeDef = {"Id": str(position), "MessageBody": message.body}
    if fifo:
        entry["MessageGroupId"] = message.type
        entry["MessageDeduplicationId"] = message.deduplication_id
    if context:
        entry["MessageAttributes"] = {
            name: {"DataType": "String", "StringValue": value} for name, value in context.items()
        }
    return entry


def _untraced(_messages: int) -> AbstractContextManager[Mapping[str, str]]:
    return nullcontext({})


def _stop_at_signal(stop: threading.Event) -> None:
    def handle(_number: int, _frame: FrameType | None) -> None:
        stop.set()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, handle)
