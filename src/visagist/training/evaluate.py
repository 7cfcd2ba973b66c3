"""Measure networks on labelled items: what `visagist evaluate` prints, and the pictures of errors that it draws."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from visagist.errors import TrainingError, UsageError
from visagist.recipe import Item, Networks, Recipe, Tools

if TYPE_CHECKING:
    import numpy as np
    from torch import nn

    from visagist.photo.face import Face
    from visagist.photo.photo import Photo
    from visagist.weights.card import WeightsCard

log = logging.getLogger(__name__)

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
    lent: Mapping[str, Networks] | None = None,
    pictures: Mapping[str, Photo] | None = None,
) -> dict[str, float]:
    """What `recipe.measure` finds on these items.

    nets            as `catalog.load` gives them; put into evaluation mode
    finder          faces of a photo, for systems that are measured from a finder's boxes; None: from the labelled ones
    lent, pictures  what the recipe borrows and looks at, by the names of its fields; what is missing it does without
    Raises TrainingError no-data if there are no items.
    """
    import torch

    from visagist.training import metrics

    if not items:
        raise TrainingError("no item to measure on", code="no-data")
    for net in nets.values():
        net.eval()
    with torch.no_grad():
        return dict(recipe.measure(nets, items, Tools(metrics, finder, lent or {}, pictures or {})))


def tell_learnt(card: WeightsCard, items: Sequence[Item], sets: Sequence[str]) -> int:
    """Warn where weights are measured on what they may have learnt from: their card has a set of this name, and the item is of no
    fold or of one that was learnt from. Returns how many items that are.

    sets  name of the set of each item
    """
    learnt = {(entry.set, entry.fold) for entry in card.trained_on}
    folds = [item.facts.get("fold") for item in items]
    count = sum(
        any(of == name and (fold is None or part in (fold, "all")) for of, part in learnt)
        for name, fold in zip(sets, folds, strict=True)
    )
    if count:
        why = "the set has no folds" if all(fold is None for fold in folds) else "they are not held back"
        what = "these weights may have learnt from %d of %d pictures that they are measured on (%s): the figures flatter them"
        log.warning(what, count, len(items), why)
    return count


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


def per_class(recipe: Any, items: Sequence[Item], figures: Mapping[str, float]) -> dict[str, float | None]:
    """Share of right answers for the pictures of each class, in the order of the classes; None where there are none.

    recipe, items, figures  a classifier's, as `measured` was given them and gave them
    """
    counts = _confusion(recipe, items, figures)
    of_class = counts.sum(1)
    return {
        name: float(counts[i, i] / of_class[i]) if of_class[i] else None for i, name in enumerate(recipe.classes)
    }  # fmt: skip


def confusion_picture(recipe: Any, items: Sequence[Item], figures: Mapping[str, float]) -> np.ndarray:
    """Which class is taken for which, uint8 [H, W, 3]; arguments as `per_class`."""
    from visagist.photo.chart import matrix

    return matrix(_confusion(recipe, items, figures), recipe.classes)


def worst_mistakes(recipe: Any, items: Sequence[Item], figures: Mapping[str, float], most: int = 40) -> np.ndarray:
    """The pictures that were taken for something else with the greatest confidence, uint8 [H, W, 3]; arguments as `per_class`.

    Under each what it was taken for, with the probability, and what it shows. UsageError "no-mistakes" when all answers are right.
    """
    from visagist.photo.draw import sheet

    every = mistakes(recipe, items, figures)
    if not every:
        raise UsageError("every answer is right", code="no-mistakes", hint="leave the sheet of mistakes out")
    captions = [f"{said} {share:.0%}, is {right}" for _, right, said, share in every[:most]]
    title = f"{len(captions)} of {len(every)} mistakes in {len(items)} pictures"
    return sheet([item.photo.pixels for item, *_ in every[:most]], captions, columns=8, cell=(160, 200), title=title)


def mistakes(recipe: Any, items: Sequence[Item], figures: Mapping[str, float]) -> list[tuple[Item, str, str, float]]:
    """Every wrong answer, the surest first: the item, its class, the class that was said, with what probability. Arguments as
    `per_class`."""
    import numpy as np

    shares = _shares(figures)
    labels = np.array([recipe.label_of(item) for item in items])
    taken = shares.argmax(1)
    wrong = np.flatnonzero(taken != labels)
    wrong = wrong[np.argsort(-shares[wrong, taken[wrong]], kind="stable")]
    names = recipe.classes
    return [(items[i], names[labels[i]], names[taken[i]], float(shares[i, taken[i]])) for i in wrong.tolist()]


def _confusion(recipe: Any, items: Sequence[Item], figures: Mapping[str, float]) -> np.ndarray:
    from visagist.training.metrics import confusion

    return confusion(_shares(figures), [recipe.label_of(item) for item in items])


def _shares(figures: Mapping[str, float]) -> np.ndarray:
    """The probabilities [N, K] behind a classifier's accuracy."""
    from visagist.training.metrics import Figure

    figure = figures.get("accuracy")
    values = figure.values if isinstance(figure, Figure) else None
    if values is None:
        raise UsageError("this system does not tell classes apart", code="no-classes")
    return values
