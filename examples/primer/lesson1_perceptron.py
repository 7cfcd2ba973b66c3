"""Lesson 1. The perceptron: one neuron that answers 0 or 1, and what it cannot learn.

    python examples/primer/lesson1_perceptron.py

A perceptron multiplies every input with a weight, adds a bias and takes a step:

    z = w1 x1 + w2 x2 + b          y = 1 if z > 0, otherwise 0 (z = 0 counts as 0)

The line z = 0 cuts the plane in two; the answer is 1 on one side. Learning goes through the examples one by one.
Where the answer y is not the wanted t, the weights move towards the input (it should have fired) or away from it
(it should not have):

    w <- w + rate (t - y) x        b <- b + rate (t - y)

Rosenblatt's promise: where a line exists that cuts the ones from the zeros, this finds one, after finitely many
mistakes. XOR has no such line, and no patience makes one.
"""

from __future__ import annotations

from pathlib import Path

import chart
import numpy as np
from lesson import begin
from neuron import Array, step

CORNERS = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], float)
BITS = {0: "0", 1: "1"}
WANTED = {"AND": np.array([0, 0, 0, 1.0]), "OR": np.array([0, 1, 1, 1.0]), "XOR": np.array([0, 1, 1, 0.0])}


def answer(x: Array, w: Array, b: float) -> Array:
    """x [N, 2] -> 0 or 1 for each row"""
    return step(x @ w + b)


def learn(x: Array, t: Array, rate: float = 0.1, passes: int = 20) -> tuple[Array, float, list[int]]:
    """w, b and the number of wrong answers after every pass; it ends when there are none."""
    w, b = np.zeros(x.shape[1]), 0.0
    wrong = []
    for _ in range(passes):
        for x_n, t_n in zip(x, t):
            error = t_n - float(w @ x_n + b > 0)  # -1, 0 or 1
            w = w + rate * error * x_n
            b = b + rate * error
        wrong.append(int((answer(x, w, b) != t).sum()))
        if wrong[-1] == 0:
            break
    return w, b, wrong


def main(out: Path) -> None:
    pictures = []
    for name, t in WANTED.items():
        w, b, wrong = learn(CORNERS, t)
        print(f"{name:3}  wrong after each pass: {' '.join(map(str, wrong))}    w = {w[0]:.1f} {w[1]:.1f}, b = {b:.1f}")
        plane = chart.Chart(
            (-0.5, 1.5), (-0.5, 1.5), width=270, height=290, title=name, across="x1", up="x2", x_ticks=BITS, y_ticks=BITS
        )
        says = answer(plane.mesh().reshape(-1, 2), w, b).reshape(120, 120)
        sides = np.array([chart.tint(chart.ORANGE, 0.25), chart.tint(chart.BLUE, 0.25)], np.uint8)
        plane.ground(sides[says.astype(int)])
        for value, colour in ((0, chart.ORANGE), (1, chart.BLUE)):
            plane.dots(*CORNERS[t == value].T, colour, radius=8)
        for corner in CORNERS[answer(CORNERS, w, b) != t]:
            plane.dots(*corner[:, None], chart.RED, radius=13, shape="ring")
        pictures.append(plane.picture())
    chart.save(chart.beside(*pictures), out / "perceptron.png")

    _, _, wrong = learn(CORNERS, WANTED["XOR"], passes=1000)
    print(f"XOR  1,000 passes: never fewer than {min(wrong)} of 4 wrong, in the end {wrong[-1]}")
    print("A line cannot part the corners of XOR. Lesson 3 gives it a second layer.")


if __name__ == "__main__":
    main(begin(__doc__).out)
