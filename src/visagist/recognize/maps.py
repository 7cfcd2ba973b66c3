"""A face as a landmark network sees it: the default of `embedding`.

Paper   Yosinski, Clune, Bengio, Lipson: How Transferable Are Features in Deep Neural Networks? NeurIPS 2014 (layers learnt for
        another task); Hatch, Kajarekar, Stolcke: Within-Class Covariance Normalization for SVM-based Speaker Recognition.
        Interspeech 2006 (the directions); Solomonoff, Campbell, Boardman: Advances in Channel Compensation for SVM Speaker
        Recognition. ICASSP 2005 (looks that anybody can have are left out); Deng, Guo, Xue, Zafeiriou: ArcFace. CVPR 2019 (the
        loss of the layer behind them).
Input   an aligned window, RGB [B, 3, S, S] in [-1, 1].
Output  `whitened` [B, 2 K] and the trained layer behind it [B, D]; in use both are of unit length and stand beside each other.
Why     A network of millions of numbers knows a few hundred people by heart and says little of others. One that has learnt where
        the parts of a face are had to see how they look and was never asked whose they are: it has nothing to forget. Of its
        maps only one linear layer is taught people.
Differs The covariance within people is shrunk towards a multiple of the identity.
Read    Trunk (the landmark network's first layers), Whitened and its `fit` (closed form), then FromMaps: two stages.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import cos, pi
from typing import ClassVar, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from visagist.errors import TrainingError
from visagist.recipe import Item, Networks, Run, Scalars, Stage
from visagist.recognize.album import Album
from visagist.recognize.embedding import AT_ONCE, Embedding, Margin, to_network, unit

FITTED = 3200  # most photographs, and most made-up pictures, that the directions are taken from
SHRINK = 0.1  # part of the covariance within people that is replaced by its mean variance
LARGE = 40  # pictures of a look from which on their mean says more of it than of the people in them
SILENT = 1e4  # how much more than its mean the variance within people becomes where looks differ

Look = tuple[Tensor, Tensor]  # bool [N] each: the pictures that look one way, and those that look the other
FIRST = ("stem", "to4", "at4", "to8", "at8")  # parts of a landmark network that are taken over


class Trunk(nn.Module):
    """[B, 3, S, S] in [-1, 1] -> two vectors of the maps at S/4 and S/8, each averaged to S/16 x S/16 places.

    The first layers of `landmarks68`, batch norms folded into the convolutions; `take` fetches them.

    widths  channels at S/2, S/4, S/8
    blocks  residual blocks at S/4, S/8
    """

    def __init__(self, widths: Sequence[int], blocks: Sequence[int]) -> None:
        super().__init__()
        a, b, c = widths
        self.stem = nn.Conv2d(3, a, 5, 2, 2)
        self.to4, self.to8 = nn.Conv2d(a, b, 3, padding=1), nn.Conv2d(b, c, 3, padding=1)
        self.at4 = nn.ModuleList(nn.Conv2d(b, b, 3, padding=1) for _ in range(2 * blocks[0]))
        self.at8 = nn.ModuleList(nn.Conv2d(c, c, 3, padding=1) for _ in range(2 * blocks[1]))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = F.max_pool2d(F.relu(self.stem(x)), 2)
        fine = _residual(F.relu(self.to4(x)), self.at4)
        coarse = _residual(F.relu(self.to8(F.max_pool2d(fine, 2))), self.at8)
        return F.avg_pool2d(fine.float(), 4).flatten(1), F.avg_pool2d(coarse.float(), 2).flatten(1)

    @torch.no_grad()
    def take(self, net: nn.Module | None) -> None:
        """Copy the convolutions of a landmark network that is ready for use. TrainingError "bad-setting": it is another one."""
        parts = [getattr(net, name, None) for name in FIRST]
        theirs = [layer for part in parts if part is not None for layer in part.modules() if isinstance(layer, nn.Conv2d)]
        own = [self.stem, self.to4, *self.at4, self.to8, *self.at8]
        fit = len(theirs) == len(own) and all(a.weight.shape == b.weight.shape for a, b in zip(own, theirs, strict=True))
        if not fit or any(layer.bias is None for layer in theirs):
            hint = "--features is landmarks68, or weights of that system with the same widths and blocks"
            raise TrainingError("these features are of another network", code="bad-setting", hint=hint)
        for layer, source in zip(own, theirs, strict=True):
            cast("nn.Conv2d", layer).weight.copy_(source.weight.float())
            cast("Tensor", cast("nn.Conv2d", layer).bias).copy_(cast("Tensor", source.bias).float())


def _residual(x: Tensor, layers: nn.ModuleList) -> Tensor:
    for first, second in zip(layers[::2], layers[1::2], strict=True):
        x = F.relu(x + second(F.relu(first(x))))
    return x


class Whitened(nn.Module):
    """[B, C] -> [B, K] of length sqrt(K): the input less its mean, times a matrix. `fit` makes both."""

    mean: Tensor
    matrix: Tensor

    def __init__(self, count: int, dimensions: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(count))
        self.register_buffer("matrix", torch.zeros(dimensions, count))

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            return unit((x.float() - self.mean) @ self.matrix.float().T) * len(self.matrix) ** 0.5

    @torch.no_grad()
    def fit(self, features: Tensor, labels: Tensor, more: Tensor, their: Tensor, looks: Sequence[Look] = ()) -> float:
        """Take mean and matrix from features [N, C] of people labels int [N]: the principal components, turned and scaled so that
        pictures of one person vary alike in all directions. What one person's pictures differ in is learnt from `more` [M, C] of
        people `their` [M], too. What the means of two `looks` differ in counts as if one person could look either way: official
        portraits smile into good light, whoever it is, and would all be taken for one. Returns the part of the variance that the
        components hold.

        Components that there are no pictures for stay 0.
        """
        self.mean.copy_(features.mean(0))
        centred = features - self.mean
        values, vectors = torch.linalg.eigh((centred @ centred.T).double())  # of N x N: there are fewer pictures than numbers
        count = min(len(self.matrix), int((values > values[-1] * 1e-6).sum()))
        values, vectors = values[-count:].flip(0), vectors[:, -count:].flip(1)
        components = (centred.T.double() @ (vectors / values.sqrt())).float()  # [C, K]
        along = centred @ components
        within = self._within(torch.cat([along, (more - self.mean) @ components]), torch.cat([labels, their]))
        within += self._between(along.double(), looks) * within.trace() / count * SILENT
        variance, axes = torch.linalg.eigh(within)
        made = components.double() @ (axes / variance.sqrt())
        self.matrix.zero_()
        self.matrix[:count] = (made / made.abs().max()).float().T  # lengths do not matter, float16 likes them small
        return float(values.sum() / centred.square().sum())

    @staticmethod
    def _within(along: Tensor, labels: Tensor) -> Tensor:
        """The covariance [K, K] of the pictures [N, K] about the mean of their person, shrunk."""
        along, count, people = along.double(), along.shape[1], int(labels.max()) + 1
        sums = torch.zeros(people, count, dtype=torch.double).index_add_(0, labels, along)
        often = torch.bincount(labels, minlength=people)
        left = (along - sums[labels] / often[labels, None])[often[labels] > 1]
        within = left.T @ left / max(1, len(left) - int((often > 1).sum()))
        spread = float(within.trace()) / count if len(left) else 1.0
        return (1 - SHRINK) * within + SHRINK * max(spread, 1e-12) * torch.eye(count, dtype=torch.double)

    @staticmethod
    def _between(along: Tensor, looks: Sequence[Look]) -> Tensor:
        """The projection [K, K] onto the directions in which the means of pictures [N, K] differ between looks."""
        apart = torch.zeros(along.shape[1], 1 + len(looks), dtype=torch.double)
        for column, (one, other) in enumerate(looks):
            apart[:, column] = along[one].mean(0) - along[other].mean(0)
        directions, strength, _ = torch.linalg.svd(apart, full_matrices=False)
        kept = directions[:, strength > 1e-6 * strength.max().clamp_min(1e-12)]
        return kept @ kept.T


@dataclass(frozen=True)
class FromMaps(Embedding):
    """Settings of `Embedding` for one linear layer on a landmark network's maps, and the two stages of its training."""

    ships: ClassVar[tuple[str, ...]] = ("trunk", "whitened", "embedding")
    borrows: ClassVar[tuple[str, ...]] = ("features",)
    bits: ClassVar[int] = 8
    offered: ClassVar[tuple[str, ...]] = ("maps",)

    network: str = "maps"
    features: str = "landmarks68"  # system or weights whose first layers are taken over
    kept: int = 400  # K: directions of each of the two maps
    looks: tuple[str, ...] = ("eyeglasses", "smiling")  # facts of pictures, 0 or 1, that anybody can have
    zoom: float = 1.2
    dropout: float = 0.7  # of the directions before the layer
    plain: float = 0.0
    batch: int = 256
    steps: int = 800
    rate: float = 2e-3  # AdamW
    decay: float = 0.01
    average: float = 0.99

    def networks(self) -> Networks:
        widths, blocks, places = self.widths[:3], self.blocks[:2], (self.window // 16) ** 2
        layer = nn.Sequential(nn.Dropout(self.dropout), nn.Linear(2 * self.kept, self.dimensions, bias=False))
        nn.init.orthogonal_(cast("Tensor", layer[1].weight))
        return {
            "trunk": Trunk(widths, blocks),
            "whitened": nn.ModuleList(Whitened(width * places, self.kept) for width in widths[1:]),
            "embedding": layer,
            "people": Margin(max(1, self.people), self.dimensions),
        }

    @property
    def length(self) -> int:
        return 2 * self.kept + self.dimensions

    def stages(self) -> tuple[Stage, ...]:
        learn = Stage(
            "tell apart", ("embedding", "people"), step=self.step, optimizers=self.optimizers, batch=self.batch, steps=self.steps,
            schedule=lambda done: 0.5 + 0.5 * cos(pi * done), average=self.average,
        )  # fmt: skip
        return Stage("directions", ("trunk", "whitened"), fit=self.fit), learn

    def optimizers(self, nets: Networks) -> dict[str, torch.optim.Optimizer]:
        parameters = [p for name in ("embedding", "people") for p in nets[name].parameters()]
        return {"all": torch.optim.AdamW(parameters, lr=self.rate, weight_decay=self.decay)}

    def fit(self, run: Run, items: Sequence[Item]) -> Scalars:
        """Fetch the trunk, and find the directions from at most `FITTED` photographs and as many made-up pictures, each as it is
        and mirrored. Without photographs the made-up ones stand for them."""
        trunk = cast("Trunk", run.nets["trunk"])
        trunk.take(run.tools.lent["features"].get("points"))
        trunk.eval()
        album = Album.of(items, self.made_up)
        photographs, more = (_some(of) for of in (album.all if album.all[0] else (album.all[1], [])))
        own, added = self._features(trunk, items, photographs, run), self._features(trunk, items, more, run)
        labels = torch.from_numpy(album.labels)
        looks = self._looks([items[i] for i in photographs])
        held = [
            net.cpu().fit(a, labels[photographs], b, labels[more], looks)
            for net, a, b in zip(cast("Sequence[Whitened]", run.nets["whitened"]), own, added, strict=True)
        ]
        run.nets["whitened"].to(run.device)
        return {"held_fine": held[0], "held_coarse": held[1], "n": float(len(photographs) + len(more))}

    def _looks(self, items: Sequence[Item]) -> list[Look]:
        """What is no matter of who it is: the first large set against each other one, and within each set the pictures with a fact
        against those without."""
        of = np.array([str(item.facts.get("set", "")) for item in items])
        names, counts = np.unique(of, return_counts=True)
        sets = [of == name for name, count in zip(names, counts, strict=True) if count >= LARGE]
        pairs = [(sets[0], other) for other in sets[1:]]
        for fact in self.looks:
            values = np.array([item.facts.get(fact, -1.0) for item in items], object)
            pairs += [(own & (values == 1), own & (values == 0)) for own in sets]
        large = [(one, other) for one, other in pairs if min(one.sum(), other.sum()) >= LARGE]
        return [(torch.from_numpy(one), torch.from_numpy(other)) for one, other in large]

    def _features(self, trunk: Trunk, items: Sequence[Item], chosen: Sequence[int], run: Run) -> list[Tensor]:
        """Both vectors of maps [N, C] of the chosen items, means of the window's and the mirrored window's."""
        places = (self.window // 16) ** 2
        found: list[list[Tensor]] = [[torch.empty(0, width * places)] for width in self.widths[1:3]]
        for start in range(0, len(chosen), AT_ONCE):
            windows = [to_network(self._window(items[i]).cut(items[i].photo.pixels)) for i in chosen[start : start + AT_ONCE]]
            x = torch.from_numpy(np.stack(windows)).to(run.device)
            with torch.no_grad(), run.autocast():
                views = trunk(torch.cat([x, x.flip(3)]).contiguous(memory_format=torch.channels_last))
            for of, view in zip(found, views, strict=True):
                of.append(view.view(2, len(x), -1).mean(0).cpu())
        return [torch.cat(of) for of in found]

    def view(self, nets: Mapping[str, nn.Module], x: Tensor) -> Tensor:
        return cast("Tensor", nets["embedding"](self.directions(nets, x)))

    def parts(self, nets: Mapping[str, nn.Module], x: Tensor) -> list[Tensor]:
        found = self.directions(nets, x)
        return [found, nets["embedding"](found)]

    def directions(self, nets: Mapping[str, nn.Module], x: Tensor) -> Tensor:
        """Windows [B, 3, S, S] -> both maps in the directions that tell people apart, [B, 2 K]."""
        with torch.no_grad():
            maps = nets["trunk"](x)
            return torch.cat([net(of) for net, of in zip(cast("Sequence[nn.Module]", nets["whitened"]), maps, strict=True)], dim=1)


def _some(indices: Sequence[int]) -> list[int]:
    """At most `FITTED` of them, evenly."""
    return [indices[i * len(indices) // FITTED] for i in range(FITTED)] if len(indices) > FITTED else list(indices)
