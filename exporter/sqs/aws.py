"""How SQS is reached: AWS's own settings, read through botocore."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import boto3
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    NoCredentialsError,
    NoRegionError,
    PartialCredentialsError,
    ProfileNotFound,
)
from botocore.httpsession import ProxyConfiguration, get_cert_path
from botocore.session import Session, get_session
from botocore.utils import get_environ_proxies

from exporter.errors import WrongSettingError, shown
from exporter.sqs import Credentials, Target
from exporter.sqs.failures import detail_of, unavailable
from exporter.sqs.names import region_of
from exporter.sqs.timeout import MAX_CALLS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mypy_boto3_sqs import SQSClient

    from exporter.errors import QueueUnavailableError


@dataclass(frozen=True, slots=True)
class Connection:
    """A boto3 client of one region, and how another HTTP client reaches the same endpoint in the same way."""

    client: SQSClient
    session: Session
    """botocore's; it finds the credentials and refreshes those of a role."""
    proxy_url: str | None
    ca_bundle: str | None
    """Path of the CA certificates that botocore trusts; None where the endpoint does not speak TLS."""
    given_endpoint_url: str | None = None
    """Where the caller said which endpoint, instead of AWS's own settings."""

    @property
    def endpoint_url(self) -> str:
        """Where requests go."""
        return self.client.meta.endpoint_url

    @property
    def region(self) -> str:
        """Which region requests are signed for."""
        return self.client.meta.region_name

    def in_region(self, region: str) -> Connection:
        """Return a connection like this one to SQS in another region, with a client of its own.

        To be called before any thread uses the session. Raises WrongSettingError.
        """
        return _connection(self.session, region, self.given_endpoint_url)

    def for_queue(self, queue: str) -> Connection:
        """Return the connection that reaches the queue (name or URL): an AWS URL says its region."""
        region = region_of(queue)
        return self if region in {None, self.region} else self.in_region(str(region))

    def credentials(self) -> Credentials:
        """Return the credentials of now, which may mean asking AWS for new ones."""
        found = self.session.get_credentials()
        frozen = found and found.get_frozen_credentials()
        if frozen is None or frozen.access_key is None or frozen.secret_key is None:
            raise NoCredentialsError
        return Credentials(frozen.access_key, frozen.secret_key, frozen.token)

    def target(self, queue_url: str) -> Target:
        """All that a call to the queue needs, with the credentials of now."""
        return Target(
            endpoint_url=self.endpoint_url,
            region=self.region,
            queue_url=queue_url,
            credentials=self.credentials(),
            proxy_url=self.proxy_url,
            ca_bundle=self.ca_bundle,
        )

    def queue_url(self, queue: str) -> str:
        """Return a URL as it is, and ask SQS for that of a name; raises what boto3 raises."""
        return queue if "://" in queue else self.client.get_queue_url(QueueName=queue)["QueueUrl"]

    def unavailable(self, queue: str, error: Exception) -> QueueUnavailableError:
        """Say in one sentence, with the way out, why the queue (name or URL) can't be asked about."""
        return unavailable(f'Queue "{queue}" in region {self.region} at {self.endpoint_url}', error)


def connect(
    session: Session | None = None, *, endpoint_url: str | None = None, queues: Sequence[str] = ()
) -> Connection:
    """Read AWS's own settings (environment, profile, role) and make a client; asks nothing of SQS yet.

    `session` and `endpoint_url` are for an SQS of one's own. Without a region in AWS's settings that of `queues` is
    taken where every one of them is an AWS URL, which names it. Raises WrongSettingError.
    """
    core = session or get_session()
    if session is None and (region := os.environ.get("AWS_REGION")):
        # Every SDK of AWS but botocore reads it, and containers on AWS have it set.
        core.set_config_variable("region", region)
    regions = [region_of(queue) for queue in queues]
    try:
        configured = core.get_config_variable("region")
    except BotoCoreError as error:
        raise _wrong_settings(error) from None
    named = regions[0] if configured is None and regions and None not in regions else None
    return _connection(core, named, endpoint_url)


