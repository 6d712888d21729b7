"""Answers are parsed strictly: a bad message affects no neighbour, a bad answer is never an empty queue."""

from __future__ import annotations

import json
from hashlib import md5
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.sqs import REASONS
from exporter.sqs.answers import Deletion, Message
from exporter.sqs.parsing import MalformedAnswerError, md5_of_attributes, parse_batch, parse_receive
from exporter.sqs.reasons import codes_and_message, reason_of_error

JSON = st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(), st.lists, max_leaves=5)


def entry(name: str = "one", body: str = "body", **changes: Any) -> dict[str, Any]:  # noqa: ANN401 - any JSON
    """Return a message as SQS sends it; a change to None leaves the field out."""
    fields = {
        "MessageId": f"id-{name}",
        "ReceiptHandle": f"handle-{name}",
        "Body": body,
        "MD5OfBody": md5(body.encode("utf-8", "surrogatepass"), usedforsecurity=False).hexdigest(),
        "Attributes": {"SentTimestamp": "1545082649183"},
    } | changes
    return {field: value for field, value in fields.items() if value is not None}


def answer(*messages: Any) -> bytes:  # noqa: ANN401 - any JSON
    """Return a whole answer."""
    return json.dumps({"Messages": messages}).encode()


def ids(messages: list[Message]) -> list[str]:
    """Return the messages' ids, in order."""
    return [message.message_id for message in messages]


def test_a_message_comes_with_all_that_was_asked_for() -> None:
    """Body as bytes, send time in seconds, trace context where there is one."""
    attributes = {
        "traceparent": {"DataType": "String", "StringValue": "00-aa-bb-01"},
        "tracestate": {"DataType": "String", "StringValue": "k=v"},
        "other": {"DataType": "Binary", "BinaryValue": "AA=="},
    }
    system = {"SentTimestamp": "1545082649183", "AWSTraceHeader": "Root=1-2-3", "SenderId": "x"}
    messages, released = parse_receive(
        answer(entry(body="größe", Attributes=system, MessageAttributes=attributes, NewField=[1, {}]))
    )
    assert messages == [
        Message("id-one", "handle-one", "größe".encode(), 1545082649.183, "00-aa-bb-01", "k=v", "Root=1-2-3")
    ]
    assert released == {}


@pytest.mark.parametrize("data", [b"{}", b" { } ", b'{"Messages": null}', b'{"Messages": []}', b'{"New": 1}'])
def test_an_empty_answer_is_empty(data: bytes) -> None:
    """The forms in which SQS and its like say that there is nothing."""
    assert parse_receive(data) == ([], {})


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b" ",
        b"null",
        b"[]",
        b'"x"',
        b"<html>Sign in to the network</html>",
        b'{"Messages": [',
        b'{"Messages": {}}',
        b'{"Messages": "x"}',
        b'{"Messages": [{"MessageId": "a"}]',
        b"{}{}",
        b'\xef\xbb\xbf{"Messages": []}',
        b'{"__type": "com.amazonaws.sqs#QueueDoesNotExist"}',
        b'{"message": "Service Unavailable"}',
        b'{"\\ud800": 1}',
        b'{"New": "\\ud800"}',
        b'{"New": "\xff", "\xff": 1}',
        b'{"Messages": [], "x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"Messages": [' + b"[" * 100_000 + b"]" * 100_000 + b"]}",
    ],
)
def test_an_answer_that_is_not_well_formed_is_malformed(data: bytes) -> None:
    """No such answer passes for an empty queue."""
    with pytest.raises(MalformedAnswerError):
        parse_receive(data)


def test_more_than_ten_messages_are_all_taken() -> None:
    """A message that was handed out is never dropped for being one too many."""
    assert ids(parse_receive(answer(*(entry(str(i)) for i in range(25))))[0]) == [f"id-{i}" for i in range(25)]


