"""How commands show themselves in their help, whatever version of typer draws it: flags take no value and show none, and arguments
have the names that they were given."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup


class _Plain:
    """Flags without `<bool>` behind them; `--help` is one of them."""

    def get_params(self, ctx: Any) -> list[Any]:
        params: list[Any] = super().get_params(ctx)  # type: ignore[misc]
        for param in params:
            if getattr(param, "is_flag", False) and param.metavar is None:
                param.metavar = ""
        return params


class Command(_Plain, TyperCommand):
    """A command; its usage line reads `PHOTO...`, not `{PHOTO...}...`."""

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        pieces = [self.options_metavar] if self.options_metavar else []
        for param in self.get_params(ctx):
            named = param.param_type_name == "argument" and param.metavar
            pieces += [param.metavar] if named else param.get_usage_pieces(ctx)
        return pieces


class Group(_Plain, TyperGroup):
    """Commands under one name."""


class App(typer.Typer):
    """`typer.Typer` whose commands are of the class above."""

    def command(self, name: str | None = None, *, cls: type[TyperCommand] | None = None, **more: Any) -> Callable[[Any], Any]:
        return super().command(name, cls=cls or Command, **more)
