"""What the housekeeping thread finds out about a queue, and how it says what it can't."""

from __future__ import annotations

import os
import socket
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from calling import Clock
from housekeepers import PATIENCE_SECONDS, housekeeping, wait_until
from moto.server import ThreadedMotoServer
from scripted_server import response, scripted_server
from stub_endpoint import Answer, StubSqs, refusal, stub_sqs

from exporter.errors import WrongSettingError
from exporter.sqs import REASONS, QueueAttributes, QueueDepth
from exporter.sqs.aws import connect
from exporter.sqs.names import queue_name_of
from exporter.sqs.prefixes import SOURCES_SECONDS
from exporter.sqs.schedule import LIMIT_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ACCOUNT = "123456789012"


@pytest.fixture(autouse=True)
def _aws_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith("AWS_") or name.lower().endswith(("_proxy", "ca_bundle")):
            monkeypatch.delenv(name)
    for name, value in {
        "AWS_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "AKIDEXAMPLE",
        "AWS_SECRET_ACCESS_KEY": "a-secret-key",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
    }.items():
        monkeypatch.setenv(name, value)


@pytest.fixture(scope="module")
def moto() -> Iterator[str]:
    """Yield the address of a real implementation."""
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    yield "http://{}:{}".format(*server.get_host_and_port())
    server.stop()


@pytest.fixture
def stub() -> Iterator[StubSqs]:
    """Yield an SQS that has the queue `events` and can be told to answer otherwise."""
    with stub_sqs() as stub:
        stub.answers["GetQueueUrl"] = lambda request: Answer(
            {"QueueUrl": f"{stub.url}/{ACCOUNT}/{request['QueueName']}"}
        )
        stub.answers["GetQueueAttributes"] = lambda _: attributes()
        yield stub


def attributes(**more: Any) -> Answer:  # noqa: ANN401 - mostly text
    """Answer GetQueueAttributes for the queue `events`."""
    return Answer({"Attributes": {"QueueArn": f"arn:aws:sqs:us-east-1:{ACCOUNT}:events"} | more})


def test_a_queue_is_found_by_its_name_with_attributes_and_depth(moto: str) -> None:
    """Against moto: target, attributes and depths are those of the queue and of its dead-letter queue."""
    client = connect(endpoint_url=moto).client
    dead = client.create_queue(QueueName="found-dlq")["QueueUrl"]
    client.send_message(QueueUrl=dead, MessageBody="poison")
    policy = f'{{"deadLetterTargetArn": "arn:aws:sqs:us-east-1:{ACCOUNT}:found-dlq", "maxReceiveCount": 10}}'
    url = client.create_queue(
        QueueName="found",
        Attributes={"VisibilityTimeout": "45", "MessageRetentionPeriod": "7200", "RedrivePolicy": policy},
    )["QueueUrl"]
    for body in ("one", "two", "three"):
        client.send_message(QueueUrl=url, MessageBody=body)
    client.receive_message(QueueUrl=url)
    client.close()
    with housekeeping(moto, "found") as run:
        run.events.next("found")
        wait_until(lambda: run.state.depth == QueueDepth(2, 1, 0, "found-dlq", 1))
        assert run.state.attributes == QueueAttributes(
            name="found",
            arn=f"arn:aws:sqs:us-east-1:{ACCOUNT}:found",
            visibility_timeout_seconds=45,
            retention_seconds=7200,
            dead_letter_queue_arn=f"arn:aws:sqs:us-east-1:{ACCOUNT}:found-dlq",
            max_receive_count=10,
        )
        assert run.state.problem is None
        target = run.state.target
        assert target is not None
        assert (target.queue_url, target.endpoint_url, target.region) == (url, moto, "us-east-1")
        assert target.credentials.access_key == "AKIDEXAMPLE"
        assert "a-secret-key" not in repr(target)


def test_a_queue_that_appears_later_is_waited_for_with_one_line(moto: str) -> None:
    """Against moto: one sentence while the queue is missing, and one when it is there."""
    with housekeeping(moto, "later") as run:
        told = run.events.next("waiting")
        assert told["reason"] == "queue_not_found"
        for part in ('"later"', "us-east-1", moto, "create it", "--queue"):
            assert part in told["error"]
        assert str(run.state.problem) == told["error"]
        assert (run.state.target, run.state.attributes, run.state.depth) == (None, None, None)
        client = connect(endpoint_url=moto).client
        client.create_queue(QueueName="later")
        client.close()
        assert run.events.next("found")["arn"].endswith(":later")
        assert run.state.problem is None
        assert run.events.told.empty()


