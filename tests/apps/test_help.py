"""What help looks like: flags take nothing, arguments have one name."""

from __future__ import annotations

from typing import Any

import pytest
from typer.core import TyperGroup
from typer.main import get_command
from typer.testing import CliRunner

from visagist.apps.cli import app

NAMES = [command.name or command.callback.__name__ for command in app.registered_commands if command.callback is not None]
VERBS = ["", "train", "train cifar-best", *NAMES]


def help_of(command: str) -> str:
    done = CliRunner().invoke(app, [*command.split(), "--help"], env={"COLUMNS": "110", "TERM": "dumb"})
    assert done.exit_code == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("command", VERBS)
def test_flags_show_no_type(command: str) -> None:
    said = help_of(command)
    assert "--help" in said and "<bool>" not in said and "BOOLEAN" not in said


@pytest.mark.parametrize("command", VERBS)
def test_the_usage_line_names_arguments_as_the_pages_do(command: str) -> None:
    usage = next(line for line in help_of(command).splitlines() if "Usage:" in line)
    assert "{" not in usage and "......" not in usage
    one: Any = get_command(app)
    if command in {name for name in one.commands if not isinstance(one.commands[name], TyperGroup)}:
        names = [param.metavar for param in one.commands[command].params if param.param_type_name == "argument"]
        assert usage.split("[OPTIONS]")[1].split() == names
