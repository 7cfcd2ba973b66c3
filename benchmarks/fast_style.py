"""The fast painter against the paper's network as it is commonly written: time and memory for a photo, time of a training step.

    python benchmarks/fast_style.py [--model fast-style-starry-night] [--sizes 256 512 1024] [--repeats 7] [--threads N] [--train]

`paper` is the network of Johnson et al. with instance norm: 9x9, two strided 3x3, five residual blocks of 128 channels, two
transposed 3x3, 9x9; 1,679,235 parameters, float32, as one calls it without further thought. `ours` is what `visagist stylize` runs,
photo in, uint8 out, resizing included; without weights, or with --model none, freshly drawn ones, which take as long.

Prints JSON: for each size (square photographs, skimage's astronaut) the median seconds of both, in turns, and their ratio; by how
many megabytes a process of its own grows; what `visagist.stylize(photo, painting)` takes from end to end once it is warm (512 px,
with the default search for faces and without); with --train, seconds of one training step of ours with the bundled feature network
and of its parts. Seconds are of the clock: both use all threads, so keep the machine free.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

from measuring import grown_in_child, medians, report_growth  # isort: skip  first: it sets the process up

import numpy as np
import torch
from skimage.data import astronaut
from torch import Tensor, nn
from torch.nn import functional as F

import visagist
from visagist import catalog
from visagist.errors import WeightsError
from visagist.photo.photo import Photo
from visagist.recipe import Item, Run, Tools
from visagist.stylize.fast_style import FastStyle
from visagist.stylize.perceptual import Perceptual
from visagist.training.feed import batches
from visagist.weights import device as devices

CPU = torch.device("cpu")


class Paper(nn.Module):
    """Johnson et al., supplement table 1, with the instance norm that everybody uses since."""

    def __init__(self) -> None:
        super().__init__()

        def layer(inner: int, outer: int, kernel: int, stride: int = 1) -> nn.Sequential:
            convolution = nn.Conv2d(inner, outer, kernel, stride, padding=kernel // 2, padding_mode="reflect")
            return nn.Sequential(convolution, nn.InstanceNorm2d(outer, affine=True))

        def up(inner: int, outer: int) -> nn.Sequential:
            convolution = nn.ConvTranspose2d(inner, outer, 3, 2, padding=1, output_padding=1)
            return nn.Sequential(convolution, nn.InstanceNorm2d(outer, affine=True))

        self.enter = nn.Sequential(layer(3, 32, 9), nn.ReLU(), layer(32, 64, 3, 2), nn.ReLU(), layer(64, 128, 3, 2), nn.ReLU())
        self.blocks = nn.ModuleList(nn.Sequential(layer(128, 128, 3), nn.ReLU(), layer(128, 128, 3)) for _ in range(5))
        self.leave = nn.Sequential(up(128, 64), nn.ReLU(), up(64, 32), nn.ReLU())
        self.last = nn.Conv2d(32, 3, 9, padding=4, padding_mode="reflect")

    def forward(self, x: Tensor) -> Tensor:
        h = self.enter(x)
        for block in self.blocks:
            h = h + block(h)
        return torch.tanh(self.last(self.leave(h)))


def paper() -> Callable[[Photo], object]:
    torch.manual_seed(0)
    net = Paper().eval()

    def paint(photo: Photo) -> np.ndarray:
        x = torch.from_numpy(photo.pixels.copy()).permute(2, 0, 1)[None].float() / 127.5 - 1
        with torch.no_grad():
            y = (net(x)[0].permute(1, 2, 0) + 1) * 127.5
        return y.clamp(0, 255).round().byte().numpy()

    return paint


def ours(model: str) -> Callable[[Photo], object]:
    try:
        loaded = catalog.load(model, "cpu", verb="stylize") if model != "none" else None
    except WeightsError as error:
        print(error.line(), file=sys.stderr)
        loaded = None
    torch.manual_seed(0)
    recipe = FastStyle() if loaded is None else loaded.recipe
    nets = loaded.nets if loaded is not None else {"painter": devices.prepare(FastStyle().networks()["painter"], CPU)}

    def paint(photo: Photo) -> np.ndarray:
        with torch.inference_mode():
            painted: np.ndarray = recipe.stylize(nets, photo, size=0)
        return painted

    return paint


def whole(repeats: int, size: int = 512) -> dict[str, float]:
    """Seconds of `visagist.stylize` of a portrait, medians of calls after the first, with the search for faces and without."""
    photo = square(size)

    def call(**settings: float) -> Callable[[Photo], object]:
        return lambda photo: visagist.stylize(photo, "starry-night", size=size, device="cpu", **settings)

    found = medians({"with_faces_s": call(), "without_faces_s": call(guard=0.0)}, [photo] * repeats)
    return {name: round(clock, 4) for name, (_, clock) in found.items()}


def square(size: int) -> Photo:
    pixels = torch.from_numpy(astronaut().copy()).permute(2, 0, 1)[None].float()
    return Photo.of(F.interpolate(pixels, (size, size), mode="bilinear")[0].permute(1, 2, 0).round().byte().numpy())


def training(repeats: int) -> dict[str, float]:
    """Seconds of a step and of its parts, medians."""
    recipe = FastStyle(style="astronaut")
    photo = square(512)
    try:
        features = catalog.load("perceptual", "cpu").nets["features"]
    except WeightsError:
        features = devices.prepare(Perceptual().networks()["features"], CPU)
    nets = recipe.networks()
    *_, stage = recipe.stages()
    assert stage.optimizers is not None
    precision = "bf16" if devices.quick_bfloat16(CPU) else "fp32"
    tools = Tools(None, lent={"features": {"features": features}}, pictures={"style": photo})
    run = Run(nets, stage.optimizers(nets), stage, 0, CPU, precision, tools=tools)
    items = [Item("astronaut", lambda: photo)]
    feed = list(batches(recipe, items, seed=0, stage=0, batch=stage.batch, first=0, last=repeats + 1))
    x = torch.rand(stage.batch, 3, recipe.crop, recipe.crop).contiguous(memory_format=torch.channels_last)

    def painter_alone() -> None:
        with run.autocast():
            painted = nets["painter"](x)
        painted.square().mean().backward()

    def features_alone() -> None:
        y = x.clone().requires_grad_()
        found = features(y, {*features.content, *features.style})  # type: ignore[misc]
        torch.stack([f.square().mean() for f in found.values()]).sum().backward()

    recipe.step(run, feed[0])
    seconds: dict[str, list[float]] = {"step": [], "painter": [], "features": []}
    for batch in feed[1:]:
        for name, work in (("step", lambda b=batch: recipe.step(run, b)), ("painter", painter_alone), ("features", features_alone)):
            start = time.perf_counter()
            work()  # type: ignore[no-untyped-call]
            seconds[name].append(time.perf_counter() - start)
    return {name: round(statistics.median(of), 4) for name, of in seconds.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="fast-style")
    parser.add_argument("--sizes", type=int, nargs="+", default=[256, 512, 1024])
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--train", action="store_true")
    parser.add_argument("--grow", nargs=2, help=argparse.SUPPRESS)  # in a process of its own: which network, which size
    given = parser.parse_args()
    if given.threads:
        torch.set_num_threads(given.threads)
    if given.grow:
        use = paper() if given.grow[0] == "paper" else ours(given.model)
        use(square(64))
        photo = square(int(given.grow[1]))
        report_growth(lambda: use(photo))
        return
    uses = {"paper": paper(), "ours": ours(given.model)}
    report: dict[str, object] = {"threads": torch.get_num_threads(), "photos": {}}
    sizes: dict[int, dict[str, float | None]] = {}
    for size in given.sizes:
        found = {name: clock for name, (_, clock) in medians(uses, [square(size)] * given.repeats).items()}
        row: dict[str, float | None] = {f"{name}_s": round(value, 4) for name, value in found.items()}
        row["ratio"] = round(found["paper"] / found["ours"], 2)
        for name in uses:
            row[f"{name}_mb"] = grown_in_child(str(Path(__file__)), "--grow", name, str(size), "--model", given.model)
        sizes[size] = row
        print(size, row, file=sys.stderr, flush=True)
    report["photos"] = sizes
    report["stylize"] = whole(given.repeats)
    if given.train:
        report["training"] = training(given.repeats)
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
