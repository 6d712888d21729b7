"""The server as a test uses it: a process of its own, told what to do through a pipe."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Self

import leftovers

from fake_sqs.account import Account, Message, TypeTotals

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from types import TracebackType

POLL_SECONDS = 0.02
WAIT_SECONDS = 60.0
STOP_SECONDS = 5.0
REGION = "us-east-1"


class FakeSqsError(Exception):
    """The server refused a command, or is gone."""


class FakeSqs:
    """A running server with one queue; a context manager that ends it.

    `attributes` are the queue's, in SQS's words (`VisibilityTimeout`, `RedrivePolicy`, ...); `create=False` starts
    without the queue. Everything else is `behave`'s: `FakeSqs(duplicate_in_batch=0.2, latency_seconds=0.02)`.
    """

    def __init__(
        self,
        *,
        queue_name: str = "events",
        attributes: dict[str, str] | None = None,
        create: bool = True,
        seed: int = 0,
        **behaviour: float | bool,
    ) -> None:
        self.queue_name = queue_name
        self._lock = threading.Lock()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "fake_sqs", queue_name, str(seed)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parent.parent)},
        )
        self.port: int = json.loads(self._read_line())["port"]
        self.endpoint_url = f"http://127.0.0.1:{self.port}"
        """What AWS_ENDPOINT_URL_SQS is to be."""
        self.queue_url = f"{self.endpoint_url}/123456789012/{queue_name}"
        if not create:
            self.delete_queue()
        elif attributes:
            self.create_queue(attributes=attributes)
        self.behave(**behaviour)

    @property
    def pid(self) -> int:
        """The server's process."""
        return self._process.pid

    @property
    def queue_arn(self) -> str:
        """The queue's ARN, unless `create_queue` was given another."""
        return f"arn:aws:sqs:{REGION}:123456789012:{self.queue_name}"

    @property
    def environment(self) -> dict[str, str]:
        """AWS's own variables, for a process that is to use this server and no setting of the machine."""
        return {
            "AWS_ACCESS_KEY_ID": "AKIDEXAMPLE",
            "AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
            "AWS_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_ENDPOINT_URL_SQS": self.endpoint_url,
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "NO_PROXY": "127.0.0.1",
            "no_proxy": "127.0.0.1",
            **leftovers.mark(),
        }

    def load(
        self,
        count: int,
        *,
        seed: int = 0,
        invalid_fraction: float = 0.0,
        types: int = 0,
        queue_name: str | None = None,
    ) -> None:
        """Generate so many messages in the queue: a shop's mix, or `types` types one after the other."""
        mix = {"seed": seed, "invalid_fraction": invalid_fraction, "types": types}
        self._do("load", queue=queue_name or self.queue_name, count=count, mix=mix)

    def send(  # noqa: PLR0913 - all that a message can have
        self,
        bodies: Sequence[str] = (),
        *,
        raw: Sequence[bytes] = (),
        ids: Sequence[str] | None = None,
        message_attributes: dict[str, Any] | None = None,
        system_attributes: dict[str, str] | None = None,
        queue_name: str | None = None,
    ) -> list[str]:
        """Put messages into the queue and return their ids.

        `bodies` may hold what SendMessage refuses. `raw` are JSON string literals, quotes included, that are answered
        byte for byte. `ids` replaces the random UUIDs. Attributes are given to each of the messages.
        """
        ids_sent: list[str] = self._do(
            "send",
            queue=queue_name or self.queue_name,
            bodies=list(bodies),
            raw=[literal.decode("latin-1") for literal in raw],
            ids=None if ids is None else list(ids),
            message_attributes=message_attributes,
            system_attributes=system_attributes,
        )
        return ids_sent

    def hand_out(self, count: int, *, queue_name: str | None = None) -> None:
        """Hand so many messages to another consumer, who never deletes them."""
        self._do("hand_out", queue=queue_name or self.queue_name, count=count)

    def fault(
        self,
        kind: str,
        operation: str | Iterable[str] | None = None,
        *,
        times: int | None = None,
        acted: bool = False,
        queue_name: str | None = None,
        **options: float | str | bool,
    ) -> int:
        """Switch a fault on, for the next `times` calls or until `clear`; returns its number.

        Without `operation` it befalls every operation it can, without `queue_name` (of ListQueues: its prefix) every
        queue. `acted` lets the server do what it was asked first.
        On receives, faults of the answer wait for one that brings messages. The kinds, with their options:

        - `error` (code, status, message), `clock_skew` (seconds, code);
        - `answer` (body, status, content_type, location) and, short for it, `html`, `empty_object`, `redirect`;
        - `reset`, `black_hole`: RST or silence in place of an answer;
        - `truncated`, `half_closed`, `drip` (bytes_per_second), `delay` (seconds): to the answer;
        - `wrong_md5`, `missing_field` (field), `extra_fields`, each with `only_first`: to the messages of a receive;
        - `failed_entries` (entries): the first of a batch delete.
        """
        operations = [operation] if isinstance(operation, str) else list(operation or ())
        number: int = self._do(
            "fault",
            kind=kind,
            operations=operations,
            times=times,
            acted=acted,
            options=options,
            queue=queue_name,
        )
        return number

    def clear(self, number: int | None = None) -> None:
        """Switch one fault off, or all."""
        self._do("clear", number=number)

    def behave(self, **changes: float | bool) -> None:
        """Change the fields of `queues.Behaviour`, or `latency_seconds` of every answer."""
        self._do("behave", changes=changes)

    def advance(self, seconds: float) -> None:
        """Let time pass on the server's clock: visibility timeouts, delays, retention. Waits stay real."""
        self._do("advance", seconds=seconds)

    def partition(self, *, silent: bool = False) -> None:
        """Cut the network: connections are reset and refused, or, `silent`, accepted and never answered."""
        self._do("partition", silent=silent)

    def heal(self) -> None:
        """End the partition; connections that met silence are reset."""
        self._do("heal")

    def reset_connections(self) -> None:
        """Reset every open connection once."""
        self._do("reset_connections")

    def create_queue(
        self, name: str | None = None, attributes: dict[str, str] | None = None, arn: str | None = None
    ) -> str:
        """Create a queue or change its attributes; an `arn` makes a new queue in its place. Returns its URL."""
        url: str = self._do("create_queue", name=name or self.queue_name, attributes=attributes or {}, arn=arn)
        return url

    def gives_up_to(self, dead_letter_queue: str, times: int = 5) -> dict[str, str]:
        """Return the attributes of a queue that gives messages up to another one after so many receives."""
        arn = f"{self.queue_arn.rpartition(':')[0]}:{dead_letter_queue}"
        return {"RedrivePolicy": json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": times})}

    def delete_queue(self, name: str | None = None) -> None:
        """Make a queue unknown."""
        self._do("delete_queue", name=name or self.queue_name)

    def account(self, queue_name: str | None = None) -> Account:
        """Return the truth, as of now.

        Of one queue that is what was sent to it, what became of that, and what is in it; the rest is 0.
        """
        fields = self._do("account") if queue_name is None else self._do("queue_account", name=queue_name)
        types = {name: TypeTotals(**totals) for name, totals in fields.pop("types").items()}
        return Account(types=types, **fields)

    def messages(self) -> list[Message]:
        """Return what became of each message, in the order they were sent. For small tests."""
        return [Message(**fields) for fields in self._do("messages")]

    def wait_until(self, condition: Callable[[Account], bool], timeout_seconds: float = WAIT_SECONDS) -> Account:
        """Return the first account that meets the condition; raises TimeoutError, with the last one, if none does."""
        deadline = time.monotonic() + timeout_seconds
        while not condition(account := self.account()):
            if time.monotonic() > deadline:
                raise TimeoutError(f"not within {timeout_seconds} s: {account}")
            time.sleep(POLL_SECONDS)
        return account

    def close(self) -> None:
        """End the server. Safe to call twice."""
        if self._process.stdin and not self._process.stdin.closed:
            self._process.stdin.close()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._stdout.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @property
    def _stdout(self) -> IO[bytes]:
        if self._process.stdout is None:
            raise FakeSqsError("the server has no stdout")
        return self._process.stdout

    def _read_line(self) -> bytes:
        line = self._stdout.readline()
        if not line:
            raise FakeSqsError(f"the server ended with exit code {self._process.wait(STOP_SECONDS)}")
        return line

    def _do(self, command: str, **arguments: Any) -> Any:  # noqa: ANN401 - JSON
        if self._process.stdin is None or self._process.stdin.closed:
            raise FakeSqsError("the server is closed")
        with self._lock:
            self._process.stdin.write(json.dumps({"do": command, "with": arguments}).encode() + b"\n")
            self._process.stdin.flush()
            answer = json.loads(self._read_line())
        if "error" in answer:
            raise FakeSqsError(answer["error"])
        return answer["result"]
