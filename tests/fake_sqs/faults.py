"""What can go wrong with a call, on request: refusals, answers that lie, answers that never arrive.

A fault acts in one of three places: instead of the operation (`error`, `black_hole`, ...), inside a batch delete
(`failed_entries`), or on the answer once the operation is done. With `acted=True` the first kind becomes the third:
the server did what was asked, and the answer is replaced or lost.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from fake_sqs.errors import SqsError
from fake_sqs.operations import Answer
from fake_sqs.requests import NAMES

INSTEAD = frozenset({"answer", "black_hole", "clock_skew", "error", "reset"})
ON_ANSWER = frozenset(
    {"delay", "drip", "extra_fields", "half_closed", "missing_field", "truncated", "wrong_md5"},
)
IN_DELETE = frozenset({"failed_entries"})
READY_ANSWERS: dict[str, dict[str, Any]] = {
    "empty_object": {"body": "{}"},
    "html": {"body": "<html><body>Welcome to the hotel's network</body></html>", "content_type": "text/html"},
    "redirect": {"body": "", "status": 302, "location": "http://127.0.0.1:9/elsewhere"},
}
"""Kinds that are short for `answer` with these options."""
ONLY = {
    "failed_entries": "DeleteMessageBatch",
    "extra_fields": "ReceiveMessage",
    "missing_field": "ReceiveMessage",
    "wrong_md5": "ReceiveMessage",
}
"""Operations that a kind is about, where the test names none."""
KINDS = INSTEAD | ON_ANSWER | IN_DELETE | READY_ANSWERS.keys()
MAX_SKEW_SECONDS = 300


@dataclass(slots=True)
class Fault:
    """One fault that was switched on. `left` is how many more calls it befalls; None: until it is cleared."""

    number: int
    kind: str
    operations: frozenset[str]
    left: int | None
    acted: bool
    options: dict[str, Any]
    queue: str | None = None
    """The only queue that it befalls, or, of ListQueues, the prefix; None: all."""

    @property
    def lies(self) -> bool:
        """Whether it changes what an answer says."""
        return self.kind in ON_ANSWER

    @property
    def on_answer(self) -> bool:
        """Whether it waits until the operation is done."""
        return self.acted or self.kind in ON_ANSWER


@dataclass(slots=True)
class Faults:
    """The faults that are switched on now."""

    made: Counter[str] = field(default_factory=Counter)
    _faults: list[Fault] = field(default_factory=list)
    _numbers: count[int] = field(default_factory=lambda: count(1))

    def __bool__(self) -> bool:
        return bool(self._faults)

    def switch_on(  # noqa: PLR0913 - they are the words a test describes a fault with
        self,
        kind: str,
        operations: list[str],
        times: int | None,
        *,
        acted: bool,
        options: dict[str, Any],
        queue: str | None = None,
    ) -> int:
        """Switch a fault on; returns the number to clear it with."""
        if kind not in KINDS:
            raise ValueError(f"{kind!r} is no fault: there are {', '.join(sorted(KINDS))}")
        name = kind
        if kind in READY_ANSWERS:
            name, options = "answer", {**READY_ANSWERS[kind], **options}
        if not operations and kind in ONLY:
            operations = [ONLY[kind]]
        for operation in operations:
            if operation not in NAMES.values():
                raise ValueError(f"{operation!r} is no operation: there are {', '.join(NAMES.values())}")
        wanted = frozenset(operation.lower() for operation in operations)
        fault = Fault(next(self._numbers), name, wanted, times, acted, {"called": kind, **options}, queue)
        self._faults.append(fault)
        return fault.number

    def clear(self, number: int | None) -> None:
        """Switch off one fault, or all."""
        self._faults = [fault for fault in self._faults if number is not None and fault.number != number]

    def before(self, operation: str, queue: str) -> Fault | None:
        """Return the first fault that befalls the operation itself."""
        found = (fault for fault in self._faults if not fault.on_answer and self._befalls(fault, operation, queue))
        return next(found, None)

    def after(self, operation: str, queue: str, answer: Answer) -> list[Fault]:
        """Return the faults that befall an answer. Those of receives wait for one that brings messages."""
        if operation == "receivemessage" and "Messages" not in answer.body[:20]:
            found = (fault for fault in self._faults if fault.kind == "delay")
        else:
            found = (fault for fault in self._faults if fault.on_answer)
        return [fault for fault in found if self._befalls(fault, operation, queue)]

    def _befalls(self, fault: Fault, operation: str, queue: str) -> bool:
        if (fault.operations and operation not in fault.operations) or fault.queue not in {None, queue}:
            return False
        if fault.left == 0:
            return False
        if fault.left is not None:
            fault.left -= 1
        self.made[fault.options["called"]] += 1
        return True


def replacement(fault: Fault) -> Answer:
    """Return what an `error` or `answer` fault answers."""
    options = fault.options
    if fault.kind == "error":
        error = SqsError(
            options["code"], options.get("message", "A fault that a test asked for."), options.get("status")
        )
        return Answer(error.body, error.status, error.headers)
    headers = {"Content-Type": options.get("content_type", "application/x-amz-json-1.0")}
    if "location" in options:
        headers["Location"] = options["location"]
    return Answer(options["body"], options.get("status", 200), headers)


def changed(fault: Fault, answer: Answer) -> Answer:
    """Return an answer as a fault of the lying kind changes it; `only_first` spares all messages but the first."""
    if fault.kind == "truncated":
        return Answer(answer.body[: max(1, len(answer.body) // 2)], answer.status, answer.headers)
    parsed = json.loads(answer.body)
    messages = parsed.get("Messages", [])
    for message in messages[:1] if fault.options.get("only_first") else messages:
        if fault.kind == "wrong_md5":
            message["MD5OfBody"] = "0" * 32
        elif fault.kind == "missing_field":
            message.pop(fault.options["field"], None)
        else:
            message["Surprise"] = {"nested": [1, None, "x"]}
    if fault.kind == "extra_fields":
        parsed = {"Surprise": [{"a": 1}], **parsed}
    return Answer(json.dumps(parsed, ensure_ascii=False), answer.status, answer.headers)


def skewed(fault: Fault, request_seconds: float, now_seconds: float) -> Answer | None:
    """Refuse a request whose signature is too old or too new for a server whose clock is off by `seconds`."""
    server_seconds = now_seconds + fault.options["seconds"]
    if abs(server_seconds - request_seconds) <= MAX_SKEW_SECONDS:
        return None
    error = SqsError(fault.options.get("code", "InvalidSignatureException"), "Signature expired: the clocks differ.")
    return Answer(error.body, error.status, error.headers)
