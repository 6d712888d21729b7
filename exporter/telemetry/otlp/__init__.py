"""OpenTelemetry: the snapshot and the exporter's own health as metrics, and traces, over OTLP.

The only package that imports OpenTelemetry, and, `environment` and `names` excepted, itself imported only where
OpenTelemetry's own variables ask for it: with them unset nothing of it is loaded.
"""
