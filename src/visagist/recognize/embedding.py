"""A face as a vector: two pictures of one person give vectors that point the same way.

Paper   Deng, Guo, Xue, Zafeiriou: ArcFace: Additive Angular Margin Loss for Deep Face Recognition. CVPR 2019 (the loss);
        Chen, Liu, Gao, Han: MobileFaceNets. CCBR 2018 (the network "mobile").
Input   an aligned window (see `aligned.py`), RGB [B, 3, S, S] in [-1, 1], S = 112.
Output  [B, D]; of unit length once `unit` has seen it.
        The score of two faces is the cosine of their vectors, -1..1.
Differs The default, a layer on a landmark network's maps, is in `maps.py`; here are networks that learn from pixels. Our own
        ("pooled") has plain residual blocks, as a processor core trains them 4 times as fast as depthwise convolutions. The
        margin begins after a fifth of the training. People with few pictures are drawn more often than their share. In use a
        face's vector is the mean of the window's and the mirrored window's.
Read    Pooled and Mobile (networks; two more: `light_cnn.py`, `residual.py`), Margin (loss), Embedding: compose, example, step;
        then measure and recognize (use).

Axes: B batch, D dimensions of the vector, P people.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import cos, pi, sin
from typing import Any, ClassVar, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from visagist.errors import TrainingError
from visagist.head.pose import pose_of
from visagist.photo import draw
from visagist.photo.boxes import iou
from visagist.photo.face import Face
from visagist.photo.photo import Photo
from visagist.photo.window import Window
from visagist.recipe import Batch, Item, Networks, Recipe, Run, Stage, Tools
from visagist.recognize import disturb
from visagist.recognize.album import Album, apart, clip_of, face_of, is_made_up, person_of
from visagist.recognize.aligned import five_points, window_of
from visagist.recognize.augment import Augment
from visagist.recognize.light_cnn import LightCNN
from visagist.recognize.likeness import Scale
from visagist.recognize.residual import Deep

AT_ONCE = 64  # windows in one pass of a network

# --- networks -----------------------------------------------------------------------------------------------------------------


def convolution(
    before: int, after: int, kernel: int, *, stride: int = 1, groups: int = 1, padding: int | None = None
) -> nn.Sequential:
    """Convolution without bias, batch norm."""
    padding = kernel // 2 if padding is None else padding
    layer = nn.Conv2d(before, after, kernel, stride, padding, groups=groups, bias=False)
    return nn.Sequential(layer, nn.BatchNorm2d(after))


class Residual(nn.Module):
    """x + two 3x3 convolutions; He et al., CVPR 2016."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Sequential(*convolution(channels, channels, 3), nn.ReLU())
        self.second = convolution(channels, channels, 3)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.second(self.first(x)))


