"""The landing page in a real browser: wide, narrow, light, dark and not ready. Nothing of it is blocked or cut off.

`LANDING_PAGE_PICTURES=folder` keeps the pictures; the one in docs/ is `desktop.png` of them.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
from landing_examples import ill, one_fails, page, rendered
from programs import path_of
from test_web import serving

BROWSER_SECONDS = 120
QUIET = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
)
DARK = "--blink-settings=preferredColorScheme=0"
MEASURE = """<!DOCTYPE html><body><iframe id="page" style="width:%dpx;height:3000px;border:0"></iframe><script>
const frame = document.getElementById("page");
frame.onload = () => {
  const page = frame.contentDocument, style = (part) => frame.contentWindow.getComputedStyle(page.querySelector(part));
  document.title = JSON.stringify({ width: page.documentElement.scrollWidth, page: style("body").backgroundColor,
    text: style("body").color, state: style(".state").borderLeftColor, line: style("polyline").stroke });
};
frame.srcdoc = %s;
</script></body>"""
"""A page that says how another one looks at a width."""


def browse(folder: Path, *arguments: str) -> str:
    """Run the browser with a profile of its own; returns what it prints. Nothing may be blocked by a policy."""
    profile = f"--user-data-dir={folder / 'profile'}"
    command = [path_of("chromium", "chromium"), *QUIET, "--enable-logging=stderr", profile, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=BROWSER_SECONDS, check=True, cwd=folder)
    assert "Content Security Policy" not in done.stderr
    return done.stdout


def look_of(folder: Path, html: str, width: int, *arguments: str) -> dict[str, str | int]:
    """Return how wide the page wants to be at that width, and some of its colours."""
    file = folder / "measure.html"
    file.write_text(MEASURE % (width, json.dumps(html).replace("</", "<\\/")), encoding="utf-8")
    said = browse(folder, "--virtual-time-budget=5000", "--dump-dom", *arguments, file.as_uri())
    look: dict[str, str | int] = json.loads(said.partition("<title>")[2].partition("</title>")[0])
    return look


@pytest.mark.parametrize("width", [320, 390, 700, 800, 1200])
def test_no_width_cuts_anything_off(tmp_path: Path, width: int) -> None:
    """From a small phone on, long names included, the page is as wide as the screen."""
    names = ("added-to-basket", "x" * 128, "☃" * 128)
    for html in (rendered(ill), rendered(lambda now: page(now, state=" ".join(names), ledger="l" * 63))):
        assert look_of(tmp_path, html, width)["width"] == width


def test_it_is_light_or_dark_as_the_reader_likes_it(tmp_path: Path) -> None:
    """Text and background change places, and so does what draws the lines."""
    light, dark = look_of(tmp_path, rendered(), 1200), look_of(tmp_path, rendered(), 1200, DARK)
    assert (light["page"], light["text"]) == ("rgb(246, 248, 250)", "rgb(31, 35, 40)")
    assert (dark["page"], dark["text"]) == ("rgb(13, 17, 23)", "rgb(230, 237, 243)")
    assert light["line"] != dark["line"]


def test_its_state_has_a_colour(tmp_path: Path) -> None:
    """Green where it is ready, amber where it is but for a queue, red where it is not."""
    assert look_of(tmp_path, rendered(), 1200)["state"] == "rgb(26, 127, 55)"
    assert look_of(tmp_path, rendered(one_fails), 1200)["state"] == "rgb(138, 90, 0)"
    assert look_of(tmp_path, rendered(ill), 1200)["state"] == "rgb(179, 38, 30)"


def test_the_served_page_is_shown_whole_under_its_policy(tmp_path: Path) -> None:
    """The browser blocks nothing of it, style and lines included."""
    with serving(page=lambda: page(100.0)) as server:
        shown = browse(tmp_path, "--dump-dom", server.url)
    for part in ("shop-events", "pageview", "<svg", "prefers-color-scheme"):
        assert part in shown


@pytest.mark.parametrize(
    ("name", "html", "size", "arguments"),
    [
        ("desktop", rendered(), "1200,790", ()),
        ("phone", rendered(), "390,1500", ()),
        ("dark", rendered(), "1200,790", (DARK,)),
        ("one-fails", rendered(one_fails), "1200,900", ()),
        ("not-ready", rendered(ill), "1200,1000", ()),
    ],
    ids=["desktop", "phone", "dark", "one-fails", "not-ready"],
)
def test_a_picture_can_be_taken(tmp_path: Path, name: str, html: str, size: str, arguments: tuple[str, ...]) -> None:
    """On a desktop, on a phone, in the dark, with a queue that fails, and not ready."""
    pictures = Path(os.environ.get("LANDING_PAGE_PICTURES", tmp_path)).resolve()
    pictures.mkdir(exist_ok=True)
    file = tmp_path / "page.html"
    file.write_text(html, encoding="utf-8")
    picture = pictures / f"{name}.png"
    browse(tmp_path, *arguments, f"--window-size={size}", f"--screenshot={picture}", file.as_uri())
    assert picture.stat().st_size > 20_000
