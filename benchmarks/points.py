"""Every set of points of the house on the same faces: landmarks68 and keypoint-cnn, on the 15 points that both know.

    python benchmarks/points.py --data youtube_faces_68 --out runs/points [--weights keypoint-cnn=RUN seed=RUN ...]
        [--only NAME ...] [--finder yolo | --finder labels] [--time]

Measured is on faces of the `dev` fold that are labelled with 68 points, in one run, from the same boxes: the finder's, or with
`--finder labels` those of the labels. A face that the finder does not find counts as a failure of every system. The labels are
taken as they lie (docs/landmarks.md says how far off they are). Do not give portraits that `label_portraits.py` has labelled:
landmarks68 would be measured against itself.

With --time: milliseconds of processor time a face, one thread, in turns, and the memory that each adds to a process of its own.
Writes into --out: points.json, points.md (the table), curves.png (cumulative errors of all) and for each system a sheet of its
worst faces. The sheets show people of the data sets: they are not for publication.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from measuring import grown_in_child, into_page, medians, named, one_thread, report_growth  # isort: skip  first: it sets the process up

import cv2
import numpy as np

from visagist import catalog
from visagist.errors import WeightsError
from visagist.head.pose import pose_of
from visagist.photo.boxes import iou
from visagist.photo.draw import sheet
from visagist.photo.face import Face, points15_of
from visagist.photo.photo import Photo
from visagist.photo.window import Window
from visagist.recipe import Item
from visagist.training import metrics
from visagist.training.data.readers import read
from visagist.training.evaluate import error_curve, printed

TRUE, FOUND = (0, 210, 90), (255, 40, 40)
NEAR = 0.3  # IoU from which a box of the finder is that of a labelled face
TURNED = (15, 30)  # degrees of yaw that part the groups


@dataclass(frozen=True)
class System:
    """One row of the table. find: photo and boxes -> 15 points [N, 15, 2] in photo pixels."""

    name: str
    find: Callable[[Photo, Sequence[Face]], np.ndarray]
    parameters: int
    bytes: int


@dataclass(frozen=True)
class Case:
    """One labelled face, and the box that the systems are given; None where the finder gave none."""

    item: Item
    truth: Face
    box: Face | None


def system(name: str, weights: str) -> System | None:
    try:
        loaded = catalog.load(weights, "cpu", verb="landmarks")
    except WeightsError as error:
        if weights != name:
            raise
        print(f"{name}: {error}", file=sys.stderr)
        return None

    def find(photo: Photo, faces: Sequence[Face]) -> np.ndarray:
        with loaded.inference():
            found = loaded.recipe.landmarks(loaded.nets, photo, faces)
        return np.array([points15_of(f.points) if f.scheme == "ibug68" else f.points for f in found])

    return System(name, find, loaded.card.parameters, loaded.file.stat().st_size)


def systems(only: Sequence[str], weights: Mapping[str, str]) -> dict[str, System]:
    names = [row.name for row in catalog.SYSTEMS.values() if row.verb == "landmarks"]
    if unknown := set(only) - {*names, *weights}:
        raise SystemExit(f"no system for points is called {', '.join(sorted(unknown))}")
    made = [system(name, weights.get(name, name)) for name in dict.fromkeys([*names, *weights]) if not only or name in only]
    return {one.name: one for one in made if one is not None}


def cases(items: Sequence[Item], finder: str) -> list[Case]:
    """The labelled faces of the items with their boxes."""
    loaded = None if finder == "labels" else catalog.load(finder, "cpu", verb="detect")
    out = []
    for item in items:
        truths = [face for face in item.faces if face.scheme == "ibug68"]
        if loaded is None:
            out += [Case(item, truth, Face(truth.box)) for truth in truths]
            continue
        with loaded.inference():
            found = loaded.recipe.detect(loaded.nets, item.photo)
        boxes = np.array([face.box for face in found]).reshape(-1, 4)
        for truth in truths:
            near = iou(np.array([truth.box]), boxes)[0]
            best = int(near.argmax()) if near.size else 0
            out.append(Case(item, truth, found[best] if near.size and near[best] > NEAR else None))
    return out


def found_by(one: System, every: Sequence[Case]) -> np.ndarray:
    """Points [N, 15, 2] of all cases, NaN where there was no box."""
    points = np.full((len(every), 15, 2), np.nan)
    for i, case in enumerate(every):
        if case.box is not None:
            points[i] = one.find(case.item.photo, [case.box])[0]
    return points


def truths_of(every: Sequence[Case]) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """True points [N, 15, 2], tight boxes of all 68 points [N, 4], people."""
    all68 = np.array([case.truth.points for case in every])
    hulls = np.concatenate([all68.min(1), all68.max(1)], 1)
    return np.array([points15_of(p) for p in all68]), hulls, [case.item.person or case.item.name for case in every]


def groups_of(every: Sequence[Case]) -> dict[str, np.ndarray]:
    """Kinds of faces, as masks [N]: by how far the head is turned and how large the face is."""
    yaw = np.abs([pose_of(np.asarray(case.truth.points)).yaw for case in every])
    size = np.array([np.sqrt(np.ptp(np.asarray(case.truth.points), axis=0).prod()) for case in every])
    low, high = TURNED
    middle = float(np.median(size))
    return {
        f"yaw below {low}": yaw < low,
        f"yaw {low} to {high}": (yaw >= low) & (yaw < high),
        f"yaw above {high}": yaw >= high,
        f"smaller than {middle:.0f} px": size < middle,
        f"{middle:.0f} px and larger": size >= middle,
    }


def worst(name: str, errors: np.ndarray, found: np.ndarray, every: Sequence[Case], count: int = 32) -> np.ndarray:
    """The faces with the largest errors, those without a box first; true points green, found points red; a contact sheet."""
    order = np.argsort(-np.where(np.isnan(errors), np.inf, errors), kind="stable")[:count]
    tiles, captions = [], []
    for i in order:
        case, side = every[i], 224
        window = Window.of_box(_square(case.truth.box, 1.25), (side, side))
        tile = np.ascontiguousarray(window.cut(case.item.photo.pixels))
        for points, colour in ((points15_of(np.asarray(case.truth.points)), TRUE), (found[i], FOUND)):
            for x, y in np.rint((window.to_window(points[np.isfinite(points).all(1)]) - 0.5) * 16).astype(int).tolist():
                cv2.circle(tile, (x, y), 40, colour, -1, cv2.LINE_AA, shift=4)
        tiles.append(tile)
        error = "not found" if np.isnan(errors[i]) else f"{errors[i]:.1%}"
        captions.append(f"{error} {Path(case.item.name).name}")
    return sheet(tiles, captions, columns=8, title=f"{name}: the worst of {len(every)} faces")


def _square(box: Sequence[float], grow: float) -> tuple[float, float, float, float]:
    x0, y0, x1, y1 = box
    cx, cy, half = (x0 + x1) / 2, (y0 + y1) / 2, max(x1 - x0, y1 - y0) / 2 * grow
    return cx - half, cy - half, cx + half, cy + half


def table(rows: Mapping[str, Mapping[str, object]]) -> str:
    """The figures as Markdown."""
    head = ["system", "error, % of the face", "RMSE in 96 px", "failed, %", "parameters", "file, MB", "ms a face", "memory, MB"]

    def figure(row: Mapping[str, object], name: str, by: float = 1) -> str:
        value, between = row.get(name), row.get(name + "_interval")
        if not isinstance(value, int | float):
            return "-"
        low_high = f" ({between[0] * by:.2f}-{between[1] * by:.2f})" if isinstance(between, list) else ""
        return f"{value * by:.2f}{low_high}"

    lines = [head, ["---"] * len(head)]
    for name, row in rows.items():
        lines.append(
            [name, figure(row, "nme_box", 100), figure(row, "rmse_96"), figure(row, "failure_rate", 100),
             f"{row['parameters']:,d}", figure(row, "bytes", 1e-6), figure(row, "ms_per_face"), figure(row, "memory_mb")]
        )  # fmt: skip
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--data", nargs="+", required=True)
    options.add_argument("--out", type=Path, default=Path("runs/points"))
    options.add_argument("--weights", nargs="*", default=[], metavar="NAME=FILE")
    options.add_argument("--only", nargs="*", default=[], metavar="NAME")
    options.add_argument("--finder", default="yolo", metavar="NAME|PATH|labels")
    options.add_argument("--most", type=int, default=0, help="pictures to measure on, evenly spread; 0 for all")
    options.add_argument("--time", action="store_true", help="also measure speed and memory")
    options.add_argument("--timed", type=int, default=40, help="faces in the speed comparison")
    options.add_argument("--page", type=Path, help="a page of docs whose table is replaced")
    options.add_argument("--child", help=argparse.SUPPRESS)
    o = options.parse_args()
    one_thread()
    items = read(o.data, fold="dev", needs=("points",))
    items = items[:: max(1, len(items) // o.most)] if o.most else items
    timed = [items[i] for i in np.random.default_rng(0).permutation(len(items))[: 12 if o.child else o.timed]]

    def use(one: System, item: Item) -> object:
        return one.find(item.photo, item.faces[:1])

    if o.child:
        for item in timed:  # the photos are not part of it
            assert item.photo.pixels.size

        def work() -> None:
            (one,) = systems([o.child], named(o.weights)).values()
            for item in timed:
                use(one, item)

        report_growth(work)
        return
    every = systems(o.only, named(o.weights))
    quick = medians({name: partial(use, one) for name, one in every.items()}, timed) if o.time else {}
    faces = cases(items, o.finder)
    truth, hulls, people = truths_of(faces)
    groups = groups_of(faces)
    o.out.mkdir(parents=True, exist_ok=True)
    rows: dict[str, dict[str, object]] = {}
    curves: dict[str, Mapping[str, float]] = {}
    for name, one in every.items():
        found = found_by(one, faces)
        figures = curves[name] = metrics.points(found, truth, people=people, hulls=hulls)
        errors = np.asarray(figures["nme_box"].values)  # type: ignore[union-attr]
        rows[name] = {
            **printed(figures),
            "parameters": one.parameters,
            "bytes": one.bytes,
            "groups": {
                group: {"n": int(of.sum()), "nme_box": float(np.nanmean(errors[of])) if np.isfinite(errors[of]).any() else None}
                for group, of in groups.items()
            },
            "ms_per_face": 1000 * quick[name][0] if o.time else None,
            "ms_per_face_by_the_clock": 1000 * quick[name][1] if o.time else None,
            "memory_mb": grown_in_child(__file__, "--child", name, "--data", *o.data, "--weights", *o.weights) if o.time else None,
        }
        Photo.of(worst(name, errors, found, faces)).save(o.out / f"{name}.png", overwrite=True)
        print(f"{name}: {json.dumps(rows[name])}", file=sys.stderr, flush=True)
    (o.out / "points.json").write_text(json.dumps({"finder": o.finder, "systems": rows}, indent=2) + "\n")
    (o.out / "points.md").write_text(table(rows))
    Photo.of(error_curve(curves)).save(o.out / "curves.png", overwrite=True)
    if o.page:
        Photo.of(error_curve(curves)).save(o.page.parent / "pictures" / "points.png", overwrite=True)
        into_page(o.page, "benchmarks/points.py", table(rows))
    print(table(rows))


if __name__ == "__main__":
    main()
