"""Settings come from flag, variable, file or default, in this order, and a wrong one is named in one sentence."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from exporter.errors import WrongSettingError
from exporter.settings import Settings
from exporter.settings.duration import format_duration, parse_duration
from exporter.settings.setting import setting_fields, split_listen_address
from exporter.settings.sources import read_settings

TABLE = {
    "queue": ("SQS_QUEUE_NAME", None),
    "until-empty": ("EXPORTER_UNTIL_EMPTY", False),
    "until-empty-timeout": ("EXPORTER_UNTIL_EMPTY_TIMEOUT", 60.0),
    "config.file": ("EXPORTER_CONFIG__FILE", None),
    "sqs.max-receives": ("EXPORTER_SQS__MAX_RECEIVES", 16),
    "sqs.wait-seconds": ("EXPORTER_SQS__WAIT_SECONDS", 20),
    "sqs.batch-window": ("EXPORTER_SQS__BATCH_WINDOW", 1.0),
    "sqs.on-invalid": ("EXPORTER_SQS__ON_INVALID", "auto"),
    "events.types": ("EXPORTER_EVENTS__TYPES", ()),
    "events.max-types": ("EXPORTER_EVENTS__MAX_TYPES", 200),
    "events.type-field": ("EXPORTER_EVENTS__TYPE_FIELD", "type"),
    "events.value-field": ("EXPORTER_EVENTS__VALUE_FIELD", "value"),
    "events.timestamp-field": ("EXPORTER_EVENTS__TIMESTAMP_FIELD", "occurred_at"),
    "events.require-timestamp": ("EXPORTER_EVENTS__REQUIRE_TIMESTAMP", False),
    "events.id-field": ("EXPORTER_EVENTS__ID_FIELD", ""),
    "events.id-window": ("EXPORTER_EVENTS__ID_WINDOW", None),
    "events.envelope": ("EXPORTER_EVENTS__ENVELOPE", "auto"),
    "events.labels": ("EXPORTER_EVENTS__LABELS", ()),
    "events.max-series": ("EXPORTER_EVENTS__MAX_SERIES", 1000),
    "ledger.path": ("EXPORTER_LEDGER__PATH", Path("ledger.db")),
    "ledger.url": ("EXPORTER_LEDGER__URL", None),
    "ledger.name": ("EXPORTER_LEDGER__NAME", None),
    "ledger.window": ("EXPORTER_LEDGER__WINDOW", 3600.0),
    "ledger.max-ids": ("EXPORTER_LEDGER__MAX_IDS", 2_000_000),
    "web.listen-address": ("EXPORTER_WEB__LISTEN_ADDRESS", "127.0.0.1:9797"),
    "web.telemetry-path": ("EXPORTER_WEB__TELEMETRY_PATH", "/metrics"),
    "web.config.file": ("EXPORTER_WEB__CONFIG__FILE", None),
    "web.zero-first": ("EXPORTER_WEB__ZERO_FIRST", True),
    "web.created-timestamps": ("EXPORTER_WEB__CREATED_TIMESTAMPS", False),
    "summary.interval": ("EXPORTER_SUMMARY__INTERVAL", 10.0),
    "shutdown.timeout": ("EXPORTER_SHUTDOWN__TIMEOUT", 4.0),
    "log.level": ("LOG_LEVEL", "info"),
    "log.format": ("EXPORTER_LOG__FORMAT", "auto"),
}
OTHER_VALUES = {
    "until-empty-timeout": ("5s", 5.0),
    "sqs.batch-window": ("0", 0.0),
    "ledger.url": ("postgresql://db.example/exporter", "postgresql://db.example/exporter"),
    "ledger.name": ("shop-eu", "shop-eu"),
    "web.zero-first": ("false", False),
    "until-empty": ("true", True),
    "sqs.max-receives": ("256", 256),
    "sqs.wait-seconds": ("0", 0),
    "sqs.on-invalid": ("leave", "leave"),
    "events.types": ("purchase, page view,", ("purchase", "page view")),
    "events.max-types": ("0", 0),
    "events.type-field": ("attribute:event_type", "attribute:event_type"),
    "events.value-field": ("detail.order.total", "detail.order.total"),
    "events.timestamp-field": ("meta.at", "meta.at"),
    "events.require-timestamp": ("yes", True),
    "events.id-field": ("order_id", "order_id"),
    "events.id-window": ("14d", 1_209_600.0),
    "events.envelope": ("sns", "sns"),
    "events.labels": (
        "currency, country=shipping.country",
        (("currency", "currency"), ("country", "shipping.country")),
    ),
    "events.max-series": ("0", 0),
    "ledger.path": ("/data/ledger.db", Path("/data/ledger.db")),
    "ledger.window": ("1h30m", 5400.0),
    "ledger.max-ids": ("1000", 1000),
    "web.listen-address": ("[::1]:0", "[::1]:0"),
    "web.telemetry-path": ("/a/metrics", "/a/metrics"),
    "web.config.file": ("web.yml", Path("web.yml")),
    "web.created-timestamps": ("on", True),
    "summary.interval": ("0", 0.0),
    "shutdown.timeout": ("100ms", 0.1),
    "log.level": ("WARN", "warning"),
    "log.format": ("json", "json"),
}
WRONG_VALUES = [
    ("queue", "orders.txt"),
    ("queue", "q" * 81),
    ("queue", "arn:aws:sqs:eu-west-1:123456789012:orders"),
    ("queue", "ftp://sqs.example/1/orders"),
    ("queue", "https://sqs.example/1/"),
    ("queue", "https://[::1/orders"),
    ("queue", "a\nb"),
    ("queue", "a\udcff"),
    ("until-empty", "maybe"),
    ("sqs.max-receives", "0"),
    ("sqs.max-receives", "257"),
    ("sqs.max-receives", "many"),
    ("sqs.wait-seconds", "21"),
    ("sqs.wait-seconds", "-1"),
    ("sqs.on-invalid", "Delete!"),
    ("events.types", "purchase,__other__"),
    ("events.types", "a" * 129),
    ("events.types", "tab\tinside"),
    ("events.max-types", "-1"),
    ("events.type-field", "order-type"),
    ("events.value-field", "items[0].price"),
    ("events.timestamp-field", "attribute:AWS.at"),
    ("events.id-field", "a..b"),
    ("events.id-window", "forever"),
    ("events.envelope", "kinesis"),
    ("events.labels", "shipping.country"),
    ("events.labels", "type"),
    ("events.max-series", "100001"),
    ("ledger.path", "."),
    ("ledger.path", "a\0b"),
    ("ledger.window", "999ms"),
    ("ledger.window", "15d"),
    ("ledger.window", "1.5h"),
    ("ledger.window", "3600"),
    ("ledger.max-ids", "999"),
    ("web.listen-address", "9797"),
    ("web.listen-address", "localhost"),
    ("web.listen-address", "::1:9797"),
    ("web.listen-address", "127.0.0.1:65536"),
    ("web.listen-address", "http://127.0.0.1:9797"),
    ("web.telemetry-path", "metrics"),
    ("web.telemetry-path", "/"),
    ("web.telemetry-path", "/-/ready"),
    ("web.telemetry-path", "/metrics?x"),
    ("summary.interval", "10"),
    ("summary.interval", "s"),
    ("shutdown.timeout", "2h"),
    ("log.level", "loud"),
    ("log.format", "xml"),
]


def value_of(settings: Settings, key: str) -> object:
    """Return a setting by the name of its flag."""
    value: object = settings
    for name in next(field.path for field in setting_fields(Settings) if field.setting.key == key):
        value = getattr(value, name)
    return value


def sentence_of(flags: dict[str, str], environment: dict[str, str] | None = None) -> str:
    """Return what the user reads, after it was seen to be one line."""
    with pytest.raises(WrongSettingError) as caught:
        read_settings(flags, environment or {})
    sentence = str(caught.value)
    assert sentence.isprintable()
    return sentence


def in_file(tmp_path: Path, text: str) -> tuple[dict[str, str], str]:
    """Write a file of settings; return the flags that name it, and its path."""
    path = tmp_path / "config.yml"
    path.write_text(text, encoding="utf-8")
    return {"config.file": str(path)}, str(path)


def test_names_and_defaults_are_those_of_the_documentation() -> None:
    """Every flag has the variable and the default that users were told."""
    settings = read_settings({"queue": "orders"}, {})
    assert {field.setting.key: field.setting.variable for field in setting_fields(Settings)} == {
        key: variable for key, (variable, _) in TABLE.items()
    }
    assert {key: value_of(settings, key) for key in TABLE if key != "queue"} == {
        key: default for key, (_, default) in TABLE.items() if key != "queue"
    }


@pytest.mark.parametrize("key", OTHER_VALUES)
def test_a_value_means_the_same_in_flag_variable_and_file(key: str, tmp_path: Path) -> None:
    """One text gives one value wherever it stands."""
    text, value = OTHER_VALUES[key]
    named, _ = in_file(tmp_path, f"queue: orders\n{key}: {text if key != 'web.listen-address' else repr(text)}\n")
    assert value_of(read_settings({"queue": "orders", key: text}, {}), key) == value
    assert value_of(read_settings({"queue": "orders"}, {TABLE[key][0]: text}), key) == value
    assert value_of(read_settings(named, {}), key) == value


@pytest.mark.parametrize(("key", "text"), WRONG_VALUES)
def test_a_wrong_value_is_named_with_its_source(key: str, text: str) -> None:
    """The sentence names flag or variable and shows what it held."""
    assert sentence_of({"queue": "orders", key: text}).startswith(f"--{key} is {text[:40]!r}"[:30])
    variable = TABLE[key][0]
    if "\0" not in text:
        said = sentence_of({} if key == "queue" else {"queue": "orders"}, {variable: text})
        assert said.startswith(f"the environment variable {variable} is ")


@pytest.mark.parametrize(
    "queue",
    [
        "orders",
        "a" * 80,
        "a_b-1.fifo",
        "http://127.0.0.1:4566/000000000000/orders",
        "https://sqs.x.amazonaws.com/1/o.fifo",
    ],
)
def test_a_queue_is_a_name_or_a_url(queue: str) -> None:
    """Both are taken as they are."""
    assert read_settings({"queue": queue}, {}).queue == (queue,)


def test_a_flag_goes_before_a_variable_before_the_file_before_the_default(tmp_path: Path) -> None:
    """Each source gives way to the one before it."""
    named, _ = in_file(
        tmp_path, "queue: file\nsqs: {max-receives: 1, wait_seconds: 2}\nledger.max-ids: 3000\nlog:\n  level:\n"
    )
    environment = {"SQS_QUEUE_NAME": "variable", "EXPORTER_SQS__WAIT_SECONDS": "4", "EXPORTER_LEDGER__MAX_IDS": ""}
    settings = read_settings({"queue": "flag", **named}, environment)
    assert (settings.queue, settings.sqs.max_receives, settings.sqs.wait_seconds) == (("flag",), 1, 4)
    assert (settings.ledger.max_ids, settings.log.level, settings.web.port) == (3000, "info", 9797)


def test_the_file_can_be_named_by_a_variable(tmp_path: Path) -> None:
    """So an image needs no flag."""
    named, path = in_file(tmp_path, "queue: orders\n")
    assert read_settings({}, {"EXPORTER_CONFIG__FILE": path}).queue == ("orders",)
    assert read_settings(named, {"EXPORTER_CONFIG__FILE": "/nowhere"}).queue == ("orders",)


def test_the_file_takes_lists_and_leaves_words_as_they_are(tmp_path: Path) -> None:
    """YAML's own reading of words and numbers changes no setting."""
    named, _ = in_file(tmp_path, "queue: 0123\nevents:\n  types: [no, 1:30, 0o17]\n  require_timestamp: off\n")
    settings = read_settings(named, {})
    assert settings.queue == ("0123",)
    assert settings.events.types == ("no", "1:30", "0o17")
    assert settings.events.require_timestamp is False


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "queue: orders\nsqs:\n  max-receives: 0\n",
            "{path}:3 (sqs.max-receives) is '0': use a whole number from 1 to 256",
        ),
        ("queue: [a, b c]\n", "{path}:1 (queue) is 'a,b c': use a name"),
        ("queue: {a: b}\n", "{path}:1 (queue) is neither a value nor a list of values"),
        ("sqs: 3\n", "{path}:1 (sqs) is not a mapping"),
        ("- queue\n", "{path}:1 (the file) is not a mapping"),
        ("sqs:\n  max-receivs: 1\n", "{path}:2 (sqs.max-receivs) is not a setting; did you mean sqs.max-receives?"),
        ("\nhunter2: s3cret\n", "{path}:2 (hunter2) is not a setting; remove it"),
        ("config.file: other.yml\n", "{path}:1 (config.file) is not a setting"),
        ("[a]: b\n", "{path}:1 (a key) is not a setting"),
        (
            "queue: a\nsqs: {wait-seconds: 1}\nsqs.wait_seconds: 2\n",
            "{path}:3 sets sqs.wait-seconds again, after {path}:2",
        ),
        ("queue: a\nqueue: b\n", "{path}:2 sets queue again, after {path}:1"),
        ("a: b: c\n", "{path}:1 is not YAML: mapping values are not allowed here"),
        ("queue: a\n---\nqueue: b\n", "{path}:2 is not YAML"),
        ("queue: \x07\n", "--config.file is '{path}', which is not YAML"),
        ("[" * 2_000, "--config.file is '{path}', which is not YAML"),
        ("#" * 1_000_001, "--config.file is '{path}', which is too long"),
        ("&a sqs: *b\n", "{path}:1 is not YAML"),
        ("sqs: &a {max-receives: *a}\n", "{path}:1 (sqs.max-receives) is neither"),
    ],
)
def test_a_wrong_file_is_named_with_the_line(text: str, said: str, tmp_path: Path) -> None:
    """Whatever is wrong in the file, the sentence says where."""
    named, path = in_file(tmp_path, text)
    assert sentence_of(named).startswith(said.replace("{path}", path))


