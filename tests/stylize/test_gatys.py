"""Style transfer as a whole, with a small network: what the sheet asks for, settings, interrupts, odd pictures, memory."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import pytest
import skimage.data
import torch
from torch import nn

from visagist import catalog
from visagist.errors import PhotoError, TrainingError, UsageError
from visagist.photo.face import Face
from visagist.photo.photo import Photo
from visagist.stylize import descent
from visagist.stylize.canvas import LUMA
from visagist.stylize.features import Features
from visagist.stylize.gatys import Gatys, Progress
from visagist.stylize.reader import Reader


class Small(Features):
    """Three random convolutions at strides 1, 2 and 4."""

    content: ClassVar[Mapping[str, float]] = {"c": 1.0}
    style: ClassVar[Mapping[str, float]] = {"a": 0.4, "b": 0.3, "c": 0.3}
    least: ClassVar[int] = 8

    def __init__(self) -> None:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            blocks: dict[str, nn.Module] = {}
            for name, inner, outer in (("a", 3, 12), ("b", 12, 16), ("c", 16, 16)):
                conv = nn.Conv2d(inner, outer, 3, padding=1)
                nn.init.kaiming_normal_(conv.weight)
                pools = [nn.AvgPool2d(2)] if name != "a" else []
                blocks[name] = nn.Sequential(*pools, conv, nn.ReLU(inplace=True))
        super().__init__(blocks)


NETS = {"features": Small()}
CAT = Photo.of(np.ascontiguousarray(skimage.data.chelsea()[40:280, 60:380]))
PAINTING = Photo.open(catalog.painting("starry-night") or "").pixels


def run(
    photo: Photo = CAT, styles: Sequence[np.ndarray] = (PAINTING,), *, more: Mapping[str, Any] = {}, **settings: Any
) -> np.ndarray:
    """A small, short run of the losses alone: neither is the photo recoloured nor the result smoothed."""
    settings = {"size": 64, "iterations": 6, "coarsest": 32, "palette": 0.0, "smooth": 0.0, **settings}
    return Gatys(**settings).stylize(NETS, photo, styles, **more)


def told(**settings: Any) -> list[Progress]:
    heard: list[Progress] = []
    run(more={"progress": heard.append}, **settings)
    return heard


# ---- what the sheet asks for


@pytest.mark.parametrize("method", ["projected", "scipy"])
def test_the_loss_never_rises_and_falls_by_nine_tenths_in_a_hundred_iterations(method: str) -> None:
    heard = told(coarsest=0, iterations=100, method=method)
    losses = [p.loss for p in heard]
    assert losses == sorted(losses, reverse=True)
    start = told(coarsest=0, iterations=1, method=method)[0]  # after one step; the start itself was higher
    assert losses[-1] <= 0.1 * start.loss
    assert len(losses) == 100
    assert heard[-1].terms.keys() == {"content c", "style a", "style b", "style c"}
    assert sum(heard[-1].terms.values()) == pytest.approx(heard[-1].loss, rel=1e-6)


@pytest.mark.parametrize("method", ["projected", "scipy"])
def test_pixels_stay_within_the_bounds_and_do_not_wrap(method: str) -> None:
    extreme = np.zeros((64, 64, 3), np.uint8)
    extreme[:, 32:] = 255
    heard: list[Progress] = []
    out = run(Photo.of(extreme), [extreme[:, ::-1].copy()], method=method, ratio=1e5, more={"progress": heard.append})
    assert out.dtype == np.uint8
    for progress in heard:
        assert progress.picture().dtype == np.uint8
    # the photo's black side may grow light, but no pixel jumps to the other end: it would if 8 bits wrapped around
    assert np.abs(np.diff(out[:, :28].astype(int), axis=1)).max() < 200


def test_kept_chroma_is_the_photos_within_two_levels() -> None:
    out = run(colour="keep").astype(np.float64)
    photo = np.asarray(Photo.of(CAT.pixels).pixels)
    small = run(colour="keep", ratio=0.0, iterations=1).astype(np.float64)  # nothing but the photo at this size
    assert photo.shape[2] == 3
    differences = []
    for channel, factor in ((2, 1.772), (0, 1.402)):
        a, b = ((p[..., channel] - p @ LUMA) / factor for p in (out, small))
        differences.append(np.abs(a - b).mean())
    assert max(differences) <= 2
    assert np.abs(out @ LUMA - small @ LUMA).mean() > 4  # while something was painted


def test_the_same_seed_gives_the_same_bytes() -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for init in ("content", "noise", "mixed"):
            first, second, other = (run(init=init, more={"seed": seed}) for seed in (1, 1, 2))
            assert first.tobytes() == second.tobytes()
            assert (first.tobytes() == other.tobytes()) == (init != "noise")
    finally:
        torch.set_num_threads(threads)


def test_two_sizes_are_told_with_the_time_that_is_left() -> None:
    heard = told(iterations=24)
    assert (heard[0].scale, heard[0].scales, heard[0].size) == (1, 2, (28, 37))
    assert [p.iteration for p in heard] == [*range(1, 25), *range(1, 13)]
    assert all(p.left >= 0 for p in heard)
    assert heard[-1].left == 0
    assert heard[-1].seconds >= heard[0].seconds
    assert all(p.picture().shape == (*p.size, 3) for p in heard)
    assert not any(p.stopped for p in heard)


# ---- settings


def test_sizes_and_iterations() -> None:
    assert Gatys().scales(512) == [(128, 120, 5e4), (256, 60, 5e4), (512, 30, 5e4)]
    assert Gatys(iterations=30).scales(1024)[-1] == (1024, 10, 5e4)
    assert Gatys(coarsest=0, iterations=7).scales(300) == [(300, 7, 5e4)]
    demo: Any = catalog.recipe("gatys", "demo")
    assert demo.scales(512) == [(360, 32, 2e3), (512, 16, 2e4)]
    assert demo.scales(256)[0][0] == 180
    seed: Any = catalog.recipe("gatys", "seed")
    assert seed.scales(512) == [(512, 512, 1e4)]
    assert (seed.method, seed.gram, seed.balance, seed.memory, seed.style_scale) == ("scipy", "seed", False, 8, 1.2)
    assert not seed.capped and not demo.capped and Gatys().capped
    assert seed.style_size((100, 1000), 512) == (269, 2688)  # 1.2 times 224 and 2,240
    assert (seed.palette, seed.smooth, seed.detail) == (demo.palette, demo.smooth, demo.detail) == (0, 0, 0)


@pytest.mark.parametrize(
    "wrong",
    [
        {"init": "black"}, {"colour": "red"}, {"gram": "x"}, {"method": "adam"}, {"size": -1}, {"iterations": 0}, {"ratio": -1.0},
        {"ratio": math.nan}, {"guard": 1.5}, {"palette": -0.1}, {"smooth": -1.0},
        {"style_scale": 0.0}, {"lengths": (8,), "counts": (1, 2)}, {"lengths": (0,)},
    ],
)  # fmt: skip
def test_settings_that_make_no_sense(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        catalog.recipe("gatys", **wrong)


def test_more_ratio_is_more_style_and_none_is_the_photo() -> None:
    ends = [told(ratio=ratio, iterations=20)[-1].terms for ratio in (1e2, 1e4)]
    part = [sum(v for k, v in terms.items() if k.startswith("style")) / ratio for terms, ratio in zip(ends, (1e2, 1e4))]
    assert part[1] < part[0]
    assert ends[1]["content c"] > ends[0]["content c"]
    small = run(ratio=0.0, iterations=1, coarsest=0)
    assert np.abs(run(ratio=0.0, iterations=3, coarsest=0).astype(int) - small).max() <= 1


def test_the_palette_is_the_styles() -> None:
    """The starting picture has the style's mean colour, half of it in between; with other modes of colour it is the photo."""
    style = PAINTING.mean((0, 1))
    start = {share: run(ratio=0.0, iterations=1, coarsest=0, palette=share).mean((0, 1)) for share in (0.0, 0.5, 1.0)}
    assert np.abs(start[1.0] - style).max() < 8  # what is clipped is missing
    assert np.abs(start[0.5] - (start[0.0] + start[1.0]) / 2).max() < 2
    kept, photo = (run(ratio=0.0, iterations=1, coarsest=0, colour="match", palette=share) for share in (1.0, 0.0))
    assert kept.tobytes() == photo.tobytes()


