"""Same person or not: pairs, thresholds, error rates, galleries, each worked by hand."""

from __future__ import annotations

import numpy as np
import pytest

from visagist.training.metrics import people
from visagist.training.metrics.people import Curve, Pairs, identification, verification

NAMES = ["ann", "ann", "ann", "bob", "bob", "cid"]
CLIPS = ["a1", "a1", "a2", "b1", "b2", "c1"]


def pairs_of(same: list[bool]) -> Pairs:
    """Pairs with these answers; whose they are does not matter."""
    k = len(same)
    return Pairs(np.arange(k), np.arange(k), np.array(same), np.arange(k), k)


def test_pairs_are_of_different_clips_or_of_different_people() -> None:
    pairs = Pairs.of_people(NAMES, CLIPS)
    told = {(int(a), int(b)): bool(s) for a, b, s in zip(pairs.first, pairs.second, pairs.same, strict=True)}
    assert [pair for pair, same in told.items() if same] == [(0, 2), (1, 2), (3, 4)]
    assert len(told) == 15 - 1  # (0, 1) is of one clip
    assert (0, 1) not in told


def test_rates_by_hand() -> None:
    scores = np.array([0.9, 0.8, 0.6, 0.7, 0.2, 0.1])
    figures = verification(scores, pairs_of([True, True, True, False, False, False]))
    assert figures["auc"] == pytest.approx(8 / 9)  # one of nine comparisons is wrong: 0.6 against 0.7
    assert figures["eer"] == pytest.approx(1 / 3)
    assert figures["tar_at_far_0.01"] == pytest.approx(2 / 3)  # nothing false is let in down to 0.8
    # 0.75 and 0.4 are both wrong about one pair of six; the higher is taken
    assert figures["threshold"] == pytest.approx(0.75)
    assert figures["false_accept_rate"] == 0
    assert figures["score_at_far_0.3"] == pytest.approx(0.7)
    assert figures["frr_at_far_0.3"] == figures["false_reject_rate"] == pytest.approx(1 / 3)  # 0.6 is lower than either


def test_scores_that_say_everything_and_nothing() -> None:
    same = [True] * 10 + [False] * 10
    perfect = verification(np.r_[np.linspace(0.6, 0.9, 10), np.linspace(0.1, 0.4, 10)], pairs_of(same))
    assert perfect["pair_accuracy"] == perfect["auc"] == 1
    assert perfect["eer"] == 0
    none = verification(np.zeros(20), pairs_of(same))
    assert none["auc"] == none["eer"] == none["pair_accuracy"] == 0.5


