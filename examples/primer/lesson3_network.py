"""Lesson 3. A network and back-propagation: several neurons, one behind the other, learn what no line can part.

    python examples/primer/lesson3_network.py

A neuron is a perceptron with a soft step, the sigmoid or tanh, so that a small change of a weight makes a small
change of the answer: there is a slope to walk down. A network is layers of neurons; it maps a vector to a vector.
How many layers and units, how fast to learn and how long are hyper-parameters: we choose them. Weights and biases
are parameters: it learns them.

Back-propagation asks who is to blame. Write z for what enters a neuron's activation and delta for dE/dz. With
E = 1/2 sum (y - t)^2 and sigmoids, whose slope is y (1 - y):

    output layer     delta_k = (y_k - t_k) y_k (1 - y_k)
    layer before     delta_h = a_h (1 - a_h) sum over k of w_kh delta_k        a: its answers; blame comes back by the weights
    every weight     dE/dw_ji = delta_j a_i        every bias    dE/db_j = delta_j

All of it is the chain rule, taken from the output backwards so that nothing is computed twice.
"""

from __future__ import annotations

from pathlib import Path

import chart
import numpy as np
from layers import Activation, Chain, Dense, dense
from lesson import begin
from neuron import Array, cross_entropy, sigmoid, softmax

X = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], float)
XOR = np.array([[0], [1], [1], [0]], float)
Weights = list[Array]  # w1 [..., h, 2], b1 [..., h], w2 [..., 1, h], b2 [..., 1]; leading axes are networks side by side


def first_weights(hidden: int, seeds: int) -> Weights:
    """One network a seed: weights from a normal distribution, biases 0."""
    drawn = [np.random.default_rng(seed) for seed in range(seeds)]
    w1 = np.array([rng.normal(0, 1, (hidden, 2)) for rng in drawn])
    w2 = np.array([rng.normal(0, 1, (1, hidden)) for rng in drawn])
    return [w1, np.zeros((seeds, hidden)), w2, np.zeros((seeds, 1))]


def forward(x: Array, weights: Weights) -> tuple[Array, Array]:
    """The activations a [..., N, h] of the hidden layer and the answers y [..., N, 1]."""
    w1, b1, w2, b2 = weights
    a = sigmoid(dense(x, w1, b1))
    return a, sigmoid(dense(a, w2, b2))


def gradients(x: Array, t: Array, weights: Weights) -> tuple[Array, Weights]:
    """E of each network, and dE/d(weights): the four lines above, for all examples at once."""
    a, y = forward(x, weights)
    delta2 = (y - t) * y * (1 - y)  # [..., N, 1]
    delta1 = (delta2 @ weights[2]) * a * (1 - a)  # [..., N, h]
    blame = [np.swapaxes(delta1, -1, -2) @ x, delta1.sum(-2), np.swapaxes(delta2, -1, -2) @ a, delta2.sum(-2)]
    return ((y - t) ** 2).sum((-1, -2)) / 2, blame


def learn_xor(hidden: int, seeds: int = 10, rate: float = 0.5, steps: int = 10_000, every: int = 100) -> tuple[Weights, Array]:
    """`seeds` networks at once; their weights and their E [steps / every + 1, seeds]."""
    weights = first_weights(hidden, seeds)
    errors = []
    for i in range(steps + 1):
        error, blame = gradients(X, XOR, weights)
        if i % every == 0:
            errors.append(error)
        for w, dw in zip(weights, blame):
            w -= rate * dw
    return weights, np.array(errors)


def numerical(x: Array, t: Array, weights: Weights, h: float = 1e-5) -> Weights:
    """The same gradients without a formula: nudge every weight both ways, see what E does. Slow, and hard to get wrong.

    Needs float64: in float32 the digits that matter drown in rounding.
    """
    found = []
    for w in weights:
        slope = np.zeros_like(w)
        for place in np.ndindex(w.shape):
            kept = w[place]
            w[place] = kept + h
            above = gradients(x, t, weights)[0].sum()
            w[place] = kept - h
            below = gradients(x, t, weights)[0].sum()
            w[place] = kept
            slope[place] = (above - below) / (2 * h)
        found.append(slope)
    return found


