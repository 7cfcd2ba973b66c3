"""A painting's manner in one pass: a small network that has learnt to repaint any photo in the style of one painting.

Paper   Johnson, Alahi, Fei-Fei: Perceptual Losses for Real-Time Style Transfer and Super-Resolution, ECCV 2016. Instance norm:
        Ulyanov, Vedaldi, Lempitsky: Improved Texture Networks, CVPR 2017. Enlarging before a convolution, against checkerboards:
        Odena, Dumoulin, Olah: Deconvolution and Checkerboard Artifacts, Distill 2016.
Input   float RGB [B, 3, H, W] in [-1, 1], sides multiples of 4.
Output  the same shape, repainted.
Differs half the widths (880,739 parameters of 1,679,235), the first layer 5x5, halving by 2x2 convolutions, losses by our own
        feature network instead of VGG-16, each in parts of what it is for an empty picture; the photo is first given the mean and
        covariance of the painting's colours, and what the network paints is added to that.
Read    Painter (network), Target and the losses, FastStyle (training), FastStyle.stylize (use on a photo).

The network sees a photo at the size that the result shall have. Strokes have the size in pixels that they had in the painting as it
was shown in training (`painting` px on its longer side): at `size` 512 they are as large as in the painting.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, cast

import cv2
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from visagist.errors import PhotoError, TrainingError, UsageError
from visagist.photo.face import Face
from visagist.photo.photo import Photo
from visagist.recipe import Batch, Item, Networks, Recipe, Run, Scalars, Stage, Tools
from visagist.stylize import canvas
from visagist.stylize.features import Features, gram

LEAST = 8  # shortest side of a result in pixels
STRIDE = 4  # sides of pictures are multiples of this inside the network
MEASURED = 24  # at most so many pictures are measured on

# --- colours ----------------------------------------------------------------------------------------------------------------


def mean_and_root(x: Tensor) -> tuple[Tensor, Tensor]:
    """Of the colours of pictures [B, 3, H, W]: mean [B, 3, 1] and the symmetric root of the covariance [B, 3, 3], in float64."""
    colours = x.double().flatten(2)
    mean = colours.mean(2, keepdim=True)
    spread = (colours - mean) @ (colours - mean).transpose(1, 2) / colours.shape[2]
    values, vectors = torch.linalg.eigh(spread)
    return mean, (vectors * values.clamp_min(1e-5).sqrt()[:, None]) @ vectors.transpose(1, 2)


class Palette(nn.Module):
    """Pictures [B, 3, H, W] -> with mean and covariance of a painting's colours, within [-1, 1] (as `canvas.recoloured`)."""

    mean: Tensor
    root: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(3, 1))
        self.register_buffer("root", torch.eye(3) / 2)

    def take(self, painting: Tensor) -> None:
        """Learn the colours of a painting [1, 3, H, W]."""
        mean, root = mean_and_root(painting)
        self.mean.copy_(mean[0])
        self.root.copy_(root[0])

    def forward(self, x: Tensor) -> Tensor:
        mean, root = mean_and_root(x)
        out = self.root.double() @ torch.linalg.inv(root) @ (x.double().flatten(2) - mean) + self.mean.double()
        return out.clamp(-1, 1).float().view(x.shape).contiguous(memory_format=torch.channels_last)


# --- network ----------------------------------------------------------------------------------------------------------------


