"""SQS as `check` sees it: credentials, the queues, and each permission that a run needs, tried without harm.

Deletes and visibility changes are tried with a receipt handle that is none: SQS answers AccessDenied before it looks at
the handle, and calls the handle invalid where the caller may use it. A receive can't be tried in such a way.
https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_DeleteMessageBatch.html
"""

from __future__ import annotations

from email.utils import parsedate_to_datetime
from time import time
from typing import TYPE_CHECKING, Any

from exporter.cli.advice import advice
from exporter.cli.checks.finding import WRONG_SETTING, Finding, error, warning
from exporter.errors import ExporterError
from exporter.sqs.failures import reason_of
from exporter.sqs.lookups import QueueLookup, list_queues
from exporter.sqs.names import by_name, is_prefix

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from exporter.settings import Settings
    from exporter.sqs import QueueAttributes
    from exporter.sqs.aws import Connection

NO_HANDLE = "sqs-event-exporter-check"
"""Is no receipt handle, so nothing can come of it."""
CLOCK_SECONDS = 30.0
"""From this difference on ages are visibly wrong; SQS refuses calls from 15 minutes on."""

_METHODS = {
    "env": "the environment",
    "shared-credentials-file": "~/.aws/credentials",
    "config-file": "~/.aws/config",
    "iam-role": "the instance's role",
    "container-role": "the container's role",
    "assume-role": "an assumed role",
    "assume-role-with-web-identity": "a role assumed with a web identity",
}
"""What botocore calls where it found credentials, in words."""


class Queues:
    """Asks about all queues that the settings name; `attributes` is what it found, by name, after `findings`."""

    def __init__(self, settings: Settings, connection: Connection, *, receive: bool = False) -> None:
        self._settings = settings
        self._connection = connection
        self._receive = receive
        self._skew_seconds: float | None = None
        self._watched: set[int] = set()
        self.attributes: dict[str, QueueAttributes] = {}

    def findings(self) -> Iterator[Finding]:
        """Look at credentials, region, queues, permissions and clock. Raises WrongSettingError."""
        yield from self._credentials()
        yield Finding("region", f"{self._connection.region}, at {self._connection.endpoint_url}")
        named = by_name(self._settings.queue)
        for queue in named.values():
            yield from self._queue(self._connection.for_queue(queue), queue)
        for prefix in filter(is_prefix, self._settings.queue):
            yield from self._prefix(prefix, named)
        yield from self._clock()

    def _credentials(self) -> Iterator[Finding]:
        try:
            key = self._connection.credentials().access_key
            method = getattr(self._connection.session.get_credentials(), "method", "")
        except Exception as failed:  # noqa: BLE001 - whatever a provider of credentials raises
            yield error("credentials", str(self._connection.unavailable(self._settings.queue[0], failed)))
            return
        yield Finding("credentials", f"access key ...{key[-4:]}, from {_METHODS.get(method, method or 'the program')}")

    def _queue(self, connection: Connection, queue: str) -> Iterator[Finding]:
        self._watch(connection)
        lookup = QueueLookup(connection, queue)
        try:
            look = lookup.look()
        except Exception as failed:  # noqa: BLE001 - boto3's, and what its providers of credentials raise
            yield error("queue", str(connection.unavailable(queue, failed)))
            return
        attributes = look.attributes
        if attributes is None:
            yield warning(
                "queue",
                f"{lookup.name} is there, but its attributes may not be read: grant sqs:GetQueueAttributes, or its "
                f"depth stays unknown and a visibility timeout of 30 s and a retention of 14 days are assumed, "
                "and no redrive policy: what is no event is deleted, unless --sqs.on-invalid is leave",
            )
            attributes = lookup.assumed_attributes(look.target)
        else:
            yield Finding("queue", _described(attributes))
            self.attributes[lookup.name] = attributes
        for sentence in advice(attributes, self._settings):
            leave = "run will take nothing" in sentence
            yield error("queue", sentence, WRONG_SETTING) if leave else warning("queue", sentence)
        yield from self._permissions(connection, lookup, look.target.queue_url, attributes)

    def _permissions(
        self, connection: Connection, lookup: QueueLookup, url: str, attributes: QueueAttributes
    ) -> Iterator[Finding]:
        client = connection.client
        no_message = [{"Id": "0", "ReceiptHandle": NO_HANDLE}]
        yield _tried(
            connection,
            lookup.name,
            "sqs:DeleteMessage",
            lambda: client.delete_message_batch(QueueUrl=url, Entries=no_message),  # type: ignore[arg-type]
        )
        if gives_back(self._settings, attributes):
            change: list[Any] = [{**no_message[0], "VisibilityTimeout": 0}]
            yield _tried(
                connection,
                lookup.name,
                "sqs:ChangeMessageVisibility",
                lambda: client.change_message_visibility_batch(QueueUrl=url, Entries=change),
            )
        yield self._received(connection, lookup.name, url, attributes)
        arn = attributes.dead_letter_queue_arn
        if arn is not None:
            try:
                lookup.visible_in(arn)
                yield Finding("permission", f"the depth of dead-letter queue {arn.rpartition(':')[2]}: granted")
            except Exception as failed:  # noqa: BLE001 - as above
                yield warning(
                    "permission",
                    f"the depth of dead-letter queue {arn.rpartition(':')[2]} is unknown ({reason_of(failed)}): grant "
                    f"sqs:GetQueueUrl and sqs:GetQueueAttributes on it to see it",
                )

    def _received(self, connection: Connection, name: str, url: str, attributes: QueueAttributes) -> Finding:
        key = f", nor kms:Decrypt for {attributes.kms_key_id}" if attributes.kms_key_id else ""
        if not self._receive:
            return warning(
                "permission",
                f"sqs:ReceiveMessage on {name} is not tried{key}: a receive counts towards maxReceiveCount; --receive "
                f"does it, and gives the message back",
            )
        client = connection.client
        try:
            said = client.receive_message(QueueUrl=url, MaxNumberOfMessages=1)
        except Exception as failed:  # noqa: BLE001 - as above
            return error("permission", str(connection.unavailable(name, failed)))
        given_back = True
        for message in said.get("Messages", []):
            try:
                client.change_message_visibility(
                    QueueUrl=url, ReceiptHandle=message["ReceiptHandle"], VisibilityTimeout=0
                )
            except Exception:  # noqa: BLE001 - it comes back by itself
                given_back = False
        if not said.get("Messages"):
            kms = f"; kms:Decrypt for {attributes.kms_key_id} shows with a message only" if key else ""
            return Finding("permission", f"sqs:ReceiveMessage on {name}: granted (the queue is empty{kms})")
        after = f"is visible again after {attributes.visibility_timeout_seconds} s" if not given_back else "is back"
        return Finding("permission", f"sqs:ReceiveMessage on {name}: granted (one message was received, and {after})")

    def _prefix(self, prefix: str, named: Mapping[str, str]) -> Iterator[Finding]:
        self._watch(self._connection)
        try:
            found = list_queues(self._connection, prefix)
        except Exception as failed:  # noqa: BLE001 - as above
            yield error("queue", str(self._connection.unavailable(prefix, failed)))
            return
        if not found:
            yield warning("queue", f"no queue is named {prefix} now: run waits for one")
        for name in sorted(found):
            if name in named:
                continue
            try:
                sources = QueueLookup(self._connection, name).sources()
            except Exception as failed:  # noqa: BLE001 - as above
                yield error("queue", str(self._connection.unavailable(name, failed)))
                continue
            if sources:
                yield Finding(
                    "queue", f"{name} of prefix {prefix} is left out: it is the dead-letter queue of {min(sources)}"
                )
                continue
            yield from self._queue(self._connection, name)

    def _watch(self, connection: Connection) -> None:
        if id(connection.client) not in self._watched:
            self._watched.add(id(connection.client))
            connection.client.meta.events.register("after-call.sqs", self._note_date)

    def _note_date(self, http_response: Any, **_: object) -> None:  # noqa: ANN401 - botocore's, which has no types
        try:
            sqs_seconds = parsedate_to_datetime(http_response.headers["Date"]).timestamp()
        except (KeyError, TypeError, ValueError):
            return
        # The header is cut to whole seconds: SQS meant a moment within the one that follows.
        self._skew_seconds = time() - (sqs_seconds + 0.5)

    def _clock(self) -> Iterator[Finding]:
        if self._skew_seconds is None:
            return
        apart = abs(self._skew_seconds)
        if apart > CLOCK_SECONDS:
            which = "ahead of" if self._skew_seconds > 0 else "behind"
            yield warning("clock", f"this machine's clock is {apart:.0f} s {which} SQS's: set it right")
        else:
            yield Finding("clock", f"within {max(1.0, apart):.0f} s of SQS's")


