"""Generated mappings, attributes and bodies become what the slow reference says, whatever leads where."""

from __future__ import annotations

from event_reference import reference
from hostile import NOW_SECONDS
from hostile_strategies import Message, messages
from hypothesis import HealthCheck, event, given, settings

from exporter.errors import InvalidEvent
from exporter.events.event import REASONS, Event, EventParser

repeatable = settings(
    derandomize=True,
    database=None,
    max_examples=300,
    deadline=None,  # a busy machine is not a finding
    suppress_health_check=[HealthCheck.too_slow],
)


@repeatable
@given(messages())
def test_the_parser_says_what_the_second_opinion_says(message: Message) -> None:
    """Event or reason, time, id and labels are those of the reference; no other error occurs."""
    mapping, body, attributes = message
    try:
        found: Event | str = EventParser(mapping).parse(
            body, sent_at_seconds=NOW_SECONDS, now_seconds=0.0, attributes=attributes
        )
    except InvalidEvent as invalid:
        found = invalid.reason
        assert found in REASONS
    expected = reference(body, mapping, attributes=attributes, latest_seconds=NOW_SECONDS + 300)
    event(found if isinstance(found, str) else "event")
    assert expected in {found, None}
