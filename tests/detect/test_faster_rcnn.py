"""Faster R-CNN: parameter count, examples, both schedules, gradients, photos of any size."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from visagist.detect.bodies import Body
from visagist.detect.faster_rcnn import IGNORED, MOST, FaceFasterRCNN, FasterRCNN
from visagist.detect.region_head import RegionHead
from visagist.detect.rpn import RPN
from visagist.photo.face import Face
from visagist.photo.photo import Photo
from visagist.recipe import Batch, Item, Networks, Run, Tools
from visagist.training import metrics
from visagist.training.data import made_up
from visagist.training.loop import train
from visagist.weights import store

SMALL = FaceFasterRCNN(scene=64, short=64, long=96, width=16, batch=2, steps=2, rpn_steps=2, region_steps=2, regions=16)


@dataclasses.dataclass(frozen=True)
class SmallPaper(FasterRCNN):
    """The paper's settings with networks that a test can afford."""

    divisor: ClassVar[int] = 16

    names: tuple[str, ...] = ("circle", "square")
    short: int = 96
    long: int = 128
    scales: tuple[float, ...] = (1.0, 2.0, 4.0)
    least: float = 4

    def networks(self) -> Networks:
        return self.arranged(Body(), RPN(128, 32, len(self.cell)), RegionHead(128, 16, len(self.names) + 1))


def batch_of(recipe: FasterRCNN, items: list[Item]) -> Batch:
    examples = [recipe.example(item, np.random.default_rng(i)) for i, item in enumerate(items)]
    return {name: torch.from_numpy(np.stack([e[name] for e in examples])) for name in examples[0]}


def begin(recipe: FasterRCNN, stage: int = 0) -> Run:
    torch.manual_seed(0)
    nets, plan = recipe.networks(), recipe.stages()[stage]
    assert plan.optimizers is not None
    return Run(nets, plan.optimizers(nets), plan, 0, torch.device("cpu"))


def shapes_item(size: tuple[int, int] = (80, 120), *, complete: bool = True) -> Item:
    photo = Photo.of(np.random.default_rng(0).integers(0, 256, (*size, 3)).astype(np.uint8))
    boxes = {(10.0, 20, 40, 50): "square", (60.0, 10, 100, 70): "circle", (0.0, 0, 9, 9): "triangle", (5.0, 5, 5.4, 9): "square"}
    return Item("shapes", lambda: photo, tuple(Face(box, label=label) for box, label in boxes.items()), complete)


# ---- settings ----


def test_the_paper_s_network_has_its_parameters() -> None:
    with torch.device("meta"):
        nets = FasterRCNN().networks()
    assert set(nets) == {"body", "rpn", "head"}
    assert sum(p.numel() for net in nets.values() for p in net.parameters()) == 137_078_239


def test_the_face_finder_is_small() -> None:
    nets = FaceFasterRCNN().networks()
    assert sum(p.numel() for net in nets.values() for p in net.parameters()) == 3_357_354


@pytest.mark.parametrize("wrong", [{"schedule": "five-step"}, {"pooling": "crop"}])
def test_settings_that_do_not_exist_are_refused(wrong: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="not '"):
        FasterRCNN(**wrong)  # type: ignore[arg-type]


@given(st.integers(1, 300), st.integers(1, 300))
def test_the_short_side_is_600_unless_the_long_one_would_pass_1000(height: int, width: int) -> None:
    recipe = FasterRCNN()
    photo = Photo.of(np.zeros((height, width, 3), np.uint8))
    pixels, scale = recipe.fitted(photo)
    short, long = sorted(pixels.shape[:2])
    assert long <= 1000 and (short == 600 or long == 1000)
    assert scale == pytest.approx(long / max(height, width), rel=0.51 / long + 1e-9)


def test_the_rate_drops_after_three_quarters_and_biases_learn_twice_as_fast() -> None:
    recipe = SmallPaper()
    assert [recipe.factor(p) for p in (0.0, 0.74, 0.76, 1.0)] == [1, 1, 0.1, 0.1]
    weights, biases = begin(recipe).optimizers["all"].param_groups
    assert (weights["lr"], weights["weight_decay"]) == (1e-3, 5e-4) and (biases["lr"], biases["weight_decay"]) == (2e-3, 0)
    assert sum(p.numel() for p in biases["params"]) == sum(
        p.numel() for net in begin(recipe).nets.values() for n, p in net.named_parameters() if n.endswith("bias")
    )


