"""Start the server: `python tests/fake_sqs --port 9324 --load 1000000`."""

from __future__ import annotations

import argparse
import random
import signal
import ssl
import sys
from pathlib import Path

if __package__ != "fake_sqs":
    # Started as a folder: the folder itself must not be searched, its parent must.
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from fake_sqs.control import Control
from fake_sqs.faults import Faults
from fake_sqs.generate import Mix
from fake_sqs.loop import Loop
from fake_sqs.operations import Service
from fake_sqs.server import Server


def main() -> None:
    """Serve until SIGINT or SIGTERM, or, with `--control`, until stdin ends."""
    parser = argparse.ArgumentParser(prog="fake_sqs", description="A fake Amazon SQS on 127.0.0.1.")
    parser.add_argument("--port", type=int, default=9324, help="0 takes a free one (default: %(default)s)")
    parser.add_argument("--queue", default="events", help="created at the start (default: %(default)s)")
    parser.add_argument("--load", type=int, default=0, metavar="COUNT", help="messages to generate into the queue")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--invalid-fraction", type=float, default=0.0)
    parser.add_argument("--types", type=int, default=0, help="so many event types instead of the usual three")
    parser.add_argument("--latency", type=float, default=0.0, metavar="SECONDS", help="added to every answer")
    parser.add_argument("--tls", nargs=2, metavar=("CERT", "KEY"), help="PEM files")
    parser.add_argument("--control", action="store_true", help="obey JSON lines on stdin")
    _serve(parser.parse_args())


def _serve(arguments: argparse.Namespace) -> None:
    tls = None
    if arguments.tls:
        tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        tls.load_cert_chain(*arguments.tls)
    loop = Loop()
    service = Service(arguments.seed)
    queue = service.create(arguments.queue, {})
    if arguments.load:
        mix = Mix(arguments.seed, arguments.invalid_fraction, arguments.types)
        queue.put(service.world.messages.generate(mix, arguments.load, service.world.clock.now()))
    faults = Faults(random.Random(arguments.seed))  # noqa: S311 - repeatable on purpose
    server = Server(loop, service, faults, arguments.port, tls)
    server.latency_seconds = arguments.latency
    server.listen()
    service.base_url = f"{'https' if tls else 'http'}://127.0.0.1:{server.port}"
    if arguments.control:
        # The terminal sends Ctrl-C to the whole group: the test decides when the server ends.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        Control(server).open_door(sys.stdin.fileno(), sys.stdout.fileno())
    else:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda _number, _frame: loop.stop())
        print(f"queue {service.url(queue)}", flush=True)  # noqa: T201 - a program
    loop.run()


if __name__ == "__main__":
    main()
