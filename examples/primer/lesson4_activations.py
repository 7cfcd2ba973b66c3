"""Lesson 4. ReLU, LeakyReLU, ELU: what comes after the sum, and what of the gradient comes back through it.

    python examples/primer/lesson4_activations.py

    ReLU         z above 0, 0 below                   slope 1, or 0
    LeakyReLU    z above 0, 0.1 z below               slope 1, or 0.1
    ELU          z above 0, a(e^z - 1) below          slope 1, or a e^z = ELU(z) + a

Sigmoid and tanh are flat on both sides. The slope of a sigmoid is 1/4 at most, so a gradient that comes back
through ten of them has lost a factor of a million: it vanishes. The three above let it through whole on the right
side. ReLU is the quickest and makes about half of all units 0 (sparse), but where it is 0 nothing comes back: a
unit that is off for every example stays off for ever. LeakyReLU leaves it a way back. So does ELU, smoothly; and
because it goes below 0, as far as -a, its outputs lie closer to a mean of 0, which suits the next layer. The
lipstick networks of visagist are three convolutions with ELU (makeup/lipstick.py).
"""

from __future__ import annotations

from pathlib import Path

import chart
import numpy as np
from lesson import begin
from neuron import ACTIVATIONS, Array

HUES = {
    "sigmoid": chart.PURPLE,
    "tanh": chart.GREEN,
    "relu": chart.tint(chart.ORANGE, 0.5),
    "leaky_relu": chart.GREEN,
    "elu": chart.BLUE,
}
NAMES = {"sigmoid": "sigmoid", "tanh": "tanh", "relu": "ReLU", "leaky_relu": "LeakyReLU", "elu": "ELU"}


def gradient_by_layer(name: str, layers: int = 20, units: int = 100, seed: int = 0) -> Array:
    """How much of a gradient of length 1 at the end is left before each layer, in a network fresh from the dice. [layers + 1]

    The weights are drawn as one would for this activation: deviation 1/sqrt(units) for sigmoid and tanh, and for the others as much
    more as it takes to keep the size of what goes forward.
    """
    f, d_f = ACTIVATIONS[name]
    rng = np.random.default_rng(seed)
    normal = rng.normal(size=20_000)
    gain = {"sigmoid": 1.0, "tanh": 1.0}.get(name, float(1 / np.sqrt((f(normal) ** 2).mean())))
    weights = [rng.normal(0, gain / np.sqrt(units), (units, units)) for _ in range(layers)]
    x, seen = rng.normal(size=(200, units)), []
    for w in weights:
        seen.append(x @ w.T)
        x = f(seen[-1])
    dy = rng.normal(size=x.shape)
    left = [float(np.linalg.norm(dy))]
    for w, z in zip(reversed(weights), reversed(seen)):
        dy = (dy * d_f(z)) @ w
        left.append(float(np.linalg.norm(dy)))
    return np.array(left[::-1]) / left[0]


def revive(name: str, steps: int = 400, rate: float = 0.05) -> Array:
    """E over the steps of one unit that starts off: its bias is so low that every z is below 0. It should say 1 for x about 1."""
    f, d_f = ACTIVATIONS[name]
    x = np.linspace(0.5, 1.5, 21)
    w, b = 0.5, -2.0
    errors = []
    for _ in range(steps):
        z = w * x + b
        dz = (f(z) - 1) * d_f(z) / len(x)
        errors.append(float(((f(z) - 1) ** 2).mean() / 2))
        w, b = w - rate * float(dz @ x), b - rate * float(dz.sum())
    return np.array(errors)


def main(out: Path) -> None:
    z = np.linspace(-4, 3, 71)  # 0 is among them
    shapes = chart.Chart((-4, 3), (-1.5, 3), width=400, height=310, title="the activation", across="z")
    slopes = chart.Chart((-4, 3), (-0.25, 1.25), width=400, height=310, title="its derivative", across="z")
    for name, width in (("relu", 9), ("leaky_relu", 5.5), ("elu", 2.2)):  # above 0 they lie on each other
        f, d_f = ACTIVATIONS[name]
        shapes.line(z, f(z), HUES[name], name=NAMES[name], width=width)
        for side in (z[z <= 0], np.linspace(1e-9, 3, 20)):  # a jump is not a line
            slopes.line(side, d_f(side), HUES[name], name=NAMES[name] if side[0] < 0 else "", width=width)
    slopes.line([0, 0], [-0.25, 1.25], chart.GREY, width=1, dashes=3)
    chart.save(chart.beside(shapes.picture("upper left"), slopes.picture("upper left")), out / "elu.png")

    many = np.random.default_rng(0).normal(size=100_000)
    for name in ("relu", "leaky_relu", "elu"):
        y = ACTIVATIONS[name][0](many)
        print(f"{NAMES[name]:10} of 100,000 normal z: mean {y.mean():.2f}, exactly 0: {(y == 0).mean():.0%}")

    soft = chart.Chart((-4, 4), (-1.1, 1.1), width=300, height=300, title="soft steps and their slopes", across="z")
    for name in ("sigmoid", "tanh"):
        f, d_f = ACTIVATIONS[name]
        soft.line(np.linspace(-4, 4), f(np.linspace(-4, 4)), HUES[name], name=NAMES[name])
        soft.line(np.linspace(-4, 4), d_f(np.linspace(-4, 4)), HUES[name], dashes=4)
    backwards = chart.Chart(
        (0, 20),
        (-14, 1),
        width=300,
        height=300,
        title="a gradient on its way back",
        across="layers come back through",
        up="what is left of it",
        y_ticks={0: "1", -3: "1e-3", -6: "1e-6", -9: "1e-9", -12: "1e-12"},
    )
    for name in ("sigmoid", "tanh", "relu", "elu"):
        left = gradient_by_layer(name)
        print(f"{NAMES[name]:10} after 20 layers {left[0]:.1e} of the gradient is left")
        backwards.line(range(21), np.log10(left[::-1]), HUES[name], name=NAMES[name])
    dead = chart.Chart((0, 400), (0, 2.5), width=300, height=300, title="a unit that starts off", across="step", up="error E")
    for name in ("relu", "leaky_relu", "elu"):
        errors = revive(name)
        print(f"{NAMES[name]:10} a unit that starts off: E {errors[0]:.2f} -> {errors[-1]:.4f}")
        dead.line(range(400), errors, HUES[name], name=NAMES[name])
    chart.save(
        chart.beside(soft.picture("upper left"), backwards.picture("lower left"), dead.picture("upper right")),
        out / "gradients.png",
    )


if __name__ == "__main__":
    main(begin(__doc__).out)
