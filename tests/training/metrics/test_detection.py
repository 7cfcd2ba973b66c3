"""Detection measures against examples worked by hand, and what must always hold."""

from __future__ import annotations

import json
import pickle
import time
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from visagist.photo.face import Face
from visagist.photo.photo import Photo
from visagist.recipe import Item
from visagist.training.metrics import Judged, average_precision, curve, detection, judge, recall_at
from visagist.training.metrics.detection import drawn_precision, drawn_recall
from visagist.training.metrics.interval import draws, groups_of

PHOTO = Photo.of(np.zeros((100, 100, 3), np.uint8))
A, B, C = (0, 0, 10, 10), (20, 0, 30, 10), (40, 0, 60, 20)


def item(*faces: Face, complete: bool = True) -> Item:
    return Item("a.png", lambda: PHOTO, faces, complete)


def test_average_precision_by_hand() -> None:
    # Seven detections by falling score, four truths: right, wrong, right, wrong, wrong, right, wrong.
    # recall    1/4  1/4  2/4  2/4  2/4  3/4  3/4
    # precision 1    1/2  2/3  2/4  2/5  3/6  3/7    highest from there on: 1 up to 1/4, 2/3 up to 2/4, 1/2 up to 3/4, 0 beyond
    judged = Judged(np.arange(7, 0, -1) / 8, np.array([1, 0, 1, 0, 0, 1, 0], bool), 4, 1)
    recall, precision = curve(judged)
    assert recall == pytest.approx([0.25, 0.25, 0.5, 0.5, 0.5, 0.75, 0.75])
    assert precision == pytest.approx([1, 1 / 2, 2 / 3, 1 / 2, 2 / 5, 1 / 2, 3 / 7])
    assert average_precision(recall, precision, "all") == pytest.approx((1 + 2 / 3 + 1 / 2) / 4)
    # 0, .1, .2 -> 1; .3, .4, .5 -> 2/3; .6, .7 -> 1/2; .8, .9, 1 -> 0
    assert average_precision(recall, precision, "11") == pytest.approx((3 * 1 + 3 * 2 / 3 + 2 / 2) / 11)
    # 0 ... .25: 26 levels; .26 ... .50: 25; .51 ... .75: 25
    assert average_precision(recall, precision, "101") == pytest.approx((26 + 25 * 2 / 3 + 25 / 2) / 101)


def test_levels_survive_rounding() -> None:
    """Ten of ten found: recall 0.1, 0.2, 0.30000000000000004 ... reach all eleven levels."""
    recall, precision = curve(Judged(np.arange(10, 0, -1.0), np.ones(10, bool), 10, 1))
    assert [average_precision(recall, precision, m) for m in ("all", "11", "101")] == pytest.approx([1, 1, 1])


def test_nothing_found_is_zero_and_nothing_to_find_is_nan() -> None:
    none = np.zeros(0)
    assert [average_precision(none, none, m) for m in ("all", "11", "101")] == [0, 0, 0]
    assert np.isnan(average_precision(*curve(Judged(np.ones(1), np.zeros(1, bool), 0, 1))))


def test_every_truth_is_taken_once_by_the_best() -> None:
    boxes = [(0, 0, 10, 9), A, (0, 0, 10, 3), B]
    judged = judge(np.array(boxes), np.array([0.9, 0.8, 0.7, 0.6]), np.array([A, B]))
    assert judged.right.tolist() == [True, False, False, True] and judged.truths == 2


def test_a_detection_takes_the_truth_it_fits_best_among_the_free() -> None:
    close = (0, 0, 10, 8)  # IoU 0.8 with A
    judged = judge(np.array([A, A]), np.array([0.9, 0.8]), np.array([close, A]))
    assert judged.right.all()


def test_threshold_is_reached_by_equality() -> None:
    half = np.array([(0, 0, 10, 5)])
    assert judge(half, np.ones(1), np.array([A]), threshold=0.5).right.all()
    assert not judge(half, np.ones(1), np.array([A]), threshold=0.55).right.any()


def test_ignored_areas_count_neither_way() -> None:
    boxes = np.array([A, (45, 5, 55, 15), (55, 0, 75, 20), (80, 80, 90, 90)])
    judged = judge(boxes, np.array([0.9, 0.8, 0.7, 0.6]), np.array([A]), ignored=np.array([C]))
    assert judged.right.tolist() == [True, False, False]  # the one inside C is passed over, a quarter inside is not enough
    assert judge(np.array([C]), np.ones(1), np.array([C]), ignored=np.array([C])).right.all()  # a truth under it can be found


def test_where_labels_are_incomplete_only_what_touches_a_truth_is_wrong() -> None:
    boxes = np.array([C, (40, 0, 80, 40), (45, 5, 50, 10), A])
    judged = judge(boxes, np.array([0.9, 0.8, 0.7, 0.6]), np.array([C]), complete=False)
    assert judged.scores.tolist() == [0.9, 0.8, 0.7]  # too large and too small are wrong, elsewhere is nobody's business
    assert judged.right.tolist() == [True, False, False]
    assert not judge(boxes, np.ones(4), np.zeros((0, 4)), complete=False).scores.size


