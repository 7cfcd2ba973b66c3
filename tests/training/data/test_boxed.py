"""Annotation formats, each with the traps it is known for."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from visagist.errors import TrainingError
from visagist.recipe import Item
from visagist.training.data.readers import read

W, H = 40, 30


def picture(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (H, W, 3), dtype=np.uint8)).save(path)


def by_name(items: list[Item]) -> dict[str, list[tuple[str, tuple[float, ...]]]]:
    return {Path(item.name).name: [(face.label, face.box) for face in item.faces] for item in items}


# ---- Pascal VOC ----

OBJECT = "<object><name>{name}</name><difficult>{difficult}</difficult><bndbox>{box}</bndbox></object>"


def box(x0: float, y0: float, x1: float, y1: float) -> str:
    """Elements in an unusual order."""
    return f"<ymax>{y1}</ymax><xmin>{x0}</xmin><xmax>{x1}</xmax><ymin>{y0}</ymin>"


def xml(folder: Path, stem: str, *objects: str, filename: str | None = None, head: str = "") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    name = f"<filename>{filename or stem + '.png'}</filename>"
    (folder / f"{stem}.xml").write_text(f"{head}<annotation>{''.join(objects)}{name}</annotation>", encoding="utf-8")


def test_voc_is_one_based_and_inclusive(tmp_path: Path) -> None:
    for stem in "ab":
        picture(tmp_path / "JPEGImages" / f"{stem}.png")
    part = "<part><name>head</name><bndbox>" + box(2, 2, 3, 3) + "</bndbox></part>"
    whole = OBJECT.format(name="cat", difficult=0, box=box(1, 1, W, H)).replace("</object>", part + "</object>")
    xml(tmp_path / "Annotations", "a", whole, OBJECT.format(name="cat", difficult=1, box=box(5, 5, 9.5, 9)))
    xml(tmp_path / "Annotations", "b", filename="typed wrongly.jpg")
    items = read(tmp_path)
    assert by_name(items) == {"a.png": [("cat", (0, 0, W, H)), ("ignore", (4, 4, 9.5, 9))], "b.png": []}
    assert all(item.complete for item in items)


def test_voc_written_zero_based_by_hand_gets_no_negative_box(tmp_path: Path) -> None:
    for stem in "ab":
        picture(tmp_path / f"{stem}.png")
    xml(tmp_path, "a", OBJECT.format(name="cat", difficult=0, box=box(0, 3, 10, 12)))
    xml(tmp_path, "b", OBJECT.format(name="cat", difficult=0, box=box(2, 3, 10, 12)))
    assert by_name(read(tmp_path)) == {"a.png": [("cat", (0, 3, 10, 12))], "b.png": [("cat", (2, 3, 10, 12))]}


def test_voc_folds_are_the_lists(tmp_path: Path) -> None:
    for stem in ("1", "2", "3"):
        picture(tmp_path / "JPEGImages" / f"{stem}.png")
        xml(tmp_path / "Annotations", stem)
    lists = tmp_path / "ImageSets" / "Main"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("1\n2\n")
    (lists / "val.txt").write_text("3\n")
    (lists / "cat_train.txt").write_text("1 -1\n2  1\n")
    assert set(by_name(read(tmp_path, fold="train"))) == {"1.png", "2.png"}
    assert set(by_name(read(tmp_path, fold="dev"))) == {"3.png"}
    assert len(read(tmp_path)) == 3
    (lists / "val.txt").write_text("3\n4\n")
    with pytest.raises(TrainingError, match=r"val.txt line 2: 4 has no annotation"):
        read(tmp_path, fold="dev")


@pytest.mark.parametrize(
    ("body", "what"),
    [
        ('<!DOCTYPE a [<!ENTITY x "y">]><annotation>&x;</annotation>', "DTD"),
        ('<!DOCTYPE a SYSTEM "file:///etc/hosts"><annotation/>', "DTD"),
        ("<annotation><object></annotation>", "not readable XML"),
        ("", "not readable XML"),
        ("<annotation><object><name>cat</name></object></annotation>", "without name or bndbox"),
        (
            f"<annotation>{OBJECT.format(name='cat', difficult=0, box=box(1, 2, 'nan', 4))}</annotation>",
            "'nan' is not a finite number",
        ),
        (f"<annotation>{OBJECT.format(name='cat', difficult=0, box=box(9, 2, 3, 4))}</annotation>", "swapped corners: 9 2 3 4"),
        ("<pictures><annotation/></pictures>", "<pictures> instead of <annotation>"),
    ],
)
def test_voc_refuses_what_is_broken_or_hostile(tmp_path: Path, body: str, what: str) -> None:
    picture(tmp_path / "a.png")
    (tmp_path / "a.xml").write_text(body)
    with pytest.raises(TrainingError, match=what) as caught:
        read(tmp_path)
    assert caught.value.code == "bad-data"


# ---- WIDER FACE ----


def test_wider_face(tmp_path: Path) -> None:
    for name in ("one", "none", "bare", "many"):
        picture(tmp_path / "WIDER_train" / "images" / "0--Parade" / f"{name}.jpg")
    (tmp_path / "wider_face_split").mkdir()
    (tmp_path / "wider_face_split" / "wider_face_train_bbx_gt.txt").write_text(
        "0--Parade/one.jpg\n1\n3 4 10 12 0 0 0 0 0 0 \n"
        "0--Parade/none.jpg\n0\n0 0 0 0 0 0 0 0 0 0 \n"  # the dummy line
        "0--Parade/bare.jpg\n0\n"  # and without it
        "0--Parade/many.jpg\n3\n1 1 5 5 2 0 0 1 0 0\n7 7 0 4 0 0 0 0 0 0\n8 8 6 7 1 1 1 0 2 1\n"
    )
    assert by_name(read(tmp_path)) == {
        "one.jpg": [("face", (3, 4, 13, 16))],
        "none.jpg": [],
        "bare.jpg": [],
        "many.jpg": [("ignore", (1, 1, 6, 6)), ("face", (8, 8, 14, 15))],
    }
    assert len(read(tmp_path / "wider_face_split" / "wider_face_train_bbx_gt.txt", fold="train")) == 4
    with pytest.raises(TrainingError) as caught:
        read(tmp_path, fold="dev")
    assert caught.value.code == "no-data"


def test_wider_face_names_what_is_wrong_and_goes_on(tmp_path: Path) -> None:
    for name in "abcd":
        picture(tmp_path / f"{name}.jpg")
    (tmp_path / "gt.txt").write_text(
        "a.jpg\n2\n1 1 5 5\nb.jpg\n1\n1 1 x 5\nc.jpg\n1\n1 1 5 5\n2 2 5 5\ngone.jpg\n0\nd.jpg\n1\n1 1 5 5\n"
    )
    with pytest.raises(TrainingError) as caught:
        read(tmp_path)
    text = str(caught.value)
    for part in (
        "4 bad entries",
        "line 1: 2 faces announced, 1 listed",
        "line 6: 'x' is not",
        "line 7: more than",
        "line 11: no pic",
    ):
        assert part in text
    assert by_name(read(tmp_path, skip_bad=True)) == {"b.jpg": [], "d.jpg": [("face", (1, 1, 6, 6))]}
    assert by_name(read(tmp_path, skip_bad=True, needs=("box",))) == {"d.jpg": [("face", (1, 1, 6, 6))]}


# ---- COCO ----


def coco(path: Path, **changes: list) -> None:
    content = {
        "images": [{"id": 7, "file_name": "a.png"}, {"id": 9, "file_name": "b.png"}],
        "annotations": [
            {"id": 1, "image_id": 7, "category_id": 90, "bbox": [1.5, 2, 10, 20], "iscrowd": 0},
            {"id": 2, "image_id": 7, "category_id": 1, "bbox": [0, 0, 5, 5], "iscrowd": 1},
        ],
        "categories": [{"id": 1, "name": "person"}, {"id": 90, "name": "toothbrush"}],
        **changes,
    }
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(content))


def test_coco(tmp_path: Path) -> None:
    for stem in "ab":
        picture(tmp_path / "images" / f"{stem}.png")
    coco(tmp_path / "annotations" / "instances_val2017.json")
    expected = {"a.png": [("toothbrush", (1.5, 2, 11.5, 22)), ("ignore", (0, 0, 5, 5))], "b.png": []}
    assert by_name(read(tmp_path, fold="dev")) == expected
    assert by_name(read(tmp_path / "annotations" / "instances_val2017.json")) == expected
    assert read(tmp_path, needs=("box",))[1].complete


def test_coco_names_bad_annotations(tmp_path: Path) -> None:
    for stem in "ab":
        picture(tmp_path / f"{stem}.png")
    bad = [
        {"id": 1, "image_id": 8, "category_id": 1, "bbox": [0, 0, 5, 5]},
        {"id": 2, "image_id": 7, "category_id": 2, "bbox": [0, 0, 5, 5]},
        {"id": 3, "image_id": 7, "category_id": 1, "bbox": [0, 0, float("nan"), 5]},
        {"id": 4, "image_id": 7, "category_id": 1, "bbox": [0, 0, 0, 5]},
        {"id": 5, "image_id": 7, "category_id": 1, "bbox": [0, 0, 5]},
        {"id": 6, "image_id": 7, "category_id": 1},
    ]
    coco(tmp_path / "labels.json", annotations=bad)
    with pytest.raises(TrainingError, match="6 bad entries: .*no image 8.*no category 2.*nan.*empty box.*and 1 more"):
        read(tmp_path)
    assert by_name(read(tmp_path, skip_bad=True)) == {"a.png": [], "b.png": []}
    coco(tmp_path / "labels.json", images=[{"id": 1}])
    with pytest.raises(TrainingError, match="line 1: an image without id and file_name"):
        read(tmp_path)


# ---- darknet ----


@pytest.mark.parametrize("layout", ["beside", "apart"])
def test_darknet(tmp_path: Path, layout: str) -> None:
    images, labels = (tmp_path, tmp_path) if layout == "beside" else (tmp_path / "images" / "train", tmp_path / "labels" / "train")
    labels.mkdir(parents=True, exist_ok=True)
    for stem in ("full", "empty", "unlabelled"):
        picture(images / f"{stem}.png")
    (labels / "full.txt").write_text("1 0.5 0.5 1 1\n\n0 0.25 0.5 0.1 0.2\n")
    (labels / "empty.txt").write_text("")
    with pytest.raises(TrainingError, match="no class file"):
        read(tmp_path)
    (tmp_path / "classes.txt").write_text("dog\ncat\n")
    items = read(tmp_path)
    found = by_name(items)
    assert found["full.png"][0] == ("cat", (0, 0, W, H))
    assert found["full.png"][1][1] == pytest.approx((8, 12, 12, 18))
    assert {Path(i.name).stem: i.complete for i in items} == {"full": True, "empty": True, "unlabelled": False}
    assert len(read(tmp_path, needs=("box",))) == 2


def test_darknet_names_bad_lines(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    (tmp_path / "obj.names").write_text("dog\n")
    (tmp_path / "a.txt").write_text("1 .5 .5 .1 .1\n0 50 50 10 10\n0 .5 .5 .1\n0 .5 .5 0 .1\n0 .5 .5 .1 .1\n")
    with pytest.raises(
        TrainingError, match=r"4 bad entries: .*line 1: class 1 of 1.*line 2: values outside.*line 3: 4 values.*line 4: an"
    ):
        read(tmp_path)
    assert len(read(tmp_path, skip_bad=True)[0].faces) == 1


# ---- CSV ----


def test_csv_boxes(tmp_path: Path) -> None:
    for stem in "abc":
        picture(tmp_path / f"{stem}.png")
    (tmp_path / "boxes.csv").write_text(
        "file,xmin,ymin,xmax,ymax,label,fold\na.png,1,2,11,12,face,dev\na.png,20,2,29.5,12,cat,dev\nb.png,,,,,,dev\nc.png,0,0,5,5,,train\n"
    )
    assert by_name(read(tmp_path, fold="dev")) == {"a.png": [("face", (1, 2, 11, 12)), ("cat", (20, 2, 29.5, 12))], "b.png": []}
    assert by_name(read(tmp_path, fold="train")) == {"c.png": [("face", (0, 0, 5, 5))]}
    assert len(read(tmp_path / "boxes.csv")) == 3


def test_csv_boxes_names_bad_rows(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    (tmp_path / "boxes.csv").write_text(
        "file,x0,y0,x1,y1\na.png,5,5,2,9\na.png,1,1,inf,5\nnone.png,1,1,5,5\na.png,1,1,5\na.png,1,1,5,5\n"
    )
    with pytest.raises(TrainingError) as caught:
        read(tmp_path)
    for part in (
        "line 2: swapped corners",
        "line 3: 'inf' is not a finite",
        "line 4: no picture named",
        "line 5: 4 cells instead of 5",
    ):
        assert part in str(caught.value)
    assert by_name(read(tmp_path, skip_bad=True)) == {"a.png": [("face", (1, 1, 5, 5))]}
