"""What R-CNN and Fast R-CNN share: their boxes come from selective search, also in training.

Input   the pictures of a data set, or scenes composed of its faces: as many different ones as the recipe says, so that each needs
        to be searched once only
Output  proposals, true boxes and what is to be passed over, of a photo
Read    Searched

Proposals take a second a picture and are kept in memory. Where the environment variable VISAGIST_PROPOSALS names a folder, they
are kept there as well, for the next run; results are the same with and without.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from visagist.detect.scenes import scene
from visagist.detect.selective_search import Cache, Settings, recall
from visagist.photo.boxes import area, overlap
from visagist.photo.face import Face
from visagist.photo.photo import Photo
from visagist.recipe import Item, Recipe, Scalars, Tools

_caches: dict[str, Cache] = {}


class Regions(NamedTuple):
    """Of one picture: proposals [N, 4]; true boxes [M, 4] of classes kinds int64 [M], 1..K; ignored areas [I, 4]."""

    proposals: Tensor
    truth: Tensor
    kinds: Tensor
    ignored: Tensor


@dataclass(frozen=True)
class Searched(Recipe):
    """Settings of a detector that lives on selective search."""

    needs: ClassVar[tuple[str, ...]] = ("box",)

    names: tuple[str, ...] = ("face",)  # the K classes; number 0, the background, is not among them
    scenes: int = 0  # different scenes to train on, where the only class is "face"; 0: the data set's own pictures
    scene: int = 320  # side of a scene in pixels
    tile: float = 32  # smallest tile of a scene
    smallest: float = 16  # faces of scenes with a smaller mean side are passed over: no proposal is that small
    search: str = "fast"  # mode of selective search, see selective_search.MODES
    learn: str = "fast"  # the same in training
    width: int = 500  # pixels across at which a picture is searched
    jitter: int = 0  # boxes near each true box that join the proposals in training
    overlap: float = 0.3  # IoU above which the lower-scored of two boxes of a class is dropped
    most: int = 100  # objects of a class in a photo
    glance: int = 64  # pictures to measure on during the training (`evaluate` measures on all)

    @property
    def composed(self) -> bool:
        """Whether it learns from scenes."""
        return self.scenes > 0 and self.names == ("face",)

    def compose(self, items: Sequence[Item], index: int, rng: np.random.Generator) -> Item:
        """A picture of the data set, or one of the `scenes` scenes; chance says which, the scene itself is always the same."""
        return self.fixed_scene(items, int(rng.integers(self.scenes))) if self.composed else items[index]

    def fixed_scene(self, items: Sequence[Item], number: int) -> Item:
        rng = np.random.default_rng((2014, number))
        return scene(items, int(rng.integers(len(items))), rng, self.scene, least=self.tile)

    def pictures(self, items: Sequence[Item], count: int, seed: int) -> Iterator[Item]:
        """`count` training pictures in random order, none twice."""
        total = self.scenes if self.composed else len(items)
        for number in np.random.default_rng((2014, seed)).permutation(total)[:count]:
            yield self.fixed_scene(items, int(number)) if self.composed else items[int(number)]

    def proposals(self, photo: Photo, *, training: bool = False) -> np.ndarray:
        """Boxes float32 [N, 4] of the photo in its own pixels. Scenes are searched at their own size."""
        folder = os.environ.get("VISAGIST_PROPOSALS", "")
        cache = _caches.setdefault(folder, Cache(folder or None))
        at_width = self.scene if training and self.composed else self.width
        return cache.of(photo.pixels, Settings(self.learn if training else self.search, at_width))

    def regions(self, item: Item, rng: np.random.Generator | None = None) -> Regions:
        """Proposals and labels of a training picture; with a generator also boxes near the true ones."""
        boxes = self.proposals(item.photo, training=True)
        known = [(face, _side(face) >= (self.smallest if self.composed else 1e-3)) for face in item.faces]
        asked = [face for face, large in known if large and face.label in self.names]
        truth = np.array([face.box for face in asked], np.float32).reshape(-1, 4)
        if rng is not None and self.jitter and len(truth):
            boxes = np.concatenate([boxes, jittered(np.repeat(truth, self.jitter, 0), rng)])
        if not item.complete:  # somebody may be there whom nobody has labelled
            near = overlap(boxes, truth) >= 0.5 * np.minimum(area(boxes)[:, None], area(truth)[None])
            boxes = boxes[near.any(1)]
        kinds = torch.tensor([self.names.index(face.label) + 1 for face in asked], dtype=torch.long)
        ignored = [face.box for face, large in known if not large or face.label not in self.names]
        return Regions(torch.from_numpy(boxes), torch.from_numpy(truth), kinds, torch.tensor(ignored).view(-1, 4).float())

    # ---- use and measure ----

    def detect(self, nets: Mapping[str, nn.Module], photo: Photo, *, min_score: float = 0.5) -> tuple[Face, ...]:
        """Everything found with at least this score, largest first; boxes in photo pixels, `label` is the class."""
        raise NotImplementedError

    def measure(self, nets: Mapping[str, nn.Module], items: Sequence[Item], tools: Tools) -> Scalars:
        """AP50, AP, recall at 0.1 false positives per picture (see `training.metrics`), and `proposal_recall`: the share of true
        boxes that a proposal overlaps by half, the most that can be hoped for."""
        found = [self.detect(nets, item.photo, min_score=0.01) for item in items]
        figures: Scalars = tools.metrics.detection(found, items)
        truths = [np.array([f.box for f in item.faces if f.label in self.names]).reshape(-1, 4) for item in items]
        hit, total = recall([self.proposals(item.photo) for item in items], truths)
        return {**figures, "proposal_recall": hit / total if total else float("nan")}

    def measure_some(self, nets: Mapping[str, nn.Module], items: Sequence[Item], tools: Tools) -> Scalars:
        """`measure` on at most `glance` of the items, evenly spread."""
        return self.measure(nets, items[:: -(-len(items) // self.glance)], tools)


def jittered(boxes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Boxes float32 [N, 4] moved by up to a quarter of their sides and scaled by up to 1.4 either way, each side by itself."""
    size = boxes[:, 2:] - boxes[:, :2]
    middle = (boxes[:, :2] + boxes[:, 2:]) / 2 + rng.uniform(-0.25, 0.25, size.shape) * size
    half = size * np.exp(rng.uniform(-1, 1, size.shape) * np.log(1.4)) / 2
    return np.concatenate([middle - half, middle + half], 1).astype(np.float32)


def _side(face: Face) -> float:
    """Geometric mean of the sides, 0 for a box that is empty."""
    x0, y0, x1, y1 = face.box
    return float(np.sqrt(max(0.0, x1 - x0) * max(0.0, y1 - y0)))
