"""The main job as an operator meets it: the real program, a real SQS protocol, real signals."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from exporter_process import ExporterProcess
from fake_sqs import FakeSqs

EVENT = '{"type": "purchase", "value": 12.55, "occurred_at": "2020-10-06 10:02:05"}'


def summary_of(exporter: ExporterProcess) -> dict[str, dict[str, object]]:
    """Return the last summary line of each type."""
    return {line["type"]: line for line in map(json.loads, exporter.stdout)}


def test_a_backlog_is_counted_exactly_on_every_surface(tmp_path: Path) -> None:
    """What was sent, valid and invalid, is what the log's end, stdout and a restarted exporter's /metrics say."""
    with FakeSqs() as sqs:
        sqs.load(5_000, seed=7, invalid_fraction=0.2)
        with ExporterProcess(sqs.environment, tmp_path / "ledger.db", "--until-empty") as exporter:
            assert exporter.wait(60) == 0
            account = sqs.account()
            assert (account.available, account.in_flight, account.deleted) == (0, 0, 5_000)
            assert summary_of(exporter) == {
                name: {"type": name, "count": totals.count, "sum": totals.value - totals.negative}
                for name, totals in account.types.items()
            }
        with ExporterProcess(sqs.environment, tmp_path / "ledger.db") as restarted:
            assert restarted.scrape().agrees_with(account)
            starting = restarted.log[0]
            assert starting["events_taken_up"] == sum(totals.count for totals in account.types.values())
            assert starting["types_taken_up"] == len(account.types)
            assert {"version", "queue", "endpoint", "ledger"} <= starting.keys()


def test_until_empty_does_not_end_while_deletes_are_denied(tmp_path: Path) -> None:
    """A queue whose messages come back is not empty, even when none is left to be received just now."""
    with FakeSqs(attributes={"VisibilityTimeout": "2"}) as sqs:
        sqs.fault("error", "DeleteMessageBatch", code="AccessDeniedException")
        sqs.send([EVENT] * 5)
        with ExporterProcess(sqs.environment, tmp_path / "ledger.db", "--until-empty") as exporter:
            exporter.wait_for(lambda scrape: scrape.counted == 5)
            sqs.wait_until(lambda account: account.available == 5)
            with pytest.raises(subprocess.TimeoutExpired):
                exporter.wait(1)
            assert "sqs:DeleteMessage" in exporter.wait_until_ready(ready=False)


def test_duplicates_inside_and_across_batches_count_once(tmp_path: Path) -> None:
    """A fifth of all messages handed out twice, and some back after a confirmed delete, change no count."""
    with FakeSqs(duplicate_in_batch=0.2, duplicate_across_batches=0.2) as sqs:
        sqs.load(2_000, seed=3)
        with ExporterProcess(sqs.environment, tmp_path / "ledger.db") as exporter:
            scrape = exporter.wait_for(lambda scrape: scrape.counted == 2_000)
            account = sqs.wait_until(lambda account: account.deleted == 2_000)
            assert account.duplicates > 0
            scrape = exporter.wait_for(lambda scrape: scrape.received == sqs.account().deliveries)
            assert scrape.agrees_with(account)
            assert scrape.duplicate == scrape.received - 2_000


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_in_a_long_poll_ends_it_in_order_within_five_seconds(tmp_path: Path, number: signal.Signals) -> None:
    """In the middle of a 20-second long poll what still arrives is counted and deleted, and the exit code is 0."""
    with FakeSqs() as sqs:
        sqs.send([EVENT] * 3)
        with ExporterProcess(sqs.environment, tmp_path / "ledger.db") as exporter:
            exporter.wait_for(lambda scrape: scrape.counted == 3)
            sqs.wait_until(lambda account: account.deleted == 3 and account.waiting_receives == 1)
            started = time.monotonic()
            exporter.process.send_signal(number)
            exporter.wait_until_ready(ready=False)
            sqs.send([EVENT])
            assert exporter.wait(10) == 0
            assert time.monotonic() - started < 5
            assert summary_of(exporter)["purchase"]["count"] == 4
            assert sqs.account().deleted == 4
            assert not any("Traceback" in line for line in exporter.stderr)


STOPPED_WHILE_IT_STARTS = """
import os, signal, sys
from exporter.__main__ import main
from exporter.sqs.housekeeping import Housekeeping
start = Housekeeping.start
def start_after_a_signal(housekeeping):
    os.kill(os.getpid(), signal.SIGTERM)
    start(housekeeping)
