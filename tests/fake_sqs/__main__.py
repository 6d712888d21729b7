"""Start the server, as `FakeSqs` does: the queue's name and a seed; it obeys stdin."""

from __future__ import annotations

import signal
import sys

from fake_sqs.control import Control
from fake_sqs.faults import Faults
from fake_sqs.loop import Loop
from fake_sqs.operations import Service
from fake_sqs.server import Server


def main() -> None:
    """Serve until stdin ends."""
    queue_name, seed = sys.argv[1:]
    # The terminal sends Ctrl-C to the whole group: the test decides when the server ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    loop = Loop()
    service = Service(int(seed))
    service.create(queue_name, {})
    server = Server(loop, service, Faults())
    server.listen()
    service.base_url = f"http://127.0.0.1:{server.port}"
    Control(server).open_door(sys.stdin.fileno(), sys.stdout.fileno())
    loop.run()


if __name__ == "__main__":
    main()
