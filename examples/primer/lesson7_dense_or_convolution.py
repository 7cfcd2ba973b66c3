"""Lesson 7. Dense against convolution: what is gained when every place shares the same few weights.

    python examples/primer/lesson7_dense_or_convolution.py
    python examples/primer/lesson7_dense_or_convolution.py --folder pets        pictures of yours: pets/cat/*.jpg, pets/dog/*.jpg

A dense layer has a weight for every pair of an input and an output. A convolution is a dense layer, too, with two
rules added: an output sees only its neighbourhood (all other weights are 0), and every output has the same weights.
Both rules say something true about pictures. So it needs few weights, and what it has learned in one place it knows
in all places. A dense network that has only ever seen digits in the middle is lost when one stands somewhere else.
"""

from __future__ import annotations

from pathlib import Path

import chart
import numpy as np
from drawings import digits
from layers import Activation, Chain, Conv, Dense, Flatten, Layer, conv
from lesson import begin
from neuron import Array, cross_entropy
from PIL import Image

from visagist.errors import VisagistError
from visagist.training.data.readers import read

# The two-convolution model for pictures of 32 x 32 x 3: what it is, its output, its parameters.
CONV2 = (
    ("convolution 10 of 3 × 3 × 3", (10, 32, 32), (3 * 3 * 3 + 1) * 10),
    ("convolution 20 of 3 × 3 × 10", (20, 32, 32), (3 * 3 * 10 + 1) * 20),
    ("flatten", (20_480,), 0),
    ("dense 10", (10,), (20_480 + 1) * 10),
)


def as_matrix(w: Array, height: int, width: int, stride: int = 1, pad: int = 0) -> Array:
    """The dense layer [O H' W', C H W] that does what the kernels w [O, C, k, k] do: each column answers one pixel switched on."""
    inputs = w.shape[1] * height * width
    pixels = np.eye(inputs).reshape(inputs, w.shape[1], height, width)
    return conv(pixels, w, np.zeros(len(w)), stride, pad).reshape(inputs, -1).T


class TopOfEachMap(Layer):
    """[N, C, H, W] -> [N, C]: the largest answer of every kernel, wherever it was."""

    def forward(self, x: Array) -> Array:
        self.shape = x.shape
        flat = x.reshape(*x.shape[:2], -1)
        self.winner = flat.argmax(-1)[..., None]
        return np.take_along_axis(flat, self.winner, -1)[..., 0]

    def backward(self, dy: Array) -> Array:
        dx = np.zeros((*self.shape[:2], self.shape[2] * self.shape[3]))
        np.put_along_axis(dx, self.winner, dy[..., None], -1)
        return dx.reshape(self.shape)


def dense_of(inputs: int, hidden: int, classes: int, rng: np.random.Generator) -> Chain:
    """h(d + 1) + k(h + 1) parameters"""
    return Chain(Flatten(), Dense(inputs, hidden, rng), Activation("relu"), Dense(hidden, classes, rng))


def dense_net(rng: np.random.Generator) -> Chain:
    """784-30-10: 23,860 parameters"""
    return dense_of(784, 30, 10, rng)


def conv_net(rng: np.random.Generator) -> Chain:
    """8 kernels of 5 x 5, 24 of 3 x 3, then the strongest answer of each: 2,210 parameters"""
    first = (Conv(1, 8, 5, rng, stride=2, pad=2, first=True), Activation("relu"))  # [8, 14, 14]
    second = (Conv(8, 24, 3, rng), Activation("relu"))  # [24, 12, 12]
    return Chain(*first, *second, TopOfEachMap(), Dense(24, 10, rng))


