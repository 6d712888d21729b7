"""sqs-event-exporter: counts the events in Amazon SQS queues, each exactly once."""

__version__: str


def __getattr__(name: str) -> str:
    """Look the version up when it is asked for: until then Ctrl-C would meet an import that takes a while."""
    if name != "__version__":
        raise AttributeError(name)
    from importlib.metadata import version  # noqa: PLC0415 - see above

    return version("sqs-event-exporter")