def test_smoothness_counts_the_same_at_every_size() -> None:
    noise = {"init": "noise", "spectrum": 0.0, "coarsest": 0, "iterations": 1, "smooth": 1.0, "ratio": 0.0}
    terms = {size: told(size=size, **noise)[0].terms["smooth"] for size in (48, 96)}
    assert terms[96] == pytest.approx(terms[48], rel=0.6)  # a sum over positions would be four times as large


def test_layers_may_be_chosen_and_must_exist() -> None:
    assert told(style_layers=("b",), content_layers=("a", "b"))[-1].terms.keys() == {"content a", "content b", "style b"}
    with pytest.raises(UsageError, match="no layer 'conv9'; it has a, b, c"):
        run(style_layers=("conv9",))


def test_several_styles_are_mixed_by_their_shares() -> None:
    other = skimage.data.coffee()
    alone, both, nearly = (run(styles=s, more=m, iterations=12).astype(int) for s, m in (
        ([PAINTING], {}), ([PAINTING, other], {}), ([PAINTING, other], {"shares": (1.0, 0.0)}),
    ))  # fmt: skip
    assert np.abs(alone - nearly).max() <= 1
    assert np.abs(alone - both).mean() > 1
    for shares, said in (
        ((1.0,), "1 weights for 2"),
        ((0.0, 0.0), "no sense"),
        ((1.0, -1.0), "no sense"),
        ((math.nan, 1), "no sense"),
    ):
        with pytest.raises(UsageError, match=said):
            run(styles=[PAINTING, other], more={"shares": shares})


