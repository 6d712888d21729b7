"""How a queue may be given: name, URL or prefix, and what that says."""

from __future__ import annotations

import pytest

from exporter.errors import WrongSettingError
from exporter.sqs.names import account_of, by_name, is_prefix, is_queue, region_of

URL = "https://sqs.eu-west-1.amazonaws.com/123456789012/events"


@pytest.mark.parametrize(
    ("queue", "region"),
    [
        (URL, "eu-west-1"),
        ("https://sqs.cn-north-1.amazonaws.com.cn/1/q", "cn-north-1"),
        ("https://sqs-fips.us-gov-west-1.amazonaws.com/1/q", "us-gov-west-1"),
        ("https://sqs.eu-west-1.api.aws/1/q", "eu-west-1"),
        ("https://sqs.cn-northwest-1.api.amazonwebservices.com.cn/1/q", "cn-northwest-1"),
        ("https://sqs.eusc-de-east-1.amazonaws.eu/1/q", "eusc-de-east-1"),
        ("https://sqs-fips.eusc-de-east-1.api.amazonwebservices.eu/1/q", "eusc-de-east-1"),
        ("https://vpce-1a2b-c3.sqs.us-east-2.vpce.amazonaws.com/1/q", "us-east-2"),
        ("https://ap-southeast-2.queue.amazonaws.com/1/q", "ap-southeast-2"),
        ("https://queue.amazonaws.com/1/q", "us-east-1"),
        ("http://localhost:9324/000000000000/q", None),
        ("https://sqs.eu-west-1.amazonaws.com.example.org/1/q", None),
        ("https://[::1/q", None),
        ("events", None),
    ],
)
def test_an_aws_url_says_its_region(queue: str, region: str | None) -> None:
    """In all forms that AWS documents; other hosts and names say none."""
    assert region_of(queue) == region


def test_a_prefix_is_the_beginning_of_a_name_and_a_star() -> None:
    """Nothing else with a star is one, and a prefix is no queue."""
    assert is_prefix("shop-*")
    for text in ("*", "shop", "sh*op", "shop-**", "shop.*", "x" * 80 + "*", f"{URL}*", "shop-*\n"):
        assert not is_prefix(text)
    assert not is_queue("shop-*")


def test_queues_are_known_by_name() -> None:
    """Each once, however often it is given; prefixes are left to SQS."""
    assert by_name(["events", URL.replace("events", "orders"), "shop-*", "events"]) == {
        "events": "events",
        "orders": "https://sqs.eu-west-1.amazonaws.com/123456789012/orders",
    }
    assert account_of(URL) == "123456789012"


@pytest.mark.parametrize("other", ["events", URL.replace("west", "north"), URL.replace("12/", "13/")])
def test_two_queues_of_one_name_are_refused(other: str) -> None:
    """In two regions, in two accounts, or given in two ways that can't be compared."""
    with pytest.raises(WrongSettingError, match='names "events" twice') as raised:
        by_name([URL, "orders", other])
    assert raised.value.exit_code == 2