Housekeeping.start = start_after_a_signal
sys.exit(main())
"""


def test_a_signal_before_the_loop_has_begun_ends_it_in_order(tmp_path: Path) -> None:
    """Whoever stops it as soon as it says that it listens: exit code 0, and the log says `stopped`."""
    ledger, program = tmp_path / "ledger.db", (sys.executable, "-c", STOPPED_WHILE_IT_STARTS)
    with FakeSqs() as sqs, ExporterProcess(sqs.environment, ledger, program=program, start=False) as exporter:
        exporter.launch()
        assert exporter.wait(20) == 0
        assert {"starting", "stopping", "stopped"} <= {line["msg"] for line in exporter.log}


def test_a_second_signal_ends_it_at_once(tmp_path: Path) -> None:
    """Whoever insists is not kept waiting for the shutdown timeout, and the ledger is whole afterwards."""
    with FakeSqs() as sqs:
        sqs.send([EVENT])
        ledger = tmp_path / "ledger.db"
        with ExporterProcess(sqs.environment, ledger, "--shutdown.timeout", "1h") as exporter:
            exporter.wait_for(lambda scrape: scrape.counted == 1)
            sqs.wait_until(lambda account: account.waiting_receives == 1)
            exporter.process.send_signal(signal.SIGTERM)
            exporter.wait_until_ready(ready=False)
            exporter.process.send_signal(signal.SIGTERM)
            assert exporter.wait(2) == -signal.SIGTERM
            exporter.start()
            assert exporter.scrape().counted == 1


def test_a_signal_in_the_middle_of_the_imports_ends_a_containers_first_process(tmp_path: Path) -> None:
    """Process 1 is not ended by a signal that it does not handle: it would be killed when the grace period is over."""
    (tmp_path / "pydantic.py").write_text("import signal; print('importing', flush=True); signal.pause()\n")
    command = [*own_process_ids(), sys.executable, "-m", "exporter", "run"]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "importing\n"
        first = int(Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text())
        os.kill(first, signal.SIGTERM)
        try:
            assert process.wait(10) == 128 + signal.SIGTERM
        finally:
            if process.poll() is None:
                os.kill(first, signal.SIGKILL)


def own_process_ids() -> list[str]:
    """Return the command that runs another one as process 1; skips where that can't be had."""
    for rights in ([], ["--user", "--map-root-user"]):
        command = ["unshare", *rights, "--pid", "--fork"]
        with contextlib.suppress(FileNotFoundError):
            if subprocess.run([*command, "true"], capture_output=True, check=False).returncode == 0:
                return command
    pytest.skip("no namespace of process ids can be made here")


def test_a_queue_that_does_not_exist_yet_is_waited_for_with_one_line(tmp_path: Path) -> None:
    """Until the queue is there one line and /-/ready say so; then its messages are counted without a restart."""
    with FakeSqs(create=False) as sqs, ExporterProcess(sqs.environment, tmp_path / "ledger.db") as exporter:
        sqs.wait_until(lambda account: account.calls.get("GetQueueUrl", 0) >= 4)
        assert "does not exist" in exporter.wait_until_ready(ready=False)
        assert exporter.healthy()
        assert len([line for line in exporter.log if line["msg"] == "waiting for the queue"]) == 1
        sqs.create_queue()
        sqs.send([EVENT])
        exporter.wait_for(lambda scrape: scrape.counted == 1)
        exporter.wait_until_ready()


def test_invalid_messages_are_deleted_or_left_as_the_policy_says(tmp_path: Path) -> None:
    """`auto` deletes where there is no redrive policy, and leaves to it where there is one; counted once either way."""
    with FakeSqs() as sqs:
        sqs.send(["nonsense", EVENT])
        with ExporterProcess(sqs.environment, tmp_path / "deleted.db") as exporter:
            exporter.wait_for(lambda scrape: (scrape.counted, scrape.rejected) == (1, 1))
            sqs.wait_until(lambda account: account.deleted == 2)
    policy = {"deadLetterTargetArn": "arn:aws:sqs:us-east-1:123456789012:dead", "maxReceiveCount": 2}
    with FakeSqs() as sqs:
        sqs.create_queue("dead")
        sqs.create_queue(attributes={"RedrivePolicy": json.dumps(policy), "VisibilityTimeout": "30"})
        sqs.send(["nonsense", EVENT])
        with ExporterProcess(sqs.environment, tmp_path / "left.db") as exporter:
            exporter.wait_for(lambda scrape: (scrape.counted, scrape.rejected) == (1, 1))
            sqs.wait_until(lambda account: account.deleted == 1)
            sqs.advance(31)
            exporter.wait_for(lambda scrape: scrape.duplicate == 1)
            sqs.advance(31)
            sqs.wait_until(lambda account: account.dead_lettered == 1)
            assert exporter.scrape().rejected == 1


def test_leaving_invalid_messages_without_a_redrive_policy_is_refused(tmp_path: Path) -> None:
    """Messages that nobody deletes and nobody moves would come back for ever: one sentence, exit code 2."""
    with FakeSqs() as sqs:
        leave = ("--sqs.on-invalid", "leave")
        with ExporterProcess(sqs.environment, tmp_path / "ledger.db", *leave, start=False) as exporter:
            exporter.launch()
            assert exporter.wait(20) == 2
            assert "redrive policy" in exporter.stderr[-1]


