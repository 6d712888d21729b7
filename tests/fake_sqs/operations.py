"""The operations of SQS: a request's JSON in, an answer's JSON out, now or when a long poll is over.

https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_Operations.html
"""

from __future__ import annotations

import json
import random
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec

from fake_sqs.delivery import NOTHING, hand_out
from fake_sqs.errors import SqsError
from fake_sqs.fifo import FifoQueue
from fake_sqs.messages import Messages, md5_of_attributes
from fake_sqs.queues import Behaviour, Clock, Counters, Queue, Redrive, World
from fake_sqs.requests import (
    MAX_BATCH,
    MAX_VISIBILITY_SECONDS,
    MAX_WAIT_SECONDS,
    NOT_SQS_TEXT,
    HandleBatchRequest,
    HandleRequest,
    ListRequest,
    ReceiveRequest,
    check_batch,
    check_range,
    is_wanted,
)

if TYPE_CHECKING:
    from collections.abc import Callable

ACCOUNT_ID = "123456789012"
HIDE_SECONDS = 0.1
MAX_PAGE = 1_000
"""https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_ListQueues.html"""


@dataclass(slots=True)
class Answer:
    """An answer on its way to the client. `body` is wire text: one character is one byte."""

    body: str
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True, eq=False)
class Waiter:
    """A long poll that found nothing yet."""

    queue: Queue
    request: ReceiveRequest
    answer: Callable[[Answer], None]
    over_at: float
    """On the monotonic clock: waits are real time, whatever tests do to the server's."""
    hidden_until: float = 0.0