@pytest.mark.parametrize(
    "bad",
    [
        entry("bad", MessageId=None),
        entry("bad", MessageId=""),
        entry("bad", MessageId=7),
        entry("bad", MessageId="\ud800"),
        entry("bad", ReceiptHandle=None),
        entry("bad", ReceiptHandle=""),
        entry("bad", ReceiptHandle="\udfff"),
        entry("bad", Body=None),
        entry("bad", Body={"type": "purchase"}),
        entry("bad", MD5OfBody=None),
        entry("bad", MD5OfBody=1.5),
        None,
        "message",
        [],
        7,
    ],
)
def test_a_message_that_is_not_one_is_released_alone(bad: object) -> None:
    """Its neighbours on both sides are received."""
    messages, released = parse_receive(answer(entry("before"), bad, entry("after")))
    assert ids(messages) == ["id-before", "id-after"]
    assert released == {"malformed": 1}


def test_a_body_with_another_md5_is_released_alone() -> None:
    """Its neighbours are received; both kinds of release are told apart."""
    wrong = entry("wrong", MD5OfBody="0" * 32)
    assert parse_receive(answer(wrong)) == ([], {"md5_mismatch": 1})
    messages, released = parse_receive(answer(wrong, entry("right"), None, wrong))
    assert ids(messages) == ["id-right"]
    assert released == {"md5_mismatch": 2, "malformed": 1}


@pytest.mark.parametrize("body", ["\ud800", "before \udfff after", "\ud83d\ud83d"])
def test_a_lone_surrogate_makes_a_body_that_is_not_utf8(body: str) -> None:
    """The message stays (it has to be rejected and deleted like any other), its neighbours are received."""
    messages, released = parse_receive(answer(entry("lone", body), entry("pair", "\U0001f600")))
    assert [message.body for message in messages] == [body.encode("utf-8", "surrogatepass"), b"\xf0\x9f\x98\x80"]
    assert released == {}
    with pytest.raises(UnicodeDecodeError):
        messages[0].body.decode()


def test_a_byte_that_is_not_utf8_affects_its_message_alone() -> None:
    """The same for bytes that JSON does not allow at all."""
    messages, released = parse_receive(answer(entry("odd", "here"), entry("even")).replace(b"here", b"h\xffre"))
    assert ids(messages) == ["id-odd", "id-even"]
    assert released == {}
    with pytest.raises(UnicodeDecodeError):
        messages[0].body.decode()


@pytest.mark.parametrize(
    "changes",
    [
        {"Attributes": None},
        {"Attributes": []},
        {"Attributes": {}},
        {"Attributes": {"SentTimestamp": "soon"}},
        {"Attributes": {"SentTimestamp": ["1545082649183"]}},
        {"Attributes": {"SentTimestamp": "9" * 400}},
        {"Attributes": {"SentTimestamp": "9" * 5_000}},
        {"MessageAttributes": 7, "Attributes": None},
        {"MessageAttributes": {"traceparent": "00-aa-bb-01"}, "Attributes": None},
    ],
)
def test_attributes_that_are_wrong_are_missing(changes: dict[str, Any]) -> None:
    """The message is worth as much without its send time and trace context."""
    messages, released = parse_receive(answer(entry(**changes)))
    assert messages == [Message("id-one", "handle-one", b"body", None, None, None, None)]
    assert released == {}


@given(st.binary() | st.builds(answer, JSON, JSON) | st.builds(lambda value: json.dumps(value).encode(), JSON))
def test_a_receive_parses_or_is_malformed(data: bytes) -> None:
    """Whatever bytes come, nothing else is raised, and every entry is accounted for."""
    try:
        messages, released = parse_receive(data)
    except MalformedAnswerError:
        return
    assert len(messages) + sum(released.values()) == len(json.loads(data).get("Messages") or ())


@given(st.binary() | st.builds(lambda value: json.dumps({"Successful": value, "Failed": value}).encode(), JSON))
def test_a_delete_parses_or_is_malformed(data: bytes) -> None:
    """Whatever bytes come, nothing else is raised."""
    try:
        parse_batch(data)
    except MalformedAnswerError:
        return


