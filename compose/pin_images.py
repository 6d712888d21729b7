"""Pins the images of the stack by digest: `make pin-images` asks their registries what each tag is today.

The compose files and the Dockerfile name images by exact tag, which a registry may still give another content. With
digests in place, what is pulled is what was looked at. Docker with buildx and a network are needed.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
FILES = (ROOT / "docker-compose.yml", ROOT / "docker-compose.replicas.yml", ROOT / "Dockerfile")
IMAGE = re.compile(
    r"^(?P<before>\s*image: |ARG BASE_IMAGE=)(?P<name>[\w./-]+:(?!local\b)[\w.-]+)(?:@sha256:[0-9a-f]{64})?$",
    re.MULTILINE,
)


def digest(image: str) -> str:
    """Return the digest of an image for all its platforms, as its registry has it now."""
    command = ["docker", "buildx", "imagetools", "inspect", image, "--format", "{{.Manifest.Digest}}"]
    done = subprocess.run(command, check=False, capture_output=True, text=True)  # noqa: S603 - an image of our files
    found = done.stdout.strip()
    if done.returncode or not re.fullmatch(r"sha256:[0-9a-f]{64}", found):
        sys.exit(f"{image}: its registry does not say which digest it has ({(done.stderr or found).strip()}).")
    return found


def main() -> None:
    """Write the digest behind each tag; nothing is written where one is not known."""
    texts = {path: path.read_text(encoding="utf-8") for path in FILES}
    images = {found["name"] for text in texts.values() for found in IMAGE.finditer(text)}
    digests = {image: digest(image) for image in sorted(images)}
    for path, text in texts.items():
        pinned = IMAGE.sub(lambda found: f"{found['before']}{found['name']}@{digests[found['name']]}", text)
        path.write_text(pinned, encoding="utf-8")
    for image, found in digests.items():
        print(f"{image}@{found}")  # noqa: T201 - it is a program


if __name__ == "__main__":
    main()
