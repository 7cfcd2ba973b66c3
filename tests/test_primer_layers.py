"""The primer's NumPy against autograd, against nudged weights, and against examples that can be done by hand.

float64 throughout: in float32 a numerical gradient drowns in rounding.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from time import process_time
from types import ModuleType

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

PRIMER = Path(__file__).parent.parent / "examples" / "primer"
CASES = [(stride, pad, kernel) for stride in (1, 2, 3) for pad in (0, 1, 2) for kernel in (1, 2, 3)]  # 27


@pytest.fixture(autouse=True)
def primer_on_the_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(PRIMER)


def module(name: str) -> ModuleType:
    return import_module(name)


def leaves(*arrays: np.ndarray) -> list[Tensor]:
    return [torch.tensor(a, requires_grad=True) for a in arrays]


def same(ours: np.ndarray, theirs: Tensor | np.ndarray, within: float = 1e-9) -> None:
    theirs = theirs.detach().numpy() if isinstance(theirs, Tensor) else theirs
    assert ours.shape == theirs.shape
    assert np.abs(ours - theirs).max() <= within


def sizes(rng: np.random.Generator, count: int, low: int = 1, high: int = 6) -> list[int]:
    return [int(v) for v in rng.integers(low, high, count)]


# ---- activations and losses

IN_TORCH: dict[str, Callable[[Tensor], Tensor]] = {
    "identity": lambda z: z * 1,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "relu": torch.relu,
    "leaky_relu": lambda z: F.leaky_relu(z, 0.1),
    "elu": F.elu,
}


@pytest.mark.parametrize("name", IN_TORCH)
def test_an_activation_and_its_slope_are_those_of_autograd(name: str) -> None:
    f, d_f = module("neuron").ACTIVATIONS[name]
    for seed in range(20):
        rng = np.random.default_rng(seed)
        z = rng.normal(0, 3, sizes(rng, 3))
        if seed % 2:
            z = z.round()
            z.flat[0] = 0  # at the corner of ReLU and LeakyReLU the slope is that of the left; ELU has one slope there, 1
        (z_torch,) = leaves(z)
        y = IN_TORCH[name](z_torch)
        y.sum().backward()
        same(f(z), y)
        same(d_f(z), z_torch.grad)


@pytest.mark.parametrize("name", ["sigmoid", "tanh", "elu"])
def test_a_smooth_activation_has_the_slope_that_nudging_finds(name: str) -> None:
    f, d_f = module("neuron").ACTIVATIONS[name]
    z = np.random.default_rng(0).normal(0, 2, 200)
    z = z[np.abs(z) > 1e-3]
    nudged = (f(z + 1e-6) - f(z - 1e-6)) / 2e-6
    assert (np.abs(nudged - d_f(z)) / np.maximum(np.abs(d_f(z)), 1e-3)).max() < 1e-6


def test_the_step_is_0_at_0_and_large_numbers_do_not_overflow() -> None:
    neuron = module("neuron")
    assert neuron.step(np.array([-1.0, 0.0, 1e-300])).tolist() == [0, 0, 1]
    with np.errstate(all="raise", under="ignore"):
        assert neuron.sigmoid(np.array([-1e4, 0.0, 1e4])).tolist() == [0, 0.5, 1]
        assert neuron.elu(np.array([-1e4, 1e4])).tolist() == [-1, 1e4]
        assert neuron.softmax(np.array([[1e4, 0.0]])).tolist() == [[1, 0]]
        loss, gradient = neuron.cross_entropy(np.array([[1e4, 0.0]]), np.array([1]))
        assert loss == 1e4
        assert gradient.tolist() == [[1, -1]]


def test_elu_slopes_by_hand() -> None:
    neuron = module("neuron")
    z = np.array([-2.0, -0.5, 0.0, 0.5])
    same(neuron.d_elu(z, 1.0), np.where(z > 0, 1, neuron.elu(z) + 1))  # f(z) + a, which is 1 at the corner
    same(neuron.d_elu(z, 0.5)[:2], neuron.elu(z, 0.5)[:2] + 0.5)


def test_losses_are_those_of_autograd() -> None:
    neuron = module("neuron")
    for seed in range(20):
        rng = np.random.default_rng(seed)
        n, k = sizes(rng, 2, 2, 9)
        z, t, labels = rng.normal(0, 4, (n, k)), rng.normal(size=(n, k)), rng.integers(0, k, n)
        for ours, theirs in (
            (neuron.squared_error(z, t), lambda x, t=t: (x - torch.tensor(t)).square().sum() / 2),
            (neuron.cross_entropy(z, labels), lambda x, labels=labels: F.cross_entropy(x, torch.tensor(labels))),
        ):
            (x,) = leaves(z)
            loss = theirs(x)
            loss.backward()
            assert abs(ours[0] - loss.item()) < 1e-9
            same(ours[1], x.grad)


# ---- layers


def test_dense_is_that_of_autograd() -> None:
    layers = module("layers")
    for seed in range(20):
        rng = np.random.default_rng(seed)
        n, d, h = sizes(rng, 3)
        x, w, b, dy = rng.normal(size=(n, d)), rng.normal(size=(h, d)), rng.normal(size=h), rng.normal(size=(n, h))
        tensors = leaves(x, w, b)
        y = F.linear(*tensors)
        y.backward(torch.tensor(dy))
        same(layers.dense(x, w, b), y)
        for ours, tensor in zip(layers.dense_backward(dy, x, w), tensors):
            same(ours, tensor.grad)


@pytest.mark.parametrize(("stride", "pad", "kernel"), CASES)
def test_convolution_is_its_definition_and_that_of_autograd(stride: int, pad: int, kernel: int) -> None:
    layers = module("layers")
    rng = np.random.default_rng(hash((stride, pad, kernel)) % 1000)
    n, c, o = sizes(rng, 3, 1, 4)
    x, w, b = rng.normal(size=(n, c, *sizes(rng, 2, 4, 9))), rng.normal(size=(o, c, kernel, kernel)), rng.normal(size=o)
    x.flat[::3] = 0
    tensors = leaves(x, w, b)
    y = F.conv2d(*tensors, stride=stride, padding=pad)
    dy = rng.normal(size=y.shape)
    y.backward(torch.tensor(dy))
    same(layers.conv_by_loops(x, w, b, stride, pad), y)
    same(layers.conv(x, w, b, stride, pad), layers.conv_by_loops(x, w, b, stride, pad), 1e-12)
    assert y.shape[2] == layers.out_size(x.shape[2], kernel, stride, pad)
    for ours, tensor in zip(layers.conv_backward(dy, x, w, stride, pad), tensors):
        same(ours, tensor.grad)


@pytest.mark.parametrize("k", [1, 2, 3])
def test_max_pooling_is_that_of_autograd_ties_and_rests_included(k: int) -> None:
    layers = module("layers")
    for seed in range(20):
        rng = np.random.default_rng(seed)
        x = rng.integers(-2, 3, (*sizes(rng, 2), *sizes(rng, 2, 3, 9))).astype(float)  # whole numbers: many ties, many zeros
        (x_torch,) = leaves(x)
        theirs = F.max_pool2d(x_torch, k)
        dy = rng.normal(size=theirs.shape)
        theirs.backward(torch.tensor(dy))
        ours, winner = layers.max_pool(x, k)
        same(ours, theirs)
        same(layers.max_pool_backward(dy, winner, x.shape, k), x_torch.grad)


def test_a_chain_of_layers_is_that_of_autograd() -> None:
    """Every layer object at once, as lesson 8 uses them."""
    layers, lesson, neuron = module("layers"), module("lesson8_fully_convolutional"), module("neuron")
    net = lesson.classifier(np.random.default_rng(0))
    net.layers[0].first = False
    rng = np.random.default_rng(1)
    x, labels = rng.normal(size=(3, 1, 16, 16)), np.array([0, 1, 1])
    loss, dz = neuron.cross_entropy(net.forward(x), labels)
    dx = net.backward(dz)

    (x_torch,) = leaves(x)
    weights = [leaves(*layer.parameters) for layer in net.layers if layer.parameters]
    h = F.max_pool2d(F.conv2d(x_torch, *weights[0]).relu(), 2)
    h = F.max_pool2d(F.conv2d(h, *weights[1]).relu(), 2).flatten(1)
    theirs = F.cross_entropy(F.linear(F.linear(h, *weights[2]).relu(), *weights[3]), torch.tensor(labels))
    theirs.backward()
    assert abs(loss - theirs.item()) < 1e-9
    same(dx, x_torch.grad)
    learned = [layer for layer in net.layers if layer.parameters]
    for layer, tensors in zip(learned, weights):
        for gradient, tensor in zip(layer.gradients, tensors):
            same(gradient, tensor.grad)
    before = [p.copy() for p in learned[0].parameters]
    net.descend(0.1)
    same(learned[0].parameters[0], before[0] - 0.1 * learned[0].gradients[0])
    assert net.count() == sum(t.numel() for pair in weights for t in pair) == 2858
    assert isinstance(net, layers.Chain)


def test_smooth_layers_have_the_gradients_that_nudging_finds() -> None:
    """Dense, sigmoid and convolution in one: two-sided differences over every dimension, relative error up to 1e-6."""
    layers, neuron = module("layers"), module("neuron")
    rng = np.random.default_rng(0)
    net = layers.Chain(
        layers.Conv(2, 3, 3, rng, stride=2, pad=1), layers.Activation("sigmoid"), layers.Flatten(), layers.Dense(27, 4, rng)
    )
    x, labels = rng.normal(size=(2, 2, 5, 5)), np.array([1, 3])

    def loss() -> float:
        value: float = neuron.cross_entropy(net.forward(x), labels)[0]
        return value

    dx = net.backward(neuron.cross_entropy(net.forward(x), labels)[1])
    pairs = [(x, dx), *((p, g) for layer in net.layers for p, g in zip(layer.parameters, layer.gradients))]
    for values, gradient in pairs:
        nudged = np.zeros_like(values)
        for place in np.ndindex(values.shape):
            kept = values[place]
            values[place] = kept + 1e-5
            above = loss()
            values[place] = kept - 1e-5
            nudged[place] = (above - loss()) / 2e-5
            values[place] = kept
        assert np.abs(nudged - gradient).max() / np.abs(gradient).max() < 1e-6


def test_one_matrix_product_is_at_least_twenty_times_faster_than_loops() -> None:
    layers = module("layers")
    rng = np.random.default_rng(0)
    x, w, b = rng.normal(size=(1, 3, 64, 64)), rng.normal(size=(16, 3, 3, 3)), np.zeros(16)
    start = process_time()
    slow = layers.conv_by_loops(x, w, b, 1, 1)
    loops = process_time() - start
    quickest = np.inf
    for _ in range(5):
        start = process_time()
        quick = layers.conv(x, w, b, 1, 1)
        quickest = min(quickest, process_time() - start)
    same(quick, slow, 1e-12)
    assert loops > 20 * quickest  # about a thousand times on a quiet machine


def test_nothing_of_the_primer_needs_torch() -> None:
    """It is imported here, in the tests; the lessons name NumPy, Pillow, OpenCV and visagist's own photos."""
    import ast

    for path in PRIMER.glob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        names = [a.name for node in ast.walk(tree) if isinstance(node, ast.Import) for a in node.names]
        names += [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
        ours = {p.stem for p in PRIMER.glob("*.py")}
        allowed = ours | {"numpy", "PIL", "cv2", "visagist", "skimage"} | set(sys.stdlib_module_names)
        assert {name.split(".")[0] for name in names} <= allowed, path.name
