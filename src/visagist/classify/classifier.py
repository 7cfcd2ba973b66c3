"""What the classifiers of this room share: how a photo becomes 32 x 32 pixels, the answer on a photo, what is measured.

Input   a photo: the square in its middle, averaged down to 32 x 32 pixels; at the network's door float RGB [B, 3, 32, 32] in
        [-1, 1].
Output  logits [B, K], one for each of K classes. Softmax is taken once, here, never inside a network.
Read    window_of and square (photo -> pixels), varied (augmentation), Classifier: answers, classify, explain, measure.

Axes: B batch, K classes, H rows, W columns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from visagist.classify import occlusion
from visagist.classify.summary import summary
from visagist.errors import TrainingError
from visagist.photo import draw
from visagist.photo.photo import Photo
from visagist.recipe import Batch, Item, Recipe, Run, Tools

SIDE = 32
LEVELS = 127.5  # grey levels of 0..255 in one unit of [-1, 1]
# The order of CIFAR-10's labels (Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009); also the alphabet's.
CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
GREY = 120  # about the mean of CIFAR-10
AT_ONCE = 500  # pictures in one pass of a network


# ---- pictures


def window_of(size: tuple[int, int]) -> tuple[int, int, int]:
    """Left, top and side of the largest square in the middle of a photo of size (height, width)."""
    side = min(size)
    return (size[1] - side) // 2, (size[0] - side) // 2, side


def square(pixels: np.ndarray, *, pad: bool = False) -> np.ndarray:
    """uint8 [H, W, 3] -> the square in the middle as uint8 [32, 32, 3]: averaged when it shrinks, interpolated when it grows.

    pad  True: the whole photo, with its mean colour above and below or beside it
    """
    if pad:
        pixels = _padded(pixels)
    left, top, side = window_of(pixels.shape[:2])
    cut = pixels[top : top + side, left : left + side]
    if side == SIDE:
        return cut
    return cv2.resize(cut, (SIDE, SIDE), interpolation=cv2.INTER_AREA if side > SIDE else cv2.INTER_CUBIC)


def _padded(pixels: np.ndarray) -> np.ndarray:
    """The photo within a square of its mean colour; a large photo is halved first until its longer side is below 64."""
    while max(pixels.shape[:2]) >= 4 * SIDE:
        height, width = (max(1, side // 2) for side in pixels.shape[:2])
        pixels = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA)
    side = max(pixels.shape[:2])
    out = np.empty((side, side, 3), np.uint8)
    out[:] = np.rint(pixels.mean((0, 1)))
    left, top = (side - pixels.shape[1]) // 2, (side - pixels.shape[0]) // 2
    out[top : top + pixels.shape[0], left : left + pixels.shape[1]] = pixels
    return out


def to_network(pictures: Tensor) -> Tensor:
    """uint8 [B, 32, 32, 3] -> float32 [B, 3, 32, 32] in [-1, 1], channels last."""
    return pictures.permute(0, 3, 1, 2).float().div_(LEVELS).sub_(1)


def varied(pictures: Tensor, *, shift: int, flipped: Tensor | None) -> Tensor:
    """Pictures moved by up to `shift` pixels each way, their borders mirrored, and mirrored left to right where `flipped` says so.

    pictures uint8 [B, 32, 32, 3]; flipped bool [B] or None; the shifts come from torch's generator. Returns uint8 [B, 32, 32, 3].
    """
    count, height, width = pictures.shape[:3]
    moves = torch.randint(-shift, shift + 1, (count, 2), device=pictures.device)
    rows = _reflected(torch.arange(height, device=pictures.device) + moves[:, :1], height)  # [B, H]
    columns = torch.arange(width, device=pictures.device) + moves[:, 1:]
    columns = _reflected(columns, width)
    if flipped is not None:
        columns = torch.where(flipped[:, None], columns.flip(1), columns)
    which = torch.arange(count, device=pictures.device)
    return pictures[which[:, None, None], rows[:, :, None], columns[:, None, :]]


def cut_out(pictures: Tensor, side: int) -> Tensor:
    """Pictures uint8 [B, 32, 32, 3] with a grey square each, wholly inside, at a place drawn from torch's generator.

    DeVries, Taylor: Improved Regularization of Convolutional Neural Networks with Cutout. 2017.
    """
    count, height, width = pictures.shape[:3]
    top = torch.randint(0, height - side + 1, (count, 1), device=pictures.device)
    left = torch.randint(0, width - side + 1, (count, 1), device=pictures.device)
    rows, columns = torch.arange(height, device=pictures.device), torch.arange(width, device=pictures.device)
    hidden_rows = (rows >= top) & (rows < top + side)  # [B, H]
    hidden_columns = (columns >= left) & (columns < left + side)
    return pictures.masked_fill((hidden_rows[:, :, None] & hidden_columns[:, None])[..., None], GREY)


def _reflected(index: Tensor, length: int) -> Tensor:
    """Indices that run over an end come back: -1 is 1, `length` is length - 2."""
    index = index.abs()
    return torch.where(index < length, index, 2 * (length - 1) - index)


# ---- the recipe's shared part


@dataclass(frozen=True)
class Classifier(Recipe):
    """How a network "classifier" is used and measured; what it is and how it learns is the subclass's business."""

    needs: ClassVar[tuple[str, ...]] = ("label",)
    ships: ClassVar[tuple[str, ...]] = ("classifier",)

    classes: tuple[str, ...] = CIFAR10  # names of the classes, in the order of the outputs; a training takes those of its data
    mirrored: bool = False  # the answer is the mean of the picture's and the mirrored picture's

    def suited(self, items: Sequence[Item]) -> Classifier:
        """The recipe for the classes that these items are of, in alphabetical order; itself where it knows just these."""
        found = sorted({str(item.facts["class"]) for item in items if "class" in item.facts})
        return replace(self, classes=tuple(found)) if found and found != sorted(self.classes) else self

    def example(self, item: Item, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """image uint8 [32, 32, 3], label int64 []; side bool []: one half of the pictures, always the same."""
        side = bool(sum(item.name.encode()) & 1)
        return {"image": square(item.photo.pixels), "label": np.array(self.label_of(item)), "side": np.array(side)}

    def label_of(self, item: Item) -> int:
        """Index of an item's class among those of the recipe. TrainingError "bad-data" for a class that it does not know."""
        name = item.facts.get("class")
        if name is None and item.label is not None and 0 <= item.label < len(self.classes):
            return item.label
        if name not in self.classes:
            what = f"the class {str(name)[:40]!r} is none of the {len(self.classes)} that are known"
            known = ", ".join(self.classes[:10]) + (" and so on" if len(self.classes) > 10 else "")
            raise TrainingError(what, code="bad-data", path=item.name, hint=f"there are {known}")
        return self.classes.index(str(name))

    def flips(self, run: Run, batch: Batch) -> Tensor:
        """Which pictures of a batch are mirrored, bool [B]: each one in every other pass over the data, and half of them at a time.

        After Jordan, "94% on CIFAR-10 in 3.29 Seconds on a Single GPU", 2024, section 3.6: nothing is seen twice before its mirror
        image was.
        """
        epoch = int(run.progress * max(1, run.stage.epochs))
        return batch["side"] if epoch % 2 else ~batch["side"]

    def summary(self) -> str:
        """The network's layers, shapes and parameters as Keras prints them."""
        with torch.random.fork_rng(devices=[]):  # it is made for this alone
            return summary(self.networks()["classifier"])

    # use

    def answers(self, net: nn.Module, pictures: np.ndarray) -> np.ndarray:
        """Probabilities float64 [N, K] of pictures uint8 [N, 32, 32, 3]."""
        made = [np.empty((0, len(self.classes)))]
        where = next(net.parameters()).device
        for start in range(0, len(pictures), AT_ONCE):
            x = to_network(torch.tensor(pictures[start : start + AT_ONCE]).to(where))
            views = torch.cat([x, x.flip(3)]) if self.mirrored else x  # one pass for both
            logits = net(views).double().view(-1, len(x), len(self.classes)).mean(0)
            made.append(logits.softmax(1).cpu().numpy())
        return np.concatenate(made)

    def classify(self, nets: Mapping[str, nn.Module], photo: Photo, *, pad: bool = False) -> tuple[tuple[str, float], ...]:
        """Every class with its probability, the likeliest first."""
        return self.classify_all(nets, [photo], pad=pad)[0]

    def classify_all(
        self, nets: Mapping[str, nn.Module], photos: Sequence[Photo], *, pad: bool = False
    ) -> list[tuple[tuple[str, float], ...]]:
        """`classify` of several photos at once, which is quicker than one after the other."""
        answers = self.answers(nets["classifier"], np.stack([square(photo.pixels, pad=pad) for photo in photos]))
        orders = np.argsort(-answers, axis=1, kind="stable")
        return [tuple((self.classes[i], float(scores[i])) for i in order) for scores, order in zip(answers, orders)]

    def explain(self, nets: Mapping[str, nn.Module], photo: Photo, *, label: str | None = None, pad: bool = False) -> np.ndarray:
        """Where the answer comes from: float32 [H, W] over the photo, 1 where hiding costs the class `label` most (default: the
        likeliest), 0 where it costs nothing or the network does not look."""
        picture = square(photo.pixels, pad=pad)
        which = int(self.answers(nets["classifier"], picture[None])[0].argmax()) if label is None else self.classes.index(label)
        heat = np.clip(occlusion.falls(lambda hidden: self.answers(nets["classifier"], hidden), picture, which), 0, None)
        heat /= max(float(heat.max()), 1e-6)
        if pad:
            (height, width), side = photo.size, max(photo.size)
            whole = cv2.resize(heat, (side, side), interpolation=cv2.INTER_LINEAR)
            top, left = (side - height) // 2, (side - width) // 2
            return np.ascontiguousarray(whole[top : top + height, left : left + width])
        out = np.zeros(photo.size, np.float32)
        left, top, side = window_of(photo.size)
        out[top : top + side, left : left + side] = cv2.resize(heat, (side, side), interpolation=cv2.INTER_LINEAR)
        return out

    def measure(self, nets: Mapping[str, nn.Module], items: Sequence[Item], tools: Tools) -> dict[str, float]:
        """accuracy, loss (mean of -log p of the right class), n."""
        pictures = np.stack([square(item.photo.pixels) for item in items])
        labels = np.array([self.label_of(item) for item in items])
        found: dict[str, float] = tools.metrics.classes(self.answers(nets["classifier"], pictures), labels)
        return found

    def preview(self, run: Run, batch: Batch) -> np.ndarray:
        """Forty pictures of the batch with the likeliest class under each, in brackets the right one where that is another."""
        pictures = batch["image"][:40].cpu().numpy()
        found = self.answers(run.nets["classifier"], pictures).argmax(1)
        right = batch["label"][:40].tolist()
        captions = [
            self.classes[f] + ("" if f == r else f" ({self.classes[r]})") for f, r in zip(found.tolist(), right, strict=True)
        ]
        return draw.sheet(list(pictures), captions, columns=8, cell=(96, 128))
