"""Outlines that follow colours; the optimizer's orthogonal step."""

from __future__ import annotations

from types import ModuleType

import numpy as np
import torch

from visagist.makeup import matte
from visagist.makeup.mouth import Mouth
from visagist.makeup.muon import Muon, orthogonal
from visagist.makeup.outline import shifts
from visagist.photo.blend import polygon_mask
from visagist.photo.face import Face


def circle(centre: tuple[float, float], radius: float, count: int = 80) -> np.ndarray:
    angle = np.linspace(0, 2 * np.pi, count, endpoint=False)
    return np.stack([np.cos(angle), np.sin(angle)], 1) * radius + centre


def says(size: int, centre: tuple[float, float], radius: float) -> np.ndarray:
    y, x = np.mgrid[:size, :size] + 0.5
    return np.where(np.hypot(x - centre[0], y - centre[1]) < radius, 4.0, -4.0).astype(np.float32)


def test_an_outline_grows_shrinks_and_moves_to_the_edge() -> None:
    for centre, radius in (((60, 60), 46), ((60, 60), 35), ((64, 58), 40)):
        for start in (circle((60, 60), 40), circle((60, 60), 40)[::-1]):  # either way round
            by, outwards = shifts(start, says(120, centre, radius), 9.0)
            assert np.allclose(np.linalg.norm(outwards, axis=1), 1)
            moved = start + by[:, None] * outwards
            assert np.abs(np.hypot(*(moved - centre).T) - radius).max() < 1.5


def test_an_outline_stays_where_nothing_speaks_and_ignores_specks() -> None:
    start = circle((60, 60), 40)
    assert np.abs(shifts(start, np.zeros((120, 120), np.float32), 9.0)[0]).max() < 1e-9
    speckled = says(120, (60, 60), 40)
    speckled[np.random.default_rng(0).random(speckled.shape) < 0.15] *= -1
    by, _ = shifts(start, speckled, 9.0)
    assert np.abs(by).max() < 2.5


def test_an_opening_that_shows_only_lips_is_none(drawn: ModuleType) -> None:
    """Points that see an opening in closed lips; and the same points on a mouth that is open."""
    closed = drawn.face((150, 120), 120, opening=0.0)
    wrong = closed.points.copy()
    wrong[[61, 62, 63], 1] -= 9
    wrong[[65, 66, 67], 1] += 9
    face = Face.of_points(wrong)
    size = (240, 300)
    opening = polygon_mask(face.inner_lips, size, grow=-2).full(size) == 1
    for picture, painted in ((drawn.picture(size, [closed], grain=2), True), (drawn.picture(size, [face], grain=2), False)):
        mouth = Mouth.of(face, size)
        assert mouth is not None
        assert mouth.opening > 0.1
        assert (matte.find(mouth, picture).mask().full(size)[opening].mean() > 0.9) == painted
    flat = np.full((*size, 3), drawn.SKIN, np.uint8)  # where colours say nothing, the points are believed
    assert mouth is not None
    assert matte.find(mouth, flat).mask().full(size)[opening].max() < 0.05


def test_a_step_is_orthogonal_and_longer_for_no_direction() -> None:
    torch.manual_seed(0)
    for shape in ((24, 27), (45, 216), (60, 12)):
        gradient = torch.randn(shape) @ torch.diag(torch.logspace(0, -2, shape[1]))
        values = torch.linalg.svdvals(orthogonal(gradient))
        assert values.min() > 0.3
        assert values.max() < 1.3
        assert float((orthogonal(gradient) * gradient).sum()) > 0  # downhill


def test_muon_finds_a_badly_scaled_minimum_and_resumes_exactly() -> None:
    torch.manual_seed(0)
    scales, target = torch.logspace(0, -3, 20), torch.randn(8, 20)

    def run(steps: int, net: torch.nn.Linear, optimizer: Muon, total: int = 200, first: int = 0) -> float:
        for step in range(first, first + steps):
            optimizer.param_groups[0]["lr"] = 0.1 * (1 - step / total)
            optimizer.zero_grad()
            loss = ((net.weight - target) * scales).square().sum() + net.bias.square().sum()
            loss.backward()
            optimizer.step()
        return float(loss.detach())

    net = torch.nn.Linear(20, 8)
    begun, other = {k: v.clone() for k, v in net.state_dict().items()}, torch.nn.Linear(20, 8)
    straight = run(200, net, Muon(net.parameters(), 0.1))
    assert straight < 0.02
    other.load_state_dict(begun)
    first = Muon(other.parameters(), 0.1)
    run(120, other, first)
    second = Muon(other.parameters(), 0.1)
    second.load_state_dict(first.state_dict())
    assert run(80, other, second, first=120) == straight