def test_match_recolours_the_style_like_the_photo() -> None:
    style, match = (run(colour=colour, iterations=30, ratio=1e5) for colour in ("style", "match"))
    photo = run(ratio=0.0, iterations=1)
    far = [np.abs(p.mean((0, 1)) - photo.mean((0, 1))).max() for p in (style, match)]
    assert far[1] < far[0] / 2


def test_faces_keep_more_of_the_photo() -> None:
    face = Face((110.0, 60.0, 230.0, 190.0))
    plain = run(ratio=1e5, iterations=25).astype(int)
    kept = run(ratio=1e5, iterations=25, guard=1.0, more={"faces": [face]}).astype(int)
    none = run(ratio=1e5, iterations=25, guard=0.0, more={"faces": [face]}).astype(int)
    photo = run(ratio=0.0, iterations=1).astype(int)
    assert np.abs(none - plain).max() <= 1
    scale = photo.shape[1] / CAT.size[1]
    inside = np.s_[round(85 * scale) : round(165 * scale), round(140 * scale) : round(200 * scale)]
    assert np.abs(kept - photo)[inside].mean() < 0.7 * np.abs(plain - photo)[inside].mean()


def test_there_is_nothing_to_train() -> None:
    with pytest.raises(TrainingError, match="nothing to train"):
        Gatys().stages()


# ---- interrupts


def test_an_interrupt_keeps_what_there_is() -> None:
    heard: list[Progress] = []

    def impatient(progress: Progress) -> None:
        heard.append(progress)
        if len(heard) == 4:
            raise KeyboardInterrupt

    out = run(more={"progress": impatient})
    assert heard[-1].stopped
    assert len(heard) == 5
    assert out.shape == run(iterations=1).shape  # at the size that was asked for, though it came from the coarse one


def test_an_interrupt_before_anything_is_painted_goes_on_to_the_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    heard: list[Progress] = []
    monkeypatch.setattr(descent, "projected", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(more={"progress": heard.append})
    assert heard == []


def test_a_caller_may_end_the_run() -> None:
    heard: list[Progress] = []

    def enough(progress: Progress) -> bool:
        heard.append(progress)
        return len(heard) == 3

    run(more={"progress": enough})
    assert len(heard) == 3


# ---- odd pictures


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 2), (7, 5), (900, 40)])
def test_photos_of_any_shape(size: tuple[int, int]) -> None:
    photo = Photo.of(np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8))
    out = run(photo, iterations=2)
    assert min(out.shape[:2]) >= 8
    assert out.shape[0] * out.shape[1] <= 64**2 + 8 * max(out.shape)
    if min(size) / max(size) > 0.05:
        assert out.shape[0] / out.shape[1] == pytest.approx(size[0] / size[1], rel=0.15)


