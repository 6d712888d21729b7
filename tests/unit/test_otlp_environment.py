"""What OpenTelemetry's variables ask for, and the sentences about those that are wrong."""

from __future__ import annotations

import sys

import pytest

from exporter.errors import WrongSettingError
from exporter.telemetry.otlp.environment import GRPC_PACKAGE, Wanted, wanted

ENDPOINT = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"}


def asked(**variables: str) -> Wanted:
    """Return what an endpoint and these variables ask for."""
    found = wanted(ENDPOINT | variables)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("variables", "metrics", "traces"),
    [
        ({}, False, False),
        (
            {"OTEL_SERVICE_NAME": "x", "OTEL_RESOURCE_ATTRIBUTES": "a=b", "OTEL_TRACES_SAMPLER": "always_on"},
            False,
            False,
        ),
        (ENDPOINT, True, True),
        ({"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "http://collector:4318/v1/metrics"}, True, False),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://collector:4318/v1/traces"}, False, True),
        ({"OTEL_METRICS_EXPORTER": "otlp"}, True, False),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, False, True),
        ({"OTEL_METRICS_EXPORTER": "prometheus"}, False, False),
        (ENDPOINT | {"OTEL_METRICS_EXPORTER": "prometheus"}, False, True),
        (ENDPOINT | {"OTEL_METRICS_EXPORTER": "none"}, False, True),
        (ENDPOINT | {"OTEL_TRACES_EXPORTER": "none"}, True, False),
        (ENDPOINT | {"OTEL_TRACES_EXPORTER": ""}, True, True),
        (ENDPOINT | {"OTEL_SDK_DISABLED": "TRUE"}, False, False),
        (ENDPOINT | {"OTEL_SDK_DISABLED": "false"}, True, True),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": " "}, False, False),
    ],
)
def test_a_signal_is_on_where_it_is_asked_for(variables: dict[str, str], *, metrics: bool, traces: bool) -> None:
    """By its exporter, or by an endpoint; an empty variable is as good as none."""
    found = wanted(variables)
    assert (found is not None and found.metrics is not None) is metrics
    assert (found is not None and found.traces is not None) is traces


def test_the_endpoint_for_all_gets_the_signals_path_and_a_signals_own_does_not() -> None:
    """As the specification has it; gRPC has no paths."""
    own = {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "https://other/here", "OTEL_EXPORTER_OTLP_METRICS_PROTOCOL": "grpc"}
    found = asked(**own)
    assert found.metrics is not None
    assert (found.metrics.protocol, found.metrics.endpoint) == ("grpc", "http://collector:4318")
    assert found.traces is not None
    assert (found.traces.protocol, found.traces.endpoint) == ("http/protobuf", "https://other/here")
    found = asked(OTEL_EXPORTER_OTLP_ENDPOINT="http://collector:4318/base/")
    assert found.metrics is not None
    assert found.metrics.endpoint == "http://collector:4318/base/v1/metrics"


def test_grpc_without_its_packages_is_one_sentence_that_says_how_to_get_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are the extra `otlp-grpc`; what asked for them is named, and HTTP goes without."""
    monkeypatch.setitem(sys.modules, GRPC_PACKAGE, None)
    with pytest.raises(WrongSettingError) as refused:
        asked(OTEL_EXPORTER_OTLP_TRACES_PROTOCOL="grpc")
    assert str(refused.value) == (
        "the environment variable OTEL_EXPORTER_OTLP_TRACES_PROTOCOL is 'grpc': use http/protobuf, or install what "
        'gRPC needs: pip install "sqs-event-exporter[otlp-grpc]"'
    )
    asked(OTEL_EXPORTER_OTLP_PROTOCOL="http/protobuf")


@pytest.mark.parametrize(
    ("sampler", "ratio", "share"),
    [
        ("", "", 1.0),
        ("always_on", "", 1.0),
        ("parentbased_always_off", "", 0.0),
        ("traceidratio", "", 1.0),
        ("parentbased_traceidratio", "0.01", 0.01),
    ],
)
def test_a_sampler_is_a_share_because_no_trace_here_has_a_parent(sampler: str, ratio: str, share: float) -> None:
    """Producers are linked to, so `parentbased` and plain samplers decide alike."""
    assert asked(OTEL_TRACES_SAMPLER=sampler, OTEL_TRACES_SAMPLER_ARG=ratio).sampled_share == share


def test_times_are_milliseconds_and_the_shorter_timeout_holds() -> None:
    """https://opentelemetry.io/docs/specs/otel/protocol/exporter/ has no seconds, whatever the SDK takes."""
    found = asked(
        OTEL_EXPORTER_OTLP_TIMEOUT="2500", OTEL_METRIC_EXPORT_TIMEOUT="1500", OTEL_METRIC_EXPORT_INTERVAL="5000"
    )
    assert found.metrics is not None
    assert found.traces is not None
    assert (found.metrics.timeout_seconds, found.traces.timeout_seconds) == (1.5, 2.5)
    assert found.metric_interval_seconds == 5


