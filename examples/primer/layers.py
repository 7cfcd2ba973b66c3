"""Layers with their backward passes, and a chain of them that learns. NumPy, float64, nothing else.

Order     channels first: pictures are [N, C, H, W], kernels [O, C, k, k]. (Keras puts the channels last.)
Kernel    it is not flipped: y[o,i,j] = b[o] + sum over c,u,v of w[o,c,u,v] x[c, i*s+u-p, j*s+v-p]. Mathematicians call this
          cross-correlation and flip for a convolution. A kernel that is learned does not care.
Sign      dy stands for dE/dy, and so on; learning subtracts (see neuron.py).

Axes: N pictures, C channels in, O channels out, H rows, W columns, k side of the kernel, s stride, p padding.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from neuron import ACTIVATIONS, Array
from numpy.lib.stride_tricks import sliding_window_view

# ---- dense


def dense(x: Array, w: Array, b: Array) -> Array:
    """x [..., N, d], w [..., h, d], b [..., h] -> [..., N, h]. Leading axes, if any, are networks side by side."""
    return x @ np.swapaxes(w, -1, -2) + b[..., None, :]


def dense_backward(dy: Array, x: Array, w: Array) -> tuple[Array, Array, Array]:
    """dx, dw, db. A weight is to blame as far as its input was on and its output wrong: dw_ji = sum over N of dy_j x_i."""
    return dy @ w, np.swapaxes(dy, -1, -2) @ x, dy.sum(-2)


# ---- convolution


def out_size(size: int, kernel: int, stride: int = 1, pad: int = 0) -> int:
    """How often the kernel fits: floor((size + 2 pad - kernel) / stride) + 1."""
    return (size + 2 * pad - kernel) // stride + 1


def padded(x: Array, pad: int) -> Array:
    """Zeros around every picture."""
    return np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))


def conv_by_loops(x: Array, w: Array, b: Array, stride: int = 1, pad: int = 0) -> Array:
    """The definition, word for word. Slow, and therefore only the judge of the one below."""
    n, _, height, width = x.shape
    outs, _, k, _ = w.shape
    x = padded(x, pad)
    y = np.empty((n, outs, out_size(height, k, stride, pad), out_size(width, k, stride, pad)))
    for picture in range(n):
        for o in range(outs):
            for i in range(y.shape[2]):
                for j in range(y.shape[3]):
                    patch = x[picture, :, i * stride : i * stride + k, j * stride : j * stride + k]
                    y[picture, o, i, j] = (patch * w[o]).sum() + b[o]
    return y


def patches(x: Array, k: int, stride: int = 1, pad: int = 0) -> Array:
    """Every patch that the kernel covers, as a row ("im2col"): [N, H', W', C k k]."""
    seen = sliding_window_view(padded(x, pad), (k, k), axis=(2, 3))[:, :, ::stride, ::stride]  # [N, C, H', W', k, k]; no copy yet
    n, c, rows, columns = seen.shape[:4]
    return seen.transpose(0, 2, 3, 1, 4, 5).reshape(n, rows, columns, c * k * k)


def conv(x: Array, w: Array, b: Array, stride: int = 1, pad: int = 0) -> Array:
    """The same as conv_by_loops, as one matrix product: patches in rows, kernels in columns. [N, O, H', W']"""
    return (patches(x, w.shape[-1], stride, pad) @ w.reshape(len(w), -1).T + b).transpose(0, 3, 1, 2)


def conv_backward(dy: Array, x: Array, w: Array, stride: int = 1, pad: int = 0, first: bool = False) -> tuple[Array, Array, Array]:
    """dx, dw, db.

    dw     the input correlated with dy: each patch, as often as its output was to blame
    dx     dy spread out again, zeros where the stride skipped, and correlated with the kernel turned by 180 degrees,
           because what reached the output through the kernel's lower right corner comes back through it
    first  nobody asks what the pictures are to blame for: dx stays 0, which saves more than half of the work
    """
    k = w.shape[-1]
    n, c, height, width = x.shape
    rows = patches(x, k, stride, pad)  # [N, H', W', C k k]
    dw = np.tensordot(dy, rows, axes=((0, 2, 3), (0, 1, 2))).reshape(w.shape)

    if first:
        return np.zeros_like(x), dw, dy.sum((0, 2, 3))
    spread = np.zeros((n, len(w), height + 2 * pad + k - 1, width + 2 * pad + k - 1))  # what does not fill a stride stays zero
    spread[:, :, k - 1 : k - 1 + stride * dy.shape[2] : stride, k - 1 : k - 1 + stride * dy.shape[3] : stride] = dy
    turned = w[:, :, ::-1, ::-1].transpose(1, 0, 2, 3)  # [C, O, k, k]
    dx = conv(spread, turned, np.zeros(c))[:, :, pad : pad + height, pad : pad + width]
    return dx, dw, dy.sum((0, 2, 3))


# ---- max-pooling


def max_pool(x: Array, k: int = 2) -> tuple[Array, Array]:
    """The largest of every k x k cell, [N, C, H // k, W // k], and which it was, the first on ties. A rest is left out."""
    n, c, height, width = x.shape
    rows, columns = height // k, width // k
    cells = x[:, :, : rows * k, : columns * k].reshape(n, c, rows, k, columns, k).transpose(0, 1, 2, 4, 3, 5)
    cells = cells.reshape(n, c, rows, columns, k * k)
    winner = cells.argmax(-1)
    return np.take_along_axis(cells, winner[..., None], -1)[..., 0], winner


def max_pool_backward(dy: Array, winner: Array, shape: Sequence[int], k: int = 2) -> Array:
    """The blame goes to the winner of every cell, all of it; `shape` is that of the input."""
    n, c, rows, columns = dy.shape
    cells = np.zeros((n, c, rows, columns, k * k))
    np.put_along_axis(cells, winner[..., None], dy[..., None], -1)
    dx = np.zeros(shape)
    spread = cells.reshape(n, c, rows, columns, k, k).transpose(0, 1, 2, 4, 3, 5).reshape(n, c, rows * k, columns * k)
    dx[:, :, : rows * k, : columns * k] = spread
    return dx


# ---- layers that remember what they saw, and a chain of them


class Layer:
    """forward(x) -> y; then backward(dE/dy) -> dE/dx, which leaves dE/dw in `gradients`, beside `parameters`."""

    parameters: tuple[Array, ...] = ()
    gradients: tuple[Array, ...] = ()

    def forward(self, x: Array) -> Array:
        raise NotImplementedError

    def backward(self, dy: Array) -> Array:
        raise NotImplementedError


class Dense(Layer):
    """d -> h: h(d + 1) parameters. Biases start at 0, weights at random, or all units of a layer would stay equal for ever."""

    def __init__(self, d: int, h: int, rng: np.random.Generator, scale: float | None = None) -> None:
        """scale: standard deviation of the first weights; None: sqrt(2 / d), which suits ReLU"""
        self.parameters = (rng.normal(0, np.sqrt(2 / d) if scale is None else scale, (h, d)), np.zeros(h))

    def forward(self, x: Array) -> Array:
        self.x = x
        return dense(x, *self.parameters)

    def backward(self, dy: Array) -> Array:
        dx, *gradients = dense_backward(dy, self.x, self.parameters[0])
        self.gradients = tuple(gradients)
        return dx


class Conv(Layer):
    """c -> o channels with a k x k kernel: (k k c + 1) o parameters. `first` is for the layer that sees the pictures."""

    def __init__(
        self, c: int, o: int, k: int, rng: np.random.Generator, stride: int = 1, pad: int = 0, first: bool = False
    ) -> None:
        self.parameters = (rng.normal(0, np.sqrt(2 / (c * k * k)), (o, c, k, k)), np.zeros(o))
        self.stride, self.pad, self.first = stride, pad, first

    def forward(self, x: Array) -> Array:
        self.x = x
        return conv(x, *self.parameters, self.stride, self.pad)

    def backward(self, dy: Array) -> Array:
        dx, *gradients = conv_backward(dy, self.x, self.parameters[0], self.stride, self.pad, self.first)
        self.gradients = tuple(gradients)
        return dx


class MaxPool(Layer):
    def __init__(self, k: int = 2) -> None:
        self.k = k

    def forward(self, x: Array) -> Array:
        self.shape = x.shape
        y, self.winner = max_pool(x, self.k)
        return y

    def backward(self, dy: Array) -> Array:
        return max_pool_backward(dy, self.winner, self.shape, self.k)


class Activation(Layer):
    def __init__(self, name: str) -> None:
        self.f, self.d_f = ACTIVATIONS[name]

    def forward(self, x: Array) -> Array:
        self.x = x
        return self.f(x)

    def backward(self, dy: Array) -> Array:
        return dy * self.d_f(self.x)


class Flatten(Layer):
    """[N, C, H, W] -> [N, C H W], channel by channel."""

    def forward(self, x: Array) -> Array:
        self.shape = x.shape
        return x.reshape(len(x), -1)

    def backward(self, dy: Array) -> Array:
        return dy.reshape(self.shape)


class Chain:
    """Layers one after the other. Back-propagation is their backward passes in the opposite order: no more than that."""

    def __init__(self, *layers: Layer) -> None:
        self.layers = layers

    def forward(self, x: Array) -> Array:
        for layer in self.layers:
            x = layer.forward(x)
        return x

    def backward(self, dy: Array) -> Array:
        for layer in reversed(self.layers):
            dy = layer.backward(dy)
        return dy

    def descend(self, rate: float) -> None:
        """One step downhill, in place."""
        for layer in self.layers:
            for parameter, gradient in zip(layer.parameters, layer.gradients):
                parameter -= rate * gradient

    def count(self) -> int:
        return sum(parameter.size for layer in self.layers for parameter in layer.parameters)
