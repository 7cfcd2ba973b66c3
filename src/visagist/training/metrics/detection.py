"""How well boxes are found.

Sources: Everingham et al., "The Pascal Visual Object Classes (VOC) Challenge", IJCV 2010 (11-point and, in the development kit
since 2010, all-point average precision); Lin et al., "Microsoft COCO", ECCV 2014 (mean over IoU 0.50:0.05:0.95, 101 points,
crowds); false positives per picture as in Dollár et al., "Pedestrian Detection: An Evaluation of the State of the Art", PAMI 2012.

Read: judge (one picture), curve and average_precision (all of them), recall_at, detection (the figures `evaluate` prints).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from visagist.photo.boxes import Box, area, iou, overlap
from visagist.photo.face import Face
from visagist.recipe import Item

COCO_THRESHOLDS = tuple(0.5 + 0.05 * i for i in range(10))
IGNORE = "ignore"  # label of areas where a detection is neither right nor wrong
INSIDE = 0.5  # share of a detection that must lie in an ignored area to be passed over

Method = Literal["all", "11", "101"]


@dataclass(frozen=True, eq=False)
class Judged:
    """Detections that count, over any number of pictures, and how many truths there were to find.

    scores float [N]; right bool [N]; truths int; pictures int
    """

    scores: np.ndarray
    right: np.ndarray
    truths: int
    pictures: int

    @classmethod
    def together(cls, parts: Sequence[Judged]) -> Judged:
        """All parts as one; they share no picture."""
        if not parts:
            return cls(np.zeros(0), np.zeros(0, bool), 0, 0)
        scores, right = np.concatenate([p.scores for p in parts]), np.concatenate([p.right for p in parts])
        return cls(scores, right, sum(p.truths for p in parts), sum(p.pictures for p in parts))


def judge(
    boxes: np.ndarray,
    scores: np.ndarray,
    truths: np.ndarray,
    *,
    threshold: float = 0.5,
    ignored: np.ndarray | None = None,
    complete: bool = True,
) -> Judged:
    """Which detections of one picture are right.

    In order of falling score every detection takes the truth it overlaps most among those not yet taken, if their IoU reaches
    `threshold`; it is right. All others are wrong, a second detection of one truth too, except those to be passed over:
    at least half inside an ignored area, or, where the labels are not `complete`, away from every labelled truth (they share less
    than half of the smaller of the two boxes: somebody unlabelled may be there).

    boxes [N, 4], scores [N], truths [M, 4], ignored [K, 4] or None.
    """
    boxes, truths = np.asarray(boxes, float).reshape(-1, 4), np.asarray(truths, float).reshape(-1, 4)
    scores = np.asarray(scores, float).reshape(-1)
    overlaps = iou(boxes, truths)
    right = np.zeros(len(boxes), bool)
    free = np.ones(len(truths), bool)
    for i in np.argsort(-scores, kind="stable"):
        candidates = np.where(free, overlaps[i], -1.0)
        if candidates.size and candidates.max() >= threshold:
            right[i], free[candidates.argmax()] = True, False
    passed = np.zeros(len(boxes), bool)
    if ignored is not None and len(ignored) and len(boxes):
        inside = overlap(boxes, np.asarray(ignored, float).reshape(-1, 4)).max(1)
        passed |= inside >= INSIDE * area(boxes)
    if not complete:
        smaller = np.minimum(area(boxes)[:, None], area(truths)[None, :])
        passed |= ~(overlap(boxes, truths) >= INSIDE * smaller).any(1)
    counts = right | ~passed
    return Judged(scores[counts], right[counts], len(truths), 1)


def curve(judged: Judged) -> tuple[np.ndarray, np.ndarray]:
    """Recall and precision, each [N], after the best 1..N detections. Without truths recall is NaN."""
    order = np.argsort(-judged.scores, kind="stable")
    right = np.cumsum(judged.right[order])
    recall = right / judged.truths if judged.truths else np.full(len(right), np.nan)
    return recall, right / np.arange(1, len(right) + 1)


def average_precision(recall: np.ndarray, precision: np.ndarray, method: Method = "all") -> float:
    """Area below the precision-recall curve, 0..1; NaN when recall is not known.

    Precision at recall r is the highest at any recall >= r, 0 beyond the last. "all": exact area of that staircase (VOC since
    2010); "11": mean at r = 0, 0.1 ... 1 (VOC 2007); "101": mean at r = 0, 0.01 ... 1 (COCO).
    """
    recall, precision = np.asarray(recall, float), np.asarray(precision, float)
    if np.isnan(recall).any():
        return float("nan")
    best = np.maximum.accumulate(precision[::-1])[::-1]  # highest precision at this recall or a higher one
    if method == "all":
        return float((np.diff(recall, prepend=0.0) * best).sum())
    levels = np.linspace(0, 1, int(method))
    at = np.searchsorted(recall, levels - 1e-12)  # first detection that reaches the level, despite rounding
    return float(np.append(best, 0.0)[at].mean())


def recall_at(judged: Judged, rate: float) -> float:
    """The highest recall, 0..1, of any score limit that lets through at most `rate` false positives per picture.

    Detections of equal score pass or fall together. NaN without truths.
    """
    if not judged.truths:
        return float("nan")
    order = np.argsort(-judged.scores, kind="stable")
    scores, right = judged.scores[order], judged.right[order]
    wrong, last_of_score = np.cumsum(~right), np.append(scores[1:] != scores[:-1], True)[: len(scores)]
    allowed = last_of_score & (wrong <= rate * judged.pictures + 1e-9)
    return float(np.cumsum(right)[allowed].max(initial=0) / judged.truths)


def detection(
    found: Sequence[Sequence[Face]], items: Sequence[Item], *, thresholds: Sequence[float] = COCO_THRESHOLDS
) -> dict[str, float]:
    """The figures of a finder: ap50, ap (mean over `thresholds`), recall_at_0.1_fppi (at IoU 0.5), n_faces, n_photos.

    found   what was found in each item's photo
    items   truth: faces labelled "ignore" mark areas to pass over, `complete` says whether a detection elsewhere is wrong.
            Items that are not complete and have no face tell nothing and are left out

    Both AP are all-point; several labels (classes) are judged apart and their AP averaged. Without faces they are NaN.
    """
    pairs = [(f, item) for f, item in zip(found, items, strict=True) if item.faces or item.complete]
    labels = sorted({face.label for _, item in pairs for face in item.faces} - {IGNORE})
    by_threshold = {t: [_judged(pairs, label, t) for label in labels] for t in {0.5, *thresholds}}
    precision = {t: _mean([average_precision(*curve(j)) for j in of_label]) for t, of_label in by_threshold.items()}
    half = by_threshold[0.5]
    strays = [np.array([f.score for f in faces if f.label not in labels]) for faces, item in pairs if item.complete]
    pooled = Judged(
        np.concatenate([np.zeros(0), *(j.scores for j in half), *strays]),
        np.concatenate([np.zeros(0, bool), *(j.right for j in half), *(np.zeros(len(s), bool) for s in strays)]),
        sum(j.truths for j in half),
        len(pairs),
    )
    return {
        "ap50": precision[0.5],
        "ap": _mean([precision[t] for t in thresholds]),
        "recall_at_0.1_fppi": recall_at(pooled, 0.1),
        "n_faces": float(pooled.truths),
        "n_photos": float(pooled.pictures),
    }


def _judged(pairs: Sequence[tuple[Sequence[Face], Item]], label: str, threshold: float) -> Judged:
    return Judged.together(
        [
            judge(
                _boxes(faces, label),
                np.array([f.score for f in faces if f.label == label]),
                _boxes(item.faces, label),
                threshold=threshold,
                ignored=_boxes(item.faces, IGNORE),
                complete=item.complete,
            )
            for faces, item in pairs
        ]
    )


def _boxes(faces: Sequence[Face], label: str) -> np.ndarray:
    boxes: list[Box] = [f.box for f in faces if f.label == label]
    return np.array(boxes, float).reshape(-1, 4)


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if len(values) else float("nan")
