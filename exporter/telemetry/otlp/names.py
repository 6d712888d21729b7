"""Names of OpenTelemetry's semantic conventions, and the exporter's own in their manner.

The messaging conventions are in development, and their Python constants are no stable interface: these are copies.
https://opentelemetry.io/docs/specs/semconv/messaging/sqs/
https://opentelemetry.io/docs/specs/semconv/messaging/messaging-metrics/
"""

from __future__ import annotations

SCHEMA_URL = "https://opentelemetry.io/schemas/1.44.0"

SERVICE_NAME = "service.name"
SERVICE_VERSION = "service.version"
SERVICE_INSTANCE_ID = "service.instance.id"

SYSTEM = "messaging.system"
AWS_SQS = "aws_sqs"
DESTINATION = "messaging.destination.name"
OPERATION_NAME = "messaging.operation.name"
OPERATION_TYPE = "messaging.operation.type"
BATCH_COUNT = "messaging.batch.message_count"
MESSAGE_ID = "messaging.message.id"
QUEUE_URL = "aws.sqs.queue.url"
REQUEST_ID = "aws.request_id"
SERVER_ADDRESS = "server.address"
SERVER_PORT = "server.port"
ERROR_TYPE = "error.type"

OPERATION_TYPES = {
    "receive": "receive",
    "process": "process",
    "delete": "settle",
    "change_visibility": "settle",
    "send": "send",
}
"""What kind of operation each of SQS's is."""

CONSUMED_MESSAGES = "messaging.client.consumed.messages"
OPERATION_DURATION = "messaging.client.operation.duration"
PROCESS_DURATION = "messaging.process.duration"
DURATION_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)
"""Seconds, as the conventions have them."""

CLOUD_ACCOUNT = "cloud.account.id"
CLOUD_REGION = "cloud.region"
REVISION = "vcs.ref.head.revision"
RUNTIME_VERSION = "process.runtime.version"

EVENT_LABEL_PREFIX = "sqs.event."
LIMIT = "sqs.exporter.limit"
SIGNAL = "sqs.exporter.signal"
EVENT_TYPE = "sqs.event.type"
QUEUE_STATE = "sqs.queue.state"
DEAD_LETTER_QUEUE = "sqs.dead_letter_queue.name"


def operation_attributes(queue_name: str, operation: str) -> dict[str, str | int]:
    """Return what every span and measurement of an operation on the queue says; "" is for a batch of several queues."""
    attributes: dict[str, str | int] = {
        SYSTEM: AWS_SQS,
        OPERATION_NAME: operation,
        OPERATION_TYPE: OPERATION_TYPES[operation],
    }
    if queue_name:
        attributes[DESTINATION] = queue_name
    return attributes
