"""Which fields of a JSON object are read, as paths (`detail.order.total`), and how: all of them in one pass.

A path is the plain part of JMESPath (https://jmespath.org/specification.html): identifiers with dots between them, any
other key in double quotes as JSON writes it: `"order id".total`. It has no wildcards, indices or functions.
"""

from __future__ import annotations

import json
import operator
import re
from typing import TYPE_CHECKING, Any, NoReturn

import msgspec

from exporter.errors import InvalidEvent

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    _Decode = Callable[[bytes], Any]
    _Leaves = Callable[[Any], Sequence[msgspec.Raw]]

Path = tuple[str, ...]

ATTRIBUTE_PREFIX = "attribute:"
MAX_PATH_CHARACTERS = 256
MAX_PATH_KEYS = 8
"""A body that has to be read level by level is scanned once for each."""
FIELD_RULE = 'a path such as detail.order.total or "order id".total (keys with dots or dashes in double quotes)'

_PATH = re.compile(r'(?:[A-Za-z_][A-Za-z0-9_]*|"(?:[^"\\]|\\.)*")(?:\.(?:[A-Za-z_][A-Za-z0-9_]*|"(?:[^"\\]|\\.)*"))*')
_KEY = re.compile(r'[A-Za-z_][A-Za-z0-9_]*|"(?:[^"\\]|\\.)*"')
# What a surrogate's escape may stand for, see _hide_surrogates, and what nobody could tell apart on a screen.
_UNFIT_FOR_A_KEY = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufdd0\U00010000-\U0010ffff]")
# https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-message-metadata.html
_ATTRIBUTE_NAME = re.compile(r"(?!(?i:aws\.|amazon\.))(?!\.)(?!.*\.\.)[A-Za-z0-9_.-]{1,256}(?<!\.)")


def parse_path(text: str) -> Path:
    """Return the keys of a path. Raises ValueError with a sentence that says what would be right."""
    keys: list[str] = []
    if len(text) <= MAX_PATH_CHARACTERS and _PATH.fullmatch(text):
        try:
            keys = [json.loads(key) if key.startswith('"') else key for key in _KEY.findall(text)]
        except ValueError:
            keys = []
    if not 0 < len(keys) <= MAX_PATH_KEYS or any(_UNFIT_FOR_A_KEY.search(key) for key in keys):
        raise ValueError(f"{text!r} is not {FIELD_RULE}")
    return tuple(keys)


def attribute_name(text: str) -> str | None:
    """Return the NAME of `attribute:NAME`, None where `text` is a path.

    Raises ValueError where SQS knows no attribute of that name.
    """
    if not text.startswith(ATTRIBUTE_PREFIX):
        return None
    name = text.removeprefix(ATTRIBUTE_PREFIX)
    if not _ATTRIBUTE_NAME.fullmatch(name):
        raise ValueError(f"{text!r} is not a message attribute such as attribute:event_type")
    return name


_ABSENT = msgspec.Raw(b"")
_decode_anything = msgspec.json.Decoder(msgspec.Raw).decode


class FieldReader:
    """Reads the values at some paths out of a JSON object, each as the JSON text that stands there.

    The text, because a number that was read as a float would no longer be exact.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self.absent: tuple[bytes, ...] = (b"",) * len(paths)
        """What is read where there is nothing."""
        self._top = _Node()
        for index, path in enumerate(paths):
            node = self._top
            for key in path:
                node = node.children.setdefault(key, _Node())
            node.indices.append(index)
        self._decode, self._leaves = _compile(self._top, len(paths))

    def read(self, body: bytes) -> Sequence[bytes | msgspec.Raw]:
        """Return the texts in the order of the paths, empty where a path leads to nothing.

        A path that leads through something else than an object leads to nothing; of a key that occurs twice the last
        one counts. Raises InvalidEvent, `invalid_json` or `not_an_object`. Objects and arrays nested deeper than the
        interpreter's recursion limit are `invalid_json`.
        """
        try:
            if not body.isascii():
                body.decode()  # msgspec does not look into the strings that it skips
            return self._leaves(self._decode(body))
        except (UnicodeDecodeError, RecursionError):
            raise InvalidEvent("invalid_json") from None
        except msgspec.DecodeError:
            pass
        try:
            return self._level_by_level(body)
        except RecursionError:
            raise InvalidEvent("invalid_json") from None
        except msgspec.DecodeError:
            hidden = _hide_surrogates(body)
        try:
            return [_show_surrogates(text) for text in self._level_by_level(hidden)]
        except (msgspec.DecodeError, RecursionError):
            raise InvalidEvent("invalid_json") from None

    def _level_by_level(self, body: bytes) -> list[bytes]:
        """Read what the one decoder can't: an object is wanted where there is something else."""
        texts = list(self.absent)
        try:
            self._top.read(body, texts)
        except msgspec.ValidationError:
            _decode_anything(body)  # it starts as another kind of value; it is JSON only if the rest of it is, too
            raise InvalidEvent("not_an_object", kind=kind_of(body.lstrip())) from None
        return texts


