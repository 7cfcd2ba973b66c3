"""The training ground carries every kind of paper: each is a fake recipe of ten lines."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from visagist.recipe import Item, Recipe, Stage, Tools
from visagist.training.loop import train
from visagist.weights.store import read

ITEMS = [Item(f"{i}.png", lambda: None, label=i) for i in range(10)]


def go(recipe: Recipe, out, **options: Any) -> dict[str, torch.Tensor]:
    """Train and give the shipped tensors back (small ones are stored in full precision)."""
    settings = {"workers": 0, "quiet": True, "precision": "fp32", "tools": Tools(None), "system": "toy", **options}
    return read(train(recipe, settings.pop("items", ITEMS), out, **settings))[0]


def lines(out, **match: Any) -> list[dict[str, Any]]:
    entries = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return [e for e in entries if all(e.get(k) == v for k, v in match.items())]


def sgd(rate: float, *names: str):
    return lambda nets: {name: torch.optim.SGD(nets[name].parameters(), rate) for name in names}


@dataclass(frozen=True)
class Toy(Recipe):
    """Regression of the mean of noise; the other fakes change one thing each."""

    steps: int = 12
    rate: float = 0.1

    def networks(self):
        return {"net": nn.Sequential(nn.Conv2d(3, 4, 3), nn.ELU(), nn.Flatten(), nn.Linear(16, 1))}

    def stages(self):
        return (Stage("only", ("net",), step=self.step, optimizers=sgd(self.rate, "net"), batch=4, steps=self.steps),)

    def example(self, item, rng):
        x = rng.normal(size=(3, 4, 4))
        return {"image": x, "wanted": 3 * x.mean(keepdims=True).reshape(1)}

    def step(self, run, batch):
        with run.autocast():
            y = run.nets["net"](batch["image"])  # [B,1]
        loss = (y.float() - batch["wanted"]).square().mean()
        run.update("net", loss)
        return {"loss": loss}


def changed(recipe: Toy, **stage: Any) -> Toy:
    """The recipe with other fields in its only stage."""
    only = replace(recipe.stages()[0], **stage)
    kind = type(type(recipe).__name__, (type(recipe),), {"stages": lambda self: (only,)})
    return kind(**asdict(recipe))


def test_supervised_training_learns_and_leaves_a_complete_run_folder(tmp_path):
    out = tmp_path / "run"
    go(Toy(steps=150), out, card={"preset": "small", "paper": "none", "limits": ["noise only"]}, command="visagist train toy")
    losses = [line["loss"] for line in lines(out, name="only")]
    assert np.mean(losses[-20:]) < 0.5 * np.mean(losses[:20])
    assert losses[-1] > 0
    card = json.loads((out / "weights.json").read_text())
    assert card["settings"] == {"preset": "small", "steps": 150, "rate": 0.1}
    assert card["made"]["command"] == "visagist train toy"
    assert json.loads((out / "settings.json").read_text())["data"]["count"] == 10
    assert sorted(p.name for p in out.iterdir()) == [
        "checkpoint.safetensors", "log.jsonl", "settings.json", "sheets", "weights.json", "weights.safetensors",
    ]  # fmt: skip


def test_same_numbers_as_a_loop_written_by_hand(tmp_path):
    seen = []

    class Spy(Toy):
        def step(self, run, batch):
            seen.append({k: v.clone(memory_format=torch.preserve_format) for k, v in batch.items()})
            if len(seen) == 1:
                start.update({k: v.clone(memory_format=torch.preserve_format) for k, v in run.nets["net"].state_dict().items()})
            return super().step(run, batch)

    start: dict[str, torch.Tensor] = {}
    shipped = go(Spy(), tmp_path)
    net = Toy().networks()["net"]
    net[0].to(memory_format=torch.channels_last)
    net.load_state_dict(start)
    optimizer = torch.optim.SGD(net.parameters(), 0.1)
    for batch in seen:
        optimizer.zero_grad()
        (net(batch["image"]) - batch["wanted"]).square().mean().backward()
        optimizer.step()
    assert all(torch.equal(shipped[f"net.{k}"], v) for k, v in net.state_dict().items())


def test_every_item_comes_once_per_epoch_in_another_order(tmp_path):
    order = []

    class Order(Toy):
        def compose(self, items, index, rng):
            order.append(items[index].label)
            return items[index]

    go(Order(steps=5), tmp_path)
    assert sorted(order[:10]) == sorted(order[10:]) == list(range(10))
    assert order[:10] != order[10:]


def test_gan_with_several_critic_steps_and_a_gradient_penalty_in_bf16(tmp_path):
    calls = []

    class Gan(Toy):
        def networks(self):
            critic = nn.Sequential(nn.Conv2d(3, 4, 3), nn.LeakyReLU(), nn.Flatten(), nn.Linear(16, 1))
            return {"G": nn.Sequential(nn.Linear(2, 48), nn.Unflatten(1, (3, 4, 4))), "D": critic}

        def stages(self):
            return (Stage("play", ("G", "D"), step=self.step, optimizers=sgd(0.01, "G", "D"), batch=4, steps=6),)

        def step(self, run, batch):
            generator, critic, real = run.nets["G"], run.nets["D"], batch["image"]  # [B,3,4,4]
            with torch.no_grad(), run.autocast():
                fake = generator(torch.randn(4, 2)).float()
            mixed = torch.lerp(real, fake, torch.rand(4, 1, 1, 1)).requires_grad_()
            with run.autocast():
                scores, at_mixed = critic(fake) - critic(real), critic(mixed)
            slope = torch.autograd.grad(at_mixed.sum(), mixed, create_graph=True)[0].flatten(1).norm(dim=1)
            penalty = (slope - 1).square().mean()
            run.update("D", scores.float().mean() + 10 * penalty)
            calls.append(scores.dtype)
            if run.step % 3 < 2:
                return {"penalty": penalty}
            with run.autocast(), run.frozen("D"):
                loss = -critic(generator(torch.randn(4, 2))).float().mean()
            run.update("G", loss)
            return {"penalty": penalty, "G": loss}

    weights = go(Gan(), tmp_path, precision="bf16")
    assert set(calls) == {torch.bfloat16}
    assert {name.split(".")[0] for name in weights} == {"G", "D"}
    assert [("G" in line) for line in lines(tmp_path)] == [False, False, True] * 2


def test_several_stages_with_frozen_nets(tmp_path):
    seen = []

    class Two(Toy):
        def networks(self):
            body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten())
            body[0].bias.requires_grad_(False)  # frozen by the paper itself
            return {"body": body, "head": nn.Linear(16, 1)}

        def stages(self):
            common = {"step": self.step, "batch": 4, "steps": 3}
            return (
                Stage("head", ("head",), optimizers=sgd(0.1, "head"), **common),
                Stage("body", ("body",), optimizers=sgd(0.1, "body"), **common),
            )

        def step(self, run, batch):
            body, head = run.nets["body"], run.nets["head"]
            seen.append((body.training, head.training, [p.requires_grad for p in (*body.parameters(), *head.parameters())]))
            state = {n: [p.clone() for p in net.state_dict().values()] for n, net in run.nets.items()}
            loss = (head(body(batch["image"])) - batch["wanted"]).square().mean()
            run.update(run.stage.name, loss)
            still = {n: all(map(torch.equal, state[n], net.state_dict().values())) for n, net in run.nets.items()}
            assert still == {"body": run.stage.name == "head", "head": run.stage.name == "body"}
            return {"loss": loss}

    go(Two(), tmp_path)
    assert seen[0] == (False, True, [False, False, False, False, True, True])
    assert seen[3] == (True, False, [True, False, True, True, False, False])


class Growing(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([nn.Linear(48, 48)])
        self.register_buffer("fade", torch.ones(()))

    def forward(self, x):
        for block in self.blocks[:-1]:
            x = block(x)
        return torch.lerp(x, self.blocks[-1](x), self.fade)


class Grows(Toy):
    def networks(self):
        return {"net": Growing()}

    def stages(self):
        def grow(nets):
            nets["net"].blocks.append(nn.Linear(48, 48))

        common = {"step": self.step, "optimizers": sgd(0.01, "net"), "batch": 2, "steps": 4, "average": 0.9, "hand_on": False}
        return Stage("4x4", ("net",), **common), Stage("8x8", ("net",), enter=grow, **common)

    def step(self, run, batch):
        if run.stage.name == "8x8":
            run.nets["net"].fade.fill_((run.step + 1) / run.stage.steps)
        loss = (run.nets["net"](batch["image"].flatten(1)).mean(1, keepdim=True) - batch["wanted"]).square().mean()
        run.update("net", loss)
        return {"loss": loss}


def test_growing_nets(tmp_path):
    weights = go(Grows(), tmp_path)
    assert sorted(name for name in weights if name.endswith("weight")) == ["net.blocks.0.weight", "net.blocks.1.weight"]
    assert weights["net.fade"].item() == 1.0  # buffers of the average are the network's own


def test_hand_on_false_goes_on_from_the_last_weights_and_ships_the_average(tmp_path):
    starts, ends = [], []

    class Pair(Grows):
        hand_on = False

        def networks(self):
            return {"net": nn.Linear(48, 1)}

        def stages(self):
            one = replace(super().stages()[0], hand_on=self.hand_on)
            fit = Stage("look", (), fit=lambda run, items: starts.append(run.nets["net"].weight.clone()) or {})
            return one, fit

        def step(self, run, batch):
            result = super().step(run, batch)
            ends.append(run.nets["net"].weight.detach().clone())
            return result

    class HandOn(Pair):
        hand_on = True

    shipped = go(Pair(), tmp_path / "a")["net.weight"]
    assert torch.equal(starts[0], ends[-1])
    assert not torch.equal(shipped, ends[-1])
    assert torch.equal(go(HandOn(), tmp_path / "b")["net.weight"], shipped)
    assert torch.equal(starts[1], shipped)


def test_fits_without_a_loop(tmp_path):
    class Fits(Toy):
        def networks(self):
            net = nn.Module()
            net.register_buffer("axis", torch.zeros(2))
            net.register_buffer("ridge", torch.zeros(2, 1))
            return {"net": net}

        def stages(self):
            return Stage("pca", ("net",), fit=self.pca), Stage("ridge", ("net",), fit=self.ridge)

        def pca(self, run, items):
            x = torch.tensor([[item.label, 2.0 * item.label] for item in items])
            run.nets["net"].axis.copy_(torch.linalg.svd(x - x.mean(0)).Vh[0].abs())
            return {"n": len(items)}

        def ridge(self, run, items):
            assert run.nets["net"].axis[0] > 0  # the fit before
            x = torch.tensor([[item.label, 1.0] for item in items])
            run.nets["net"].ridge.copy_(torch.linalg.solve(x.T @ x, x.T @ (3 * x[:, :1] + 1)))
            return {}

    weights = go(Fits(), tmp_path)
    assert torch.allclose(weights["net.axis"], torch.tensor([1.0, 2.0]) / 5**0.5)
    assert torch.allclose(weights["net.ridge"].flatten(), torch.tensor([3.0, 1.0]), atol=1e-4)
    assert lines(tmp_path, name="pca")[0]["n"] == 10


def test_accumulation_equals_the_whole_batch(tmp_path):
    class Parts(Toy):
        def step(self, run, batch):
            for image, wanted in zip(batch["image"].split(2), batch["wanted"].split(2)):
                run.backward((run.nets["net"](image) - wanted).square().mean() / 2)
            run.apply("net")
            return {}

    whole, parts = go(Toy(), tmp_path / "a"), go(Parts(), tmp_path / "b")
    assert all(torch.allclose(whole[k], parts[k], atol=1e-6) for k in whole)


def test_lbfgs_on_pixels(tmp_path):
    class Pixels(Toy):
        def networks(self):
            net = nn.Module()
            net.pixels = nn.Parameter(torch.zeros(1, 3, 4, 4))
            return {"net": net, "eye": nn.Conv2d(3, 5, 1)}

        def stages(self):
            lbfgs = lambda nets: {"pixels": torch.optim.LBFGS(nets["net"].parameters(), line_search_fn="strong_wolfe")}  # noqa: E731
            return (Stage("paint", ("net",), step=self.step, optimizers=lbfgs, steps=5),)

        def step(self, run, batch):
            pixels, eye = run.nets["net"].pixels, run.nets["eye"]
            assert pixels.is_contiguous()
            wanted = eye(torch.ones(1, 3, 4, 4))
            return {"loss": run.minimize("pixels", lambda: (eye(pixels) - wanted).square().mean())}

    go(Pixels(), tmp_path)
    assert lines(tmp_path)[-1]["loss"] < 1e-6 < lines(tmp_path)[0]["loss"]


def test_early_stop_ships_the_best_weights(tmp_path):
    class Worsens(Toy):
        def measure(self, nets, items, tools):
            count[0] += 1
            kept.append(nets["net"][3].weight.clone())
            return {"error": [3.0, 1.0, float("nan"), 2.0, 0.5][count[0] - 1], "n": len(items)}

    count, kept = [0], []
    recipe = changed(Worsens(), watch="error", patience=2)
    weights = go(recipe, tmp_path, validation=ITEMS[:3], measure_every=2)
    assert count[0] == 4  # stopped after two that were not better
    assert torch.equal(weights["net.3.weight"], kept[1])
    assert not torch.equal(weights["net.3.weight"], kept[3])
    card = json.loads((tmp_path / "weights.json").read_text())
    assert card["measured"] == [{"metric": "error", "value": 1.0, "n": 3, "set": "validation", "fold": "dev"}]
    assert [line["measured"]["error"] for line in lines(tmp_path) if "measured" in line] == [3.0, 1.0, None, 2.0]


def test_without_validation_the_last_weights_are_shipped(tmp_path):
    weights = go(changed(Toy(), watch="error", patience=1), tmp_path / "a")
    assert all(torch.equal(v, weights[k]) for k, v in go(Toy(), tmp_path / "b").items())


def test_a_watched_metric_must_be_measured(tmp_path):
    class Other(Toy):
        def measure(self, nets, items, tools):
            return {"other": 1.0}

    with pytest.raises(ValueError, match=r"watches 'error'.*other"):
        go(changed(Other(), watch="error"), tmp_path, validation=ITEMS)


def test_moving_average_in_closed_form(tmp_path):
    class Steady(Toy):
        """The weight is the number of the step; so are the buffers."""

        def networks(self):
            net = nn.Linear(1, 1, bias=False)
            nn.init.zeros_(net.weight)
            net.register_buffer("running_mean", torch.zeros(1))
            net.register_buffer("counter", torch.zeros(1))
            return {"net": net}

        def step(self, run, batch):
            run.update("net", -10 * run.nets["net"].weight.sum())
            run.nets["net"].running_mean += 1
            run.nets["net"].counter += 1
            return {}

        def measure(self, nets, items, tools):
            seen.append(nets["net"].weight.item())
            assert not nets["net"].training
            return {"n": 1}

    seen: list[float] = []
    weights = go(changed(Steady(steps=40), average=0.7), tmp_path, validation=ITEMS, measure_every=40)
    wanted = 0.0
    for step in range(1, 41):
        decay = min(0.7, (1 + step) / (10 + step))
        wanted = decay * wanted + (1 - decay) * step
    assert weights["net.weight"].item() == pytest.approx(wanted, rel=1e-5)
    assert weights["net.running_mean"].item() == pytest.approx(wanted, rel=1e-5)
    assert weights["net.counter"].item() == 40
    assert seen == [weights["net.weight"].item()]


def test_a_stage_may_measure_in_its_own_way(tmp_path):
    metrics = {"stage_error": 0.25}
    go(changed(Toy(), measure=lambda nets, items, tools: metrics, watch="stage_error"), tmp_path, validation=ITEMS)
    assert lines(tmp_path)[-1]["measured"] == metrics


def test_measuring_and_preview_leave_no_trace_in_the_training(tmp_path):
    class Nosy(Toy):
        def networks(self):
            return {"net": nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(), nn.Flatten(), nn.Linear(16, 1))}

        def measure(self, nets, items, tools):
            torch.rand(100)
            nets["net"](torch.randn(2, 3, 4, 4))
            return {"n": 1}

        def preview(self, run, batch):
            torch.rand(100)
            assert not run.nets["net"].training
            return np.zeros((4, 6, 3), np.uint8)

    class Blind(Nosy):
        def preview(self, run, batch):
            return None

    nosy = go(Nosy(), tmp_path / "a", validation=ITEMS, measure_every=2)
    blind = go(Blind(), tmp_path / "b")
    assert all(torch.equal(v, blind[k]) for k, v in nosy.items())
    assert len(list((tmp_path / "a/sheets").glob("0-only-*.png"))) == 6


def test_schedule_and_clip(tmp_path):
    class Ramp(Toy):
        def networks(self):
            return {"net": nn.Linear(1, 1, bias=False)}

        def step(self, run, batch):
            before = run.nets["net"].weight.item()
            run.update("net", 1000 * run.nets["net"].weight.sum())
            moved.append(before - run.nets["net"].weight.item())
            return {}

    moved: list[float] = []
    go(changed(Ramp(steps=4), clip=2.0, schedule=lambda progress: 1 - progress), tmp_path)
    assert moved == pytest.approx([0.2, 0.15, 0.1, 0.05], abs=1e-4)
