"""Our own network: counts, whitening, steps, statistics, a training from start to finish."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from visagist import catalog
from visagist.classify.cifar_best import Best, Whitened, _some
from visagist.classify.classifier import to_network
from visagist.classify.spectral import Spectral, orthogonal
from visagist.photo.photo import Photo
from visagist.recipe import Item, Run, Tools
from visagist.training import metrics
from visagist.training.loop import train

SMALL = Best(widths=(8, 12, 12), batch=20, part=10, epochs=4, glance=10)


@pytest.fixture(scope="module")
def items() -> list[Item]:
    """Stripes that lie or stand, over a random ground."""
    rng, made = np.random.default_rng(0), []
    for i in range(80):
        stripes = np.repeat(np.repeat(rng.integers(0, 200, (32, 1, 3)), 32, 1), 1, 0)
        pixels = (stripes if i % 2 else stripes.transpose(1, 0, 2)) + rng.integers(0, 56, (32, 32, 3))
        photo = Photo.of(pixels.astype(np.uint8))
        made.append(Item(f"{i}.png", lambda photo=photo: photo, facts={"class": "lying" if i % 2 else "standing"}))
    return made


def run_of(recipe: Best, stage: int, items: list[Item]) -> Run:
    torch.manual_seed(0)
    nets = recipe.networks()
    one = recipe.stages()[stage]
    optimizers = one.optimizers(nets) if one.optimizers else {}
    return Run(nets, optimizers, dataclasses.replace(one, steps=16), 0, torch.device("cpu"))


def batch_of(recipe: Best, items: list[Item]) -> dict[str, torch.Tensor]:
    examples = [recipe.example(item, np.random.default_rng(0)) for item in items]
    return {key: torch.from_numpy(np.stack([e[key] for e in examples])) for key in examples[0]}


def test_parameters_and_shapes() -> None:
    net = Best().networks()["classifier"]
    assert sum(p.numel() for p in net.parameters()) == 3_151_416
    assert sum(p.numel() for p in net.parameters() if not p.requires_grad) == 288 + 1_472
    assert net(torch.zeros(2, 3, 32, 32)).shape == (2, 10)


def test_after_whitening_answers_are_uncorrelated_and_of_one_size(items: list[Item]) -> None:
    recipe = SMALL
    run = run_of(recipe, 0, items)
    recipe.whiten(run, items)
    net = run.nets["classifier"]
    assert isinstance(net, Whitened)
    x = net.standard(to_network(_some(items, 100)))
    assert torch.allclose(x.mean((0, 2, 3)), torch.zeros(3), atol=1e-4)
    assert torch.allclose(x.std((0, 2, 3)), torch.ones(3), atol=1e-3)
    with torch.no_grad():
        out = net.whiten(x).transpose(0, 1).flatten(1)[:12]
    products = out @ out.T / out.shape[1]
    assert torch.allclose(products, torch.eye(12), atol=0.05)  # 5e-4 added to the variances shortens the weakest directions
    assert torch.equal(net.whiten.weight[:12], -net.whiten.weight[12:])


def test_every_parameter_that_learns_gets_a_gradient_and_the_stem_stops_in_time(items: list[Item]) -> None:
    recipe = dataclasses.replace(SMALL, classes=("lying", "standing"))
    run = run_of(recipe, 1, items)
    net = run.nets["classifier"].train()
    touched: set[str] = set()
    for key, p in net.named_parameters():
        if p.requires_grad:
            p.register_hook(lambda g, key=key: touched.add(key) if bool(g.abs().max() > 0) else None)
    recipe.step(run, batch_of(recipe, items[:20]))
    assert touched == {key for key, p in net.named_parameters() if p.requires_grad}
    touched.clear()
    run.step = 8  # past whitening * 16
    recipe.step(run, batch_of(recipe, items[:20]))
    assert touched and "whiten.bias" not in touched


def test_parts_of_a_batch_add_up_to_the_summed_loss(items: list[Item]) -> None:
    """With the norms out of the way the parts give the same gradient as the whole."""
    recipe = dataclasses.replace(SMALL, classes=("lying", "standing"), shift=0)
    batch = batch_of(recipe, items[:20])
    found = []
    for part in (5, 20):
        run = run_of(dataclasses.replace(recipe, part=part), 1, items)
        run.nets["classifier"].eval()
        run.apply = lambda name: None  # type: ignore[method-assign]
        scalars = dataclasses.replace(recipe, part=part).step(run, batch)
        head = run.nets["classifier"].head.weight.grad
        assert head is not None
        found.append((float(scalars["loss"]), head))
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-5)
    assert torch.allclose(found[0][1], found[1][1], rtol=1e-3, atol=1e-5)


def test_orthogonal_keeps_directions_and_levels_lengths() -> None:
    torch.manual_seed(0)
    for shape in ((6, 20), (20, 6)):
        m = torch.randn(shape)
        u, _, v = torch.linalg.svd(m, full_matrices=False)
        inner = u.T @ orthogonal(m, rounds=5) @ v.T
        assert torch.allclose(inner, torch.diag(inner.diagonal()), atol=1e-3)
        assert inner.diagonal().min() > 0.6 and inner.diagonal().max() < 1.3


def test_a_step_turns_weights_of_fixed_length() -> None:
    torch.manual_seed(0)
    p = nn.Parameter(torch.randn(4, 3, 3, 3) * 7)
    optimizer = Spectral([p], lr=0.0)
    p.grad = torch.randn_like(p)
    optimizer.step()
    assert p.norm().item() == pytest.approx(2.0)  # one unit for each of 4 filters
    before = p.detach().clone()
    optimizer.param_groups[0]["lr"] = 0.1
    optimizer.step()
    assert 0.1 * 0.5 * 2 < (p - before).norm().item() < 0.1 * 1.5 * 2


def test_settling_measures_the_statistics_anew(items: list[Item]) -> None:
    run = run_of(SMALL, 2, items)
    net = run.nets["classifier"].eval()
    for norm in (m for m in net.modules() if isinstance(m, nn.BatchNorm2d)):
        norm.running_mean.fill_(9)  # type: ignore[union-attr]
    assert SMALL.settle(run, items) == {"n": 80.0}
    first = next(m for m in net.modules() if isinstance(m, nn.BatchNorm2d))
    assert isinstance(net, Whitened) and first.momentum == 0.05 and not net.training
    with torch.no_grad():
        x = net.whiten(net.standard(to_network(_some(items, 100))))
        pooled = net.blocks[0][:2](torch.nn.functional.gelu(x))  # type: ignore[index]
    assert torch.allclose(first.running_mean, pooled.mean((0, 2, 3)), atol=1e-3)  # type: ignore[arg-type]


def test_in_use_it_answers_the_same_for_a_picture_alone_and_among_others(items: list[Item]) -> None:
    run = run_of(SMALL, 0, items)
    net = run.nets["classifier"]
    SMALL.whiten(run, items)
    for norm in (m for m in net.modules() if isinstance(m, nn.BatchNorm2d)):
        nn.init.uniform_(norm.running_mean), nn.init.uniform_(norm.running_var, 0.5, 2)  # type: ignore[arg-type]
    net.eval()
    pictures = _some(items, 64).numpy()
    with torch.no_grad():
        every, again, alone = (SMALL.answers(net, shown) for shown in (pictures, pictures, pictures[:1]))
    assert np.array_equal(every, again)
    assert np.allclose(every[0], alone[0], atol=1e-5)
    assert np.ptp(every, axis=0).max() > 0.01  # it does look


def test_figures_during_training_are_of_a_few_pictures(items: list[Item]) -> None:
    recipe = dataclasses.replace(SMALL, classes=("lying", "standing"))
    nets = {name: net.eval() for name, net in recipe.networks().items()}
    with torch.no_grad():
        assert recipe.glanced(nets, items, Tools(metrics))["n"] == 10
        assert recipe.measure(nets, items, Tools(metrics))["n"] == 80


def test_a_training_from_start_to_finish_resumes_to_the_same_weights(items: list[Item], tmp_path: Path) -> None:
    recipe = dataclasses.replace(SMALL, head_rate=20.0)
    file = train(recipe, items[:60], tmp_path / "run", system="cifar-best", validation=items[60:], workers=0, quiet=True)
    loaded = catalog.load(file, "cpu", verb="classify")
    assert loaded.recipe.classes == ("lying", "standing")
    found = {row.metric: (row.value, row.n) for row in loaded.card.measured}
    assert found["accuracy"][0] >= 0.8 and found["accuracy"][1] == 20
    again = train(
        recipe, items[:60], tmp_path / "run", system="cifar-best", validation=items[60:], workers=0, quiet=True, resume=True
    )
    assert catalog.load(again, "cpu").card.sha256 == loaded.card.sha256