def affine(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """x [B, C, H, W] * scale [B, C] + shift [B, C]. Few channels that lie last make short inner loops, ten times as slow as they
    need be; then whole rows are multiplied at once."""
    b, c, h, w = x.shape
    scale, shift = scale.to(x.dtype), shift.to(x.dtype)
    if c < 64 and x.is_contiguous(memory_format=torch.channels_last):
        rows = x.permute(0, 2, 3, 1).reshape(b, h, w * c)
        out = torch.addcmul(shift.repeat(1, w)[:, None], rows, scale.repeat(1, w)[:, None])
        return out.view(b, h, w, c).permute(0, 3, 1, 2)
    return torch.addcmul(shift[..., None, None], x, scale[..., None, None])


class Normalised(torch.autograd.Function):
    """Instance norm with its gradient by hand: on a CPU 4 times as fast as what autograd makes of it, for it is bound by memory.

    y = w n + b with n = (x - mean) / deviation, so dx = (w / deviation) (dy - mean(dy) - n mean(dy n)).
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        mean = x.mean((2, 3), dtype=torch.float32)  # [B, C]
        square = (x * x).mean((2, 3), dtype=torch.float32)
        inverse = torch.rsqrt((square - mean * mean).clamp_min(0) + 1e-5)
        ctx.save_for_backward(x, weight, mean, inverse)
        return affine(x, weight * inverse, bias - mean * weight * inverse)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor, Tensor, Tensor]:
        x, weight, mean, inverse = ctx.saved_tensors
        (dy,) = gradients
        along = dy.mean((2, 3), dtype=torch.float32)  # mean(dy)
        across = ((dy * x).mean((2, 3), dtype=torch.float32) - mean * along) * inverse  # mean(dy n)
        scale = weight * inverse
        dx = affine(x, -scale * across * inverse, scale * (across * mean * inverse - along))
        count = x.shape[2] * x.shape[3]
        return dx.add_(affine(dy, scale, torch.zeros_like(scale))), (across * count).sum(0), (along * count).sum(0)


class InstanceNorm(nn.Module):
    """Every channel of every picture to mean 0 and variance 1, then scale and shift that are learnt (Ulyanov et al., eq. 3)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = Normalised.apply(x, self.weight, self.bias)
        return out


def layer(inner: int, outer: int, kernel: int) -> nn.Sequential:
    """Mirrored border, convolution, instance norm."""
    return nn.Sequential(nn.ReflectionPad2d(kernel // 2), nn.Conv2d(inner, outer, kernel, bias=False), InstanceNorm(outer))


def halving(inner: int, outer: int) -> nn.Sequential:
    """A 2x2 convolution with stride 2; of 3x3 ones the backward is slow on a CPU."""
    return nn.Sequential(nn.Conv2d(inner, outer, 2, stride=2, bias=False), InstanceNorm(outer))


class Residual(nn.Module):
    """x + two 3x3 convolutions (paper's supplement, after Gross and Wilber: no ReLU behind the sum)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = layer(channels, channels, 3)
        self.second = layer(channels, channels, 3)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.second(F.relu(self.first(x)))
        return out


class Painter(nn.Module):
    """[B, 3, H, W] in [-1, 1] -> the same; H and W multiples of 4. `widths`: channels at strides 1, 2, 4; `blocks` at stride 4."""

    def __init__(self, widths: Sequence[int], blocks: int) -> None:
        super().__init__()
        a, b, c = widths
        self.palette = Palette()
        self.enter = layer(3, a, 5)
        self.down2 = halving(a, b)
        self.down4 = halving(b, c)
        self.blocks = nn.Sequential(*(Residual(c) for _ in range(blocks)))
        self.up2 = layer(c, b, 3)
        self.up1 = layer(b, a, 3)
        self.leave = nn.Sequential(nn.ReflectionPad2d(2), nn.Conv2d(a, 3, 5))
        with torch.no_grad():  # it begins with little more than the photo in the painting's colours, as `gatys` does
            for parameter in self.leave.parameters():
                parameter.mul_(0.1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.palette(x)
        h = F.relu(self.enter(x))
        h = F.relu(self.down2(h))
        h = F.relu(self.down4(h))
        h = self.blocks(h)
        h = F.relu(self.up2(F.interpolate(h, scale_factor=2.0, mode="nearest")))
        h = F.relu(self.up1(F.interpolate(h, scale_factor=2.0, mode="nearest")))
        return torch.tanh(self.leave(h).float() + 1.5 * x) * 1.05  # a little more, so that white and black can be reached


# --- losses -----------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Target:
    """What a painting asks for: Gram matrices [C, C] by layer, and how much an empty picture would lack, sum of their squares."""

    grams: Mapping[str, Tensor]
    empty: Mapping[str, Tensor]

    @classmethod
    def of(cls, net: Features, painting: Tensor) -> Target:
        """Of a painting [1, 3, H, W] in [-1, 1]."""
        with torch.no_grad():
            grams = {name: gram(f)[0] for name, f in net(painting, tuple(net.style)).items()}
        return cls(grams, {name: g.square().sum() for name, g in grams.items()})


def style_loss(net: Features, found: Mapping[str, Tensor], target: Target) -> Tensor:
    """sum over layers of w ||G - G_s||^2 / ||G_s||^2, mean over the batch: 0 for the painting itself, 1 for an empty picture."""
    parts = [w * (gram(found[n]) - target.grams[n]).square().sum((1, 2)).mean() / target.empty[n] for n, w in net.style.items()]
    return torch.stack(parts).sum()


def content_loss(net: Features, found: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> Tensor:
    """sum over layers of w ||F - F_c||^2 / ||F_c - mean||^2: 0 for the photo itself, about 1 for a picture without features."""
    parts = []
    for name, weight in net.content.items():
        f = wanted[name]
        spread = (f - f.mean((2, 3), keepdim=True)).square().mean()
        parts.append(weight * (found[name] - f).square().mean() / (spread + 1e-6))
    return torch.stack(parts).sum()


def variation(x: Tensor) -> Tensor:
    """Mean square of the differences between neighbours."""
    return (x[..., 1:] - x[..., :-1]).square().mean() + (x[..., 1:, :] - x[..., :-1, :]).square().mean()


# --- recipe -----------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class FastStyle(Recipe):
    """Learns one painting."""

    ships: ClassVar[tuple[str, ...]] = ("painter",)
    bits: ClassVar[int] = 8
    borrows: ClassVar[tuple[str, ...]] = ("features", "start")
    looks_at: ClassVar[tuple[str, ...]] = ("style",)

    style: str = ""  # the painting: a picture file
    features: str = "perceptual"  # system or weights of the feature network that judges
    start: str = ""  # weights of another painting to begin with; it then takes a third of the steps
    widths: tuple[int, int, int] = (16, 32, 96)  # channels at strides 1, 2, 4
    blocks: int = 5  # residual blocks at stride 4
    painting: int = 512  # longer side of the painting in pixels, as it is looked at
    crop: int = 256  # side of the photographs' crops
    ratio: float = 12.0  # weight of style over content
    smooth: float = 40.0  # weight of the differences between neighbours
    batch: int = 4
    steps: int = 2000
    rate: float = 1e-3  # Adam, falling as a cosine
    average: float = 0.99  # decay of the moving average of the weights, which is what ships

    def networks(self) -> Networks:
        return {"painter": Painter(self.widths, self.blocks)}

    def stages(self) -> tuple[Stage, ...]:
        def schedule(progress: float) -> float:
            return min(progress * 20 + 0.05, 1.0) * (0.5 + 0.5 * math.cos(math.pi * progress))

        def adam(nets: Networks) -> dict[str, torch.optim.Optimizer]:
            return {"painter": torch.optim.Adam(nets["painter"].parameters(), self.rate)}

        begin = Stage("begin", ("painter",), fit=self.begin, measure=lambda nets, items, tools: {})
        paint = Stage(
            "paint", ("painter",), step=self.step, optimizers=adam, batch=self.batch, steps=self.steps, schedule=schedule,
            average=self.average, clip=10.0,
        )  # fmt: skip
        return begin, paint

    def begin(self, run: Run, items: Sequence[Item]) -> Scalars:
        """The first stage: another painting's network where the training starts from one, and this painting's colours."""
        painter = cast("Painter", run.nets["painter"])
        if self.start:
            try:
                painter.load_state_dict(run.tools.lent["start"]["painter"].state_dict())
            except (KeyError, RuntimeError) as error:
                what = f"{self.start} is not a network of these widths and blocks"
                raise TrainingError(what, code="wrong-shape", hint="choose another --start or none") from error
        painter.palette.take(self.shown(run.tools, run.device))
        return {}

    def example(self, item: Item, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """A square of the photo as uint8 [crop, crop, 3], at least half as wide as it can be, mirrored every other time."""
        pixels = item.photo.pixels
        short = min(pixels.shape[:2])
        side = max(1, round(short * float(rng.uniform(0.5, 1.0))))
        y, x = (int(rng.integers(length - side + 1)) for length in pixels.shape[:2])
        how = cv2.INTER_AREA if side > self.crop else cv2.INTER_CUBIC
        crop = cv2.resize(pixels[y : y + side, x : x + side], (self.crop, self.crop), interpolation=how)
        return {"photo": np.ascontiguousarray(crop[:, ::-1] if rng.random() < 0.5 else crop)}

    def step(self, run: Run, batch: Batch) -> Mapping[str, Tensor | float]:
        net = cast("Features", run.tools.lent["features"]["features"])
        target = self.target(run.tools, run.device)
        x = entering(batch["photo"])  # [B, 3, S, S]
        with torch.no_grad():
            wanted = net(run.nets["painter"].palette(x), tuple(net.content))  # type: ignore[operator]
        with run.autocast():
            painted = run.nets["painter"](x)
        found = net(painted, {*net.content, *net.style})
        content, style = content_loss(net, found, wanted), style_loss(net, found, target)
        rough = variation(painted)
        run.update("painter", content + self.ratio * style + self.smooth * rough)
        return {"content": content.detach(), "style": style.detach(), "rough": rough.detach()}

    def target(self, tools: Tools, device: torch.device) -> Target:
        """The painting's Gram matrices; remembered, since every step asks."""
        photo, net = tools.pictures["style"], cast("Features", tools.lent["features"]["features"])
        key = id(photo), id(net), self.painting
        if key not in _targets:
            _targets.clear()
            _targets[key] = photo, net, Target.of(net, self.shown(tools, device))
        return _targets[key][2]

    def shown(self, tools: Tools, device: torch.device) -> Tensor:
        """The painting as it is looked at: float [1, 3, H, W] in [-1, 1]."""
        net = cast("Features", tools.lent["features"]["features"])
        return entering(torch.from_numpy(_sized(tools.pictures["style"].pixels, self.painting, net.least))[None].to(device))

    def preview(self, run: Run, batch: Batch) -> np.ndarray | None:
        """Photographs above, painted below."""
        x = entering(batch["photo"])
        with run.autocast():
            painted = run.nets["painter"](x)
        rows = [torch.cat([*pictures.float().cpu()], 2) for pictures in (x, painted)]
        return leaving(torch.cat(rows, 1))

    def measure(self, nets: Mapping[str, nn.Module], items: Sequence[Item], tools: Tools) -> dict[str, float]:
        """Losses of painted photos of at most 24 items, at a longer side of half the painting's: `content_loss`, `style_loss`, and
        `style_before`, that of the photos as they were. Without the painting, which does not ship, only the first."""
        if "features" not in tools.lent:
            return {"n": 0}
        net = cast("Features", tools.lent["features"]["features"])
        device = next(nets["painter"].parameters()).device
        chosen = items[:: -(-len(items) // MEASURED)]
        sums = {"content_loss": 0.0, "style_loss": 0.0, "style_before": 0.0} if tools.pictures else {"content_loss": 0.0}
        for item in chosen:
            x = entering(torch.from_numpy(_sized(item.photo.pixels, self.painting // 2, net.least, STRIDE))[None].to(device))
            before = net(x, {*net.content, *net.style})
            after = net(nets["painter"](x), {*net.content, *net.style})
            sums["content_loss"] += float(content_loss(net, after, before))
            if tools.pictures:
                target = self.target(tools, device)
                sums["style_loss"] += float(style_loss(net, after, target))
                sums["style_before"] += float(style_loss(net, before, target))
        return {**{name: total / len(chosen) for name, total in sums.items()}, "n": len(chosen)}

    # use

    def stylize(
        self,
        nets: Mapping[str, nn.Module],
        photo: Photo,
        *,
        size: int = 512,
        colour: str = "style",
        guard: float = 0.6,
        faces: Sequence[Face] = (),
        available: float = math.inf,
    ) -> np.ndarray:
        """The photo repainted: uint8 [h, w, 3].

        size       longer side of the result in pixels, 0 for the photo's own
        colour     "style", or "keep": luminance of the result, chroma of the photo
        guard      how far these faces keep the photo, 0..1: it is laid over them, in the colours asked for
        available  bytes of memory that may be used
        PhotoError "too-large" before anything is computed when the memory will not do; it says which size would. UsageError.
        """
        for name, value, fits, hint in (
            ("size", size, size >= 0, "give the longer side in pixels, or 0 for the photo's own"),
            ("colour", colour, colour in ("style", "keep"), "choose style or keep; match is for the model gatys"),
            ("guard", guard, 0 <= guard <= 1, "it lies between 0 and 1"),
        ):
            if not fits:
                raise UsageError(f"{name} is {value!r}", code="usage", hint=hint)
        painter, scale = cast("Painter", nets["painter"]), size / max(photo.size) if size else 1.0
        height, width = (max(LEAST, round(n * scale)) for n in photo.size)
        self._check((height, width), photo.size, available)
        content = canvas.resized(canvas.floated(photo.pixels, (height, width)), (height, width))
        right, below = -width % STRIDE, -height % STRIDE
        framed = cv2.copyMakeBorder(content, 0, below, 0, right, cv2.BORDER_REFLECT_101)
        x = torch.from_numpy(framed).permute(2, 0, 1)[None].contiguous(memory_format=torch.channels_last)
        painted, toned = (
            y[0].clamp(-1, 1).permute(1, 2, 0)[:height, :width].cpu().numpy()
            for y in (painter(x), painter.palette(x.to(painter.palette.mean.device)))
        )
        painted = canvas.tempered(painted, toned)
        if colour == "keep":
            painted, toned = canvas.with_colours_of(content, painted), content
        if faces and guard:
            scales = height / photo.size[0], width / photo.size[1]
            painted = canvas.with_faces_of(toned, painted, canvas.face_mask(faces, (height, width), scales), guard)
        return np.clip(np.rint((painted + 1) * 127.5), 0, 255).astype(np.uint8)

    def memory_for(self, size: tuple[int, int], photo: tuple[int, int]) -> float:
        """Bytes that a result of this size (height, width) takes, of a photo of this size."""
        a, b, _ = self.widths
        per_pixel = 4 * (6 * a + 3 * b) + 300  # copies of the widest layers in float32, the colours in float64, the pictures
        return float(per_pixel * math.prod(size) + 12 * min(math.prod(photo), math.prod(size)))  # a larger photo shrinks as bytes

    def _check(self, size: tuple[int, int], photo: tuple[int, int], available: float) -> None:
        if (needed := self.memory_for(size, photo)) <= available:
            return
        fits = int(max(size) * math.sqrt(available / needed)) // 32 * 32
        what = f"{size[1]}x{size[0]} takes about {needed / 1e9:.1f} GB of memory and {available / 1e9:.1f} GB are free"
        raise PhotoError(what, code="too-large", hint=f"--size {fits} would fit" if fits else "free some")


_targets: dict[tuple[int, int, int], tuple[Photo, Features, Target]] = {}


def entering(pixels: Tensor) -> Tensor:
    """uint8 [B, H, W, 3] -> float [B, 3, H, W] in [-1, 1], channels last."""
    return (pixels.permute(0, 3, 1, 2).float() / 127.5 - 1).contiguous(memory_format=torch.channels_last)


def leaving(picture: Tensor) -> np.ndarray:
    """float [3, H, W] in [-1, 1] -> uint8 [H, W, 3]."""
    return ((picture.clamp(-1, 1) + 1) * 127.5).round().byte().permute(1, 2, 0).numpy()


def _sized(pixels: np.ndarray, long: int, least: int, stride: int = 1) -> np.ndarray:
    """The picture with this longer side, each side at least `least` and a multiple of `stride`."""
    scale = long / max(pixels.shape[:2])
    height, width = (max(least, round(n * scale / stride) * stride) for n in pixels.shape[:2])
    return cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