def train(net: Chain, x: Array, labels: Array, passes: int, rate: float = 0.1, batch: int = 32, seed: int = 0) -> list[float]:
    """Gradient descent on small batches in random order; the mean loss of every pass."""
    rng = np.random.default_rng(seed)
    losses = []
    for _ in range(passes):
        total = 0.0
        order = rng.permutation(len(x))
        for start in range(0, len(x), batch):
            chosen = order[start : start + batch]
            loss, dz = cross_entropy(net.forward(x[chosen]), labels[chosen])
            net.backward(dz)
            net.descend(rate)
            total += loss * len(chosen)
        losses.append(total / len(x))
    return losses


def accuracy(net: Chain, x: Array, labels: Array) -> float:
    return float((net.forward(x).argmax(1) == labels).mean())


def main(out: Path, count: int = 1000, passes: int = 12, new: int = 500) -> None:
    draw_matrix(out)

    print("\nthe two-convolution model for pictures of 32 x 32 x 3")
    for name, shape, parameters in CONV2:
        print(f"  {name:30}{'×'.join(map(str, shape)):>12}{parameters:>10,}")
    print(f"  {'together':42}{sum(row[2] for row in CONV2):>10,}")
    print(f"  its first layer as a dense one, 3,072 -> 10,240, would have {3072 * 10_240 + 10_240:,} instead of 280")
    print("  nothing bends between the two convolutions: together they are one linear map. An activation is missing.")

    print(f"\ndigits: learned from {count:,} in the middle of the picture, tested on {new} new ones that are shifted")
    nets = {"dense": dense_net(np.random.default_rng(0)), "convolution": conv_net(np.random.default_rng(0))}
    shifts = range(7)
    tests = [digits(new, seed=100 + shift, shift=shift) for shift in shifts]
    learned: dict[str, list[float]] = {}
    for name, net in nets.items():
        losses = train(net, *digits(count), passes)
        learned[name] = [accuracy(net, *test) for test in tests]
        print(f"  {name:12}loss of each pass: " + " ".join(f"{loss:.2f}" for loss in losses))
        print(f"  {name:12}{net.count():>7,} parameters, loss {losses[-1]:.3f}, right by shift: ", end="")
        print(" ".join(f"{right:.0%}" for right in learned[name]))
    draw_digits(out, nets, learned, tests)


# ---- a folder of yours


