"""Lesson 6. Your own photo through the kernels: edges, blur, and a kernel that sees colour only.

    python examples/primer/lesson6_edges.py
    python examples/primer/lesson6_edges.py --photo me.jpg       writes me.edges.webp

A colour photo is three deep, and so are its kernels: [3, k, k], the sum runs over the colours too. To look at
brightness, a kernel says the same to red, green and blue. A kernel that says + to red and - to blue is blind to
brightness and answers to colour alone.

Nobody designs these numbers in a network. They begin as noise and are learned; in the first layer, edges and colour
contrasts like the ones below are what usually comes out.
"""

from __future__ import annotations

from pathlib import Path

import chart
import cv2
import numpy as np
from layers import conv
from lesson import begin
from lesson5_convolution import HORIZONTAL, VERTICAL
from neuron import Array
from PIL import Image

from visagist import Photo, VisagistError


def kernels() -> dict[str, Array]:
    """Kernels [3, 5, 5], all of one size so that one convolution does them all: a 3 x 3 one has zeros around it."""
    brightness = np.full((3, 1, 1), 1 / 3)
    colour = np.array([1.0, 0.0, -1.0])[:, None, None]
    return {
        "bright above dark": brightness * np.pad(HORIZONTAL, 1) / 3,
        "bright left of dark": brightness * np.pad(VERTICAL, 1) / 3,
        "blur: mean of 5 × 5": brightness * np.full((5, 5), 1 / 25),
        "red against blue": colour * np.full((5, 5), 1 / 25),
    }


def responses(pixels: Array) -> dict[str, Array]:
    """What each kernel says about a photo uint8 [H, W, 3]: float [H, W], in units of the range from black to white."""
    x = pixels.transpose(2, 0, 1)[None] / 255  # [1, 3, H, W] in [0, 1]
    x = np.pad(x, ((0, 0), (0, 0), (2, 2), (2, 2)), mode="edge")  # zeros would draw an edge around the photo
    w = np.stack(list(kernels().values()))  # [4, 3, 5, 5]
    found = dict(zip(kernels(), conv(x, w, np.zeros(len(w)))[0]))
    found["edges in any direction"] = np.hypot(found["bright above dark"], found["bright left of dark"])
    return found


def sheet(pixels: Array, side: int = 226) -> Image.Image:
    """The photo and its five answers."""
    found = responses(pixels)
    shown = {
        "the photo": pixels,
        "bright above dark": chart.signed(found["bright above dark"], 0.3),  # blue; orange where it is the other way round
        "bright left of dark": chart.signed(found["bright left of dark"], 0.3),
        "edges in any direction": np.rint(250 * (1 - 2 * found["edges in any direction"]).clip(0, 1)).astype(np.uint8),
        "blur: mean of 5 × 5": np.rint(255 * found["blur: mean of 5 × 5"]).astype(np.uint8),
        "red against blue": chart.signed(found["red against blue"], 0.6, hues=(chart.RED, chart.BLUE)),
    }
    high, wide = pixels.shape[:2]
    size = (side, max(1, side * high // wide)) if wide >= high else (max(1, side * wide // high), side)
    panels = [
        chart.captioned(Image.fromarray(p).convert("RGB").resize(size, Image.Resampling.BOX), name) for name, p in shown.items()
    ]
    return chart.below(chart.beside(*panels[:3]), chart.beside(*panels[3:]), gap=4)


def main(out: Path, photo: Path | None = None) -> None:
    if photo is None:
        from skimage.data import astronaut  # NASA's portrait of Eileen Collins, public domain

        pixels, name = astronaut(), "edges.webp"
    else:
        try:
            pixels, name = Photo.open(photo).pixels, f"{photo.stem}.edges.webp"
        except VisagistError as error:
            raise SystemExit(str(error)) from None
    shrink = min(1.0, 400 / max(pixels.shape[:2]))  # edges of a large photo are wider than three pixels
    size = max(1, round(shrink * pixels.shape[1])), max(1, round(shrink * pixels.shape[0]))
    pixels = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    for words, answer in responses(pixels).items():
        print(f"{words:24} from {answer.min():+.2f} to {answer.max():+.2f}, mean size {np.abs(answer).mean():.3f}")
    chart.save(sheet(pixels), out / name)


if __name__ == "__main__":
    said = begin(__doc__, photo="a photo of yours; without one, the astronaut that comes with scikit-image")
    main(said.out, said.photo)
