"""The file of `--web.config.file`: TLS, client certificates and passwords, in the format of exporter-toolkit.

https://github.com/prometheus/exporter-toolkit/blob/master/docs/web-configuration.md
What Python's ssl can't do is refused rather than ignored, so that nobody relies on it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError

from exporter.errors import WrongSettingError, nearest
from exporter.settings.yaml_file import read_yaml
from exporter.web.tls import TlsError, TlsSettings, make_context

if TYPE_CHECKING:
    import ssl
    from collections.abc import Hashable, Iterable, Mapping

    from pydantic_core import ErrorDetails

BCRYPT_COSTS = range(4, 15)
"""bcrypt's least; and a check takes about a second at the highest, each step more would double it."""

_BCRYPT = re.compile(r"\$2[abxy]\$(\d\d)\$[./A-Za-z0-9]{53}", re.ASCII)
_HEADERS: dict[str, tuple[str, ...]] = {
    "Content-Security-Policy": (),
    "Strict-Transport-Security": (),
    "X-Content-Type-Options": ("nosniff",),
    "X-Frame-Options": ("deny", "sameorigin"),
    "X-XSS-Protection": (),
}
"""Those that may be set, and their values where there are only some."""
_HEADER_VALUE = re.compile(r"[\x20-\x7e]*")
_REFUSED = {
    "tls_server_config.cert": "write the certificate to a file and name it in cert_file",
    "tls_server_config.key": "write the key to a file and name it in key_file",
    "tls_server_config.client_ca": "write the certificate to a file and name it in client_ca_file",
    "tls_server_config.client_allowed_sans": "let client_ca_file hold a CA that signs the wanted clients alone",
    "tls_server_config.curve_preferences": "remove it and OpenSSL's own order of curves is used",
    "rate_limit": "remove it; connections are limited by themselves",
}
_WRONG_TYPES = {
    "path_type": "is not the path of a file: write it as text, as server.crt",
    "dict_type": "is not a mapping: write keys with their values",
    "model_type": "is not a mapping: write keys with their values",
    "string_type": "is not text: write one value, in quotes where it looks like a number",
    "bool_type": "is neither true nor false",
    "list_type": "is not a list: write [A, B]",
}
"""What is said of a value of the wrong type, by pydantic's name of the error."""


def _bcrypt_hash(text: str) -> str:
    found = _BCRYPT.fullmatch(text)
    if found is None:
        raise ValueError("is not a bcrypt hash, as `htpasswd -nBC 10 NAME` writes it after the colon")
    if int(found[1]) not in BCRYPT_COSTS:
        raise ValueError(f"has a cost of {int(found[1])}: use 10, and never more than {BCRYPT_COSTS[-1]}")
    return text


def _headers(headers: dict[str, str]) -> dict[str, str]:
    for name, value in headers.items():
        if name not in _HEADERS:
            raise ValueError(f"sets a header that can't be set: use {', '.join(_HEADERS)}")
        allowed = _HEADERS[name]
        if allowed and value not in allowed:
            raise ValueError(f"has a wrong value for {name}: use {' or '.join(allowed)}")
        if not _HEADER_VALUE.fullmatch(value):
            raise ValueError(f"has a wrong value for {name}: use printable ASCII on one line")
    return headers


class _Group(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, hide_input_in_errors=True)


class _Http(_Group):
    http2: bool = True
    """Allows HTTP/2, which this server never offers."""
    headers: Annotated[dict[str, str], AfterValidator(_headers)] = {}


class _File(_Group):
    tls_server_config: TlsSettings | None = None
    http_server_config: _Http | None = None
    basic_auth_users: dict[str, Annotated[str, AfterValidator(_bcrypt_hash)]] | None = None


@dataclass(frozen=True, slots=True)
class WebConfig:
    """What the file asks for. Immutable: a renewed certificate makes another one."""

    path: str
    ssl_context: ssl.SSLContext | None = None
    users: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    """Bcrypt hashes by user; none: everyone may read."""
    headers: Mapping[str, str] = field(default_factory=dict)
    stamps: tuple[Hashable, ...] = ()
    """What the file and those it names looked like before they were read."""
    files: tuple[Path, ...] = ()

    def current_stamps(self) -> tuple[Hashable, ...]:
        """Return what the files look like now: other than `stamps` means that they have to be read again."""
        return _stamps(self.files)


