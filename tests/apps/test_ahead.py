"""Several pictures at once: the same answers in the same order, and no photo's failure is another's."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from visagist.apps import ahead
from visagist.apps.ahead import Ahead
from visagist.apps.batch import Job
from visagist.errors import PhotoError
from visagist.photo.photo import Photo


def job(name: int, error: PhotoError | None = None) -> Job:
    return Job(str(name), str(name), error=error)


def of_size(side: int) -> Callable[[Job], Photo]:
    """Reads photos whose first value is the number in the job's name."""

    def read(job: Job) -> Photo:
        return Photo.of(np.full((side, side, 3), int(job.name), np.uint8))

    return read


class Answers:
    """Says the first value of every photo, and remembers how many it was asked for at once."""

    def __init__(self, most: int = 99) -> None:
        self.asked: list[int] = []
        self.most = most

    def __call__(self, photos: Sequence[Photo]) -> list[int]:
        self.asked.append(len(photos))
        if len(photos) > self.most:
            raise RuntimeError("not enough memory: you tried to allocate memory")
        return [int(photo.pixels[0, 0, 0]) for photo in photos]


def test_every_job_gets_its_own_answer_and_they_are_worked_on_together() -> None:
    jobs, answers = [job(n) for n in range(40)], Answers()
    hand = Ahead(jobs, of_size(4), answers)
    assert [hand.take(one)[1] for one in jobs] == list(range(40))
    assert answers.asked == [16, 16, 8]


def test_large_photos_do_not_wait_beside_one_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ahead, "PIXELS", 100)
    jobs, answers = [job(n) for n in range(3)], Answers()
    hand = Ahead(jobs, of_size(20), answers)
    assert [hand.take(one)[1] for one in jobs] == [0, 1, 2]
    assert answers.asked == [1, 1, 1]


def test_a_photo_that_cannot_be_read_fails_when_its_turn_comes_and_only_then() -> None:
    def read(job: Job) -> Photo:
        if job.name == "2":
            raise PhotoError("is no picture", code="not-an-image")
        return of_size(4)(job)

    jobs, answers = [job(n) for n in range(5)], Answers()
    hand = Ahead(jobs, read, answers)
    assert [hand.take(jobs[n])[1] for n in (0, 1)] == [0, 1]
    with pytest.raises(PhotoError):
        hand.take(jobs[2])
    assert [hand.take(jobs[n])[1] for n in (3, 4)] == [3, 4]
    assert answers.asked == [4]


def test_what_fails_together_is_tried_alone() -> None:
    jobs, answers = [job(n) for n in range(3)], Answers(most=1)
    hand = Ahead(jobs, of_size(4), answers)
    assert [hand.take(one)[1] for one in jobs] == [0, 1, 2]
    assert 1 in answers.asked


def test_jobs_that_fail_before_they_begin_are_left_out() -> None:
    jobs, answers = [job(0), job(1, PhotoError("no", code="not-an-image")), job(2)], Answers()
    hand = Ahead(jobs, of_size(4), answers)
    assert [hand.take(jobs[n])[1] for n in (0, 2)] == [0, 2]
    assert answers.asked == [2]
