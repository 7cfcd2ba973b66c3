"""How alike two faces are, and what that means: which scores are enough, how often two different people reach one.

Both were measured on people the network has not seen; the weights card tells them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import exp, log

import numpy as np

from visagist.errors import FaceError, UsageError
from visagist.photo.face import Face

_KNOWN, _REJECTED = "score_at_far_", "frr_at_far_"


@dataclass(frozen=True, eq=False)
class Likeness:
    """Two faces, each of another photo, and whether they are of one person.

    score              cosine of their vectors, -1..1; two equal pictures have 1
    threshold          the score from which on they are taken for one person
    false_accept_rate  how often different people reach the threshold, as measured on people unknown to the network and for as
                       many pairs of faces as were compared; None where nobody measured it
    false_reject_rate  how often two pictures of one person do not reach it, as measured there; None where nobody measured it
    """

    score: float
    threshold: float
    false_accept_rate: float | None
    faces: tuple[Face, Face]
    false_reject_rate: float | None = None

    @property
    def same(self) -> bool:
        return self.score >= self.threshold


@dataclass(frozen=True)
class Scale:
    """threshold: the score at which most pairs are told rightly, None where nothing was measured; known: (score, false-accept
    rate) by falling score; missed: (score, false-reject rate) by rising score."""

    threshold: float | None
    known: tuple[tuple[float, float], ...]
    missed: tuple[tuple[float, float], ...] = ()

    @classmethod
    def of(cls, figures: Mapping[str, float]) -> Scale:
        """From what was measured: threshold with false_accept_rate and false_reject_rate, score_at_far_X with frr_at_far_X."""
        at = {name.removeprefix(_KNOWN): value for name, value in figures.items() if name.startswith(_KNOWN)}
        known = [(score, float(rate)) for rate, score in at.items()]
        missed = [(score, figures[_REJECTED + rate]) for rate, score in at.items() if _REJECTED + rate in figures]
        threshold = figures.get("threshold")
        if threshold is not None and figures.get("false_accept_rate", 0) > 0:
            known.append((threshold, figures["false_accept_rate"]))
        if threshold is not None and "false_reject_rate" in figures:
            missed.append((threshold, figures["false_reject_rate"]))
        return cls(threshold, tuple(sorted(known, reverse=True)), tuple(sorted(missed)))

    def enough(self, min_score: float | None = None) -> float:
        """The score that is enough: this one, or the measured one. UsageError "not-measured" where there is neither."""
        if min_score is not None and not -1 <= min_score <= 1:  # also refuses NaN
            raise UsageError(f"min_score is {min_score}", code="usage", hint="it lies between -1 and 1")
        if min_score is None and self.threshold is None:
            what = "these weights were not measured, so nothing says which score is enough"
            raise UsageError(what, code="not-measured", hint="give a smallest score")
        return float(min_score if min_score is not None else self.threshold or 0.0)

    def at_rate(self, rate: float) -> float:
        """The lowest score that was measured to let in no more than this part of pairs of different people: 0..1.

        UsageError "usage" for what is no rate, "not-measured" where nothing so strict was measured.
        """
        if not 0 < rate <= 1:  # also refuses NaN
            raise UsageError(f"a false-accept rate of {rate}", code="usage", hint="it lies above 0 and is at most 1")
        strict = [score for score, measured in self.known if measured <= rate]
        if not strict:
            lowest = min((measured for _, measured in self.known), default=None)
            hint = "give a smallest score" if lowest is None else f"the lowest rate that was measured is {lowest:g}"
            raise UsageError(f"no score was measured that lets in at most {rate:g}", code="not-measured", hint=hint)
        return min(strict)

    def missing(self, score: float) -> float | None:
        """How often two pictures of one person score less than this: 0..1, interpolated; None where nothing was measured."""
        if not self.missed:
            return None
        scores, rates = zip((-1.0, 0.0), *self.missed, (1.0, 1.0), strict=True)
        return float(np.interp(score, scores, rates))

    def rate(self, score: float, pairs: int = 1) -> float | None:
        """How often the best of so many pairs of different people scores at least this: 0..1; None where nothing was measured.

        Between known scores the logarithm of the rate is interpolated, below them the way goes to 1 at a score of -1; above them
        the lowest known rate is said, which is then too high.
        """
        if not self.known:
            return None
        scores = [s for s, _ in self.known] + [-1.0]
        rates = [r for _, r in self.known] + [1.0]
        single = exp(float(np.interp(-score, [-s for s in scores], [log(r) for r in rates])))
        return float(1 - (1 - single) ** pairs)

    def likeness(self, faces: Sequence[Face], others: Sequence[Face], min_score: float | None = None) -> Likeness:
        """The likest pair of these faces and those, at least one each. FaceError "no-identity" for faces without vectors."""
        threshold = self.enough(min_score)
        scores = vectors(faces) @ vectors(others).T
        i, j = divmod(int(scores.argmax()), len(others))
        score = float(np.clip(scores[i, j], -1, 1))
        return Likeness(score, threshold, self.rate(threshold, scores.size), (faces[i], others[j]), self.missing(threshold))


def vectors(faces: Sequence[Face]) -> np.ndarray:
    """The identities of faces, float64 [N, D], of unit length. FaceError "no-identity"."""
    if not faces or any(face.identity is None for face in faces):
        raise FaceError("a face has no identity", code="no-identity", hint="give faces that `identify` returned")
    found = np.array([face.identity for face in faces], np.float64)
    unit: np.ndarray = found / np.linalg.norm(found, axis=1, keepdims=True)
    return unit