@pytest.mark.parametrize("content", [None, b"queue: \xff\xfe"])
def test_a_file_that_cannot_be_read_is_named(content: bytes | None, tmp_path: Path) -> None:
    """The sentence names the setting that named the file."""
    path = tmp_path / "config.yml"
    if content:
        path.write_bytes(content)
    why = "it is not UTF-8 text" if content else "No such file or directory"
    assert sentence_of({}, {"EXPORTER_CONFIG__FILE": str(path)}) == (
        f"the environment variable EXPORTER_CONFIG__FILE is {str(path)!r}, which can't be read: {why}"
    )


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("EXPORTER_LEDGER_PATH", "; did you mean EXPORTER_LEDGER__PATH?"),
        ("EXPORTER_QUEUE", "; did you mean SQS_QUEUE_NAME?"),
        ("EXPORTER_LOG__LEVEL", "; did you mean LOG_LEVEL?"),
        ("EXPORTER_SHOP__XYZ", "; unset it"),
    ],
)
def test_an_unknown_variable_is_a_wrong_setting(name: str, hint: str) -> None:
    """A misspelt variable ends the start; what it holds is not shown, it could be a secret."""
    assert (
        sentence_of({"queue": "orders"}, {name: "hunter2"}) == f"the environment variable {name} is not a setting{hint}"
    )


