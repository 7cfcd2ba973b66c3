"""The feed-forward painter: its size, losses, examples, a training of a few steps, photos of any size, several bundled weights."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F
from typer.testing import CliRunner

from visagist import catalog
from visagist.apps.cli import app
from visagist.errors import PhotoError, TrainingError, UsageError, WeightsError
from visagist.photo.face import Face
from visagist.photo.photo import Photo
from visagist.recipe import Item, Run, Tools
from visagist.stylize import canvas
from visagist.stylize.fast_style import FastStyle, InstanceNorm, Painter, Palette, Target, content_loss, style_loss, variation
from visagist.stylize.perceptual import Perceptual, PerceptualNet, levelled
from visagist.training import metrics
from visagist.training.feed import batches
from visagist.training.loop import train
from visagist.weights import device as devices
from visagist.weights import store

TINY = FastStyle(style="painting.png", widths=(4, 6, 8), blocks=1, painting=48, crop=32, batch=2, steps=3)
CARD: dict[str, Any] = {"input": "RGB", "paper": "none", "command": "visagist train", "commercial_use": False}


@pytest.fixture(scope="module")
def net() -> PerceptualNet:
    """A tiny feature network of levelled random filters."""
    torch.manual_seed(0)
    made = PerceptualNet((4, 6, 8, 8, 8), (1, 1, 1, 1, 1))
    levelled(made, torch.rand(4, 3, 64, 64) * 2 - 1)
    return made.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def painting() -> Photo:
    """Broad strokes in two colours."""
    y, x = np.mgrid[:60, :80]
    waves = np.sin(x / 3 + np.sin(y / 6) * 2)[..., None] > 0
    return Photo.of(np.where(waves, (230, 180, 40), (20, 40, 140)).astype(np.uint8))


@pytest.fixture(scope="module")
def items(astronaut: np.ndarray) -> list[Item]:
    photos = [Photo.of(np.ascontiguousarray(astronaut[y : y + 90, x : x + 120])) for y, x in ((0, 0), (60, 200), (300, 100))]
    return [Item(f"photo{i}", lambda photo=photo: photo) for i, photo in enumerate(photos)]  # type: ignore[misc]


@pytest.fixture
def tools(net: PerceptualNet, painting: Photo) -> Tools:
    return Tools(metrics, lent={"features": {"features": net}}, pictures={"style": painting})


def options(net: PerceptualNet, painting: Photo) -> dict[str, Any]:
    lent = {"lent": {"features": {"features": net}}, "pictures": {"style": painting}}
    return {"workers": 0, "quiet": True, "precision": "fp32", "system": "fast-style", **lent}


# ---- network


def test_the_network_is_as_large_as_its_header_says() -> None:
    with torch.device("meta"):
        painter = FastStyle().networks()["painter"]
    assert sum(p.numel() for p in painter.parameters()) == 880_739
    assert sum(p.numel() for p in painter.parameters()) * 2 <= 2_000_000  # bytes at float16
    for size in ((4, 8), (64, 48), (256, 256)):
        if min(size) >= 8:
            assert painter(torch.zeros(2, 3, *size, device="meta")).shape == (2, 3, *size)


@pytest.mark.parametrize("channels", [5, 70])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_instance_norm_is_torchs(channels: int, layout: torch.memory_format) -> None:
    torch.manual_seed(0)
    norm = InstanceNorm(channels)
    norm.weight.data.uniform_(0.5, 2)
    norm.bias.data.uniform_(-1, 1)
    x = (torch.randn(2, channels, 9, 7) * 3 + 1).contiguous(memory_format=layout).requires_grad_()
    weights = torch.randn(2, channels, 9, 7)
    wanted = F.instance_norm(x, weight=norm.weight, bias=norm.bias)
    assert torch.allclose(norm(x), wanted, atol=1e-5)
    to = (x, norm.weight, norm.bias)
    for a, b in zip(torch.autograd.grad((norm(x) * weights).sum(), to), torch.autograd.grad((wanted * weights).sum(), to)):
        assert torch.allclose(a, b, atol=1e-4)
    assert torch.allclose(norm(torch.full((1, channels, 4, 4), 0.3))[0, :, 0, 0], norm.bias, atol=1e-3)


def test_what_is_painted_does_not_depend_on_brightness_and_contrast() -> None:
    """Instance norm takes the photo's contrast away (Ulyanov et al., section 2)."""
    torch.manual_seed(0)
    painter = Painter((4, 6, 8), 1).eval()
    x = torch.rand(1, 3, 32, 32) - 0.5
    with torch.no_grad():
        assert torch.allclose(painter(x), painter(x * 0.5 + 0.1), atol=2e-2)