def read_web_config(path: str) -> WebConfig:
    """Read the file, and the certificates and keys that it names (relative to its own directory).

    Raises WrongSettingError, which names file and line, and never shows a hash or a key.
    """
    own_stamp = _stamp(Path(path))
    source = _Source(path)
    try:
        parsed = _File.model_validate(source.data)
    except ValidationError as error:
        raise source.error(*_explain(error.errors()[0])) from None
    tls = parsed.tls_server_config and parsed.tls_server_config.beside(Path(path).parent)
    files = tls.files() if tls else ()
    stamps = (own_stamp, *_stamps(files))
    try:
        ssl_context = make_context(tls) if tls else None
    except TlsError as error:
        raise source.error(("tls_server_config", error.key), str(error)) from None
    return WebConfig(
        path=path,
        ssl_context=ssl_context,
        users={name: text.encode() for name, text in (parsed.basic_auth_users or {}).items()},
        headers=parsed.http_server_config.headers if parsed.http_server_config else {},
        stamps=stamps,
        files=(Path(path), *files),
    )


def _stamps(files: Iterable[Path]) -> tuple[Hashable, ...]:
    return tuple(_stamp(file) for file in files)


def _stamp(file: Path) -> Hashable:
    try:
        status = file.stat()
    except (OSError, ValueError):
        return None
    return status.st_mtime_ns, status.st_ino, status.st_size


def _explain(error: ErrorDetails) -> tuple[tuple[int | str, ...], str]:
    """Say where an error is and what would be right, without showing a value."""
    place = tuple(part for part in error["loc"] if part != "[key]")
    if error["type"] == "invalid_key" or "[key]" in error["loc"]:
        return place, "is a key that is not text: put it in quotes"
    key = ".".join(map(str, place))
    if error["type"] == "extra_forbidden":
        model = TlsSettings if place[0] == "tls_server_config" else _Http if len(place) > 1 else _File
        if key in _REFUSED:
            return place, f"is not supported: {_REFUSED[key]}"
        known = list(model.model_fields)
        return place, f"is not a known key{nearest(str(place[-1]), known) or '; known are ' + ', '.join(known)}"
    if error["type"] == "missing":
        return place[:-1], f"lacks {place[-1]}"
    if error["type"] == "value_error":
        return place, str(error["ctx"]["error"])
    return place, _WRONG_TYPES.get(error["type"]) or f"is wrong: {error['msg'].replace('Input ', 'it ')}"


class _Loader(yaml.SafeLoader):
    """Refuses a key that stands twice, where YAML's reader would silently take the last, and one that is no scalar."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, object]:  # noqa: FBT001, FBT002 - PyYAML's signature
        if not isinstance(node, yaml.MappingNode):
            raise yaml.constructor.ConstructorError(problem="it is not a mapping", problem_mark=node.start_mark)
        seen: set[str] = set()
        for key_node, _ in node.value:
            mark = key_node.start_mark
            if not isinstance(key_node, yaml.ScalarNode):
                raise yaml.constructor.ConstructorError(problem="a key is not text", problem_mark=mark)
            if key_node.value in seen:
                raise yaml.constructor.ConstructorError(problem="a key stands twice", problem_mark=mark)
            seen.add(key_node.value)
        return super().construct_mapping(node, deep=deep)


def _parse(text: str) -> tuple[yaml.Node | None, object]:
    loader = _Loader(text)
    root = loader.get_single_node()
    try:
        return root, None if root is None else loader.construct_document(root)
    except (ArithmeticError, AttributeError, LookupError, TypeError) as error:
        # What PyYAML raises for a tag that does not fit its value, such as `!!bool abc`.
        raise ValueError from error


class _Source:
    """The file's content, and the line on which each part of it stands."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._root, data = read_yaml(path, "--web.config.file (EXPORTER_WEB__CONFIG__FILE)", _parse)
        self.data = {} if data is None else data

    def error(self, place: tuple[int | str, ...], what: str) -> WrongSettingError:
        """Return the error for what stands at `place`, a path of keys; the nearest line that there is."""
        name = ".".join(map(str, place)) or "the file"
        name = name if name.isprintable() else repr(name)
        return WrongSettingError(f"{self._path}:{self._line(place)} ({name}) {what}")

    def _line(self, place: tuple[int | str, ...]) -> int:
        node, line = self._root, 1
        for part in place:
            found = None
            if isinstance(node, yaml.MappingNode):
                found = next(((key, value) for key, value in node.value if key.value == str(part)), None)
            elif isinstance(node, yaml.SequenceNode) and isinstance(part, int):
                found = (node.value[part], node.value[part])
            if found is None:
                break
            line, node = found[0].start_mark.line + 1, found[1]
        return line