class _Node:
    """A key of a path: which of the paths end here, and the keys that follow."""

    def __init__(self) -> None:
        self.indices: list[int] = []
        self.children: dict[str, _Node] = {}
        self._decode: Callable[[bytes | msgspec.Raw], Any] | None = None

    def read(self, text: bytes | msgspec.Raw, texts: list[bytes]) -> None:
        """Put what is below this node, which is the object in `text`, where it belongs in `texts`."""
        if self._decode is None:
            self._decode = msgspec.json.Decoder(_struct(dict.fromkeys(self.children, _RAW))).decode
        found = self._decode(text)
        for name, child in zip(found.__struct_fields__, self.children.values(), strict=True):
            value: msgspec.Raw = getattr(found, name)
            for index in child.indices:
                texts[index] = bytes(value)
            if child.children and bytes(memoryview(value)[:1]) == b"{":
                child.read(value, texts)


_RAW = (msgspec.Raw, _ABSENT)


def _struct(types: dict[str, tuple[Any, Any]]) -> type[msgspec.Struct]:
    """Make a type of an object by the types and defaults of its keys; its fields are named `f0`, `f1` and so on."""
    names = [f"f{number}" for number in range(len(types))]
    fields = [(name, *type_and_default) for name, type_and_default in zip(names, types.values(), strict=True)]
    rename = dict(zip(names, types, strict=True))
    return msgspec.defstruct("Fields", fields, rename=rename, frozen=True, gc=False, eq=False)


def _compile(top: _Node, count: int) -> tuple[_Decode, _Leaves]:
    """Return a decoder of all that is below the top, and what takes the texts of `count` paths out of its result."""
    names: dict[int, str] = {}
    struct = _nested(top, "", names)
    if len(names) < count:  # one path goes on where another ends
        return _refuse, msgspec.structs.astuple
    decode: _Decode = msgspec.json.Decoder(struct).decode
    in_order = [names[index] for index in range(count)]
    if in_order == list(struct.__struct_fields__):
        return decode, msgspec.structs.astuple
    leaves: Callable[[Any], Any] = operator.attrgetter(*in_order)
    return decode, leaves if count > 1 else lambda found: (leaves(found),)


def _refuse(_body: bytes) -> NoReturn:
    raise msgspec.DecodeError


def _nested(node: _Node, above: str, names: dict[int, str]) -> type[msgspec.Struct]:
    types: dict[str, tuple[Any, Any]] = {}
    for number, (key, child) in enumerate(node.children.items()):
        name = f"{above}f{number}"
        if child.children:
            below = _nested(child, f"{name}.", names)
            types[key] = (below, below())
        else:
            types[key] = _RAW
            names.update(dict.fromkeys(child.indices, name))
    return _struct(types)


_KINDS = {b'"': "string", b"{": "object", b"[": "array", b"t": "boolean", b"f": "boolean", b"n": "null", b"": "absent"}


def kind_of(text: bytes) -> str:
    """Return the kind of a JSON value by its text: what may be said of a value that itself must not be shown."""
    return _KINDS.get(text[:1], "number")


_MARK = "\ufdd0".encode()  # a noncharacter: hardly anybody writes it


def _hide_surrogates(body: bytes) -> bytes:
    r"""Turn the escape of a surrogate, such as \ud800, into a mark and the escape of an ordinary character.

    The grammar of JSON allows half a pair (RFC 8259, section 8.2) and other producers write it, but msgspec refuses it
    even in a key that nobody reads. Escaped backslashes are spelled out first, so that each backslash begins an
    escape; a mark that is in the body gets a space, which no mark before an escape has.
    """
    unambiguous = body.replace(rb"\\", rb"\u005c").replace(_MARK, _MARK + b" ")
    return unambiguous.replace(rb"\ud", _MARK + rb"\u0").replace(rb"\uD", _MARK + rb"\u0")


def _show_surrogates(text: bytes) -> bytes:
    return text.replace(_MARK + rb"\u0", rb"\ud").replace(_MARK + b" ", _MARK)
