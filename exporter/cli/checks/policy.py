"""The IAM policy of a run: exactly what these settings and these queues need.

https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-api-permissions-reference.html
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from exporter.cli.checks.queues import gives_back
from exporter.sqs.names import account_of, by_name, is_prefix, queue_name_of, region_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from exporter.settings import Settings
    from exporter.sqs import QueueAttributes
    from exporter.sqs.aws import Connection

AWS_OWN_KEY = "alias/aws/sqs"
"""Its key policy lets everyone in the account use it through SQS who may use the queue."""


def iam_policy(
    settings: Settings, connection: Connection, attributes: Mapping[str, QueueAttributes]
) -> dict[str, object]:
    """Return the policy document. `attributes` are those of the queues that could be read, by name.

    Of the others it is not known whether they have a KMS key or a dead-letter queue, nor, without a URL, the account.
    """
    partition = connection.client.meta.partition
    named = by_name(settings.queue)
    statements: list[dict[str, Any]] = []
    given_back = []
    for name, queue in named.items():
        found = attributes.get(name)
        region = region_of(queue) or connection.region
        account = account_of(queue) if region_of(queue) else "*"
        arn = found.arn if found else f"arn:{partition}:sqs:{region}:{account}:{queue_name_of(queue)}"
        actions = ["sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes"]
        statements.append(_allow(actions if "://" in queue else [*actions, "sqs:GetQueueUrl"], arn))
        if found and gives_back(settings, found):
            given_back.append(arn)
    for prefix in filter(is_prefix, settings.queue):
        account = next((one.arn.split(":")[4] for one in attributes.values()), "*")
        arn = f"arn:{partition}:sqs:{connection.region}:{account}:{prefix}"
        statements.append(
            _allow(
                [
                    "sqs:ReceiveMessage",
                    "sqs:DeleteMessage",
                    "sqs:GetQueueAttributes",
                    "sqs:GetQueueUrl",
                    "sqs:ListDeadLetterSourceQueues",
                ],
                arn,
            )
        )
        statements.append(_allow(["sqs:ListQueues"], "*"))
        given_back += [one.arn for name, one in attributes.items() if name not in named and gives_back(settings, one)]
    dead = {one.dead_letter_queue_arn for one in attributes.values() if one.dead_letter_queue_arn}
    statements += [_allow(["sqs:ChangeMessageVisibility"], arn) for arn in sorted(set(given_back))]
    statements += [_allow(["sqs:GetQueueUrl", "sqs:GetQueueAttributes"], arn) for arn in sorted(dead)]
    statements += _keys(attributes.values())
    return {"Version": "2012-10-17", "Statement": _merged(statements)}


def _allow(actions: list[str], arn: str, **condition: object) -> dict[str, Any]:
    return {"Effect": "Allow", "Action": actions, "Resource": [arn], **condition}


def _merged(statements: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Put together what allows the same on several resources."""
    by_actions: dict[str, dict[str, Any]] = {}
    for statement in statements:
        key = str((statement["Action"], statement.get("Condition")))
        if key in by_actions:
            resources = by_actions[key]["Resource"]
            resources += [arn for arn in statement["Resource"] if arn not in resources]
        else:
            by_actions[key] = statement
    return list(by_actions.values())


def _keys(attributes: Iterable[QueueAttributes]) -> Iterable[dict[str, Any]]:
    for one in attributes:
        key = one.kms_key_id
        if key is None or key.endswith(AWS_OWN_KEY):
            continue
        _, partition, _, region, account, _ = one.arn.split(":", 5)
        through = {"kms:ViaService": f"sqs.{region}.amazonaws.com"}
        alias = key.rpartition(":")[2]
        if alias.startswith("alias/"):
            condition: dict[str, object] = {
                "StringEquals": through,
                "ForAnyValue:StringEquals": {"kms:ResourceAliases": alias},
            }
            yield _allow(["kms:Decrypt"], f"arn:{partition}:kms:{region}:{account}:key/*", Condition=condition)
            continue
        arn = key if key.startswith("arn:") else f"arn:{partition}:kms:{region}:{account}:key/{key}"
        yield _allow(["kms:Decrypt"], arn, Condition={"StringEquals": through})
