"""Style transfer by optimisation: the photo is repainted until its features' statistics are those of a painting.

Paper   Gatys, Ecker, Bethge: Image Style Transfer Using Convolutional Neural Networks, CVPR 2016. Settings of the presets `seed`
        and `demo`: the program style-transfer (fzliu, 2015).
Input   a photo, one or more style pictures, uint8 RGB of any size; a feature network (`features.py`) with its weights.
Output  the repainted photo, uint8 RGB; meanwhile the losses of every layer.
Differs by default: sizes from coarse to fine; Gram matrices averaged over positions, which a picture of another size does not
        change; every term measured in parts of what an empty picture would cost, so that `ratio` means the same for any network and
        size; L-BFGS of our own in bfloat16. Faces keep more of the photo. The preset `seed` has none of this.
Read    Gatys (settings, `scales`, `stylize`, `_optimised`); the losses are in `objective.py`, L-BFGS in `descent.py`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from visagist.errors import PhotoError, TrainingError, UsageError
from visagist.photo.face import Face
from visagist.photo.photo import Photo
from visagist.recipe import Networks, Recipe, Stage
from visagist.stylize import canvas, descent
from visagist.stylize.features import Features
from visagist.stylize.objective import Objective, Weights
from visagist.stylize.reader import Reader

LEVELS = 127.5  # grey levels of 0..255 in one unit of [-1, 1]
MIXED = 0.05  # part of the style in the first picture "mixed"
RELATIVE = 1e-2  # with `balance`, a ratio of 1e4 weighs style a hundred times
CHOICES = {
    "init": ("content", "noise", "mixed"),
    "colour": ("style", "keep", "match"),
    "gram": ("normalised", "seed"),
    "method": ("projected", "scipy"),
}
FLOATS = 36  # float32 numbers for each pixel that a run holds: pictures, masks, what an evaluation makes
SIDE = 1024  # larger pictures are read in tiles: their features would not stay in the caches


@dataclass(frozen=True)
class Progress:
    """What a run tells after every iteration, and once at its end.

    scale, scales          which size it is at, from 1
    iteration, iterations  there, from 1
    size                   (height, width) of the picture there
    loss, terms            total, and each weighted term by name ("style conv1_1")
    seconds, left          since the start, and how many more it will take, about
    picture                makes the picture as it is now, uint8 [h, w, 3]
    stopped                the run ends here because somebody interrupted it
    """

    scale: int
    scales: int
    iteration: int
    iterations: int
    size: tuple[int, int]
    loss: float
    terms: Mapping[str, float]
    seconds: float
    left: float
    picture: Callable[[], np.ndarray]
    stopped: bool = False


@dataclass(frozen=True)
class Gatys(Recipe):
    """Preset `default`. There is nothing to train: a run optimises one picture."""

    size: int = 512  # longer side of the result in pixels, 0 for the photo's own
    iterations: int = 120  # of L-BFGS at the coarsest size; half as many at each that is twice as large
    ratio: float = 5e4  # beta / alpha: weight of style over content
    init: str = "content"  # first picture: content, noise, or mixed (19 parts content, one part style)
    spectrum: float = -1.0  # p: amplitudes of the noise go with f^p
    colour: str = "style"  # keep: luminance of the result, chroma of the photo; match: the style recoloured like the photo first
    palette: float = 1.0  # with colour "style": how far the photo takes on the style's colours before it is repainted, 0..1
    guard: float = 0.6  # how far faces keep the photo, 0..1
    smooth: float = 200.0  # weight of squared total variation beyond the photo's own; with `balance` of its mean over positions
    style_scale: float = 1.0  # longer side of the style in parts of the result's
    capped: bool = True  # no more than size² pixels; False: the shorter side at least 224, whatever the longer one becomes
    gram: str = "normalised"  # Gram matrices: averages over positions, or "seed": sums, whatever the style's size
    balance: bool = True  # measure every term in parts of what it is for a picture without features
    method: str = "projected"  # own L-BFGS with projection, or "scipy": L-BFGS-B
    memory: int = 10  # m: steps that L-BFGS remembers
    coarsest: int = 128  # longer side of the coarsest size is at least this; 0: only one size
    detail: float = 0.6  # of what a coarser size could not show of the photo, so much is added before a finer one; not to noise
    lengths: tuple[int, ...] = ()  # longer sides one after the other in parts of the last one, instead of halves
    counts: tuple[int, ...] = ()  # iterations at each of them
    ratios: tuple[float, ...] = ()  # ratio at each of them
    content_layers: tuple[str, ...] = ()  # instead of the network's own, all with the same weight
    style_layers: tuple[str, ...] = ()  # likewise

    ships: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        for name, allowed in CHOICES.items():
            if getattr(self, name) not in allowed:
                raise ValueError(f"there is no {name} {getattr(self, name)!r}, choose {', '.join(allowed)}")
        counts = (self.iterations, self.memory, *self.lengths, *self.counts)
        if min(counts) < 1 or min(self.size, self.coarsest) < 0:
            raise ValueError("iterations, memory and lengths are at least 1, size and coarsest at least 0")
        numbers = (self.ratio, self.smooth, self.guard, self.palette, self.style_scale, self.spectrum, self.detail, *self.ratios)
        if not all(map(math.isfinite, numbers)) or min(self.ratio, self.smooth, *self.ratios) < 0:
            raise ValueError("ratio and smooth are 0 or more")
        if not 0 <= self.guard <= 1 or not 0 <= self.palette <= 1:
            raise ValueError("guard and palette lie between 0 and 1")
        if not 0.05 <= self.style_scale <= 20:
            raise ValueError("style_scale lies between 0.05 and 20")
        if not len(self.lengths) == len(self.counts or self.lengths) == len(self.ratios or self.lengths):
            raise ValueError("lengths, counts and ratios belong together")

    def networks(self) -> Networks:
        return {}

    def stages(self) -> tuple[Stage, ...]:
        hint = "run `visagist stylize`; what can be trained are the systems perceptual and fast-style"
        raise TrainingError("style transfer by optimisation has nothing to train", code="no-data", hint=hint)

    def scales(self, size: int) -> list[tuple[int, int, float]]:
        """Longer side, iterations and ratio of each size, from coarse to fine, for a result whose longer side is `size`."""
        lengths = [max(1, round(size * length / self.lengths[-1])) for length in self.lengths] or [size]
        while not self.lengths and lengths[0] // 2 >= self.coarsest > 0:
            lengths.insert(0, lengths[0] // 2)
        halved = [min(self.iterations, max(10, self.iterations >> number)) for number in range(len(lengths))]
        return list(zip(lengths, self.counts or halved, self.ratios or [self.ratio] * len(lengths), strict=True))

    # use

    def stylize(
        self,
        nets: Mapping[str, nn.Module],
        photo: Photo,
        styles: Sequence[np.ndarray],
        *,
        shares: Sequence[float] = (),
        faces: Sequence[Face] = (),
        seed: int = 0,
        half: bool = False,
        available: float = math.inf,
        progress: Callable[[Progress], bool | None] | None = None,
    ) -> np.ndarray:
        """The photo repainted: uint8 [h, w, 3].

        nets       "features": a feature network, on the device to work on
        styles     one or more pictures uint8 [h, w, 3]; shares: how much of each, default alike
        faces      which to keep more of (`guard`), in pixels of the photo
        seed       of the noise
        half       whether bfloat16 is quicker than float32 on that device
        available  bytes of memory that may be used
        progress   is told after every iteration; True ends the run there
        A KeyboardInterrupt ends the run too: what there is so far comes back, and `progress` is told `stopped`. Before the first
        iteration there is nothing yet, and it goes on to the caller.
        PhotoError "too-large" before anything is computed when the memory will not do; it says which size would.
        """
        net = nets["features"]
        assert isinstance(net, Features)
        scales = self.scales(self.size or max(photo.size))
        shares = _shares(shares, len(styles))
        content_layers, style_layers = self.layers(net)
        device = next(net.parameters()).device
        reader = Reader(net, {**content_layers, **style_layers}, torch.bfloat16 if half else torch.float32, device)
        shapes = [photo.size, *(style.shape[:2] for style in styles)]
        tile = self._tile(reader, net, shapes, scales[-1][0], available)
        finest, *fitting = self._sizes(shapes, scales[-1][0], net.least)
        content = canvas.floated(photo.pixels, finest)
        wanted = [canvas.floated(style, size) for style, size in zip(styles, fitting)]
        if self.colour != "style":
            wanted = [canvas.recoloured(style, content) for style in wanted]
        repainted = self._toned(content, wanted, shares)
        rng = np.random.default_rng(seed)
        return _Painting(self, net, reader, tile, photo.size, content, repainted, wanted, shares, faces, rng, progress).run(scales)

    def _toned(self, content: np.ndarray, styles: Sequence[np.ndarray], shares: Sequence[float]) -> np.ndarray:
        """The photo in the styles' colours, as far as `palette` says: L-BFGS by itself hardly gets there from the photo's own."""
        if self.colour != "style" or not self.palette:
            return content
        toned = sum(share * canvas.recoloured(content, style) for style, share in zip(styles, shares))
        return (content + self.palette * (toned - content)).astype(np.float32)

    def layers(self, net: Features) -> tuple[Mapping[str, float], Mapping[str, float]]:
        """Weights of the content layers and of the style layers of this network. UsageError for a layer it does not have."""
        for name in (*self.content_layers, *self.style_layers):
            if name not in net.layers:
                hint = "it has " + ", ".join(net.layers)
                raise UsageError(f"this network has no layer {name[:40]!r}", code="usage", hint=hint)
        content, style = (
            dict.fromkeys(names, 1 / len(names)) if names else {} for names in (self.content_layers, self.style_layers)
        )
        return content or net.content, style or net.style

    def style_size(self, size: tuple[int, int], long: int, least: int = 1) -> tuple[int, int]:
        """(height, width) of a style for a result whose longer side is `long`."""
        height, width = canvas.fitted(size, long, capped=self.capped)
        return max(least, round(height * self.style_scale)), max(least, round(width * self.style_scale))

    def _sizes(self, shapes: Sequence[tuple[int, int]], long: int, least: int) -> list[tuple[int, int]]:
        """(height, width) of the photo and of the styles, whose sizes are `shapes`, for a result whose longer side is `long`."""
        photo, *styles = shapes
        finest = canvas.fitted(photo, long, least=least, capped=self.capped)
        return [finest, *(self.style_size(style, long, least) for style in styles)]

    def memory_for(
        self,
        reader: Reader,
        size: tuple[int, int],
        tile: int,
        *,
        styles: Sequence[tuple[int, int]] = (),
        content: Collection[str] = (),
    ) -> float:
        """Bytes that a run takes for a picture of this size (height, width), read in tiles of this side.

        styles   sizes of the style pictures
        content  the content layers, whose features are kept whole
        """
        height, width = size
        if self.method == "scipy":  # a workspace of (2 m + 5) n in float64, and SciPy's own copies of x, bounds and gradient
            solver = 8 * 3 * (3 * self.memory + 46)
        else:  # m pairs, directions and trials; buffers that are freed and taken again leave as many between them
            solver = 4 * 3 * (4 * self.memory + 16)
        margin = 2 * reader.reach + 2 * reader.stride
        read = max(reader.memory(min(h, tile + margin), min(w, tile + margin)) for h, w in (size, *styles))
        targets = 2 * reader.kept(content, height, width)  # in pieces, then put together
        shown = 4 * 3 * 3 * sum(h * w for h, w in styles)  # as arrays, one being brought to its size, as tensors
        return (solver + 4 * FLOATS) * float(height * width) + read + targets + shown

    def _tile(self, reader: Reader, net: Features, shapes: Sequence[tuple[int, int]], long: int, available: float) -> int:
        """The side of tiles with which pictures of these sizes fit into memory. PhotoError "too-large" where none does."""

        def needed(length: int, tile: int) -> float:
            size, *styles = self._sizes(shapes, length, net.least)
            return self.memory_for(reader, size, tile, styles=styles, content=self.layers(net)[0])

        for tile in (SIDE, 768, 512, 384, 256):
            if needed(long, tile) <= available:
                return tile
        (height, width), *_ = self._sizes(shapes, long, net.least)
        fits = next((n for n in range(long, 31, -32) if needed(n, 256) <= available), 0)
        what = f"{width}x{height} takes about {needed(long, 256) / 1e9:.1f} GB of memory and {available / 1e9:.1f} GB are free"
        hint = "free some, or choose a lighter network" if self.style_scale <= 1 else "free some, or choose a smaller style_scale"
        raise PhotoError(what, code="too-large", hint=f"--size {fits} would fit" if fits else hint)


@dataclass
class _Painting:
    """One run: what `Gatys.stylize` was given, and the picture float32 [h, w, 3] in [-1, 1] as it is.

    content  the photo; toned: the photo in the style's colours, which is what is repainted
    """

    recipe: Gatys
    net: Features
    reader: Reader
    tile: int
    photo_size: tuple[int, int]
    content: np.ndarray
    toned: np.ndarray
    styles: Sequence[np.ndarray]
    shares: Sequence[float]
    faces: Sequence[Face]
    rng: np.random.Generator
    progress: Callable[[Progress], bool | None] | None
    told: Progress | None = None
    ended: bool = False

    def run(self, scales: Sequence[tuple[int, int, float]]) -> np.ndarray:
        """From the coarsest size to the finest. What an interrupt leaves is brought to the finest size."""
        capped = self.recipe.capped
        self.sizes = [canvas.fitted(self.photo_size, long, least=self.net.least, capped=capped) for long, _, _ in scales]
        self.work = [count * h * w for (_, count, _), (h, w) in zip(scales, self.sizes)]
        self.began = time.monotonic()
        self.picture = self._first(self.sizes[0])
        try:
            for number, (long, count, ratio) in enumerate(scales):
                self._optimise(number, long, count, ratio)
                if self.ended:
                    break
        except KeyboardInterrupt:
            if self.told is None:  # the photo with other colours is no painting
                raise
            if self.progress is not None:
                self.progress(replace(self.told, stopped=True))
        return self._finished(self.picture)

    def _first(self, size: tuple[int, int]) -> np.ndarray:
        """The picture that the optimisation starts from."""
        recipe = self.recipe
        if recipe.init == "noise":
            return canvas.noise(size, recipe.spectrum, self.rng)
        content = canvas.resized(self.toned, size)
        if recipe.init == "content":
            return content
        styles = sum(share * canvas.resized(style, size) for style, share in zip(self.styles, self.shares))
        return ((1 - MIXED) * content + MIXED * styles).astype(np.float32)

    def _optimise(self, number: int, long: int, count: int, ratio: float) -> None:
        """Improves the picture at one size."""
        recipe, size = self.recipe, self.sizes[number]
        styles = []
        for style, share in zip(self.styles, self.shares):
            fitting = recipe.style_size(style.shape[:2], long, self.net.least)
            styles.append((self._tensor(canvas.resized(style, fitting)), share))
        objective = Objective(
            self.reader, self._tensor(canvas.resized(self.toned, size)), styles, self._weights(size, ratio),
            form=recipe.gram, balance=recipe.balance, tile=self.tile,
        )  # fmt: skip
        done = 0

        def told(x: Tensor, loss: float) -> bool:
            nonlocal done
            done += 1
            self.picture = x[0].permute(1, 2, 0).cpu().numpy()
            return self._tell(number, done, count, loss, dict(objective.terms))

        self.picture = self._grown(size)
        x = self._tensor(self.picture)
        if recipe.method == "scipy":
            descent.with_scipy(objective, x, told, low=-1, high=1, iterations=count, memory=recipe.memory)
        else:
            descent.projected(objective, x, told, low=-1, high=1, iterations=count, memory=recipe.memory)

    def _grown(self, size: tuple[int, int]) -> np.ndarray:
        """The picture at the next size, with the photo's edges and lines that the size before was too coarse for."""
        before = self.picture.shape[:2]
        if self.told is None and before != size:  # nothing had to be painted so far: the photo in its own style
            return self._first(size)
        grown = canvas.resized(self.picture, size)
        if before == size or self.recipe.init == "noise" or not self.recipe.detail:
            return grown
        content = canvas.resized(self.toned, size)
        lost = content - canvas.resized(canvas.resized(content, before), size)
        return np.clip(grown + np.float32(self.recipe.detail) * lost, -1, 1)

    def _weights(self, size: tuple[int, int], ratio: float) -> Weights:
        recipe, mask = self.recipe, self._mask(size)
        content, style = recipe.layers(self.net)
        counted = None if mask is None else torch.from_numpy(mask).to(self.reader.device)
        return Weights(content, style, ratio * (RELATIVE if recipe.balance else 1), recipe.smooth, counted, recipe.guard)

    def _mask(self, size: tuple[int, int]) -> np.ndarray | None:
        """Where faces are that shall be kept, float32 [h, w] in 0..1; None where there are none."""
        if not self.faces or not self.recipe.guard:
            return None
        return canvas.face_mask(self.faces, size, (size[0] / self.photo_size[0], size[1] / self.photo_size[1]))

    def _tell(self, number: int, done: int, count: int, loss: float, terms: Mapping[str, float]) -> bool:
        """Tells `progress` how far the run is. The time that is left follows from pixels times iterations."""
        behind = sum(self.work[:number]) + self.work[number] * done / count
        seconds = time.monotonic() - self.began
        left = seconds * (sum(self.work) - behind) / behind
        picture = self.picture
        self.told = Progress(
            number + 1, len(self.work), done, count, self.sizes[number], loss, terms, seconds, left,
            lambda: self._finished(picture, self.sizes[number]),
        )  # fmt: skip
        self.ended = bool(self.progress is not None and self.progress(self.told))
        return self.ended

    def _finished(self, picture: np.ndarray, size: tuple[int, int] | None = None) -> np.ndarray:
        """uint8 [h, w, 3] in the colours asked for, at the finest size or at this one."""
        size = size or self.sizes[-1]
        picture, content = canvas.resized(picture, size), canvas.resized(self.content, size)
        if self.recipe.colour == "keep":
            picture = canvas.with_colours_of(content, picture)
        if (mask := self._mask(size)) is not None:
            face = content if self.recipe.colour == "keep" else canvas.resized(self.toned, size)
            picture = canvas.with_faces_of(face, picture, mask, self.recipe.guard)
        return np.clip(np.rint((picture + 1) * LEVELS), 0, 255).astype(np.uint8)

    def _tensor(self, picture: np.ndarray) -> Tensor:
        """[1, 3, h, w] on the device, for a picture [h, w, 3]."""
        return torch.from_numpy(np.ascontiguousarray(picture.transpose(2, 0, 1)))[None].to(self.reader.device)


def _shares(given: Sequence[float], count: int) -> list[float]:
    """The shares of `count` styles, adding up to 1. UsageError "usage" where they make no sense."""
    shares = list(given) or [1.0] * count
    if not count or len(shares) != count or not all(math.isfinite(s) and s >= 0 for s in shares) or not sum(shares):
        what = f"{len(shares)} weights for {count} styles" if len(shares) != count else "the weights of the styles make no sense"
        raise UsageError(what, code="usage", hint="give each style a number of 0 or more, not all of them 0")
    return [share / sum(shares) for share in shares]
