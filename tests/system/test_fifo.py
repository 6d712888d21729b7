"""A FIFO queue with a message that is no event, left to its redrive policy: its group isn't blocked for long."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import boto3
from exporter_process import ExporterProcess
from fake_sqs import FakeSqs
from fake_sqs.process import REGION
from outages import SHORT_WAIT

if TYPE_CHECKING:
    from pathlib import Path

VISIBILITY_SECONDS = 60
MAX_RECEIVE_COUNT = 5
EVENT = '{"type": "purchase", "value": 12.55}'


def test_a_message_left_to_redrive_does_not_block_its_group(tmp_path: Path) -> None:
    """It is given back at once: five receives later it is in the dead-letter queue, and what came after it counts.

    Otherwise that would take five visibility timeouts of a minute each.
    """
    with FakeSqs(queue_name="events.fifo") as sqs:
        sqs.create_queue("dead.fifo")
        gives_up = sqs.gives_up_to("dead.fifo", MAX_RECEIVE_COUNT)
        sqs.create_queue(attributes={"VisibilityTimeout": str(VISIBILITY_SECONDS), **gives_up})
        session = boto3.Session(
            sqs.environment["AWS_ACCESS_KEY_ID"], sqs.environment["AWS_SECRET_ACCESS_KEY"], region_name=REGION
        )
        client = session.client("sqs", endpoint_url=sqs.endpoint_url)
        for number, body in enumerate([EVENT, "no event", EVENT, EVENT]):
            client.send_message(
                QueueUrl=sqs.queue_url, MessageBody=body, MessageGroupId="one", MessageDeduplicationId=str(number)
            )
        client.close()
        started = time.monotonic()
        with ExporterProcess(sqs.environment, tmp_path / "ledger.db", *SHORT_WAIT, queue="events.fifo") as exporter:
            scrape = exporter.wait_for(lambda scrape: scrape.counted == 3 and scrape.rejected == 1)
            sqs.wait_until(lambda account: account.deleted == 3 and account.dead_lettered == 1)
            assert time.monotonic() - started < VISIBILITY_SECONDS
            assert scrape.rejected == 1
            assert sqs.account("dead.fifo").available == 1
