"""The locks hold exactly what pyproject.toml asks for; checked without a network."""

from __future__ import annotations

import os
import re
import runpy
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

if TYPE_CHECKING:
    from collections.abc import Callable

HERE = Path(__file__).resolve().parents[2] / "requirements"
LOCK_PROGRAM: dict[str, Any] = runpy.run_path(str(HERE / "lock.py"))
LOCKS: dict[str, tuple[str, ...]] = LOCK_PROGRAM["LOCKS"]
header: Callable[[tuple[str, ...]], str] = LOCK_PROGRAM["header"]
requirements: Callable[[tuple[str, ...]], list[str]] = LOCK_PROGRAM["requirements"]

PIN = re.compile(
    r"^(?P<name>[A-Za-z0-9._-]+)==(?P<version>[^ ;]+)(?: ; (?P<marker>.+?))? \\\n"
    r"(?:    --hash=sha256:[0-9a-f]{64}(?: \\)?\n)+",
    re.MULTILINE,
)


def text_of(lock: str) -> str:
    """Return a lock as it stands."""
    return (HERE / lock).read_text(encoding="utf-8")


def pins_of(lock: str) -> dict[str, str]:
    """Return the versions that a lock has for the Python and platform that runs the tests."""
    found = PIN.finditer(text_of(lock))
    return {
        canonicalize_name(pin["name"]): pin["version"]
        for pin in found
        if not pin["marker"] or Marker(pin["marker"]).evaluate()
    }


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_was_made_from_the_requirements_of_now(lock: str) -> None:
    """Whoever changes a requirement has to run `make lock`."""
    assert text_of(lock).splitlines()[0] == header(LOCKS[lock])


@pytest.mark.parametrize("lock", LOCKS)
def test_every_line_of_a_lock_is_a_pin_with_hashes(lock: str) -> None:
    """No address, no path, no version without a hash: nothing but what was locked can be installed."""
    body = text_of(lock).split("\n", 1)[1]
    assert PIN.sub("", body) == ""


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_satisfies_what_is_required(lock: str) -> None:
    """Each requirement of pyproject.toml has a pin that fits."""
    pins = pins_of(lock)
    for requirement in map(Requirement, requirements(LOCKS[lock])):
        assert requirement.specifier.contains(pins[canonicalize_name(requirement.name)], prereleases=True), requirement


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_is_closed(lock: str) -> None:
    """What the pinned packages need for themselves is pinned, too, in a version that fits."""
    pins = pins_of(lock)
    for name, pinned in pins.items():
        try:
            if version(name) != pinned:
                continue
        except PackageNotFoundError:
            continue
        for requirement in map(Requirement, requires(name) or []):
            if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
                continue
            needed = pins.get(canonicalize_name(requirement.name), "none")
            assert requirement.specifier.contains(needed, prereleases=True), f"{name} needs {requirement}"


def test_no_version_differs_between_locks() -> None:
    """What is tested is what is installed."""
    tested = pins_of("dev.txt")
    for lock in LOCKS:
        assert pins_of(lock).items() <= tested.items()


def test_the_tests_run_with_what_is_locked() -> None:
    """In CI the environment is the lock's; elsewhere somebody may try other versions."""
    installed = {}
    for name in pins_of("dev.txt"):
        try:
            installed[name] = version(name)
        except PackageNotFoundError:
            installed[name] = "none"
    different = {name: found for name, found in installed.items() if found != pins_of("dev.txt")[name]}
    if different:
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(
            f"not the environment of requirements/dev.txt: {sorted(different)}"
        )
