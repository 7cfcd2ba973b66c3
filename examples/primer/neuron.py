"""What a neuron computes: activations and losses, each with its derivative. NumPy, float64, nothing else.

Two conventions hold everywhere in the primer.

Sign     every `d_...` function and every `..._backward` gives the gradient, never its negative. Learning goes downhill, so
         it subtracts: w <- w - rate * dE/dw. Some texts carry the negative gradient around and add it; the steps are the same.
Step     step(z) is 1 for z > 0 and 0 otherwise. At z = 0 the answer is 0.
"""

from __future__ import annotations

import numpy as np

Array = np.ndarray


# ---- activations: z of any shape in, the same shape out


def step(z: Array) -> Array:
    return (z > 0).astype(float)


def identity(z: Array) -> Array:
    return z


def d_identity(z: Array) -> Array:
    return np.ones_like(z)


def sigmoid(z: Array) -> Array:
    """1 / (1 + e^-z), written so that e is never raised to a large positive number."""
    small = np.exp(-np.abs(z))  # in (0, 1]
    return np.where(z >= 0, 1, small) / (1 + small)


def d_sigmoid(z: Array) -> Array:
    y = sigmoid(z)
    return y * (1 - y)


def tanh(z: Array) -> Array:
    return np.tanh(z)


def d_tanh(z: Array) -> Array:
    return 1 - np.tanh(z) ** 2


def relu(z: Array) -> Array:
    return np.maximum(z, 0)


def d_relu(z: Array) -> Array:
    """At the corner z = 0 there is no derivative; 0 is the usual choice."""
    return (z > 0).astype(float)


def leaky_relu(z: Array, slope: float = 0.1) -> Array:
    return np.where(z > 0, z, slope * z)


def d_leaky_relu(z: Array, slope: float = 0.1) -> Array:
    return np.where(z > 0, 1.0, slope)


def elu(z: Array, a: float = 1.0) -> Array:
    """z above 0, a(e^z - 1) below: it runs into -a. expm1 keeps the digits that e^z - 1 loses for small z."""
    return np.where(z > 0, z, a * np.expm1(np.minimum(z, 0)))


def d_elu(z: Array, a: float = 1.0) -> Array:
    """1 above 0, a e^z below, which is elu(z) + a. With a = 1 both sides meet in 1: no corner."""
    return np.where(z > 0, 1.0, a * np.exp(np.minimum(z, 0)))


# name -> (function, derivative)
ACTIVATIONS = {
    "identity": (identity, d_identity),
    "sigmoid": (sigmoid, d_sigmoid),
    "tanh": (tanh, d_tanh),
    "relu": (relu, d_relu),
    "leaky_relu": (leaky_relu, d_leaky_relu),
    "elu": (elu, d_elu),
}


# ---- losses: (the loss, its gradient with respect to the first argument)


def squared_error(y: Array, t: Array) -> tuple[float, Array]:
    """E = 1/2 sum (y - t)^2 and dE/dy = y - t."""
    return float(((y - t) ** 2).sum() / 2), y - t


def softmax(z: Array) -> Array:
    """Rows [N, K] of scores as rows of probabilities. Taking the row's maximum away changes nothing but the risk of overflow."""
    e = np.exp(z - z.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def cross_entropy(z: Array, labels: Array) -> tuple[float, Array]:
    """Mean of -log p[label] over the rows of scores z [N, K], and its gradient: (p - onehot) / N.

    log p = z - log(sum e^z), with the row's maximum taken out of the sum, so that no score is too large.
    """
    rows = np.arange(len(z))
    top = z.max(-1, keepdims=True)
    log_p = z - top - np.log(np.exp(z - top).sum(-1, keepdims=True))
    gradient = np.exp(log_p)
    gradient[rows, labels] -= 1
    return float(-log_p[rows, labels].mean()), gradient / len(z)
