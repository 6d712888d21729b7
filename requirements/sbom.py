"""Prints what an installed exporter is made of, from runtime.txt, as a CycloneDX document: `make sbom`.

https://cyclonedx.org/docs/1.6/json/
"""

from __future__ import annotations

import json
import re
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, metadata
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
PIN = re.compile(r"^([a-z0-9-]+)==([^ ;]+)", re.MULTILINE)


def component(name: str, version: str) -> dict[str, Any]:
    """Describe one locked package; its licence is known where it is installed."""
    package_url = f"pkg:pypi/{name}@{version}"
    described: dict[str, Any] = {"type": "library", "name": name, "version": version}
    described |= {"bom-ref": package_url, "purl": package_url}
    try:
        licence = metadata(name).json.get("license_expression")
    except PackageNotFoundError:
        licence = None
    return described | ({"licenses": [{"expression": licence}]} if licence else {})


def document() -> dict[str, Any]:
    """Return the whole document; the same lock gives the same one."""
    project = tomllib.loads((HERE.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    pins = PIN.findall((HERE / "runtime.txt").read_text(encoding="utf-8"))
    itself = {"type": "application", "name": project["name"], "version": project["version"]}
    itself |= {"bom-ref": project["name"], "licenses": [{"license": {"id": project["license"]}}]}
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": itself},
        "components": [component(name, version) for name, version in pins],
    }


if __name__ == "__main__":
    json.dump(document(), sys.stdout, indent=2)
    sys.stdout.write("\n")
