"""Compiles the lock files beside it from pyproject.toml: `make lock`, and `make upgrade` for newer versions.

- build.txt: the build backend
- runtime.txt: what the exporter needs, with the ledger in PostgreSQL: what the image holds
- demo.txt: the build backend, what the exporter needs, and the embedded SQS of `demo`
- dev.txt: all of that, all other extras, and what tests and checks need

Each file holds the hashes of every file of every version, for every platform and Python that the project supports,
and no address. Its first line names the inputs by their hash, so that a test sees the drift without a network.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
PYPROJECT = HERE.parent / "pyproject.toml"
LOCKS = {
    # The largest first: the others are constrained by it, so that no version differs between two files.
    "dev.txt": ("project", "postgres", "demo", "otlp-grpc", "dev", "build"),
    "demo.txt": ("project", "demo", "build"),
    "runtime.txt": ("project", "postgres"),
    "build.txt": ("build",),
}


def requirements(parts: tuple[str, ...]) -> list[str]:
    """Return what pyproject.toml requires for these parts, as it is written there."""
    pyproject: dict[str, Any] = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))
    project = pyproject["project"]
    by_part = {
        "project": project["dependencies"],
        **project["optional-dependencies"],
        "dev": pyproject["dependency-groups"]["dev"],
        "build": pyproject["build-system"]["requires"],
    }
    return [requirement for part in parts for requirement in by_part[part]]


def header(parts: tuple[str, ...]) -> str:
    """Return the first line of a lock: how it is made, and from what."""
    project = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["project"]
    inputs = json.dumps([project["requires-python"], sorted(requirements(parts))])
    return (
        f"# Made by `make lock` from pyproject.toml; its inputs: sha256:{hashlib.sha256(inputs.encode()).hexdigest()}"
    )


def compile_lock(name: str, parts: tuple[str, ...], options: list[str]) -> None:
    """Write one lock; versions that it has and that still fit are kept, unless the options say `--upgrade`."""
    lock = HERE / name
    command = ["uv", "pip", "compile", "-", "--universal", "--generate-hashes", "--python-version", "3.11"]
    command += ["--no-header", "--no-annotate", "--no-emit-index-url", "--no-emit-find-links", "--quiet"]
    command += ["--output-file", str(lock), *options]
    if name != "dev.txt":
        command += ["--constraint", str(HERE / "dev.txt")]
    subprocess.run(command, input="\n".join(requirements(parts)), text=True, check=True)  # noqa: S603 - our own words
    lock.write_text(f"{header(parts)}\n{lock.read_text(encoding='utf-8')}", encoding="utf-8")


if __name__ == "__main__":
    for lock_name, lock_parts in LOCKS.items():
        compile_lock(lock_name, lock_parts, sys.argv[1:])
