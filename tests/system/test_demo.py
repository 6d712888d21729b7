"""The demo brings an SQS and a producer along, and takes them away again."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest
from exporter_process import INHERITED
from exporter_process import PROGRAM as PROGRAM_FILE

from exporter.cli import embedded_sqs
from exporter.errors import ExporterError, WrongSettingError

if TYPE_CHECKING:
    from collections.abc import Iterator

PROGRAM = """
import signal, sys
from exporter.cli import embedded_sqs
with embedded_sqs.running() as running:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    print(running.connection.endpoint_url, flush=True)
    sys.stdin.readline()
    print(bool(running.connection.queue_url("events")), flush=True)
"""


@contextmanager
def in_a_process_group_of_its_own() -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run the demo in a process, as a terminal would, and yield it with the endpoint of its SQS."""
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            yield process, process.stdout.readline().strip()
        finally:
            process.kill()


def answers(endpoint_url: str) -> bool:
    """Whether somebody listens there."""
    url = urlsplit(endpoint_url)
    try:
        socket.create_connection((url.hostname, url.port), timeout=1).close()
    except OSError:
        return False
    return True


def test_events_arrive_within_seconds_and_everything_ends_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The queue fills, has a dead-letter queue, whatever AWS and proxy settings the user has; they stay as they are."""
    monkeypatch.setenv("AWS_PROFILE", "nobody-has-this")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    before = dict(os.environ)
    began = time.monotonic()
    with embedded_sqs.running() as running:
        client = running.connection.client
        url = running.connection.queue_url("events")
        received = client.receive_message(QueueUrl=url, WaitTimeSeconds=5)["Messages"]
        first_seconds = time.monotonic() - began
        said = client.get_queue_attributes(QueueUrl=url, AttributeNames=["RedrivePolicy"])["Attributes"]
        assert os.environ == before
        ending = time.monotonic()
    assert len(received) == 1
    assert first_seconds < 10
    assert json.loads(said["RedrivePolicy"])["deadLetterTargetArn"].endswith(":events-dlq")
    assert running.accounts["events"].messages > 0
    assert time.monotonic() - ending < 2
    assert not answers(running.connection.endpoint_url)
    client.close()


def test_the_sqs_outlives_a_ctrl_c_until_the_exporter_is_done() -> None:
    """The signal goes to the whole process group, and the exporter still has messages to delete."""
    with in_a_process_group_of_its_own() as (process, _):
        os.killpg(process.pid, signal.SIGINT)
        out, _ = process.communicate("\n", timeout=10)
    assert (out, process.returncode) == ("True\n", 0)


def test_the_sqs_does_not_outlive_a_process_that_was_killed() -> None:
    """Nothing is left behind, not even by SIGKILL."""
    with in_a_process_group_of_its_own() as (process, endpoint_url):
        assert answers(endpoint_url)
        process.kill()
        process.wait()
        deadline = time.monotonic() + 5
        while answers(endpoint_url):
            assert time.monotonic() < deadline
            time.sleep(0.02)


def test_without_its_extra_dependencies_it_says_how_to_get_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """One sentence with what to type: in a checkout make's, in the image what is to be done elsewhere."""
    monkeypatch.setitem(sys.modules, "moto", None)
    with pytest.raises(WrongSettingError, match=r"run `make demo`, or .* -m pip install"), embedded_sqs.running():
        pass
    monkeypatch.setenv("SQS_EVENT_EXPORTER_REVISION", "0ddba11")
    in_the_image = r'not part .* nor of its image: .* pip install "sqs-event-exporter\[demo\]"'
    with pytest.raises(WrongSettingError, match=in_the_image), embedded_sqs.running():
        pass


@pytest.mark.parametrize("queues", [1, 3])
def test_it_ends_with_a_proof(queues: int) -> None:
    """After Ctrl-C what was sent is counted to the end, and both are shown: sent, counted, equal."""
    command = [str(PROGRAM_FILE), "demo", "--queues", str(queues), "--web.listen-address", ":0"]
    environment = {name: os.environ[name] for name in INHERITED if name in os.environ}
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        assert process.stdout is not None
        seen = set()
        for line in process.stdout:
            seen.add(json.loads(line).get("queue", "events"))
            if len(seen) == queues:
                break
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=40)
    assert process.returncode == 0
    said = err.splitlines()
    assert len([line for line in said if line.endswith(": equal")]) == 4 * queues, err
    assert "Traceback" not in err
    assert "page=http://localhost:0/" in err
    proof = re.search(
        r"^proof: (\d+) messages were sent and (\d+) counted or rejected, each exactly once$", err, re.MULTILINE
    )
    assert proof is not None, err
    assert proof[1] == proof[2] != "0"


def test_an_sqs_that_does_not_start_is_an_error_with_a_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """A broken installation of the server ends the command; it does not hang it."""
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(ExporterError, match="did not start"), embedded_sqs.running():
        pass
