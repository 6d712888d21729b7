"""`check` tells before a run what stands in its way, and leaves queue, ledger and machine as they were."""

from __future__ import annotations

import errno
import json
import os
import shutil
import socket
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
from certificates import Authority
from exporter_process import INHERITED, PROGRAM, ExporterProcess
from fake_sqs import FakeSqs

from exporter.cli.checks import machine
from exporter.ledger.sqlite.ledger import SqliteLedger
from exporter.settings.sources import read_settings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

EVENT = '{"type": "purchase", "value": 12.55, "occurred_at": "2020-10-06 10:02:05"}'
ARN = "arn:aws:sqs:us-east-1:123456789012:"


@pytest.fixture
def sqs() -> Iterator[FakeSqs]:
    """Give each test an SQS of its own, with a queue `events`."""
    with FakeSqs() as server:
        yield server


class Check:
    """Runs `check` against one SQS and one ledger, with a listen address that is free."""

    def __init__(self, sqs: FakeSqs, ledger: Path) -> None:
        self.sqs = sqs
        self.ledger = ledger
        self.address = "127.0.0.1:0"
        self.through: list[str] = []
        """A command that starts it in another way."""

    def text(self, *arguments: str, queue: str = "events", **environment: str) -> subprocess.CompletedProcess[str]:
        """Run it to its end."""
        inherited = {name: os.environ[name] for name in INHERITED if name in os.environ}
        flags = ["--queue", queue, "--ledger.path", str(self.ledger), "--web.listen-address", self.address]
        return subprocess.run(
            [*self.through, str(PROGRAM), "check", *flags, *arguments],
            env={**inherited, **self.sqs.environment, **environment},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def findings(
        self, *arguments: str, code: int, queue: str = "events", **environment: str
    ) -> dict[str, list[tuple[str, str]]]:
        """Run it with `--format json`, assert its exit code, and return status and sentence by subject."""
        done = self.text("--format", "json", *arguments, queue=queue, **environment)
        assert done.returncode == code, done.stdout + done.stderr
        said = json.loads(done.stdout)
        assert said["exit_code"] == code
        found: dict[str, list[tuple[str, str]]] = {}
        for one in said["findings"]:
            found.setdefault(one["subject"], []).append((one["status"], one["sentence"]))
        return found


@pytest.fixture
def check(sqs: FakeSqs, tmp_path: Path) -> Check:
    """Give each test a place for a ledger, too."""
    return Check(sqs, tmp_path / "ledger.db")


def test_all_is_well_before_the_first_run(check: Check, tmp_path: Path) -> None:
    """Exit code 0; settings with their source, whose credentials, region, queue, permissions; no file is made."""
    done = check.text()
    assert done.returncode == 0, done.stdout + done.stderr
    assert "ok       setting      queue is 'events', from --queue\n" in done.stdout
    assert "ok       credentials  access key ...MPLE, from the environment" in done.stdout
    assert f"region       us-east-1, at {check.sqs.endpoint_url}" in done.stdout
    assert f"{ARN}events, visibility timeout 30 s" in done.stdout
    assert "sqs:DeleteMessage on events: granted" in done.stdout
    assert "sqs:ReceiveMessage on events is not tried" in done.stdout
    assert "is not there yet" in done.stdout
    assert "clock        within" in done.stdout
    assert done.stdout.endswith("run will work here (1 warning)\n")
    assert check.sqs.environment["AWS_SECRET_ACCESS_KEY"] not in done.stdout
    assert not list(tmp_path.iterdir())


def test_a_receive_is_made_only_when_asked_for_and_given_back(check: Check) -> None:
    """`--receive` receives one message and makes it visible again; without it no receive is sent."""
    check.sqs.send([EVENT])
    check.findings(code=0)
    assert "ReceiveMessage" not in check.sqs.account().calls
    found = check.findings("--receive", code=0)
    assert ("ok", "sqs:ReceiveMessage on events: granted (one message was received, and is back)") in found[
        "permission"
    ]
    account = check.sqs.account()
    assert (account.available, account.in_flight, account.deleted) == (1, 0, 0)


@pytest.mark.parametrize(
    ("operation", "sentence"),
    [
        ("DeleteMessageBatch", "grant sqs:DeleteMessage on it"),
        ("GetQueueUrl", "grant sqs:GetQueueUrl"),
        ("ReceiveMessage", "grant sqs:ReceiveMessage on it"),
    ],
)
def test_each_permission_that_run_needs_is_tried(check: Check, operation: str, sentence: str) -> None:
    """A denial is an error that names the permission, exit code 1, and no message is touched."""
    check.sqs.send([EVENT])
    check.sqs.fault("error", operation, code="AccessDenied", status=403)
    found = check.findings("--receive", code=1)
    assert any(status == "error" and sentence in text for status, text in found.get("permission", []) + found["queue"])
    account = check.sqs.account()
    assert (account.available, account.in_flight, account.deleted) == (1, 0, 0)


def test_a_permission_that_run_can_do_without_is_a_warning(check: Check) -> None:
    """Attributes that may not be read: run counts all the same."""
    check.sqs.fault("error", "GetQueueAttributes", code="AccessDenied", status=403)
    found = check.findings(code=0)
    assert found["queue"][0][0] == "warning"
    assert "grant sqs:GetQueueAttributes" in found["queue"][0][1]
    left = check.findings("--sqs.on-invalid", "leave", code=0)
    assert len(left["queue"]) == 1, left


def test_a_fifo_queue_with_a_redrive_policy_needs_change_message_visibility(check: Check) -> None:
    """It is tried where run uses it, and only there."""
    check.sqs.create_queue("dead.fifo", attributes={"FifoQueue": "true"})
    policy = json.dumps({"deadLetterTargetArn": f"{ARN}dead.fifo", "maxReceiveCount": 20})
    check.sqs.create_queue("orders.fifo", attributes={"FifoQueue": "true", "RedrivePolicy": policy})
    check.sqs.fault("error", "ChangeMessageVisibilityBatch", code="AccessDenied", status=403)
    found = check.findings(code=1, queue="orders.fifo")
    assert any("grant sqs:ChangeMessageVisibility on it" in text for _, text in found["permission"])
    check.findings(code=0, queue="events")


def test_a_low_max_receive_count_a_short_retention_and_a_small_memory_are_warnings(check: Check) -> None:
    """What may surprise somebody later is said with the number that would be right."""
    check.sqs.create_queue("dead")
    policy = json.dumps({"deadLetterTargetArn": f"{ARN}dead", "maxReceiveCount": 3})
    attributes = {"RedrivePolicy": policy, "VisibilityTimeout": "3600", "MessageRetentionPeriod": "600"}
    check.sqs.create_queue("orders", attributes=attributes)
    found = check.findings("--ledger.window", "10m", code=0, queue="orders")
    said = " ".join(text for status, text in found["queue"] if status == "warning")
    assert "maxReceiveCount of queue orders is 3" in said
    assert "2h are used" in said
    assert "allows 278 messages a second" in said
    assert "keeps messages for 10m" in said


def test_run_says_the_same_warnings_at_its_start(check: Check) -> None:
    """Who never asked for a check reads them in the log."""
    check.sqs.create_queue("dead")
    policy = json.dumps({"deadLetterTargetArn": f"{ARN}dead", "maxReceiveCount": 3})
    check.sqs.create_queue("orders", attributes={"RedrivePolicy": policy})
    (_, sentence) = next(one for one in check.findings(code=0, queue="orders")["queue"] if one[0] == "warning")
    with ExporterProcess(check.sqs.environment, check.ledger, queue="orders") as exporter:
        exporter.wait_until_ready()
        assert [line["msg"] for line in exporter.log].count(sentence) == 1


def test_a_queue_that_is_not_there_stands_in_the_way(check: Check) -> None:
    """Exit code 1, and the rest is looked at all the same."""
    found = check.findings(code=1, queue="nowhere")
    assert found["queue"][0][0] == "error"
    assert "does not exist" in found["queue"][0][1]
    assert found["ledger"]


def test_a_prefix_shows_its_queues_and_what_it_leaves_out(check: Check) -> None:
    """Each queue that it finds is looked at; one that is another's dead-letter queue is left out, and said."""
    check.sqs.create_queue("shop-dead")
    policy = json.dumps({"deadLetterTargetArn": f"{ARN}shop-dead", "maxReceiveCount": 20})
    check.sqs.create_queue("shop-orders", attributes={"RedrivePolicy": policy})
    found = check.findings(code=0, queue="shop-*")
    said = [text for _, text in found["queue"]]
    assert any(text.startswith(f"{ARN}shop-orders,") for text in said)
    assert "shop-dead of prefix shop-* is left out: it is the dead-letter queue of shop-orders" in said


def test_a_ledger_is_read_and_not_touched(check: Check, tmp_path: Path) -> None:
    """What it holds is said; neither its bytes nor its times change, and no file appears beside it."""
    check.sqs.send([EVENT] * 2)
    with ExporterProcess(check.sqs.environment, check.ledger) as exporter:
        exporter.wait_for(lambda scrape: scrape.counted == 2)
        found = check.findings(code=1)
        assert found["ledger"][0][0] == "error"
        assert "used by another process" in found["ledger"][0][1]
        exporter.terminate()

    def state() -> dict[str, tuple[bytes, int]]:
        return {file.name: (file.read_bytes(), file.stat().st_mtime_ns) for file in tmp_path.iterdir()}

    before = state()
    found = check.findings(code=0)
    assert "holds 2 events and 2 ids" in found["ledger"][0][1]
    assert state() == before
    found = check.findings("--ledger.name", "another", code=2)
    assert "--ledger.name is another" in found["ledger"][1][1]


def test_no_place_for_a_copy_of_the_ledger_is_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only check makes one."""

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    path = tmp_path / "ledger.db"
    SqliteLedger(str(path)).close()
    monkeypatch.setattr(shutil, "copyfile", full)
    settings = read_settings({"queue": "events", "ledger.path": str(path)}, {})
    assert {finding.status for finding in machine.ledger(settings, {})} == {"warning"}


def test_rows_of_another_queue_of_the_same_name_are_seen(check: Check) -> None:
    """A ledger that belongs to another ARN ends a run; check says so before."""
    check.sqs.send([EVENT])
    with ExporterProcess(check.sqs.environment, check.ledger) as exporter:
        exporter.wait_for(lambda scrape: scrape.counted == 1)
        exporter.terminate()
    check.sqs.create_queue(arn="arn:aws:sqs:us-east-1:999999999999:events")
    found = check.findings(code=1)
    assert found["ledger"][1][0] == "error"
    assert (
        "belong to arn:aws:sqs:us-east-1:123456789012:events, not to arn:aws:sqs:us-east-1:999999999999:events"
        in (found["ledger"][1][1])
    )


def test_a_directory_that_is_not_there_stands_in_the_way(sqs: FakeSqs, tmp_path: Path) -> None:
    """The sentence names the directory."""
    found = Check(sqs, tmp_path / "missing" / "ledger.db").findings(code=1)
    assert found["ledger"][0] == (
        "error",
        f"the directory {tmp_path / 'missing'} is not there: create it, or correct --ledger.path",
    )


@pytest.mark.parametrize(
    ("name", "why"), [("x" * 300, "File name too long"), ("loop", "Too many levels of symbolic links")]
)
def test_a_path_that_can_be_no_file_stands_in_the_way(sqs: FakeSqs, tmp_path: Path, name: str, why: str) -> None:
    """The sentence is that of run; of such a file it can't be said that it is not there yet."""
    (tmp_path / "loop").symlink_to("loop")
    found = Check(sqs, tmp_path / name).findings(code=1)
    assert found["ledger"][0][0] == "error"
    assert f"can't be opened ({why}): set --ledger.path to a file" in found["ledger"][0][1]


def test_a_directory_that_is_not_writable_names_the_user(sqs: FakeSqs, tmp_path: Path) -> None:
    """The uid of the process is said, and its way out: the directory's owner, or its mode."""
    directory = tmp_path / "data"
    directory.mkdir(mode=0o500)
    check = Check(sqs, directory / "ledger.db")
    if os.geteuid() == 0:  # permissions bind root, too, without these capabilities
        check.through = ["setpriv", "--bounding-set", "-dac_override,-dac_read_search", "--"]
    found = check.findings(code=1)
    assert f"not writable for uid {os.geteuid()}: its mode is 0500; chmod u+rwx it" in found["ledger"][0][1]


def test_too_few_descriptors_stand_in_the_way(check: Check) -> None:
    """Where run would refuse to start, with the number that is needed; where a prefix's queues need more, a warning."""
    check.through = ["prlimit", "--nofile=100", "--"]
    status, sentence = check.findings(code=1)["descriptors"][0]
    assert status == "error"
    assert "may have 100 files open, and 16 receives at once need 192: raise the limit (ulimit -n 192)" in sentence
    check.through = ["prlimit", "--nofile=192", "--"]
    assert "descriptors" not in check.findings(code=0)
    for number in range(40):
        check.sqs.create_queue(f"shop-{number}")
    status, sentence = check.findings(code=0, queue="shop-*")["descriptors"][0]
    assert status == "warning"
    assert "40 queues with a receive each need 288" in sentence


def test_a_port_that_is_taken_stands_in_the_way(check: Check) -> None:
    """Exit code 1: another process has it."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        check.address = f"127.0.0.1:{taken.getsockname()[1]}"
        found = check.findings(code=1)
    assert found["web"][0][0] == "error"
    assert "another program listens on" in found["web"][0][1]


def test_a_wrong_setting_is_exit_code_2(check: Check, tmp_path: Path) -> None:
    """A web configuration file that can't be read, and OpenTelemetry's own variables, are settings, too."""
    file = tmp_path / "web.yml"
    file.write_text("tls_server_config:\n  cert_file: nowhere.crt\n  key_file: nowhere.key\n")
    found: dict[str, Any] = check.findings("--web.config.file", str(file), code=2)
    assert found["web"][0][0] == "error"
    found = check.findings(code=2, OTEL_EXPORTER_OTLP_ENDPOINT="nonsense")
    assert found["otlp"][0][0] == "error"
    found = check.findings(code=2, AWS_ENDPOINT_URL_SQS="foo")
    assert found["setting"][-1][0] == "error"


def test_a_certificate_that_expires_soon_is_a_warning(check: Check, tmp_path: Path) -> None:
    """Each certificate of the web configuration is shown with the day it expires."""
    signed = Authority(tmp_path).sign("exporter")
    file = tmp_path / "web.yml"
    file.write_text(f"tls_server_config:\n  cert_file: {signed.certificate}\n  key_file: {signed.key}\n")
    found = check.findings("--web.config.file", str(file), code=0)
    assert any(status == "warning" and f"{signed.certificate} expires on" in text for status, text in found["web"])


def test_an_otlp_endpoint_that_nobody_listens_on_is_a_warning(check: Check) -> None:
    """Counting goes on without it."""
    found = check.findings(code=0, OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:9")
    assert found["otlp"][0][0] == "warning"
    assert "http://127.0.0.1:9/v1/metrics can't be reached" in found["otlp"][0][1]
    found = check.findings(code=0, OTEL_EXPORTER_OTLP_ENDPOINT="http://otel..example:4318")
    assert found["otlp"][0][0] == "warning"
    assert "http://otel..example:4318/v1/metrics can't be reached" in found["otlp"][0][1]


def test_the_iam_policy_is_what_these_settings_need(check: Check) -> None:
    """A plain queue by name: three actions and the name's look-up; a URL needs no look-up; a prefix needs two more.

    An AWS URL says region and account, also where SQS can't be asked.
    """

    def allowed(queue: str, *flags: str, said: str = "") -> dict[str, list[str]]:
        done = check.text("--print-iam-policy", *flags, queue=queue)
        assert done.returncode == 0, done.stderr
        assert said in done.stderr if said else not done.stderr
        policy = json.loads(done.stdout)
        assert policy["Version"] == "2012-10-17"
        return {
            ",".join(sorted(action.removeprefix("sqs:") for action in one["Action"])): one["Resource"]
            for one in policy["Statement"]
        }

    plain = "DeleteMessage,GetQueueAttributes,GetQueueUrl,ReceiveMessage"
    assert allowed("events") == {plain: [f"{ARN}events"]}
    assert allowed("events", "--sqs.on-invalid", "leave") == {plain: [f"{ARN}events"]}
    assert allowed(check.sqs.queue_url) == {"DeleteMessage,GetQueueAttributes,ReceiveMessage": [f"{ARN}events"]}
    check.sqs.create_queue("dead.fifo", attributes={"FifoQueue": "true"})
    policy = json.dumps({"deadLetterTargetArn": f"{ARN}dead.fifo", "maxReceiveCount": 20})
    url = "https://sqs.eu-west-1.amazonaws.com/999999999999/elsewhere"
    assert allowed(url, said="the policy leaves out what its KMS key and dead-letter queue need") == {
        "DeleteMessage,GetQueueAttributes,ReceiveMessage": ["arn:aws:sqs:eu-west-1:999999999999:elsewhere"]
    }
    check.sqs.create_queue("orders.fifo", attributes={"FifoQueue": "true", "RedrivePolicy": policy})
    assert allowed("orders.fifo") == {
        plain: [f"{ARN}orders.fifo"],
        "ChangeMessageVisibility": [f"{ARN}orders.fifo"],
        "GetQueueAttributes,GetQueueUrl": [f"{ARN}dead.fifo"],
    }
    assert allowed("eve*") == {
        "DeleteMessage,GetQueueAttributes,GetQueueUrl,ListDeadLetterSourceQueues,ReceiveMessage": [f"{ARN}eve*"],
        "ListQueues": ["*"],
    }
    check.sqs.create_queue("secret", attributes={"KmsMasterKeyId": "alias/shop"})
    done = check.text("--print-iam-policy", queue="secret")
    statement = json.loads(done.stdout)["Statement"][-1]
    assert statement["Action"] == ["kms:Decrypt"]
    assert statement["Resource"] == ["arn:aws:kms:us-east-1:123456789012:key/*"]
    assert statement["Condition"]["ForAnyValue:StringEquals"] == {"kms:ResourceAliases": "alias/shop"}