# ---- examples ----


def test_classes_count_from_one_and_what_is_not_asked_is_ignored() -> None:
    recipe = SmallPaper()
    example = next(e for s in range(20) if not _mirrored(e := recipe.example(shapes_item(), np.random.default_rng(s))))
    assert example["size"].tolist() == [85, 128] and example["scale"] == pytest.approx(128 / 120)
    assert example["image"].shape == (128, 128, 3) and example["boxes"].shape == (MOST, 4)
    assert example["kinds"][:4].tolist() == [1, 2, IGNORED, IGNORED] and not example["kinds"][4:].any()
    assert example["boxes"][:2] == pytest.approx(np.array([[60, 10, 100, 70], [10, 20, 40, 50]]) * 128 / 120)


def _mirrored(example: dict[str, np.ndarray]) -> bool:
    return bool(example["boxes"][0, 0] < 60)


def test_a_mirrored_example_has_mirrored_boxes() -> None:
    recipe = SmallPaper()
    both = {_mirrored(e): e for s in range(20) if (e := recipe.example(shapes_item(), np.random.default_rng(s)))}
    plain, mirrored = both[False], both[True]
    assert np.array_equal(plain["image"][:85, :128], mirrored["image"][:85, 127::-1])
    x0, y0, x1, y1 = plain["boxes"][:4].T
    assert mirrored["boxes"][:4] == pytest.approx(np.stack([128 - x1, y0, 128 - x0, y1], 1))


def test_pictures_that_are_not_completely_labelled_have_no_negatives() -> None:
    run = begin(recipe := SmallPaper())
    batch = batch_of(recipe, [shapes_item(complete=False)])
    assert batch["kinds"][0, -1] == IGNORED and batch["boxes"][0, -1].tolist() == [0, 0, 128, 85]
    terms = recipe.joint_step(run, batch)
    assert all(torch.isfinite(t) for t in terms.values())


def test_scenes_fit_as_they_are() -> None:
    items = made_up.items(3, seed=1, size=96)
    item = SMALL.compose(items, 0, np.random.default_rng(0))
    example = SMALL.example(item, np.random.default_rng(0))
    assert np.array_equal(example["image"], item.photo.pixels) and example["size"].tolist() == [64, 64]
    assert (example["kinds"] == 1).sum() == sum(f.label == "face" for f in item.faces)


@given(st.integers(0, 1000))
def test_other_classes_keep_their_boxes_on_the_shifted_photo(seed: int) -> None:
    pixels = np.zeros((80, 120, 3), np.uint8)
    pixels[20:50, 10:40] = 255
    photo = Photo.of(pixels)
    item = Item("square", lambda: photo, (Face((10, 20, 40, 50), label="square"),))
    recipe = dataclasses.replace(SMALL, names=("circle", "square"))
    made = recipe.compose([item], 0, np.random.default_rng(seed))
    assert made.photo.size == (64, 64)
    x0, y0, x1, y1 = made.faces[0].box
    if min(x0, y0) > 1 and max(x1, y1) < 63:
        assert (made.photo.pixels[round((y0 + y1) / 2), round((x0 + x1) / 2)] > 200).all()
        assert made.faces[0].label == "square" and recipe.example(made, np.random.default_rng(0))["kinds"][0] == 2


# ---- training ----


def test_every_parameter_learns_in_the_joint_step() -> None:
    run = begin(SMALL)
    batch = batch_of(SMALL, [SMALL.compose(made_up.items(2, size=64), i, np.random.default_rng(i)) for i in range(2)])
    seen: dict[str, list[float]] = {}

    def apply(name: str) -> None:
        for net, module in run.nets.items():
            seen[net] = [0.0 if p.grad is None else float(p.grad.abs().sum()) for p in module.parameters()]

    run.apply = apply  # type: ignore[method-assign]
    terms = SMALL.joint_step(run, batch)
    assert set(terms) == {"object", "shift", "kind", "place"} and all(torch.isfinite(t) for t in terms.values())
    assert all(min(sums) > 0 for sums in seen.values()), seen


