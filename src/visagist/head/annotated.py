"""Where annotators set the 68 points, against the vertices that ICT-FaceKit names for them.

The two differ by up to a centimetre: annotators begin brows further out, and set points evenly along the nose's bridge and along
the jaw. A head fitted without regard to this is read as turned by a sixth too little, for the inner ends of the brows lie further
back than those vertices.

Read off the labels of training frames by `benchmarks/annotated_points.py`, which says how: averages over people, mirror-symmetric.
"""

from __future__ import annotations

import numpy as np

from visagist.photo.face import MIRROR68

APART = 6.51  # distance between the eyes' centres of the face that the table is for, cm

# Way from vertex to point: x to the picture's right, y up, z towards the viewer, cm; the other half mirrored.
_HALF = {
    0: (-0.09, -0.55, 0.00), 1: (-0.11, -0.30, 0.00), 2: (-0.12, -0.15, 0.00), 3: (-0.13, 0.02, 0.00), 4: (-0.29, 0.25, 0.00),
    5: (-0.61, 0.51, 0.00), 6: (-0.77, 0.23, 0.00), 7: (-0.76, -0.20, 0.00), 8: (0.00, -0.39, 0.00),
    17: (-0.04, -0.01, 0.11), 18: (-0.03, -0.08, 0.13), 19: (-0.07, -0.12, -0.02), 20: (-0.43, -0.15, -0.25),
    21: (-0.75, -0.10, -0.26),
    27: (0.00, -0.06, 0.10), 28: (0.00, -0.21, 0.12), 29: (0.00, -0.37, 0.20), 30: (0.00, -0.21, -0.34),
    31: (0.08, 0.22, 0.13), 32: (-0.08, 0.15, 0.02), 33: (0.00, 0.09, 0.07),
    36: (-0.09, 0.13, 0.06), 37: (0.09, 0.07, 0.08), 38: (-0.01, -0.01, -0.05), 39: (-0.02, 0.20, 0.07), 40: (0.00, 0.09, 0.03),
    41: (0.07, 0.07, 0.00),
    48: (-0.07, 0.04, -0.06), 49: (-0.08, -0.10, -0.12), 50: (0.11, -0.04, -0.04), 51: (0.00, -0.10, -0.04),
    55: (-0.05, 0.05, 0.03), 56: (-0.11, -0.08, -0.06), 57: (0.00, -0.09, -0.13), 60: (-0.17, 0.08, 0.02), 61: (0.23, 0.09, 0.12),
    62: (0.00, 0.13, 0.05), 65: (-0.28, 0.01, 0.07), 66: (0.00, 0.04, -0.02),
}  # fmt: skip


def offsets(apart: float = APART) -> np.ndarray:
    """The ways [68, 3] from vertices to points of a face whose eyes' centres are so far apart, in the same units."""
    table = np.empty((68, 3))
    for i, (x, y, z) in _HALF.items():
        table[MIRROR68[i]] = -x, y, z
        table[i] = x, y, z
    return table * (apart / APART)
