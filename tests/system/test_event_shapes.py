"""Events of other shapes, through the whole program: envelopes, labels, own ids and attributes, and a shape a queue."""

from __future__ import annotations

import json
from pathlib import Path

from exporter_process import ExporterProcess
from fake_sqs import FakeSqs

SAMPLES = Path(__file__).parent.parent / "samples"

FILE = """
events:
  value-field: total
  labels: currency
queues:
  events:
    events: {type-field: kind, value-field: order.total, labels: currency=order.currency}
  shop-*:
    events: {type-field: "attribute:kind", labels: "tenant=attribute:tenant,currency"}
  orders:
    events: {envelope: eventbridge, value-field: order.total, labels: "currency=order.currency,country=country"}
"""


def test_an_event_is_counted_once_by_its_own_id_whatever_brought_it(tmp_path: Path) -> None:
    """Sent twice through SNS and once by EventBridge itself, the documented order counts once, under its labels."""
    through_sns, directly = (SAMPLES.joinpath(f"eventbridge_{name}.json").read_text() for name in ("in_sns", "order"))
    several = (SAMPLES / "s3_put.json").read_text()
    flags = ("--events.value-field", "order.total", "--events.id-field", "order.id")
    labels = ("--events.labels", "country,currency=order.currency")
    with FakeSqs() as sqs, ExporterProcess(sqs.environment, tmp_path / "ledger.db", *flags, *labels) as exporter:
        sqs.send([through_sns, through_sns, directly, several])
        scrape = exporter.wait_for(lambda scrape: scrape.received == 4)
        order = {"type": "OrderPlaced", "country": "NL", "currency": "EUR"}
        assert (scrape.counted, scrape.duplicate, scrape.rejected) == (1, 2, 1)
        assert scrape.total("sqs_events_total", **order) == 1
        assert scrape.total("sqs_event_value_total", **order) == 149.99
        (said,) = (json.loads(line) for line in exporter.stderr if "not an event" in line)
        assert (said["reason"], said["field"], said["held"]) == ("several_records", "Records", "array")


def test_three_queues_of_three_shapes_are_counted_side_by_side(tmp_path: Path) -> None:
    """Each queue is read by its own part of the file; all series have the labels of all queues."""
    config = tmp_path / "config.yml"
    config.write_text(FILE, encoding="utf-8")
    with FakeSqs() as sqs:
        for name in ("shop-eu", "orders"):
            sqs.create_queue(name)
        sqs.send(['{"kind": "nested", "order": {"total": "1.5", "currency": "EUR"}}'])
        attributes = {
            name: {"DataType": "String", "StringValue": value} for name, value in (("kind", "raw"), ("tenant", "acme"))
        }
        sqs.send(['{"total": 2, "currency": "SEK"}'], queue_name="shop-eu", message_attributes=attributes)
        sqs.send([(SAMPLES / "eventbridge_order.json").read_text()], queue_name="orders")
        with ExporterProcess(
            sqs.environment, tmp_path / "ledger.db", "--config.file", str(config), queue="events,shop-*,orders"
        ) as exporter:
            scrape = exporter.wait_for(lambda scrape: scrape.received == 3)
            assert scrape.counted == 3
            values = {
                tuple(dict(has)[label] for label in ("queue", "type", "currency", "tenant", "country")): value
                for (name, has), value in scrape.samples.items()
                if name == "sqs_event_value_total" and value
            }
            assert values == {
                ("events", "nested", "EUR", "", ""): 1.5,
                ("shop-eu", "raw", "SEK", "acme", ""): 2,
                ("orders", "OrderPlaced", "EUR", "", "NL"): 149.99,
            }