# ---- losses


def test_losses_of_the_painting_itself_and_of_nothing(net: PerceptualNet) -> None:
    torch.manual_seed(0)
    x = torch.rand(1, 3, 64, 64) * 2 - 1
    target = Target.of(net, x)
    found = net(x, net.layers)
    empty = {name: torch.zeros_like(f) for name, f in found.items()}
    assert style_loss(net, found, target).item() == pytest.approx(0, abs=1e-8)
    assert style_loss(net, empty, target).item() == pytest.approx(1, abs=1e-5)  # the weights of the layers sum to 1
    assert content_loss(net, found, found).item() == 0
    means = {name: f.mean((2, 3), keepdim=True).expand_as(f) for name, f in found.items()}
    assert content_loss(net, means, found).item() == pytest.approx(1, abs=1e-3)
    twice = {name: torch.cat([f, f]) for name, f in found.items()}
    assert style_loss(net, twice, target).item() == pytest.approx(0, abs=1e-8)


def test_variation_in_closed_form() -> None:
    ramp = torch.arange(6.0).expand(1, 3, 5, 6) * 0.1
    assert variation(ramp).item() == pytest.approx(0.01)
    assert variation(torch.ones(1, 3, 4, 4)).item() == 0


# ---- training


def test_every_parameter_gets_a_gradient(items: list[Item], tools: Tools) -> None:
    torch.manual_seed(0)
    nets = TINY.networks()
    stage = TINY.stages()[1]
    run = Run(nets, stage.optimizers(nets), stage, 0, torch.device("cpu"), tools=tools)  # type: ignore[misc]
    (batch,) = batches(TINY, items, seed=0, stage=0, batch=2, first=0, last=1)
    assert batch["photo"].shape == (2, 32, 32, 3)
    seen: dict[str, float] = {}
    run.update = lambda name, loss: loss.backward()  # type: ignore[method-assign]
    told = TINY.step(run, batch)
    for name, parameter in nets["painter"].named_parameters():
        seen[name] = 0.0 if parameter.grad is None else float(parameter.grad.abs().sum())
    assert all(value > 0 for value in seen.values()), seen
    assert all(math.isfinite(float(value)) for value in told.values())
    sheet = TINY.preview(run, batch)
    assert sheet is not None and sheet.shape == (64, 64, 3)


def test_it_learns_a_painting(items: list[Item], net: PerceptualNet, painting: Photo, tmp_path: Path) -> None:
    recipe = replace(TINY, steps=60, rate=5e-3)
    path = train(
        recipe, items, tmp_path / "run", validation=items, measure_every=60, card={"preset": "default"}, **options(net, painting)
    )
    _, card = store.read(path)
    figures = {m.metric: m.value for m in card.measured}
    assert figures["style_loss"] < 0.7 * figures["style_before"]
    assert 0 < figures["content_loss"]

    # another painting from there, which another network cannot start
    more = replace(recipe, start=str(path), steps=1)
    lent = options(net, painting)
    lent["lent"]["start"] = {"painter": catalog.load(path, "cpu").nets["painter"]}
    again = train(replace(more, rate=0.0), items, tmp_path / "again", **lent)
    old, new = store.read(path)[0], store.read(again)[0]
    assert all(torch.allclose(old[name], new[name], atol=1e-3) for name in old)
    with pytest.raises(TrainingError, match="not a network of these widths"):
        train(replace(more, widths=(4, 6, 10)), items, tmp_path / "other", **lent)
    catalog.forget()


def test_a_run_is_resumed_with_the_same_painting_only(
    items: list[Item], net: PerceptualNet, painting: Photo, tmp_path: Path
) -> None:
    train(TINY, items, tmp_path / "run", **options(net, painting))
    train(TINY, items, tmp_path / "run", resume=True, **options(net, painting))
    other = Photo.of(painting.pixels[:, ::-1].copy())
    with pytest.raises(TrainingError, match="other borrowed"):
        train(TINY, items, tmp_path / "run", resume=True, **options(net, other))