def test_attributes_are_the_same_object_until_they_change(stub: StubSqs) -> None:
    """Who follows the attributes compares identities, and is told of a change."""
    with housekeeping(stub.url) as run:
        run.events.next("found")
        first = run.state.attributes
        stub.wait_for("GetQueueAttributes", 3)
        assert run.state.attributes is first
        stub.answers["GetQueueAttributes"] = lambda _: attributes(VisibilityTimeout="60")
        assert run.events.next("found")["visibility_timeout_seconds"] == 60


def always(answer: Answer) -> Callable[[dict[str, Any]], Answer]:
    """Return what answers every request like this."""
    return lambda _: answer


REFUSALS = [
    (refusal("InvalidClientTokenId", 403), "credentials"),
    (refusal("ExpiredToken", 400), "credentials"),
    (refusal("SignatureDoesNotMatch", 403), "credentials"),
    (refusal("SignatureDoesNotMatch", 403, "Signature expired: 2020 is now earlier than 2026"), "clock_skew"),
    (refusal("AccessDeniedException", 400), "access_denied"),
    (refusal("RequestThrottled", 403), "throttled"),
    (refusal("KmsAccessDenied"), "kms"),
    (refusal("QueueDoesNotExist"), "queue_not_found"),
    (refusal("SomethingNew"), "request"),
    (refusal("InternalError", 500), "server"),
    (Answer({"__type": "SomethingNew", "message": None}, 400), "request"),
    (Answer({"message": {"text": 5}}, 500), "server"),
    (Answer(b"<html>Sign in to this network</html>"), "malformed"),
    (Answer({}), "malformed"),
    (Answer(b""), "malformed"),
    (Answer(None), "connection"),
]


def test_every_refusal_has_a_bounded_reason_and_a_way_out(stub: StubSqs) -> None:
    """The reason is of the closed set, and the sentence names the queue, region and endpoint but no secret."""
    for answer, reason in REFUSALS:
        stub.answers["GetQueueUrl"] = always(answer)
        with housekeeping(stub.url) as run:
            run.events.next("waiting")
            error = run.state.problem
        assert error is not None
        assert error.reason == reason
        assert reason in REASONS
        for part in ("events", "us-east-1", stub.url):
            assert part in str(error)
        assert f"can't be asked ({reason})" not in str(error)
        assert "a-secret-key" not in str(error)
        assert "\n" not in str(error)


@pytest.mark.parametrize(
    "odd", [{"QueueArn": 5}, {"RedrivePolicy": '{"deadLetterTargetArn": 5, "maxReceiveCount": 3}'}]
)
def test_an_arn_that_is_no_text_is_refused(stub: StubSqs, odd: dict[str, Any]) -> None:
    """Neither the ledger nor the look at a dead-letter queue is given it, and housekeeping goes on."""
    stub.answers["GetQueueAttributes"] = lambda _: attributes(**odd)
    with housekeeping(stub.url) as run:
        assert run.events.next("waiting")["reason"] == "malformed"
        stub.answers["GetQueueAttributes"] = lambda _: attributes()
        run.events.next("found")


def test_a_date_that_no_clock_can_show_is_no_failure() -> None:
    """The skew stays unknown, and the queue is found."""
    arn = f"arn:aws:sqs:us-east-1:{ACCOUNT}:events"
    dated = response({"Attributes": {"QueueArn": arn}}, Date="Mon, 01 Jan 99999999999 00:00:00 GMT")
    with scripted_server(dated) as server:
        url = f"http://127.0.0.1:{server.port}"
        with housekeeping(url, f"{url}/{ACCOUNT}/events") as run:
            run.events.next("found")
            assert run.keeper.clock_skew_seconds is None


