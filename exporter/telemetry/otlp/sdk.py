"""OpenTelemetry's exporters and providers, made of what was asked for."""

# ruff: noqa: PLC0415 - only the protocol that is asked for is loaded: gRPC alone takes half a second

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.sdk.metrics import Counter, Histogram, MeterProvider
from opentelemetry.sdk.metrics.export import AggregationTemporality, ConsoleMetricExporter, InMemoryMetricReader
from opentelemetry.sdk.metrics.view import ExponentialBucketHistogramAggregation
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter
from opentelemetry.trace import NoOpTracerProvider

from exporter import __version__
from exporter.telemetry.otlp import names

if TYPE_CHECKING:
    from opentelemetry.metrics import Meter
    from opentelemetry.sdk.metrics.export import MetricExporter
    from opentelemetry.sdk.trace.export import SpanExporter
    from opentelemetry.trace import Tracer

    from exporter.telemetry.otlp.environment import Signal, Wanted

SCOPE = "sqs-event-exporter"


def forget_empty_variables() -> None:
    """Take OpenTelemetry's empty variables out of the environment: the SDK does not always see that they are not set.

    https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/#parsing-empty-value
    """
    for name in [name for name, value in os.environ.items() if name.startswith("OTEL_") and not value.strip()]:
        del os.environ[name]


def resource_of(service_name: str, instance_id: str) -> Resource:
    """Describe this service; what OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES say goes before."""
    own = {
        names.SERVICE_NAME: service_name,
        names.SERVICE_VERSION: __version__,
        names.SERVICE_INSTANCE_ID: instance_id,
    }
    return Resource.create(own, names.SCHEMA_URL).merge(OTELResourceDetector().detect())


def tracer_and_provider(
    signal: Signal | None, settings: Wanted, resource: Resource
) -> tuple[Tracer, TracerProvider | None]:
    """Return what makes spans, and what sends them: nothing does where there is no signal."""
    if signal is None:
        return NoOpTracerProvider().get_tracer(SCOPE), None
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    for exporter in _span_exporters(signal):
        provider.add_span_processor(
            BatchSpanProcessor(
                exporter,
                max_queue_size=settings.span_queue_size,
                max_export_batch_size=settings.span_batch_size,
                schedule_delay_millis=settings.span_delay_milliseconds,
            )
        )
    return provider.get_tracer(SCOPE, __version__, schema_url=names.SCHEMA_URL), provider


def meter_and_reader(settings: Wanted, resource: Resource) -> tuple[Meter, InMemoryMetricReader | None]:
    """Return what measures, and what gives the measurements when asked; nothing does where metrics are off."""
    if settings.metrics is None:
        return NoOpMeterProvider().get_meter(SCOPE), None
    temporality = AggregationTemporality.DELTA if settings.low_memory else AggregationTemporality.CUMULATIVE
    aggregation = ExponentialBucketHistogramAggregation if settings.exponential_histograms else None
    reader = InMemoryMetricReader(
        {Counter: temporality, Histogram: temporality},
        {Histogram: aggregation()} if aggregation else None,
    )
    provider = MeterProvider([reader], resource, shutdown_on_exit=False)
    return provider.get_meter(SCOPE, __version__, schema_url=names.SCHEMA_URL), reader


def metric_exporters(signal: Signal) -> list[MetricExporter]:
    """Make the exporters of metrics. The console is stderr: stdout is the summary's."""
    exporters: list[MetricExporter] = []
    if "otlp" in signal.exporters:
        if signal.protocol == "grpc":
            from opentelemetry.exporter.otlp.proto.grpc import metric_exporter as grpc

            exporters.append(grpc.OTLPMetricExporter(**_arguments(signal)))
        else:
            from opentelemetry.exporter.otlp.proto.http import metric_exporter as http

            exporters.append(http.OTLPMetricExporter(**_arguments(signal)))
    if "console" in signal.exporters:
        exporters.append(ConsoleMetricExporter(sys.stderr, lambda metrics: metrics.to_json(indent=None) + "\n"))
    return exporters


def _span_exporters(signal: Signal) -> list[SpanExporter]:
    exporters: list[SpanExporter] = []
    if "otlp" in signal.exporters:
        if signal.protocol == "grpc":
            from opentelemetry.exporter.otlp.proto.grpc import trace_exporter as grpc

            exporters.append(grpc.OTLPSpanExporter(**_arguments(signal)))
        else:
            from opentelemetry.exporter.otlp.proto.http import trace_exporter as http

            exporters.append(http.OTLPSpanExporter(**_arguments(signal)))
    if "console" in signal.exporters:
        exporters.append(ConsoleSpanExporter(out=sys.stderr, formatter=lambda span: span.to_json(indent=None) + "\n"))
    return exporters


def _arguments(signal: Signal) -> dict[str, Any]:
    """Return what is not left to the SDK: it takes timeouts for seconds, and "none" for a mistake in gRPC."""
    if signal.protocol == "grpc":
        from grpc import Compression as Grpc  # type: ignore[import-untyped] # it has no types

        compression: object = Grpc.Gzip if signal.compression == "gzip" else Grpc.NoCompression
    else:
        from opentelemetry.exporter.otlp.proto.http import Compression as Http

        compression = Http(signal.compression)
    return {"endpoint": signal.endpoint, "timeout": signal.timeout_seconds, "compression": compression}