def gives_back(settings: Settings, attributes: QueueAttributes) -> bool:
    """Whether a run changes visibility: a FIFO queue's group must not wait for a message that is left to the policy."""
    return attributes.fifo and settings.sqs.on_invalid != "delete" and attributes.dead_letter_queue_arn is not None


def _described(attributes: QueueAttributes) -> str:
    said = f"{attributes.arn}, visibility timeout {attributes.visibility_timeout_seconds} s"
    if attributes.retention_seconds is not None:
        said += f", retention {attributes.retention_seconds} s"
    if attributes.kms_key_id:
        said += f", KMS key {attributes.kms_key_id}"
    if attributes.dead_letter_queue_arn is None:
        return f"{said}, no redrive policy"
    return f"{said}, after {attributes.max_receive_count} receives to {attributes.dead_letter_queue_arn}"


def _tried(connection: Connection, name: str, permission: str, call: Callable[[], Mapping[str, Any]]) -> Finding:
    """Make a call that can do no harm, and say whether it was denied."""
    try:
        failed: Sequence[Mapping[str, Any]] = call().get("Failed", ())
    except ExporterError:
        raise
    except Exception as refused:  # noqa: BLE001 - boto3's, and what its providers of credentials raise
        reason = reason_of(refused)
        if reason == "request":  # the invalid handle, said of the whole request
            return Finding("permission", f"{permission} on {name}: granted (tried with a receipt handle that is none)")
        return error("permission", str(connection.unavailable(name, refused)))
    codes = {str(entry.get("Code", "")) for entry in failed}
    if any("AccessDenied" in code for code in codes):
        return error("permission", f"{permission} on {name}: denied; grant it")
    return Finding("permission", f"{permission} on {name}: granted (tried with a receipt handle that is none)")