def read_folder(path: Path, most: int = 500, seed: int = 0) -> tuple[list[str], tuple[Array, Array], tuple[Array, Array]]:
    """Names of the classes; then pictures [N, 3, 32, 32] from -1 to 1 with labels [N], to learn from and to be tested on.

    Read is what `visagist train cifar-dense` reads: CLASS/*.png, or these below train and test, the same in tar files, and CIFAR's
    binary files. Without a test a fifth is kept for it, drawn from the seed; of more than `most` pictures that many are drawn.
    """
    rng = np.random.default_rng(seed)
    try:
        items = [item for item in read(path, needs=("label",)) if "class" in item.facts]
        names = sorted({str(item.facts["class"]) for item in items})
        if len(names) < 2:
            raise SystemExit(f"{path}: needs a folder for each class, at least two")
        order = rng.permutation(len(items))
        tests = {i for i in order if items[i].facts.get("fold") == "dev"} or set(order[: max(1, len(items) // 5)])
        shown, asked = ([i for i in order if (i in tests) == wanted] for wanted in (False, True))

        def pictures(chosen: list[int]) -> tuple[Array, Array]:
            made = [small(items[i].photo.pixels) for i in chosen[:most]]
            return np.array(made), np.array([names.index(str(items[i].facts["class"])) for i in chosen[:most]])

        return names, pictures(shown), pictures(asked)
    except VisagistError as error:
        raise SystemExit(error.line()) from None


def small(pixels: Array, side: int = 32) -> Array:
    """uint8 [H, W, 3] -> the square in the middle, averaged, [3, side, side] from -1 to 1."""
    height, width = pixels.shape[:2]
    length = min(height, width)
    left, top = (width - length) // 2, (height - length) // 2
    picture = Image.fromarray(pixels).resize((side, side), Image.Resampling.BOX, (left, top, left + length, top + length))
    return np.asarray(picture).transpose(2, 0, 1) / 127.5 - 1


def learn_folder(path: Path, passes: int = 12) -> None:
    names, shown, asked = read_folder(path)
    print(f"{len(names)} classes: {', '.join(names)}; learned from {len(shown[1])} pictures, tested on {len(asked[1])} others")
    rng = np.random.default_rng(0)
    first = (Conv(3, 8, 5, rng, stride=2, pad=2, first=True), Activation("relu"))
    sliding = Chain(*first, Conv(8, 24, 3, rng), Activation("relu"), TopOfEachMap(), Dense(24, len(names), rng))
    for name, net in (("dense", dense_of(3072, 32, len(names), rng)), ("convolution", sliding)):
        losses = train(net, *shown, passes, rate=0.02)
        right = [accuracy(net, *pictures) for pictures in (shown, asked)]
        print(f"  {name:12}{net.count():>8,} parameters, loss {losses[-1]:.3f}, right {right[0]:.0%}, of the others {right[1]:.0%}")


# ---- pictures


def draw_matrix(out: Path) -> None:
    """A kernel, and the same as a dense matrix: nine colours, in bands, and nothing else."""
    kernel = np.arange(9, 0, -1).reshape(3, 3).astype(float)
    matrix = as_matrix(kernel[None, None], 6, 6)
    hues = np.array([chart.tint(chart.HUES[i // 3], (0.35, 0.65, 1)[i % 3]) for i in range(9)], np.uint8)
    blank = np.array(chart.tint(chart.GREY, 0.1), np.uint8)
    colours = np.where(matrix[..., None] > 0, hues[matrix.astype(int) - 1], blank)
    small = chart.cells(kernel, side=40, colours=hues[kernel.astype(int) - 1], digits="", title="a kernel: 9 weights")
    large = chart.cells(
        matrix,
        side=15,
        colours=colours,
        digits="",
        title=f"the same as a dense layer, 36 inputs, 16 outputs: {matrix.size} weights",
    )
    chart.save(chart.beside(small, large, gap=24), out / "matrix.png")


def draw_digits(out: Path, nets: dict[str, Chain], learned: dict[str, list[float]], tests: list[tuple[Array, Array]]) -> None:
    right = chart.Chart(
        (0, 6), (0, 1), width=350, height=300, title="digits that stand elsewhere", across="pixels off the middle", up="right"
    )
    for (name, values), hue in zip(learned.items(), (chart.ORANGE, chart.BLUE)):
        right.line(range(len(values)), values, hue)
        right.dots(range(len(values)), values, hue)
        right.note(*{"dense": (2.2, 0.45), "convolution": (2.2, 0.88)}[name], f"{name}, {nets[name].count():,} weights", hue)

    def row(weights: Array, times: int) -> Image.Image:
        return chart.beside(*[chart.enlarged(chart.signed(w), times) for w in weights], gap=6)

    seen = [np.rint(255 * (1 - x[7, 0]).clip(0, 1)).astype(np.uint8) for x, _ in tests]
    shown = chart.below(
        chart.captioned(chart.beside(*[chart.enlarged(x, 2) for x in seen], gap=6), "a digit, 0 to 6 pixels off the middle"),
        chart.captioned(
            row(nets["convolution"].layers[0].parameters[0][:, 0], 8), "all 8 kernels of 5 × 5 of the first convolution"
        ),
        chart.captioned(
            row(nets["dense"].layers[1].parameters[0][:8].reshape(8, 28, 28), 2), "8 of the 30 dense units: 28 × 28 weights each"
        ),
        gap=16,
    )
    chart.save(chart.beside(right.picture(), shown, gap=24), out / "shifted.png")


if __name__ == "__main__":
    said = begin(__doc__, folder="pictures in a folder for each class")
    if said.folder:
        learn_folder(said.folder)
    else:
        main(said.out)