def test_measures_what_it_can(items: list[Item], tools: Tools) -> None:
    nets = TINY.networks()
    with torch.no_grad():
        whole = TINY.measure(nets, items, tools)
        assert set(whole) == {"content_loss", "style_loss", "style_before", "n"} and whole["n"] == 3
        without = TINY.measure(nets, items, Tools(metrics, lent=tools.lent))
        assert without == {"content_loss": pytest.approx(whole["content_loss"]), "n": 3}
        assert TINY.measure(nets, items, Tools(metrics)) == {"n": 0}


@pytest.fixture
def bundled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, net: PerceptualNet) -> Iterator[Path]:
    """A folder in place of the weights that came with the package, with a feature network and one painting's."""
    place = tmp_path / "bundled"
    monkeypatch.setattr(store, "BUNDLED", place)
    catalog.forget()
    settings = catalog.settings_of(Perceptual(widths=(4, 6, 8, 8, 8), depths=(1, 1, 1, 1, 1)), "random")
    store.save(place / "perceptual.safetensors", store.state({"features": net}), system="perceptual", settings=settings, **CARD)
    torch.manual_seed(0)
    state = store.state(TINY.networks())
    for name in ("the-scream", "shipwreck"):
        file = place / f"fast-style-{name}.safetensors"
        store.save(file, state, system="fast-style", settings=catalog.settings_of(TINY, "default"), **CARD)
    yield place
    catalog.forget()


