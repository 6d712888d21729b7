"""What several files of tests ask for by name."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import hypothesis
import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from outages import Case

hypothesis.settings.register_profile("any machine", deadline=None)  # a busy machine is not a finding
hypothesis.settings.load_profile("any machine")

SIDE_BY_SIDE = 12
"""Most of each is waiting, but more would measure how fast processes start."""


@pytest.fixture(scope="module")
def outcome(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[Case], None]]:
    """Run the cases of all selected tests of the file that ask for this side by side; give what waits for an end."""
    asking = (item for item in request.session.items if isinstance(item, pytest.Function) and item.path == request.path)
    cases: list[Case] = [
        item.callspec.params["case"]  # type: ignore[misc]  # whatever a test has for parameters
        for item in asking
        if request.fixturename in item.fixturenames
    ]
    with ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
        ends = {case: pool.submit(case, tmp_path_factory.mktemp("outage") / "ledger.db") for case in cases}
        yield lambda case: ends[case].result()