class Pooled(nn.Module):
    """[B, 3, S, S] -> [B, D]. Residual blocks at S/4, S/8 and S/16, between them pooling: on a processor the backward pass of a
    strided convolution costs several times as much. One weight for each place of each channel sums up the last map.

    side    S, a multiple of 16
    widths  channels at S/2, S/4, S/8, S/16
    blocks  residual blocks at S/4, S/8, S/16
    """

    def __init__(self, side: int, widths: Sequence[int], blocks: Sequence[int], dimensions: int, dropout: float) -> None:
        super().__init__()
        first, *rest = widths
        self.stem = nn.Sequential(*convolution(3, first, 5, stride=2), nn.ReLU())
        layers: list[nn.Module] = []
        for before, after, count in zip(widths, rest, blocks, strict=False):
            layers += [nn.MaxPool2d(2), nn.Sequential(*convolution(before, after, 3), nn.ReLU())]
            layers += [Residual(after) for _ in range(count)]
        self.body = nn.Sequential(*layers)
        self.gather = convolution(widths[-1], widths[-1], side // 16, groups=widths[-1], padding=0)
        self.dropout = nn.Dropout(dropout)
        self.project = nn.Linear(widths[-1], dimensions, bias=False)
        self.norm = nn.BatchNorm1d(dimensions)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.norm(self.project(self.dropout(self.gather(self.body(self.stem(x))).flatten(1))))
        return found


class Inverted(nn.Module):
    """1x1 wider, 3x3 each channel for itself, 1x1 back; added to the input where that fits. Sandler et al., CVPR 2018."""

    def __init__(self, before: int, after: int, expand: int, stride: int = 1) -> None:
        super().__init__()
        inner = before * expand
        self.added = stride == 1 and before == after
        self.layers = nn.Sequential(
            *convolution(before, inner, 1), nn.PReLU(inner),
            *convolution(inner, inner, 3, stride=stride, groups=inner), nn.PReLU(inner),
            *convolution(inner, after, 1),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.layers(x)
        return x + found if self.added else found


class Mobile(nn.Module):
    """[B, 3, S, S] -> [B, D]. MobileFaceNet with D = 256 instead of 128: 1,068,928 parameters, about 0.45 GFLOP a face."""

    def __init__(self, side: int, dimensions: int, dropout: float) -> None:
        super().__init__()
        layers: list[nn.Module] = [*convolution(3, 64, 3, stride=2), nn.PReLU(64), *convolution(64, 64, 3, groups=64), nn.PReLU(64)]
        for before, after, expand, count in ((64, 64, 2, 4), (64, 128, 4, 6), (128, 128, 4, 2)):
            layers.append(Inverted(before, after, expand, stride=2))
            layers += [Inverted(after, after, 2) for _ in range(count)]
        self.body = nn.Sequential(*layers, *convolution(128, 512, 1), nn.PReLU(512))
        self.gather = convolution(512, 512, side // 16, groups=512, padding=0)
        self.dropout = nn.Dropout(dropout)
        self.project = nn.Linear(512, dimensions, bias=False)
        self.norm = nn.BatchNorm1d(dimensions)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.norm(self.project(self.dropout(self.gather(self.body(x)).flatten(1))))
        return found


def unit(vectors: Tensor) -> Tensor:
    """The vectors [..., D] with length 1, in float32."""
    return F.normalize(vectors.float(), dim=-1)


# --- loss ---------------------------------------------------------------------------------------------------------------------


class Margin(nn.Module):
    """One direction W_j for each of P people. Vectors [B, D] -> their cosines with all of them [B, P]."""

    def __init__(self, people: int, dimensions: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(people, dimensions) * 0.01)

    def forward(self, vectors: Tensor) -> Tensor:
        return unit(vectors) @ unit(self.weight).T


def angular_loss(cosines: Tensor, labels: Tensor, *, scale: float, margin: float) -> Tensor:
    """ArcFace, eq. 3: cross entropy of s cos(theta + m) for the right person and s cos(theta) for the others. [B, P], int [B].

    Beyond theta = pi - m, where cos(theta + m) would rise again, cos(theta) - m sin(m) goes on falling, as in the authors' code.
    """
    right = cosines.gather(1, labels[:, None]).clamp(-1 + 1e-6, 1 - 1e-6)  # [B, 1]
    moved = right * cos(margin) - (1 - right.square()).sqrt() * sin(margin)
    moved = torch.where(right > cos(pi - margin), moved, right - margin * sin(margin)) if margin else right
    return F.cross_entropy(scale * cosines.scatter(1, labels[:, None], moved), labels)


# --- recipe -------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Embedding(Recipe):
    """Settings of the network, its window and its training; see the file's head."""

    needs: ClassVar[tuple[str, ...]] = ("person",)
    ships: ClassVar[tuple[str, ...]] = ("embedding",)
    offered: ClassVar[tuple[str, ...]] = ("pooled", "mobile", "light-cnn", "deep")

    network: str = "pooled"  # pooled (our own), mobile (MobileFaceNet), light-cnn (Light CNN-9), deep (ResNet-18, for GPUs)
    window: int = 112  # side of the aligned window in pixels, a multiple of 16
    zoom: float = 0.9  # how large the face is shown in it, against the usual template
    widths: tuple[int, int, int, int] = (32, 64, 128, 256)  # pooled: channels at 1/2, 1/4, 1/8, 1/16 of the window
    blocks: tuple[int, int, int] = (1, 2, 1)  # pooled: residual blocks at 1/4, 1/8, 1/16
    dimensions: int = 256  # D: length of the network's part of the vector
    dropout: float = 0.4  # of the features before the last layer
    people: int = 0  # P: people that the loss tells apart; 0: those among the items
    scale: float = 32.0  # s: what cosines are multiplied by
    margin: float = 0.3  # m: radians that the right person must be nearer; 0: plain softmax
    plain: float = 0.2  # part of the training without a margin
    even: float = 0.5  # part of the examples for which the person is drawn first; the others are drawn picture by picture
    renders: float = 0.5  # part of the examples that are made-up pictures: by `visagist augment`, and of the sets below
    made_up: tuple[str, ...] = ()  # names of sets (folders) that are no photographs, such as those of `visagist people`
    roll: float = 10.0  # largest turn of the window in degrees
    larger: float = 0.1  # largest change of its size, as a factor exp(+-larger)
    shift: float = 0.04  # largest shift in window sides
    erase: float = 0.2  # largest part of the window that is covered, in half of the examples
    batch: int = 128
    steps: int = 4000
    rate: float = 0.05  # SGD with momentum 0.9
    decay: float = 5e-4  # weight decay
    average: float = 0.998  # decay of the moving average

    def __post_init__(self) -> None:
        if self.network not in self.offered:
            raise ValueError(f"there is no network {self.network!r} here, but {', '.join(self.offered)}; others are other presets")
        if self.window % 16 or self.window < 32:
            raise ValueError(f"a window of {self.window} pixels is no multiple of 16 from 32 on")

    def networks(self) -> Networks:
        if self.network == "mobile":
            net: nn.Module = Mobile(self.window, self.dimensions, self.dropout)
        elif self.network == "pooled":
            net = Pooled(self.window, self.widths, self.blocks, self.dimensions, self.dropout)
        elif self.network == "deep":
            net = Deep(self.window, self.dimensions, self.dropout)
        else:
            net = LightCNN(self.window, self.dimensions, self.dropout)
        return {"embedding": net, "people": Margin(max(1, self.people), self.dimensions)}

    @property
    def length(self) -> int:
        """Of the whole vector."""
        return self.dimensions

    def stages(self) -> tuple[Stage, ...]:
        learn = Stage(
            "tell apart", ("embedding", "people"), step=self.step, optimizers=self.optimizers, batch=self.batch,
            steps=self.steps, schedule=lambda done: min(done / 0.04 + 0.02, 1.0) * (0.5 + 0.5 * cos(pi * done)),
            average=self.average, clip=5.0,
        )  # fmt: skip
        return (learn,)

    def optimizers(self, nets: Networks) -> dict[str, torch.optim.Optimizer]:
        parameters = [p for name in ("embedding", "people") for p in nets[name].parameters()]
        groups = [
            {"params": [p for p in parameters if p.ndim > 1], "weight_decay": self.decay},
            {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
        ]
        return {"all": torch.optim.SGD(groups, lr=self.rate, momentum=0.9)}

    def suited(self, items: Sequence[Item]) -> Recipe:
        """The recipe for as many people as there are. TrainingError "bad-data" when there is nobody to be told apart."""
        people = len(Album.of(items, self.made_up).names)
        if people < 2:
            raise TrainingError(f"{len(items)} pictures of {people} person", code="bad-data", hint="two people are the fewest")
        return replace(self, people=people)

    def split(self, items: Sequence[Item], validation: Sequence[Item]) -> tuple[Sequence[Item], Sequence[Item]]:
        """Nobody is in both, see `apart`; nothing made up is measured on. Without validation every tenth person is held back, of
        20 and more."""
        items, validation = apart(items, [item for item in validation if not is_made_up(item, self.made_up)])
        learnt = {person_of(item) for item in items}
        if validation or len(learnt) < 20:
            return items, validation
        held = set(sorted(learnt)[::10])
        return [i for i in items if person_of(i) not in held], [i for i in items if person_of(i) in held]

    def compose(self, items: Sequence[Item], index: int, rng: np.random.Generator) -> Item:
        """An item labelled by its person. Made-up pictures are drawn for their share of the examples (`renders`), and for some
        (`even`) the person is drawn first, all people alike."""
        album = Album.of(items, self.made_up)
        kind = int(rng.random() < self.renders) if all(album.all) else int(not album.all[0])
        if rng.random() < self.even:
            own = album.people[kind][int(rng.integers(len(album.people[kind])))]
            index = own[int(rng.integers(len(own)))]
        else:
            index = album.all[kind][index % len(album.all[kind])]
        return replace(items[index], label=int(album.labels[index]))

    def example(self, item: Item, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """image float32 [3, S, S] in [-1, 1]; label int64 []: the person's number."""
        window = disturb.moved(self._window(item), rng, roll=self.roll, scale=self.larger, shift=self.shift)
        image = disturb.worn(disturb.lit(window.cut(item.photo.pixels), rng), rng)
        if self.erase and rng.random() < 0.5:
            image = disturb.erased(image, self.erase, rng)
        return {"image": to_network(image), "label": np.array(item.label or 0, np.int64)}

    def _window(self, item: Item) -> Window:
        """The aligned window of the person's face. TrainingError "no-data" where nothing says where it is."""
        face = face_of(item)
        if face is None:
            raise TrainingError("no points say where the face is", code="no-data", path=item.name)
        return window_of(five_points(face), self.window, self.zoom)

    def step(self, run: Run, batch: Batch) -> Mapping[str, Tensor | float]:
        with run.autocast():
            vectors = self.view(run.nets, batch["image"].contiguous(memory_format=torch.channels_last))
        cosines = run.nets["people"](vectors)  # [B, P]
        margin = self.margin if run.progress >= self.plain else 0.0
        loss = angular_loss(cosines, batch["label"], scale=self.scale, margin=margin)
        run.update("all", loss)
        right = (cosines.detach().argmax(1) == batch["label"]).float().mean()
        return {"loss": loss.detach(), "right": right}

    def preview(self, run: Run, batch: Batch) -> np.ndarray:
        """Twenty-four examples with the cosine to their person and to the nearest other; uint8 [H, W, 3]."""
        images, labels = batch["image"][:24], batch["label"][:24]
        with torch.inference_mode():
            cosines = run.nets["people"](self.view(run.nets, images))
        own = cosines.gather(1, labels[:, None])[:, 0]
        other = cosines.scatter(1, labels[:, None], -1).max(1).values
        captions = [f"{a:.2f} / {b:.2f}" for a, b in zip(own.tolist(), other.tolist(), strict=True)]
        pixels = ((images.float().cpu().numpy().transpose(0, 2, 3, 1) + 1) * 127.5).clip(0, 255).astype(np.uint8)
        return draw.sheet(list(pixels), captions, columns=8)

    # use

    def view(self, nets: Mapping[str, nn.Module], x: Tensor) -> Tensor:
        """Windows [B, 3, S, S] -> the vectors [B, D] that people are told apart by in training."""
        return cast("Tensor", nets["embedding"](x))

    def parts(self, nets: Mapping[str, nn.Module], x: Tensor) -> list[Tensor]:
        """Windows [B, 3, S, S] -> the parts [B, ...] of which a vector is made in use."""
        return [self.view(nets, x)]

    def vectors(self, nets: Mapping[str, nn.Module], windows: Sequence[np.ndarray]) -> np.ndarray:
        """Unit vectors float32 [N, length] of windows uint8 [S, S, 3]: means of each and its mirror image, all parts as long."""
        where = next(nets["embedding"].parameters()).device
        found = [np.empty((0, self.length), np.float32)]
        with torch.inference_mode():
            for start in range(0, len(windows), AT_ONCE):
                x = torch.from_numpy(np.stack([to_network(w) for w in windows[start : start + AT_ONCE]])).to(where)
                views = torch.cat([x, x.flip(3)])
                parts = [unit(unit(part.view(2, len(x), -1)).sum(0)) for part in self.parts(nets, views)]
                found.append(unit(torch.cat(parts, dim=1)).cpu().numpy())
        return np.concatenate(found)

    def recognize(self, nets: Mapping[str, nn.Module], photo: Photo, faces: Sequence[Face]) -> tuple[Face, ...]:
        """The same faces with `identity`, float32 [D] of unit length. FaceError "no-points" for a face without points."""
        windows = [window_of(five_points(face), self.window, self.zoom).cut(photo.pixels) for face in faces]
        found = self.vectors(nets, windows)
        return tuple(replace(face, identity=identity) for face, identity in zip(faces, found, strict=True))

    @staticmethod
    def augment(**settings: Any) -> Augment:
        """How pictures to learn from are multiplied."""
        return Augment(**settings)

    def scale_of(self, measured: Mapping[str, float]) -> Scale:
        """What a score means, by the figures on the weights card."""
        return Scale.of(measured)

    def measure(self, nets: Mapping[str, nn.Module], items: Sequence[Item], tools: Tools) -> dict[str, float]:
        """What `metrics.people` tells of the vectors of these pictures, and n_not_found: pictures in which the finder does not see
        the face that is labelled; there the labelled points serve. Without a finder they always do."""
        vectors, known, yaws, missed = self.looked_at(nets, items, tools)
        if not known:
            raise TrainingError(f"no face in {len(items)} pictures", code="no-data", hint="label points, or give a finder")
        names, clips = [person_of(item) for item in known], [clip_of(item) for item in known]
        sets = [str(item.facts.get("set", "")) for item in known]
        figures: dict[str, float] = tools.metrics.people(vectors, names, clips, yaws, sets)
        return {**figures, "n_not_found": float(missed)}

    def counted(self, metric: str) -> str:
        """Most figures are of pairs of pictures, some of one kind of them; ranks are of probes."""
        if metric.startswith("rank1_yaw_"):
            return metric.replace("rank1", "n", 1)
        for count, kinds in (("n_same", ("tar_", "frr_", "false_reject")), ("n_different", ("score_", "false_accept"))):
            if metric.startswith(kinds):
                return count
        what = metric.removeprefix("template_")
        return f"n_{'' if what == metric else 'template_'}{'probes' if what.startswith('rank') else 'pairs'}"

    def looked_at(
        self, nets: Mapping[str, nn.Module], items: Sequence[Item], tools: Tools
    ) -> tuple[np.ndarray, list[Item], np.ndarray, int]:
        """Unit vectors [N, D] of the people in items, the N items in which there is a face, the yaws of their heads (NaN: unknown),
        and in how many the finder did not see it."""
        found, known, yaws, missed = [], [], [], 0
        windows: list[np.ndarray] = []
        for item in items:
            photo = item.photo
            face, seen = self._seen(item, photo, tools)
            missed += not seen
            if face is not None:
                windows.append(window_of(five_points(face), self.window, self.zoom).cut(photo.pixels))
                yaws.append(pose_of(face.points).yaw if face.points is not None and face.scheme == "ibug68" else float("nan"))
                known.append(item)
            if len(windows) == AT_ONCE:
                found.append(self.vectors(nets, windows))
                windows = []
        return np.concatenate([*found, self.vectors(nets, windows)]), known, np.array(yaws), missed

    def _seen(self, item: Item, photo: Photo, tools: Tools) -> tuple[Face | None, bool]:
        """The person's face as the finder sees it, else as it is labelled; and whether the finder saw it (True without one)."""
        labelled = face_of(item)
        if tools.finder is None:
            return labelled, True
        faces = [face for face in tools.finder(photo) if face.points is not None]
        if not faces:
            return labelled, False
        if labelled is None:
            return faces[0], True  # the largest
        overlaps = iou(np.array([labelled.box]), np.array([face.box for face in faces]))[0]
        best = int(overlaps.argmax())
        return (faces[best], True) if overlaps[best] > 0.3 else (labelled, False)


def to_network(window: np.ndarray) -> np.ndarray:
    """uint8 [S, S, 3] -> float32 [3, S, S] in [-1, 1]."""
    return np.ascontiguousarray((window.astype(np.float32) / 127.5 - 1).transpose(2, 0, 1))
