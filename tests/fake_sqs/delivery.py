"""The answer to a receive, written by hand: it is what a benchmark waits for."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import TYPE_CHECKING

from fake_sqs.messages import md5_of_attributes
from fake_sqs.queues import HANDLE_PREFIX, TIMES_BITS
from fake_sqs.requests import is_wanted

if TYPE_CHECKING:
    from fake_sqs.messages import Messages
    from fake_sqs.queues import Queue
    from fake_sqs.requests import ReceiveRequest

NOTHING = "{}"
"""What SQS answers where there is no message."""


def hand_out(queue: Queue, request: ReceiveRequest) -> str:
    """Hand out what the queue has, and write the answer as wire text."""
    keys = queue.receive(request.max_number_of_messages, request.visibility_timeout, request.receive_request_attempt_id)
    if not keys:
        return NOTHING
    messages = queue.messages
    wire_message = messages.wire_message
    system_names = request.message_system_attribute_names + request.attribute_names
    message_names = request.message_attribute_names
    if system_names or message_names:
        entries = [
            wire_message(
                key >> TIMES_BITS,
                f"{HANDLE_PREFIX}{key:016x}",
                _attributes(messages, key >> TIMES_BITS, system_names, message_names),
            )
            for key in keys
        ]
    else:
        entries = [wire_message(key >> TIMES_BITS, f"{HANDLE_PREFIX}{key:016x}") for key in keys]
    return f'{{"Messages":[{",".join(entries)}]}}'


def _attributes(messages: Messages, number: int, system_names: tuple[str, ...], message_names: tuple[str, ...]) -> str:
    text = ""
    if system_names == ("SentTimestamp",):
        text = _sent_timestamp(messages.sent_seconds[number])
    elif system_names:
        system = {k: v for k, v in messages.system_attributes(number).items() if is_wanted(k, system_names)}
        text = f',"Attributes":{json.dumps(system)}' if system else ""
    if message_names:
        given = {k: v for k, v in messages.message_attributes(number).items() if is_wanted(k, message_names)}
        if given:
            text += f',"MessageAttributes":{json.dumps(given)},"MD5OfMessageAttributes":"{md5_of_attributes(given)}"'
    return text


@lru_cache(maxsize=1000)
def _sent_timestamp(sent_seconds: float) -> str:
    return f',"Attributes":{{"SentTimestamp":"{int(sent_seconds * 1000)}"}}'
