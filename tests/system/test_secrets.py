"""No body, receipt handle, credential or password is in a log, an error, a summary or a page, whatever goes wrong.

Each test puts a word of its own where a secret is, and looks for it in all that the real program says at debug level.
"""

from __future__ import annotations

import http.client
import json
import time
from base64 import b64encode
from contextlib import closing
from typing import TYPE_CHECKING

import bcrypt
import pytest
from exporter_process import POLL_SECONDS, ExporterProcess
from fake_sqs import FakeSqs
from otlp_receiver import OtlpReceiver

from exporter.errors import WrongSettingError
from exporter.web.config import read_web_config

if TYPE_CHECKING:
    from pathlib import Path

SECRET = "Tr0ub4dor-and-3"  # noqa: S105 - it is looked for, and opens nothing
HANDLE = "AQEBwJnKyrHig"
"""What every receipt handle of the fake SQS begins with."""
QUICK_END = ("--shutdown.timeout", "100ms")
PAGES = ("/", "/metrics", "/-/ready", "/-/healthy", "/nothing")
BODIES = [
    f"plain {SECRET}",
    f'{{"type": "{SECRET}\\n", "value": 1}}',
    f'{{"type": "a", "value": "{SECRET}"}}',
    f'{{"type": "a", "value": 1, "card": "{SECRET}", "occurred_at": "{SECRET}"}}',
    f'["{SECRET}"]',
    f'{{"{SECRET}": 1}}',
    f'{{"type": "a", "value": 1, "card": "{SECRET}"',
]


def everything_said(exporter: ExporterProcess, pages: list[str]) -> str:
    """Return all lines of stdout and stderr, and the pages."""
    return "\n".join([*exporter.stdout, *exporter.stderr, *pages])


def keeps_secret(exporter: ExporterProcess, pages: list[str], *others: str) -> None:
    """Assert that neither the secret nor one of the others was said, in any writing of it."""
    said = everything_said(exporter, pages)
    for secret in (SECRET, *others):
        for written in (secret, json.dumps(secret)[1:-1], repr(secret)[1:-1], secret.encode().hex()):
            assert written not in said, [line[:300] for line in said.splitlines() if written in line]


def pages_of(exporter: ExporterProcess) -> list[str]:
    """Fetch all pages."""
    return [exporter.get(path)[1] for path in PAGES]


def test_what_is_in_bodies_and_receipt_handles_is_never_said(tmp_path: Path) -> None:
    """Rejected, counted, released or not deleted: a body's length and hash are all that logs, pages and traces have."""
    with FakeSqs() as sqs, OtlpReceiver() as receiver:
        sqs.send(
            BODIES,
            message_attributes={"traceparent": {"DataType": "String", "StringValue": SECRET}},
            system_attributes={"AWSTraceHeader": f"Root={SECRET}"},
        )
        told = f"The handle {HANDLE} is not valid"
        sqs.fault("error", "DeleteMessageBatch", times=1, code="ReceiptHandleIsInvalid", message=told, status=400)
        sqs.fault("failed_entries", times=1, entries=3)
        sqs.fault("truncated", "ReceiveMessage", times=1)
        environment = sqs.environment | receiver.environment
        with ExporterProcess(environment, tmp_path / "ledger.db", "--log.level", "debug", *QUICK_END) as exporter:
            sqs.wait_until(lambda account: account.faults.get("truncated") == 1)
            sqs.fault("wrong_md5", times=1, only_first=True)
            sqs.advance(31)
            exporter.wait_for(lambda scrape: scrape.received > 0)
            sqs.advance(31)
            exporter.wait_for(lambda scrape: scrape.counted == 1 and scrape.rejected == 6)
            sqs.wait_until(lambda account: account.deleted == len(BODIES))
            pages = pages_of(exporter)
            exporter.terminate()
            reasons = {line.get("reason") for line in exporter.log}
            assert {"invalid_json", "invalid_type", "not_an_object", "malformed", "md5_mismatch"} <= reasons
            assert receiver.spans
            assert receiver.pushed
            keeps_secret(exporter, [*pages, str(receiver.spans), str(receiver.pushed)], HANDLE)


