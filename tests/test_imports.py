"""Imports go down only, so that a room can be read, tested and replaced without those above it."""

from __future__ import annotations

import ast
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "exporter"

STOREYS: tuple[dict[str, tuple[str, ...]], ...] = (
    {"cli": ("cli", "__main__")},
    {"app": ("app", "inspection")},
    {
        "consumer": ("consumer", "deletions", "pacing", "recorder"),
        "web": ("web", "web.*"),
        "summary": ("summary",),
        "otlp": ("otlp", "otlp.*"),
        "demo": ("demo", "produce", "sample"),
    },
    {"instrumentation": ("instrumentation", "readiness")},
    {"metrics": ("metrics", "metrics.*")},
    {"ledger": ("ledger", "ledger.*")},
    {"sqs": ("sqs", "sqs.*"), "event": ("event",)},
    {"settings": ("settings", "settings.*", "command_line")},
    {"ground": ("", "backoff", "build", "errors", "failpoint", "logs", "wording", "yaml_file")},
)
"""From top to bottom; rooms beside each other do not meet. A new module has to be given its place here."""


def name_of(path: Path) -> str:
    """Return a module's name below the package, "" for the package itself."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def place_of(module: str) -> tuple[int, str]:
    """Return the storey and the room of a module."""
    for storey, rooms in enumerate(STOREYS):
        for room, patterns in rooms.items():
            if any(fnmatchcase(module, pattern) for pattern in patterns):
                return storey, room
    pytest.fail(f"exporter.{module} stands in no room: give it one in STOREYS")


def imported_by(source: str) -> set[str]:
    """Return the package's modules that the source imports, anywhere in it and if only for its types."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports are not looked at"
            names.update({str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)})
    inside = {name.removeprefix("exporter").removeprefix(".") for name in names if name.split(".")[0] == "exporter"}
    return inside & MODULES.keys()


def wrong_arrows(module: str, source: str) -> list[str]:
    """Return the imports that go up, or into the room next door."""
    storey, room = place_of(module)
    wrong = []
    for other in sorted(imported_by(source)):
        other_storey, other_room = place_of(other)
        if other_storey < storey or (other_storey == storey and other_room != room):
            wrong.append(f"exporter.{module} ({room}) imports exporter.{other} ({other_room})")
    return wrong


@pytest.mark.parametrize("module", MODULES)
def test_no_import_goes_up(module: str) -> None:
    """Each module imports from its own room and from the storeys below."""
    assert wrong_arrows(module, MODULES[module].read_text(encoding="utf-8")) == []


def test_settings_are_known_at_the_top_only() -> None:
    """Parts get plain values: nobody below the app knows how a value was set."""
    knowing = {
        place_of(module)[1]
        for module, path in MODULES.items()
        if any(place_of(other)[1] == "settings" for other in imported_by(path.read_text(encoding="utf-8")))
    }
    assert knowing <= {"cli", "app", "settings"}


def test_the_ledger_does_not_know_sqs() -> None:
    """It counts what it is given, wherever that came from."""
    for module, path in MODULES.items():
        if place_of(module)[1] == "ledger":
            assert not {other for other in imported_by(path.read_text(encoding="utf-8")) if place_of(other)[1] == "sqs"}


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("errors", "from exporter.settings import Settings"),
        ("event", "from exporter import sqs"),
        ("sqs.calls", "import exporter.event"),
        ("summary", "def f():\n    from exporter.consumer import Consumer"),
        ("ledger.ids", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from exporter.metrics import Health"),
    ],
)
def test_an_arrow_that_points_up_is_seen(module: str, source: str) -> None:
    """However it is written."""
    assert len(wrong_arrows(module, source)) == 1
