"""Signatures agree with botocore's, whatever is signed."""

from __future__ import annotations

import string
import time

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials as BotocoreCredentials
from hypothesis import given
from hypothesis import strategies as st

from exporter.sqs import Credentials, Target
from exporter.sqs.signing import Signer, UnusableCredentialsError

HEADER_TEXT = st.text(string.ascii_letters + string.digits + "/+=-_.~%!$&'()*,:;@", min_size=1, max_size=60)
HOSTS = st.sampled_from(["sqs.eu-west-1.amazonaws.com", "SQS.Example.COM", "127.0.0.1", "[::1]", "localhost"])
PATHS = st.sampled_from(["", "/", "/prefix", "/a/b/", "/with%20space", "/tilde~/~", "/colon:and@at", "/plus+"])
PORTS = st.sampled_from(["", ":80", ":443", ":4566"])
ENDPOINTS = st.builds("{}://{}{}{}".format, st.sampled_from(["http", "https"]), HOSTS, PORTS, PATHS)
SECONDS = st.integers(0, 4_102_444_800)


def target(endpoint_url: str, region: str, credentials: Credentials) -> Target:
    """Return a queue at the endpoint."""
    return Target(endpoint_url, region, f"{endpoint_url}/123456789012/queue", credentials)


def signed_by_botocore(target: Target, operation: str, body: bytes, seconds: int) -> str:
    """Return botocore's Authorization header for the same request at the same time."""
    date = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(seconds))
    headers = {
        "Content-Type": "application/x-amz-json-1.0",
        "X-Amz-Date": date,
        "X-Amz-Target": f"AmazonSQS.{operation}",
    }
    if target.credentials.token is not None:
        headers["X-Amz-Security-Token"] = target.credentials.token
    request = AWSRequest("POST", target.endpoint_url, headers, body)
    request.context["timestamp"] = date
    credentials = BotocoreCredentials(
        target.credentials.access_key, target.credentials.secret_key, target.credentials.token
    )
    auth = SigV4Auth(credentials, "sqs", target.region)
    signature = auth.signature(auth.string_to_sign(request, auth.canonical_request(request)), request)
    return (
        f"AWS4-HMAC-SHA256 Credential={auth.scope(request)}, "
        f"SignedHeaders={auth.signed_headers(auth.headers_to_sign(request))}, Signature={signature}"
    )


@given(
    endpoint_url=ENDPOINTS,
    region=st.sampled_from(["eu-west-1", "us-gov-west-1", "x"]),
    credentials=st.builds(Credentials, HEADER_TEXT, st.text(st.characters(codec="utf-8")), st.none() | HEADER_TEXT),
    operation=st.sampled_from(["ReceiveMessage", "DeleteMessageBatch"]),
    requests=st.lists(st.tuples(st.binary(max_size=300), SECONDS), min_size=1, max_size=4),
)
def test_signatures_are_botocores(
    endpoint_url: str, region: str, credentials: Credentials, operation: str, requests: list[tuple[bytes, int]]
) -> None:
    """One signer, used for any bodies at any times one after the other, signs each as botocore does."""
    to = target(endpoint_url, region, credentials)
    signer = Signer(to, operation)
    for body, seconds in requests:
        headers = dict(header.split(": ", 1) for header in signer.headers(body, seconds))
        assert headers["Authorization"] == signed_by_botocore(to, operation, body, seconds)


def test_what_is_signed_is_sent() -> None:
    """Every header that the signature covers is among those returned, the host with the port that is not the usual."""
    to = target("http://127.0.0.1:4566", "eu-west-1", Credentials("AKID", "secret", "token"))
    names = [header.partition(":")[0].lower() for header in Signer(to, "ReceiveMessage").headers(b"{}", 0)]
    assert names == [
        "content-type",
        "host",
        "x-amz-date",
        "x-amz-security-token",
        "x-amz-target",
        "authorization",
    ]
    assert "Host: 127.0.0.1:4566" in Signer(to, "ReceiveMessage").headers(b"{}", 0)


@pytest.mark.parametrize("access_key", ["", "AKID\n", "AK ID", "AKÍD"])
def test_credentials_that_no_header_can_carry_are_refused(access_key: str) -> None:
    """A secret with a line break at its end must not become a header of its own."""
    with pytest.raises(UnusableCredentialsError) as refused:
        Signer(target("http://127.0.0.1", "eu-west-1", Credentials(access_key, "secret")), "ReceiveMessage")
    assert "AK" not in str(refused.value)


@pytest.mark.parametrize("token", ["", "token\r\nX-Evil: 1"])
def test_a_token_that_no_header_can_carry_is_refused(token: str) -> None:
    """The same holds for the session token."""
    with pytest.raises(UnusableCredentialsError):
        Signer(target("http://127.0.0.1", "eu-west-1", Credentials("AKID", "secret", token)), "ReceiveMessage")


def test_a_region_that_no_header_can_carry_is_refused() -> None:
    """The region stands in the Authorization header."""
    with pytest.raises(ValueError, match="region"):
        Signer(target("http://127.0.0.1", "eu\nwest", Credentials("AKID", "secret")), "ReceiveMessage")