def proxy(port: int | str) -> dict[str, str]:
    """Return the settings of a proxy with a password."""
    url = f"http://somebody:{SECRET}@127.0.0.1:{port}"
    return {"HTTP_PROXY": url, "http_proxy": url, "NO_PROXY": "", "no_proxy": ""}


SETTINGS: dict[str, dict[str, str]] = {
    "a proxy that is not there": proxy(9),
    "a proxy at a port that is no number": proxy("none"),
    "a session token": {"AWS_SESSION_TOKEN": SECRET},
    "a session token with a line break": {"AWS_SESSION_TOKEN": f"{SECRET}\nx"},
    "a secret key with a line break": {"AWS_SECRET_ACCESS_KEY": f"{SECRET}\n"},
    "an access key that no header can hold": {"AWS_SECRET_ACCESS_KEY": SECRET, "AWS_ACCESS_KEY_ID": "\N{SNOWMAN}"},
    "a secret key without its access key": {"AWS_SECRET_ACCESS_KEY": SECRET, "AWS_ACCESS_KEY_ID": ""},
    "a password in the endpoint": {"AWS_ENDPOINT_URL_SQS": f"http://somebody:{SECRET}@127.0.0.1:9"},
    "a password in an endpoint without a scheme": {"AWS_ENDPOINT_URL_SQS": f"somebody:{SECRET}@127.0.0.1"},
    "a password in an endpoint whose port is no number": {"AWS_ENDPOINT_URL": f"http://u:{SECRET}@127.0.0.1:none"},
    "a token in the endpoint's query": {"AWS_ENDPOINT_URL_SQS": f"http://127.0.0.1:9/?token={SECRET}"},
    "a password in the queue's URL": {"SQS_QUEUE_NAME": f"http://somebody:{SECRET}@127.0.0.1/1/events"},
    "a password of no setting": {"EXPORTER_WEB__PASSWORD": SECRET},
    "headers of OpenTelemetry": {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"}
    | {"OTEL_EXPORTER_OTLP_HEADERS": f"authorization=Bearer%20{SECRET}"},
    "headers of OpenTelemetry that can't be read": {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"}
    | {"OTEL_EXPORTER_OTLP_HEADERS": f"authorization: Bearer {SECRET}"},
    "a password in OpenTelemetry's endpoint": {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://somebody:{SECRET}@127.0.0.1:9"},
}


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_settings_that_hold_a_secret_fail_without_it(tmp_path: Path, settings: dict[str, str]) -> None:
    """Right ones, wrong ones and unusable ones, against an SQS that denies everything and repeats what it was told."""
    with FakeSqs() as sqs:
        sqs.fault("error", code="AccessDenied", message=f"You sent {SECRET}\nThe secret is {SECRET}", status=403)
        command = "--queue" if "SQS_QUEUE_NAME" in settings else "--log.format"
        value = settings.get("SQS_QUEUE_NAME", "json")
        flags = ("--log.level", "debug", *QUICK_END, command, value)
        with ExporterProcess({**sqs.environment, **settings}, tmp_path / "l.db", *flags, start=False) as exporter:
            exporter.launch()
            pages = until_it_failed(exporter)
            assert len(exporter.stderr) > 0
            keeps_secret(exporter, pages)


def until_it_failed(exporter: ExporterProcess) -> list[str]:
    """Wait until the program has ended, or says why it can't receive; return its pages, and end it."""
    deadline = time.monotonic() + 20
    while exporter.running and not any("waiting for the queue" in line for line in exporter.stderr):
        assert time.monotonic() < deadline, exporter.last_lines
        time.sleep(POLL_SECONDS)
    if not exporter.running:
        exporter.wait()
        return []
    pages = pages_of(exporter)
    exporter.terminate()
    return pages


def test_what_sqs_repeats_of_the_credentials_is_not_said(tmp_path: Path) -> None:
    """A receive and a delete that are denied, with the session token and the secret key in what SQS says about it."""
    with FakeSqs() as sqs:
        environment = {**sqs.environment, "AWS_SESSION_TOKEN": SECRET}
        key = environment["AWS_SECRET_ACCESS_KEY"]
        sqs.send(['{"type": "a", "value": 1}'])
        sqs.fault("error", "ReceiveMessage", times=2, code="AccessDenied", message=f"No: {SECRET} {key}", status=403)
        sqs.fault("error", "DeleteMessageBatch", times=2, code="KmsDisabled", message=f"No: {key}", status=400)
        with ExporterProcess(environment, tmp_path / "ledger.db", "--log.level", "debug", *QUICK_END) as exporter:
            sqs.wait_until(lambda account: account.faults.get("error", 0) >= 3, 20)
            pages = pages_of(exporter)
            exporter.terminate()
            assert {"access_denied", "kms"} <= {line.get("reason") for line in exporter.log}
            keeps_secret(exporter, pages, key)


WEB_FILES = {
    "a password instead of its hash": f"basic_auth_users:\n  admin: {SECRET}\n",
    "a password as all of it": f"basic_auth_users: {SECRET}\n",
    "half a hash": f"basic_auth_users:\n  admin: $2y$10${SECRET}\n",
    "no YAML": f"basic_auth_users: [{SECRET}\n",
    "quotes that do not end": f'basic_auth_users:\n  admin: "{SECRET}\n',
    "a list": f"basic_auth_users:\n  - {SECRET}\n",
    "a key as text": f"tls_server_config:\n  cert_file: nowhere.pem\n  key_file: nowhere.key\n  key: {SECRET}\n",
}


@pytest.mark.parametrize("text", WEB_FILES.values(), ids=WEB_FILES)
def test_a_wrong_web_file_is_refused_without_what_it_holds(tmp_path: Path, text: str) -> None:
    """The line that is wrong is named, and its key; the value is not."""
    file = tmp_path / "web.yml"
    file.write_text(text)
    with pytest.raises(WrongSettingError, match=r"web\.yml:") as error:
        read_web_config(str(file))
    assert SECRET not in str(error.value)


def page(exporter: ExporterProcess, path: str, user: str) -> tuple[int, str]:
    """Return status, headers and body of a page that is asked for by a user with a password."""
    connection = http.client.HTTPConnection("127.0.0.1", exporter.port, timeout=5)
    with closing(connection):
        connection.request("GET", path, headers={"Authorization": f"Basic {b64encode(user.encode()).decode()}"})
        answer = connection.getresponse()
        return answer.status, f"{answer.headers}{answer.read().decode()}"


def test_a_web_password_is_neither_logged_nor_shown(tmp_path: Path) -> None:
    """Neither the right one, nor a wrong one, nor the hash is said by the program that asks for it."""
    hashed = bcrypt.hashpw(SECRET.encode(), bcrypt.gensalt(4)).decode()
    file = tmp_path / "web.yml"
    file.write_text(f"basic_auth_users:\n  admin: {hashed}\n")
    with FakeSqs() as sqs:
        flags = ("--web.config.file", str(file), "--log.level", "debug", *QUICK_END)
        with ExporterProcess(sqs.environment, tmp_path / "l.db", *flags) as exporter:
            users = (f"admin:{SECRET}", f"admin:{SECRET}!", f"{SECRET}:x", SECRET)
            answers = [page(exporter, path, user) for path in PAGES for user in users]
            assert {status for status, _ in answers} - {503} == {200, 401, 404}
            exporter.terminate()
            keeps_secret(exporter, [text for _, text in answers], hashed)
