"""Stages that are as long as so many passes over the items, whatever their number; rows held back where there are no folds."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from visagist.recipe import Item, Recipe, Stage, Tools
from visagist.training.loop import train


@dataclass(frozen=True)
class Passes(Recipe):
    """One number, three passes."""

    batch: int = 4

    def networks(self) -> Any:
        return {"net": nn.Linear(1, 1)}

    def stages(self) -> tuple[Stage, ...]:
        def sgd(nets: Any) -> Any:
            return {"net": torch.optim.SGD(nets["net"].parameters(), 0.1)}

        return (Stage("only", ("net",), step=self.step, optimizers=sgd, batch=self.batch, epochs=3, watch="error", patience=2),)

    def example(self, item: Item, rng: Any) -> Any:
        return {"x": rng.normal(size=(1,))}

    def step(self, run: Any, batch: Any) -> Any:
        loss = run.nets["net"](batch["x"]).square().mean()
        run.update("net", loss)
        return {"loss": loss}

    def measure(self, nets: Any, items: Any, tools: Any) -> dict[str, float]:
        return {"error": float(nets["net"].weight.abs()), "n": 1.0}


@pytest.mark.parametrize(("count", "batch", "steps"), [(10, 4, 8), (8, 4, 6), (3, 64, 1)])
def test_a_stage_is_as_long_as_its_passes_and_measured_after_each(tmp_path: Path, count: int, batch: int, steps: int) -> None:
    items = [Item(f"{i}", lambda: None) for i in range(count)]  # type: ignore[arg-type, return-value]
    options: dict[str, Any] = {"workers": 0, "quiet": True, "precision": "fp32", "tools": Tools(None), "system": "toy"}
    train(Passes(batch), items, tmp_path / "run", validation=items[:1], **options)
    lines = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    measured = [line["step"] for line in lines if "measured" in line]
    assert max(line["step"] for line in lines) == steps == Passes(batch).stages()[0].over(count).steps
    assert len(measured) == min(3, steps) and measured[-1] == steps


def test_a_stage_of_steps_stays_as_it_is() -> None:
    stage = Stage("a", (), step=lambda run, batch: {}, optimizers=lambda nets: {}, steps=7)
    assert stage.over(1000) is stage
