"""Measure networks on labelled items: what `visagist evaluate` prints."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from visagist.errors import TrainingError
from visagist.recipe import Item, Recipe, Tools

if TYPE_CHECKING:
    from torch import nn

    from visagist.photo.face import Face
    from visagist.photo.photo import Photo


def evaluate(
    recipe: Recipe,
    nets: Mapping[str, nn.Module],
    items: Sequence[Item],
    *,
    finder: Callable[[Photo], tuple[Face, ...]] | None = None,
) -> dict[str, float | int | None]:
    """What `recipe.measure` finds on these items, ready for JSON: whole numbers (counts) as int, what is not finite as None.

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
        measured = recipe.measure(nets, items, Tools(metrics, finder))
    return {name: _json(name, float(value)) for name, value in measured.items()}


def _json(name: str, value: float) -> float | int | None:
    if name == "n" or name.startswith("n_"):
        return int(value)
    return value if math.isfinite(value) else None
