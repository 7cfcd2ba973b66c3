"""Every face detector of the house beside OpenCV's Haar cascade and dlib's HOG: same pictures, one run, one thread.

    pip install dlib-bin        (this benchmark only; without it that row is missing)
    python benchmarks/detectors.py --data youtube_faces_68 portraits landmarks68.csv backgrounds --out runs/detectors
        [--weights rcnn=RUN fast-rcnn=FILE ...] [--only yolo haar ...] [--time]

Ours take part where weights came with the package or are given. Measured is on the `dev` fold, on pictures of at most `--longest`
pixels, faces that would be smaller than 20 pixels at a width of 500 passed over. Each detector has its own idea of where a face
ends. So that this costs nobody anything, a constant map of the box (shift and growth relative to its size) is fitted for every
detector, ours included, on faces of the `train` fold.

With --time: pictures a second of processor time, all in turns: on the same pictures brought to exactly `--longest`, each detector
as it is used (its usual threshold, ours 0.5); and on the same pictures brought to `--one` pixels, ours at this one scale. Proposals
are searched anew for every one. Also the memory that each adds to a process of its own while it looks at them. Writes into --out:
detectors.json, detectors.md (the table) and for each detector a sheet of where it fails at 0.1 false boxes a picture. The sheets
show people of the data sets: they are not for publication.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

from measuring import grown_in_child, into_page, medians, named, one_thread, report_growth  # isort: skip  first: it sets the process up

import cv2
import numpy as np

from visagist import catalog
from visagist.errors import WeightsError
from visagist.photo.boxes import iou, scaled
from visagist.photo.draw import sheet
from visagist.photo.face import Face
from visagist.photo.photo import Photo
from visagist.recipe import Item
from visagist.training import metrics
from visagist.training.data.readers import read
from visagist.training.evaluate import printed

OTHERS = ("haar", "dlib-hog")
SMALLEST, AT_WIDTH = 20, 500  # faces below so many pixels, in a picture brought to this width, are passed over
ALLOWED = 0.1  # false boxes a picture
LOWEST = 0.01  # score from which our detectors' answers are ranked
TURN = 10  # photos that one detector is timed on before the next; one that runs between two photos would empty its caches
MISSED, TRUE, FALSE = (255, 196, 0), (0, 190, 90), (230, 40, 40)


@dataclass(frozen=True)
class Detector:
    """One row of the table. find: RGB pixels -> faces, also doubtful ones; use: as it is used; once: at the scale of the pixels, or
    None; propose: -> boxes [N, 4], for those that have proposals."""

    name: str
    find: Callable[[np.ndarray], list[Face]]
    use: Callable[[np.ndarray], object]
    once: Callable[[np.ndarray], object] | None = None
    propose: Callable[[np.ndarray], np.ndarray] | None = None
    parameters: int | None = None
    bytes: int | None = None


def haar() -> Detector:
    file = Path(cv2.data.haarcascades) / "haarcascade_frontalface_default.xml"
    cascade = cv2.CascadeClassifier(str(file))

    def find(pixels: np.ndarray) -> list[Face]:
        grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
        boxes, _, weights = cascade.detectMultiScale3(grey, 1.1, 1, minSize=(20, 20), outputRejectLevels=True)
        return [Face((x, y, x + w, y + h), score=float(s)) for (x, y, w, h), s in zip(boxes, np.ravel(weights), strict=True)]

    return Detector("haar", find, find, bytes=file.stat().st_size)


def hog() -> Detector | None:
    """Looks at pictures upsampled once, as its manual suggests for small faces."""
    try:
        import dlib
    except ImportError:
        return None
    detector = dlib.get_frontal_face_detector()

    def find(pixels: np.ndarray) -> list[Face]:
        boxes, scores, _ = detector.run(pixels, 1, -0.5)
        return [Face((b.left(), b.top(), b.right() + 1, b.bottom() + 1), score=s) for b, s in zip(boxes, scores, strict=True)]

    return Detector("dlib-hog", find, lambda pixels: detector(pixels, 1))


def ours(name: str, weights: str) -> Detector | None:
    try:
        loaded = catalog.load(weights, "cpu", verb="detect")
    except WeightsError as error:
        if weights != name:
            raise
        print(f"{name}: {error}", file=sys.stderr)
        return None
    recipe, nets = loaded.recipe, loaded.nets

    def find(pixels: np.ndarray) -> list[Face]:
        with loaded.inference():
            return list(recipe.detect(nets, Photo.of(pixels), min_score=LOWEST))

    def use(pixels: np.ndarray) -> object:
        with loaded.inference():
            return recipe.detect(nets, Photo.of(pixels))

    def once(pixels: np.ndarray) -> object:
        side = max(pixels.shape[:2])
        known = {field.name for field in fields(recipe)}
        sizes = [name for name in ("short", "long") if name in known] + (["width"] if "search" in known else [])
        with loaded.inference():
            return replace(recipe, **dict.fromkeys(sizes, side)).detect(nets, Photo.of(pixels))

    def by_network(pixels: np.ndarray) -> np.ndarray:
        with loaded.inference():
            return recipe.look(nets, Photo.of(pixels), body="")[1].float().numpy()

    def by_search(pixels: np.ndarray) -> np.ndarray:
        return recipe.proposals(Photo.of(pixels))

    propose = by_network if hasattr(recipe, "look") else by_search if hasattr(recipe, "proposals") else None
    return Detector(name, find, use, once, propose, loaded.card.parameters, loaded.file.stat().st_size)


def detectors(only: Sequence[str], weights: Mapping[str, str]) -> dict[str, Detector]:
    """Those asked for, or all there are, by name."""
    names = [row.name for row in catalog.SYSTEMS.values() if row.verb == "detect"]
    if unknown := set(only) - {*names, *weights, *OTHERS}:
        raise SystemExit(f"no detector is called {', '.join(sorted(unknown))}")
    made: list[Detector | None] = []
    for name in dict.fromkeys([*names, *weights]):  # a name of one's own for a second file of a system: rcnn-long=RUN
        if not only or name in only:
            made.append(ours(name, weights.get(name, name)))
    made += [of() for name, of in (("haar", haar), ("dlib-hog", hog)) if not only or name in only]
    return {detector.name: detector for detector in made if detector is not None}


# ---- pictures and boxes ----


def sized(pixels: np.ndarray, longest: int, *, enlarge: bool) -> tuple[np.ndarray, float]:
    scale = longest / max(pixels.shape[:2])
    if scale >= 1 and not enlarge:
        return pixels, 1.0
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    return cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=method), scale


def judged(items: Sequence[Item]) -> list[Item]:
    """The items, with faces that are too small to be asked for labelled "ignore"."""
    out = []
    for item in items:
        least = SMALLEST * item.photo.size[1] / AT_WIDTH
        faces = [
            f if np.sqrt((f.box[2] - f.box[0]) * (f.box[3] - f.box[1])) >= least else replace(f, label="ignore") for f in item.faces
        ]
        out.append(replace(item, faces=tuple(faces)))
    return out


def box_map(found: Sequence[Sequence[Face]], items: Sequence[Item]) -> np.ndarray:
    """Median over matched faces of (shift x, shift y, growth x, growth y), shifts in units of the found box."""
    rows = []
    for faces, item in zip(found, items, strict=True):
        for truth in item.faces:
            if faces:
                best = max(faces, key=lambda f: float(iou(np.array([f.box]), np.array([truth.box]))[0, 0]))
                (a0, b0, a1, b1), (c0, d0, c1, d1) = best.box, truth.box
                if iou(np.array([best.box]), np.array([truth.box]))[0, 0] > 0.25:
                    w, h = a1 - a0, b1 - b0
                    rows.append([(c0 + c1 - a0 - a1) / 2 / w, (d0 + d1 - b0 - b1) / 2 / h, (c1 - c0) / w, (d1 - d0) / h])
    return np.median(np.array(rows), axis=0) if rows else np.array([0.0, 0.0, 1.0, 1.0])


def mapped(face: Face, by: np.ndarray) -> Face:
    x0, y0, x1, y1 = face.box
    w, h = x1 - x0, y1 - y0
    cx, cy, hw, hh = (x0 + x1) / 2 + by[0] * w, (y0 + y1) / 2 + by[1] * h, w * by[2] / 2, h * by[3] / 2
    return replace(face, box=(cx - hw, cy - hh, cx + hw, cy + hh))


def run(detector: Detector, items: Sequence[Item], longest: int) -> list[list[Face]]:
    out = []
    for item in items:
        pixels, scale = sized(item.photo.pixels, longest, enlarge=False)
        out.append([replace(face, box=tuple(v / scale for v in face.box)) for face in detector.find(pixels)])
    return out


def covered(detector: Detector, items: Sequence[Item], longest: int) -> float | None:
    """The share of true boxes that a proposal overlaps by half: a detector cannot find more."""
    if detector.propose is None:
        return None
    hit = total = 0
    for item in items:
        if len(truth := np.array([f.box for f in item.faces if f.label == "face"]).reshape(-1, 4)):
            pixels, scale = sized(item.photo.pixels, longest, enlarge=False)
            boxes = np.asarray(detector.propose(pixels), float).reshape(-1, 4) / scale
            hit += int((iou(truth, boxes).max(1, initial=0) >= 0.5).sum())
            total += len(truth)
    return hit / total if total else None


# ---- where it fails ----


def limit(found: Sequence[Sequence[Face]], items: Sequence[Item]) -> float:
    """The lowest score at which no more than ALLOWED false boxes a picture are let through."""
    wrong = []
    for faces, item in zip(found, items, strict=True):
        scores, right = verdicts(faces, item)
        wrong += scores[~right].tolist()
    wrong.sort(reverse=True)
    allowed = int(ALLOWED * len(items))
    return float(np.nextafter(wrong[allowed], np.inf)) if len(wrong) > allowed else -np.inf


def verdicts(faces: Sequence[Face], item: Item) -> tuple[np.ndarray, np.ndarray]:
    """Scores and whether right of the detections that count."""
    truth, ignored = (np.array([f.box for f in item.faces if f.label == label]).reshape(-1, 4) for label in ("face", "ignore"))
    boxes, scores = np.array([f.box for f in faces]).reshape(-1, 4), np.array([f.score for f in faces])
    one = metrics.judge(boxes, scores, truth, ignored=ignored, complete=item.complete)
    return one.scores, one.right


@dataclass(frozen=True)
class Failure:
    kind: str  # "missed", "misplaced" (a truth that is overlapped, by less than half), "doubled" or "false"
    item: Item
    box: tuple[float, float, float, float]
    score: float | None
    faces: tuple[Face, ...]  # found there


def failures(found: Sequence[Sequence[Face]], items: Sequence[Item]) -> Iterator[Failure]:
    """All of them at `limit`."""
    least = limit(found, items)
    for every, item in zip(found, items, strict=True):
        faces = tuple(f for f in every if f.score >= least)
        truths = [f for f in item.faces if f.label == "face"]
        boxes = np.array([f.box for f in faces]).reshape(-1, 4)
        overlaps = iou(np.array([t.box for t in truths]).reshape(-1, 4), boxes)
        for truth, row in zip(truths, overlaps, strict=True):
            if row.max(initial=0) < 0.5:
                best = int(row.argmax()) if row.size else -1
                near = row.size > 0 and row[best] >= 0.2
                yield Failure("misplaced" if near else "missed", item, truth.box, faces[best].score if near else None, faces)
        for j, face in enumerate(faces):
            alone = verdicts([face], item)[1]
            if alone.size and not alone[0] and overlaps[:, j].max(initial=0) < 0.2:
                yield Failure("false", item, face.box, face.score, faces)
            elif overlaps.size and overlaps[:, j].max() >= 0.2 and _better(j, faces, overlaps):
                yield Failure("doubled", item, face.box, face.score, faces)


def _better(j: int, faces: Sequence[Face], overlaps: np.ndarray) -> bool:
    """Whether another face of a higher score has the truth of this one."""
    row = overlaps[int(overlaps[:, j].argmax())]
    return any(row[i] >= 0.5 and (faces[i].score, -i) > (faces[j].score, -j) for i in range(len(faces)) if i != j)


def tile(failure: Failure, side: int = 220) -> np.ndarray:
    """The failure with its surroundings; true boxes green, found ones red, the one that it is about thick (yellow where missed)."""
    pixels = failure.item.photo.pixels
    x0, y0, x1, y1 = scaled(failure.box, 2.2)
    half, cx, cy = max(x1 - x0, y1 - y0) / 2, (x0 + x1) / 2, (y0 + y1) / 2
    matrix = np.array([[1, 0, half - cx], [0, 1, half - cy]]) * side / (2 * half)
    out = cv2.warpAffine(
        pixels, matrix, (side, side), flags=cv2.INTER_AREA, borderMode=cv2.BORDER_CONSTANT, borderValue=(127, 127, 127)
    )
    told = [(f.box, TRUE, 1) for f in failure.item.faces if f.label == "face"] + [(f.box, FALSE, 1) for f in failure.faces]
    told.append((failure.box, FALSE if failure.kind in ("false", "doubled") else MISSED, 2))
    for box, colour, width in told:
        (a, b), (c, d) = np.rint(np.array(box).reshape(2, 2) @ matrix[:, :2].T + matrix[:, 2]).astype(int).tolist()
        cv2.rectangle(out, (a, b), (c, d), colour, width)
    return out


def failure_sheet(name: str, all_of_them: Sequence[Failure], most: int = 40) -> np.ndarray | None:
    """The surest false boxes and the faces missed, half and half, as a contact sheet; None where there are none."""
    wrong = sorted((f for f in all_of_them if f.kind in ("false", "doubled")), key=lambda f: -(f.score or 0))
    lost = [f for f in all_of_them if f.kind in ("missed", "misplaced")]
    room = max(most // 2, most - len(lost)), max(most // 2, most - len(wrong))
    shown = [*wrong[: room[0]], *lost[: room[1]]]
    if not shown:
        return None
    captions = [f"{f.kind}{'' if f.score is None else f' {f.score:.2f}'} {Path(f.item.name).name}" for f in shown]
    return sheet([tile(f) for f in shown], captions, columns=8, title=f"{name}: {len(wrong)} false, {len(lost)} lost")


# ---- speed and memory ----


def afresh(look: Callable[[np.ndarray], object]) -> Callable[[np.ndarray], object]:
    """A detector without what selective search remembers of a picture: to be timed it must search again."""

    def anew(pixels: np.ndarray) -> object:
        kept = os.environ.pop("VISAGIST_PROPOSALS", None)  # the folder in which proposals are kept
        if (module := sys.modules.get("visagist.detect.searched")) is not None:
            module._caches.clear()
        try:
            return look(pixels)
        finally:
            if kept is not None:
                os.environ["VISAGIST_PROPOSALS"] = kept

    return anew


# ---- the table ----


def table(rows: Mapping[str, Mapping[str, object]], longest: int, one: int) -> str:
    """The figures as Markdown."""
    head = ["detector", "AP50", f"recall at {ALLOWED:g} false boxes a picture", "proposals reach", "parameters", "file, MB",
            f"pictures a second at {longest} px", f"at {one} px, one scale", "memory, MB"]  # fmt: skip

    def figure(row: Mapping[str, object], name: str) -> str:
        low_high = row.get(name + "_interval")
        between = "" if not isinstance(low_high, list) else f" ({low_high[0]:.3f}-{low_high[1]:.3f})"
        return f"{row[name]:.3f}{between}" if row.get(name) is not None else "-"

    def number(row: Mapping[str, object], name: str, form: str, by: float = 1) -> str:
        value = row.get(name)
        return "-" if not isinstance(value, int | float) else format(value / by if by != 1 else value, form)

    lines = [head, ["---"] * len(head)]
    for name, row in rows.items():
        lines.append(
            [name, figure(row, "ap50"), figure(row, "recall_at_0.1_fppi"), number(row, "proposal_recall", ".3f"),
             number(row, "parameters", ",d"), number(row, "bytes", ".1f", 1e6), number(row, "per_second", ".1f"),
             number(row, "per_second_at_one_scale", ".1f"), number(row, "memory_mb", ".0f")]
        )  # fmt: skip
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--data", nargs="+", required=True)
    options.add_argument("--out", type=Path, default=Path("runs/detectors"))
    options.add_argument("--weights", nargs="*", default=[], metavar="NAME=FILE")
    options.add_argument("--only", nargs="*", default=[], metavar="NAME")
    options.add_argument("--longest", type=int, default=640)
    options.add_argument("--one", type=int, default=320, help="longest side where each looks at one scale only")
    options.add_argument("--fit", type=int, default=150, help="pictures on which the map of the box is fitted")
    options.add_argument("--most", type=int, default=0, help="pictures to measure on, evenly spread; 0 for all")
    options.add_argument("--time", action="store_true", help="also measure speed and memory")
    options.add_argument("--timed", type=int, default=40, help="pictures in the speed comparison")
    options.add_argument("--page", type=Path, help="a page of docs whose table is replaced")
    options.add_argument("--child", help=argparse.SUPPRESS)
    o = options.parse_args()
    one_thread()
    rng = np.random.default_rng(0)
    dev = judged(read(o.data, fold="dev", needs=("box",)))
    timed = [
        sized(dev[i].photo.pixels, o.longest, enlarge=True)[0] for i in rng.permutation(len(dev))[: 12 if o.child else o.timed]
    ]
    if o.child:

        def work() -> None:
            (detector,) = detectors([o.child], named(o.weights)).values()
            for pixels in timed:
                afresh(detector.use)(pixels)

        report_growth(work)
        return
    train = [item for item in read(o.data, fold="train", needs=("box",)) if item.faces]
    train = [train[i] for i in rng.permutation(len(train))[: o.fit]]
    dev = dev[:: max(1, len(dev) // o.most)] if o.most else dev
    every = detectors(o.only, named(o.weights))
    o.out.mkdir(parents=True, exist_ok=True)
    rows: dict[str, dict[str, object]] = {}
    passed_on = ["--data", *o.data, "--longest", str(o.longest), "--weights", *o.weights]
    uses = {name: afresh(detector.use) for name, detector in every.items()}
    quick = medians(uses, timed, TURN) if o.time else {}  # first, before the memory of the process is full of other things
    small = [sized(pixels, o.one, enlarge=False)[0] for pixels in timed]
    once = medians({name: afresh(d.once) for name, d in every.items() if d.once}, small, TURN) if o.time else {}
    for name, detector in every.items():
        by = box_map(run(detector, train, o.longest), train)
        found = [[mapped(face, by) for face in faces] for faces in run(detector, dev, o.longest)]
        failed = list(failures(found, dev))
        rows[name] = {
            **printed(metrics.detection(found, dev)),
            "proposal_recall": covered(detector, dev, o.longest),
            "box_map": [round(float(v), 3) for v in by],
            "parameters": detector.parameters,
            "bytes": detector.bytes,
            "failures": dict(Counter(f.kind for f in failed)),
            "per_second": 1 / quick[name][0] if o.time else None,
            "per_second_by_the_clock": 1 / quick[name][1] if o.time else None,
            "per_second_at_one_scale": 1 / once[name][0] if name in once else None,
            "memory_mb": grown_in_child(__file__, "--child", name, *passed_on) if o.time else None,
        }
        pixels = failure_sheet(name, failed)
        if pixels is not None:
            Photo.of(pixels).save(o.out / f"{name}.png", overwrite=True)
        print(f"{name}: {json.dumps(rows[name])}", file=sys.stderr, flush=True)
        (o.out / "detectors.json").write_text(json.dumps({"longest": o.longest, "one": o.one, "detectors": rows}, indent=2) + "\n")
        (o.out / "detectors.md").write_text(table(rows, o.longest, o.one))
    if o.page:
        into_page(o.page, "benchmarks/detectors.py", table(rows, o.longest, o.one))
    print(table(rows, o.longest, o.one))


if __name__ == "__main__":
    main()
