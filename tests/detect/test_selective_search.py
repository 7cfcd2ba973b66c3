"""Selective search: what it must find, in which order, that chance is tamed, and a cache that nobody can poison."""

import io
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from skimage import data
from skimage.transform import resize

from visagist.detect import selective_search as search
from visagist.detect.selective_search import COPY, FAST, Cache, Look, Segments, Settings, group, propose, read, recall, write
from visagist.photo.boxes import iou, suppress


def drawn() -> tuple[np.ndarray, np.ndarray]:
    """Rectangles of several colours on grey, and their boxes."""
    rng = np.random.default_rng(3)
    pixels = np.full((150, 200, 3), 120, np.uint8)
    boxes = np.array([[20, 20, 60, 70], [90, 30, 150, 60], [30, 90, 100, 130], [140, 80, 180, 140]])
    for (x0, y0, x1, y1), colour in zip(boxes, [(220, 30, 30), (30, 200, 60), (40, 60, 220), (230, 220, 40)], strict=True):
        pixels[y0:y1, x0:x1] = colour
    return (pixels + rng.integers(-4, 5, pixels.shape)).clip(0, 255).astype(np.uint8), boxes


def test_the_fast_mode_is_the_authors() -> None:
    assert len(FAST) == 8
    assert {(s.space, s.k) for s in FAST} == {(space, k) for space in ("hsv", "lab") for k in (50, 100)}
    assert sum(s.colour for s in FAST) == 4


@pytest.mark.parametrize("mode", search.MODES)
def test_plain_things_are_found(mode: str) -> None:
    pixels, boxes = drawn()
    found = propose(pixels, Settings(mode, 200))
    assert found.dtype == np.float32 and found.shape[1] == 4
    assert (iou(boxes, found).max(1) > 0.85).all()
    assert recall([found, found], [boxes, boxes[:0]]) == (4, 4)
    assert recall([found[:0]], [boxes]) == (0, 4)


def test_none_twice_none_small_none_outside_and_always_the_same() -> None:
    pixels, _ = drawn()
    settings = Settings("quick", 300, 25)
    found = propose(pixels, settings)
    assert len(np.unique(found, axis=0)) == len(found)
    assert ((found[:, 2:] - found[:, :2]) * 1.5 >= 25 - 1e-3).all()
    assert (found >= 0).all() and (found <= np.array([200, 150, 200, 150])).all()
    assert (propose(pixels, settings) == found).all()
    other = propose(pixels, replace(settings, seed=1))
    assert not np.array_equal(other, found) and {*map(tuple, other)} == {*map(tuple, found)}


def test_where_there_are_too_many_boxes_near_copies_go_first() -> None:
    pixels, _ = drawn()
    settings = Settings("quick", 300, 25)
    found = propose(pixels, settings)
    apart = found[suppress(found, -np.arange(len(found)), COPY)]
    assert 4 < len(apart) < len(found)
    assert np.array_equal(propose(pixels, replace(settings, most=4)), apart[:4])
    assert np.array_equal(propose(pixels, replace(settings, most=len(found))), found)


def test_large_boxes_come_early() -> None:
    found = propose(drawn()[0], Settings("fast", 200))
    area = (found[:, 2] - found[:, 0]) * (found[:, 3] - found[:, 1])
    half = len(area) // 2
    assert area[:half].mean() > area[half:].mean()


@pytest.mark.parametrize("shape", [(1, 1), (1, 400), (400, 1), (3, 5), (37, 53), (2000, 20)])
def test_any_size_of_picture(shape: tuple[int, int]) -> None:
    found = propose(np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8), Settings("quick", 100))
    assert np.isfinite(found).all()
    assert (found[:, 2:] <= np.array([shape[1], shape[0]]) + 1e-3).all()


def test_a_photo_has_as_many_as_the_authors_and_its_face_is_among_them() -> None:
    photo = data.astronaut()
    assert photo.shape == (512, 512, 3)
    found = propose(photo)
    assert 300 <= len(found) <= 3000
    assert iou(np.array([[170.0, 62, 284, 210]]), found).max() >= 0.6


# ---- the parts, against what is plain ----


def test_histograms_are_shares_of_pixels() -> None:
    labels = np.array([0, 0, 1, 1, 1])
    bins = np.array([[0, 3], [1, 3], [2, 4], [2, 4], [2, 5]])
    table = search._histograms(labels, 2, bins, 6)
    assert table[0].tolist() == pytest.approx([0.25, 0.25, 0, 0.5, 0, 0])
    assert table[1].tolist() == pytest.approx([0, 0, 0.5, 0, 1 / 3, 1 / 6])