def two_moons(count: int, seed: int = 0) -> tuple[Array, Array]:
    """Points [count, 2] on two half circles that reach into each other, and which one each is on."""
    rng = np.random.default_rng(seed)
    angle, moon = rng.uniform(0, np.pi, count), np.arange(count) % 2
    x = np.stack([np.cos(angle) + moon, np.sin(angle) * (1 - 2 * moon) + 0.5 * moon], 1)
    return x + rng.normal(0, 0.12, x.shape), moon


def main(out: Path, steps: int = 10_000, moon_steps: int = 2000) -> None:
    weights = first_weights(3, 1)
    formula, nudged = gradients(X, XOR, weights)[1], numerical(X, XOR, weights)
    off = max(float(np.abs(f - n).max()) for f, n in zip(formula, nudged))
    print(f"gradients by back-propagation and by nudging every weight differ by {off:.0e} at most")

    panels, last = [], {}
    for hidden in (2, 4):
        last[hidden], errors = learn_xor(hidden, steps=steps)
        worst = np.abs(forward(X, last[hidden])[1] - XOR).max((-1, -2))
        good = (worst < 0.05).sum()
        print(f"XOR, 2-{hidden}-1 ({4 * hidden + 1} parameters): {good} of 10 seeds have all four answers right to 0.05")
        curves = chart.Chart(
            (0, 10_000), (0, 0.6), title=f"XOR, 2-{hidden}-1, ten seeds", across="step", up="error E", x_ticks=TICKS
        )
        for seed in range(10):
            stuck = worst[seed] > 0.2
            curves.line(range(0, steps + 1, 100), errors[:, seed], chart.RED if stuck else chart.BLUE, width=1.6)
        panels.append(curves.picture())
    surface = chart.Chart(
        (-0.5, 1.5), (-0.5, 1.5), width=290, title="what 2-4-1 says", across="x1", up="x2", x_ticks=BITS, y_ticks=BITS
    )
    one = [w[0] for w in last[4]]
    shade(surface, forward(surface.mesh().reshape(-1, 2), one)[1].reshape(120, 120))
    for value, colour in ((0, chart.ORANGE), (1, chart.BLUE)):
        surface.dots(*X[XOR[:, 0] == value].T, colour, radius=8)
    chart.save(chart.beside(*panels, surface.picture()), out / "xor.png")
    draw_moons(out, moon_steps)
    for sizes in ((784, 30, 10), (3072, 32, 10)):
        count = sum(b * (a + 1) for a, b in zip(sizes, sizes[1:]))
        print(f"a network {'-'.join(map(str, sizes))} has {count:,} parameters")


def draw_moons(out: Path, steps: int) -> None:
    """Any number of layers goes the same way: the layers of layers.py, in a chain."""
    x, moon = two_moons(200)
    new, new_moon = two_moons(2000, seed=1)
    panels = []
    for hidden in (1, 2, 4):
        rng = np.random.default_rng(1)
        net = Chain(Dense(2, hidden, rng), Activation("tanh"), Dense(hidden, 2, rng))
        for _ in range(steps):
            _, dz = cross_entropy(net.forward(x), moon)
            net.backward(dz)
            net.descend(0.5)
        right, right_new = (net.forward(x).argmax(1) == moon).mean(), (net.forward(new).argmax(1) == new_moon).mean()
        print(f"two moons, {hidden} hidden ({net.count()} parameters): {right:.1%} of its 200 right, {right_new:.1%} of 2,000 new")
        plane = chart.Chart(
            (-1.5, 2.5),
            (-1.2, 1.7),
            width=300,
            height=260,
            title=f"2-{hidden}-2: {right_new:.1%} of new points",
            x_ticks={},
            y_ticks={},
        )
        shade(plane, softmax(net.forward(plane.mesh().reshape(-1, 2)))[:, 1].reshape(120, 120))
        for value, colour in ((0, chart.ORANGE), (1, chart.BLUE)):
            plane.dots(*x[moon == value].T, colour, radius=3)
        panels.append(plane.picture())
    chart.save(chart.beside(*panels), out / "moons.png")


TICKS = {0: "0", 5000: "5,000", 10000: "10,000"}
BITS = {0: "0", 1: "1"}


def shade(plane: chart.Chart, p: Array) -> None:
    """Probabilities [h, w] as a ground between orange (0) and blue (1), in ten bands, paler where it is unsure."""
    p = (np.floor(p * 9.999) + 0.5) / 10
    plane.ground(chart.signed(p - 0.5, 0.9))


if __name__ == "__main__":
    main(begin(__doc__).out)
