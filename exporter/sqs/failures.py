"""What an exception of boto3 means: the reason that it stands for, and a sentence with the way out."""

from __future__ import annotations

import errno
import re
from http import HTTPStatus
from typing import TypeGuard

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectTimeoutError,
    CredentialRetrievalError,
    HTTPClientError,
    LoginError,
    MetadataRetrievalError,
    NoCredentialsError,
    PartialCredentialsError,
    ReadTimeoutError,
    SSLError,
    SSOError,
    TokenRetrievalError,
)
from botocore.exceptions import ConnectionError as BotocoreConnectionError

from exporter.errors import QueueUnavailableError, one_line
from exporter.sqs.reasons import reason_of_error

_USER_AND_PASSWORD = re.compile(r"\S*@")

_PERMISSIONS = {
    "ChangeMessageVisibility": "can't give messages back: grant sqs:ChangeMessageVisibility on it",
    "ChangeMessageVisibilityBatch": "can't give messages back: grant sqs:ChangeMessageVisibility on it",
    "DeleteMessageBatch": "can't be deleted from: grant sqs:DeleteMessage on it",
    "GetQueueAttributes": "may not be read: grant sqs:GetQueueUrl and sqs:GetQueueAttributes on it",
    "GetQueueUrl": "may not be read: grant sqs:GetQueueUrl and sqs:GetQueueAttributes on it",
    "ListDeadLetterSourceQueues": "may not be asked whose dead-letter queue it is: grant "
    "sqs:ListDeadLetterSourceQueues on it",
    "ListQueues": "may not be listed: grant sqs:ListQueues",
    "ReceiveMessage": "can't be received from: grant sqs:ReceiveMessage on it",
    "SendMessageBatch": "can't be sent to: grant sqs:SendMessage on it",
}
"""What is asked of SQS, and what to do where it is denied."""

_NO_TLS = "WRONG_VERSION_NUMBER"
"""How OpenSSL calls an answer that is not TLS at all, such as plain HTTP."""

_UNUSABLE_HEADER = "Invalid header value"
"""What http.client says of one with a line break; the other values that it refuses are of a proxy's URL."""

_NO_CREDENTIALS = (
    CredentialRetrievalError,
    LoginError,
    MetadataRetrievalError,
    NoCredentialsError,
    PartialCredentialsError,
    SSOError,
    TokenRetrievalError,
)

_REASONS_OF_KINDS: tuple[tuple[type[Exception] | tuple[type[Exception], ...], str], ...] = (
    (_NO_CREDENTIALS, "credentials"),
    (SSLError, "tls"),
    ((ConnectTimeoutError, ReadTimeoutError, TimeoutError), "timeout"),
    ((BotocoreConnectionError, HTTPClientError), "connection"),
    (BotoCoreError, "request"),
)
_WAYS_OUT = {
    "clock_skew": "can't be asked, because this machine's clock is wrong: set the clock",
    "connection": "can't be reached: check AWS_REGION, AWS_ENDPOINT_URL_SQS, the proxy and the network",
    "credentials": "can't be asked with these AWS credentials: renew or correct them (environment, profile or role)",
    "kms": "can't be used without its KMS key: enable it, and grant kms:GenerateDataKey and kms:Decrypt on it",
    "malformed": "was not answered by an SQS: check AWS_ENDPOINT_URL_SQS and the proxy",
    "out_of_memory": "can't be asked, because this process gets no more memory or threads: raise its limits",
    "queue_not_found": "does not exist: create it, or correct --queue, AWS_REGION or AWS_ENDPOINT_URL_SQS",
    "redirect": "is elsewhere: correct AWS_REGION or AWS_ENDPOINT_URL_SQS",
    "request": "can't be asked like this: check --queue, AWS_REGION and AWS_ENDPOINT_URL_SQS",
    "server": "can't be asked, because SQS has a failure of its own: wait, or look at AWS's health dashboard",
    "throttled": "can't be asked, because SQS throttles: wait, or send it fewer requests",
    "timeout": "did not answer in time: check AWS_ENDPOINT_URL_SQS, the proxy and the network",
    "tls": "can't be reached over TLS: set AWS_CA_BUNDLE to the certificates that sign the endpoint's",
}


def reason_of(error: Exception) -> str:
    """Which of `exporter.sqs.REASONS` an exception of boto3 stands for."""
    if isinstance(error, ClientError):
        return _reason_of_answer(error)
    if _is_out_of_memory(error):
        return "out_of_memory"
    if _is_of_a_file(error) or (_may_show_a_header(error) and _UNUSABLE_HEADER in str(error)):
        return "credentials"
    return next((reason for kinds, reason in _REASONS_OF_KINDS if isinstance(error, kinds)), "malformed")


def unavailable(place: str, error: Exception) -> QueueUnavailableError:
    """Say in one sentence, with the way out, why what is at `place` can't be asked about."""
    reason = reason_of(error)
    way_out = _WAYS_OUT.get(reason, f"can't be asked ({reason})")
    if reason == "access_denied" and isinstance(error, ClientError):
        way_out = _PERMISSIONS[error.operation_name]
    if reason == "tls" and _NO_TLS in str(error):
        way_out = "was not answered in TLS: correct the port, or write http:// in AWS_ENDPOINT_URL_SQS"
    return QueueUnavailableError(reason, f"{place} {way_out} ({detail_of(error)})")


def detail_of(error: Exception) -> str:
    """Return what the exception adds, but neither the answer's message, which can be anyone's text, nor a secret."""
    if isinstance(error, ClientError):
        return one_line(error.response.get("Error", {}).get("Code") or "no error code")
    if _is_of_a_file(error):
        return one_line(f"{error.strerror}: {error.filename}")
    if _may_show_a_header(error) or not isinstance(error, (BotoCoreError, ValueError)):
        return type(error).__name__
    return one_line(_USER_AND_PASSWORD.sub("...@", str(error)))


def _reason_of_answer(error: ClientError) -> str:
    if error.operation_name not in _PERMISSIONS:
        # Another service of AWS was asked for credentials: a role that STS denies is not a denial by SQS.
        return "credentials"
    said = error.response.get("Error", {})
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    message = said.get("Message")  # whatever JSON has there, null included
    reason = reason_of_error(status, [said.get("Code", "")], message if isinstance(message, str) else "")
    if reason != "request":
        return reason
    if status == HTTPStatus.FORBIDDEN:
        return "access_denied"
    return "redirect" if HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.BAD_REQUEST else reason


def _is_of_a_file(error: Exception) -> TypeGuard[OSError]:
    """Whether a source of credentials is not there or can't be read or run: boto3 reads no other files after its start.

    It may be a token of Kubernetes' for a role, or the program of a profile's credential_process.
    """
    return isinstance(error, OSError) and error.filename is not None


def _may_show_a_header(error: Exception) -> bool:
    """Whether the exception may show a header: a session token with a line break in it can't be sent."""
    return type(error) is HTTPClientError and isinstance(error.kwargs.get("error"), ValueError)


def _is_out_of_memory(error: BaseException | None) -> bool:
    """Whether it is, or comes from, memory or a thread that this process may not have."""
    while error is not None:
        if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM):
            return True
        if type(error) is RuntimeError and "start new thread" in str(error):
            return True
        inner = error.kwargs.get("error") if isinstance(error, BotoCoreError) else None
        error = inner if isinstance(inner, BaseException) else error.__cause__
    return False
