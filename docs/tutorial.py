"""Runs the commands of docs/tutorial.md against an emulator of SQS, and writes what they print below them.

A block that follows `<!-- run -->` is run, in order, in one empty directory; the others can't be run without an AWS
account or Docker. What differs from run to run is made the same: the endpoint is shown as AWS's.
"""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

PAGE = Path(__file__).with_name("tutorial.md")
BLOCK = re.compile(r"(<!-- run -->\n```console\n)(.*?)(```\n)", re.DOTALL)
QUEUE = "orders"
REGION = "eu-west-1"
COMMAND_SECONDS = 60
ENDPOINT = f"https://sqs.{REGION}.amazonaws.com"
NOT_SHOWN = ("AWS_ENDPOINT_URL_SQS", "EXPORTER_WEB__LISTEN_ADDRESS", "EXPORTER_SUMMARY__INTERVAL")
"""Settings that only this script makes; `check` names them, in lines of their own."""


def filled(text: str) -> str:
    """Return the page with what its commands print now."""
    command = [sys.executable, "-m", "exporter.cli.embedded_sqs"]
    with (
        subprocess.Popen(  # noqa: S603 - our own emulator
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        ) as server,
        tempfile.TemporaryDirectory() as directory,
    ):
        try:
            shell = _Shell(Path(directory), server.stdout.readline().strip() if server.stdout else "")
            shell.create_queue()
            try:
                return BLOCK.sub(lambda found: found[1] + shell.transcript(found[2]) + found[3], text)
            finally:
                shell.end()
        finally:
            server.kill()


class _Shell:
    """Runs command lines as somebody with an AWS account would, in one directory."""

    def __init__(self, directory: Path, endpoint: str) -> None:
        self._directory = directory
        self._endpoint = endpoint
        with socket.create_server(("127.0.0.1", 0)) as free:
            self._port = str(free.getsockname()[1])
        self._environment = {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "HOME": str(directory),
            "AWS_REGION": REGION,
            "AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE",
            "AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
            "AWS_ENDPOINT_URL_SQS": endpoint,
            "EXPORTER_WEB__LISTEN_ADDRESS": f"127.0.0.1:{self._port}",
            # On a busy machine a run takes longer than the interval, and would print what is counted so far.
            "EXPORTER_SUMMARY__INTERVAL": "1h",
            "no_proxy": "127.0.0.1",
        }

    def create_queue(self) -> None:
        """Make the queue that the tutorial makes with AWS's own tools."""
        code = f"from exporter.sqs.aws import connect; connect().client.create_queue(QueueName={QUEUE!r})"
        subprocess.run([sys.executable, "-c", code], env=self._environment, check=True)  # noqa: S603 - fixed

    def transcript(self, block: str) -> str:
        """Run the commands of a block, which begin with `$ `, and return them with what they print."""
        lines = []
        for line in block.splitlines():
            if line.startswith("$ "):
                lines += [line, *self._run(line[2:])]
        return "".join(f"{line}\n" for line in lines)

    def end(self) -> None:
        """End what a command has left in the background."""
        file = self._directory / "exporter.pid"
        if file.exists():
            os.kill(int(file.read_text()), 15)

    def _run(self, command: str) -> list[str]:
        command = command.replace(":9797", f":{self._port}")
        if command.endswith("&"):
            command = f"{command} echo $! >exporter.pid"
        done = subprocess.run(  # noqa: S603 - the commands of our own page
            ["/bin/bash", "-c", f"exec 2>&1; {command}"],
            env=self._environment,
            cwd=self._directory,
            stdout=subprocess.PIPE,
            text=True,
            timeout=COMMAND_SECONDS,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"{command} ended with {done.returncode}:\n{done.stdout}")
        lines = done.stdout.splitlines()
        return [self._as_on_aws(line) for line in lines if not any(name in line for name in NOT_SHOWN)]

    def _as_on_aws(self, line: str) -> str:
        for found, shown in (
            (self._endpoint, ENDPOINT),
            (f":{self._port}", ":9797"),
            (str(self._directory), "/home/you"),
        ):
            line = line.replace(found, shown)
        return line


def masked(text: str) -> str:
    """Return a text without what differs from run to run: numbers, ids and times."""
    text = re.sub(r'^{"message_id".*$', "a message", text, flags=re.MULTILINE)  # SQS gives them in any order
    return re.sub(r"[0-9a-f]{8}-[0-9a-f-]{27}|\b[0-9a-f]{8}\b|[0-9]+(\.[0-9]+)?", "#", text)


def main() -> None:
    """Write the page anew."""
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
