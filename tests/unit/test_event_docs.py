"""The recipes of docs/events.md: each body becomes, by the settings beside it, what the page says."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from exporter.events.event import NANO, REASONS, EventParser
from exporter.settings import Settings
from exporter.settings.setting import setting_fields
from exporter.settings.sources import read_settings

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGE = (Path(__file__).parent.parent.parent / "docs" / "events.md").read_text()
LATER_SECONDS = 1_700_000_000.0


def recipes() -> Iterator[tuple[str, str, str, str]]:
    """Return title, settings, body and outcome of each recipe."""
    for recipe in re.split(r"^### ", PAGE.partition("\n## Recipes\n")[2], flags=re.MULTILINE)[1:]:
        title, _, text = recipe.partition("\n")
        settings, body, outcome = re.findall(r"^```(?:yaml|json)\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
        yield title, settings, body, outcome


@pytest.mark.parametrize(
    ("title", "settings", "body", "outcome"), list(recipes()), ids=lambda text: text.partition("\n")[0]
)
def test_a_recipe_does_what_it_says(title: str, settings: str, body: str, outcome: str, tmp_path: Path) -> None:
    """Settings, body and outcome stand on the page as a reader copies them."""
    path = tmp_path / "config.yml"
    path.write_text(settings, encoding="utf-8")
    read = read_settings({"config.file": str(path), "queue": "orders"}, {})
    parser = EventParser(read.event_mapping("orders"))
    event = parser.parse(body.encode(), sent_at_seconds=LATER_SECONDS, now_seconds=0)
    told = json.loads(outcome)
    assert (event.type, event.value_nano / NANO, event.occurred_at_seconds) == (
        told["type"],
        told["value"],
        told["occurred_at_seconds"],
    ), title
    assert dict(zip(read.label_names, event.series[1:], strict=True)) == told.get("labels", {})
    assert (event.event_id is not None) == bool(read.events.id_field)


def test_the_example_of_several_queues_is_right(tmp_path: Path) -> None:
    """The file with queues of their own is read, and each queue has its mapping."""
    (example,) = (
        text for text in re.findall(r"^```yaml\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL) if "queues:" in text
    )
    path = tmp_path / "config.yml"
    path.write_text(example, encoding="utf-8")
    settings = read_settings({"config.file": str(path)}, {})
    assert settings.label_names == ("currency", "country")
    assert settings.event_mapping("orders").value_field == "detail.total"
    assert settings.event_mapping("shop-eu").envelope == "sns"
    assert settings.event_mapping("shop-eu").labels == (("currency", "currency"), ("country", ""))


def test_the_page_names_every_setting_and_every_reason() -> None:
    """Nothing that can be set about reading events, and no reason for a rejection, is missing."""
    flags = {field.setting.flag for field in setting_fields(Settings) if field.setting.key.startswith("events.")}
    assert {flag for flag in flags if f"`{flag}" not in PAGE} <= {"--events.types"}
    assert [reason for reason in REASONS if f"`{reason}`" not in PAGE] == []
