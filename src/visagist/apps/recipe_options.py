"""Command-line options from the fields of a recipe: each setting is written once, in the paper's dataclass.

A field `box_weight: float = 1.5  # weight of the box loss` becomes `--box-weight FLOAT`, its default and comment the help.
"""

from __future__ import annotations

import inspect
import io
import json
import re
import textwrap
import tokenize
from collections.abc import Mapping
from dataclasses import fields
from typing import Annotated, Any, get_type_hints

import typer

PANEL = "Settings of the recipe"


def options_of(recipe: Any, taken: frozenset[str] = frozenset()) -> dict[str, inspect.Parameter]:
    """For each field a keyword parameter that typer understands; the recipe's values are the defaults.

    taken  names that the command uses itself; a field of such a name is our mistake: ValueError
    """
    hints, comments = get_type_hints(type(recipe)), comments_of(type(recipe))
    made = {}
    for field in fields(recipe):
        if field.name in taken:
            raise ValueError(f"{type(recipe).__name__}.{field.name} has the name of an option of the command itself")
        kind, default = hints[field.name], getattr(recipe, field.name)
        flag = "--" + field.name.replace("_", "-")
        text = comments.get(field.name, "")
        if kind is bool:
            option = typer.Option(f"{flag}/--no-{flag[2:]}", help=text, rich_help_panel=PANEL)
        elif kind in (int, float, str):
            option = typer.Option(flag, help=text, rich_help_panel=PANEL)
        else:  # tuples and what else there is: as text, read by `value_of`
            kind, default = str, _as_text(default)
            option = typer.Option(flag, metavar="A,B,...", help=text, rich_help_panel=PANEL)
        made[field.name] = inspect.Parameter(
            field.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, option]
        )
    return made


def values_of(recipe: Any, given: Mapping[str, Any]) -> dict[str, Any]:
    """The fields among what the command was given, as the recipe wants them; texts of tuples are taken apart."""
    return {field.name: _read(given[field.name], getattr(recipe, field.name)) for field in fields(recipe)}


def comments_of(cls: type) -> dict[str, str]:
    """Field name -> the comment behind it, of the class and those it inherits from; "" where the source is not at hand."""
    found: dict[str, str] = {}
    for one in reversed(cls.__mro__[:-1]):
        try:
            source = textwrap.dedent(inspect.getsource(one))
        except (OSError, TypeError):
            continue
        lines = source.splitlines()
        for token in tokenize.generate_tokens(io.StringIO(source).readline):
            field = re.match(r"    (\w+)\s*:", lines[token.start[0] - 1]) if token.type == tokenize.COMMENT else None
            if field:
                found[field[1]] = token.string.lstrip("# ")
    return found


def _as_text(value: Any) -> str:
    """(24, 45) as "24,45"; nested tuples with brackets."""
    if isinstance(value, tuple) and all(isinstance(entry, str) and "," not in entry for entry in value):
        return ",".join(value)
    return json.dumps(value, separators=(",", ":")).removeprefix("[").removesuffix("]") if isinstance(value, tuple) else str(value)


def _read(value: Any, default: Any) -> Any:
    """The other way round; what cannot be read is left to the recipe's own check, which names the field."""
    if not isinstance(value, str) or isinstance(default, str):
        return value
    try:
        return json.loads(f"[{value}]") if isinstance(default, tuple) else json.loads(value)
    except ValueError:
        return value.split(",") if isinstance(default, tuple) else value