def _connection(core: Session, region: str | None, endpoint_url: str | None) -> Connection:
    try:
        client = boto3.Session(botocore_session=core).client(
            "sqs",
            region_name=region,
            endpoint_url=endpoint_url,
            config=Config(
                connect_timeout=3,
                read_timeout=30,
                tcp_keepalive=True,
                # Housekeeping asks for many queues at once.
                max_pool_connections=MAX_CALLS,
                # Whoever calls tries again by itself: a send that was repeated out of sight could not be accounted for.
                retries={"total_max_attempts": 1},
            ),
        )
        credentials = core.get_credentials()
        bundle = core.get_config_variable("ca_bundle") or os.environ.get("REQUESTS_CA_BUNDLE")
    except (AttributeError, BotoCoreError, IndexError, OSError, ValueError) as error:
        # AttributeError, IndexError and OSError: a credential_process can't be run, or says something else.
        raise _wrong_settings(error) from None
    _check_endpoint(client.meta.endpoint_url)
    if not client.meta.region_name:
        raise WrongSettingError("The AWS region is empty: set AWS_REGION, or region in the AWS profile")
    if credentials is None:
        raise WrongSettingError(
            "No AWS credentials found: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or use a role",
        )
    url = client.meta.endpoint_url
    proxies = client.meta.config.proxies  # type: ignore[attr-defined]  # missing in the stubs only
    proxy_url = ProxyConfiguration(get_environ_proxies(url) if proxies is None else proxies).proxy_url_for(url)
    return Connection(client, core, proxy_url, _ca_bundle(bundle) if url.startswith("https:") else None, endpoint_url)


def _wrong_settings(error: Exception) -> WrongSettingError:
    """Say which of AWS's own settings botocore could not use, and what would be right."""
    if isinstance(error, NoRegionError):
        return WrongSettingError(
            "No AWS region is set: set AWS_REGION, or region in the AWS profile, or give --queue as an AWS URL such as "
            "https://sqs.eu-west-1.amazonaws.com/123456789012/events",
        )
    if isinstance(error, ProfileNotFound):
        return WrongSettingError(f"AWS_PROFILE is wrong: {detail_of(error)}, in ~/.aws/config or credentials")
    if isinstance(error, PartialCredentialsError):
        return WrongSettingError(f"The AWS credentials are incomplete: {detail_of(error)}")
    kind, _, endpoint = str(error).partition(": ")
    if kind == "Invalid endpoint":
        return _wrong_endpoint(endpoint)
    return WrongSettingError(f"The AWS settings (environment or ~/.aws) are wrong: {detail_of(error)}")


def _check_endpoint(url: str) -> None:
    try:
        parts = urlsplit(url)
        usable = (
            parts.scheme in {"http", "https"}
            and parts.hostname
            and parts.port != 0
            and not (parts.username or parts.password or parts.query)
        )
    except ValueError:
        usable = False
    if not usable:
        raise _wrong_endpoint(url)


def _wrong_endpoint(url: str) -> WrongSettingError:
    # What stands before an @ or in a query may be a secret, also where this is no URL.
    found = "not one that can be used" if {"@", "?"} & set(url) else shown(url)
    return WrongSettingError(
        f"The endpoint of SQS (AWS_ENDPOINT_URL_SQS, AWS_ENDPOINT_URL or endpoint_url in ~/.aws/config) is "
        f"{found}: use a URL such as http://localhost:9324, without user, password and query",
    )


def _ca_bundle(setting: str | None) -> str | None:
    path = setting or get_cert_path(verify=True)
    if path is not None and not os.path.isfile(path):  # noqa: PTH113 - Path raises where it may not look
        raise WrongSettingError(f'The CA bundle "{path}" is not a file: correct AWS_CA_BUNDLE or ca_bundle in ~/.aws')
    return path
