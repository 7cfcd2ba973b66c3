"""Lesson 8. What "fully convolutional" means: a network for small pictures walks over a large one without being asked twice.

    python examples/primer/lesson8_fully_convolutional.py

A classifier ends in dense layers, and they fix the size of its picture: so many inputs, no more, no less. But a
dense layer on a map [C, h, w] is a convolution whose kernel is as large as the map: it fits once. And a dense layer
behind it is a convolution with 1 x 1 kernels: at its one place, it mixes channels. Written like that, nothing in
the network asks for a size. Given a larger picture it answers with a map, a classification of every window; and
since windows overlap, it computes once what they share.

Nothing is learned again. The weights are the same numbers in another shape.
"""

from __future__ import annotations

from pathlib import Path

import chart
import cv2
import numpy as np
from drawings import SIDE, crowd, little_faces
from layers import Activation, Chain, Conv, Dense, Flatten, MaxPool, out_size
from lesson import begin
from lesson7_dense_or_convolution import accuracy, train
from neuron import Array, softmax
from PIL import Image

# The dense layers at the end of AlexNet: name, side and channels of the map before, outputs.
ALEXNET_HEADS = (("dense 4,096", 6, 256, 4096), ("dense 4,096", 1, 4096, 4096), ("dense 1,000", 1, 4096, 1000))


def classifier(rng: np.random.Generator) -> Chain:
    """Is this picture of 16 x 16 a face? Convolution, ReLU, pooling, twice, then two dense layers, as LeNet did it."""
    return Chain(
        Conv(1, 8, 3, rng, first=True),  # [8, 14, 14]
        Activation("relu"),
        MaxPool(),  # [8, 7, 7]
        Conv(8, 16, 3, rng),  # [16, 5, 5]
        Activation("relu"),
        MaxPool(),  # [16, 2, 2]; the fifth row and column are left out
        Flatten(),  # [64]
        Dense(64, 24, rng),
        Activation("relu"),
        Dense(24, 2, rng),
    )


def convolutionised(net: Chain) -> Chain:
    """The same network without dense layers.

    The first of them is cut into kernels as large as the map that it read, the others into 1 x 1. `net` must have been used once.
    """
    rng = np.random.default_rng(0)  # its weights are replaced at once
    layers, flat = [], None
    channels = 1
    for layer in net.layers:
        if isinstance(layer, Flatten):
            flat = layer.shape[1:]  # [C, h, w], which the network has seen in its last forward pass
            continue
        if isinstance(layer, Dense):
            w, b = layer.parameters
            c, side = (flat[0], flat[1]) if flat else (channels, 1)
            layer = Conv(c, len(w), side, rng)
            layer.parameters = (w.reshape(len(w), c, side, side), b)
            flat = None
        if isinstance(layer, Conv):
            channels = len(layer.parameters[0])
        layers.append(layer)
    return Chain(*layers)


def work(net: Chain, height: int, width: int) -> int:
    """Multiplications of the convolutions and dense layers for one picture."""
    total = 0
    for layer in net.layers:
        if isinstance(layer, Conv):
            o, c, k, _ = layer.parameters[0].shape
            height, width = (out_size(side, k, layer.stride, layer.pad) for side in (height, width))
            total += o * c * k * k * height * width
        elif isinstance(layer, MaxPool):
            height, width = height // layer.k, width // layer.k
        elif isinstance(layer, Dense):
            total += layer.parameters[0].size
    return total


def one_by_one(net: Chain, scene: Array, step: int) -> Array:
    """The classifier asked about every window in turn: probabilities of a face [rows, columns]."""
    windows = np.lib.stride_tricks.sliding_window_view(scene, (SIDE, SIDE))[::step, ::step]
    rows, columns = windows.shape[:2]
    return softmax(net.forward(windows.reshape(-1, 1, SIDE, SIDE)))[:, 1].reshape(rows, columns)


def at_once(net: Chain, scene: Array) -> Array:
    """The same from one pass over the whole scene."""
    z = net.forward(scene[None, None])  # [1, 2, rows, columns]
    return softmax(z.transpose(0, 2, 3, 1))[0, ..., 1]


