"""A real Prometheus for tests: with the committed configuration, and a history that it need not have scraped."""

from __future__ import annotations

import http.client
import json
import socket
import subprocess
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import yaml
from dashboard_queries import ROOT
from programs import path_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

WAIT_SECONDS = 60.0


def free_port() -> int:
    """Return a port that nobody listens on; Prometheus needs to know the exporter's, and it must outlive a restart."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


@dataclass
class Prometheus:
    """A running Prometheus."""

    port: int

    def get(self, path: str, **parameters: str) -> Any:  # noqa: ANN401 - JSON
        """Return the data of an answer; a refusal fails the test with Prometheus' own words."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=WAIT_SECONDS)
        try:
            connection.request("GET", f"/api/v1/{path}?{urlencode(parameters)}")
            answer = json.loads(connection.getresponse().read())
        finally:
            connection.close()
        assert answer["status"] == "success", answer
        return answer["data"]

    def query(self, expr: str, at_seconds: float | None = None) -> dict[str, float]:
        """Return the samples of an instant query, by their one label (or by all of them)."""
        found = self.get("query", query=expr, time=repr(at_seconds or time.time()))["result"]
        return {
            next(iter(sample["metric"].values())) if len(sample["metric"]) == 1 else str(sample["metric"]): float(
                sample["value"][1]
            )
            for sample in found
        }

    def number(self, expr: str, at_seconds: float | None = None) -> float | None:
        """Return the one sample of a query, None where it has none."""
        return next(iter(self.query(expr, at_seconds).values()), None)

    def wait_until(self, expr: str, value: float, timeout_seconds: float = WAIT_SECONDS) -> None:
        """Wait until the query gives the value."""
        deadline = time.monotonic() + timeout_seconds
        while (found := self.number(expr)) != value:
            assert time.monotonic() < deadline, f"{expr} is {found}, not {value}"
            time.sleep(0.05)


@contextmanager
def prometheus(
    folder: Path,
    exporter_ports: Sequence[int] = (),
    scrape_seconds: float = 0.5,
    scrape_config: Mapping[str, Any] | None = None,
) -> Iterator[Prometheus]:
    """Run Prometheus with the committed configuration, but for addresses and for intervals that suit a test.

    `scrape_config` stands for that of the exporter. Prometheus' data are in `folder`/data; a history can be put there
    first.
    """
    port = free_port()
    config: dict[str, Any] = yaml.safe_load((ROOT / "prometheus.yml").read_text())
    for name in ("scrape_interval", "evaluation_interval", "scrape_timeout"):
        config["global"][name] = f"{scrape_seconds * 1000:.0f}ms"
    config["rule_files"] = [str(ROOT / "prometheus-rules.yml")]
    for job, ports in zip(config["scrape_configs"], (exporter_ports, (port,)), strict=True):
        job["static_configs"] = [{"targets": [f"127.0.0.1:{target}" for target in ports]}]
    if scrape_config is not None:
        config["scrape_configs"][0] = dict(scrape_config)
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    with (folder / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(
            [
                path_of("prometheus", "prometheus"),
                f"--config.file={folder / 'prometheus.yml'}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            stdout=log,
            stderr=log,
        )
    try:
        server = Prometheus(port)
        deadline = time.monotonic() + WAIT_SECONDS
        while True:
            assert process.poll() is None, (folder / "prometheus.log").read_text()
            assert time.monotonic() < deadline
            try:
                server.query("vector(1)")
                break
            except (OSError, ValueError, http.client.HTTPException):
                time.sleep(0.05)
        yield server
    finally:
        process.terminate()
        process.wait(WAIT_SECONDS)


def write_history(folder: Path, lines: Iterable[str]) -> None:
    """Make the data of a Prometheus that was not there: `lines` are OpenMetrics with times, as promtool reads them."""
    path = folder / "history.txt"
    with path.open("w") as file:
        file.writelines(lines)
    done = subprocess.run(
        [path_of("promtool", "prometheus"), "tsdb", "create-blocks-from", "openmetrics", path, folder / "data"],
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
