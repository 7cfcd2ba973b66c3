"""Boxes against plain arithmetic."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from visagist.photo import boxes

coordinate = st.integers(-20, 40)
box_lists = st.lists(st.tuples(coordinate, coordinate, coordinate, coordinate), min_size=1, max_size=6)


def test_by_hand() -> None:
    a = np.array([[0, 0, 4, 2], [1, 1, 3, 3], [5, 5, 4, 9]], float)
    assert boxes.area(a).tolist() == [8, 4, 0]
    assert boxes.overlap(a, a).tolist() == [[8, 2, 0], [2, 4, 0], [0, 0, 0]]
    assert boxes.iou(a[:1], a).tolist() == [[1, 0.2, 0]]
    assert boxes.scaled((0, 0, 4, 2), 1.5) == (-1, -0.5, 5, 2.5)
    assert boxes.clipped((-1, -2, 50, 3), (10, 20)) == (0, 0, 20, 3)
    assert boxes.clipped((30, 30, 50, 50), (10, 20)) == (20, 10, 20, 10)
    assert boxes.area(np.zeros((0, 4))).shape == (0,)
    assert boxes.iou(np.zeros((0, 4)), a).shape == (0, 3)


@given(box_lists, box_lists)
def test_iou_counts_pixels(first: list[tuple[int, ...]], second: list[tuple[int, ...]]) -> None:
    def pixels(box: tuple[int, ...]) -> set[tuple[int, int]]:
        return {(x, y) for x in range(box[0], box[2]) for y in range(box[1], box[3])}

    found = boxes.iou(np.array(first, float), np.array(second, float))
    for i, a in enumerate(map(pixels, first)):
        for j, b in enumerate(map(pixels, second)):
            assert np.isclose(found[i, j], len(a & b) / len(a | b) if a | b else 0)


@given(box_lists, st.floats(0, 1))
def test_suppress(found: list[tuple[int, ...]], threshold: float) -> None:
    array = np.array(found, float)
    scores = np.arange(len(found)) % 3 / 3
    kept = boxes.suppress(array, scores, threshold)
    assert kept[0] == np.argmax(scores)
    assert (np.diff(scores[kept]) <= 0).all()
    table = boxes.iou(array, array)
    for place, i in enumerate(kept):  # nothing kept overlaps anything better that is kept
        assert (table[i, kept[:place]] <= threshold).all()
    for i in set(range(len(found))) - set(kept.tolist()):  # and what is dropped has its reason among the kept
        assert any(table[i, j] > threshold and (scores[j], -j) >= (scores[i], -i) for j in kept)


def test_suppress_nothing() -> None:
    assert boxes.suppress(np.zeros((0, 4)), np.zeros(0), 0.5).tolist() == []


def test_ties_go_to_the_lower_index() -> None:
    twice = np.array([[0, 0, 9, 9], [0, 0, 9, 9]], float)
    assert boxes.suppress(twice, np.array([0.5, 0.5]), 0.5).tolist() == [0]


def test_a_box_within_a_better_one_goes_only_when_asked() -> None:
    three = np.array([[0.0, 0, 100, 100], [30, 30, 50, 50], [95, 40, 115, 60]])  # the last lies inside by a quarter
    scores = np.array([0.9, 0.8, 0.7])
    assert boxes.suppress(three, scores, 0.3).tolist() == [0, 1, 2]
    assert boxes.suppress(three, scores, 0.3, inside=0.6).tolist() == [0, 2]
    assert boxes.suppress(three, scores, 0.3, inside=0.2).tolist() == [0]
    assert boxes.suppress(three, scores[::-1].copy(), 0.3, inside=0.6).tolist() == [
        2,
        1,
    ]  # the better one stays, also if it is smaller
