"""What OpenTelemetry's own environment variables ask for, read without importing OpenTelemetry.

https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/
https://opentelemetry.io/docs/specs/otel/protocol/exporter/

Stricter than the specification, which has wrong values ignored with a warning: they end the program with a sentence.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from exporter.errors import WrongSettingError, shown

if TYPE_CHECKING:
    from collections.abc import Mapping

OTLP = "OTEL_EXPORTER_OTLP_"
SIGNALS = ("METRICS", "TRACES")
EXPORTERS = {"METRICS": ("otlp", "prometheus", "none"), "TRACES": ("otlp", "none")}
"""Of OTEL_METRICS_EXPORTER and OTEL_TRACES_EXPORTER. `prometheus` is served in any case."""
PROTOCOLS = ("http/protobuf", "grpc")
GRPC_PACKAGE = "opentelemetry.exporter.otlp.proto.grpc"
DEFAULT_ENDPOINTS = {"http/protobuf": "http://localhost:4318", "grpc": "http://localhost:4317"}
SAMPLERS = (
    "parentbased_always_on",
    "always_on",
    "always_off",
    "traceidratio",
    "parentbased_always_off",
    "parentbased_traceidratio",
)
LIMITS = tuple(
    f"OTEL_{limit}_LIMIT"
    for limit in (
        "SPAN_LINK_COUNT",
        "SPAN_EVENT_COUNT",
        "SPAN_ATTRIBUTE_COUNT",
        "LINK_ATTRIBUTE_COUNT",
        "EVENT_ATTRIBUTE_COUNT",
        "ATTRIBUTE_COUNT",
        "ATTRIBUTE_VALUE_LENGTH",
        "SPAN_ATTRIBUTE_VALUE_LENGTH",
    )
)
DEFAULT_TIMEOUT_MILLISECONDS = 10_000
MAX_DIGITS = 9

# As the SDK reads them: what it can't read it would log, password and all.
_is_header = re.compile(r"[ \t]*[!#-'*+.0-9A-Z^-z|~-]+[ \t]*=[ \t]*[ !#-+\x2d-\x3a<-\[\]-~]*").fullmatch
_is_host_and_port = re.compile(r"[^/\s@?#]+:[0-9]{1,5}").fullmatch


@dataclass(frozen=True, slots=True)
class Signal:
    """Where metrics or traces go."""

    protocol: str
    endpoint: str
    compression: str
    timeout_seconds: float


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is asked for. Limits, headers, certificates and resource are checked here, and read by the SDK."""

    metrics: Signal | None
    traces: Signal | None
    metric_interval_seconds: float
    sampled_share: float
    """From 0 to 1: of the traces that begin here, how many are kept. None of them has a parent."""
    span_queue_size: int
    span_batch_size: int
    span_delay_milliseconds: int


def wanted(environment: Mapping[str, str]) -> Wanted | None:
    """Return what is asked for, or None: nothing is. Raises WrongSettingError.

    A signal is on where its OTEL_..._EXPORTER says so, or, where that is not set, by an endpoint for it or for all.
    """
    variables = _Variables(environment)
    if variables.get("OTEL_SDK_DISABLED").lower() == "true":
        return None
    interval_seconds = variables.positive("OTEL_METRIC_EXPORT_INTERVAL", 60_000) / 1000
    metrics, traces = (_signal(variables, signal) for signal in SIGNALS)
    if metrics is None and traces is None:
        return None
    variables.check_what_the_sdk_reads()
    _check_metric_preferences(variables)
    queue_size = variables.positive("OTEL_BSP_MAX_QUEUE_SIZE", 2048)
    batch_size = variables.positive("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", min(512, queue_size))
    if batch_size > queue_size:
        raise variables.wrong("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", f"at most OTEL_BSP_MAX_QUEUE_SIZE, {queue_size}")
    return Wanted(
        metrics=metrics,
        traces=traces,
        metric_interval_seconds=interval_seconds,
        sampled_share=variables.sampled_share(),
        span_queue_size=queue_size,
        span_batch_size=batch_size,
        span_delay_milliseconds=variables.positive("OTEL_BSP_SCHEDULE_DELAY", 5_000),
    )


def _signal(variables: _Variables, signal: str) -> Signal | None:
    exporters = variables.some_of(f"OTEL_{signal}_EXPORTER", EXPORTERS[signal])
    if exporters is None:
        endpoints = (f"{OTLP}ENDPOINT", f"{OTLP}{signal}_ENDPOINT")
        exporters = frozenset({"otlp"} if any(map(variables.get, endpoints)) else ())
    if "otlp" not in exporters:
        return None
    protocol = variables.protocol(signal)
    timeout = variables.positive(variables.nearest("TIMEOUT", signal), DEFAULT_TIMEOUT_MILLISECONDS)
    if signal == "METRICS":
        timeout = min(timeout, variables.positive("OTEL_METRIC_EXPORT_TIMEOUT", 30_000))
    return Signal(
        protocol,
        variables.endpoint(signal, protocol),
        variables.one_of(
            variables.nearest("COMPRESSION", signal),
            ("none", "gzip") if protocol == "grpc" else ("none", "gzip", "deflate"),
        ),
        timeout / 1000,
    )


def _check_metric_preferences(variables: _Variables) -> None:
    """Refuse what OpenTelemetry knows and is not done here: deltas and exponential histograms."""
    name = f"{OTLP}METRICS_TEMPORALITY_PREFERENCE"
    if variables.get(name).lower() not in {"", "cumulative"}:
        raise variables.wrong(
            name,
            "cumulative, the default, because a delta that is lost, or sent twice around a crash, falsifies the counts "
            "for good; a collector's cumulativetodelta processor makes deltas of them",
        )
    variables.one_of(f"{OTLP}METRICS_DEFAULT_HISTOGRAM_AGGREGATION", ("explicit_bucket_histogram",))