def test_the_threshold_of_a_fold_is_chosen_on_the_others() -> None:
    """Whoever lies in fold 0 scores so that its own best threshold fits nobody else: its pairs are told wrongly."""
    scores = np.r_[0.2, 0.3, np.tile([0.9, 0.6], 9)]
    same = np.r_[True, False, np.tile([True, False], 9)]
    pairs = Pairs(np.arange(20), np.arange(20), same, np.arange(20) // 2, 10)
    figures = verification(scores, pairs)
    assert figures["pair_accuracy"] == pytest.approx((9 / 10 + 10 / 10) / 2)


def test_an_interval_holds_its_figure_and_is_the_same_each_time() -> None:
    rng = np.random.default_rng(0)
    names = [f"p{i // 6}" for i in range(60)]
    clips = [f"c{i // 2}" for i in range(60)]
    centres = rng.normal(size=(10, 8))
    vectors = centres[np.arange(60) // 6] + rng.normal(size=(60, 8))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    figures = people(vectors, names, clips, np.zeros(60))
    for name in ("pair_accuracy", "auc", "eer", "tar_at_far_0.01", "rank1", "template_accuracy", "template_eer"):
        figure = figures[name]
        low, high = figure.interval  # type: ignore[attr-defined]
        assert low <= figure <= high, name
        assert high > low, name
        assert figure.interval == (low, high)  # type: ignore[attr-defined]
    assert figures["template_accuracy"] > figures["pair_accuracy"]
    assert figures["rank1"] <= figures["rank5"] <= figures["rank10"] == figures["template_rank10"] == 1
    assert figures["n_pairs"] == figures["n_same"] + figures["n_different"]
    assert (figures["n_templates"], figures["n_template_pairs"], figures["n_template_probes"]) == (30, 30 * 29 / 2, 20)
    assert figures["n_same"] == 10 * (15 - 3)
    assert figures["n_different"] == 60 * 59 / 2 - 10 * 15


def test_draws_without_a_person_do_without_its_pairs() -> None:
    pairs = Pairs.of_people(NAMES, CLIPS)
    often = pairs.often(np.array([[2, 0, 1]]))  # ann twice, cid once, bob never
    counts = {(int(a), int(b)): n for a, b, n in zip(pairs.first, pairs.second, often[0], strict=True)}
    assert counts[0, 2] == 2
    assert counts[0, 5] == 2
    assert counts[3, 4] == counts[0, 3] == 0
    curve = Curve.of(np.linspace(1, 0, len(pairs.same)), pairs)
    assert np.isnan(curve.area(np.zeros((1, len(pairs.same)))))


def test_ranks_by_turn_of_the_head() -> None:
    """Gallery: ann's frontal picture 2 and bob's 3. Of the probes ann's first is nearest to bob."""
    angles = np.deg2rad([80, 10, 0, 90, 85, 45])
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    yaws = np.array([20.0, -40, 2, 5, 50, 0])
    figures = identification(vectors, NAMES, CLIPS, yaws)
    assert figures["rank1"] == pytest.approx(2 / 3)
    assert figures["rank1_yaw_15_30"] == 0
    assert figures["rank1_yaw_30_45"] == figures["rank1_yaw_45_90"] == 1
    assert figures["n_probes"] == 3
    assert figures["n_gallery"] == 2
    assert np.isnan(figures["rank5"])  # of two people the right one is always among five


def test_ranks_by_hand() -> None:
    """Six people, a picture of each in the gallery; the probes of four of them see 0, 1, 4 and 5 others nearer than their own."""
    names = [f"p{i}" for i in range(6)] * 2
    clips = [f"{name}/{i // 6}" for i, name in enumerate(names)]
    scores = np.array([[9, 1, 2, 3, 4, 5], [8, 7, 1, 2, 3, 4], [9, 8, 3, 7, 6, 1], [9, 8, 7, 1, 6, 5]])
    vectors = np.zeros((12, 18))
    vectors[:6, :6] = np.eye(6)
    vectors[6:10, :6] = scores
    vectors[10:, 4:6] = np.eye(2)
    figures = identification(vectors, names, clips, np.array([0.0] * 6 + [9.0] * 6))
    assert figures["rank1"] == pytest.approx(3 / 6)
    assert figures["rank5"] == pytest.approx(5 / 6)
    equal = identification(np.ones((12, 1)), names, clips, np.array([0.0] * 6 + [9.0] * 6))
    assert equal["rank1"] == equal["rank5"] == 0  # who is as near as everybody is not found


def test_a_template_is_the_mean_of_its_clip() -> None:
    """Single pictures of ann are nearer to bob's; the mean of her second clip is hers."""
    angles = np.deg2rad([0, 80, -70, 90])
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    figures = people(np.r_[vectors, vectors[3:]], ["ann"] * 3 + ["bob"] * 2, ["a1", "a2", "a2", "b1", "b2"], np.zeros(5))
    assert figures["rank1"] == pytest.approx(2 / 3)
    assert figures["template_rank1"] == 1


def test_one_person_or_one_clip_each_can_not_be_measured() -> None:
    vectors = np.eye(3)
    for names, clips in ((["ann"] * 3, "123"), (list("abc"), "123")):
        figures = people(vectors, names, list(clips), np.zeros(3))
        assert np.isnan(figures["pair_accuracy"])
        assert np.isnan(figures["rank1"])
        assert figures["n"] == 3


def test_strangers_are_of_one_set() -> None:
    names, sets = ["ann", "ann", "bob", "cid", "dot"], ["video", "video", "video", "album", "album"]
    pairs = Pairs.of_people(names, ["a1", "a2", "b1", "c1", "d1"], sets)
    found = {(int(a), int(b)): bool(same) for a, b, same in zip(pairs.first, pairs.second, pairs.same, strict=True)}
    assert found == {(0, 1): True, (0, 2): False, (1, 2): False, (3, 4): False}
    assert len(Pairs.of_people(names, ["a1", "a2", "b1", "c1", "d1"]).same) == 10
    both = Pairs.of_people(["ann", "ann"], ["a1", "a2"], ["video", "album"])  # a person in both is the same person
    assert both.same.tolist() == [True]


def test_strangers_alone_say_which_score_lets_how_many_in() -> None:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(40, 8))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    names = [f"p{i}" for i in range(40)]
    figures = people(vectors, names, names, np.zeros(40))
    scores = (vectors @ vectors.T)[np.triu_indices(40, 1)]
    assert np.isnan(figures["pair_accuracy"]) and np.isnan(figures["threshold"])
    for rate in (0.3, 0.1, 0.01):
        assert (scores > figures[f"score_at_far_{rate:g}"]).mean() == pytest.approx(rate, abs=1 / len(scores))
    assert not any(name.startswith("frr_") for name in figures)
