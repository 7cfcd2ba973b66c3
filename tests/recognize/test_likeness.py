"""What a score means: thresholds, rates between the measured ones, the likest pair."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from visagist.errors import FaceError, UsageError
from visagist.photo.face import Face
from visagist.recognize.likeness import Scale

MEASURED = {"threshold": 0.4, "false_accept_rate": 0.05, "score_at_far_0.1": 0.3, "score_at_far_0.01": 0.6, "eer": 0.1}
SCALE = Scale.of(MEASURED)


def face(*vector: float) -> Face:
    return Face((0, 0, 1, 1), identity=np.array(vector, np.float32))


def test_rates_between_the_measured_ones() -> None:
    assert SCALE.rate(0.4) == pytest.approx(0.05)
    assert SCALE.rate(0.3) == pytest.approx(0.1)
    assert SCALE.rate(0.5) == pytest.approx(np.sqrt(0.05 * 0.01))  # half-way in the logarithm
    assert SCALE.rate(0.9) == pytest.approx(0.01)  # never less than what was measured
    assert SCALE.rate(-1) == pytest.approx(1)
    assert SCALE.rate(0.3, pairs=2) == pytest.approx(1 - 0.9**2)


@given(st.lists(st.floats(-1, 1), min_size=2, max_size=2), st.integers(1, 50))
def test_a_higher_score_is_never_reached_more_often(scores: list[float], pairs: int) -> None:
    low, high = sorted(scores)
    one, other = SCALE.rate(low, pairs), SCALE.rate(high, pairs)
    assert one is not None and other is not None
    assert 0 <= other <= one + 1e-12 <= 1 + 1e-9


def test_what_was_not_measured_is_not_said() -> None:
    nothing = Scale.of({})
    assert nothing.rate(0.5) is None
    assert nothing.enough(0.3) == 0.3
    with pytest.raises(UsageError, match="not measured"):
        nothing.enough()
    for wrong in (1.5, float("nan")):
        with pytest.raises(UsageError, match="between"):
            SCALE.enough(wrong)


def test_the_likest_pair_is_told_with_the_rate_of_all_that_were_compared() -> None:
    found = SCALE.likeness([face(1, 0), face(0, 1)], [face(-1, 0), face(0.1, 1), face(1, -1)])
    assert found.faces[0].identity is not None and found.faces[0].identity.tolist() == [0, 1]
    assert found.score == pytest.approx(1 / np.hypot(0.1, 1))
    assert found.same
    assert found.false_accept_rate == pytest.approx(1 - 0.95**6)
    assert not SCALE.likeness([face(1, 0)], [face(0, 1)]).same
    assert SCALE.likeness([face(1, 0)], [face(0, 1)], min_score=-0.5).same


def test_a_threshold_by_its_false_accept_rate() -> None:
    assert SCALE.at_rate(0.1) == 0.3
    assert SCALE.at_rate(0.01) == 0.6
    assert SCALE.at_rate(0.02) == 0.6  # the next stricter one that was measured
    assert SCALE.at_rate(0.05) == 0.4  # the default's
    with pytest.raises(UsageError, match="at most 0.001") as strict:
        SCALE.at_rate(0.001)
    assert "0.01" in str(strict.value.hint)
    with pytest.raises(UsageError, match="no score was measured"):
        Scale.of({}).at_rate(0.1)
    for wrong in (0.0, -1.0, 1.5, float("nan")):
        with pytest.raises(UsageError, match="rate"):
            SCALE.at_rate(wrong)


def test_what_a_threshold_misses() -> None:
    scale = Scale.of({**MEASURED, "false_reject_rate": 0.2, "frr_at_far_0.1": 0.15, "frr_at_far_0.01": 0.6})
    assert scale.missing(0.4) == pytest.approx(0.2)
    assert scale.missing(0.5) == pytest.approx(0.4)
    assert scale.missing(-1) == 0 and scale.missing(1) == 1
    assert SCALE.missing(0.4) is None
    assert scale.likeness([face(1, 0)], [face(0, 1)]).false_reject_rate == pytest.approx(0.2)


def test_the_same_face_scores_one() -> None:
    assert SCALE.likeness([face(0.3, 0.7, 0.2)], [face(0.3, 0.7, 0.2)]).score == pytest.approx(1, abs=1e-12)


def test_faces_without_vectors_do_not_compare() -> None:
    with pytest.raises(FaceError, match="no identity"):
        SCALE.likeness([Face((0, 0, 1, 1))], [face(1, 0)])
