"""The command line speaks to people: help, one sentence for what is wrong, and an exit code."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from exporter.cli import main as cli
from exporter.cli.build import this_build
from exporter.cli.command_line import read_command_line
from exporter.settings import Settings
from exporter.settings.setting import setting_fields

PROGRAM = str(Path(sys.executable).with_name("sqs-event-exporter"))
AWS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "hunter2", "AWS_REGION": "eu-west-1"}


@pytest.fixture(autouse=True)
def no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget what happens to be set where the tests run."""
    for name in os.environ:
        if name.startswith(("EXPORTER_", "AWS_", "SQS_")) or name in {"LOG_LEVEL", "COLUMNS"}:
            monkeypatch.delenv(name)
    monkeypatch.setenv("NO_COLOR", "1")


def test_no_arguments_show_the_help_and_are_wrong(capsys: pytest.CaptureFixture[str]) -> None:
    """Who starts it without a command learns which there are, and a script sees that nothing ran."""
    assert cli.main([]) == 2
    out, err = capsys.readouterr()
    assert not err
    assert all(f"    {command}" in out for command in ("run", "demo", "produce", "check", "peek"))


def test_the_version_names_program_version_revision_and_python(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Enough for a bug report."""
    monkeypatch.setenv("SQS_EVENT_EXPORTER_REVISION", "0ddba11")
    this_build.cache_clear()
    assert cli.main(["--version"]) == 0
    python = ".".join(map(str, sys.version_info[:3]))
    said = capsys.readouterr().out
    assert said.startswith(f"sqs-event-exporter {version('sqs-event-exporter')} (revision 0ddba11, Python {python}")


def test_the_help_of_run_shows_every_flag_with_its_variable_and_default(capsys: pytest.CaptureFixture[str]) -> None:
    """Nobody has to look anywhere else for what can be set."""
    assert cli.main(["run", "--help"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    for field in setting_fields(Settings):
        assert re.search(rf" {re.escape(field.setting.flag)} .*?\b{field.setting.variable}\)", text), field.setting.flag
    for default in ("default 16,", "default ledger.db,", "default 1h,", "default 127.0.0.1:9797,", "default off,"):
        assert default in text


def test_each_command_has_the_flags_that_mean_something_to_it(capsys: pytest.CaptureFixture[str]) -> None:
    """A demo has no queue to name, and its ledger is no variable's; produce has no ledger."""
    flags = {}
    for command in cli.COMMANDS:
        assert cli.main([command, "--help"]) == 0
        text = capsys.readouterr().out
        flags[command] = set(re.findall(r"^  (--[a-z.-]+)", text, re.MULTILINE))
        assert ("EXPORTER_LEDGER__PATH" in text) == (command in {"run", "check"} or command.startswith("ledger "))
    assert flags["run"] - flags["demo"] == {"--queue", "--until-empty"}
    assert flags["run"] - flags["check"] == {"--until-empty", "--until-empty-timeout"}
    assert flags["check"] - flags["run"] == {"--format", "--receive", "--print-iam-policy"}
    own = {"--rate", "--count", "--seed", "--invalid-fraction", "--duplicate-fraction", "--event-ids"}
    assert flags["produce"] == own | {"--queue", "--config.file", "--log.level", "--log.format"}
    assert {"--count", "--force", "--queue"} < flags["peek"]
    assert {"--from", "--ledger.path", "--ledger.name"} < flags["ledger restore"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["start"], "there is no command 'start': use run, demo, produce, check, peek or ledger"),
        (
            ["ledger"],
            (
                "what to do with the ledger is missing: use ledger show, verify, backup, restore, export, import, "
                "forget-type or rebind"
            ),
        ),
        (["--queue", "a"], "the command before '--queue' is missing: use run, demo, produce, check, peek or ledger"),
        (["run", "--quueue", "a"], "run has no '--quueue'; did you mean --queue?"),
        (["run", "--queue", "a", "--secret=hunter2"], "run has no '--secret'; see sqs-event-exporter run --help"),
        (["run", "--que", "a"], "run has no '--que'; did you mean --queue?"),
        (["demo", "--queue", "a"], "demo has no '--queue'; did you mean --queues?"),
        (
            ["run", "--queue", "a", "--log.level", "info", "--log.level", "warn"],
            "--log.level is given 2 times, as 'info,warn': it takes one value, give it once",
        ),
        (["run", "--queue", "a", "b"], "run has no 'b'; see sqs-event-exporter run --help"),
        (
            ["run", "--queue", "a", "--sqs.max-receives"],
            "--sqs.max-receives has no value: use a whole number from 1 to 256",
        ),
        (
            ["run", "--queue", "a", "--sqs.max-receives", "0"],
            "--sqs.max-receives is '0': use a whole number from 1 to 256",
        ),
        (
            ["run", "--queue", "a", "--events.require-timestamp=maybe"],
            "--events.require-timestamp is 'maybe': use true or false",
        ),
        (["run", "--queue", "a", "--until-empty=x"], "--until-empty is 'x': use true or false"),
        (["produce", "--queue", "a", "--rate", "nan"], "--rate is 'nan': use a number from 0.000001 to 1000000"),
        (["produce", "--queue", "a", "--rate", "1e-11"], "--rate is '1e-11': use a number from 0.000001 to 1000000"),
        (["produce", "--queue", "a", "--count", "0"], "--count is '0': use a whole number from 1 to 1000000000000"),
        (
            ["produce", "--queue", "a", "--count", "10000000000000000000"],
            "--count is '10000000000000000000': use a whole number from 1 to 1000000000000",
        ),
        (["produce", "--queue", "a", "--seed", "x"], "--seed is 'x': use a whole number"),
        (
            ["produce", "--queue", "a", "--invalid-fraction", "1.1"],
            "--invalid-fraction is '1.1': use a number from 0 to 1",
        ),
        (
            ["produce", "--queue", "a", "--duplicate-fraction", "-1"],
            "--duplicate-fraction is '-1': use a number from 0 to 1",
        ),
        (["peek", "--queue", "a", "--count", "0"], "--count is '0': use a whole number from 1 to 1000"),
        (
            ["run"],
            "--queue is missing: set it, SQS_QUEUE_NAME or 'queue' in --config.file",
        ),
    ],
)
def test_what_is_wrong_is_said_in_one_sentence(
    arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Wrong usage ends with exit code 2, one line on stderr and nothing on stdout."""
    assert cli.main(arguments) == 2
    assert capsys.readouterr() == ("", f"sqs-event-exporter: {sentence}\n")


def test_a_switch_needs_no_value() -> None:
    """`--until-empty` alone is `--until-empty=true`; `=false` takes back what a file says."""
    read = read_command_line(["run", "--until-empty", "--events.require-timestamp=false"], cli.COMMANDS)
    assert read is not None
    assert read.settings == {"until-empty": "true", "events.require-timestamp": "false"}


def test_a_wrong_variable_ends_the_program_without_a_traceback() -> None:
    """As it is started by people: the installed program, its exit code and what it wrote."""
    ended = subprocess.run(
        [PROGRAM, "run", "--queue", "orders"],
        env={**os.environ, "EXPORTER_WEB__LISTEN_ADDRESS": "nowhere"},
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr == (
        "sqs-event-exporter: the environment variable EXPORTER_WEB__LISTEN_ADDRESS is 'nowhere': "
        "use host:port, such as 127.0.0.1:9797, :9797 or [::1]:9797\n"
    )


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_reader_that_goes_away_is_no_error_to_talk_about(unbuffered: str) -> None:
    """`sqs-event-exporter run --help | head -1` says nothing on stderr."""
    read_end, write_end = os.pipe()
    os.close(read_end)
    try:
        ended = subprocess.run(
            [PROGRAM, "run", "--help"],
            env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
            stdout=write_end,
            stderr=subprocess.PIPE,
            check=False,
            timeout=30,
        )
    finally:
        os.close(write_end)
    # Some versions of argparse forgive a write that fails.
    assert ended.returncode in ({0, 128 + signal.SIGPIPE} if unbuffered else {128 + signal.SIGPIPE})
    assert ended.stderr == b""


def test_ctrl_c_ends_it_without_a_traceback() -> None:
    """While SQS is silent, a SIGINT ends the program at once, as a shell expects it."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with subprocess.Popen(
            [PROGRAM, "produce", "--queue", "orders"],
            env={**os.environ, **AWS, "AWS_ENDPOINT_URL_SQS": endpoint, "AWS_EC2_METADATA_DISABLED": "true"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as program:
            silent.settimeout(30)
            connection, _ = silent.accept()
            with connection:
                program.send_signal(signal.SIGINT)
                out, err = program.communicate(timeout=10)
    assert (program.returncode, out, err) == (128 + signal.SIGINT, b"", b"")
