"""docker-compose.replicas.yml: what can be said of it without a container engine."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from exporter.ledger.postgres.target import Target
from exporter.settings import Settings
from exporter.settings.setting import setting_fields

ROOT = Path(__file__).parents[2]


class ComposeLoader(yaml.SafeLoader):
    """Reads Compose's own tags as what they stand before."""


ComposeLoader.add_multi_constructor("!", lambda loader, _, node: _plain(loader, node))


def _plain(loader: yaml.SafeLoader, node: yaml.Node) -> Any:  # noqa: ANN401 - whatever stands there
    if isinstance(node, yaml.SequenceNode):
        return loader.construct_sequence(node)
    return loader.construct_object(node)


REPLICAS: dict[str, Any] = yaml.load((ROOT / "docker-compose.replicas.yml").read_text(), ComposeLoader)  # noqa: S506
SERVICES: dict[str, dict[str, Any]] = REPLICAS["services"]


def test_three_exporters_share_a_ledger_in_postgresql() -> None:
    """The variables are the exporter's own, the URL can be read, and it holds no password."""
    exporter = SERVICES["exporter"]
    assert exporter["deploy"]["replicas"] == 3
    variables = {field.setting.variable for field in setting_fields(Settings)}
    ours = {name for name in exporter["environment"] if name.startswith("EXPORTER_")}
    assert ours <= variables
    url = exporter["environment"]["EXPORTER_LEDGER__URL"]
    assert str(Target(url)) == "postgres port 5432 (shop)"
    assert "local" not in url
    assert SERVICES["postgres"]["environment"]["POSTGRES_PASSWORD"] == exporter["environment"]["PGPASSWORD"]
    assert not any("/data" in volume for volume in exporter["volumes"])


def test_postgresql_is_pinned_hardened_bounded_and_watched() -> None:
    """It has what every service of the first file has, and listens inside of the stack alone."""
    postgres = SERVICES["postgres"]
    assert re.fullmatch(r"postgres:\d+\.\d+(@sha256:[0-9a-f]{64})?", postgres["image"])
    assert postgres["read_only"] is True
    assert postgres["cap_drop"] == ["ALL"]
    assert postgres["security_opt"] == ["no-new-privileges:true"]
    assert set(postgres["logging"]["options"]) == {"max-size", "max-file"}
    assert {"mem_limit", "cpus", "pids_limit", "healthcheck"} <= set(postgres)
    assert "ports" not in postgres


def test_its_counts_are_another_ledgers() -> None:
    """Where the first file ran before, Prometheus sees new series that begin at 0, not counters that fall."""
    first = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]["exporter"]["environment"]
    assert SERVICES["exporter"]["environment"]["EXPORTER_LEDGER__NAME"] != first["EXPORTER_LEDGER__NAME"]


def test_prometheus_differs_only_in_where_the_exporters_are() -> None:
    """Limits and rules are those of the shipped configuration."""
    one: dict[str, Any] = yaml.safe_load((ROOT / "prometheus.yml").read_text())
    many: dict[str, Any] = yaml.safe_load((ROOT / "compose" / "prometheus.replicas.yml").read_text())
    del one["scrape_configs"][0]["static_configs"]
    (found,) = many["scrape_configs"][0].pop("dns_sd_configs")
    assert one == many
    assert found["names"] == ["exporter"]
    assert any("prometheus.replicas.yml" in volume for volume in SERVICES["prometheus"]["volumes"])