def test_pictures_of_different_sizes_are_added_up() -> None:
    recipe = SmallPaper(anchors=10**6)  # all of them, so that chance has no say
    items = [shapes_item((80, 120)), shapes_item((120, 80)), shapes_item((60, 60))]
    together, alone = begin(recipe), begin(recipe)
    for run in (together, alone):
        run.apply = lambda name: None  # type: ignore[method-assign]
        for net in run.nets.values():
            net.eval()  # statistics of a batch would differ
    terms = recipe._step(together, batch_of(recipe, items), "body", rpn=True)
    apart = [recipe._step(alone, {k: v[i : i + 1] for k, v in batch_of(recipe, items).items()}, "body", rpn=True) for i in range(3)]
    for name, term in terms.items():
        assert term.item() == pytest.approx(sum(t[name].item() for t in apart) / 3, rel=1e-4)
    for a, b in zip(together.nets["rpn"].parameters(), alone.nets["rpn"].parameters(), strict=True):
        assert a.grad is not None and b.grad is not None
        assert torch.allclose(a.grad, b.grad / 3, rtol=1e-3, atol=1e-6)


def test_proposals_pass_no_gradient_to_the_rpn() -> None:
    run = begin(SMALL)
    batch = batch_of(SMALL, [SMALL.compose(made_up.items(2, size=64), 0, np.random.default_rng(0))])
    grads: list[Tensor | None] = []
    run.apply = lambda name: grads.extend(p.grad for p in run.nets["rpn"].parameters())  # type: ignore[method-assign]
    SMALL.region_step(run, batch)
    assert grads and all(g is None for g in grads)


class Watched(FaceFasterRCNN):
    """Compares what must not change in a step with what it was before."""

    seen: ClassVar[list[tuple[str, bool, dict[str, Tensor]]]] = []

    def _step(self, run: Run, batch: Batch, body: str, **how: Any) -> dict[str, Tensor]:
        before = {k: v.clone() for k, v in run.nets["body"].state_dict().items()}
        terms = super()._step(run, batch, body, **how)
        same = all(torch.equal(v, before[k]) for k, v in run.nets["body"].state_dict().items())
        self.seen.append((run.stage.name, same, before))
        return terms


def test_in_steps_3_and_4_the_shared_convolutions_stay_to_the_bit(tmp_path: Path) -> None:
    recipe = Watched(**{**dataclasses.asdict(SMALL), "schedule": "four-step"})
    Watched.seen.clear()
    items = made_up.items(4, size=96)
    options: dict[str, Any] = {"system": "faster-rcnn", "workers": 0, "quiet": True, "validation": items[:2], "measure_every": 2}
    weights = store.read(train(recipe, items, tmp_path / "run", **options))[0]
    assert [name for name, _, _ in Watched.seen] == ["1 rpn"] * 2 + ["2 regions"] * 2 + ["3 rpn"] * 2 + ["4 regions"] * 2
    assert [same for _, same, _ in Watched.seen] == [True] * 2 + [False] * 2 + [True] * 4
    handed_on, last = Watched.seen[4][2], Watched.seen[7][2]
    assert all(torch.equal(v, last[k]) for k, v in handed_on.items())  # batch statistics, too
    shipped = {k.removeprefix("body."): v for k, v in weights.items() if k.startswith("body.")}
    assert shipped and all(torch.equal(v.half(), handed_on[k].half()) for k, v in shipped.items())  # files hold float16


def test_step_3_begins_with_a_new_rpn() -> None:
    recipe = dataclasses.replace(SMALL, schedule="four-step")
    nets = recipe.networks()
    assert all(torch.equal(a, b) for a, b in zip(nets["first"].parameters(), nets["body"].parameters(), strict=True))
    enter = recipe.stages()[2].enter
    old = [p.detach().clone() for p in nets["rpn"].parameters() if p.ndim > 1]
    assert enter is not None
    enter(nets)
    new = [p for p in nets["rpn"].parameters() if p.ndim > 1]
    assert not any(torch.equal(a, b) for a, b in zip(old, new, strict=True))


# ---- use ----