def test_neighbours_and_boxes_against_loops() -> None:
    labels = np.random.default_rng(1).integers(0, 12, (9, 11))
    n = 12
    pairs, boxes = set(), []
    for y in range(9):
        for x in range(11):
            for dy, dx in ((0, 1), (1, 0), (1, 1), (1, -1)):
                if 0 <= y + dy < 9 and 0 <= x + dx < 11 and labels[y, x] != labels[y + dy, x + dx]:
                    pairs.add(tuple(sorted((int(labels[y, x]), int(labels[y + dy, x + dx])))))
    for i in range(n):
        ys, xs = np.nonzero(labels == i)
        boxes.append([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1])
    assert [tuple(p) for p in search._neighbours(labels, n).tolist()] == sorted(pairs)
    assert search._boxes(labels, n).tolist() == boxes


def test_texture_is_the_slope_in_its_direction() -> None:
    ramp = np.repeat(np.linspace(0, 1, 40, dtype=np.float32)[None, :, None], 30, 0).repeat(3, 2)  # brighter to the right
    bins = search._texture(ramp)[15, 20].reshape(8, 3) % 10
    assert bins[0].tolist() == [9, 9, 9]  # towards the right
    assert bins[4].tolist() == [0, 0, 0] and bins[2].tolist() == [0, 0, 0]  # left and down


def slow_group(segments: Segments, colour: bool) -> list[list[int]]:
    """All similarities anew at every step, sets of pixels' numbers instead of updated sums."""
    table = np.concatenate([segments.colour, segments.texture], 1) if colour else segments.texture
    regions = {i: (table[i].astype(float), int(segments.sizes[i]), segments.boxes[i]) for i in range(len(table))}
    touching = {frozenset(map(int, p)) for p in segments.pairs}
    whole, out = segments.sizes.sum(), [r[2].tolist() for r in regions.values()]

    def alike(pair: frozenset[int]) -> float:
        (ha, sa, ba), (hb, sb, bb) = (regions[i] for i in pair)
        low, high = np.minimum(ba[:2], bb[:2]), np.maximum(ba[2:], bb[2:])
        fill = 1 - ((high - low).prod() - sa - sb) / whole
        return float(np.minimum(ha, hb).sum() + 1 - (sa + sb) / whole + fill)

    while touching:
        best = max(sorted(touching, key=lambda p: (min(p), max(p))), key=alike)
        (ha, sa, ba), (hb, sb, bb) = (regions[i] for i in best)
        new = len(out)
        box = np.concatenate([np.minimum(ba[:2], bb[:2]), np.maximum(ba[2:], bb[2:])])
        regions[new] = ((ha * sa + hb * sb) / (sa + sb), sa + sb, box)
        out.append(box.tolist())
        touching = {frozenset(new if i in best else i for i in p) for p in touching if p != best}
    return out


@pytest.mark.parametrize("colour", [True, False])
def test_grouping_against_a_slow_loop(colour: bool) -> None:
    photo = (resize(data.coffee(), (80, 120)) * 255).astype(np.uint8)
    segments = Segments.of(Look.of(photo, "lab"), 50)
    assert 20 < len(segments.sizes) < 200 and segments.sizes.sum() == 80 * 120
    assert group(segments, colour=colour).tolist() == slow_group(segments, colour)


def test_everything_becomes_one_region() -> None:
    boxes = group(Segments.of(Look.of(drawn()[0], "hsv"), 50), colour=True)
    assert boxes[-1].tolist() == [0, 0, 200, 150]
    assert len(boxes) % 2 == 1


def test_an_unknown_colour_space_is_refused() -> None:
    with pytest.raises(ValueError, match="colour space"):
        Look.of(np.zeros((4, 4, 3), np.uint8), "cmyk")


# ---- the cache ----


def test_the_cache_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels, _ = drawn()
    expected = propose(pixels, Settings("quick", 200))
    cache = Cache(tmp_path / "new" / "folder")
    assert np.array_equal(cache.of(pixels, Settings("quick", 200)), expected)
    (file,) = (tmp_path / "new" / "folder").iterdir()
    monkeypatch.setattr(search, "propose", lambda *_: pytest.fail("made again"))
    assert np.array_equal(cache.of(pixels, Settings("quick", 200)), expected)
    assert np.array_equal(Cache(file.parent).of(pixels, Settings("quick", 200)), expected)


