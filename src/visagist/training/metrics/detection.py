"""How well boxes are found.

Sources: Everingham et al., "The Pascal Visual Object Classes (VOC) Challenge", IJCV 2010 (11-point and, in the development kit
since 2010, all-point average precision); Lin et al., "Microsoft COCO", ECCV 2014 (mean over IoU 0.50:0.05:0.95, 101 points,
crowds); false positives per picture as in Dollár et al., "Pedestrian Detection: An Evaluation of the State of the Art", PAMI 2012.

Read: judge (one picture), curve and average_precision (all of them), recall_at, detection (the figures `evaluate` prints), and
drawn_precision, drawn_recall (the same for many draws of people at once, for the intervals).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from visagist.photo.boxes import Box, area, iou, overlap
from visagist.photo.face import Face
from visagist.recipe import Item
from visagist.training.metrics.interval import UNKNOWN, Figure, Interval, draws, groups_of, percentiles

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
    def together(cls, parts: Sequence[Judged], pictures: int | None = None) -> Judged:
        """All parts as one; they share no picture unless it is said how many `pictures` there are."""
        if not parts:
            return cls(np.zeros(0), np.zeros(0, bool), 0, pictures or 0)
        scores, right = np.concatenate([p.scores for p in parts]), np.concatenate([p.right for p in parts])
        count = sum(p.pictures for p in parts) if pictures is None else pictures
        return cls(scores, right, sum(p.truths for p in parts), count)


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
) -> dict[str, Figure | float]:
    """The figures of a finder: ap50, ap (mean over `thresholds`), recall_at_0.1_fppi (at IoU 0.5), n_faces, n_photos; beside them
    ap50_all_points (which ap50 is) and ap50_11_points (VOC 2007), ap_101_points (the mean as the COCO program computes it).

    found   what was found in each item's photo
    items   truth: faces labelled "ignore" mark areas to pass over, `complete` says whether a detection elsewhere is wrong.
            Items that are not complete and have no face tell nothing and are left out

    Several labels (classes) are judged apart and their AP averaged. Without faces they are NaN. The first three know their
    interval: people are drawn; a picture whose person is not known counts as one.
    """
    pairs = [(f, item) for f, item in zip(found, items, strict=True) if item.faces or item.complete]
    labels = sorted({face.label for _, item in pairs for face in item.faces} - {IGNORE})
    judged = {t: [[_judged(*pair, label, t) for pair in pairs] for label in labels] for t in {0.5, *thresholds}}
    curves = {t: [curve(Judged.together(parts)) for parts in of_label] for t, of_label in judged.items()}

    def precision(ts: Sequence[float], method: Method) -> float:
        return _mean([_mean([average_precision(*one, method) for one in curves[t]]) for t in ts])

    strays = [_strays(faces, labels, item.complete) for faces, item in pairs]
    half = [Judged.together([*parts, stray], pictures=1) for *parts, stray in zip(*judged[0.5], strays, strict=True)]
    pooled = Judged.together(half)
    groups, people = groups_of([("picture", i) if item.person is None else item.person for i, (_, item) in enumerate(pairs)])

    def sure(drawn: Callable[[np.ndarray], np.ndarray]) -> Interval:
        return UNKNOWN if people < 2 or not labels else percentiles(drawn(draws(people)))

    def drawn_ap(often: np.ndarray, ts: Sequence[float]) -> np.ndarray:
        return np.mean([nan_mean([drawn_precision(parts, groups, often) for parts in judged[t]]) for t in ts], 0)

    return {
        "ap50": Figure(precision((0.5,), "all"), lambda: sure(lambda often: drawn_ap(often, (0.5,)))),
        "ap": Figure(precision(thresholds, "all"), lambda: sure(lambda often: drawn_ap(often, thresholds))),
        "recall_at_0.1_fppi": Figure(recall_at(pooled, 0.1), lambda: sure(lambda often: drawn_recall(half, groups, often, 0.1))),
        "n_faces": float(pooled.truths),
        "n_photos": float(pooled.pictures),
        "ap50_all_points": precision((0.5,), "all"),
        "ap50_11_points": precision((0.5,), "11"),
        "ap_101_points": precision(thresholds, "101"),
    }


def drawn_precision(parts: Sequence[Judged], groups: np.ndarray, often: np.ndarray) -> np.ndarray:
    """All-point average precision [R] of R draws of pictures: a picture of group g counts often[r, g] times.

    parts [P] pictures, groups int [P], often [R, G]. NaN for draws without truths.
    """
    ranked = _Ranked.of(parts, groups, often.shape[1])
    out = []
    for some in ranked.blocks(often):
        times = some[:, ranked.group].astype(np.float32)
        hits = times * ranked.right
        share = np.cumsum(hits, 1, dtype=np.float64) / np.maximum(np.cumsum(times, 1, dtype=np.float64), 1)
        best = np.maximum.accumulate(share[:, ::-1], 1)[:, ::-1]
        out.append((hits * best).sum(1) / _known(some @ ranked.truths))
    return np.concatenate(out)


def drawn_recall(parts: Sequence[Judged], groups: np.ndarray, often: np.ndarray, rate: float) -> np.ndarray:
    """`recall_at` [R] of R draws of pictures, given as to `drawn_precision`."""
    ranked = _Ranked.of(parts, groups, often.shape[1])
    out = []
    for some in ranked.blocks(often):
        times = some[:, ranked.group]
        wrong, right = np.cumsum(times * ~ranked.right, 1), np.cumsum(times * ranked.right, 1)
        allowed = ranked.last & (wrong <= rate * (some @ ranked.pictures)[:, None] + 1e-9)
        out.append(np.where(allowed, right, 0).max(1, initial=0) / _known(some @ ranked.truths))
    return np.concatenate(out)


@dataclass(frozen=True, eq=False)
class _Ranked:
    """Detections [N] of many pictures by falling score, with the group of each; truths and pictures of every group [G]."""

    right: np.ndarray
    last: np.ndarray  # whether the next one has a lower score
    group: np.ndarray
    truths: np.ndarray
    pictures: np.ndarray

    @classmethod
    def of(cls, parts: Sequence[Judged], groups: np.ndarray, count: int) -> _Ranked:
        every = Judged.together(parts)
        order = np.argsort(-every.scores, kind="stable")
        scores = every.scores[order]
        truths, pictures = (np.bincount(groups, v, count) for v in ([p.truths for p in parts], [p.pictures for p in parts]))
        last = np.append(scores[1:] != scores[:-1], True)[: len(scores)]
        return cls(every.right[order], last, np.repeat(groups, [len(p.scores) for p in parts])[order], truths, pictures)

    def blocks(self, often: np.ndarray) -> Iterator[np.ndarray]:
        """The draws, so many at once that nothing grows beyond some tens of megabytes."""
        step = max(1, 1_000_000 // max(1, len(self.group)))
        yield from (often[start : start + step] for start in range(0, len(often), step))


def _known(truths: np.ndarray) -> np.ndarray:
    return np.where(truths > 0, truths, np.nan)


def nan_mean(rows: Sequence[np.ndarray]) -> np.ndarray:
    """Mean over the rows, each [R], of what is known; NaN where nothing is."""
    table = np.array(rows)
    known = ~np.isnan(table)
    return np.where(known, table, 0).sum(0) / np.where(known.any(0), known.sum(0), np.nan)


def _strays(faces: Sequence[Face], labels: Sequence[str], complete: bool) -> Judged:
    """Detections of classes that no picture holds: all wrong, where everything is labelled."""
    scores = np.array([f.score for f in faces if f.label not in labels and complete], float)
    return Judged(scores, np.zeros(len(scores), bool), 0, 1)


def _judged(faces: Sequence[Face], item: Item, label: str, threshold: float) -> Judged:
    return judge(
        _boxes(faces, label),
        np.array([f.score for f in faces if f.label == label]),
        _boxes(item.faces, label),
        threshold=threshold,
        ignored=_boxes(item.faces, IGNORE),
        complete=item.complete,
    )


def _boxes(faces: Sequence[Face], label: str) -> np.ndarray:
    boxes: list[Box] = [f.box for f in faces if f.label == label]
    return np.array(boxes, float).reshape(-1, 4)


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if len(values) else float("nan")
