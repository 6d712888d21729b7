"""sqs-event-exporter: counts the events in an Amazon SQS queue, each exactly once."""

from importlib.metadata import version

__version__ = version("sqs-event-exporter")
