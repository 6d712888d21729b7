"""Every message the server ever had, in flat arrays: a million of them take about 50 MB.

A message is known by its number. What SQS answers about a body never changes, so it is kept ready for the wire, as
"wire text": a string in which one character is one byte (Latin-1), whatever the bytes are.
"""

from __future__ import annotations

import base64
import hashlib
import json
import random
import struct
from array import array
from typing import TYPE_CHECKING, Any

from fake_sqs.account import Message, TypeTotals, classify
from fake_sqs.generate import PALETTE, Body, Mix

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

ID_BYTES = 16


class Messages:
    """The table of messages, and the totals of what they are. `seed` decides their ids."""

    def __init__(self, seed: int = 0) -> None:
        self._random = random.Random(seed)  # noqa: S311 - repeatable on purpose
        self._ids = bytearray()
        self._given_ids: dict[int, str] = {}
        self._bodies: list[str] = []
        self._meanings: list[tuple[str, int] | str] = []
        self._body_of = array("I")
        self._sent_attributes: dict[int, str] = {}
        self._system_attributes: dict[int, dict[str, str]] = {}
        self.sent_seconds = array("d")
        self.times_handed_out = array("I")
        self.deleted_seconds = array("d")
        self.types: dict[str, TypeTotals] = {}
        self.invalid: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._body_of)

    def generate(self, mix: Mix, count: int, sent_seconds: float) -> range:
        """Add `count` messages of a mix; returns their numbers."""
        bodies = list(mix.bodies(count if mix.types else min(count, PALETTE)))
        if len(bodies) == count:
            return self.add(bodies, count, sent_seconds)
        drawn = array("H", random.Random(mix.seed).randbytes(2 * count))  # noqa: S311 - repeatable on purpose
        chosen = array("H", (number % PALETTE for number in drawn))
        return self.add(bodies, count, sent_seconds, chosen)

    def add(
        self, bodies: Sequence[Body], count: int, sent_seconds: float, chosen: Sequence[int] | None = None
    ) -> range:
        """Add `count` messages: those of `bodies` that `chosen` names, or all of them over and over in their order."""
        first = len(self)
        base = len(self._bodies)
        self._bodies.extend(wire_body(body.text) for body in bodies)
        self._meanings.extend(body.meaning for body in bodies)
        if chosen is None:
            chosen = [number % len(bodies) for number in range(count)]
        self._body_of.extend(base + number for number in chosen)
        uses = array("I", bytes(4 * len(bodies)))
        for number in chosen:
            uses[number] += 1
        for body, times in zip(bodies, uses, strict=True):
            self._tally(body.meaning, times)
        self._ids += self._random.randbytes(ID_BYTES * count)
        self.sent_seconds.extend(array("d", [sent_seconds]) * count)
        self.times_handed_out.frombytes(bytes(4 * count))
        self.deleted_seconds.frombytes(bytes(8 * count))
        return range(first, first + count)

    def add_text(self, texts: Iterable[str], sent_seconds: float) -> range:
        """Add messages with bodies of the test's own."""
        bodies = [Body(text, classify(text)) for text in texts]
        return self.add(bodies, len(bodies), sent_seconds)

    def add_raw(self, literals: Iterable[bytes], sent_seconds: float) -> range:
        """Add messages whose body goes onto the wire as given, quotes included: for what no JSON library would write.

        They are in the account as `invalid_json`.
        """
        literals = list(literals)
        numbers = self.add([Body("", "invalid_json")] * len(literals), len(literals), sent_seconds)
        for number, literal in zip(numbers, literals, strict=True):
            try:
                text = json.loads(literal.decode("utf-8", "surrogateescape"), strict=False)
                meant = text.encode("utf-8", "surrogateescape")
            except ValueError:
                meant = literal[1:-1]
            digest = hashlib.md5(meant, usedforsecurity=False).hexdigest()
            wire = f'"MD5OfBody":"{digest}","Body":{literal.decode("latin-1")}'
            self._bodies[self._body_of[number]] = wire
        return numbers

    def describe(
        self,
        number: int,
        message_id: str | None = None,
        message_attributes: dict[str, Any] | None = None,
        system_attributes: dict[str, str] | None = None,
    ) -> None:
        """Give one message an id of its own, message attributes, or system attributes such as AWSTraceHeader."""
        if message_id is not None:
            self._given_ids[number] = message_id
        if message_attributes:
            self._sent_attributes[number] = json.dumps(message_attributes)
        if system_attributes:
            self._system_attributes[number] = system_attributes

    def message_id(self, number: int) -> str:
        """Return the MessageId: a UUID, unless the test gave another."""
        if self._given_ids and number in self._given_ids:
            return self._given_ids[number]
        text = self._ids[ID_BYTES * number : ID_BYTES * (number + 1)].hex()
        return f"{text[:8]}-{text[8:12]}-4{text[13:16]}-a{text[17:20]}-{text[20:]}"

    def wire_message(self, number: int, handle: str, attributes: str = "") -> str:
        """Write one message of an answer as wire text. `attributes` begins with a comma, where there are any."""
        body = self._bodies[self._body_of[number]]
        if self._given_ids and number in self._given_ids:
            return (
                f'{{"MessageId":{json.dumps(self._given_ids[number])},"ReceiptHandle":"{handle}",{body}{attributes}}}'
            )
        at = number * ID_BYTES
        text = self._ids[at : at + ID_BYTES].hex()
        return (
            f'{{"MessageId":"{text[:8]}-{text[8:12]}-4{text[13:16]}-a{text[17:20]}-{text[20:]}",'
            f'"ReceiptHandle":"{handle}",{body}{attributes}}}'
        )

    def wire_body(self, number: int) -> str:
        """Return `"MD5OfBody":...,"Body":...` as wire text."""
        return self._bodies[self._body_of[number]]

    def md5(self, number: int) -> str:
        """Return the MD5 of the body in hexadecimal."""
        return self.wire_body(number)[13:45]

    def system_attributes(self, number: int) -> dict[str, str]:
        """Return what SQS and the sender say about the message."""
        return {
            "SenderId": "AIDAEXAMPLE",
            "SentTimestamp": str(int(self.sent_seconds[number] * 1000)),
            "ApproximateReceiveCount": str(self.times_handed_out[number]),
            **self._system_attributes.get(number, {}),
        }

    def message_attributes(self, number: int) -> dict[str, Any]:
        """Return the attributes its sender gave it."""
        text = self._sent_attributes.get(number)
        return json.loads(text) if text else {}

    def totals(self, numbers: Iterable[int]) -> tuple[dict[str, TypeTotals], dict[str, int]]:
        """Return the totals of some messages: of events by type, of all others by reason."""
        types: dict[str, TypeTotals] = {}
        invalid: dict[str, int] = {}
        for number in numbers:
            meaning = self._meanings[self._body_of[number]]
            if isinstance(meaning, str):
                invalid[meaning] = invalid.get(meaning, 0) + 1
            else:
                types.setdefault(meaning[0], TypeTotals()).add(meaning[1])
        return types, invalid

    def message(self, number: int) -> Message:
        """Return the account of one message."""
        wire = self.wire_body(number).encode("latin-1").decode("utf-8", "replace")
        literal = wire[wire.index('"Body":') + len('"Body":') :]
        try:
            body = json.loads(literal, strict=False)
        except ValueError:
            body = literal
        return Message(
            message_id=self.message_id(number),
            body=body,
            sent_seconds=self.sent_seconds[number],
            times_handed_out=self.times_handed_out[number],
            deleted_seconds=self.deleted_seconds[number] or None,
        )

    def _tally(self, meaning: tuple[str, int] | str, times: int) -> None:
        if not times:
            return
        if isinstance(meaning, str):
            self.invalid[meaning] = self.invalid.get(meaning, 0) + times
        else:
            name, value_nano = meaning
            self.types.setdefault(name, TypeTotals()).add(value_nano, times)


def wire_body(text: str) -> str:
    """Write a body as SQS would answer it, with its MD5. Lone surrogates, which UTF-8 has no bytes for, are escaped."""
    digest = hashlib.md5(text.encode("utf-8", "surrogatepass"), usedforsecurity=False).hexdigest()
    try:
        literal = json.dumps(text, ensure_ascii=False).encode().decode("latin-1")
    except UnicodeEncodeError:
        literal = json.dumps(text)
    return f'"MD5OfBody":"{digest}","Body":{literal}'


def md5_of_attributes(attributes: dict[str, Any]) -> str:
    """Return the MD5 of message attributes.

    https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-message-metadata.html
    """
    encoded = b""
    for name in sorted(attributes):
        attribute = attributes[name]
        is_text = attribute.get("StringValue") is not None
        value = attribute["StringValue"].encode() if is_text else base64.b64decode(attribute["BinaryValue"])
        for part in (name.encode(), attribute["DataType"].encode()):
            encoded += struct.pack(">I", len(part)) + part
        encoded += (b"\x01" if is_text else b"\x02") + struct.pack(">I", len(value)) + value
    return hashlib.md5(encoded, usedforsecurity=False).hexdigest()
