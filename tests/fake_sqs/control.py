"""The control door: what a test may tell the server at run time, as JSON lines on stdin, answered on stdout.

A pipe and not a port: it works while the network is cut off, and the server ends when the test's process does.
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from fake_sqs.account import Account
from fake_sqs.generate import Mix
from fake_sqs.queues import Behaviour
from fake_sqs.requests import MAX_BATCH, NAMES

if TYPE_CHECKING:
    from fake_sqs.operations import Service
    from fake_sqs.server import Server

PIPE_BYTES = 1 << 16


class Control:
    """Carries out commands. Every public method is a command; its arguments are the line's."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._service: Service = server.service

    def partition(self, *, silent: bool) -> None:
        """Cut the network: refuse and reset, or say nothing at all."""
        if silent:
            self._server.silent = True
        else:
            self._server.cut_off()

    def heal(self) -> None:
        """Join the network again. Connections that met silence are reset."""
        if self._server.silent:
            self._server.cut_off()
            self._server.silent = False
        self._server.listen()

    def create_queue(self, name: str, attributes: dict[str, str], arn: str | None) -> str:
        """Create a queue or change one; returns its URL."""
        return self._service.url(self._service.create(name, attributes, arn))

    def delete_queue(self, name: str) -> None:
        """Make a queue unknown."""
        self._service.queues.pop(name, None)

    def load(self, queue: str, count: int, mix: dict[str, Any]) -> None:
        """Put generated messages into a queue."""
        world = self._service.world
        numbers = world.messages.generate(Mix(**mix), count, world.clock.now())
        self._service.queues[queue].send(numbers)

    def send(  # noqa: PLR0913 - all that a message can have
        self,
        *,
        queue: str,
        bodies: list[str],
        raw: list[str],
        ids: list[str] | None,
        message_attributes: dict[str, Any] | None,
        system_attributes: dict[str, str] | None,
    ) -> list[str]:
        """Put messages of the test's own into a queue; returns their ids."""
        world = self._service.world
        messages, sent_seconds = world.messages, world.clock.now()
        first = len(messages)
        if bodies:
            messages.add_text(bodies, sent_seconds)
        if raw:
            messages.add_raw([literal.encode("latin-1") for literal in raw], sent_seconds)
        numbers = range(first, len(messages))
        for place, number in enumerate(numbers):
            messages.describe(number, ids[place] if ids else None, message_attributes, system_attributes)
        self._service.queues[queue].send(numbers)
        self._service.serve_waiters()
        return [messages.message_id(number) for number in numbers]

    def hand_out(self, queue: str, count: int) -> None:
        """Hand messages to somebody who never deletes them."""
        found = self._service.queues[queue]
        left = count
        while left > 0 and (keys := found.receive(min(left, MAX_BATCH), None)):
            left -= len(keys)

    def fault(  # noqa: PLR0913 - as Faults.switch_on
        self,
        kind: str,
        operations: list[str],
        times: int | None,
        *,
        acted: bool,
        options: dict[str, Any],
        queue: str | None,
    ) -> int:
        """Switch a fault on."""
        return self._server.faults.switch_on(kind, operations, times, acted=acted, options=options, queue=queue)

    def clear(self, number: int | None) -> None:
        """Switch one fault off, or all."""
        self._server.faults.clear(number)

    def behave(self, changes: dict[str, Any]) -> None:
        """Change how unkind the server is, and the latency of its answers."""
        for name, value in changes.items():
            if name == "latency_seconds":
                self._server.latency_seconds = value
            elif name in Behaviour.__dataclass_fields__:
                setattr(self._service.world.behaviour, name, value)
            else:
                raise ValueError(f"{name!r} is nothing the server can be told to do")

    def advance(self, seconds: float) -> None:
        """Let time pass on the server's clock."""
        self._service.world.clock.advance(seconds)
        self._service.serve_waiters()

    def reset_connections(self) -> None:
        """Reset every open connection."""
        for connection in list(self._server.connections):
            connection.reset()

    def queue_account(self, name: str) -> dict[str, Any]:
        """Return the account of one queue, ready for `Account`: what was sent, and what is in it."""
        queue = self._service.queues[name]
        queue.tidy()
        table = self._service.world.messages
        numbers = [number for sent in queue.sent for number in sent]
        types, invalid = table.totals(numbers)
        account = Account(
            sent=len(numbers),
            types=types,
            invalid=invalid,
            handed_out=sum(table.times_handed_out[number] > 0 for number in numbers),
            deleted=sum(table.deleted_seconds[number] > 0 for number in numbers),
            available=queue.available,
            in_flight=queue.in_flight,
            delayed=queue.delayed,
            waiting_receives=sum(waiter.queue is queue for waiter in self._service.waiters),
        )
        return asdict(account)

    def account(self) -> dict[str, Any]:
        """Return the account, ready for `Account`."""
        service, server = self._service, self._server
        queues = list(service.queues.values())
        for queue in queues:
            queue.tidy()
        messages = service.world.messages
        account = Account(
            sent=len(messages),
            types=messages.types,
            invalid=messages.invalid,
            available=sum(queue.available for queue in queues),
            in_flight=sum(queue.in_flight for queue in queues),
            delayed=sum(queue.delayed for queue in queues),
            calls={NAMES.get(name, name): times for name, times in service.calls.items()},
            faults=dict(server.faults.made),
            connections=len(server.connections),
            waiting_receives=len(service.waiters),
            cpu_seconds=time.process_time(),
            **asdict(service.world.counters),
        )
        return asdict(account)

    def messages(self) -> list[dict[str, Any]]:
        """Return what became of each message, ready for `Message`."""
        table = self._service.world.messages
        return [asdict(describe) for describe in map(table.message, range(len(table)))]

    def open_door(self, commands: int, answers: int) -> None:
        """Say the port on the descriptor `answers`, then obey the lines that come in on `commands`, until it ends."""
        received = bytearray()

        def read(_events: int) -> None:
            data = os.read(commands, PIPE_BYTES)
            if not data:
                self._server.loop.stop()
            received.extend(data)
            if data.endswith(b"\n"):
                # The test waits for each answer before it says more, so this is one line.
                _write(answers, self._obey(bytes(received)))
                received.clear()

        _write(answers, {"port": self._server.port})
        self._server.loop.watch(commands, read)

    def _obey(self, line: bytes) -> dict[str, Any]:
        try:
            command = json.loads(line)
            return {"result": getattr(self, command["do"])(**command["with"])}
        except Exception as error:  # noqa: BLE001 - the test is told, whatever it was
            return {"error": f"{type(error).__name__}: {error}"}


def _write(descriptor: int, answer: dict[str, Any]) -> None:
    data = json.dumps(answer).encode() + b"\n"
    while data:
        data = data[os.write(descriptor, data) :]