@pytest.mark.parametrize("size", [(1, 1), (1, 400), (37, 53), (700, 90)])
@pytest.mark.parametrize("recipe", [SMALL, SmallPaper()], ids=["face", "paper"])
def test_any_size_of_photo_is_searched(recipe: FasterRCNN, size: tuple[int, int]) -> None:
    nets = {name: net.eval() for name, net in recipe.networks().items()}
    photo = Photo.of(np.zeros((*size, 3), np.uint8))
    with torch.inference_mode():
        found = recipe.detect(nets, photo, min_score=0.0)
        proposals, seen = recipe.proposals(nets, photo, 5), recipe.objectness(nets, photo)
    assert len(found) <= recipe.most and all(np.isfinite(f.box).all() and f.label in recipe.names for f in found)
    assert len(proposals) <= 5 and all(p.label == "proposal" for p in proposals)
    assert all(-1e-3 <= p.box[0] and p.box[2] <= size[1] * (1 + 1e-3) and p.box[3] <= size[0] * (1 + 1e-3) for p in proposals)
    assert seen.ndim == 2 and ((seen >= 0) & (seen <= 1)).all()


class Says(nn.Module):
    """Answers always the same."""

    def __init__(self, *out: Tensor) -> None:
        super().__init__()
        self.out, self.one = out, nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Any:
        return self.out if len(self.out) > 1 else self.out[0]


def test_answers_come_back_in_photo_pixels_with_their_class() -> None:
    recipe = SmallPaper(ratios=(1.0,), scales=(2.0,))  # anchors of 32 x 32 at every 16 pixels
    logits, deltas = torch.zeros(1, 6 * 8, 2), torch.zeros(1, 6 * 8, 4)
    logits[0, :, 0] = 9
    logits[0, 2 * 8 + 3] = torch.tensor([0.0, 9])  # row 2, column 3: centre (56, 40)
    head = torch.tensor([[0.0, 0, 7]]).repeat(48, 1), torch.zeros(48, 3, 4)
    nets = {"body": Says(torch.zeros(1, 4, 6, 8)), "rpn": Says(logits, deltas)}
    photo = Photo.of(np.zeros((192, 256, 3), np.uint8))  # is halved to 96 x 128
    count = len(recipe.look(nets, photo, body="")[1])
    found = recipe.detect({**nets, "head": Says(head[0][:count], head[1][:count])}, photo)
    assert {f.label for f in found} == {"square"} and found[0].score > 0.99
    best = recipe.proposals(nets, photo, 1)[0]
    assert best.box == pytest.approx((80, 48, 144, 112)) and best.score > 0.99
    assert recipe.objectness(nets, photo).argmax() == 2 * 8 + 3
    assert any(f.box == pytest.approx(best.box) for f in found)


def test_it_is_measured_with_its_proposals() -> None:
    nets = {name: net.eval() for name, net in SMALL.networks().items()}
    with torch.inference_mode():
        figures = SMALL.measure(nets, made_up.items(3, size=64), Tools(metrics))
    assert figures["n_faces"] == 3 and 0 <= figures["proposal_recall"] <= 1 and "recall_at_0.1_fppi" in figures


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_gpu_finds_the_same() -> None:
    torch.manual_seed(0)
    nets = {name: net.eval() for name, net in SMALL.networks().items()}
    photo = made_up.items(1, size=96)[0].photo
    with torch.inference_mode():
        here = SMALL.detect(nets, photo, min_score=0.0)
        there = SMALL.detect({name: net.cuda() for name, net in nets.items()}, photo, min_score=0.0)
    assert len(here) == len(there)
    for a, b in zip(here, there, strict=True):
        assert a.box == pytest.approx(b.box, abs=1e-3) and a.score == pytest.approx(b.score, abs=1e-3)


@pytest.mark.long
@pytest.mark.parametrize("schedule", ["joint", "four-step"])
def test_a_few_pictures_are_learned_by_heart(schedule: str, tmp_path: Path) -> None:
    class Still(FaceFasterRCNN):
        def compose(self, items: Any, index: int, rng: np.random.Generator) -> Item:
            found: Item = items[index]
            return found

    settings = {
        "scene": 128,
        "short": 128,
        "long": 160,
        "batch": 4,
        "steps": 120,
        "rpn_steps": 80,
        "region_steps": 100,
        "width": 64,
    }
    recipe = Still(**settings, schedule=schedule)  # type: ignore[arg-type]
    items = made_up.items(4, seed=0, size=128, faces=(1, 3))
    file = train(recipe, items, tmp_path / "run", system="faster-rcnn", validation=items, workers=0, quiet=True, precision="fp32")
    measured = {m.metric: m.value for m in store.read(file)[1].measured}
    assert measured["ap50"] >= 0.95 and measured["proposal_recall"] >= 0.95
