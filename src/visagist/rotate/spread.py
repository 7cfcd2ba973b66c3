"""Values of a face continued over what belongs with it: far into what looks the same, hardly across an edge of the picture.

Paper   Gastal, Oliveira: Domain Transform for Edge-Aware Image and Video Processing. ACM TOG 30(4), 2011 (the recursive filter).
Input   values where they are known, the picture that they belong to.
Output  values everywhere, and how much of a known place reaches each pixel, 0..1.
Read    spread.
"""

from __future__ import annotations

import numpy as np

PASSES = 3  # each one along rows and columns, with a third of the reach of all (equation 14 of the paper)


def spread(values: np.ndarray, known: np.ndarray, picture: np.ndarray, reach: float, edge: float) -> tuple[np.ndarray, np.ndarray]:
    """Values [h, w] known where `known` says, continued over the picture float [h, w, C] in 0..1; and their share [h, w].

    reach  pixels over which the share falls to about a third where the picture is flat
    edge   a step of the picture by this much counts as far as `reach`

    Known values stay, with a share of 1. Next to them the share is 1 where there is no edge and falls to 0 away from them.
    """
    down = 1 + reach / edge * np.abs(np.diff(picture, axis=0)).sum(2)  # length of the way from row to row
    right = 1 + reach / edge * np.abs(np.diff(picture, axis=1)).sum(2)
    both = np.stack([np.where(known, values, 0), known], axis=2).astype(np.float64)
    for number in range(PASSES):
        sigma = reach * np.sqrt(3) * 2.0 ** (PASSES - 1 - number) / np.sqrt(4.0**PASSES - 1)
        both = _filtered(both, np.exp(-np.sqrt(2) / sigma * down))
        both = _filtered(both.swapaxes(0, 1), np.exp(-np.sqrt(2) / sigma * right).T).swapaxes(0, 1)
    share = np.clip(2 * both[..., 1], 0, 1)  # next to a straight border half of what comes in is known
    continued = both[..., 0] / np.maximum(both[..., 1], 1e-9)
    return np.where(known, values, continued), np.where(known, 1, share * share * (3 - 2 * share))


def _filtered(lines: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """Along the first axis, there and back: every line takes over `kept` of the one before. lines [n, m, C], kept [n - 1, m]."""
    out = lines.copy()
    for i in range(1, len(out)):
        out[i] += kept[i - 1][:, None] * (out[i - 1] - out[i])
    for i in range(len(out) - 2, -1, -1):
        out[i] += kept[i][:, None] * (out[i + 1] - out[i])
    return out