def test_other_pixels_other_settings_other_file() -> None:
    pixels, _ = drawn()
    changed = pixels.copy()
    changed[0, 0, 0] ^= 1
    settings = [Settings(), Settings("quick"), Settings(width=320), Settings(seed=1), Settings(least=10), Settings(most=9)]
    keys = {Cache.key(p, s) for p in (pixels, changed, pixels.reshape(200, 150, 3)) for s in settings}
    assert len(keys) == 18


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "propose", lambda *_: np.zeros((0, 4), np.float32))
    cache = Cache(most=3)
    for value in range(9):
        cache.of(np.full((2, 2, 3), value, np.uint8))
    assert len(cache._known) == 3


def test_a_folder_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    pixels, _ = drawn()
    assert len(Cache(tmp_path / "file" / "below").of(pixels, Settings("quick", 200)))


class Bomb:
    """What must never be called."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return pytest.fail, ("unpickled",)


def npz(**arrays: object) -> bytes:
    out = io.BytesIO()
    np.savez(out, **{k: v if isinstance(v, np.ndarray) else np.array(v, object) for k, v in arrays.items()})  # type: ignore[arg-type]
    return out.getvalue()


def zipped(name: str, content: bytes, kind: int = zipfile.ZIP_STORED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", kind) as archive:
        archive.writestr(name, content)
    return out.getvalue()


def npy(header: str, content: bytes) -> bytes:
    text = header.encode().ljust(118 - 1) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + content


GOOD = np.array([[1, 2, 30, 40], [0, 0, 100, 80]], np.float32)
HOSTILE = {
    "empty": b"",
    "no zip": b"boxes" * 99,
    "pickle": npz(boxes=Bomb()),
    "pickled array": npz(boxes=np.array([Bomb()], object)),
    "other name": npz(other=GOOD),
    "whole numbers": npz(boxes=GOOD.astype(np.int32)),
    "doubles": npz(boxes=GOOD.astype(np.float64)),
    "three columns": npz(boxes=GOOD[:, :3].copy()),
    "flat": npz(boxes=GOOD.ravel()),
    "columns first": npz(boxes=np.asfortranarray(GOOD)),
    "nan": npz(boxes=np.array([[1, 2, np.nan, 40]], np.float32)),
    "infinite": npz(boxes=np.array([[1, 2, np.inf, 40]], np.float32)),
    "outside": npz(boxes=np.array([[1, 2, 30, 81]], np.float32)),
    "negative": npz(boxes=np.array([[-1, 2, 30, 40]], np.float32)),
    "inside out": npz(boxes=np.array([[30, 2, 1, 40]], np.float32)),
    "too many": npz(boxes=np.zeros((search.MOST + 100, 4), np.float32)),
    "cut": npz(boxes=GOOD)[:-80],
    "packed": zipped("boxes.npy", npy("{'descr': '<f4', 'fortran_order': False, 'shape': (0, 4), }", b""), zipfile.ZIP_DEFLATED),
    "bomb": zipped(
        "boxes.npy", npy("{'descr': '<f4', 'fortran_order': False, 'shape': (1, 4), }", b"\0" * 10**7), zipfile.ZIP_DEFLATED
    ),
    "a shape that lies": zipped("boxes.npy", npy("{'descr': '<f4', 'fortran_order': False, 'shape': (10**12, 4), }", b"\0" * 16)),
    "a huge shape": zipped("boxes.npy", npy("{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000, 4), }", b"\0" * 16)),
    "a header of code": zipped(
        "boxes.npy", npy("{'descr': __import__('os').abort(), 'fortran_order': False, 'shape': (1, 4)}", b"")
    ),
    "no magic": zipped("boxes.npy", b"nothing"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_file_is_as_good_as_none(kind: str, tmp_path: Path) -> None:
    file = tmp_path / "x.npz"
    file.write_bytes(HOSTILE[kind])
    assert read(file, (80, 100)) is None
    pixels, _ = drawn()
    settings = Settings("quick", 200)
    poisoned = tmp_path / f"{Cache.key(pixels, settings)}.npz"
    poisoned.write_bytes(HOSTILE[kind])
    expected = propose(pixels, settings) if kind in ("pickle", "cut") else None
    if expected is not None:
        assert np.array_equal(Cache(tmp_path).of(pixels, settings), expected)
        mended = read(poisoned, pixels.shape[:2])
        assert mended is not None and np.array_equal(mended, expected)


def test_good_files_are_read(tmp_path: Path) -> None:
    for boxes in (GOOD, GOOD[:0]):
        write(tmp_path / "x.npz", boxes)
        back = read(tmp_path / "x.npz", (80, 100))
        assert back is not None and np.array_equal(back, boxes)
        back[:] = 0  # and may be changed
    assert read(tmp_path / "none.npz", (80, 100)) is None
    assert [p.name for p in tmp_path.iterdir()] == ["x.npz"]
