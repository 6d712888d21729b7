"""How an error shows what somebody else wrote."""

from __future__ import annotations

import pytest

from exporter.errors import shown


@pytest.mark.parametrize(
    "url", ["postgresql://user:se/cret@db/shop", "http://user:se@cret@db/shop", "http://user:se?cret@db/shop?x=cret"]
)
def test_no_password_in_a_url_is_shown(url: str) -> None:
    """Nor half of one, where it holds what a URL has to encode."""
    assert "cret" not in shown(url)
    assert "@db/shop" in shown(url)
