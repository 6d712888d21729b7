"""The examples that --help gives."""

from __future__ import annotations

import shlex

import pytest

from exporter.cli.command_line import default_text, read_command_line
from exporter.cli.main import COMMANDS
from exporter.cli.options import DemoOptions
from exporter.settings import Settings
from exporter.settings.setting import setting_fields
from exporter.settings.sources import read_options, read_settings

EXAMPLES = [(name, example) for name, command in COMMANDS.items() for example in command.examples]


@pytest.mark.parametrize(("name", "example"), EXAMPLES, ids=[example for _, example in EXAMPLES])
def test_every_example_can_be_typed(name: str, example: str) -> None:
    """Its flags are the command's, and each value is one that is taken."""
    words = [word for word in shlex.split(example) if word[0] not in "<>"]
    invocation = read_command_line(words, COMMANDS)
    assert invocation is not None
    assert invocation.command == name
    settings = {key: value for key, value in invocation.settings.items() if key != "config.file"}
    read_settings(settings, {}, defaults={"queue": "none"})
    read_options(COMMANDS[name].options or DemoOptions, invocation.options)


def test_a_default_that_is_given_changes_nothing() -> None:
    """What --help and docs/configuration.md say of each default is true: given as it is shown, it is the same."""
    shown = {field.setting.key: text for field in setting_fields(Settings) if (text := default_text(field))}
    assert read_settings({"queue": "orders", **shown}, {}) == read_settings({"queue": "orders"}, {})


def test_help_shows_examples(capsys: pytest.CaptureFixture[str]) -> None:
    """Without arguments one of each command, and every one of a command that is asked for."""
    assert read_command_line((), COMMANDS) is None
    assert "\n  sqs-event-exporter run --queue orders" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        read_command_line(("check", "--help"), COMMANDS)
    assert "\n  sqs-event-exporter check --queue orders --print-iam-policy\n" in capsys.readouterr().out
