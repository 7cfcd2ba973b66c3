"""The ladder: parameter counts to the digit, what Keras does otherwise than torch, training and evaluation."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from visagist import catalog
from visagist.classify.cifar import NETWORKS, Ladder, SamePad, convolutional, dense, two_convolutions
from visagist.classify.summary import summary
from visagist.errors import UsageError
from visagist.photo.photo import Photo
from visagist.recipe import Item, Run
from visagist.training.loop import train

PALETTE = {"blue": (30, 60, 200), "green": (40, 180, 60), "red": (210, 40, 50)}


def item(name: str, index: int, rng: np.random.Generator) -> Item:
    """A picture of one colour with noise."""
    pixels = np.clip(np.array(PALETTE[name]) + rng.normal(0, 25, (32, 32, 3)), 0, 255).astype(np.uint8)
    return Item(f"{name}/{index}.png", lambda: Photo.of(pixels), label=sorted(PALETTE).index(name), facts={"class": name})


@pytest.fixture(scope="module")
def items() -> list[Item]:
    rng = np.random.default_rng(0)
    return [item(name, i, rng) for i in range(20) for name in PALETTE]


def run_of(recipe: Ladder, step: int = 0) -> Run:
    stage = dataclasses.replace(recipe.stages()[0], steps=10)
    nets = recipe.networks()
    assert stage.optimizers is not None
    return Run(nets, stage.optimizers(nets), stage, step, torch.device("cpu"))


@pytest.mark.parametrize(
    ("make", "rows", "total", "learnt", "kept"),
    [
        (dense, ("614,600", "30,150", "1,510"), "646,260", "646,260", "0"),
        (two_convolutions, ("280", "1,820", "204,810"), "206,910", "206,910", "0"),
        (convolutional, ("896", "9,248", "18,496", "36,928", "524,416", "512", "1,290"), "592,554", "591,914", "640"),
    ],
)
def test_summary_prints_what_keras_prints(make, rows: tuple[str, ...], total: str, learnt: str, kept: str) -> None:
    lines = summary(make()).splitlines()
    counts = [line.split()[-1] for line in lines[2:-4]]
    at = [counts.index(row) for row in rows]
    assert at == sorted(at)
    assert lines[-3:] == [f"Total params: {total}", f"Trainable params: {learnt}", f"Non-trainable params: {kept}"]


def test_summary_shows_shapes_with_channels_last_and_leaves_no_trace() -> None:
    net = two_convolutions()
    net.train()
    text = summary(net)
    assert "conv2d_2 (Conv2D)" in text and "(None, 32, 32, 20)" in text and "(None, 20480)" in text
    assert net.training and not any(module._forward_hooks for module in net.modules())


def test_two_convolutions_are_one_linear_map() -> None:
    net = two_convolutions().double().eval()
    a, b, zero = (torch.rand(1, 3, 32, 32, dtype=torch.float64) for _ in range(3))
    zero.zero_()
    assert torch.allclose(net(a + b) - net(zero), net(a) - net(zero) + net(b) - net(zero), atol=1e-9)


def keras_same(x: np.ndarray, w: np.ndarray, stride: int, same: bool) -> np.ndarray:
    """A convolution as Keras defines it, by loops: x [C, H, W], w [O, C, k, k]."""
    k = w.shape[-1]
    if same:
        pads = [max((int(np.ceil(n / stride)) - 1) * stride + k - n, 0) for n in x.shape[1:]]
        x = np.pad(x, ((0, 0), *((p // 2, p - p // 2) for p in pads)))
    rows, columns = ((n - k) // stride + 1 for n in x.shape[1:])
    out = np.zeros((len(w), rows, columns))
    for o in range(len(w)):
        for i in range(rows):
            for j in range(columns):
                out[o, i, j] = (w[o] * x[:, i * stride : i * stride + k, j * stride : j * stride + k]).sum()
    return out


@pytest.mark.parametrize("same", [True, False], ids=["same", "valid"])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("size", [7, 8])
def test_convolutions_are_those_of_keras(channels: int, stride: int, same: bool, size: int) -> None:
    rng = np.random.default_rng(channels)
    x, w = rng.normal(size=(channels, size, size + 1)), rng.normal(size=(2, channels, 3, 3))
    padded = SamePad(3, stride)(torch.tensor(x)[None]) if same else torch.tensor(x)[None]
    assert np.allclose(F.conv2d(padded, torch.tensor(w), stride=stride)[0].numpy(), keras_same(x, w, stride, same), atol=1e-6)


def test_a_stride_of_two_is_centred_on_odd_pixels() -> None:
    """Worked by hand: a kernel that copies its centre gives pixels 1, 3, 5, 7 of a row; torch's padding=1 gives 0, 2, 4, 6."""
    x = torch.arange(64.0).view(1, 1, 8, 8)
    copy = torch.zeros(1, 1, 3, 3)
    copy[..., 1, 1] = 1
    assert F.conv2d(SamePad(3, 2)(x), copy, stride=2)[0, 0].tolist() == x[0, 0, 1::2, 1::2].tolist()
    assert F.conv2d(x, copy, stride=2, padding=1)[0, 0].tolist() == x[0, 0, ::2, ::2].tolist()