@pytest.mark.parametrize("name", ["EXPORTER_PORT", "EXPORTER_SERVICE_HOST", "EXPORTER_PORT_9797_TCP_ADDR"])
def test_what_kubernetes_sets_for_a_service_named_exporter_is_left_alone(name: str) -> None:
    """Its variables have no double underscore, as all of ours but a few have."""
    assert read_settings({"queue": "orders"}, {name: "tcp://10.0.0.1:9797"}).queue == ("orders",)


@pytest.mark.parametrize(
    ("text", "queues"),
    [
        ("orders,returns", ("orders", "returns")),
        ("shop-*", ("shop-*",)),
        (
            "orders, shop-* ,https://sqs.eu-west-1.amazonaws.com/1/o",
            ("orders", "shop-*", "https://sqs.eu-west-1.amazonaws.com/1/o"),
        ),
    ],
)
def test_several_queues_are_named_with_commas(text: str, queues: tuple[str, ...]) -> None:
    """Names, URLs and prefixes may be mixed."""
    assert read_settings({"queue": text}, {}).queue == queues


@pytest.mark.parametrize("text", ["*", "shop-*x", "https://sqs.eu-west-1.amazonaws.com/1/shop-*", "shop*.fifo", ","])
def test_a_prefix_has_its_star_at_the_end(text: str) -> None:
    """Anything else with a star in it, or no name at all, is a wrong setting."""
    assert "such as orders,shop-*" in sentence_of({"queue": text})