def test_a_proxy_that_is_none_is_no_fault_of_the_credentials(stub: StubSqs, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its port can't be read: whoever mends it has to look at the proxy."""
    monkeypatch.setenv("http_proxy", "http://proxy.example:80a")
    with housekeeping(stub.url) as run:
        told = run.events.next("waiting")
    assert told["reason"] == "connection"
    assert "the proxy" in told["error"]


def test_a_token_of_a_role_that_is_not_there_is_named(stub: StubSqs, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where Kubernetes has not mounted it: the credentials are missing, and SQS has not been asked."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ROLE_ARN", f"arn:aws:iam::{ACCOUNT}:role/exporter")
    monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", "/nowhere/token")
    with housekeeping(stub.url) as run:
        told = run.events.next("waiting")
    assert told["reason"] == "credentials"
    assert "No such file or directory: /nowhere/token" in told["error"]


def test_a_dead_letter_queue_that_was_deleted_is_no_longer_said_to_be_left_out(stub: StubSqs) -> None:
    """Nothing is told of a queue that is not there."""
    clock = Clock()
    stub.answers["ListQueues"] = lambda _: Answer({"QueueUrls": [f"{stub.url}/{ACCOUNT}/shop-dead"]})
    sources = {"queueUrls": [f"{stub.url}/{ACCOUNT}/orders"]}
    stub.answers["ListDeadLetterSourceQueues"] = lambda _: Answer(sources)
    with housekeeping(stub.url, "shop-*", monotonic=clock) as run:
        run.events.next('it is the dead-letter queue of "orders"')
        assert set(run.keeper.left_out) == {"shop-dead"}
        stub.answers["ListQueues"] = lambda _: Answer({})
        stub.answers["ListDeadLetterSourceQueues"] = lambda _: refusal("QueueDoesNotExist")
        clock.seconds += SOURCES_SECONDS
        run.keeper.wake("other")
        wait_until(lambda: not run.keeper.left_out)


def test_nobody_listens_at_the_endpoint() -> None:
    """A refused connection is a reason of its own."""
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        with housekeeping(f"http://127.0.0.1:{reserved.getsockname()[1]}") as run:
            assert run.events.next("waiting")["reason"] == "connection"


def test_an_outage_is_told_once_and_so_is_its_end(stub: StubSqs) -> None:
    """While SQS fails the last target stays, so that calls go on trying; nothing is repeated."""
    with housekeeping(stub.url) as run:
        run.events.next("found")
        target = run.state.target
        stub.answers["GetQueueAttributes"] = lambda _: refusal("InternalError", 500)
        assert run.events.next("waiting")["reason"] == "server"
        stub.wait_for("GetQueueAttributes", stub.count("GetQueueAttributes") + 2)
        assert run.state.target is target
        stub.answers["GetQueueAttributes"] = lambda _: attributes()
        run.events.next("can be asked again")
        assert run.state.problem is None
        assert run.events.told.empty()


def test_denied_attributes_leave_the_queue_usable(stub: StubSqs) -> None:
    """Defaults stand in, the ARN comes from the URL, it is said once, and mended as soon as it is granted."""
    stub.answers["GetQueueAttributes"] = lambda _: refusal("AccessDenied", 403)
    with housekeeping(stub.url) as run:
        run.events.next("grant sqs:GetQueueAttributes")
        run.events.next("found")
        assert run.state.attributes == QueueAttributes(
            "events", f"arn:aws:sqs:us-east-1:{ACCOUNT}:events", 30, None, None, assumed=True
        )
        stub.wait_for("GetQueueAttributes", 3)
        assert run.state.target is not None
        assert (run.state.problem, run.state.depth) == (None, None)
        assert run.events.told.empty()
        stub.answers["GetQueueAttributes"] = lambda _: attributes(MessageRetentionPeriod="60", CreatedTimestamp="1")
        assert run.events.next("found")["retention_seconds"] == 60
        stub.wait_for("GetQueueAttributes", stub.count("GetQueueAttributes") + 2)
        assert run.events.told.empty(), "it is the same queue: nobody says that it was made again"


def test_an_unreadable_dead_letter_queue_is_no_problem_of_the_queue(stub: StubSqs) -> None:
    """Its depth is absent, which is said once; the queue's own depth is there."""
    policy = f'{{"deadLetterTargetArn": "arn:aws:sqs:us-east-1:{ACCOUNT}:dead", "maxReceiveCount": 10}}'

    def answer(request: dict[str, Any]) -> Answer:
        if request["QueueUrl"].endswith("/dead"):
            return refusal("AccessDenied", 403)
        return attributes(ApproximateNumberOfMessages="7", RedrivePolicy=policy)

    stub.answers["GetQueueAttributes"] = answer
    with housekeeping(stub.url) as run:
        run.events.next("found")
        run.events.next('dead-letter queue "dead" is left out')
        stub.wait_for("GetQueueAttributes", 6)
        wait_until(lambda: run.state.depth == QueueDepth(visible=7, dead_letter_queue="dead"))
        assert run.state.problem is None
        assert run.events.told.empty()


def test_a_depth_that_is_not_renewed_goes_away(stub: StubSqs) -> None:
    """Absent rather than stale: after three intervals without an answer there is no depth."""
    clock = Clock()
    stub.answers["GetQueueAttributes"] = lambda _: attributes(ApproximateNumberOfMessages="7")
    with housekeeping(stub.url, interval_seconds=30, monotonic=clock) as run:
        run.events.next("found")
        wait_until(lambda: run.state.depth)
        stub.answers["GetQueueAttributes"] = lambda _: refusal("InternalError", 500)
        clock.seconds += 90
        run.keeper.wake("other")
        stub.wait_for("GetQueueAttributes", 2)
        assert run.state.depth is not None
        clock.seconds += 1
        run.keeper.wake("other")
        wait_until(lambda: run.state.depth is None)


def test_waking_it_means_a_look_at_once_but_not_a_flood(stub: StubSqs) -> None:
    """A call that failed asks for a look long before the interval; a hundred of them ask for one."""
    clock = Clock()
    with housekeeping(stub.url, interval_seconds=3600, monotonic=clock) as run:
        run.events.next("found")
        clock.seconds += 2
        run.keeper.wake("events")
        stub.wait_for("GetQueueAttributes", 2)
        for _ in range(100):
            run.keeper.wake("events")
        time.sleep(0.1)  # none of them may do anything: there is no event to wait for
        assert stub.count("GetQueueAttributes") == 2


def test_a_new_target_is_published_when_credentials_were_renewed(
    stub: StubSqs,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A source of short-lived credentials is asked again by botocore, and the target carries the new ones."""
    program = tmp_path / "credentials.py"
    program.write_text(
        "import datetime, json, time\n"
        "soon = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=300)\n"
        "print(json.dumps({'Version': 1, 'AccessKeyId': f'key-{time.time_ns()}', 'SecretAccessKey': 's',\n"
        "                  'SessionToken': 't', 'Expiration': soon.isoformat()}))\n",
    )
    (tmp_path / "config").write_text(f"[profile short]\ncredential_process = {sys.executable} -I {program}\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_PROFILE", "short")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with housekeeping(stub.url) as run:
        run.events.next("found")
        first = run.state.target
        wait_until(lambda: run.state.target != first)
        program.write_text("raise SystemExit('the login has expired')")
        told = run.events.next("waiting")
    assert told["reason"] == "credentials"
    assert "the login has expired" in told["error"]


def test_stopping_does_not_wait_for_an_sqs_that_is_silent() -> None:
    """An endpoint that accepts and never answers does not hold the process up."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(PATIENCE_SECONDS)
        with housekeeping(f"http://127.0.0.1:{silent.getsockname()[1]}") as run:
            accepted, _ = silent.accept()
            began = time.monotonic()
            run.keeper.stop()
            assert time.monotonic() - began < LIMIT_SECONDS / 2
            accepted.close()


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"AWS_REGION": None}, "set AWS_REGION"),
        ({"AWS_REGION": "us east"}, "'us east'"),
        ({"AWS_PROFILE": "nope"}, "AWS_PROFILE is wrong: The config profile (nope) could not be found"),
        ({"AWS_ENDPOINT_URL_SQS": "localhost:9324"}, "is 'localhost:9324': use a URL such as"),
        ({"AWS_SECRET_ACCESS_KEY": None}, "missing: AWS_SECRET_ACCESS_KEY"),
        ({"AWS_SECRET_ACCESS_KEY": None, "AWS_ACCESS_KEY_ID": None}, "No AWS credentials found"),
        ({"AWS_CA_BUNDLE": "/nowhere/ca.pem"}, '"/nowhere/ca.pem" is not a file'),
        ({"AWS_CA_BUNDLE": "x" * 300}, 'xxx" is not a file'),
        ({"AWS_REGION": None, "AWS_CONFIG_FILE": __file__}, "are wrong: Unable to parse config file"),
        ({"AWS_EC2_METADATA_SERVICE_ENDPOINT": "here"}, "are wrong: Invalid endpoint EC2 Instance Metadata endpoint"),
    ],
)
def test_wrong_aws_settings_end_the_start_with_one_sentence(
    change: dict[str, str | None],
    part: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each is said in a sentence that names the thing; nothing is asked of SQS before."""
    for name, value in change.items():
        if value is None:
            monkeypatch.delenv(name)
        else:
            monkeypatch.setenv(name, value)
    with pytest.raises(WrongSettingError) as raised:
        connect()
    assert part in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("command", "part"),
    [
        ("/nowhere/login --quick", "are wrong: No such file or directory: /nowhere/login"),
        ("echo []", "are wrong"),
        ("", "are wrong"),
    ],
)
def test_a_program_for_credentials_that_gives_none_ends_the_start_with_one_sentence(
    command: str, part: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It can't be run, or says something else than credentials, or is none."""
    (tmp_path / "config").write_text(f"[profile login]\ncredential_process = {command}\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_PROFILE", "login")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    with pytest.raises(WrongSettingError, match=part):
        connect()


def test_region_and_endpoint_come_from_aws_own_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """AWS_REGION wins over AWS_DEFAULT_REGION, as in every SDK that reads both."""
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    monkeypatch.setenv("AWS_REGION", "cn-north-1")
    assert connect().endpoint_url == "https://sqs.cn-north-1.amazonaws.com.cn"
    monkeypatch.delenv("AWS_REGION")
    assert connect().region == "eu-west-1"
    monkeypatch.setenv("AWS_ENDPOINT_URL_SQS", "http://127.0.0.1:9324")
    assert connect().endpoint_url == "http://127.0.0.1:9324"


def test_the_proxy_is_the_one_botocore_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    """By scheme of the endpoint, completed with a scheme of its own, and none where `no_proxy` names the host."""
    monkeypatch.setenv("https_proxy", "proxy.example:3128")
    monkeypatch.setenv("http_proxy", "http://other.example:3128")
    assert connect().proxy_url == "http://proxy.example:3128"
    assert connect(endpoint_url="http://127.0.0.1:9324").proxy_url == "http://other.example:3128"
    monkeypatch.setenv("no_proxy", "localhost,.amazonaws.com")
    assert connect().proxy_url is None


def test_the_ca_bundle_is_the_one_botocore_takes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """AWS_CA_BUNDLE before REQUESTS_CA_BUNDLE before botocore's own; none for an endpoint without TLS."""
    own = connect().ca_bundle
    assert own is not None
    assert Path(own).read_text().startswith(("#", "-----BEGIN", "\n#"))
    bundles = {name: tmp_path / f"{name}.pem" for name in ("REQUESTS_CA_BUNDLE", "AWS_CA_BUNDLE")}
    for name, path in bundles.items():
        path.write_text("")
        monkeypatch.setenv(name, str(path))
        assert connect().ca_bundle == str(path)
    assert connect(endpoint_url="http://127.0.0.1:9324").ca_bundle is None


@pytest.mark.parametrize(
    ("queue", "name"),
    [
        ("events", "events"),
        ("orders_2-x.fifo", "orders_2-x.fifo"),
        ("https://sqs.eu-west-1.amazonaws.com/123456789012/events", "events"),
        ("http://localhost:9324/000000000000/events", "events"),
        ("x" * 80, "x" * 80),
    ],
)
def test_a_queue_is_given_by_name_or_url(queue: str, name: str) -> None:
    """Both lead to the name, which labels the metrics."""
    assert queue_name_of(queue) == name


@pytest.mark.parametrize(
    "queue",
    [
        *("", " ", "a b", "x" * 81, "x" * 76 + ".fifo", "a.b", "events\n", "größe"),
        *(
            "arn:aws:sqs:us-east-1:123456789012:events",
            "ftp://host/events",
            "http://",
            "https:///events",
            "http://host/",
        ),
        *("http://[::1/events", "http://host/q?x=1", "http://host/q#x"),
    ],
)
def test_anything_else_is_a_wrong_setting(queue: str) -> None:
    """The sentence names the flag and shows no more than a line of what was given."""
    with pytest.raises(WrongSettingError, match="--queue") as raised:
        queue_name_of(queue)
    assert "\n" not in str(raised.value)


def test_a_url_is_taken_as_it_is(stub: StubSqs) -> None:
    """A queue of another account can only be named by its URL: nothing looks it up."""
    url = f"{stub.url}/999999999999/events"
    with housekeeping(stub.url, url) as run:
        run.events.next("found")
        assert run.state.target is not None
        assert run.state.target.queue_url == url
    assert {name for name, _ in stub.requests} == {"GetQueueAttributes"}