def test_invalid_messages_are_left_where_nobody_knows_of_a_redrive_policy(tmp_path: Path) -> None:
    """Attributes that may not be read are no reason to refuse what was asked for."""
    with FakeSqs() as sqs:
        sqs.fault("error", "GetQueueAttributes", code="AccessDenied", status=403)
        sqs.send(["nonsense", EVENT])
        leave = ("--sqs.on-invalid", "leave")
        with ExporterProcess(sqs.environment, tmp_path / "ledger.db", *leave) as exporter:
            exporter.wait_for(lambda scrape: (scrape.counted, scrape.rejected) == (1, 1))
            sqs.wait_until(lambda account: account.deleted == 1)
            assert exporter.terminate() == 0
        assert sqs.account().in_flight == 1


def test_a_negative_value_and_further_types_keep_totals_exact(tmp_path: Path) -> None:
    """Net is value minus negative, all three series exist for a known type, and types beyond the cap go to one."""
    events = [("refund", "-2.5"), ("refund", "0.1"), ("refund", '"0.2"'), ("extra", "1"), ("late", "7")]
    with FakeSqs() as sqs:
        sqs.send([f'{{"type": "{name}", "value": {value}}}' for name, value in events])
        flags = ("--events.types", "refund,unseen", "--events.max-types", "0", "--summary.interval", "1s")
        with ExporterProcess(sqs.environment, tmp_path / "ledger.db", *flags) as exporter:
            scrape = exporter.wait_for(lambda scrape: scrape.counted == 5)
            assert scrape.by("sqs_events_total", "type") == {"refund": 3, "unseen": 0, "__other__": 2}
            assert scrape.by("sqs_event_value_total", "type") == {"refund": 0.3, "unseen": 0, "__other__": 8}
            assert scrape.by("sqs_event_negative_value_total", "type") == {"refund": 2.5, "unseen": 0, "__other__": 0}
            assert scrape.total("sqs_exporter_timestamps_unreadable_total") == 5
            exporter.terminate()
            assert summary_of(exporter) == {
                "refund": {"type": "refund", "count": 3, "sum": -2.2},
                "__other__": {"type": "__other__", "count": 2, "sum": 8.0},
            }


def test_the_same_name_with_another_arn_is_refused(tmp_path: Path) -> None:
    """A ledger's rows belong to one queue: another one of that name ends the program with one sentence."""
    with FakeSqs() as sqs:
        sqs.send([EVENT])
        with ExporterProcess(sqs.environment, tmp_path / "ledger.db") as exporter:
            exporter.wait_for(lambda scrape: scrape.counted == 1)
            exporter.terminate()
            sqs.create_queue(arn="arn:aws:sqs:us-east-1:210987654321:events")
            exporter.launch()
            assert exporter.wait(20) == 2
            assert "belongs to the queue arn:aws:sqs:us-east-1:123456789012:events" in exporter.stderr[-1]


@pytest.mark.parametrize(
    ("environment", "flags", "named"),
    [
        ({"AWS_REGION": "", "AWS_DEFAULT_REGION": ""}, (), "AWS_REGION"),
        ({"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}, (), "AWS_ACCESS_KEY_ID"),
        ({}, ("--sqs.wait-seconds", "21"), "--sqs.wait-seconds"),
        ({}, ("--web.config.file", "no-such-file.yml"), "no-such-file.yml"),
        ({"EXPORTER_LEDGER__PAHT": "x"}, (), "EXPORTER_LEDGER__PATH"),
    ],
)
def test_a_wrong_setting_ends_it_with_one_sentence_and_exit_code_2(
    tmp_path: Path, environment: dict[str, str], flags: tuple[str, ...], named: str
) -> None:
    """No traceback: the thing that is wrong is named, and nothing is received."""
    with FakeSqs() as sqs:
        sqs.send([EVENT])
        exporter = ExporterProcess({**sqs.environment, **environment}, tmp_path / "ledger.db", *flags, start=False)
        with exporter:
            exporter.launch()
            assert exporter.wait(20) == 2
            assert named in exporter.stderr[-1]
            assert not any("Traceback" in line for line in exporter.stderr)
        assert sqs.account().calls.get("ReceiveMessage", 0) == 0


def test_an_unreadable_ledger_path_and_a_port_in_use_are_named(tmp_path: Path) -> None:
    """Both end the start with exit code 2 and the path or address that is wrong."""
    with FakeSqs() as sqs, socket.create_server(("127.0.0.1", 0)) as taken:
        with ExporterProcess(sqs.environment, tmp_path / "missing" / "ledger.db", start=False) as exporter:
            exporter.launch()
            assert exporter.wait(20) == 2
            assert str(tmp_path / "missing") in exporter.stderr[-1]
        with ExporterProcess(sqs.environment, tmp_path / "ledger.db", start=False) as exporter:
            exporter.port = taken.getsockname()[1]
            exporter.launch()
            assert exporter.wait(20) == 2
            assert f"127.0.0.1:{exporter.port}" in exporter.stderr[-1]