def test_a_file_and_a_database_for_the_ledger_are_a_wrong_setting() -> None:
    """The sentence names both sources, and what to do."""
    said = sentence_of({"queue": "a", "ledger.path": "x.db"}, {"EXPORTER_LEDGER__URL": "postgresql://db/x"})
    assert said.startswith("--ledger.path and the environment variable EXPORTER_LEDGER__URL are both set: keep the one")


def test_a_duration_without_a_unit_is_asked_for_its_unit() -> None:
    """The most frequent mistake gets its own hint."""
    assert sentence_of({"queue": "a", "ledger.window": "3600"}).endswith(
        "such as 1h (3600 of what? 3600s are seconds, 3600m minutes)"
    )


def test_a_missing_queue_is_named_with_every_way_to_set_it() -> None:
    """Without a queue there is nothing to do; an empty variable is no queue."""
    said = "--queue is missing: set it, SQS_QUEUE_NAME or 'queue' in --config.file"
    assert sentence_of({}) == said
    assert sentence_of({}, {"SQS_QUEUE_NAME": ""}) == said


@pytest.mark.parametrize(
    "queue", ["https://me:hunter2@sqs.example/1/orders", "https://sqs.example/1/orders?sig=hunter2"]
)
def test_no_password_of_a_url_is_shown(queue: str) -> None:
    """A URL with a password or a signature is refused without repeating it."""
    said = sentence_of({"queue": queue})
    assert "hunter2" not in said
    assert "sqs.example" in said