class Service:
    """All queues of one server. `base_url` is where their URLs point."""

    def __init__(self, seed: int = 0, region: str = "us-east-1") -> None:
        self.base_url = ""
        self.world = World(Messages(seed), Clock(), Behaviour(), Counters(), random.Random(seed))  # noqa: S311 - repeatable
        self.queues: dict[str, Queue] = {}
        self.calls: Counter[str] = Counter()
        self.waiters: list[Waiter] = []
        self._region = region
        self._simple: dict[str, Callable[[bytes], dict[str, Any]]] = {
            "createqueue": self._create_queue,
            "getqueueurl": self._get_queue_url,
            "getqueueattributes": self._get_queue_attributes,
            "sendmessage": self._send,
            "sendmessagebatch": self._send_batch,
            "deletemessage": self._delete,
            "changemessagevisibility": self._change_visibility,
            "changemessagevisibilitybatch": self._change_visibility_batch,
            "listdeadlettersourcequeues": self._list_sources,
            "listqueues": self._list_queues,
        }

    def call(self, operation: str, body: bytes, answer: Callable[[Answer], None], failing: int = 0) -> Waiter | None:
        """Do what `operation` (in lower case) asks and answer, at once or later: then the waiter is returned.

        The first `failing` entries of a batch delete are not deleted, and the answer says so.
        """
        try:
            if operation == "receivemessage":
                return self._receive(msgspec.json.decode(body, type=ReceiveRequest), answer)
            if operation == "deletemessagebatch":
                text = self._delete_batch(msgspec.json.decode(body, type=HandleBatchRequest), failing)
            elif operation in self._simple:
                text = json.dumps(self._simple[operation](body))
            else:
                raise SqsError("UnknownOperationException", f"The fake does not know {operation}.")  # noqa: TRY301 - answered like the others'
        except SqsError as error:
            answer(Answer(error.body, error.status, error.headers))
        except (msgspec.MsgspecError, UnicodeDecodeError, ValueError, KeyError) as error:
            answer(
                Answer(
                    json.dumps({"__type": "com.amazon.coral.service#SerializationException", "message": str(error)}),
                    400,
                )
            )
        else:
            answer(Answer(text))
        return None

    def create(self, name: str, attributes: dict[str, str], arn: str | None = None) -> Queue:
        """Create a queue, or change the attributes of the one there is."""
        if name not in self.queues or arn:
            made = FifoQueue if name.endswith(".fifo") else Queue
            self.queues[name] = made(self.world, name, arn or f"arn:aws:sqs:{self._region}:{ACCOUNT_ID}:{name}")
        queue = self.queues[name]
        for key, value in attributes.items():
            if key == "VisibilityTimeout":
                queue.visibility_timeout_seconds = float(value)
            elif key == "MessageRetentionPeriod":
                queue.retention_seconds = float(value)
            elif key == "KmsMasterKeyId":
                queue.kms_key_id = value
            elif key == "RedrivePolicy" and not value:
                queue.redrive = None
            elif key == "RedrivePolicy":
                policy = json.loads(value)
                dead_letter_queue = self.create(policy["deadLetterTargetArn"].rpartition(":")[2], {})
                queue.redrive = Redrive(dead_letter_queue, int(policy["maxReceiveCount"]))
        return queue

    def url(self, queue: Queue) -> str:
        """Return the URL by which clients call a queue."""
        return f"{self.base_url}/{ACCOUNT_ID}/{queue.name}"

    def serve_waiters(self) -> None:
        """Answer the long polls that can be given something, and those whose wait is over. Called often."""
        now = time.monotonic()
        for waiter in list(self.waiters):
            over = waiter.over_at <= now
            if waiter.hidden_until > now and not over:
                continue
            if over or self._has_something(waiter.queue):
                text = hand_out(waiter.queue, waiter.request)
                if over or text != NOTHING:
                    self.waiters.remove(waiter)
                    waiter.answer(Answer(text))

    def abandon(self, waiter: Waiter) -> None:
        """Forget a long poll whose client went away."""
        if waiter in self.waiters and not self.world.behaviour.dead_polls_receive:
            self.waiters.remove(waiter)

    @staticmethod
    def _has_something(queue: Queue) -> bool:
        queue.tidy()
        return queue.available > 0

    def _queue(self, url: str) -> Queue:
        queue = self.queues.get(url.rpartition("/")[2])
        if queue is None:
            raise SqsError("QueueDoesNotExist", "The specified queue does not exist.")
        queue.tidy()
        return queue

    def _receive(self, request: ReceiveRequest, answer: Callable[[Answer], None]) -> Waiter | None:
        queue = self._queue(request.queue_url)
        check_range("MaxNumberOfMessages", request.max_number_of_messages, 1, MAX_BATCH)
        check_range("WaitTimeSeconds", request.wait_time_seconds or 0, 0, MAX_WAIT_SECONDS)
        check_range("VisibilityTimeout", request.visibility_timeout or 0, 0, MAX_VISIBILITY_SECONDS)
        behaviour, now, hidden_until = self.world.behaviour, time.monotonic(), 0.0
        if behaviour.hide and self.world.random.random() < behaviour.hide:
            request.max_number_of_messages = self.world.random.randint(1, request.max_number_of_messages)
            hidden_until = now + HIDE_SECONDS
        text = NOTHING if hidden_until else hand_out(queue, request)
        if text == NOTHING and request.wait_time_seconds:
            waiter = Waiter(queue, request, answer, now + request.wait_time_seconds, hidden_until)
            self.waiters.append(waiter)
            return waiter
        answer(Answer(text))
        return None

    def _delete_batch(self, request: HandleBatchRequest, failing: int) -> str:
        queue = self._queue(request.queue_url)
        entries = request.entries
        check_batch([entry.id for entry in entries])
        failed = [
            f'{{"Id":"{entry.id}","SenderFault":false,"Code":"InternalError","Message":"Try again."}}'
            for entry in entries[:failing]
        ]
        successful = []
        for entry in entries[failing:]:
            try:
                queue.delete(entry.receipt_handle)
            except SqsError as error:
                failed.append(
                    f'{{"Id":"{entry.id}","SenderFault":true,"Code":"{error.code}","Message":"{error.message}"}}'
                )
            else:
                successful.append(f'{{"Id":"{entry.id}"}}')
        text = f'"Successful":[{",".join(successful)}]' if successful else ""
        if failed:
            text += f'{"," if text else ""}"Failed":[{",".join(failed)}]'
        return f"{{{text}}}"

    def _delete(self, body: bytes) -> dict[str, Any]:
        request = msgspec.json.decode(body, type=HandleRequest)
        self._queue(request.queue_url).delete(request.receipt_handle)
        return {}

    def _change_visibility(self, body: bytes) -> dict[str, Any]:
        request = msgspec.json.decode(body, type=HandleRequest)
        check_range("VisibilityTimeout", request.visibility_timeout, 0, MAX_VISIBILITY_SECONDS)
        self._queue(request.queue_url).change_visibility(request.receipt_handle, request.visibility_timeout)
        self.serve_waiters()
        return {}

    def _change_visibility_batch(self, body: bytes) -> dict[str, Any]:
        request = msgspec.json.decode(body, type=HandleBatchRequest)
        queue = self._queue(request.queue_url)
        check_batch([entry.id for entry in request.entries])
        successful, failed = [], []
        for entry in request.entries:
            try:
                check_range("VisibilityTimeout", entry.visibility_timeout, 0, MAX_VISIBILITY_SECONDS)
                queue.change_visibility(entry.receipt_handle, entry.visibility_timeout)
            except SqsError as error:
                failed.append({"Id": entry.id, "SenderFault": True, "Code": error.code, "Message": error.message})
            else:
                successful.append({"Id": entry.id})
        self.serve_waiters()
        return {"Successful": successful, "Failed": failed}

    def _list_queues(self, body: bytes) -> dict[str, Any]:
        request = msgspec.json.decode(body, type=ListRequest)
        names = [name for name in self.queues if name.startswith(request.queue_name_prefix)]
        return self._page("QueueUrls", names, request)

    def _list_sources(self, body: bytes) -> dict[str, Any]:
        request = msgspec.json.decode(body, type=ListRequest)
        target = self._queue(request.queue_url)
        names = [queue.name for queue in self.queues.values() if queue.redrive and queue.redrive.queue is target]
        return {"queueUrls": [], **self._page("queueUrls", names, request)}

    def _page(self, field: str, names: list[str], request: ListRequest) -> dict[str, Any]:
        check_range("MaxResults", request.max_results or MAX_PAGE, 1, MAX_PAGE)
        size = min(request.max_results or MAX_PAGE, self.world.behaviour.page_size)
        names = sorted(name for name in names if name > (request.next_token or ""))
        page: dict[str, Any] = {field: [self.url(self.queues[name]) for name in names[:size]]} if names else {}
        # Without MaxResults SQS gives no token, however many queues there are.
        if request.max_results and len(names) > size:
            page["NextToken"] = names[size - 1]
        return page

    def _create_queue(self, body: bytes) -> dict[str, Any]:
        request = json.loads(body)
        return {"QueueUrl": self.url(self.create(request["QueueName"], request.get("Attributes") or {}))}

    def _get_queue_url(self, body: bytes) -> dict[str, Any]:
        return {"QueueUrl": self.url(self._queue(json.loads(body)["QueueName"]))}

    def _get_queue_attributes(self, body: bytes) -> dict[str, Any]:
        request = json.loads(body)
        queue = self._queue(request["QueueUrl"])
        attributes = {
            "QueueArn": queue.arn,
            "CreatedTimestamp": str(queue.created_seconds),
            "VisibilityTimeout": f"{queue.visibility_timeout_seconds:.0f}",
            "MessageRetentionPeriod": f"{queue.retention_seconds:.0f}",
            "ApproximateNumberOfMessages": str(queue.available),
            "ApproximateNumberOfMessagesNotVisible": str(queue.in_flight),
            "ApproximateNumberOfMessagesDelayed": str(queue.delayed),
        }
        if queue.kms_key_id:
            attributes["KmsMasterKeyId"] = queue.kms_key_id
        if isinstance(queue, FifoQueue):
            attributes["FifoQueue"] = "true"
        if queue.redrive:
            policy = {
                "deadLetterTargetArn": queue.redrive.queue.arn,
                "maxReceiveCount": queue.redrive.max_receive_count,
            }
            attributes["RedrivePolicy"] = json.dumps(policy)
        names = tuple(request.get("AttributeNames") or ())
        return {"Attributes": {name: value for name, value in attributes.items() if is_wanted(name, names)}}

    def _send(self, body: bytes) -> dict[str, Any]:
        request = json.loads(body)
        sent = self._accept(self._queue(request["QueueUrl"]), request)
        self.serve_waiters()
        return sent

    def _send_batch(self, body: bytes) -> dict[str, Any]:
        request = json.loads(body)
        queue = self._queue(request["QueueUrl"])
        entries = request["Entries"]
        check_batch([entry["Id"] for entry in entries])
        successful, failed = [], []
        for entry in entries:
            try:
                successful.append({"Id": entry["Id"], **self._accept(queue, entry)})
            except SqsError as error:
                failed.append({"Id": entry["Id"], "SenderFault": True, "Code": error.code, "Message": error.message})
        self.serve_waiters()
        return {"Successful": successful, **({"Failed": failed} if failed else {})}

    def _accept(self, queue: Queue, entry: dict[str, Any]) -> dict[str, Any]:
        text = entry["MessageBody"]
        if not text or NOT_SQS_TEXT.search(text):
            raise SqsError("InvalidMessageContents", "Invalid characters were found in the message body.")
        if isinstance(queue, FifoQueue):
            first = self._first_of(queue, entry)
            if first < len(self.world.messages):
                return self._sent(first, entry)
        numbers = self.world.messages.add_text([text], self.world.clock.now())
        system = entry.get("MessageSystemAttributes") or {}
        self.world.messages.describe(
            numbers[0],
            message_attributes=entry.get("MessageAttributes"),
            system_attributes={name: value["StringValue"] for name, value in system.items()},
        )
        queue.send(numbers)
        return self._sent(numbers[0], entry)

    def _first_of(self, queue: FifoQueue, entry: dict[str, Any]) -> int:
        """Return the number of the message of which this one is a duplicate, or the number that it is to have."""
        number = len(self.world.messages)
        for name in ("MessageGroupId", "MessageDeduplicationId"):
            if entry.get(name) is None:
                raise SqsError("MissingParameter", f"The request must contain the parameter {name}.")
        queue.group(number, entry["MessageGroupId"])
        return queue.first_of(entry["MessageDeduplicationId"], number)

    def _sent(self, number: int, entry: dict[str, Any]) -> dict[str, Any]:
        messages = self.world.messages
        sent = {"MessageId": messages.message_id(number), "MD5OfMessageBody": messages.md5(number)}
        if entry.get("MessageAttributes"):
            sent["MD5OfMessageAttributes"] = md5_of_attributes(entry["MessageAttributes"])
        return sent