def test_a_delete_confirms_what_it_names_and_nothing_else() -> None:
    """An id in both lists is refused, with the reason of its code."""
    data = json.dumps(
        {
            "Successful": [{"Id": "0"}, {"Id": "0"}, {"Id": "1", "New": 1}, {"Id": "99"}],
            "Failed": [
                {"Id": "1", "Code": "ReceiptHandleIsInvalid", "SenderFault": True},
                {"Id": "2", "Code": "InternalError", "SenderFault": False, "Message": "x"},
                {"Id": "3", "Code": "Surprise", "SenderFault": False},
                {"Id": "4"},
            ],
        }
    ).encode()
    assert parse_batch(data) == (frozenset({"0", "99"}), {"1": "request", "2": "server", "3": "server", "4": "request"})


@pytest.mark.parametrize("data", [b"{}", b'{"Successful": null, "Failed": null}', b'{"Successful": []}'])
def test_a_delete_that_names_nothing_confirms_nothing(data: bytes) -> None:
    """The absence of failures is no success."""
    assert parse_batch(data) == (frozenset(), {})


@pytest.mark.parametrize("data", [b"", b"<html>", b"[]", b'{"Successful": [{"Id": 0}]}', b'{"Successful": [{"Id":"0"}'])
def test_a_delete_that_is_not_well_formed_is_malformed(data: bytes) -> None:
    """It confirms nothing either."""
    with pytest.raises(MalformedAnswerError):
        parse_batch(data)


def test_neither_bodies_nor_handles_are_shown() -> None:
    """What ends up in a log by accident has to be harmless."""
    message = Message("the-id", "the-handle", b"the-body", None, None, None, None)
    assert repr(message) == "Message('the-id')"
    assert repr(Deletion(b"\x01" * 16, "the-handle", 1.0)) == f"Deletion({'01' * 16})"


@pytest.mark.parametrize(
    ("status", "report", "headers", "reason"),
    [
        (400, {"__type": "com.amazonaws.sqs#QueueDoesNotExist"}, [], "queue_not_found"),
        (400, {}, [b"x-amzn-query-error: AWS.SimpleQueueService.NonExistentQueue;Sender\r\n"], "queue_not_found"),
        (404, {"__type": "com.amazonaws.sqs#InvalidAddress"}, [], "queue_not_found"),
        (403, {"__type": "com.amazon.coral.service#AccessDeniedException"}, [], "access_denied"),
        (403, {}, [b"X-Amzn-ErrorType: AccessDenied:http://internal.amazon.com/coral/\r\n"], "access_denied"),
        (403, {"__type": "com.amazonaws.sqs#OverLimit"}, [], "over_limit"),
        (400, {"__type": "com.amazonaws.sqs#KmsThrottled"}, [], "kms"),
        (400, {"__type": "KMS.DisabledException"}, [], "kms"),
        (400, {"__type": "com.amazonaws.sqs#RequestThrottled"}, [], "throttled"),
        (400, {"__type": "ThrottlingException"}, [], "throttled"),
        (400, {"__type": "TooManyRequestsException"}, [], "throttled"),
        (429, {}, [], "throttled"),
        (503, {"__type": "SlowDown"}, [], "throttled"),
        (503, {}, [], "server"),
        (500, {"__type": "com.amazonaws.sqs#InternalFailure"}, [], "server"),
        (403, {"__type": "ExpiredTokenException"}, [], "credentials"),
        (403, {"__type": "InvalidClientTokenId"}, [], "credentials"),
        (400, {"__type": "UnrecognizedClientException"}, [], "credentials"),
        (403, {"__type": "InvalidSecurity"}, [], "credentials"),
        (403, {"__type": "SignatureDoesNotMatch", "message": "It does not match"}, [], "credentials"),
        (403, {"__type": "SignatureDoesNotMatch", "message": "Signature expired: 2020"}, [], "clock_skew"),
        (403, {"__type": "InvalidSignatureException", "message": "Signature not yet current: 2"}, [], "clock_skew"),
        (403, {"__type": "RequestTimeTooSkewed"}, [], "clock_skew"),
        (400, {"__type": "com.amazonaws.sqs#InvalidParameterValue"}, [], "request"),
        (400, {"__type": 7, "message": {}}, [], "request"),
        (418, {}, [], "request"),
    ],
)
def test_errors_have_a_bounded_reason(status: int, report: dict[str, Any], headers: list[bytes], reason: str) -> None:
    """Every name under which SQS tells an error stands for one of the reasons that label values are taken from."""
    codes, message = codes_and_message(json.dumps(report).encode(), headers)
    assert reason in REASONS
    assert reason_of_error(status, codes, message) == reason


