"""Write docs/command_line.md from the commands themselves: `python docs/command_line.py`. A test runs it with --check."""

from __future__ import annotations

import sys
from collections.abc import Callable
from enum import Enum
from inspect import Parameter, signature
from pathlib import Path
from typing import Any, get_args, get_type_hints

from typer.models import ArgumentInfo, OptionInfo

from visagist.apps import learning
from visagist.apps.cli import app

PAGE = Path(__file__).with_suffix(".md")

INTRODUCTION = """\
# The command line

<!-- Written by docs/command_line.py from the commands' own help. Change the help, then run it. -->

Options, exit codes and JSON are a contract: other programs may rely on them.

- PHOTO means files, folders and patterns. A folder is walked with the folders below it; pictures that carry our own mark are
  skipped unless they are named.
- Editing verbs write `NAME.VERB.EXT` beside the photo, or to `-o`: a file for one photo, a folder (the tree is mirrored) for
  several. What exists already is skipped and counted, so a rerun after a crash finishes the rest; `--overwrite` replaces it.
  Replacing the photo itself needs `--in-place`. Two photos with one result are refused before work starts.
- detect, landmarks and classify print a table, or with `--json` one object per photo and line, in input order; they write a drawn
  copy only with `-o` (classify also with `--explain`).
- One failing photo never stops the others. Each failure is one line on stderr: path, reason code, what to do.
- Progress goes to stderr and is silent when that is no terminal.

| exit code | meaning |
|---|---|
| 0 | done; a photo without faces is done for detect, a failure for an edit |
| 1 | some photos failed |
| 2 | wrong usage; nothing was started |
| 3 | all photos failed |
| 4 | training stopped: bad data, or a loss that is not finite |
| 70 | our own mistake; please report it |
| 130 | interrupted |

```json
{"photo": "in/a.jpg", "size": [480, 640], "faces": [{"index": 1, "label": "face", "box": [10.5, 20.0, 90.0, 118.5], "score": 0.98,
 "points": [[12.0, 40.5], ...], "scheme": "ibug68", "pose": {"yaw": 3.1, "pitch": -2.0, "roll": 0.4}}], "error": null}
```

(one line in reality). `points`, `scheme` and `pose` are null where they were not computed; faces come by falling area; a failed
photo has `"size": null, "faces": []` and `"error": {"code": "truncated", "message": "..."}`. Editing verbs add `"out"` and
`"skipped"`.
"""


def page() -> str:
    """The whole page as text."""
    commands = [c for c in app.registered_commands if c.callback is not None and not c.hidden]
    parts = [section(c.name or c.callback.__name__, c.callback, c.help, c.epilog) for c in commands if c.callback is not None]
    (train,) = (group for group in app.registered_groups if group.name == "train")
    more = (
        "`--preset NAME` chooses the settings, each of which is an option: `visagist train SYSTEM --preset NAME --help` lists them."
    )
    return "\n".join([INTRODUCTION, *parts, section("train SYSTEM", learning._train, str(train.help), more)])


def section(name: str, function: Callable[..., Any], text: str | None, epilog: str | None) -> str:
    """One command: what it does, how it is called, its options. Read from the function, as the command line itself does."""
    hints = get_type_hints(function, include_extras=True)
    arguments, rows = [], []
    for parameter in signature(function).parameters.values():
        kind, *more = get_args(hints[parameter.name]) or (Any,)
        for told in more:
            if isinstance(told, OptionInfo) and not told.hidden:
                rows.append(f"| {spelled(parameter, kind, told)} | {cell(told.help or '')} | {cell(default(parameter))} |")
            elif isinstance(told, ArgumentInfo):
                arguments.append(told.metavar or parameter.name.upper())
    lines = [f"## {name.split()[0]}", "", f"`{' '.join(['visagist', name, *arguments, '[OPTIONS]'])}`", ""]
    lines += [one_line(text or function.__doc__), ""]
    lines += [one_line(epilog), ""] if epilog else []
    lines += ["| option | meaning | default |", "|---|---|---|", *rows] if rows else []
    return "\n".join(lines).rstrip() + "\n"


def spelled(parameter: Parameter, kind: Any, told: OptionInfo) -> str:
    """`-o`, `--out` PATH"""
    first = (told.default,) if isinstance(told.default, str) else ()  # where typer keeps the first name inside Annotated
    names = (*first, *(told.param_decls or ())) or (f"--{parameter.name.replace('_', '-')}",)
    text = ", ".join(f"`{name}`" for name in sorted(names, key=len))
    return text if kind is bool else f"{text} {cell(told.metavar or values(kind))}"


def values(kind: Any) -> str:
    """What one may type: the choices, or the kind of value."""
    if isinstance(kind, type) and issubclass(kind, Enum):
        return "|".join(str(choice.value) for choice in kind)
    return next((name for number, name in ((int, "INTEGER"), (float, "NUMBER")) if number in (kind, *get_args(kind))), "TEXT")


def default(parameter: Parameter) -> str:
    """The default as one would type it, "required", or nothing where it says nothing."""
    value = parameter.default
    if value is Parameter.empty:
        return "required"
    value = value.value if isinstance(value, Enum) else value
    return "" if value is None or isinstance(value, bool) or value in ([], ()) else f"`{value}`"


def one_line(text: str | None) -> str:
    """The text without line breaks."""
    return " ".join((text or "").split())


def cell(text: str) -> str:
    """The text as a table takes it."""
    return one_line(text).replace("|", "\\|")


if __name__ == "__main__":
    text = page()
    if "--check" in sys.argv[1:]:
        if not PAGE.exists() or PAGE.read_text(encoding="utf-8") != text:
            sys.exit("docs/command_line.md is not what the commands say; run python docs/command_line.py")
    else:
        PAGE.write_text(text, encoding="utf-8")
