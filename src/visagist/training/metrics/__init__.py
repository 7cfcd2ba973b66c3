"""What is measured, in NumPy: each measure one function, with its source and an example worked by hand in the tests.

    detection.py   average precision, recall at a number of false positives per picture, ignored areas
    landmarks.py   point error over face size, root mean square error in a window of 96 px, failure rate, cumulative curve
    classes.py     accuracy, and which classes are taken for which
    people.py      same person or not: pair accuracy, equal error rate, rank 1, by how far heads are turned
    pictures.py    mean squared error of 8-bit pictures
    interval.py    how sure a figure is: bootstrap by person

Recipes get this module as `tools.metrics`. What `detection` and `points` give are numbers that know their interval (`Figure`);
`visagist evaluate` prints it beside them.
"""

from visagist.training.metrics.classes import classes, confusion
from visagist.training.metrics.detection import (
    COCO_THRESHOLDS,
    Judged,
    average_precision,
    curve,
    detection,
    judge,
    recall_at,
)
from visagist.training.metrics.interval import Figure, bootstrap_interval, ratio_interval
from visagist.training.metrics.landmarks import FAILED, cumulative, failure_rate, nme_box, points
from visagist.training.metrics.people import people
from visagist.training.metrics.pictures import mean_squared_error

__all__ = [
    "COCO_THRESHOLDS",
    "FAILED",
    "Figure",
    "Judged",
    "average_precision",
    "bootstrap_interval",
    "classes",
    "confusion",
    "cumulative",
    "curve",
    "detection",
    "failure_rate",
    "judge",
    "mean_squared_error",
    "nme_box",
    "people",
    "points",
    "ratio_interval",
    "recall_at",
]
