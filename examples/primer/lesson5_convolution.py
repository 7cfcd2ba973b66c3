"""Lesson 5. Convolution by hand: nine products and a sum, the same nine weights everywhere.

    python examples/primer/lesson5_convolution.py

A picture is not a list of numbers, it has neighbours. A convolution looks at a small patch, multiplies it number by
number with a kernel and adds up; then it moves on. One kernel that slides over the picture gives one new picture:
how strongly each place looks like the kernel.

    stride   how far it moves each time            padding   rings of zeros around the picture, so that the border is looked at too
    size     floor((H + 2 padding - k) / stride) + 1
    depth    a kernel is as deep as its input: 3 for a colour photo. As many kernels, as many pictures come out.
    weights  (k k depth + 1) for every kernel, however large the picture

This is no matrix product: the patch and the kernel are multiplied cell by cell. Nor is the kernel flipped, as the
word convolution means in mathematics; what we compute is called cross-correlation there.
"""

from __future__ import annotations

import time
from pathlib import Path

import chart
import numpy as np
from layers import conv, conv_by_loops, out_size
from lesson import begin
from neuron import Array
from PIL import Image

HORIZONTAL = np.array([[1, 1, 1], [0, 0, 0], [-1, -1, -1]], float)  # answers where it is bright above and dark below
VERTICAL = HORIZONTAL.T  # bright on the left, dark on the right
PATCH = np.array([[0.6, 0.2, 0.6], [0.1, -0.2, -0.3], [-0.5, -0.1, -0.3]])  # the worked example

FACE = """
. . . # # # # . . .
. . # # # # # # . .
. # # # # # # # # .
# # # . # # . # # #
# # # . # # . # # #
# # # # # # # # # #
# # . # # # # . # #
. # # . . . . # # .
. . # # # # # # . .
. . . # # # # . . .
"""


def one_place(patch: Array, kernel: Array) -> float:
    """What a kernel says about one patch: the products, added up."""
    return float((patch * kernel).sum())


def slide(picture: Array, kernel: Array, stride: int = 1, pad: int = 0) -> Array:
    """One kernel [k, k] over one picture [H, W] without colours, by the loops of the definition."""
    return conv_by_loops(picture[None, None], kernel[None, None], np.zeros(1), stride, pad)[0, 0]


def face() -> Array:
    """A drawn face [10, 10]: 1 for light, 0 for dark."""
    return np.array([[float(c == "#") for c in row.split()] for row in FACE.split("\n") if row])


def main(out: Path, side: int = 64, rows: int = 10) -> None:
    """side: of the picture that both ways are timed on; rows: how many of the face the kernel slides over"""
    products = PATCH * HORIZONTAL
    print("the worked example:")
    print("  " + " ".join(f"{p:+g}*{k:g}" for p, k in zip(PATCH.ravel(), HORIZONTAL.ravel())))
    print(f"  = {one_place(PATCH, HORIZONTAL):.1f}")
    draw_by_hand(out, products)

    print("\nsizes: a picture of 32, a kernel of 3")
    for stride, pad in ((1, 0), (1, 1), (2, 0), (2, 1)):
        print(f"  stride {stride}, padding {pad}: {out_size(32, 3, stride, pad)}")
    draw_sizes(out)

    x, w, b = (
        np.random.default_rng(0).normal(size=(1, 3, side, side)),
        np.random.default_rng(1).normal(size=(16, 3, 3, 3)),
        np.zeros(16),
    )
    start = time.perf_counter()
    slow = conv_by_loops(x, w, b, 1, 1)
    middle = time.perf_counter()
    quick = conv(x, w, b, 1, 1)
    end = time.perf_counter()
    print(f"\n3 -> 16 channels on {side} x {side}: four loops, or all patches in a table and one matrix product (im2col)")
    print(f"  {1e3 * (middle - start):.0f} ms and {1e3 * (end - middle):.1f} ms; they differ by {np.abs(slow - quick).max():.0e}")
    draw_sliding(out, face()[:rows])


def draw_by_hand(out: Path, products: Array) -> None:
    total = np.array([[products.sum()]])
    row = [
        chart.cells(PATCH, title="the patch"),
        chart.words("×", size=26),
        chart.cells(HORIZONTAL, title="the kernel"),
        chart.words("=", size=26),
        chart.cells(products, title="products, cell by cell"),
        chart.words("all added:", size=16),
        chart.cells(total, side=64, digits="{:.1f}", colours=chart.signed(total, 3)),
    ]
    chart.save(chart.beside(*row), out / "by_hand.png")


def draw_sizes(out: Path) -> None:
    """Where the kernel's centre comes to stand on a picture of 6 x 6, for three settings."""
    panels = []
    for stride, pad in ((1, 0), (1, 1), (2, 1)):
        side = 6 + 2 * pad
        colours = np.empty((side, side, 3), np.uint8)
        colours[:] = chart.tint(chart.GREY, 0.15)
        colours[pad : pad + 6, pad : pad + 6] = chart.tint(chart.BLUE, 0.25)
        n = out_size(6, 3, stride, pad)
        centres = 1 + stride * np.arange(n)
        colours[np.ix_(centres, centres)] = chart.tint(chart.BLUE, 0.8)
        title = f"stride {stride}, padding {pad}: {n} × {n}"
        panels.append(chart.cells(np.zeros((side, side)), side=26, colours=colours, digits="", title=title, frame=(0, 0, 3, 3)))
    chart.save(chart.beside(*panels, gap=30), out / "sizes.png")


def draw_sliding(out: Path, picture: Array) -> None:
    """The animation: the kernel on its way over the face, and the answers that it leaves behind."""
    kernel = HORIZONTAL
    answers = slide(picture, kernel)
    ground = np.repeat((picture[..., None] * 105 + 145), 3, -1).astype(np.uint8)
    frames = []
    for i in range(answers.shape[0]):
        for j in range(answers.shape[1]):
            done = np.arange(answers.size).reshape(answers.shape) <= i * answers.shape[1] + j
            frames.append(sliding_frame(picture, ground, kernel, answers, (i, j), done))
    chart.animate(frames, out / "sliding.webp", 180)


def sliding_frame(picture: Array, ground: Array, kernel: Array, answers: Array, place: tuple[int, int], done: Array) -> Image.Image:
    i, j = place
    patch = picture[i : i + 3, j : j + 3]
    left = chart.cells(picture, side=26, colours=ground, title="the picture", frame=(i, j, 3, 3))
    sums = np.array([[answers[i, j]]])
    middle = chart.below(
        chart.cells(kernel, side=26, title="the kernel"),
        chart.cells(patch * kernel, side=26, colours=chart.signed(patch * kernel, 1), title="products here"),
        chart.cells(sums, side=40, colours=chart.signed(sums, 3), title="their sum"),
        gap=2,
    )
    right = chart.cells(answers, side=26, colours=chart.signed(answers, 3), title="the answers", show=done, frame=(i, j, 1, 1))
    return chart.beside(left, middle, right)


if __name__ == "__main__":
    main(begin(__doc__).out)
