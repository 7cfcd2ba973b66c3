"""Measure networks on labelled items: what `visagist evaluate` prints, and the picture of the errors that it draws."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from visagist.errors import TrainingError, UsageError
from visagist.recipe import Item, Recipe, Tools

if TYPE_CHECKING:
    import numpy as np
    from torch import nn

    from visagist.photo.face import Face
    from visagist.photo.photo import Photo

Printed = float | int | list[float] | None


def evaluate(
    recipe: Recipe,
    nets: Mapping[str, nn.Module],
    items: Sequence[Item],
    *,
    finder: Callable[[Photo], tuple[Face, ...]] | None = None,
) -> dict[str, Printed]:
    """What `recipe.measure` finds on these items, ready for JSON; see `measured` and `printed`."""
    return printed(measured(recipe, nets, items, finder=finder))


def measured(
    recipe: Recipe,
    nets: Mapping[str, nn.Module],
    items: Sequence[Item],
    *,
    finder: Callable[[Photo], tuple[Face, ...]] | None = None,
) -> dict[str, float]:
    """What `recipe.measure` finds on these items.

    nets    as `catalog.load` gives them; put into evaluation mode
    finder  faces of a photo, for systems that are measured from a finder's boxes; None: from the labelled ones
    Raises TrainingError no-data if there are no items.
    """
    import torch

    from visagist.training import metrics

    if not items:
        raise TrainingError("no item to measure on", code="no-data")
    for net in nets.values():
        net.eval()
    with torch.no_grad():
        return dict(recipe.measure(nets, items, Tools(metrics, finder)))


def printed(figures: Mapping[str, float]) -> dict[str, Printed]:
    """Figures ready for JSON: counts as int, what is not finite as None, and behind each figure that knows how sure it is
    NAME_interval, [low, high]: 95 % by bootstrap over people, or over pictures where nobody knows the person."""
    from visagist.training.metrics import Figure

    out: dict[str, Printed] = {}
    for name, value in figures.items():
        if name == "n" or name.startswith("n_"):
            out[name] = int(value)
            continue
        out[name] = float(value) if math.isfinite(value) else None
        if isinstance(value, Figure) and all(math.isfinite(v) for v in value.interval):
            out[name + "_interval"] = list(value.interval)
    return out


def error_curve(figures: Mapping[str, Mapping[str, float]], measure: str = "nme_box") -> np.ndarray:
    """The cumulative error curves of one or several systems as a picture, uint8 [H, W, 3]: how many faces have at most which error.

    figures  name of a system -> its figures, as `measured` gives them
    UsageError when a system was not measured face by face.
    """
    import numpy as np

    from visagist.photo.plot import plot
    from visagist.training.metrics import FAILED, Figure, cumulative, failure_rate

    at = np.linspace(0, FAILED, 201)  # the curves end where failures begin
    lines = {}
    for name, of_system in figures.items():
        figure = of_system.get(measure)
        values = figure.values if isinstance(figure, Figure) else None
        if values is None:
            raise UsageError(f"{name} is not measured face by face", code="no-curve", hint=f"a curve needs {measure} of every face")
        known = values[np.isfinite(values)]
        mean = f"mean {known.mean():.2%}, " if known.size else ""
        lines[f"{name}: {mean}{failure_rate(values):.1%} failed, {len(values)} faces"] = cumulative(values, at)
    return plot(
        at * 100,
        {name: shares * 100 for name, shares in lines.items()},
        across="point error, % of the face's size",
        up="faces with at most this error, %",
    )