@pytest.mark.parametrize(
    ("name", "value", "rule"),
    [
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json", "use http/protobuf or grpc"),
        ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http", "use http/protobuf or grpc"),
        ("OTEL_METRICS_EXPORTER", "otlp,zipkin", "use otlp or prometheus or none, with commas"),
        ("OTEL_METRICS_EXPORTER", "console", "use otlp or prometheus or none, with commas"),
        ("OTEL_TRACES_EXPORTER", "jaeger", "use otlp or none"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4318", "use a URL such as http://localhost:4318"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:99999", "use a URL"),
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "ftp://collector", "use a URL"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "10s", "use a whole number above 0"),
        ("OTEL_METRIC_EXPORT_INTERVAL", "0", "use a whole number above 0"),
        ("OTEL_METRIC_EXPORT_TIMEOUT", "1e3", "use a whole number above 0"),
        ("OTEL_BSP_SCHEDULE_DELAY", "-1", "use a whole number above 0"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "10000000000", "use a whole number above 0, of at most 9 digits"),
        ("OTEL_BSP_EXPORT_TIMEOUT", "30s", "use a whole number above 0"),
        ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "4096", "use at most OTEL_BSP_MAX_QUEUE_SIZE, 2048"),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "zstd", "use none or gzip or deflate"),
        ("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "delta", "use cumulative, the default, because a delta"),
        ("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "lowmemory", "use cumulative"),
        ("OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION", "x", "use explicit_bucket_histogram"),
        ("OTEL_TRACES_SAMPLER", "sometimes", "use parentbased_always_on or always_on or"),
        ("OTEL_SPAN_LINK_COUNT_LIMIT", "many", "use a whole number"),
        ("OTEL_SPAN_LINK_COUNT_LIMIT", "1000000000", "use a whole number of at most 9 digits"),
        ("OTEL_RESOURCE_ATTRIBUTES", "a=b,c", "use key=value pairs"),
        ("OTEL_EXPORTER_OTLP_CERTIFICATE", "/nowhere/ca.pem", "use the path of a file (PEM)"),
    ],
)
def test_a_wrong_value_is_refused_with_its_name_and_what_would_be_right(name: str, value: str, rule: str) -> None:
    """One sentence that shows the value."""
    with pytest.raises(WrongSettingError) as refused:
        asked(**{name: value})
    sentence = str(refused.value)
    assert sentence.startswith(f"the environment variable {name} is '{value}': {rule}")
    assert "\n" not in sentence


def test_a_path_that_no_file_can_have_is_refused() -> None:
    """A name above 255 bytes: to look there is an error, not a no."""
    with pytest.raises(WrongSettingError, match="use the path of a file"):
        asked(OTEL_EXPORTER_OTLP_CERTIFICATE="/" + "x" * 256)


@pytest.mark.parametrize("ratio", ["1.5", "-0.1", "half", "nan"])
def test_a_ratio_is_a_number_from_0_to_1(ratio: str) -> None:
    """The SDK would take 1.0 instead, or end with a traceback."""
    with pytest.raises(WrongSettingError, match="OTEL_TRACES_SAMPLER_ARG"):
        asked(OTEL_TRACES_SAMPLER="traceidratio", OTEL_TRACES_SAMPLER_ARG=ratio)
    asked(OTEL_TRACES_SAMPLER="traceidratio", OTEL_TRACES_SAMPLER_ARG="0.25")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("OTEL_EXPORTER_OTLP_HEADERS", "authorization: Bearer hunter2"),
        ("OTEL_EXPORTER_OTLP_METRICS_HEADERS", "a=b,hunter2"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://user:hunter2@collector:4318"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318/?key=hunter2"),
    ],
)
def test_a_password_is_not_repeated(name: str, value: str) -> None:
    """What is wrong with it is said without it."""
    with pytest.raises(WrongSettingError, match=name) as refused:
        asked(**{name: value})
    assert "hunter2" not in str(refused.value)