def test_recall_at_a_number_of_false_positives() -> None:
    # by falling score: right, wrong, right, wrong, wrong, right; 4 truths in 10 pictures
    judged = Judged(np.array([0.9, 0.8, 0.7, 0.6, 0.5, 0.4]), np.array([1, 0, 1, 0, 0, 1], bool), 4, 10)
    assert recall_at(judged, 0.0) == 0.25
    assert recall_at(judged, 0.1) == 0.5
    assert recall_at(judged, 0.2) == 0.5
    assert recall_at(judged, 0.3) == 0.75
    tied = Judged(np.array([0.9, 0.9]), np.array([1, 0], bool), 1, 10)
    assert recall_at(tied, 0.0) == 0.0  # no score limit separates the two
    assert recall_at(Judged(np.zeros(0), np.zeros(0, bool), 3, 1), 0.1) == 0.0
    assert np.isnan(recall_at(Judged(np.zeros(0), np.zeros(0, bool), 0, 1), 0.1))


def test_detection_figures() -> None:
    # IoU of the second detection is 0.8: right at 0.5 ... 0.8 (7 of the 10 thresholds), wrong above, where it costs half of the AP
    found = [[Face(A, 0.9), Face((20, 0, 30, 8), 0.8)], [Face(A, 0.7)]]
    figures = detection(found, [item(Face(A), Face(B)), item(complete=True)])
    assert figures == pytest.approx(
        {
            "ap50": 1.0,
            "ap": (7 * 1 + 3 * 0.5) / 10,
            "recall_at_0.1_fppi": 1.0,
            "n_faces": 2,
            "n_photos": 2,
            "ap50_all_points": 1.0,
            "ap50_11_points": 1.0,
            "ap_101_points": (7 * 1 + 3 * 51 / 101) / 10,  # recall 0, .01 ... .50
        }
    )
    assert list(figures)[:5] == ["ap50", "ap", "recall_at_0.1_fppi", "n_faces", "n_photos"]


def test_detection_leaves_out_what_tells_nothing() -> None:
    figures = detection([[Face(A, 0.9)], [Face(A, 0.95)]], [item(Face(A)), item(complete=False)])
    assert figures["ap50"] == 1 and figures["n_photos"] == 1
    assert np.isnan(detection([[]], [item()])["ap50"])
    assert detection([], [])["n_photos"] == 0


def test_detection_averages_classes_and_passes_over_ignore() -> None:
    cat, dog = Face(A, 0.9, "cat"), Face(B, 0.8, "dog")
    truth = item(Face(A, label="cat"), Face(B, label="dog"), Face(C, label="ignore"))
    assert detection([[cat, replace(dog, box=C)]], [truth])["ap50"] == 0.5
    assert detection([[cat, dog, replace(dog, box=C, score=0.99)]], [truth])["ap50"] == 1
    stray = Face((70, 70, 90, 90), 0.99, "bird")
    assert detection([[cat, dog, stray]], [truth])["recall_at_0.1_fppi"] == 0


def crowd(seed: int, pictures: int = 12, people: int = 5) -> tuple[list[list[Face]], list[Item]]:
    """Found and true faces of two classes, with doublets, misses, strangers and a picture without faces."""
    rng = np.random.default_rng(seed)

    def label(*shares: float) -> str:
        return str(rng.choice(["cat", "dog", "bird"], p=shares))

    found, items = [], []
    for i in range(pictures):
        corners = rng.uniform(0, 80, (rng.integers(0, 4) if i else 0, 2))
        true = [Face((x, y, x + 20, y + 20), label=label(0.5, 0.5, 0)) for x, y in corners]
        shown = [f for f in [*true, *true, Face(A)] if rng.random() < 0.7]
        found.append([Face(tuple(np.array(f.box) + rng.normal(0, 4, 4)), rng.random(), label(0.5, 0.45, 0.05)) for f in shown])
        person = None if i % 4 == 0 else f"p{rng.integers(people)}"
        items.append(replace(item(*true, complete=bool(rng.random() < 0.8 or not true)), person=person))
    return found, items


