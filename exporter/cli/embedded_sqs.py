"""Starts the SQS emulator (moto) of `demo` in a process of its own, and a producer for each queue on a thread."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from botocore.config import Config
from botocore.session import Session

from exporter.cli.build import REVISION_VARIABLE
from exporter.errors import ExporterError, QueueUnavailableError, WrongSettingError
from exporter.producer.account import Account
from exporter.producer.produce import produce
from exporter.sqs.aws import connect

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from exporter.sqs.aws import Connection

QUEUE = "events"
DEAD_LETTER_QUEUE = "events-dlq"
REGION = "us-east-1"
RATE = 20.0
INVALID_FRACTION = 0.03
DUPLICATE_FRACTION = 0.02
MAX_BACKLOG = 100
"""The embedded SQS takes ever longer for each call the more messages wait in it."""
VISIBILITY_TIMEOUT_SECONDS = 10
"""Short, so that what is not an event is soon seen in the dead-letter queue, and does not pile up before."""
MAX_RECEIVES = 10
START_SECONDS = 30.0
STOP_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Demo:
    """A running demo."""

    connection: Connection
    """To the embedded SQS, with credentials of its own; the environment stays as it is."""
    accounts: Mapping[str, Account]
    """What the producers have sent so far, by queue."""
    stop: threading.Event
    """Set it to end the producers."""
    producers: Sequence[threading.Thread]

    @property
    def queues(self) -> tuple[str, ...]:
        """The names of its queues."""
        return tuple(self.accounts)


@contextlib.contextmanager
def running(*, queues: int = 1) -> Iterator[Demo]:
    """Start the embedded SQS in a process of its own, and for each queue a producer of `RATE` messages a second.

    All end with the context; the SQS also when this process dies in whatever way. Raises WrongSettingError where the
    demo's extra dependencies are not installed.
    """
    if find_spec("moto") is None or find_spec("flask") is None:
        raise WrongSettingError(_how_to_install())
    names = [QUEUE] if queues == 1 else [f"{QUEUE}-{number}" for number in range(1, queues + 1)]
    with _embedded_sqs() as endpoint_url:
        connection = _connect(endpoint_url)
        stop = threading.Event()
        accounts = {name: Account() for name in names}
        producers = [
            threading.Thread(
                target=_produce,
                args=(connection, queue_url, stop, accounts[name]),
                name=f"producer of {name}",
                daemon=True,
            )
            for name, queue_url in _create_queues(connection, names).items()
        ]
        for producer in producers:
            producer.start()
        try:
            yield Demo(connection, accounts, stop, producers)
        finally:
            stop.set()
            for producer in producers:
                producer.join(STOP_SECONDS)


def _how_to_install() -> str:
    what = "the demo needs moto and flask, which are not part of the exporter itself"
    if os.environ.get(REVISION_VARIABLE):
        return f'{what} nor of its image: run `make demo` in a checkout, or pip install "sqs-event-exporter[demo]"'
    root = Path(__file__).resolve().parents[2]
    if (root / "pyproject.toml").exists():
        return f'{what}: run `make demo`, or {sys.executable} -m pip install "{root}[demo]"'
    return f'{what}: {sys.executable} -m pip install "sqs-event-exporter[demo]"'


@contextlib.contextmanager
def _embedded_sqs() -> Iterator[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    with subprocess.Popen(
        [sys.executable, "-m", "exporter.cli.embedded_sqs"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environment,
        # A Ctrl-C is for the exporter, which still has messages to delete.
        start_new_session=True,
        text=True,
    ) as server:
        try:
            yield _url_of(server)
        finally:
            server.kill()


def _url_of(server: subprocess.Popen[str]) -> str:
    # A pipe has no read with a deadline in the standard library; killing its other end is one.
    deadline = threading.Timer(START_SECONDS, server.kill)
    deadline.start()
    try:
        url = server.stdout.readline().strip() if server.stdout else ""
    finally:
        deadline.cancel()
    if not url:
        raise ExporterError("The demo's embedded SQS did not start: python -m exporter.cli.embedded_sqs says why")
    return url


def _connect(endpoint_url: str) -> Connection:
    # Neither a profile nor a proxy of the user's may get between the demo and its own SQS.
    session = Session(session_vars={"profile": (None, None, None, None)})
    session.set_config_variable("region", REGION)
    session.set_credentials("demo", "demo")
    session.set_default_client_config(Config(proxies={}))
    return connect(session, endpoint_url=endpoint_url)


def _create_queues(connection: Connection, names: Sequence[str]) -> dict[str, str]:
    client = connection.client
    dead_letters = client.create_queue(QueueName=DEAD_LETTER_QUEUE)["QueueUrl"]
    said = client.get_queue_attributes(QueueUrl=dead_letters, AttributeNames=["QueueArn"])
    policy = {"deadLetterTargetArn": said["Attributes"]["QueueArn"], "maxReceiveCount": MAX_RECEIVES}
    return {
        name: client.create_queue(
            QueueName=name,
            Attributes={
                "VisibilityTimeout": str(VISIBILITY_TIMEOUT_SECONDS),
                "RedrivePolicy": json.dumps(policy),
            },
        )["QueueUrl"]
        for name in names
    }


def _produce(connection: Connection, queue_url: str, stop: threading.Event, account: Account) -> None:
    # What the embedded SQS refuses is no news to someone who ends the demo, and the exporter says so otherwise.
    with contextlib.suppress(QueueUnavailableError):
        produce(
            connection,
            queue_url,
            rate=RATE,
            invalid_fraction=INVALID_FRACTION,
            duplicate_fraction=DUPLICATE_FRACTION,
            stop=stop,
            max_backlog=MAX_BACKLOG,
            account=account,
        )


def serve() -> None:
    """Be the embedded SQS: write the endpoint on stdout, end when stdin is closed, as by the death of the parent."""
    from moto.server import ThreadedMotoServer  # noqa: PLC0415 - only this process needs it, and it takes a second

    with contextlib.redirect_stdout(sys.stderr):
        server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        server.start()
    print("http://{}:{}".format(*server.get_host_and_port()), flush=True)  # noqa: T201 - it is what the parent reads
    sys.stdin.read()
    # Its threads hold connections that the other side never closes.
    os._exit(0)


if __name__ == "__main__":
    serve()
