"""Trainings that begin with the weights of another one, and the blends of both."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import nn

from visagist.errors import UsageError, WeightsError
from visagist.recipe import Item, Recipe, Stage, Tools
from visagist.training.loop import train
from visagist.weights.store import read

ITEMS = [Item(f"{i}.png", lambda: None, label=i) for i in range(10)]


def go(recipe: Recipe, out, **options: Any) -> dict[str, torch.Tensor]:
    """Train and give the shipped tensors back (small ones are stored in full precision)."""
    settings = {"workers": 0, "quiet": True, "precision": "fp32", "tools": Tools(None), "system": "toy", **options}
    return read(train(recipe, ITEMS, out, **settings))[0]


@dataclass(frozen=True)
class Toy(Recipe):
    """Regression of the mean of noise."""

    steps: int = 12
    rate: float = 0.1

    def networks(self):
        return {"net": nn.Sequential(nn.Conv2d(3, 4, 3), nn.ELU(), nn.Flatten(), nn.Linear(16, 1))}

    def stages(self):
        optimizers = lambda nets: {"net": torch.optim.SGD(nets["net"].parameters(), self.rate)}  # noqa: E731
        return (Stage("only", ("net",), step=self.step, optimizers=optimizers, batch=4, steps=self.steps),)

    def example(self, item, rng):
        x = rng.normal(size=(3, 4, 4))
        return {"image": x, "wanted": 3 * x.mean(keepdims=True).reshape(1)}

    def step(self, run, batch):
        loss = (run.nets["net"](batch["image"]) - batch["wanted"]).square().mean()
        run.update("net", loss)
        return {"loss": loss}


def test_a_training_can_begin_with_weights_and_refuses_those_of_another_network(tmp_path) -> None:
    first = go(Toy(), tmp_path / "first")
    again = go(Toy(steps=1, rate=0.0), tmp_path / "again", start=tmp_path / "first")
    assert all(torch.allclose(again[name], value, atol=1e-3) for name, value in first.items())  # float16 in the file
    settings = json.loads((tmp_path / "again" / "settings.json").read_text())
    assert settings["start"]  # and so a run begun with other weights is not resumed

    class Other(Toy):
        def networks(self):
            return {"net": nn.Sequential(nn.Conv2d(3, 5, 3), nn.ELU(), nn.Flatten(), nn.Linear(20, 1))}

    with pytest.raises(WeightsError) as raised:
        go(Other(), tmp_path / "other", start=tmp_path / "first")
    assert raised.value.code == "wrong-shape"


def test_a_blend_lies_between_what_it_began_with_and_what_it_learnt(tmp_path) -> None:
    class Summed(Toy):
        def measure(self, nets, items, tools):
            return {"sum": float(sum(p.sum() for p in nets["net"].parameters()))}

    start = go(Toy(), tmp_path / "first")
    more = {"start": tmp_path / "first", "validation": ITEMS}
    learnt = go(Summed(steps=5), tmp_path / "second", **more)
    half = go(Summed(steps=5), tmp_path / "second", blend=0.5, resume=True, **more)  # only writes what is written anew
    assert any(not torch.equal(value, start[name]) for name, value in learnt.items())
    for name, value in half.items():
        assert torch.allclose(value, (start[name] + learnt[name]) / 2, atol=1e-3)  # float16 in the files
    (row,) = json.loads((tmp_path / "second" / "weights.json").read_text())["measured"]
    assert row["value"] == pytest.approx(sum(float(value.sum()) for value in half.values()), abs=1e-2)

    for wrong in ({"blend": 0.5}, {"blend": 0.0, **more}, {"blend": 1.5, **more}):
        with pytest.raises(UsageError, match="blend"):
            go(Toy(), tmp_path / "third", **wrong)
