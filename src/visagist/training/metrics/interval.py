"""How sure a figure is: bootstrap by person.

Efron and Tibshirani, "An Introduction to the Bootstrap", 1993: percentile interval.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence

import numpy as np


def bootstrap_interval(
    values: Sequence[float] | np.ndarray,
    people: Sequence[Hashable] | None = None,
    *,
    statistic: Callable[[np.ndarray], float] = lambda v: float(v.mean()),
    level: float = 0.95,
    rounds: int = 1000,
    seed: int = 0,
) -> tuple[float, float]:
    """The interval in which a statistic of `values` [N] lies with probability `level` when other people are drawn.

    Pictures of one person are alike, so whole people are drawn with replacement, as many as there are; `people` [N] names them,
    None: every value is another person. The same seed gives the same interval. (NaN, NaN) without values.
    """
    values = np.asarray(values, float)
    if not values.size:
        return float("nan"), float("nan")
    names = list(range(len(values))) if people is None else list(people)
    if len(names) != len(values):
        raise ValueError(f"{len(values)} values but {len(names)} names")
    rows: dict[Hashable, list[int]] = {}
    for i, name in enumerate(names):
        rows.setdefault(name, []).append(i)
    groups = [values[of] for of in rows.values()]
    rng = np.random.default_rng(seed)
    drawn = [statistic(np.concatenate([groups[i] for i in rng.integers(len(groups), size=len(groups))])) for _ in range(rounds)]
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