def test_a_message_ends_before_the_request_is_repeated_in_it() -> None:
    """With a wrong signature SQS repeats what it was sent, the security token included."""
    report = {"__type": "SignatureDoesNotMatch", "message": "It does not match.\n\nx-amz-security-token:secret"}
    assert codes_and_message(json.dumps(report).encode(), []) == (["SignatureDoesNotMatch"], "It does not match.")


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'"x"', b"\xff", b"[" * 100_000])
def test_an_error_page_says_nothing(body: bytes) -> None:
    """What a proxy or a captive portal wrote is not repeated."""
    assert codes_and_message(body, []) == ([], "")


TEXT = {"DataType": "String", "StringValue": "attribValue 1"}


def with_attributes(attributes: dict[str, Any], digest: str | None) -> bytes:
    """Return an answer with a message that has these attributes, and one that has none."""
    first = entry(MessageAttributes=attributes) | ({} if digest is None else {"MD5OfMessageAttributes": digest})
    return json.dumps({"Messages": [first, entry(MessageId="plain")]}).encode()


@pytest.mark.parametrize(
    ("attributes", "digest"),
    [
        ({"attribName1": ("String", "attribValue 1")}, "19e27d4e946b072f3f58da80d94fd778"),
        (
            {"customNumberTypeAttrib": ("Number.float", "4563442423554324324264524243.32543234")},
            "9fe1b90bbd9965bdf77bac517c7d2495",
        ),
        ({"binaryAttribute": ("Binary", b"Hello binary world!")}, "31a92b15d92f8db860eda32aceb656c3"),
        (
            {
                "customNumberTypeAttrib": ("Number.float", "4563442423554324324264524243.32543234"),
                "binaryAttribute": ("Binary", b"Hello binary world!"),
                "attribName1": ("String", "attribValue 1"),
            },
            "c932db14a896c663f83c260297d594ff",
        ),
    ],
)
def test_the_md5_of_attributes_is_aws_s(attributes: dict[str, tuple[str, str | bytes]], digest: str) -> None:
    """As other implementations of the algorithm publish it: https://www.npmjs.com/package/aws-md5-of-message-attributes."""
    assert md5_of_attributes(attributes) == digest


def test_attributes_that_were_asked_for_are_checked() -> None:
    """A message with a wrong or missing MD5, or without a value, is released by itself; its neighbour arrives."""
    right = "19e27d4e946b072f3f58da80d94fd778"
    messages, released = parse_receive(with_attributes({"attribName1": TEXT}, right), ("attribName1", "other"))
    assert [message.attributes for message in messages] == [{"attribName1": "attribValue 1"}, {}]
    assert released == {}
    for attributes, digest, reason in (
        ({"attribName1": TEXT}, "0" * 32, "md5_mismatch"),
        ({"attribName1": TEXT}, None, "malformed"),
        ({"attribName1": {"DataType": "String"}}, right, "malformed"),
        ({"attribName1": {"DataType": "Binary", "BinaryValue": "=="}}, right, "malformed"),
        ({"attribName1": {"DataType": "String", "StringValue": "\ud800"}}, right, "malformed"),
        ({"attribName1": {"DataType": "String", "StringValue": 1}}, right, "malformed"),
        ({"attribName1": 1}, right, "malformed"),
        ([], right, "malformed"),
    ):
        messages, released = parse_receive(with_attributes(attributes, digest), ("attribName1",))  # type: ignore[arg-type]
        assert [message.message_id for message in messages] == ["plain"]
        assert released == {reason: 1}


def test_attributes_that_nobody_asked_for_make_no_message_unusable() -> None:
    """Neither their MD5 nor their form is looked at: the trace context is all that is taken from them."""
    for attributes in ({"attribName1": TEXT, "traceparent": TEXT}, {"attribName1": 1}):
        messages, released = parse_receive(with_attributes(attributes, "0" * 32))
        assert (len(messages), released) == (2, {})
        assert messages[0].attributes == {}
