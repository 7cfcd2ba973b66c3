"""Same person or not: how well scores of pairs of pictures tell it, and who is found in a gallery.

Pairs as in Huang, Ramesh, Berg, Learned-Miller, "Labeled Faces in the Wild", 2007: ten folds, the threshold of each chosen on the
other nine. Their pairs are as many of each kind; here all pairs are used and both kinds count alike, which is the same with less
chance. Gallery and probes by pose as in Gross et al., "Multi-PIE", 2010; means over a clip as the templates of Klare et al.,
"Pushing the Frontiers of Unconstrained Face Detection and Recognition: IARPA Janus Benchmark A", CVPR 2015.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from visagist.training.metrics.interval import ROUNDS, UNKNOWN, Figure, Interval, draws, groups_of, percentiles, ratio_interval

FOLDS = 10
MOST = 50_000  # pairs of each kind; of more, so many are drawn
RATES = (0.3, 0.1, 0.03, 0.01, 0.003, 0.001)  # false-accept rates whose scores are told
TURNED = ((0, 15), (15, 30), (30, 45), (45, 90))  # degrees of yaw to either side
RANKS = (1, 5, 10)  # the right person is among so many nearest ones


@dataclass(frozen=True, eq=False)
class Pairs:
    """Pairs of pictures: first, second int [K] and same bool [K]. `of` int [N] is the person of each picture, of `count`."""

    first: np.ndarray
    second: np.ndarray
    same: np.ndarray
    of: np.ndarray
    count: int

    @classmethod
    def of_people(cls, people: Sequence[str], clips: Sequence[str], sets: Sequence[str] = (), *, seed: int = 0) -> Pairs:
        """Every pair of two people of one set, and every pair of one person whose pictures are of different clips. Pictures of two
        sets are told apart by more than who is in them: such strangers would be too easy.

        sets  the set of each picture; () where all are of one
        """
        of, count = groups_of(people)
        taken, _ = groups_of(clips)
        first, second = np.triu_indices(len(of), 1)
        same = of[first] == of[second]
        group = groups_of(sets)[0] if sets else np.zeros(len(of), int)
        kept = [np.flatnonzero(same & (taken[first] != taken[second])), np.flatnonzero(~same & (group[first] == group[second]))]
        rng = np.random.default_rng(seed)
        kept = [np.sort(rng.choice(k, MOST, replace=False)) if len(k) > MOST else k for k in kept]
        chosen = np.concatenate(kept)
        return cls(first[chosen], second[chosen], same[chosen], of, count)

    @property
    def complete(self) -> bool:
        """Whether there are pairs of both kinds."""
        return bool(self.same.any() and not self.same.all())

    def often(self, drawn: np.ndarray) -> np.ndarray:
        """How often each pair comes when people are drawn so often: drawn [R, P] -> [R, K]. Of two people the product."""
        a, b = drawn[:, self.of[self.first]], drawn[:, self.of[self.second]]
        return np.where(self.same, a, a * b).astype(np.float64)


def people(
    vectors: np.ndarray, names: Sequence[str], clips: Sequence[str], yaws: np.ndarray, sets: Sequence[str] = ()
) -> dict[str, float]:
    """The figures of unit vectors [N, D] of pictures of these people and clips, heads turned by these yaws (NaN: unknown), of sets
    by these names (() for one).

    pair_accuracy           share of pairs told rightly, ten folds; both kinds of pairs count alike
    auc, eer                area under the curve; the rate at which as many are falsely accepted as falsely rejected
    tar_at_far_X            share of pairs of one person that are accepted where X of those of two people are
    rank1, rank5, rank10    share of pictures for which, of one frontal picture of everybody, the right one is among so many nearest
    rank1_yaw_A_B           the same for probes turned by A to B degrees
    threshold               the score at which most pairs are told rightly; false_accept_rate, false_reject_rate: there
    score_at_far_X          the score at which X of the pairs of two people are accepted; frr_at_far_X: how many of one person are
                            rejected there
    template_...            accuracy (of pairs), eer, rank1, rank5, rank10 of templates: the mean vector of each clip
    n, n_people, n_templates            pictures, people, clips
    n_pairs, n_same, n_different        pairs, of one person, of two
    n_probes, n_gallery, n_yaw_A_B      probes behind rank1, people in the gallery, probes of rank1_yaw_A_B
    n_template_pairs, n_template_probes

    What cannot be measured on these pictures is NaN.
    """
    pairs = Pairs.of_people(names, clips, sets)
    figures = {"n": float(len(vectors)), "n_people": float(pairs.count), **_counts(pairs)}
    figures |= verification(_scores(vectors, pairs), pairs)
    return figures | identification(vectors, names, clips, yaws) | templates(vectors, names, clips, yaws, sets)


def _counts(pairs: Pairs) -> dict[str, float]:
    same = float(pairs.same.sum())
    return {"n_pairs": float(len(pairs.same)), "n_same": same, "n_different": len(pairs.same) - same}


def _scores(vectors: np.ndarray, pairs: Pairs) -> np.ndarray:
    scores: np.ndarray = (vectors[pairs.first] * vectors[pairs.second]).sum(1)
    return scores


def verification(scores: np.ndarray, pairs: Pairs) -> dict[str, float]:
    """The figures of pairs with these scores [K], see `people`."""
    if not pairs.complete:
        unknown = dict.fromkeys(
            ("pair_accuracy", "auc", "eer", "threshold", "false_accept_rate", "false_reject_rate"), float("nan")
        )
        return unknown | _reached(np.sort(scores[~pairs.same])[::-1])
    curve = Curve.of(scores, pairs)
    figures: dict[str, float] = {
        "pair_accuracy": _accuracy(scores, pairs),
        "auc": _figure(curve.area, pairs),
        "eer": _figure(curve.equal, pairs),
    }
    for rate in (0.01, 0.001):
        figures[f"tar_at_far_{rate:g}"] = _figure(partial(curve.accepted, rate), pairs)
    threshold = _best(scores, pairs.same)
    own, others = scores[pairs.same], np.sort(scores[~pairs.same])[::-1]
    figures |= {"threshold": threshold, "false_accept_rate": float((others >= threshold).mean())}
    figures["false_reject_rate"] = float((own < threshold).mean())
    reached = _reached(others)
    missed = {name.replace("score", "frr"): float((own < score).mean()) for name, score in reached.items()}
    return figures | reached | missed


def _reached(others: np.ndarray) -> dict[str, float]:
    """score_at_far_X of the scores [K] of pairs of two people, by falling score; {} without any."""
    if not len(others):
        return {}
    return {f"score_at_far_{rate:g}": float(others[min(int(rate * len(others)), len(others) - 1)]) for rate in RATES}


def identification(vectors: np.ndarray, names: Sequence[str], clips: Sequence[str], yaws: np.ndarray) -> dict[str, float]:
    """rank1, rank5, rank10, and rank1 by how far the probe's head is turned. Gallery: of each person with two clips or more the
    picture turned least; probes: those persons' pictures of other clips. In a gallery of K people no rank above K says anything:
    it is NaN."""
    of, _ = groups_of(names)
    taken, _ = groups_of(clips)
    turned = np.abs(np.nan_to_num(yaws, nan=90.0))
    gallery = []
    for person in range(of.max(initial=-1) + 1):
        own = np.flatnonzero(of == person)
        if len(set(taken[own].tolist())) > 1:
            gallery.append(int(own[np.argmin(turned[own])]))
    held = np.array(gallery, np.int64)
    if len(held) < 2:
        return {**{f"rank{rank}": float("nan") for rank in RANKS}, "n_probes": 0.0}
    clip_of_person = dict(zip(of[held].tolist(), taken[held].tolist(), strict=True))
    probes = [i for i in range(len(of)) if int(of[i]) in clip_of_person and taken[i] != clip_of_person[int(of[i])]]
    scores = vectors[probes] @ vectors[held].T
    own = scores[np.arange(len(probes)), np.searchsorted(of[held], of[probes])]  # the gallery is in the order of its people
    place = (scores >= own[:, None]).sum(1) - 1  # 0: nobody is as near
    who = [names[i] for i in probes]
    figures: dict[str, float] = {"n_probes": float(len(probes)), "n_gallery": float(len(held))}
    for rank in RANKS:
        figures[f"rank{rank}"] = _share((place < rank).astype(float), who) if rank <= len(held) else float("nan")
    hit = (place < 1).astype(float)
    for low, high in TURNED:
        inside = np.isfinite(yaws[probes]) & (np.abs(yaws[probes]) >= low) & (np.abs(yaws[probes]) < high)
        if inside.any():
            some = [name for name, kept in zip(who, inside, strict=True) if kept]
            figures[f"rank1_yaw_{low}_{high}"] = _share(hit[inside], some)
            figures[f"n_yaw_{low}_{high}"] = float(inside.sum())
    return figures


def templates(
    vectors: np.ndarray, names: Sequence[str], clips: Sequence[str], yaws: np.ndarray, sets: Sequence[str] = ()
) -> dict[str, float]:
    """The figures of templates, the mean vectors of clips, see `people`; the yaw of a clip is that of its picture turned least."""
    taken, count = groups_of(clips)
    means = np.zeros((count, vectors.shape[1]))
    np.add.at(means, taken, vectors)
    means /= np.maximum(np.linalg.norm(means, axis=1, keepdims=True), 1e-12)
    owner = dict(zip(taken.tolist(), names, strict=True))
    of = [owner[i] for i in range(count)]
    turned = np.full(count, 90.0)
    np.minimum.at(turned, taken, np.abs(np.nan_to_num(yaws, nan=90.0)))
    each = [str(i) for i in range(count)]
    of_set = dict(zip(taken.tolist(), sets, strict=True)) if sets else {}
    pairs = Pairs.of_people(of, each, [of_set[i] for i in range(count)] if sets else ())
    figures = {"n_templates": float(count), "n_template_pairs": float(len(pairs.same))}
    figures |= dict.fromkeys(("template_accuracy", "template_eer"), float("nan"))
    if pairs.complete:
        scores = _scores(means, pairs)
        figures["template_accuracy"] = _accuracy(scores, pairs)
        figures["template_eer"] = _figure(Curve.of(scores, pairs).equal, pairs)
    ranks = identification(means, of, each, turned)
    figures |= {f"template_rank{rank}": ranks[f"rank{rank}"] for rank in RANKS}
    return {**figures, "n_template_probes": ranks["n_probes"]}


@dataclass(frozen=True, eq=False)
class Curve:
    """Pairs by falling score; pairs of one score stand or fall together. weights [R, K] give one figure for each of R draws."""

    order: np.ndarray
    same: np.ndarray  # bool [K], in this order
    ends: np.ndarray  # the last number of each run of one score

    @classmethod
    def of(cls, scores: np.ndarray, pairs: Pairs) -> Curve:
        order = np.argsort(-scores, kind="stable")
        return cls(order, pairs.same[order], np.append(np.flatnonzero(np.diff(scores[order])), len(order) - 1))

    def rates(self, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Shares [R, T + 1] of pairs of two people and of one that are accepted, from none to all."""
        rates = []
        for kind in (~self.same, self.same):
            sums = np.cumsum(np.where(kind, weights[:, self.order], 0), axis=1)[:, self.ends]
            with np.errstate(invalid="ignore"):
                rates.append(np.pad(sums / sums[:, -1:], ((0, 0), (1, 0))))
        return rates[0], rates[1]

    def area(self, weights: np.ndarray) -> np.ndarray:
        far, tar = self.rates(weights)
        areas: np.ndarray = (np.diff(far, axis=1) * (tar[:, 1:] + tar[:, :-1]) / 2).sum(1)
        return areas

    def equal(self, weights: np.ndarray) -> np.ndarray:
        far, tar = self.rates(weights)
        gap = far - (1 - tar)  # rises from -1 to 1
        after = np.argmax(gap >= 0, axis=1)[:, None]
        g0, g1, f0, f1 = (np.take_along_axis(a, after - b, 1)[:, 0] for a in (gap, far) for b in (1, 0))
        rate: np.ndarray = f0 + (f1 - f0) * -g0 / (g1 - g0)
        return rate

    def accepted(self, rate: float, weights: np.ndarray) -> np.ndarray:
        far, tar = self.rates(weights)
        found: np.ndarray = np.where(far <= rate + 1e-12, tar, 0).max(1)
        return np.where(np.isnan(far[:, -1]), np.nan, found)


