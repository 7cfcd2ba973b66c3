"""Lipstick in five folds: squared error on unseen mouths as a ratio to the affine colour map fitted on the same folds.

    python benchmarks/lipstick_folds.py --data lips [--presets residual seed] [--folds 5] [--steps N] [--rate R]

Every mouth is unseen once. The triples are shuffled by `--seed` and cut into parts; each preset is trained on all parts but one
(the training ground, as `visagist train lipstick` does) and measured on that one, on 8-bit RGB, clipped and rounded. Doing
nothing and the affine colour map stand beside it. Prints JSON; a minute or two per fold and preset on a quiet core.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

import numpy as np

from visagist import catalog
from visagist.recipe import Item
from visagist.training.data.readers import read
from visagist.training.evaluate import evaluate
from visagist.training.loop import train

FINISHES = ("glazed", "glossy")


def folds(items: list[Item], count: int, seed: int) -> list[tuple[list[Item], list[Item]]]:
    """(training, unseen) for each fold."""
    parts = np.array_split(np.random.default_rng(seed).permutation(len(items)), count)
    return [([items[i] for part in parts if part is not unseen for i in part], [items[i] for i in unseen]) for unseen in parts]


def measured(preset: str, training: list[Item], unseen: list[Item], settings: dict[str, float], precision: str) -> dict[str, float]:
    """What a fresh training of the preset gets on unseen mouths."""
    recipe = catalog.recipe("lipstick", preset, **settings)
    with tempfile.TemporaryDirectory() as folder:
        card = {"preset": preset}
        file = train(
            recipe, training, Path(folder) / "run", system="lipstick", workers=0, quiet=True, card=card, precision=precision
        )
        loaded = catalog.load(file)
        return {name: float(value or 0) for name, value in evaluate(loaded.recipe, loaded.nets, unseen).items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", nargs="+", required=True)
    parser.add_argument("--presets", nargs="+", default=["residual", "seed"])
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--only", type=int, nargs="+", help="these folds alone, counted from 0")
    parser.add_argument("--seed", type=int, default=0, help="of the cut into folds")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--set", nargs="*", default=[], metavar="FIELD=VALUE", help="other settings of the recipe, for trials")
    chosen = parser.parse_args()
    settings = {name: json.loads(value) for name, value in (pair.split("=", 1) for pair in chosen.set)}

    items = read(chosen.data)
    cut = folds(items, chosen.folds, chosen.seed)
    report: dict[str, object] = {"n": len(items), "folds": len(cut)}
    for preset in chosen.presets:
        found = []
        for number, (training, unseen) in enumerate(cut):
            if chosen.only is None or number in chosen.only:
                found.append(measured(preset, training, unseen, settings, chosen.precision))
                print(preset, number, {k: round(v, 1) for k, v in found[-1].items()}, file=sys.stderr)
        means = {name: float(np.average([f[name] for f in found], weights=[f["n"] for f in found])) for name in found[0]}
        report[preset] = {
            finish: {
                "mse": round(means[f"{finish}_mse"], 1),
                "affine_mse": round(means[f"affine_{finish}_mse"], 1),
                "identity_mse": round(means[f"identity_{finish}_mse"], 1),
                "ratio_to_affine": round(means[f"{finish}_mse"] / means[f"affine_{finish}_mse"], 3),
            }
            for finish in FINISHES
        }
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
