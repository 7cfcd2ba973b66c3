"""How often the likeliest class is the right one, and which are taken for which."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from visagist.training.metrics.interval import LEVEL, ROUNDS, Figure, Interval


def classes(probabilities: np.ndarray, labels: Sequence[int] | np.ndarray) -> dict[str, float]:
    """accuracy, loss and n.

    probabilities [N, K] of the K classes; labels int [N], 0..K-1
    accuracy      share of pictures whose likeliest class is the right one; its `values` are the probabilities
    loss          cross-entropy, the mean of -log p of the right class
    """
    labels = np.asarray(labels)
    if probabilities.ndim != 2 or len(probabilities) != len(labels) or not len(labels):
        raise ValueError(f"probabilities {list(probabilities.shape)} do not fit {len(labels)} labels")
    right = probabilities.argmax(1) == labels
    of_right = probabilities[np.arange(len(labels)), labels]
    return {
        "accuracy": Figure(float(right.mean()), lambda: share_interval(int(right.sum()), len(right)), probabilities),
        "loss": float(-np.log(np.maximum(of_right, 1e-12)).mean()),
        "n": float(len(labels)),
    }


def share_interval(right: int, count: int, *, seed: int = 0) -> Interval:
    """The interval of a share by bootstrap over pictures: how many of a draw are right follows a binomial distribution."""
    drawn = np.random.default_rng(seed).binomial(count, right / count, ROUNDS) / count
    low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def confusion(probabilities: np.ndarray, labels: Sequence[int] | np.ndarray) -> np.ndarray:
    """How many pictures of class i were taken for class j: int [K, K]."""
    count = probabilities.shape[1]
    made = np.bincount(np.asarray(labels) * count + probabilities.argmax(1), minlength=count * count)
    return made.reshape(count, count)