def _right(scores: np.ndarray, pairs: Pairs) -> np.ndarray:
    """Which pairs are told rightly, float [K]: people in ten folds, a pair in that of its first picture."""
    fold = pairs.of[pairs.first] % FOLDS
    right = np.zeros(len(scores))
    for number in range(FOLDS):
        inside = fold == number
        outside = ~inside
        threshold = _best(scores[outside], pairs.same[outside]) if outside.any() else 0.0
        right[inside] = (scores[inside] >= threshold) == pairs.same[inside]
    return right


def _best(scores: np.ndarray, same: np.ndarray) -> float:
    """The threshold at which most pairs are told rightly, both kinds counting alike; half-way to the next lower score."""
    if same.all() or not same.any():
        return float(scores.mean())
    order = np.argsort(-scores, kind="stable")
    ranked, kind = scores[order], same[order]
    gain = np.cumsum(kind) / kind.sum() - np.cumsum(~kind) / (~kind).sum()
    ends = np.append(np.flatnonzero(np.diff(ranked)), len(ranked) - 1)
    best = int(ends[np.argmax(np.round(gain[ends], 9))])  # of equally good ones the highest
    return float((ranked[best] + ranked[min(best + 1, len(ranked) - 1)]) / 2)


def _balanced(right: np.ndarray, same: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The mean of the shares of both kinds, [R]."""
    with np.errstate(invalid="ignore"):
        both = [(weights[:, kind] @ right[kind]) / weights[:, kind].sum(1) for kind in (same, ~same)]
    return (both[0] + both[1]) / 2


def _accuracy(scores: np.ndarray, pairs: Pairs) -> Figure:
    """pair_accuracy of pairs with these scores."""
    right = _right(scores, pairs)
    return _figure(lambda weights: _balanced(right, pairs.same, weights), pairs)


def _figure(of: Callable[[np.ndarray], np.ndarray], pairs: Pairs) -> Figure:
    """A figure of pairs and, when asked for, its interval by bootstrap over people."""

    def interval() -> Interval:
        if pairs.count < 2:
            return UNKNOWN
        drawn = draws(pairs.count)
        part = max(1, 4_000_000 // len(pairs.same))  # draws at once: memory
        return percentiles(np.concatenate([of(pairs.often(drawn[i : i + part])) for i in range(0, ROUNDS, part)]))

    return Figure(float(of(np.ones((1, len(pairs.same))))[0]), interval)


def _share(hit: np.ndarray, who: Sequence[str]) -> Figure:
    return Figure(float(hit.mean()), lambda: ratio_interval(hit, np.ones(len(hit)), who))