def test_weights_norms_and_slopes_are_those_of_keras() -> None:
    torch.manual_seed(0)
    net = convolutional()
    for layer in net:
        if isinstance(layer, nn.Conv2d | nn.Linear):
            fan = layer.weight[0].numel() + layer.weight[:, 0].numel()
            limit = (6 / fan) ** 0.5
            assert 0.97 * limit < layer.weight.abs().max() <= limit and not layer.bias.any()
        if isinstance(layer, nn.BatchNorm2d | nn.BatchNorm1d):
            assert (layer.eps, layer.momentum) == (1e-3, 0.01)
        if isinstance(layer, nn.LeakyReLU):
            assert layer.negative_slope == 0.3
    assert next(layer.p for layer in net if isinstance(layer, nn.Dropout)) == 0.5


def test_pictures_are_flattened_rows_columns_channels() -> None:
    x = torch.rand(2, 3, 32, 32) * 2 - 1
    assert torch.equal(dense()[:2](x), ((x + 1) / 2).permute(0, 2, 3, 1).reshape(2, -1))


@pytest.mark.parametrize("name", NETWORKS)
def test_in_use_a_network_gives_the_same_for_a_picture_alone_and_among_others(name: str) -> None:
    torch.manual_seed(0)
    net = NETWORKS[name](10)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d | nn.BatchNorm1d):
            nn.init.uniform_(module.running_mean), nn.init.uniform_(module.running_var, 0.5, 2)
    net.eval()
    x = torch.rand(64, 3, 32, 32) * 2 - 1
    with torch.no_grad():
        every, again, alone = net(x), net(x), net(x[:1])
    assert torch.equal(every, again)
    assert torch.allclose(every[0], alone[0], atol=1e-5)


@pytest.mark.parametrize("name", NETWORKS)
def test_every_parameter_gets_a_gradient_and_the_loss_is_cross_entropy(name: str) -> None:
    torch.manual_seed(0)
    recipe = Ladder(network=name, rate=0.0)
    run = run_of(recipe)
    gradients: dict[str, torch.Tensor] = {}
    net = run.nets["classifier"].train()
    for key, p in net.named_parameters():
        p.register_hook(lambda g, key=key: gradients.__setitem__(key, g))
    batch = {"image": torch.randint(0, 256, (8, 32, 32, 3), dtype=torch.uint8), "label": torch.arange(8)}
    torch.manual_seed(1)
    scalars = recipe.step(run, batch)
    assert set(gradients) == {key for key, _ in net.named_parameters()}
    # A bias in front of a batch norm is taken out again; its gradient is zero but for rounding.
    assert all(g.abs().max() > 0 for g in gradients.values())
    torch.manual_seed(1)
    logits = net(batch["image"].permute(0, 3, 1, 2) / 127.5 - 1)
    by_hand = -(logits.exp() / logits.exp().sum(1, keepdim=True)).log()[range(8), range(8)].mean()
    assert float(scalars["loss"]) == pytest.approx(by_hand.item(), rel=1e-4)


def test_a_few_pictures_are_learnt_by_heart(items: list[Item]) -> None:
    torch.manual_seed(0)
    recipe = Ladder(network="convolutional", rate=3e-3)
    run = run_of(recipe)
    run.nets["classifier"].train()
    batch = {"image": torch.randint(0, 256, (16, 32, 32, 3), dtype=torch.uint8), "label": torch.arange(16) % 10}
    for _ in range(15):
        scalars = recipe.step(run, batch)
    assert float(scalars["loss"]) < 0.3


def test_presets_of_the_cnn_train_the_same_network() -> None:
    recipes = [catalog.recipe("cifar-cnn", preset) for preset in ("seed", "schedule", "better")]
    assert {recipe.network for recipe in recipes} == {"convolutional"}  # type: ignore[attr-defined]
    seed = catalog.recipe("cifar-cnn")
    assert (seed.batch, seed.epochs, seed.rate, seed.falling, seed.mirror, seed.shift) == (32, 10, 5e-4, False, False, 0)  # type: ignore[attr-defined]
    assert [r.epochs for r in recipes] == [10, 10, 45]  # type: ignore[attr-defined]
    with pytest.raises(UsageError, match="no network 'vgg'"):
        catalog.recipe("cifar-cnn", network="vgg")


def test_held_back_pictures_come_from_the_training_ones_and_never_from_the_test(items: list[Item]) -> None:
    recipe = Ladder(held=10)
    learnt, held = recipe.split(items, validation=[])
    assert len(held) == 10 and len(learnt) == 50 and not {i.name for i in learnt} & {i.name for i in held}
    assert [i.name for i in held] == [i.name for i in recipe.split(items, validation=items[:5])[1]]
    assert recipe.stages()[0].watch == "error" and Ladder().stages()[0].watch == ""


def test_a_training_takes_the_classes_of_its_data_and_ends_with_usable_weights(items: list[Item], tmp_path: Path) -> None:
    recipe = Ladder(network="convolutional", epochs=2, batch=10, rate=2e-3, mirror=True, shift=1, held=12, average=0.9)
    learnt, held = recipe.split(items, [])
    file = train(
        recipe, learnt, tmp_path / "run", system="cifar-cnn", validation=held, workers=0, quiet=True, card={"preset": "seed"}
    )
    loaded = catalog.load(file, "cpu", verb="classify")
    assert loaded.recipe.classes == ("blue", "green", "red")
    (best, score), *_ = loaded.recipe.classify(loaded.nets, items[0].photo)
    assert best == "blue" and score > 1 / 3
    assert {row.metric for row in loaded.card.measured} == {"accuracy", "loss", "error"}
