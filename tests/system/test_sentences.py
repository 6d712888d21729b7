"""What the program says when something is not as it should be: true, in one sentence, with the way out."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from types import MappingProxyType
from typing import IO, TYPE_CHECKING

import pytest
from exporter_process import INHERITED, PROGRAM, ExporterProcess
from fake_sqs import FakeSqs
from stub_endpoint import stub_sqs

from exporter.cli.main import main
from exporter.errors import LedgerError
from exporter.ledger.sqlite.ledger import SqliteLedger
from exporter.sqs.aws import connect

if TYPE_CHECKING:
    from collections.abc import Mapping

AWS = {
    "AWS_ACCESS_KEY_ID": "AKIDEXAMPLE",
    "AWS_SECRET_ACCESS_KEY": "hunter2",
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    "NO_PROXY": "127.0.0.1",
}
GIT = shutil.which("git") or "git"
EVENT = '{"type": "purchase", "value": 12.55, "occurred_at": "2020-10-06 10:02:05"}'
URL = "https://sqs.eu-west-1.amazonaws.com/123456789012/orders"


def program(
    *arguments: str,
    stdout: int | IO[bytes] = subprocess.PIPE,
    environment: Mapping[str, str] = MappingProxyType({}),
) -> subprocess.CompletedProcess[str]:
    """Run the program to its end."""
    inherited = {name: os.environ[name] for name in INHERITED if name in os.environ}
    return subprocess.run(
        [str(PROGRAM), *arguments],
        env={**inherited, **AWS, **environment},
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(
    ("arguments", "environment", "sentence"),
    [
        (
            ["produce", "--queue", "orders", "--count", "1"],
            {"AWS_REGION": "eu-west-1", "AWS_ENDPOINT_URL_SQS": "htp://127.0.0.1:9324"},
            "is 'htp://127.0.0.1:9324': use a URL such as http://localhost:9324",
        ),
        (
            ["peek", "--queue", "orders"],
            {"AWS_REGION": "eu-west-1", "AWS_ENDPOINT_URL_SQS": "foo"},
            "(AWS_ENDPOINT_URL_SQS, AWS_ENDPOINT_URL or endpoint_url in ~/.aws/config) is 'foo': use a URL such as",
        ),
        (
            ["run", "--queue", "orders"],
            {},
            "No AWS region is set: set AWS_REGION, or region in the AWS profile, or give --queue as an AWS URL",
        ),
        (
            ["run", "--queue", "orders", "--summary.interval", "10"],
            {},
            "use a duration up to 1d, such as 10s (10 of what? 10s are seconds, 10m minutes)",
        ),
        (
            ["peek", "--queue", "a", "--count", "1", "--count", "2"],
            {},
            "--count is given 2 times, as '1,2': it takes one value, give it once",
        ),
    ],
)
def test_a_wrong_setting_is_named_with_what_would_be_right(
    arguments: list[str], environment: dict[str, str], sentence: str
) -> None:
    """Exit code 2 and one line on stderr."""
    done = program(*arguments, environment=environment)
    assert done.returncode == 2, done.stderr
    assert sentence in done.stderr
    assert done.stderr.count("\n") == 1


def test_https_to_a_plain_port_is_not_called_a_matter_of_certificates() -> None:
    """The way out is the port or the scheme, not a CA bundle."""
    with stub_sqs() as plain:
        endpoint = plain.url.replace("http:", "https:")
        for command in (["produce"], ["peek"], ["check", "--web.listen-address", "127.0.0.1:0"]):
            done = program(
                *command, "--queue", "events", environment={"AWS_REGION": "us-east-1", "AWS_ENDPOINT_URL_SQS": endpoint}
            )
            assert done.returncode == 1
            assert "was not answered in TLS: correct the port, or write http://" in done.stderr + done.stdout
            assert "AWS_CA_BUNDLE" not in done.stderr + done.stdout


def test_a_queues_url_says_its_region(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a region in the settings it is taken, and where another one is set the queue is asked in its own."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in AWS.items():
        monkeypatch.setenv(name, value)
    assert connect(queues=[URL]).for_queue(URL).region == "eu-west-1"
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    connection = connect(queues=[URL])
    assert connection.region == "us-east-1"
    assert connection.for_queue(URL).region == "eu-west-1"
    assert connection.for_queue(URL).endpoint_url == "https://sqs.eu-west-1.amazonaws.com"


def test_a_directory_that_may_not_be_written_names_the_uid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a container it is 10001, which is what the volume has to belong to."""
    path = tmp_path / "ledger.db"
    SqliteLedger(str(path)).close()
    monkeypatch.setattr(os, "access", lambda *_, **__: False)
    monkeypatch.setattr(os, "geteuid", lambda: 10001)
    with pytest.raises(LedgerError, match=r"writable for this process \(uid 10001\)"):
        SqliteLedger(str(path))


