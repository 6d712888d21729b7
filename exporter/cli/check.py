"""`check`: says line by line whether a run would work here. It counts and deletes nothing, and writes nothing."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

from exporter.cli.checks import machine
from exporter.cli.checks.finding import OBSTACLE, WRONG_SETTING, Finding, as_json, as_text, error, exit_code, in_words
from exporter.cli.checks.policy import iam_policy
from exporter.cli.checks.queues import Queues
from exporter.cli.command_line import configure
from exporter.cli.options import CheckOptions
from exporter.errors import WrongSettingError, shown
from exporter.settings.sources import given_settings, read_options
from exporter.sqs.aws import connect
from exporter.telemetry import logs

if TYPE_CHECKING:
    from collections.abc import Iterator

    from exporter.cli.command_line import Invocation
    from exporter.settings import Settings

AWS_VARIABLES = (
    "AWS_PROFILE",
    "AWS_REGION",
    "AWS_DEFAULT_REGION",
    "AWS_ENDPOINT_URL_SQS",
    "AWS_ENDPOINT_URL",
    "AWS_CA_BUNDLE",
)
"""Of AWS's own settings, those that can send a run somewhere else, and hold no secret."""


def execute(invocation: Invocation) -> int:
    """Print what a run would find; returns 1 where something stands in its way, 2 where a setting is wrong.

    Raises WrongSettingError where the settings can't be read at all.
    """
    settings, options = configure(invocation), read_options(CheckOptions, invocation.options)
    if options.print_iam_policy:
        return _print_policy(settings)
    found = []
    for finding in _findings(invocation, settings, receive=options.receive):
        found.append(finding)
        if options.format == "text":
            print(as_text(finding), flush=True)
    print(as_json(found) if options.format == "json" else in_words(found))
    return exit_code(found)


def _findings(invocation: Invocation, settings: Settings, *, receive: bool) -> Iterator[Finding]:
    for key, found in given_settings(invocation.settings, os.environ).items():
        yield Finding("setting", f"{key} is {shown(found.value)}, from {found.source}")
    for name in AWS_VARIABLES:
        if os.environ.get(name):
            yield Finding("setting", f"{name} is {shown(os.environ[name])}, from the environment")
    attributes = {}
    try:
        queues = Queues(settings, connect(queues=settings.queue), receive=receive)
        yield from queues.findings()
        attributes = queues.attributes
    except WrongSettingError as wrong:
        yield error("setting", str(wrong), WRONG_SETTING)
    yield from machine.ledger(settings, attributes)
    yield from machine.web(settings)
    yield from machine.descriptors(settings, attributes)
    yield from machine.otlp()


def _print_policy(settings: Settings) -> int:
    """Print the IAM policy; a sentence on stderr says what of it is a guess, because a queue could not be read."""
    connection = connect(queues=settings.queue)
    queues = Queues(settings, connection)
    for finding in queues.findings():
        if finding.subject == "queue" and (finding.exit_code == OBSTACLE or "may not be read" in finding.sentence):
            logs.say(f"{finding.sentence}; the policy leaves out what its KMS key and dead-letter queue need")
    print(json.dumps(iam_policy(settings, connection, queues.attributes), indent=2))
    return 0
