"""Looking for 15 points: in the square about a labelled face, in a photo, in many pictures at once. What both networks share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from visagist.landmarks import layout
from visagist.landmarks.layout import SIZE
from visagist.photo import draw
from visagist.photo.boxes import Box
from visagist.photo.face import MIRROR15, Face
from visagist.photo.photo import Photo
from visagist.photo.window import Window
from visagist.recipe import Batch, Item, Recipe, Run, Tools

HALF = SIZE / 2
Found = Tensor | tuple[Tensor, Tensor, Tensor]  # what a network gives: its points [B, 15, 2], or those of two heads and the maps


@dataclass(frozen=True)
class Looks(Recipe):
    """How a network "points" for 15 points is used and measured; its training is the subclass's business."""

    ships: ClassVar[tuple[str, ...]] = ("points",)
    looks: ClassVar[int] = 2  # at a face of a photo: in the square about its box, then in the one about the points found there
    mirrored: ClassVar[bool] = False  # whether every look is repeated with the picture mirrored, and the mean taken
    turned: ClassVar[bool] = False  # whether later looks take the head's roll out
    unsure: ClassVar[float] = 0.012  # mean spread, in sides of the square, beyond which there is probably no face

    kept: float = 0.6  # share of the learnt labels' offset that the answer keeps: others compare with the labels as they lie

    def preview(self, run: Run, batch: Batch) -> np.ndarray:
        """Sixteen examples: truth in green, answer in red; uint8 [H, W, 3]."""
        net = run.nets["points"]
        learning = net.training
        net.eval()
        with torch.inference_mode():
            found = answer(net(batch["image"][:16]))
        net.train(learning)
        truth = batch["points"][:16]
        if "present" in batch:
            truth = torch.where(batch["present"][:16] > 0, truth, torch.nan)
        return sheet(batch["image"][:16], truth, found)

    def locate(self, net: nn.Module, pixels: np.ndarray, boxes: Sequence[Box]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Points [N, 15, 2] in photo pixels of the faces in these boxes, their spread [N, 15], the sides [N] of their squares."""
        windows = [layout.first_window(box) for box in boxes]
        points, spread = self.look(net, pixels, windows)
        for _ in range(1, self.looks):
            windows = [layout.window_of_points(p, turned=self.turned) for p in points]
            points, spread = self.look(net, pixels, windows)
        return points, spread, np.array([layout.side_of(window) for window in windows])

    def look(self, net: nn.Module, pixels: np.ndarray, windows: Sequence[Window]) -> tuple[np.ndarray, np.ndarray]:
        """Points [N, 15, 2] in photo pixels found in these windows, their spread [N, 15]; pixels uint8 [H, W, 3]."""
        found, spread = self.look_at(net, np.stack([grey(w.cut(pixels)) for w in windows]) if windows else [])
        points = [w.to_photo((p + 1) * HALF) + self.offset(net) * layout.side_of(w) for w, p in zip(windows, found, strict=True)]
        sides = np.array([layout.side_of(w) for w in windows])
        return np.array(points).reshape(-1, 15, 2), spread * sides[:, None] / 2

    def look_at(self, net: nn.Module, pictures: Sequence[np.ndarray] | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Points [N, 15, 2] in window units of pictures uint8 [N, 96, 96], and how far apart the answers lie, [N, 15]."""
        points, spread = [np.empty((0, 15, 2))], [np.empty((0, 15))]
        where = next(net.parameters()).device
        with torch.inference_mode():
            for start in range(0, len(pictures), 64):
                x = torch.from_numpy(to_network(np.stack(list(pictures[start : start + 64])))).to(where)
                answers = heads(net(x))
                if self.mirrored:
                    answers += [mirror(found) for found in heads(net(x.flip(3)))]
                every = torch.stack(answers).double().cpu().numpy()  # [A, B, 15, 2]
                points.append(every.mean(0))
                spread.append(np.linalg.norm(every - every.mean(0), axis=-1).mean(0))
        return np.concatenate(points), np.concatenate(spread)

    def offset(self, net: nn.Module) -> np.ndarray:
        """What is added to the points found, [2] in sides of the square: a share of the offset of the labels learnt from."""
        return self.kept * np.asarray(net.get_buffer("offset").double().cpu())

    def predict(self, nets: Mapping[str, nn.Module], pictures: Sequence[np.ndarray] | np.ndarray) -> np.ndarray:
        """Points [N, 15, 2] in pixels of pictures uint8 [N, 96, 96] that are squares about faces already, as Kaggle's are."""
        net = nets["points"]
        return (self.look_at(net, pictures)[0] + 1) * HALF + self.offset(net) * SIZE

    def landmarks(self, nets: Mapping[str, nn.Module], photo: Photo, faces: Sequence[Face]) -> tuple[Face, ...]:
        """The same faces, boxes and order, with 15 points, scheme "kaggle15", a doubt where they make no face, and their spread
        where there were several answers."""
        points, spread, sides = self.locate(nets["points"], photo.pixels, [face.box for face in faces])
        found = []
        for face, p, s, side in zip(faces, points, spread, sides.tolist(), strict=True):
            doubt = layout.doubt(p, side) or ("the answers disagree" if s.mean() > self.unsure * side else None)
            found.append(replace(face, points=p, scheme="kaggle15", pose=None, spread=s if s.any() else None, doubt=doubt))
        return tuple(found)

    def measure(self, nets: Mapping[str, nn.Module], items: Sequence[Item], tools: Tools) -> dict[str, float]:
        """rmse_96, nme_box, failure_rate, n: one look at the square about each labelled face, labels as they lie."""
        faces = [(item, face) for item in items for face in item.faces if layout.labelled(face) is not None]
        windows = [layout.labelled_window(item, face) for item, face in faces]
        pictures = [grey(window.cut(item.photo.pixels)) for window, (item, _) in zip(windows, faces, strict=True)]
        found = [window.to_photo(points) for window, points in zip(windows, self.predict(nets, pictures), strict=True)]
        figures: dict[str, float] = tools.metrics.points(
            np.array(found).reshape(-1, 15, 2),
            np.array([layout.labelled(face) for _, face in faces]).reshape(-1, 15, 2),
            people=[item.person or item.name for item, _ in faces],
            hulls=np.array([layout.tight(face, window) for window, (_, face) in zip(windows, faces, strict=True)]).reshape(-1, 4),
        )
        return figures


def grey(window: np.ndarray) -> np.ndarray:
    """uint8 [S, S, 3] RGB -> uint8 [S, S]."""
    return np.asarray(cv2.cvtColor(window, cv2.COLOR_RGB2GRAY))


def to_network(pictures: np.ndarray) -> np.ndarray:
    """uint8 [..., S, S] -> float32 [..., 1, S, S] in [-1, 1]."""
    return pictures[..., None, :, :].astype(np.float32) / np.float32(127.5) - np.float32(1)


def heads(found: Found) -> list[Tensor]:
    """The answers [B, 15, 2] in what a network gives: one, or one of each head."""
    return [found] if isinstance(found, Tensor) else [found[0], found[1]]


def answer(found: Found) -> Tensor:
    """The points [B, 15, 2]: the mean of the heads."""
    return torch.stack(heads(found)).mean(0)


def mirror(points: Tensor) -> Tensor:
    """Points [..., 15, 2] in window units as they are in the mirrored picture: x turns its sign, left and right change places."""
    return points[..., MIRROR15, :] * torch.tensor([-1.0, 1.0], device=points.device, dtype=points.dtype)


def sheet(images: Tensor, truth: Tensor, found: Tensor, *, side: int = 192) -> np.ndarray:
    """Pictures [N, 1, S, S] side by side, true points green (NaN: none), found points red; uint8 [H, W, 3]."""
    tiles = []
    for image, *both in zip(images.float().cpu().numpy(), truth.cpu().numpy(), found.float().cpu().numpy(), strict=True):
        pixels = ((image[0] + 1) * 127.5).clip(0, 255).astype(np.uint8)
        tile = np.repeat(cv2.resize(pixels, (side, side), interpolation=cv2.INTER_LINEAR)[..., None], 3, 2)
        for points, colour in zip(both, ((0, 255, 0), (255, 40, 40)), strict=True):
            for x, y in np.rint(((points[np.isfinite(points).all(1)] + 1) / 2 * side - 0.5) * 16).astype(int).tolist():
                cv2.circle(tile, (x, y), 24, colour, -1, cv2.LINE_AA, shift=4)
        tiles.append(tile)
    return draw.sheet(tiles, columns=4)