@pytest.mark.parametrize("seed", range(3))
def test_draws_of_pictures_are_as_if_measured_one_by_one(seed: int) -> None:
    found, items = crowd(seed)
    groups, count = groups_of([("picture", i) if one.person is None else one.person for i, one in enumerate(items)])
    labels = ("cat", "dog")

    def boxes(faces: Sequence[Face], label: str) -> np.ndarray:
        return np.array([f.box for f in faces if f.label == label]).reshape(-1, 4)

    parts = {
        label: [
            judge(
                boxes(f, label),
                np.array([one.score for one in f if one.label == label]),
                boxes(i.faces, label),
                complete=i.complete,
            )
            for f, i in zip(found, items)
        ]
        for label in labels
    }
    often = draws(count, rounds=60, seed=seed)
    fast = {
        label: (drawn_precision(parts[label], groups, often), drawn_recall(parts[label], groups, often, 0.1)) for label in labels
    }
    for r, times in enumerate(often):
        for label in labels:
            together = Judged.together([parts[label][i] for i, g in enumerate(groups) for _ in range(times[g])])
            slow = average_precision(*curve(together)), recall_at(together, 0.1)
            assert [v[r] for v in fast[label]] == pytest.approx(slow, abs=1e-6, nan_ok=True)


def test_intervals_are_of_people_and_repeatable() -> None:
    found, items = crowd(7, pictures=60)
    alone = [replace(one, person=f"{i}") for i, one in enumerate(items)]
    one, copies = detection(found, alone), detection(found * 4, alone * 4)
    for name in ("ap50", "ap", "recall_at_0.1_fppi"):
        low, high = one[name].interval  # type: ignore[union-attr]
        assert low < one[name] < high
        if name != "ap":  # copies of detections are wrong or right alike, but ties between copies are cut elsewhere
            assert copies[name].interval == pytest.approx((low, high), abs=0.02)  # type: ignore[union-attr]
        assert one[name].interval == (low, high)  # type: ignore[union-attr]
    single = detection(found, [replace(i, person="p") for i in items])["ap50"]
    assert np.isnan(single.interval).all()  # type: ignore[union-attr]
    assert np.isnan(detection([[]], [item()])["ap50"].interval).all()  # type: ignore[union-attr]


def test_a_figure_is_a_number_everywhere_else() -> None:
    figure = detection(*crowd(1))["ap50"]
    for copied in (pickle.loads(pickle.dumps(figure)), deepcopy(figure), json.loads(json.dumps(figure))):
        assert type(copied) is float and copied == figure


def test_intervals_of_thousands_of_detections_take_little_time() -> None:
    rng = np.random.default_rng(0)
    parts = [Judged(rng.random(20), rng.random(20) < 0.3, 8, 1) for _ in range(500)]
    groups, often = np.arange(500) // 2, draws(250)
    start = time.process_time()
    drawn_precision(parts, groups, often)
    drawn_recall(parts, groups, often, 0.1)
    assert time.process_time() - start < 15  # 10,000 detections, 1,000 draws: about half a second


boxes_strategy = st.lists(
    st.tuples(st.integers(0, 50), st.integers(0, 50), st.integers(1, 30), st.integers(1, 30)).map(
        lambda b: (float(b[0]), float(b[1]), float(b[0] + b[2]), float(b[1] + b[3]))
    ),
    max_size=6,
)


@given(truths=boxes_strategy, found=boxes_strategy, seed=st.integers(0, 99))
def test_figures_stay_in_range_and_fall_with_the_threshold(truths: list, found: list, seed: int) -> None:
    scores = np.random.default_rng(seed).permutation(len(found)) / 10
    t = np.array(truths).reshape(-1, 4)
    f = np.array(found).reshape(-1, 4)
    judged = [judge(f, scores, t, threshold=x) for x in (0.3, 0.5, 0.9)]
    hits = [int(j.right.sum()) for j in judged]
    assert all(h <= min(len(truths), len(found)) for h in hits)
    if truths:
        values = [average_precision(*curve(j), m) for j in judged for m in ("all", "11", "101")]
        assert all(0 <= v <= 1 for v in values)
        assert recall_at(judged[0], 1e9) == pytest.approx(hits[0] / len(truths))


@given(truths=boxes_strategy.filter(bool), seed=st.integers(0, 99))
def test_perfect_detections_are_perfect(truths: list, seed: int) -> None:
    scores = np.random.default_rng(seed).random(len(truths))
    found = [[Face(b, s) for b, s in zip(truths, scores)]]
    figures = detection(found, [item(*(Face(b) for b in truths))])
    assert figures["ap"] == pytest.approx(1) and figures["recall_at_0.1_fppi"] == 1


@given(truths=boxes_strategy.filter(bool), found=boxes_strategy, seed=st.integers(0, 99))
def test_a_worse_false_positive_never_helps(truths: list, found: list, seed: int) -> None:
    scores = 0.5 + np.random.default_rng(seed).random(len(found)) / 2
    faces = [Face(b, s) for b, s in zip(found, scores)]
    truth = item(*(Face(b) for b in truths))
    before, after = detection([faces], [truth]), detection([[*faces, Face((90, 90, 95, 95), 0.1)]], [truth])
    assert after["ap"] == pytest.approx(before["ap"])
    better = detection([[*faces, Face((90, 90, 95, 95), 2.0)]], [truth])
    assert better["ap"] <= before["ap"] + 1e-12