def peaks(p: Array, least: float = 0.9) -> list[tuple[int, int]]:
    """Places (row, column) whose probability is above `least` and the largest among their neighbours."""
    around = cv2.dilate(p, np.ones((5, 5)))
    return [(int(i), int(j)) for i, j in zip(*np.nonzero((p == around) & (p > least)))]


def main(out: Path, count: int = 3000, passes: int = 12) -> None:
    net = classifier(np.random.default_rng(0))
    losses = train(net, *little_faces(count), passes, rate=0.2, batch=16)
    print("loss of each pass: " + " ".join(f"{loss:.3f}" for loss in losses))
    right = accuracy(net, *little_faces(1000, seed=1))
    print(f"faces of 16 x 16, {net.count():,} parameters, learned from {count:,}: {right:.1%} of 1,000 new ones right")
    x, shapes = np.zeros((1, 1, SIDE, SIDE)), []
    for layer in net.layers:
        x = layer.forward(x)
        if not isinstance(layer, Activation):
            shapes.append(" × ".join(map(str, x.shape[1:])))
    print(f"  shapes: 1 × {SIDE} × {SIDE} → " + " → ".join(shapes))

    whole = convolutionised(net)
    scene, faces = crowd()
    step = 4  # two poolings: the map has a place for every fourth pixel
    asked, walked = one_by_one(net, scene, step), at_once(whole, scene)
    walked = walked[: len(asked), : asked.shape[1]]
    windows, of_whole = asked.size * work(net, SIDE, SIDE), work(whole, *scene.shape)
    print(f"a scene of {scene.shape[1]} x {scene.shape[0]}: a map of {asked.shape[1]} x {asked.shape[0]} answers")
    print(f"  {asked.size} windows one by one   {windows:>12,} multiplications")
    print(f"  the scene at once        {of_whole:>12,}, {windows / of_whole:.1f} times fewer")
    print(f"  the answers differ by {np.abs(asked - walked).max():.0e} at most")
    found = [(j * step, i * step) for i, j in peaks(walked)]
    hits = sum(any(max(abs(x - fx), abs(y - fy)) <= 4 for fx, fy in found) for x, y in faces)
    print(f"  {len(faces)} faces among 6 imitations: {hits} found, {len(found) - hits} false alarms")

    print("\nAlexNet's heads, dense and as convolutions")
    for name, side, c, o in ALEXNET_HEADS:
        kernel = f"{side} × {side} × {c:,}"
        print(f"  {name} on {kernel:13} = {o:,} kernels of {kernel:13} {(side * side * c + 1) * o:>11,} parameters")
    draw(out, scene, walked, found)


def draw(out: Path, scene: Array, p: Array, found: list[tuple[int, int]], times: int = 3) -> None:
    pixels = np.rint(255 * scene.clip(0, 1)).astype(np.uint8)
    high, wide = pixels.shape[0] * times, pixels.shape[1] * times
    grey = np.repeat(cv2.resize(pixels, (wide, high), interpolation=cv2.INTER_NEAREST)[..., None], 3, -1)
    heat = np.empty_like(grey)
    heat[:] = chart.tint(chart.GREY, 0.12)
    shades = chart.signed(p, 1.0)
    for i, j in np.ndindex(p.shape):  # each answer at the middle of its window
        y, x = (4 * i + SIDE // 2 - 2) * times, (4 * j + SIDE // 2 - 2) * times
        heat[y : y + 4 * times - 1, x : x + 4 * times - 1] = shades[i, j]
    boxed = grey.copy()
    for x, y in found:
        cv2.rectangle(boxed, (x * times, y * times), ((x + SIDE) * times, (y + SIDE) * times), chart.ORANGE, 2)
    panels = (
        chart.captioned(Image.fromarray(boxed), "the scene, and where the map has its peaks"),
        chart.captioned(Image.fromarray(heat), f"the map: {p.shape[1]} × {p.shape[0]} answers, one pass"),
    )
    chart.save(chart.beside(*panels), out / "fully_convolutional.webp")


if __name__ == "__main__":
    main(begin(__doc__).out)
