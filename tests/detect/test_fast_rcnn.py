"""Fast R-CNN: counts, what a region sees, samples, the loss over pictures of several sizes, and that it learns."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from visagist import catalog
from visagist.detect.fast_rcnn import CHUNK, FaceFastRCNN, FastNet, FastRCNN
from visagist.detect.regions import decode, iou
from visagist.detect.searched import Searched
from visagist.photo.face import Face
from visagist.photo.photo import Photo
from visagist.recipe import Item, Run, Tools
from visagist.training import metrics
from visagist.training.data import made_up
from visagist.training.loop import train

DRAWN = made_up.items(3, seed=2, size=96)
SCENES = FaceFastRCNN(scenes=2, scene=128, regions_each=24, batch=2, steps=3)


def shapes(size: tuple[int, int] = (160, 160), seed: int = 0) -> Item:
    """A circle, a square and an empty corner on noise."""
    rng = np.random.default_rng(seed)
    pixels = rng.integers(100, 140, (*size, 3)).astype(np.uint8)
    r = 22
    cv2.circle(pixels, (40, 45), r, (0, 0, 0), -1)
    cv2.rectangle(pixels, (115 - r, 110 - r), (115 + r, 110 + r), (250, 250, 250), -1)
    photo = Photo.of(pixels)
    faces = (Face((18, 23, 63, 68), label="circle"), Face((93, 88, 138, 133), label="square"))
    return Item(f"shapes {seed}", lambda: photo, faces)


def test_exact_parameter_counts() -> None:
    with torch.device("meta"):
        paper, face = FastRCNN().networks()["fast"], FaceFastRCNN().networks()["fast"]
    assert sum(p.numel() for p in paper.parameters()) == 14_714_688 + 119_976_041
    assert sum(p.numel() for p in face.parameters()) == 3_269_658


def test_every_parameter_gets_a_gradient() -> None:
    net = FaceFastRCNN().networks()["fast"]
    rois = torch.tensor([[0.0, 4, 4, 50, 60], [1, 0, 0, 64, 64], [1, 30, 20, 60, 50]])
    logits, deltas = net(torch.randn(2, 3, 64, 64), rois)
    assert logits.shape == (3, 2) and deltas.shape == (3, 2, 4)
    (torch.nn.functional.cross_entropy(logits, torch.tensor([0, 1, 1])) + deltas.square().sum() + deltas.sum()).backward()
    assert [n for n, p in net.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0] == []


def test_regions_in_parts_are_regions_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    net = FaceFastRCNN().networks()["fast"].eval()
    rng = np.random.default_rng(0)
    corner = rng.uniform(0, 60, (CHUNK + 9, 2))
    rois = torch.from_numpy(np.concatenate([np.zeros((len(corner), 1)), corner, corner + 30], 1)).float()
    x = torch.randn(1, 3, 96, 96)
    with torch.no_grad():
        parts = net(x, rois)
        one = net(x, rois[7:8])
    assert len(parts[0]) == len(rois)
    assert torch.allclose(parts[0][7:8], one[0], atol=1e-5) and torch.allclose(parts[1][7:8], one[1], atol=1e-5)


def test_both_poolings_and_no_third() -> None:
    x, rois = torch.randn(1, 3, 64, 64), torch.tensor([[0.0, 3, 3, 60, 60]])
    answers = []
    for pooling in ("pool", "align"):
        torch.manual_seed(0)
        net = FaceFastRCNN(pooling=pooling).networks()["fast"].eval()
        assert isinstance(net, FastNet)
        answers.append(net(x, rois)[0])
    assert not torch.equal(*answers)
    with pytest.raises(ValueError, match="pool or align"):
        FastRCNN(pooling="average")


# ---- samples ----


def fixed_proposals(monkeypatch: pytest.MonkeyPatch, boxes: np.ndarray) -> None:
    monkeypatch.setattr(Searched, "proposals", lambda *_, **__: boxes.astype(np.float32))


def test_limits_of_the_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    corner = rng.uniform(0, 110, (600, 2))
    many = np.concatenate([corner, corner + rng.uniform(20, 50, (600, 2))], 1)
    truth = np.array([[18, 23, 63, 68], [93, 88, 138, 133]])
    fixed_proposals(monkeypatch, np.concatenate([many, np.repeat(truth, 40, 0) + rng.uniform(-3, 3, (80, 4))]))
    recipe = FastRCNN(names=("circle", "square"), short=160, long=160)
    for seed in range(6):
        example = recipe.example(shapes(), np.random.default_rng(seed))
        kinds, rois = example["kinds"], torch.from_numpy(example["rois"])
        assert rois.shape == (64, 4) and (kinds > 0).sum() == 16
        mirrored = torch.tensor([[97.0, 23, 142, 68], [22, 88, 67, 133]])
        true = mirrored if (example["image"][45, 120] == 0).all() else torch.from_numpy(truth).float()
        best = iou(rois, true).amax(1).numpy()
        assert (best[kinds > 0] >= 0.5 - 1e-4).all()
        background = best[kinds == 0]
        assert (background < 0.5 + 1e-4).all() and (background >= 0.1 - 1e-4).all()
        back = decode(torch.from_numpy(example["goals"]) * torch.tensor([0.1, 0.1, 0.2, 0.2]), rois)
        for k in (1, 2):
            assert torch.allclose(back[kinds == k], true[k - 1].expand((kinds == k).sum(), 4), atol=1e-2)


def test_true_boxes_are_regions(monkeypatch: pytest.MonkeyPatch) -> None:
    fixed_proposals(monkeypatch, np.zeros((0, 4)))
    example = FastRCNN(names=("circle", "square"), short=160, long=160).example(shapes(), np.random.default_rng(0))
    assert sorted(example["kinds"].tolist())[-3:] == [-1, 1, 2]
    assert np.abs(example["goals"]).max() < 1e-5


def test_the_picture_is_scaled_as_the_paper_says(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = FastRCNN()
    assert recipe.fit((300, 400)) == 2 and recipe.fit((600, 2000)) == 0.5
    fixed_proposals(monkeypatch, np.zeros((0, 4)))
    example = FastRCNN(names=("circle", "square"), short=320, long=400).example(shapes((160, 200)), np.random.default_rng(3))
    assert example["image"].shape == (400, 400, 3) and example["size"].tolist() == [320, 400]
    assert example["image"][:320].any() and not example["image"][320:].any()
    sides = example["rois"][:2, 2:] - example["rois"][:2, :2]
    assert sides == pytest.approx(np.full((2, 2), 90), abs=1)


def test_an_example_follows_from_its_generator() -> None:
    item = SCENES.compose(DRAWN, 0, np.random.default_rng(1))
    a, b = (SCENES.example(item, np.random.default_rng(4)) for _ in range(2))
    assert all((a[key] == b[key]).all() for key in a)
    assert a["image"].shape == (128, 128, 3) and len(a["kinds"]) == 24


def test_boxes_are_mirrored_with_the_picture() -> None:
    """The dark circle lies where the region says, whichever way the picture is turned."""
    recipe = FaceFastRCNN(names=("circle",), width=160, short=160, long=160, jitter=0)
    seen = set()
    for seed in range(6):
        example = recipe.example(shapes(), np.random.default_rng(seed))
        at = example["rois"][(example["kinds"] == 1) & (np.abs(example["goals"]).max(1) < 1e-5)][0]
        x, y = (int(v) for v in (at[:2] + at[2:]) / 2)
        assert example["image"][y, x].max() < 90
        seen.add(x > 80)
    assert seen == {True, False}


# ---- the step ----


def batch_of(recipe: FastRCNN, items: list[Item]) -> dict[str, torch.Tensor]:
    examples = [recipe.example(item, np.random.default_rng(i)) for i, item in enumerate(items)]
    return {k: torch.from_numpy(np.stack([e[k] for e in examples])) for k in examples[0]}


def run_of(recipe: FastRCNN) -> Run:
    torch.manual_seed(0)
    nets = recipe.networks()
    stage = recipe.stages()[0]
    return Run(nets, stage.optimizers(nets), stage, 0, torch.device("cpu"))  # type: ignore[misc]


def test_pictures_of_several_sizes_and_one_without_anything() -> None:
    nothing = Photo.of(np.full((100, 160, 3), 120, np.uint8))
    items = [shapes((160, 200)), shapes((160, 160), 1), shapes((160, 200), 2), Item("nothing", lambda: nothing)]
    recipe = FaceFastRCNN(names=("circle", "square"), width=160, short=160, long=256, regions_each=16, batch=4)
    batch = batch_of(recipe, items)
    assert len({tuple(s) for s in batch["size"].tolist()}) == 3
    run = run_of(recipe)
    before = [p.clone() for p in run.nets["fast"].parameters()]
    terms = recipe.step(run, batch)
    assert set(terms) == {"kind", "place"} and all(torch.isfinite(t) for t in terms.values())
    assert any(not torch.equal(a, b) for a, b in zip(before, run.nets["fast"].parameters(), strict=True))


def test_equal_pictures_cost_what_one_costs() -> None:
    """The loss is a mean over pictures: a batch of two equal ones, in one go or in two, has the loss of one."""
    recipe = FaceFastRCNN(names=("circle", "square"), width=160, short=160, long=160, regions_each=16)
    one = batch_of(recipe, [shapes()])
    two = {k: torch.cat([v, v]) for k, v in one.items()}
    losses = []
    for batch in (one, two):
        run = run_of(recipe)
        run.nets["fast"].eval()  # batch norm would see other statistics
        losses.append({k: float(v) for k, v in recipe.step(run, batch).items()})
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_the_papers_optimiser_doubles_the_rate_of_biases_and_spares_them_decay() -> None:
    recipe = FastRCNN()
    weights, biases = recipe.optimizer({"fast": torch.nn.Linear(2, 2)})["fast"].param_groups
    assert (weights["lr"], weights["weight_decay"], biases["lr"], biases["weight_decay"]) == (1e-3, 5e-4, 2e-3, 0.0)
    assert [recipe.factor(p) for p in (0, 0.74, 0.76, 0.99)] == [1, 1, 0.1, 0.1]


# ---- all of it ----


def test_it_learns_two_classes(tmp_path: Path) -> None:
    items = [shapes(seed=s) for s in range(2)]
    recipe = FaceFastRCNN(names=("circle", "square"), width=160, short=160, long=160, regions_each=24, batch=2, steps=60, rate=1e-3)
    file = train(recipe, items, tmp_path / "run", system="fast-rcnn", workers=0, threads=1, quiet=True, card={"preset": "face"})
    loaded = catalog.load(file)
    assert loaded.recipe == recipe
    with loaded.inference():
        found = loaded.recipe.detect(loaded.nets, items[0].photo, min_score=0.3)
        figures = loaded.recipe.measure(loaded.nets, items, Tools(metrics))
    assert figures["proposal_recall"] == 1 and figures["ap50"] > 0.9
    assert {face.label for face in found} == {"circle", "square"}


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (37, 53)])
def test_any_size_of_photo_is_searched(shape: tuple[int, int]) -> None:
    recipe = FaceFastRCNN(width=100, short=64, long=128)
    nets = {"fast": recipe.networks()["fast"].eval()}
    with torch.inference_mode():
        faces = recipe.detect(nets, Photo.of(np.full((*shape, 3), 90, np.uint8)), min_score=0.1)
    assert all(np.isfinite(face.box).all() for face in faces)


def test_a_preview_is_a_picture() -> None:
    recipe = FaceFastRCNN(names=("circle", "square"), width=160, short=160, long=160, regions_each=16)
    run = run_of(recipe)
    run.nets["fast"].eval()
    with torch.no_grad():
        seen = recipe.preview(run, batch_of(recipe, [shapes()]))
    assert seen.dtype == np.uint8 and seen.ndim == 3
