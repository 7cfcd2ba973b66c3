"""The losses of style transfer against finite differences and closed forms; the reader against the plain network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar

import pytest
import torch
from torch import Tensor, nn

from visagist.stylize.features import VGG19, Features, gram
from visagist.stylize.objective import Objective, Weights, content_term, gram_sum, roughness, style_gradient, style_term
from visagist.stylize.reader import Reader

CPU = torch.device("cpu")


class Toy(Features):
    """Two convolutions, as deep as the checks need."""

    content: ClassVar[Mapping[str, float]] = {"b": 1.0}
    style: ClassVar[Mapping[str, float]] = {"a": 0.3, "b": 0.7}
    least: ClassVar[int] = 4

    def __init__(self, pool: type[nn.Module] = nn.MaxPool2d, seed: int = 0) -> None:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            a = nn.Sequential(nn.Conv2d(3, 5, 3, padding=1), nn.ReLU(inplace=True))
            between = [nn.Conv2d(5, 6, 3, padding=1), nn.ReLU(inplace=True)]
            b = nn.Sequential(*between, pool(2), nn.Conv2d(6, 4, 3, padding=1), nn.ReLU(inplace=True))
        super().__init__({"a": a, "b": b})


def reader(net: Features | None = None, dtype: torch.dtype = torch.float64, names: tuple[str, ...] = ("a", "b")) -> Reader:
    return Reader(net or Toy(), names, dtype, CPU)


def picture(height: int = 12, width: int = 14, seed: int = 1, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(seed), dtype=dtype) * 1.8 - 0.9


WEIGHTS = Weights(Toy.content, Toy.style, 10.0)


def slope(objective: Objective, x: Tensor, direction: Tensor, h: float = 1e-6) -> float:
    return (objective(x + h * direction)[0] - objective(x - h * direction)[0]) / (2 * h)


FACE = torch.zeros(12, 14, dtype=torch.float64)
FACE[2:8, 3:9] = 1


@pytest.mark.parametrize("form", ["normalised", "seed"])
@pytest.mark.parametrize("balance", [False, True])
@pytest.mark.parametrize(
    "weights",
    [
        Weights({"b": 1.0}, {}, 1.0),
        Weights({"a": 1.0}, {}, 1.0),
        Weights({}, {"b": 1.0}, 1e3),
        Weights({}, {"a": 1.0}, 1e3),
        Weights({"b": 1.0}, {"a": 0.3, "b": 0.7}, 1e2, smooth=0.1),
        Weights({"b": 1.0}, {"a": 0.3, "b": 0.7}, 1e2, mask=FACE, guard=0.8),
    ],
    ids=["content", "content shallow", "style", "style shallow", "all", "with a face"],
)
def test_gradients_match_finite_differences(form: str, balance: bool, weights: Weights) -> None:
    styles = [(picture(16, 10, 3), 0.4), (picture(8, 9, 4), 0.6)]
    objective = Objective(reader(), picture(), styles, weights, form=form, balance=balance)
    x = picture(seed=2)
    _, gradient = objective(x)
    for seed in range(3):
        direction = torch.randn(x.shape, generator=torch.Generator().manual_seed(seed), dtype=x.dtype)
        wanted = slope(objective, x, direction)
        assert float((gradient * direction).sum()) == pytest.approx(wanted, rel=1e-4)
    largest = gradient.abs().argmax()
    one = torch.zeros_like(x).flatten().index_fill(0, largest, 1.0).view_as(x)
    assert float((gradient * one).sum()) == pytest.approx(slope(objective, x, one), rel=1e-4)


def test_content_term_is_half_the_squared_distance() -> None:
    f, target = torch.randn(1, 2, 3, 4), torch.randn(1, 2, 3, 4)
    loss, gradient = content_term(f, target)
    assert float(loss) == pytest.approx(float((f - target).square().sum()) / 2)
    torch.testing.assert_close(gradient, f - target)


def test_style_term_is_the_sheets() -> None:
    """1 / (4 C² M²) of the squared difference, gradient (G - G_s) F / (C² M²); averages: the target is scaled by M / M_s."""
    f, s = torch.rand(1, 3, 4, 5, dtype=torch.float64), torch.rand(1, 3, 6, 7, dtype=torch.float64)
    flat, other = f[0].flatten(1), s[0].flatten(1)
    c, m, ms = 3, 20, 42
    for form, target, scale in (("seed", gram_sum(s), 1.0), ("normalised", gram_sum(s) / ms, m / ms)):
        loss, matrix = style_term(gram_sum(f), target, m, form)
        difference = flat @ flat.T - other @ other.T * scale
        assert float(loss) == pytest.approx(float(difference.square().sum()) / (4 * c**2 * m**2))
        torch.testing.assert_close(style_gradient(f, matrix)[0].flatten(1), difference @ flat / (c**2 * m**2))


def test_sums_of_products_do_not_suffer_from_bfloat16() -> None:
    f = torch.rand(1, 16, 61, 67).bfloat16().contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(gram_sum(f) / (61 * 67), gram(f)[0], rtol=2e-3, atol=0)
    weights = torch.rand(61, 67).round()
    kept = f.float() * weights
    torch.testing.assert_close(gram_sum(f, weights), gram(kept)[0] * 61 * 67, rtol=2e-3, atol=1e-3)


def test_roughness_of_a_ramp() -> None:
    x = torch.arange(5.0).expand(1, 3, 4, 5)
    loss, gradient = roughness(x)
    assert float(loss) == 3 * 4 * 4 / 2
    assert gradient[0, 0, 0].tolist() == [-1, 0, 0, 0, 1]


def test_roughness_is_free_where_the_photo_has_it() -> None:
    ramp = torch.arange(5.0).expand(1, 3, 4, 5)
    for x, loss in ((ramp, 0), (ramp * 0.5, 0), (-ramp, 0), (ramp * 3, 3 * 4 * 4 * 4 / 2), (ramp.roll(1, 3), 3 * 4 * 9 / 2)):
        found, gradient = roughness(x, ramp)
        assert float(found) == loss
        assert (float(gradient.abs().max()) == 0) == (loss == 0)


@pytest.mark.parametrize("balance", [False, True])
@pytest.mark.parametrize("smooth", [0.0, 200.0])
def test_the_photo_in_its_own_style_costs_nothing(balance: bool, smooth: float) -> None:
    content = picture()
    objective = Objective(reader(), content, [(content, 1.0)], replace(WEIGHTS, smooth=smooth), balance=balance)
    loss, gradient = objective(content)
    assert loss == 0
    assert float(gradient.abs().max()) == 0
    assert set(objective.terms) == {"style a", "style b", "content b", *(["smooth"] if smooth else [])}


def test_averages_do_not_feel_the_size_of_the_style_and_sums_do() -> None:
    style = picture(16, 16, 3)
    twice = torch.cat([style, style], 3)
    net = Toy(nn.AvgPool2d)
    for block in net.blocks.values():  # 1x1 convolutions, which do not look across the seam
        for part in block.modules():
            if isinstance(part, nn.Conv2d):
                part.weight = nn.Parameter(part.weight[:, :, 1:2, 1:2].detach())
                part.padding = (0, 0)
    x = picture(seed=2)
    losses = {
        form: [Objective(reader(net), picture(), [(s, 1.0)], WEIGHTS, form=form)(x)[0] for s in (style, twice)]
        for form in ("normalised", "seed")
    }
    assert losses["normalised"][0] == pytest.approx(losses["normalised"][1])
    assert losses["seed"][1] > 1.5 * losses["seed"][0]


def test_balanced_terms_are_parts_of_what_nothing_would_cost() -> None:
    class Blind(Toy):
        """Sees nothing in black."""

        def __init__(self) -> None:
            super().__init__()
            for part in self.modules():
                if isinstance(part, nn.Conv2d):
                    nn.init.zeros_(part.bias)

        def entering(self, x: Tensor) -> Tensor:
            return x + 1

    objective = Objective(reader(Blind()), picture(), [(picture(9, 9, 3), 1.0)], WEIGHTS, balance=True)
    objective(torch.full((1, 3, 12, 14), -1.0, dtype=torch.float64))
    assert objective.terms == pytest.approx({"content b": 1.0, "style a": 10 * 0.3, "style b": 10 * 0.7})


def test_an_empty_style_makes_no_infinite_loss() -> None:
    net = Toy()
    with torch.no_grad():
        for part in net.modules():
            if isinstance(part, nn.Conv2d):
                part.bias.fill_(-100.0)  # type: ignore[union-attr]
    objective = Objective(reader(net), picture(), [(picture(9, 9, 3), 1.0)], WEIGHTS, balance=True)
    loss, gradient = objective(picture(seed=2))
    assert loss == 0
    assert bool(torch.isfinite(gradient).all())


# ---- the reader


def test_reading_gives_what_the_network_gives_and_leaves_it_alone() -> None:
    net = Toy()
    before = {k: v.clone() for k, v in net.state_dict().items()}
    x = picture(dtype=torch.float32).requires_grad_()
    reading, wanted = reader(net, torch.float32).read(x), net(x, ["a", "b"])
    for name, features in wanted.items():
        torch.testing.assert_close(reading.found[name], features)
    (gradient,) = torch.autograd.grad([f.square().sum() for f in wanted.values()], x)
    pulled = reading.pull(lambda name, f, deeper: 2 * f if deeper is None else deeper + 2 * f)
    torch.testing.assert_close(pulled, gradient)
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    assert all(p.requires_grad for p in net.parameters())
    assert next(net.parameters()).dtype == torch.float32


def test_a_max_pool_comes_before_the_relu_only_where_nobody_wants_to_see_it() -> None:
    def kinds(read: Reader) -> list[str]:
        return [type(part).__name__ for part, _ in read.chain]

    assert kinds(reader()) == ["Conv2d", "ReLU", "Conv2d", "MaxPool2d", "ReLU", "Conv2d", "ReLU"]
    assert kinds(reader(Toy(nn.AvgPool2d))) == ["Conv2d", "ReLU", "Conv2d", "ReLU", "AvgPool2d", "Conv2d", "ReLU"]
    vgg = {names: kinds(Reader(VGG19(), names, torch.float32, CPU)) for names in (("conv2_1",), ("conv1_2", "conv2_1"))}
    assert vgg["conv2_1",][2:5] == ["Conv2d", "MaxPool2d", "ReLU"]
    assert vgg["conv1_2", "conv2_1"][2:5] == ["Conv2d", "ReLU", "MaxPool2d"]


def test_strides_and_reach_of_vgg19() -> None:
    read = Reader(VGG19(), VGG19.style, torch.float32, CPU)
    assert read.strides == {"conv1_1": 1, "conv2_1": 2, "conv3_1": 4, "conv4_1": 8, "conv5_1": 16}
    assert read.reach == 1 * 2 + 2 * 2 + 4 * 4 + 8 * 4 + 16


@pytest.mark.parametrize("pool", [nn.MaxPool2d, nn.AvgPool2d])
@pytest.mark.parametrize("size", [(40, 52), (37, 61)])
@pytest.mark.parametrize("weights", [WEIGHTS, Weights(Toy.content, Toy.style, 10.0, 0.1, torch.rand(64, 64).double(), 0.5)])
def test_tiles_give_the_same_loss_and_gradient(pool: type[nn.Module], size: tuple[int, int], weights: Weights) -> None:
    if weights.mask is not None:
        weights = Weights(weights.content, weights.style, 10.0, 0.1, weights.mask[: size[0], : size[1]], 0.5)
    content, x, style = picture(*size), picture(*size, seed=2), picture(33, 24, 3)
    read = reader(Toy(pool))
    losses, gradients = [], []
    for tile in (1000, 16, 23):
        objective = Objective(read, content, [(style, 1.0)], weights, balance=True, tile=tile)
        assert (len(objective.tiles) > 1) == (tile < 1000)
        loss, gradient = objective(x)
        losses.append(loss)
        gradients.append(gradient)
    assert losses[1:] == pytest.approx([losses[0]] * 2, rel=1e-9)
    for gradient in gradients[1:]:
        torch.testing.assert_close(gradient, gradients[0])


def test_tiles_cover_every_pixel_once() -> None:
    read = reader()
    for size, side in (((100, 77), 32), ((33, 32), 32), ((31, 500), 40)):
        count = torch.zeros(size)
        for tile in read.tiles(*size, side):
            count[tile.core] += 1
            assert max(tile.core[0].stop - tile.core[0].start, tile.core[1].stop - tile.core[1].start) <= side + 1
        assert bool((count == 1).all())


def test_more_pixels_take_more_memory() -> None:
    read = reader(dtype=torch.float32)
    assert read.memory(64, 64) * 3.9 < read.memory(128, 128)
    named = Toy()
    for name, block in named.blocks.items():
        named.blocks[name] = nn.Sequential(*block, nn.Identity())  # as `prepare` leaves them where norms were folded away
    assert reader(named, torch.float32).memory(64, 64) == read.memory(64, 64)
    half = reader(dtype=torch.bfloat16)
    assert half.memory(64, 64) < read.memory(64, 64)
