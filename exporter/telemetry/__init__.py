"""What the exporter says of itself: log lines, readiness, metrics and OpenTelemetry."""