def test_what_is_flag_only_is_taken_from_no_other_source(tmp_path: Path) -> None:
    """A demo does not write into the ledger that a variable names."""
    named, _ = in_file(tmp_path, "queue: orders\n")
    environment = {"EXPORTER_LEDGER__PATH": "/data/ledger.db", "EXPORTER_SUMMARY__INTERVAL": "5s"}
    defaults = {"queue": "demo", "ledger.path": "/nowhere/x.db", "summary.interval": "2s"}
    flag_only = {"queue", "ledger.path"}
    settings = read_settings(named, environment, defaults=defaults, flag_only=flag_only)
    assert (settings.queue, settings.ledger.path, settings.summary.interval_seconds) == (
        ("demo",),
        Path("/nowhere/x.db"),
        5,
    )
    flags = {"ledger.path": "mine.db"}
    assert read_settings(flags, environment, defaults=defaults, flag_only=flag_only).ledger.path == Path("mine.db")


def test_settings_never_change() -> None:
    """They are read once; nothing can set them later."""
    settings = read_settings({"queue": "orders"}, {})
    with pytest.raises(ValidationError):
        settings.queue = ("other",)
    with pytest.raises(ValidationError):
        settings.sqs.max_receives = 1


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("127.0.0.1:9797", "127.0.0.1", 9797),
        (":9797", "", 9797),
        ("[::1]:0", "::1", 0),
        ("[fe80::1%eth0]:80", "fe80::1%eth0", 80),
        ("metrics.example:65535", "metrics.example", 65535),
    ],
)
def test_a_listen_address_is_split_into_host_and_port(text: str, host: str, port: int) -> None:
    """IPv6 loses its brackets; no host means all addresses."""
    assert split_listen_address(text) == (host, port)
    web = read_settings({"queue": "orders", "web.listen-address": text}, {}).web
    assert (web.host, web.port, web.listen_address) == (host, port, text)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("0", 0), ("0s", 0), ("100ms", 0.1), ("10s", 10), ("1h30m", 5400), ("1d2h3m4s5ms", 93784.005), ("2w", 1_209_600)],
)
def test_durations_are_those_of_prometheus(text: str, seconds: float) -> None:
    """Units in falling order, each once; what is written out reads back."""
    assert parse_duration(text) == seconds
    assert parse_duration(format_duration(seconds)) == seconds


@pytest.mark.parametrize("text", ["", "1", "s", "1.5s", "-1s", "1s1h", "1s1s", " 1s", "1 s", "1S", "\u0661s", "1s\n"])
def test_what_prometheus_refuses_is_no_duration(text: str) -> None:
    """No sign, fraction, space or foreign digit is guessed at."""
    with pytest.raises(ValueError, match="not a duration"):
        parse_duration(text)
