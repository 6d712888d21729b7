"""How a queue is given: by its name, by its URL, or as a prefix of names such as `shop-*`. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, urlsplit

from exporter.errors import WrongSettingError, one_line, shown

if TYPE_CHECKING:
    from collections.abc import Iterable

_NAME = re.compile(r"(?=.{1,80}\Z)[A-Za-z0-9_-]+(\.fifo)?", re.ASCII)
"""https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_CreateQueue.html"""
_PREFIX = re.compile(r"[A-Za-z0-9_-]{1,79}\*", re.ASCII)

# sqs.eu-west-1.amazonaws.com, sqs-fips.us-east-1.amazonaws.com, sqs.eu-west-1.api.aws and, before the region, the id
# of an interface endpoint; eu-west-1.queue.amazonaws.com is the form of old.
# https://docs.aws.amazon.com/general/latest/gr/sqs-service.html
_AWS_HOST = re.compile(
    r"(?:(?:vpce-[a-z0-9-]+\.)?sqs(?:-fips)?\.(?P<region>[a-z0-9-]+)\.(?:vpce\.)?|(?P<legacy>[a-z0-9-]+)\.queue\.)"
    r"(?:amazonaws\.(?:com(?:\.cn)?|eu)|api\.aws|api\.amazonwebservices\.(?:com\.cn|eu))"
)
_REGION_OF_OLD = {"queue.amazonaws.com": "us-east-1"}


def is_queue(text: str) -> bool:
    """Whether it is the name of a queue or the URL of one."""
    return _name_in(text) is not None


def is_prefix(text: str) -> bool:
    """Whether it stands for all queues whose names begin so: the beginning of a name, and `*`."""
    return _PREFIX.fullmatch(text) is not None


def queue_name_of(queue: str) -> str:
    """Return the name of a queue that is given as name or URL. Raises WrongSettingError where it is neither."""
    name = _name_in(queue)
    if name is None:
        raise WrongSettingError(
            f'--queue (SQS_QUEUE_NAME) "{one_line(queue)}" is neither the name of a queue (up to 80 of A-Z, a-z, 0-9, '
            f'"_" and "-", with or without ".fifo") nor its URL',
        )
    return name


def region_of(queue: str) -> str | None:
    """Return the region that an AWS URL of a queue names; None for names, and for URLs of other hosts."""
    url = _url(queue)
    host = url.hostname if url else None
    if not host:
        return None
    found = _AWS_HOST.fullmatch(host)
    return _REGION_OF_OLD.get(host) if found is None else found["region"] or found["legacy"]


def account_of(queue_url: str) -> str:
    """Return the AWS account that a queue's URL names."""
    return queue_url.rpartition("/")[0].rpartition("/")[2]


def by_name(queues: Iterable[str]) -> dict[str, str]:
    """Return the queues (names, URLs and prefixes) without prefixes, each by its name.

    Raises WrongSettingError where two are not the same queue for sure, though their names are: series, ledger and
    logs tell queues apart by name.
    """
    named: dict[str, str] = {}
    for queue in queues:
        if is_prefix(queue):
            continue
        name = queue_name_of(queue)
        other = named.setdefault(name, queue)
        if other != queue:
            raise WrongSettingError(
                f'--queue (SQS_QUEUE_NAME) names "{name}" twice, as {shown(other)} and as {shown(queue)}: give it '
                f"once; queues of one name in two regions or accounts need an exporter each",
            )
    return named


def _name_in(text: str) -> str | None:
    name = text
    if "://" in text:
        url = _url(text)
        usable = url is not None and url.scheme in {"http", "https"} and url.hostname and "@" not in url.netloc
        if url is None or not usable or url.query or url.fragment:
            return None
        name = url.path.rpartition("/")[2]
    return name if _NAME.fullmatch(name) else None


def _url(text: str) -> SplitResult | None:
    if "://" not in text:
        return None
    try:
        return urlsplit(text)
    except ValueError:
        return None
