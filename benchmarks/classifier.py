"""The ladder on the same test pictures in one run: what each network has, costs and gets right.

    python benchmarks/classifier.py --data cifar10 --weights dense=RUN two=RUN cnn=RUN schedule=RUN best=RUN
        [--out runs/ladder] [--time] [--page docs/classify.md] [--kernels cnn]

NAME is what the table calls it, RUN a run folder or weights file. Minutes are those between the first and the last file of a run
folder: they mean something only where the training was not interrupted. Multiplications are counted in convolutions and dense
layers of one look at one picture; a training costs about six times as many operations (multiply and add, forward and twice
backward). With --time: milliseconds of processor time for one picture as `visagist classify` does it, one thread, in turns.
Writes into --out: ladder.json, ladder.md, for each network its confusion matrix, its sheet of mistakes and a table of the worst,
and with --kernels the filters of a network's first convolution. The sheets show pictures of the set: they are not for publication.
With --page the last network's worst mistakes are a table there, too; --only-mistakes leaves the rest of the page as it is.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import zip_longest
from pathlib import Path

from measuring import into_page, medians, named, one_thread  # isort: skip  first: it sets the process up

import cv2
import numpy as np
import torch
from torch import nn

from visagist import catalog
from visagist.errors import UsageError
from visagist.photo.draw import sheet
from visagist.photo.photo import Photo
from visagist.recipe import Item
from visagist.training.data.readers import read
from visagist.training.evaluate import confusion_picture, measured, mistakes, per_class, printed, worst_mistakes


def multiplications(net: nn.Module) -> int:
    """Multiplications of convolutions and dense layers for one picture of 32 x 32."""
    counts: list[int] = []

    def seen(module: nn.Module, given: object, out: torch.Tensor) -> None:
        weight = module.get_parameter("weight")
        counts.append(weight.numel() * (out.shape[2] * out.shape[3] if out.dim() == 4 else 1))

    layers = [m for m in net.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    hooks = [layer.register_forward_hook(seen) for layer in layers]
    with torch.no_grad():
        net(torch.zeros(1, 3, 32, 32))
    for hook in hooks:
        hook.remove()
    return sum(counts)


def minutes(run: str) -> float | None:
    """How long a training took, by the times of its files; None for a weights file alone."""
    first, last = Path(run) / "settings.json", Path(run) / "weights.safetensors"
    return (last.stat().st_mtime - first.stat().st_mtime) / 60 if first.is_file() and last.is_file() else None


def kernels(net: nn.Module) -> np.ndarray:
    """The filters of the first convolution as colours: grey is 0, uint8 [H, W, 3]."""
    weight = next(m.weight for m in net.modules() if isinstance(m, nn.Conv2d)).detach().float()  # [O, 3, k, k]
    scaled = weight / weight.abs().amax((1, 2, 3), keepdim=True) * 127.5 + 127.5
    tiles = [
        cv2.resize(tile, (60, 60), interpolation=cv2.INTER_NEAREST) for tile in scaled.permute(0, 2, 3, 1).round().byte().numpy()
    ]
    return sheet(tiles, columns=16)


def table(rows: Mapping[str, Mapping[str, object]]) -> str:
    """The figures as Markdown."""
    head = ["network", "parameters", "million multiplications", "passes", "training, minutes", "accuracy, %", "ms a picture"]
    lines = [head, ["---"] * len(head)]
    for name, row in rows.items():
        low, high = row["accuracy_interval"]  # type: ignore[misc]
        accuracy = f"{100 * float(row['accuracy']):.2f} ({100 * low:.1f}-{100 * high:.1f})"  # type: ignore[arg-type]
        shown = [row[key] for key in ("minutes", "ms")]
        took, ms = ("-" if value is None else f"{value:.1f}" for value in shown)
        lines.append(
            [name, f"{row['parameters']:,d}", f"{float(row['multiplications']) / 1e6:.1f}", str(row["epochs"]), took, accuracy, ms]  # type: ignore[arg-type]
        )
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def worst(found: Sequence[tuple[Item, str, str, float]], count: int = 20) -> str:
    """The surest mistakes as Markdown, in two columns: a table may name pictures that nobody may publish."""
    cells = [f"{item.name} | {right} | {said}, {share:.1%}" for item, right, said, share in found[:count]]
    rows = len(cells) - len(cells) // 2
    head = "| picture | is | it says " * 2 + "|\n" + "| --- " * 6 + "|\n"
    return head + "".join(f"| {a} | {b} |\n" for a, b in zip_longest(cells[:rows], cells[rows:], fillvalue="| | "))


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--data", nargs="+", required=True)
    options.add_argument("--weights", nargs="+", required=True, metavar="NAME=RUN")
    options.add_argument("--out", type=Path, default=Path("runs/ladder"))
    options.add_argument("--most", type=int, default=0, help="pictures to measure on, evenly spread; 0 for all")
    options.add_argument("--time", action="store_true", help="also measure speed")
    options.add_argument("--kernels", metavar="NAME", help="also draw the first filters of this network")
    options.add_argument("--only-mistakes", action="store_true", help="of the page only the table of mistakes is replaced")
    options.add_argument("--page", type=Path, help="a page of docs whose table and pictures are replaced")
    o = options.parse_args()
    items = read(o.data, fold="dev", needs=("label",))
    items = items[:: max(1, len(items) // o.most)][: o.most] if o.most else items
    runs = named(o.weights)
    every = {name: catalog.load(run, verb="classify") for name, run in runs.items()}
    o.out.mkdir(parents=True, exist_ok=True)
    rows: dict[str, dict[str, object]] = {}
    for name, loaded in every.items():
        figures = measured(loaded.recipe, loaded.nets, items)
        with torch.random.fork_rng():
            net = loaded.recipe.networks()["classifier"].eval()  # as it was trained: in use its norms are folded away
        rows[name] = {
            **printed(figures),
            "system": loaded.system.name,
            "preset": loaded.card.settings.get("preset"),
            "parameters": sum(p.numel() for p in net.parameters()),
            "multiplications": multiplications(net),
            "epochs": loaded.recipe.epochs,
            "minutes": minutes(runs[name]),
            "ms": None,
            "per_class": per_class(loaded.recipe, items, figures),
        }
        Photo.of(confusion_picture(loaded.recipe, items, figures)).save(o.out / f"{name}_confusion.png", overwrite=True)
        table_of_mistakes = worst(mistakes(loaded.recipe, items, figures))
        (o.out / f"{name}_mistakes.md").write_text(table_of_mistakes)
        try:
            Photo.of(worst_mistakes(loaded.recipe, items, figures)).save(o.out / f"{name}_mistakes.png", overwrite=True)
        except UsageError as error:
            print(error.line(), file=sys.stderr)
        print(f"{name}: {json.dumps(rows[name])}", file=sys.stderr, flush=True)
    if o.time:
        one_thread()

        def use(name: str, item: Item) -> object:
            with every[name].inference():
                return every[name].recipe.classify(every[name].nets, item.photo)

        timed = items[:: max(1, len(items) // 100)][:100]
        for name, (cpu, _) in medians({name: partial(use, name) for name in every}, timed).items():
            rows[name]["ms"] = 1000 * cpu
    (o.out / "ladder.json").write_text(json.dumps(rows, indent=2) + "\n")
    (o.out / "ladder.md").write_text(table(rows))
    pictures = {"classify_confusion.png": o.out / f"{list(rows)[-1]}_confusion.png"}
    if o.kernels:
        Photo.of(kernels(every[o.kernels].nets["classifier"])).save(o.out / "kernels.png", overwrite=True)
        pictures["classify_kernels.png"] = o.out / "kernels.png"
    if o.page:
        into_page(o.page, "worst mistakes", table_of_mistakes)
    if o.page and not o.only_mistakes:
        into_page(o.page, "benchmarks/classifier.py", table(rows))
        for name, path in pictures.items():
            Photo.open(path).save(o.page.parent / "pictures" / name, overwrite=True)
    print(table(rows))


if __name__ == "__main__":
    main()
