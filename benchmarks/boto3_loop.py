"""What people write themselves: a boto3 loop that counts in memory with prometheus_client. The benchmark's yardstick.

Run by bench.py. It prints where it is scraped, and at the end what it counted; it ends on SIGTERM or, with
`--until-empty`, at the first empty answer.
"""

from __future__ import annotations

import argparse
import json
import signal
import threading
from typing import TYPE_CHECKING

import boto3
from botocore.config import Config
from prometheus_client import CollectorRegistry, Counter, start_http_server

if TYPE_CHECKING:
    from mypy_boto3_sqs.type_defs import DeleteMessageBatchRequestEntryTypeDef

WAIT_SECONDS = 1
"""The exporter's `--until-empty` waits as long."""


def main() -> None:
    """Count until told to stop."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--queue", required=True)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--wait", type=int, default=WAIT_SECONDS, help="seconds of the long poll")
    parser.add_argument("--until-empty", action="store_true")
    arguments = parser.parse_args()

    stopping = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopping.set())
    registry = CollectorRegistry()
    events = Counter("sqs_events", "events counted", ["type"], registry=registry)
    values = Counter("sqs_event_value", "sum of their values", ["type"], registry=registry)
    server, _ = start_http_server(0, "127.0.0.1", registry)
    print(f"listening=http://127.0.0.1:{server.server_port}", flush=True)

    sqs = boto3.client("sqs", config=Config(max_pool_connections=arguments.threads))
    queue_url = sqs.get_queue_url(QueueName=arguments.queue)["QueueUrl"]

    def consume() -> None:
        while not stopping.is_set():
            answer = sqs.receive_message(QueueUrl=queue_url, MaxNumberOfMessages=10, WaitTimeSeconds=arguments.wait)
            messages = answer.get("Messages", [])
            if not messages:
                if arguments.until_empty:
                    return
                continue
            entries: list[DeleteMessageBatchRequestEntryTypeDef] = []
            for number, message in enumerate(messages):
                event = json.loads(message["Body"])
                events.labels(event["type"]).inc()
                values.labels(event["type"]).inc(float(event["value"]))
                entries.append({"Id": str(number), "ReceiptHandle": message["ReceiptHandle"]})
            sqs.delete_message_batch(QueueUrl=queue_url, Entries=entries)

    threads = [threading.Thread(target=consume) for _ in range(arguments.threads)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    for labels in [one.labels for one in next(iter(events.collect())).samples if one.name == "sqs_events_total"]:
        count = registry.get_sample_value("sqs_events_total", labels)
        value = registry.get_sample_value("sqs_event_value_total", labels)
        print(json.dumps({**labels, "count": count, "sum": value}), flush=True)


if __name__ == "__main__":
    main()