def test_a_second_process_says_at_once_that_it_waits_for_the_ledger(tmp_path: Path) -> None:
    """And ends with the reason where the first one does not."""
    with FakeSqs() as sqs, ExporterProcess(sqs.environment, tmp_path / "ledger.db") as first:
        second = ExporterProcess(sqs.environment, tmp_path / "ledger.db", start=False)
        with second:
            second.launch()
            deadline = time.monotonic() + 20
            while not any(line["msg"].startswith("another process has the ledger") for line in second.log):
                assert time.monotonic() < deadline, second.last_lines
                time.sleep(0.05)
            assert second.wait(40) == 2
            assert "is used by another process" in second.last_lines
        first.terminate()


def test_a_normal_stop_is_no_warning_and_says_what_was_counted(tmp_path: Path) -> None:
    """The last line is `stopped`, with the counts."""
    with FakeSqs() as sqs, ExporterProcess(sqs.environment, tmp_path / "ledger.db") as exporter:
        sqs.send([EVENT] * 3)
        exporter.wait_for(lambda scrape: scrape.counted == 3)
        started = len(exporter.log)
        assert exporter.terminate() == 0
        stopping = exporter.log[started:]
    assert [line["level"] for line in stopping if line["level"] not in {"info", "debug"}] == []
    assert stopping[-1]["msg"] == "stopped"
    assert (stopping[-1]["events"], stopping[-1]["received"]) == (3, 3)


def test_the_revision_is_known_in_a_checkout() -> None:
    """`--version` names the commit where git knows it."""
    root = Path(__file__).parents[2]
    asked = subprocess.run([GIT, "-C", str(root), "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    if asked.returncode:
        pytest.skip("this is no checkout of git")
    assert f"(revision {asked.stdout[:12]}, Python" in program("--version").stdout


@pytest.mark.parametrize(("module", "exit_code"), [("yaml", -signal.SIGINT), ("boto3", 130)])
def test_an_early_ctrl_c_leaves_no_traceback(tmp_path: Path, module: str, exit_code: int) -> None:
    """While it is still importing a SIGINT ends the program with nothing on stderr, whatever it has got to."""
    importing = tmp_path / "importing"
    os.mkfifo(importing)
    (tmp_path / f"{module}.py").write_text(f"import time\nopen({str(importing)!r}, 'w').close()\ntime.sleep(60)\n")
    with subprocess.Popen(
        [str(PROGRAM), "run", "--queue", "orders", "--ledger.path", "/nonexistent/ledger.db"],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(tmp_path)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        importing.read_bytes()  # ends when the module, as it stands here, is being imported
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (exit_code, "")


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["--version"],
        ["check", "--queue", "events", "--web.listen-address", "127.0.0.1:0"],
        ["peek", "--queue", "events"],
        ["produce", "--queue", "events", "--count", "20"],
        ["ledger", "show"],
        ["ledger", "export"],
    ],
    ids=" ".join,
)
def test_a_full_stdout_is_a_sentence(arguments: list[str], tmp_path: Path) -> None:
    """Exit code 1 and no traceback, also where it is argparse that writes; a closed one is no error."""
    SqliteLedger(str(tmp_path / "ledger.db")).close()
    with FakeSqs() as sqs:
        sqs.send([EVENT] * 20)
        environment = {**sqs.environment, "EXPORTER_LEDGER__PATH": str(tmp_path / "ledger.db")}
        with Path("/dev/full").open("wb") as full:
            done = program(*arguments, stdout=full, environment=environment)
        assert "Traceback" not in done.stderr
        assert done.returncode == 1
        assert "stdout can't be written: No space left on device" in done.stderr
        closed = subprocess.run(
            ["/bin/sh", "-c", 'exec "$@" >&-', "sh", str(PROGRAM), *arguments],
            env={"PATH": os.environ["PATH"], **AWS, **environment},
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            check=False,
        )
        assert "Traceback" not in closed.stderr
        assert closed.returncode == 0


def test_what_stdout_has_no_letter_for_is_escaped(tmp_path: Path) -> None:
    """A path that is no text, and one with letters that the encoding lacks."""
    for name, encoding, said in (("\udcff.db", "utf-8", r"\udcff.db"), ("l\xe4ger.db", "ascii", r"l\xe4ger.db")):
        SqliteLedger(str(tmp_path / name)).close()
        done = program(
            "ledger", "show", "--ledger.path", str(tmp_path / name), environment={"PYTHONIOENCODING": encoding}
        )
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.startswith(f"{tmp_path}/{said}: ledger ")


def test_without_a_place_for_temporary_files_a_demo_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As in a container whose file system is read-only."""
    monkeypatch.setattr(tempfile, "tempdir", "/nowhere")
    assert main(["demo"]) == 1
    said = "there is no place for temporary files (No such file or directory): set TMPDIR to a directory that can be"
    assert said in capsys.readouterr().err


def test_a_service_named_exporter_is_no_setting() -> None:
    """Kubernetes sets EXPORTER_PORT and its like for it; an unknown name with `__` is still a wrong one."""
    done = program(
        "check",
        "--queue",
        "a",
        environment={"AWS_REGION": "r", "EXPORTER_PORT": "tcp://10.0.0.1:9797", "EXPORTER_X__Y": "1"},
    )
    assert done.returncode == 2
    assert "EXPORTER_X__Y is not a setting" in done.stderr