class _Variables:
    """The environment. A variable that is empty is as good as not set, as the specification has it."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment

    def get(self, name: str) -> str:
        """Return the value, "" where there is none."""
        return self._environment.get(name, "").strip()

    def wrong(self, name: str, rule: str) -> WrongSettingError:
        """Make the error for a wrong value."""
        return WrongSettingError(f"the environment variable {name} is {shown(self.get(name))}: use {rule}")

    def nearest(self, what: str, signal: str) -> str:
        """Return the name of the variable that is for the signal if it is set, and of that for all signals if not."""
        own = f"{OTLP}{signal}_{what}"
        return own if self.get(own) else f"{OTLP}{what}"

    def one_of(self, name: str, choices: tuple[str, ...]) -> str:
        """Return which of the choices it is; the first is the default."""
        value = self.get(name).lower() or choices[0]
        if value not in choices:
            raise self.wrong(name, " or ".join(choices))
        return value

    def some_of(self, name: str, choices: tuple[str, ...]) -> frozenset[str] | None:
        """Return which of the choices a list names; None where it is not set."""
        values = frozenset(value.strip() for value in self.get(name).lower().split(","))
        if not values <= {*choices, ""}:
            raise self.wrong(name, f"{' or '.join(choices)}, with commas between them")
        return values - {""} or None

    def positive(self, name: str, default: int) -> int:
        """Return a whole number above 0."""
        text = self.get(name)
        if not text:
            return default
        if not (_is_whole_number(text) and int(text) > 0):
            raise self.wrong(
                name, f"a whole number above 0, of at most {MAX_DIGITS} digits, in milliseconds where it is a time"
            )
        return int(text)

    def protocol(self, signal: str) -> str:
        """Return how a signal is sent. gRPC needs packages that are not installed by default."""
        name = self.nearest("PROTOCOL", signal)
        protocol = self.one_of(name, PROTOCOLS)
        if protocol == "grpc" and not _is_installed(GRPC_PACKAGE):
            raise self.wrong(
                name, 'http/protobuf, or install what gRPC needs: pip install "sqs-event-exporter[otlp-grpc]"'
            )
        return protocol

    def sampled_share(self) -> float:
        """Return which share of the traces OTEL_TRACES_SAMPLER keeps."""
        sampler = self.one_of("OTEL_TRACES_SAMPLER", SAMPLERS)
        if not sampler.endswith("traceidratio"):
            return 1.0 if sampler.endswith("always_on") else 0.0
        name = "OTEL_TRACES_SAMPLER_ARG"
        ratio = self.get(name) or "1"
        if not re.fullmatch(r"0(\.[0-9]*)?|1(\.0*)?|\.[0-9]+", ratio):
            raise self.wrong(name, "a number from 0 to 1, such as 0.25")
        return float(ratio)

    def endpoint(self, signal: str, protocol: str) -> str:
        """Return where a signal goes: a signal's own endpoint as it is, the one for all with the signal's path."""
        name = self.nearest("ENDPOINT", signal)
        value = self.get(name) or DEFAULT_ENDPOINTS[protocol]
        if protocol == "grpc" and "://" not in value and _is_host_and_port(value):
            return value
        try:
            url = urlsplit(value)
            fit = bool(url.scheme in {"http", "https"} and url.hostname) and url.port != 0
        except ValueError:
            fit = False
        if not fit or set("@?#") & set(value) or any(character.isspace() for character in value):
            raise self.wrong(
                name,
                f"a URL such as {DEFAULT_ENDPOINTS[protocol]}, without user, password and query: "
                f"what is secret belongs in {OTLP}HEADERS",
            )
        if protocol == "grpc" or name == f"{OTLP}{signal}_ENDPOINT":
            return value
        return f"{value.rstrip('/')}/v1/{signal.lower()}"

    def check_what_the_sdk_reads(self) -> None:
        """Refuse what the SDK would refuse with a traceback, or ignore."""
        for name in LIMITS:
            text = self.get(name)
            if text and text.lower() != "unset" and not _is_whole_number(text):
                raise self.wrong(name, f"a whole number of at most {MAX_DIGITS} digits")
        self.positive("OTEL_BSP_EXPORT_TIMEOUT", 30_000)
        for pair in filter(None, self.get("OTEL_RESOURCE_ATTRIBUTES").split(",")):
            if "=" not in pair:
                raise self.wrong("OTEL_RESOURCE_ATTRIBUTES", "key=value pairs with commas between them")
        for scope in ("", *(f"{signal}_" for signal in SIGNALS)):
            self._check_headers(f"{OTLP}{scope}HEADERS")
            for what in ("CERTIFICATE", "CLIENT_CERTIFICATE", "CLIENT_KEY"):
                name = f"{OTLP}{scope}{what}"
                if self.get(name) and not os.path.isfile(self.get(name)):  # noqa: PTH113 - Path.is_file may raise
                    raise self.wrong(name, "the path of a file (PEM)")

    def _check_headers(self, name: str) -> None:
        if not all(_is_header(header) for header in self.get(name).split(",") if header.strip()):
            raise WrongSettingError(
                f"the environment variable {name} can't be read: use name=value pairs with commas between them, "
                f"values percent-encoded (what it holds is not shown, because it can be a password)",
            )


def _is_whole_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= MAX_DIGITS


def _is_installed(package: str) -> bool:
    try:
        return find_spec(package) is not None
    except ModuleNotFoundError:  # of a package above it
        return False
