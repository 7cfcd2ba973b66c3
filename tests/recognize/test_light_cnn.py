"""Light CNN-9: its layers reckoned one by one, its max-feature-map, grey, and the two layers that identity losses compare."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from visagist import catalog
from visagist.recognize.light_cnn import Grey, LightCNN, Maxout


@pytest.fixture(scope="module")
def net() -> LightCNN:
    torch.manual_seed(0)
    made = catalog.recipe("embedding", "light-cnn").networks()["embedding"].eval()
    assert isinstance(made, LightCNN)
    return made


def test_layers_are_those_of_the_paper(net: LightCNN) -> None:
    """Inputs, kernel and outputs of its nine layers and four 1x1 ones; outputs are halved by the max-feature-map that follows."""
    layers = [(1, 5, 96), (48, 1, 96), (48, 3, 192), (96, 1, 192), (96, 3, 384), (192, 1, 384), (192, 3, 256), (128, 1, 256)]
    layers += [(128, 3, 256), (128 * 8 * 8, 1, 512)]
    counts = [before * kernel**2 * after + after for before, kernel, after in layers]
    found = [sum(p.numel() for p in module.parameters()) for module in net.modules() if isinstance(module, Maxout)]
    assert found == counts
    assert sum(counts) == sum(p.numel() for p in net.parameters()) == 5_480_864
    assert sum(isinstance(module, nn.MaxPool2d) for module in net.modules()) == 4


def test_grey_is_between_black_and_white() -> None:
    colours = torch.tensor([[-1.0, -1, -1], [1, 1, 1], [0, 0, 0], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]])
    assert torch.allclose(Grey()(colours[..., None, None]).flatten(), torch.tensor([0, 1, 0.5, 0.299, 0.587, 0.114]), atol=1e-6)


def test_colour_is_not_seen(net: LightCNN) -> None:
    colours = torch.rand(2, 3, 128, 128) * 2 - 1
    grey = (2 * Grey()(colours) - 1).expand(-1, 3, -1, -1)
    with torch.no_grad():
        assert torch.allclose(net(colours), net(grey), atol=1e-4)


def test_the_larger_of_two() -> None:
    layer = nn.Linear(3, 4)
    both = Maxout(layer)
    x = torch.randn(5, 3)
    assert torch.equal(both(x), torch.stack([layer(x)[:, :2], layer(x)[:, 2:]]).amax(0))
    assert torch.allclose(both(torch.zeros(1, 3)), torch.tensor(0.1))


def test_first_weights_keep_the_size_of_what_passes() -> None:
    torch.manual_seed(0)
    both = Maxout(nn.Linear(400, 2000))
    nn.init.zeros_(both.layer.bias)
    assert both(torch.randn(300, 400)).square().mean().item() == pytest.approx(1, rel=0.05)


def test_the_last_two_layers_one_after_the_other(net: LightCNN) -> None:
    """What TP-GAN and CAPG-GAN compare; the picture gets a gradient from either."""
    x = (torch.rand(2, 3, 128, 128) * 2 - 1).requires_grad_()
    last = net.body(x)
    vector = net.feature(last)
    assert last.shape == (2, 128, 8, 8) and vector.shape == (2, 256)
    assert torch.allclose(net(x), net.norm(vector))
    for tap in (last, vector):
        (gradient,) = torch.autograd.grad(tap.square().mean(), x, retain_graph=True)
        assert (gradient.abs().amax((0, 1)) > 0).float().mean() > 0.9  # every place of it


def test_dropout_is_for_training() -> None:
    net, x = LightCNN(32, 256, 0.7), torch.rand(4, 3, 32, 32)
    with torch.no_grad():
        assert 0.6 < float((net.train()(x) == 0).float().mean()) < 0.8
        assert not bool((net.eval()(x) == 0).any())


def test_vectors_point_apart_before_anything_is_learnt() -> None:
    """What the batch norm is for: of the paper's vector directions hardly differ, and the loss sees directions."""
    torch.manual_seed(0)
    net = LightCNN(32, 256, 0.0)
    x = torch.rand(16, 3, 1, 1) * 1.4 - 1 + 0.3 * torch.rand(16, 3, 32, 32)
    with torch.no_grad():
        plain, normed = (nn.functional.normalize(v) for v in (net.feature(net.body(x)), net(x)))
    others = ~torch.eye(16, dtype=torch.bool)
    assert (plain @ plain.T)[others].min() > 0.95
    assert (normed @ normed.T)[others].mean() < 0.1


def test_of_another_size() -> None:
    assert LightCNN(32, 16, 0.0)(torch.zeros(2, 3, 32, 32)).shape == (2, 16)
