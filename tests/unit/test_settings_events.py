"""How the events of each queue are read: for all by flags and variables, for single queues by the file."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from exporter.errors import WrongSettingError
from exporter.events.mapping import EventMapping
from exporter.settings.sources import read_settings

if TYPE_CHECKING:
    from pathlib import Path

    from exporter.settings import Settings

FILE = """
queue: orders,shop-*
events:
  id-field: id
  labels: [currency, country=shipping.country]
queues:
  orders:
    events:
      type-field: detail.kind
      value-field: ""
      labels: tenant=attribute:tenant
  shop-*:
    events.envelope: sns
  "shop-eu-*":
    events: {envelope: cloudevents, id-field: "", labels: "country=place,currency"}
  quiet:
"""


def settings_of(tmp_path: Path, text: str, **flags: str) -> Settings:
    """Read a file of settings."""
    path = tmp_path / "config.yml"
    path.write_text(text, encoding="utf-8")
    return read_settings({"config.file": str(path), "queue": "orders", **flags}, {})


def test_without_the_file_every_queue_is_read_as_the_flags_say() -> None:
    """The mapping of a queue that is named nowhere is that of all."""
    flags = {"queue": "orders", "events.value-field": "", "events.labels": "currency", "events.require-timestamp": "on"}
    settings = read_settings(flags, {"EXPORTER_EVENTS__ENVELOPE": "eventbridge"})
    assert settings.event_mapping("orders") == EventMapping(
        value_field="", envelope="eventbridge", labels=(("currency", "currency"),), require_timestamp=True
    )
    assert read_settings({"queue": "orders"}, {}).event_mapping("any") == EventMapping()


def test_a_queue_has_the_settings_under_its_name_else_under_its_longest_prefix(tmp_path: Path) -> None:
    """What a queue does not say itself is as for all queues, not as for a shorter prefix."""
    settings = settings_of(tmp_path, FILE)
    nothing = (("currency", ""), ("country", ""))
    everything = (("currency", "currency"), ("country", "shipping.country"), ("tenant", ""))
    assert settings.event_mapping("orders") == EventMapping(
        type_field="detail.kind", value_field="", id_field="id", labels=(*nothing, ("tenant", "attribute:tenant"))
    )
    assert settings.event_mapping("shop-us") == EventMapping(envelope="sns", id_field="id", labels=everything)
    assert settings.event_mapping("shop-eu-1") == EventMapping(
        envelope="cloudevents", labels=(("currency", "currency"), ("country", "place"), ("tenant", ""))
    )
    for other in ("quiet", "shop", "orders-2"):
        assert settings.event_mapping(other) == EventMapping(id_field="id", labels=everything)


def test_label_names_are_the_same_for_all_queues(tmp_path: Path) -> None:
    """Those of all queues come first, then those that single queues add."""
    settings = settings_of(tmp_path, FILE)
    assert settings.label_names == ("currency", "country", "tenant")
    for queue in ("orders", "shop-eu-1", "quiet"):
        assert tuple(name for name, _ in settings.event_mapping(queue).labels) == settings.label_names


def test_a_flag_leaves_the_settings_of_single_queues_alone(tmp_path: Path) -> None:
    """The file's own word for a queue is nearer to it than a flag for all."""
    settings = settings_of(tmp_path, FILE, **{"events.envelope": "none", "events.type-field": "kind"})
    assert settings.event_mapping("shop-us").envelope == "sns"
    assert settings.event_mapping("shop-us").type_field == "kind"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("queues: [orders]", "{path}:1 (queues) is not a mapping: write names or prefixes of queues, such as shop-*"),
        ("queues: {orders: 1}", "{path}:1 (queues.orders) is not a mapping: write events with their settings"),
        (
            "queues:\n  orders:\n    events:\n      value-field: a..b",
            "{path}:4 (queues.orders.events.value-field) is 'a..b': use a path such as detail.order.total",
        ),
        (
            "queues: {orders: {events: {envelope: x}}}",
            "{path}:1 (queues.orders.events.envelope) is 'x': use auto, none",
        ),
        (
            "queues:\n  orders:\n    events:\n      max-types: 3",
            "{path}:4 (events.max-types) is not a setting of a queue",
        ),
        (
            "queues:\n  orders: {events: {typefield: a}}",
            "{path}:2 (events.typefield) is not a setting of a queue; did you mean events.type-field?",
        ),
        ("queues:\n  a:\n  a:\n", "{path}:3 names the queue 'a' again: keep one of them"),
        ("queues: {a: {}}\nevents: {}\nqueues: {b: {}}", "{path}:3 sets queues again, after {path}:1: keep one"),
        ("queues: {[a]: {}}", "'{path}' has settings for the queue 'a key': use its name (1 to 80 letters"),
        ("queues: {a b: {}}", "'{path}' has settings for the queue 'a b': use its name (1 to 80 letters"),
        ('queues: {"*": {}}', "'{path}' has settings for the queue '*': use its name"),
        (
            "events: {labels: 'a,b,c,d,e,f'}\nqueues: {x: {events: {labels: 'g,h,i,j,k'}}}",
            "--events.labels and the labels under 'queues' of the file together: 11 labels are too many",
        ),
    ],
)
def test_what_is_wrong_for_a_queue_is_named(text: str, said: str, tmp_path: Path) -> None:
    """The sentence says which queue, which line and what would be right."""
    with pytest.raises(WrongSettingError) as caught:
        settings_of(tmp_path, text)
    assert str(caught.value).startswith(said.replace("{path}", str(tmp_path / "config.yml")))