@pytest.mark.parametrize("style", [
    np.zeros((1, 1, 3), np.uint8), np.full((40, 40, 3), 255, np.uint8), np.full((3, 400, 3), 90, np.uint8),
    np.repeat(skimage.data.camera()[..., None], 3, 2),
], ids=["1 px", "white", "a line", "grey"])  # fmt: skip
@pytest.mark.parametrize("colour", ["style", "match"])
def test_styles_of_any_kind(style: np.ndarray, colour: str) -> None:
    heard: list[Progress] = []
    run(styles=[style], colour=colour, iterations=3, more={"progress": heard.append})
    assert heard == [] or all(math.isfinite(p.loss) for p in heard)


def test_a_photo_in_its_own_style_stays_as_it_is() -> None:
    photo = Photo.of(np.ascontiguousarray(CAT.pixels[:240, :240]))
    out = run(photo, [photo.pixels], coarsest=0)
    wanted = run(photo, ratio=0.0, iterations=1, coarsest=0)
    assert np.abs(out.astype(int) - wanted).max() <= 1


def test_the_photos_own_edges_are_free_of_the_smoothness() -> None:
    photo = Photo.of(np.ascontiguousarray(CAT.pixels[:240, :240]))
    heard: list[Progress] = []
    wanted = run(photo, ratio=0.0, iterations=1, coarsest=0)
    for coarsest in (0, 32):
        out = run(photo, [photo.pixels], coarsest=coarsest, palette=1.0, smooth=200.0, more={"progress": heard.append})
        assert np.abs(out.astype(int) - wanted).max() <= 1
    assert all(p.terms["smooth"] < 1e-3 for p in heard)


def test_a_panorama_grows_beyond_the_size_with_the_programs_rule_only() -> None:
    photo = Photo.of(np.ascontiguousarray(CAT.pixels[100:120]))
    wide = run(photo, iterations=1, coarsest=0)
    program = run(photo, iterations=1, coarsest=0, capped=False)
    assert wide.shape[0] * wide.shape[1] <= 64**2 + 320
    assert program.shape == (224, 3584, 3)


def test_size_zero_is_the_photos_own() -> None:
    assert run(size=0, iterations=1, coarsest=0).shape == CAT.pixels.shape


# ---- memory


def test_what_does_not_fit_into_memory_is_refused_with_the_size_that_would() -> None:
    with pytest.raises(PhotoError, match=r"4000x3000 takes about .* GB are free; --size \d+ would fit") as caught:
        run(size=4000, more={"available": 2e9})
    assert caught.value.code == "too-large"
    said = str(caught.value)
    fits = int(said.split("--size ")[1].split()[0])
    recipe = Gatys(size=fits)
    with pytest.raises(PhotoError):
        run(size=fits + 64, more={"available": 2e9})
    heard: list[Progress] = []

    def once(progress: Progress) -> bool:
        heard.append(progress)
        return True

    assert recipe.size < 4000
    run(size=fits, iterations=1, more={"available": 2e9, "progress": once})
    assert len(heard) == 1
    with pytest.raises(PhotoError, match="free some"):
        run(more={"available": 1e3})


def test_little_memory_means_smaller_tiles_and_the_same_picture() -> None:
    recipe = Gatys(size=600, iterations=2, coarsest=0)
    reader = Reader(NETS["features"], ("a", "b", "c"), torch.float32, torch.device("cpu"))
    needed = [recipe.memory_for(reader, (450, 600), tile) for tile in (1024, 384, 256)]
    assert needed == sorted(needed, reverse=True)
    whole = recipe.stylize(NETS, CAT, [PAINTING])
    tiled = recipe.stylize(NETS, CAT, [PAINTING], available=needed[1] + 1)
    assert np.abs(whole.astype(int) - tiled).mean() < 0.05
