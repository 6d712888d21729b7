"""OpenTelemetry: the snapshot and the exporter's own health as metrics, and traces, over OTLP.

The only package that imports OpenTelemetry. `environment` does not, and is always imported; all else here is imported
only where OpenTelemetry's own variables ask for it: with them unset nothing of OpenTelemetry is loaded.
"""
