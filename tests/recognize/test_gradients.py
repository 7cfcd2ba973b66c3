"""Histograms of gradients, and the directions in which pictures of one person vary alike."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from visagist.recognize.gradients import BINS, CELL, SHRINK, Gradients, histograms, length


def stripes(angle: float, side: int = 32) -> torch.Tensor:
    """Waves that run in this direction, RGB [1, 3, S, S]."""
    y, x = torch.meshgrid(torch.arange(side) + 0.5, torch.arange(side) + 0.5, indexing="ij")
    wave = torch.sin((x * np.cos(angle) + y * np.sin(angle)) * 0.7) * 0.4
    return wave.expand(1, 3, -1, -1)


def test_an_edge_falls_into_the_bin_of_its_direction() -> None:
    for number in range(BINS):
        found = histograms(stripes(number * np.pi / BINS))
        by_bin = found[0, : (32 // CELL - 1) ** 2 * 4 * BINS].view(4, BINS, -1).sum((0, 2))
        assert int(by_bin.argmax()) == number
        assert by_bin[number] > 1.3 * by_bin[(number + 3) % BINS]


def test_shape_and_what_does_not_matter() -> None:
    x = torch.rand(3, 3, 48, 48) - 0.5
    found = histograms(x)
    assert found.shape == (3, length(48))
    assert length(112) == 7380
    assert torch.allclose(found.square().view(3, -1).sum(1), torch.full((3,), found.shape[1] / 36), rtol=0.05)  # blocks of length 1
    darker = histograms((x + 1) * 0.5 - 1)  # half the light: the root of it is one factor everywhere
    assert (darker - found).abs().mean() < 0.003
    assert histograms(torch.zeros(1, 3, 48, 48)).abs().max() == 0


def made(people: int = 12, each: int = 6, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Features that differ between people in some directions and between pictures, more strongly, in others."""
    rng = np.random.default_rng(seed)
    count = length(32)
    labels = np.repeat(np.arange(people), each)
    own = rng.normal(size=(people, 5)) @ rng.normal(size=(5, count)) * 0.5
    light = rng.normal(size=(len(labels), 3)) @ rng.normal(size=(3, count)) * 2
    features = own[labels] + light + rng.normal(size=(len(labels), count)) * 0.1
    return torch.tensor(features, dtype=torch.float32), torch.tensor(labels)


def test_pictures_of_one_person_vary_alike_in_all_directions() -> None:
    features, labels = made()
    net = Gradients(32, 8)
    held = net.fit(features, labels)
    assert 0.9 < held <= 1
    means = torch.stack([features[labels == p].mean(0) for p in range(12)])
    left = (features - means[labels]).double() / np.sqrt(len(labels) - 12)
    matrix = net.matrix.double()
    basis = torch.linalg.qr(matrix)[0]
    spread = (left @ basis).square().sum() / 8  # mean variance of the eight components
    seen = (1 - SHRINK) * (left @ matrix).T @ (left @ matrix) + SHRINK * spread * matrix.T @ matrix
    assert torch.allclose(seen / seen[0, 0], torch.eye(8, dtype=torch.double), atol=1e-3)


def test_the_right_directions_tell_people_apart() -> None:
    features, labels = made()
    net = Gradients(32, 8)
    net.fit(features, labels)

    def margin(vectors: torch.Tensor) -> float:
        unit = torch.nn.functional.normalize(vectors - vectors.mean(0), dim=1)
        cosines, same = unit @ unit.T, labels[:, None] == labels
        return float(cosines[same].mean() - cosines[~same].mean())

    assert margin((features - net.mean) @ net.matrix) > margin(features) + 0.2


def test_fewer_pictures_than_dimensions() -> None:
    features, labels = made(people=3, each=2)
    net = Gradients(32, 50)
    net.fit(features, labels)
    assert bool(net.matrix.isfinite().all())
    assert net.matrix[:, 5:].abs().max() == 0  # six pictures span five directions
    net.fit(*made(people=5, each=1))  # one picture each: nothing is known of how they vary
    assert bool(net.matrix.isfinite().all()) and net.matrix.abs().max() > 0


@pytest.mark.parametrize("side", [32, 64, 112])
def test_the_forward_is_the_matrix_on_centred_histograms(side: int) -> None:
    torch.manual_seed(0)
    net = Gradients(side, 4)
    net.mean.normal_()
    net.matrix.normal_()
    x = torch.rand(2, 3, side, side) * 2 - 1
    with torch.autocast("cpu", torch.bfloat16):
        found = net(x)
    assert found.dtype == torch.float32
    assert torch.allclose(found, (histograms(x) - net.mean) @ net.matrix, atol=1e-3)
