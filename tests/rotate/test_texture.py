"""The texture basis is learnt from rendered people with the bundled model and tells hidden skin from shown skin."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from visagist import catalog
from visagist.errors import TrainingError
from visagist.recipe import Run, Tools
from visagist.rotate.texture import FaceTexture, Skin
from visagist.training import metrics
from visagist.training.data import rendered


@pytest.fixture(scope="module")
def tools() -> Tools:
    return Tools(metrics, lent={"model": catalog.load("morphable").nets})


def test_portraits_become_a_texture(tools: Tools) -> None:
    recipe = FaceTexture(components=3)
    items = rendered.items(9, 2, size=96, yaw=12, pitch=5)
    nets = recipe.networks()
    (stage,) = recipe.stages()
    told = recipe.fit(Run(nets, {}, stage, 0, torch.device("cpu"), tools=tools), items)
    skin = nets["skin"]
    assert isinstance(skin, Skin)
    assert sum(buffer.numel() for buffer in skin.buffers()) == 4 * 3 * 6706
    assert 4 <= told["portraits"] <= sum(item.facts["eyeglasses"] == 0 for item in items)
    made = skin.texture()
    one = torch.tensor([[1.0, -0.5, 0.0]])
    assert np.allclose(skin(one)[0].numpy().clip(0, 255), made.colours(one[0].numpy()), atol=1e-2)
    cheek, pupil = made.mean[:, 0].mean(), made.mean.min()
    assert 60 < cheek < 240
    assert pupil < cheek
    figures = recipe.measure(nets, items, tools)
    assert figures["n"] >= 4
    assert figures["basis_error"] < 0.9 * figures["mean_error"]  # of those it learnt


def test_too_few_portraits_or_another_model_are_said(tools: Tools) -> None:
    items = rendered.items(2, 2, size=64, yaw=5, pitch=5)
    recipe = FaceTexture()
    nets = recipe.networks()
    run = Run(nets, {}, recipe.stages()[0], 0, torch.device("cpu"), tools=tools)
    with pytest.raises(TrainingError) as raised:
        recipe.fit(run, items)
    assert raised.value.code == "no-data"
    with pytest.raises(TrainingError) as raised:
        replace(recipe, vertices=100).fit(run, items)
    assert raised.value.code == "wrong-shape"
