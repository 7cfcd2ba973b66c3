"""Does augmentation by rendering help to tell people apart? Trainings with and without it, everything else alike.

    visagist augment youtube_faces_68 -o runs/augmented --most 3 --size 200 --processes 2
    python benchmarks/augmentation.py --data youtube_faces_68 --augmented runs/augmented --out runs/augmentation
                                      [--few N] [--page docs/recognize.md]

Each of `--seeds` seeds is trained once on the photographs alone and once with half of the examples drawn from the augmented
pictures of the same photographs: the same people, steps, batch, network, plain augmentation (`recognize/disturb.py`). Measured on
the fold dev, people never seen, points as labelled. Figures are means over the seeds; intervals are of 95 %, by bootstrap over the
unseen people, those of the difference with the same draws for both. A run that is finished is not repeated; one that was stopped
goes on. With `--few N` only N pictures of each person are learnt from, of one clip where it has as many: the small sets that the
method is meant for.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from measuring import into_page

from visagist import catalog
from visagist.head.pose import pose_of
from visagist.recipe import Item, Tools
from visagist.recognize.album import clip_of, person_of
from visagist.recognize.embedding import Embedding
from visagist.training import metrics
from visagist.training.data.augmented import source_of
from visagist.training.data.pictures import warm
from visagist.training.data.readers import read
from visagist.training.loop import train
from visagist.training.metrics.interval import draws, percentiles
from visagist.training.metrics.people import Curve, Pairs

ROUNDS = 1000
ARMS = {"without": "photographs alone", "with": "with augmented pictures"}
MEASURES = ("auc", "eer", "pair_accuracy", "template_accuracy")


def few(items: list[Item], count: int) -> list[Item]:
    """At most so many pictures of each person, those of its first clip first."""
    own: dict[str, list[Item]] = defaultdict(list)
    for item in items:
        own[person_of(item)].append(item)
    return [item for of in own.values() for item in sorted(of, key=lambda item: (clip_of(item), item.name))[:count]]


def vectors(folder: Path, dev: list[Item]) -> np.ndarray:
    """Unit vectors of the unseen pictures by the network of a run."""
    loaded = catalog.load(folder, "cpu")
    with loaded.inference():
        found, known, _, _ = loaded.recipe.looked_at(loaded.nets, dev, Tools(metrics))
    assert len(known) == len(dev)
    return found


def compared(found: dict[str, list[np.ndarray]], dev: list[Item], yaws: np.ndarray) -> dict[str, Any]:
    """Means over the seeds of both arms, and their differences with intervals."""
    names, clips = [person_of(item) for item in dev], [clip_of(item) for item in dev]
    told = {arm: [metrics.people(v, names, clips, yaws) for v in of] for arm, of in found.items()}
    keys = [key for key in told["with"][0] if key.startswith(("rank", "template_rank", "tar_at")) or key in MEASURES]
    result: dict[str, Any] = {}
    for key in keys:
        of = {arm: np.array([float(figures[key]) for figures in row]) for arm, row in told.items()}
        result[key] = {arm: {"mean": float(v.mean()), "seeds": v.round(5).tolist()} for arm, v in of.items()}
        result[key]["difference"] = float(of["with"].mean() - of["without"].mean())
    pairs = Pairs.of_people(names, clips)
    curves = {arm: [Curve.of((v[pairs.first] * v[pairs.second]).sum(1), pairs) for v in of] for arm, of in found.items()}
    parts: dict[str, dict[str, list[np.ndarray]]] = {key: defaultdict(list) for key in ("auc", "eer")}
    for part in np.array_split(draws(pairs.count, rounds=ROUNDS), 20):  # all of them at once need too much memory
        often = pairs.often(part)
        for arm, of in curves.items():
            parts["auc"][arm].append(np.mean([curve.area(often) for curve in of], axis=0))
            parts["eer"][arm].append(np.mean([curve.equal(often) for curve in of], axis=0))
    for key, arms in parts.items():
        drawn = {arm: np.concatenate(rows) for arm, rows in arms.items()}
        for arm, values in drawn.items():
            result[key][arm]["interval"] = percentiles(values)
        result[key]["difference_interval"] = percentiles(drawn["with"] - drawn["without"])
    counts = {key: int(value) for key, value in told["with"][0].items() if key == "n" or key.startswith("n_")}
    return {**result, "counts": counts}


def table(result: dict[str, Any]) -> str:
    """The result as a table for the page."""
    lines = ["| measure | photographs alone | with augmented pictures | difference |", "|---|---|---|---|"]
    for key, row in result.items():
        if key in ("counts", "settings"):
            continue
        cells = []
        for arm in ARMS:
            spread = f" ({min(row[arm]['seeds']):.3f}-{max(row[arm]['seeds']):.3f})"
            cells.append(f"{row[arm]['mean']:.3f}{spread}")
        interval = row.get("difference_interval")
        said = f"{row['difference']:+.3f}" + (f" [{interval[0]:+.3f}, {interval[1]:+.3f}]" if interval else "")
        lines.append(f"| {key} | {cells[0]} | {cells[1]} | {said} |")
    settings, counts = result["settings"], result["counts"]
    few_said = f"at most {settings['few']} pictures of each, " if settings["few"] else ""
    lines += [
        "",
        f"{settings['people']} people, {few_said}{settings['photos']} photographs and {settings['augmented']} augmented pictures;"
        f" {settings['steps']} steps of {settings['batch']}, windows of {settings['window']} px; {len(settings['seeds'])} seeds"
        f" (in brackets the lowest and the highest); measured on {counts['n']} pictures of {counts['n_people']} unseen people,"
        f" {counts['n_same']} pairs of one person and {counts['n_different']} of two. Square brackets: 95 % of draws of people.",
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", nargs="+", required=True)
    parser.add_argument("--augmented", required=True, help="what `visagist augment` made of it")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=700)
    parser.add_argument("--window", type=int, default=64)
    parser.add_argument("--few", type=int, default=0)
    parser.add_argument("--page", type=Path)
    options = parser.parse_args()
    photos = read(options.data, fold="train", needs=("person", "points"))
    dev = warm(read(options.data, fold="dev", needs=("person", "points")))
    photos = few(photos, options.few) if options.few else photos
    kept = {source_of(item) for item in photos}
    made = [item for item in read(options.augmented, needs=("person", "points")) if str(item.facts["source"]) in kept]
    overlap = {person_of(item) for item in dev} & {person_of(item) for item in (*photos, *made)}
    if overlap:
        raise SystemExit(f"{len(overlap)} people are in both parts")
    recipe = Embedding(window=options.window, steps=options.steps)
    found: dict[str, list[np.ndarray]] = {arm: [] for arm in ARMS}
    for seed in range(options.seeds):
        for arm in ARMS:
            folder = options.out / f"{arm}_{seed}"
            if not (folder / "weights.safetensors").is_file():
                items = warm(photos + (made if arm == "with" else []))
                print(f"{folder}: {len(items)} pictures", file=sys.stderr, flush=True)
                begun = (folder / "settings.json").is_file()
                train(recipe, items, folder, system="embedding", card={"preset": "pooled"}, seed=seed, resume=begun, quiet=True)
            found[arm].append(vectors(folder, dev))
    yaws = np.array([pose_of(np.asarray(item.faces[0].points)).yaw for item in dev])
    result = compared(found, dev, yaws)
    result["settings"] = {
        "people": len({person_of(item) for item in photos}), "photos": len(photos), "augmented": len(made), "few": options.few,
        "steps": options.steps, "batch": recipe.batch, "window": options.window, "seeds": list(range(options.seeds)),
    }  # fmt: skip
    print(json.dumps(result, indent=1))
    print(table(result), file=sys.stderr)
    if options.page:
        into_page(options.page, "few augmentation" if options.few else "augmentation", table(result))


if __name__ == "__main__":
    main()
