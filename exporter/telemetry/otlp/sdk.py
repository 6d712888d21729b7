"""Makes OpenTelemetry's exporters and providers from what the environment asks for."""

# ruff: noqa: PLC0415 - only the protocol that is asked for is loaded: gRPC alone takes half a second

from __future__ import annotations

import os
import uuid
from typing import TYPE_CHECKING, Any

from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import NoOpTracerProvider

from exporter import __version__
from exporter.telemetry.otlp import names

if TYPE_CHECKING:
    from opentelemetry.sdk.metrics.export import MetricExporter
    from opentelemetry.sdk.trace.export import SpanExporter
    from opentelemetry.sdk.trace.sampling import Sampler
    from opentelemetry.trace import Tracer

    from exporter.telemetry.otlp.environment import Signal, Wanted

SCOPE = "sqs-event-exporter"


def forget_empty_variables() -> None:
    """Take OpenTelemetry's empty variables out of the environment: the SDK does not always see that they are not set.

    https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/#parsing-empty-value
    """
    for name in [name for name, value in os.environ.items() if name.startswith("OTEL_") and not value.strip()]:
        del os.environ[name]


def process_resource(service_name: str) -> Resource:
    """Describe this process; what OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES say takes precedence."""
    own = {
        names.SERVICE_NAME: service_name,
        names.SERVICE_VERSION: __version__,
        names.SERVICE_INSTANCE_ID: str(uuid.uuid4()),
    }
    return Resource.create(own, names.SCHEMA_URL).merge(OTELResourceDetector().detect())


def ledger_resource(process: Resource, ledger: str) -> Resource:
    """Describe the ledger of that name: the same, whichever process pushes what it keeps."""
    return process.merge(Resource({names.SERVICE_INSTANCE_ID: ledger}))


def tracer_and_provider(
    exporter: SpanExporter | None, settings: Wanted, resource: Resource, sampler: Sampler | None = None
) -> tuple[Tracer, TracerProvider | None]:
    """Return what makes spans, and what hands them to the exporter: nothing does where there is none.

    The sampler is OTEL_TRACES_SAMPLER's, unless another is given.
    """
    if exporter is None:
        return NoOpTracerProvider().get_tracer(SCOPE), None
    provider = TracerProvider(sampler, resource, shutdown_on_exit=False)
    provider.add_span_processor(
        BatchSpanProcessor(
            exporter,
            max_queue_size=settings.span_queue_size,
            max_export_batch_size=settings.span_batch_size,
            schedule_delay_millis=settings.span_delay_milliseconds,
        )
    )
    return provider.get_tracer(SCOPE, __version__, schema_url=names.SCHEMA_URL), provider


def metric_exporter(signal: Signal) -> MetricExporter:
    """Make the exporter of metrics."""
    if signal.protocol == "grpc":
        from opentelemetry.exporter.otlp.proto.grpc import metric_exporter as grpc

        return grpc.OTLPMetricExporter(**_arguments(signal))
    from opentelemetry.exporter.otlp.proto.http import metric_exporter as http

    return http.OTLPMetricExporter(**_arguments(signal))


def span_exporter(signal: Signal) -> SpanExporter:
    """Make the exporter of spans."""
    if signal.protocol == "grpc":
        from opentelemetry.exporter.otlp.proto.grpc import trace_exporter as grpc

        return grpc.OTLPSpanExporter(**_arguments(signal))
    from opentelemetry.exporter.otlp.proto.http import trace_exporter as http

    return http.OTLPSpanExporter(**_arguments(signal))


def _arguments(signal: Signal) -> dict[str, Any]:
    """Return what is not left to the SDK: it takes timeouts for seconds, and "none" for a mistake in gRPC."""
    if signal.protocol == "grpc":
        from grpc import Compression as Grpc  # type: ignore[import-untyped] # it has no types

        compression: object = Grpc.Gzip if signal.compression == "gzip" else Grpc.NoCompression
    else:
        from opentelemetry.exporter.otlp.proto.http import Compression as Http

        compression = Http(signal.compression)
    return {"endpoint": signal.endpoint, "timeout": signal.timeout_seconds, "compression": compression}
