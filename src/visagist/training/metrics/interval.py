"""How sure a figure is: bootstrap by person.

Efron and Tibshirani, "An Introduction to the Bootstrap", 1993: percentile interval. Pictures of one person are alike, so whole
people are drawn with replacement, as many as there are. A draw is kept as counts, how often each person came, and the usual
statistics are computed for all draws at once: a thousand rounds cost milliseconds.

A figure without any error (every face found) has an interval of no width: no draw of these people holds an error. It does not say
that there are none elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any

import numpy as np

ROUNDS = 1000
LEVEL = 0.95

Interval = tuple[float, float]
UNKNOWN: Interval = (float("nan"), float("nan"))


class Figure(float):
    """A measured number that can say how sure it is. Everywhere else it is just the number; copies and pickles are.

    interval  the interval of 95 %, computed when it is asked for: a training measures often and never asks
    values    what it is a statistic of, one for each thing measured, or None
    """

    _interval: Callable[[], Interval]
    values: np.ndarray | None

    def __new__(cls, value: float, interval: Callable[[], Interval] = lambda: UNKNOWN, values: np.ndarray | None = None) -> Figure:
        made = super().__new__(cls, value)
        made._interval, made.values = interval, values
        return made

    @property
    def interval(self) -> Interval:
        return self._interval()

    def __reduce__(self) -> tuple[Any, ...]:
        return float, (float(self),)


def groups_of(people: Sequence[Hashable]) -> tuple[np.ndarray, int]:
    """Index of the person of each thing, int [N], counted in the order in which they come, and how many people there are."""
    index: dict[Hashable, int] = {}
    groups = np.array([index.setdefault(name, len(index)) for name in people], np.int64)
    return groups, len(index)


def draws(groups: int, *, rounds: int = ROUNDS, seed: int = 0) -> np.ndarray:
    """How often each of the groups is drawn in each round, int [rounds, groups]. The same seed draws the same."""
    return np.random.default_rng(seed).multinomial(groups, np.full(groups, 1 / groups), size=rounds)


def percentiles(drawn: np.ndarray, level: float = LEVEL) -> Interval:
    """The interval that holds the middle `level` of the draws; draws that are NaN (nobody with a face came) are left out."""
    known = np.asarray(drawn, float)
    known = known[~np.isnan(known)]
    if not known.size:
        return UNKNOWN
    low, high = np.quantile(known, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def ratio_interval(
    top: np.ndarray,
    bottom: np.ndarray,
    people: Sequence[Hashable],
    *,
    finish: Callable[[np.ndarray], np.ndarray] = np.asarray,
    rounds: int = ROUNDS,
    seed: int = 0,
) -> Interval:
    """The interval of finish(sum of `top` / sum of `bottom`), each [N]: means, shares, roots of means. Unknown for one person."""
    groups, count = groups_of(people)
    if count < 2:
        return UNKNOWN
    often = draws(count, rounds=rounds, seed=seed)
    sums = [often @ np.bincount(groups, np.asarray(values, float), count) for values in (top, bottom)]
    return percentiles(finish(np.divide(sums[0], sums[1], out=np.full(rounds, np.nan), where=sums[1] > 0)))


def bootstrap_interval(
    values: Sequence[float] | np.ndarray,
    people: Sequence[Hashable] | None = None,
    *,
    statistic: Callable[[np.ndarray], float] = lambda v: float(v.mean()),
    level: float = LEVEL,
    rounds: int = ROUNDS,
    seed: int = 0,
) -> Interval:
    """The interval in which any statistic of `values` [N] lies with probability `level` when other people are drawn.

    `people` [N] names them, None: every value is another person. The same seed gives the same interval. (NaN, NaN) without values.
    """
    values = np.asarray(values, float)
    if not values.size:
        return UNKNOWN
    names = list(range(len(values))) if people is None else list(people)
    if len(names) != len(values):
        raise ValueError(f"{len(values)} values but {len(names)} names")
    groups, count = groups_of(names)
    order = np.argsort(groups, kind="stable")
    often = draws(count, rounds=rounds, seed=seed)[:, groups[order]]
    return percentiles(np.array([statistic(np.repeat(values[order], times)) for times in often]), level)