def test_the_command_from_start_to_finish(bundled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, painting: Photo) -> None:
    monkeypatch.chdir(tmp_path)
    painting.save("my.png")
    Path("photos").mkdir()
    for i in range(3):
        pixels = np.random.default_rng(i).integers(0, 255, (40 + i, 50, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(f"photos/{i}.png")
    given = ["train", "fast-style", "--data", "photos", "--out", "run", "--steps", "2", "--batch", "2", "--widths", "4,6,8"]
    given += ["--blocks", "1", "--crop", "32", "--painting", "48", "--workers", "0", "--device", "cpu", "--quiet"]

    def run(*more: str) -> Any:
        monkeypatch.setattr(sys, "argv", ["visagist", *given, *more])
        return CliRunner().invoke(app, [*given, *more])

    def evaluated() -> Any:
        return CliRunner().invoke(app, ["evaluate", "fast-style", "--weights", "run", "--data", "photos", "--quiet"])

    missing = run()
    assert missing.exit_code == 2 and "--style" in missing.stderr and len(missing.stderr.splitlines()) == 1
    gone = run("--style", "gone.png")
    assert gone.exit_code == 4 and "gone.png" in gone.stderr
    nobody = run("--style", "my.png", "--features", "nobody")
    assert nobody.exit_code == 2 and "nobody" in nobody.stderr
    done = run("--style", "my.png")
    assert (done.exit_code, done.stderr, done.stdout) == (0, "", "run/weights.safetensors\n")
    measured = evaluated()
    assert set(json.loads(measured.stdout)) == {"content_loss", "style_loss", "style_before", "n"}, measured.stderr
    Path("my.png").unlink()
    measured = evaluated()
    assert set(json.loads(measured.stdout)) == {"content_loss", "n"}, measured.stderr
    card = json.loads(Path("run/weights.json").read_text())
    assert card["settings"]["style"] == "my.png" and card["settings"]["features"] == "perceptual"
    assert "borrowed" in json.loads(Path("run/settings.json").read_text())


# ---- use


def test_several_bundled_weights_of_one_system(bundled: Path) -> None:
    row = catalog.system("fast-style")
    assert list(row.files) == ["fast-style-the-scream", "fast-style-shipwreck"]
    assert row.bundled == bundled / "fast-style-the-scream.safetensors"
    assert catalog.load("fast-style-shipwreck", "cpu", verb="stylize").file == bundled / "fast-style-shipwreck.safetensors"
    assert catalog.load("fast-style", "cpu").file == row.bundled
    with pytest.raises(WeightsError, match="no weights for fast-style-starry-night"):
        catalog.load("fast-style-starry-night", "cpu")
    with pytest.raises(UsageError, match="not for classify"):
        catalog.load("fast-style-shipwreck", "cpu", verb="classify")


@pytest.fixture
def painter() -> dict[str, torch.nn.Module]:
    torch.manual_seed(0)
    return {"painter": devices.prepare(TINY.networks()["painter"], torch.device("cpu"), exact=True)}


@pytest.mark.parametrize(
    ("shape", "size", "wanted"),
    [((60, 80), 40, (30, 40)), ((61, 83), 0, (61, 83)), ((1, 1), 16, (16, 16)), ((1, 1), 0, (8, 8)), ((1, 700), 64, (8, 64))],
)
def test_photos_of_any_size(
    painter: dict[str, torch.nn.Module], shape: tuple[int, int], size: int, wanted: tuple[int, int]
) -> None:
    photo = Photo.of(np.random.default_rng(0).integers(0, 255, (*shape, 3), dtype=np.uint8))
    with torch.inference_mode():
        painted = TINY.stylize(painter, photo, size=size)
    assert painted.dtype == np.uint8 and painted.shape == (*wanted, 3)


def test_colours_may_be_kept(painter: dict[str, torch.nn.Module], astronaut: np.ndarray) -> None:
    photo = Photo.of(astronaut[100:164, 200:264].copy())
    with torch.inference_mode():
        painted = TINY.stylize(painter, photo, size=64, colour="keep").astype(int)
    luma = np.array([0.299, 0.587, 0.114])
    chroma = [pixels - (pixels @ luma)[..., None] for pixels in (painted, photo.pixels.astype(int))]
    assert np.abs(chroma[0] - chroma[1]).mean() <= 1


def test_memory_is_told_in_advance(painter: dict[str, torch.nn.Module]) -> None:
    photo = Photo.of(np.zeros((400, 600, 3), np.uint8))
    with pytest.raises(PhotoError, match="takes about") as caught:
        FastStyle().stylize(painter, photo, size=0, available=20e6)
    assert caught.value.code == "too-large"
    size = int(caught.value.hint.split()[1])
    with torch.inference_mode():
        assert replace(TINY, widths=FastStyle().widths).stylize(painter, photo, size=size, available=20e6).shape[1] == size


def test_colours_are_those_of_the_canvas() -> None:
    """The same numbers as `canvas.recoloured`, for pictures of a batch each by itself."""
    rng = np.random.default_rng(0)
    photos, painting = rng.uniform(-1, 0.5, (2, 3, 9, 8)).astype(np.float32), rng.uniform(-0.5, 1, (1, 3, 7, 6)).astype(np.float32)
    palette = Palette()
    palette.take(torch.from_numpy(painting))
    found = palette(torch.from_numpy(photos)).numpy()
    for photo, out in zip(photos, found):
        wanted = canvas.recoloured(photo.transpose(1, 2, 0), painting[0].transpose(1, 2, 0))
        assert np.abs(out.transpose(1, 2, 0) - wanted).max() < 1e-3


def test_faces_keep_the_photo_in_the_paintings_colours(painter: dict[str, torch.nn.Module]) -> None:
    photo = Photo.of(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    face = Face((16.0, 16.0, 48.0, 48.0), 0.9)
    plain, none, kept = (TINY.stylize(painter, photo, size=64, faces=[face], guard=guard).astype(int) for guard in (0.0, 1e-9, 1.0))
    assert np.abs(plain - none).max() <= 1
    content = torch.from_numpy(photo.pixels.astype(np.float32) / 127.5 - 1).permute(2, 0, 1)[None]
    toned = (painter["painter"].palette(content)[0].permute(1, 2, 0).numpy() + 1) * 127.5  # type: ignore[operator]
    middle = (slice(28, 36), slice(28, 36))
    assert np.abs(kept - toned)[middle].mean() < 0.3 * np.abs(plain - toned)[middle].mean()
    assert (kept == plain)[:8].all()


@pytest.mark.parametrize("wrong", [{"guard": 2.0}, {"guard": math.nan}, {"colour": "purple"}, {"colour": "match"}, {"size": -5}])
def test_settings_that_make_no_sense(painter: dict[str, torch.nn.Module], wrong: dict[str, Any]) -> None:
    (name,) = wrong
    with pytest.raises(UsageError, match=f"{name} is"):
        TINY.stylize(painter, Photo.of(np.zeros((20, 20, 3), np.uint8)), **wrong)
