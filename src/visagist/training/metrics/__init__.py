"""What is measured, in NumPy: each measure one function, with its source and an example worked by hand in the tests.

    detection.py   average precision, recall at a number of false positives per picture, ignored areas
    landmarks.py   point error over face size, failure rate
    pictures.py    mean squared error of 8-bit pictures
    interval.py    how sure a figure is: bootstrap by person

Recipes get this module as `tools.metrics`.
"""

from visagist.training.metrics.detection import (
    COCO_THRESHOLDS,
    Judged,
    average_precision,
    curve,
    detection,
    judge,
    recall_at,
)
from visagist.training.metrics.interval import bootstrap_interval
from visagist.training.metrics.landmarks import failure_rate, nme_box
from visagist.training.metrics.pictures import mean_squared_error

__all__ = [
    "COCO_THRESHOLDS",
    "Judged",
    "average_precision",
    "bootstrap_interval",
    "curve",
    "detection",
    "failure_rate",
    "judge",
    "mean_squared_error",
    "nme_box",
    "recall_at",
]
