"""The command line with a fake waist, and photos for it."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from visagist.apps.cli import app


def _load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, Path(__file__).parent / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


faked = _load("faked")


class Outcome:
    """What a command did: exit code, lines on both streams, JSON lines."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    @property
    def records(self) -> list[dict[str, Any]]:
        def refuse(word: str) -> None:
            raise AssertionError(f"{word} is not JSON")

        return [json.loads(line, parse_constant=refuse) for line in self.out.splitlines()]

    @property
    def failures(self) -> list[str]:
        """Lines on stderr without the last one, which counts."""
        return [line for line in self.err.splitlines() if "[" in line]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Outcome]]:
    """The command line in this process, with fakes for the networks."""
    for (module, name), fake in faked.FAKES.items():
        monkeypatch.setattr(module, name, fake)
    faked.calls.clear()

    def call(*arguments: object) -> Outcome:
        result = CliRunner().invoke(app, [str(a) for a in arguments])
        return Outcome(result.exit_code, result.stdout, result.stderr)

    yield call


@pytest.fixture
def calls() -> dict[str, int]:
    """How often the fakes were asked, by name."""
    counted: dict[str, int] = faked.calls
    return counted


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, and the current one."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def photo() -> Callable[..., Path]:
    """Writes a small photo; `faces` as `faked` reads them from the first pixel."""

    def write(
        path: str | Path, *, faces: int = 1, size: tuple[int, int] = (40, 60), format: str | None = None, **save: Any
    ) -> Path:
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.full((*size, 3), 0 if faces == 0 else 90, np.uint8)
        if faces > 1:
            pixels[:16, :16] = faces, 0, 1
        Image.fromarray(pixels).save(path, format=format, **save)
        return path

    return write
