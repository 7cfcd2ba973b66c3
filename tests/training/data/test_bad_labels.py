"""Labels that are wrong: every format names file and line of what it refuses, and with skip_bad leaves it out and says how many."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from visagist.errors import TrainingError
from visagist.recipe import Item
from visagist.training.data.coco import lines_of_entries
from visagist.training.data.readers import check_classes, read

W, H = 100, 80
Box = tuple[float, float, float, float]
GOOD: Box = (10, 20, 40, 60)  # 0-based, half-open
BAD: dict[str, tuple[Box, str]] = {
    "swapped in x": ((40, 20, 10, 60), "swapped corners"),
    "swapped in y": ((10, 60, 40, 20), "swapped corners"),
    "no width": ((10, 20, 10, 60), "empty box"),
    "no height": ((10, 20, 40, 20), "empty box"),
    "left of it": ((-30, 20, 40, 60), "beyond the picture"),
    "above it": ((10, -30, 40, 60), "beyond the picture"),
    "right of it": ((60, 20, 130, 60), "beyond the picture"),
    "below it": ((10, 20, 40, 110), "beyond the picture"),
    "elsewhere": ((500, 500, 600, 600), "beyond the picture"),
}


def picture(path: Path, *, orientation: int = 1) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (H, W, 3), dtype=np.uint8))
    exif = Image.Exif()
    exif[0x0112] = orientation
    image.save(path, exif=exif)


# One picture a.jpg with these boxes; gives the file and the line of each box. Labels are cat where the format has them.


def voc(folder: Path, boxes: list[Box], label: str = "cat") -> tuple[Path, list[int]]:
    lines = ["<annotation>", "<filename>a.jpg</filename>", f"<size><width>{W}</width><height>{H}</height><depth>3</depth></size>"]
    at = []
    for x0, y0, x1, y1 in boxes:
        at.append(len(lines) + 1)
        corners = f"<xmin>{x0 + 1}</xmin><ymin>{y0 + 1}</ymin>\n<xmax>{x1}</xmax><ymax>{y1}</ymax>"
        lines += f"<object><name>{label}</name>\n<bndbox>{corners}</bndbox></object>".split("\n")
    file = folder / "Annotations" / "a.xml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("\n".join([*lines, "</annotation>"]))
    return file, at


def coco(folder: Path, boxes: list[Box], label: str = "cat") -> tuple[Path, list[int]]:
    entries = [
        json.dumps({"id": i, "image_id": 1, "category_id": 5, "bbox": [x0, y0, x1 - x0, y1 - y0]})
        for i, (x0, y0, x1, y1) in enumerate(boxes)
    ]
    head = [
        '{"info": {"a": [1, "]}"]},',
        f'"images": [{{"id": 1, "file_name": "a.jpg", "width": {W}, "height": {H}}}],',
        f'"categories": [{{"id": 5, "name": "{label}"}}],',
        '"annotations": [',
    ]
    file = folder / "labels.json"
    file.write_text("\n".join([*head, ",\n".join(entries), "]}"]))
    return file, [len(head) + 1 + i for i in range(len(boxes))]


def darknet(folder: Path, boxes: list[Box], label: str = "cat") -> tuple[Path, list[int]]:
    (folder / "classes.txt").write_text(f"{label}\n")
    rows = [f"0 {(x0 + x1) / 2 / W} {(y0 + y1) / 2 / H} {(x1 - x0) / W} {(y1 - y0) / H}" for x0, y0, x1, y1 in boxes]
    file = folder / "a.txt"
    file.write_text("\n".join(rows) + "\n")
    return file, [1 + i for i in range(len(boxes))]


def table(folder: Path, boxes: list[Box], label: str = "cat") -> tuple[Path, list[int]]:
    file = folder / "boxes.csv"
    file.write_text(
        "\n".join(["file,xmin,ymin,xmax,ymax,label", *(f"a.jpg,{','.join(map(str, b))},{label}" for b in boxes)]) + "\n"
    )
    return file, [2 + i for i in range(len(boxes))]


def wider(folder: Path, boxes: list[Box], label: str = "face") -> tuple[Path, list[int]]:
    rows = [f"{x0} {y0} {x1 - x0} {y1 - y0} 0 0 0 0 0 0" for x0, y0, x1, y1 in boxes]
    file = folder / "gt.txt"
    file.write_text("\n".join(["a.jpg", str(len(boxes)), *rows]) + "\n")
    return file, [3 + i for i in range(len(boxes))]


Format = Callable[..., tuple[Path, list[int]]]
FORMATS = [voc, coco, darknet, table, wider]


def refused(folder: Path, **options: object) -> str:
    with pytest.raises(TrainingError) as caught:
        read(folder, **options)  # type: ignore[arg-type]
    assert caught.value.code == "bad-data" and caught.value.exit_code == 4
    assert "\n" not in caught.value.line()
    return str(caught.value)


def the_item(folder: Path, **options: object) -> Item:
    (item,) = read(folder, skip_bad=True, **options)  # type: ignore[arg-type]
    return item


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("bad", BAD)
def test_a_box_that_is_none_is_named_with_its_line(tmp_path: Path, form: Format, bad: str) -> None:
    wrong, what = BAD[bad]
    picture(tmp_path / "a.jpg")
    file, lines = form(tmp_path, [GOOD, wrong, GOOD])
    if form is wider and bad in ("no width", "no height"):  # known of the original files: left out without a word
        assert len(read(tmp_path)[0].faces) == 2
        return
    said = refused(tmp_path)
    assert f"1 bad entry: {file} line {lines[1]}: " in said
    if form is not darknet:  # its centres and sides are judged before they are corners
        # a VOC box of no width is written with its last pixel before its first
        assert ("swapped corners" if form is voc and what == "empty box" else what) in said
    item = the_item(tmp_path)
    assert [face.box for face in item.faces] == [pytest.approx(GOOD)] * 2
    assert not item.complete  # something lies there that is labelled badly: finding it is not wrong


@pytest.mark.parametrize("form", FORMATS)
def test_the_first_five_are_named_and_the_others_counted(tmp_path: Path, form: Format, caplog: pytest.LogCaptureFixture) -> None:
    picture(tmp_path / "a.jpg")
    file, lines = form(tmp_path, [GOOD, *[BAD["elsewhere"][0]] * 7])
    said = refused(tmp_path)
    assert said.startswith("7 bad entries: ") and "; and 2 more; --skip-bad" in said
    assert [f"{file} line {line}: " in said for line in lines] == [False, *[True] * 5, False, False]
    with caplog.at_level(logging.WARNING):
        assert len(the_item(tmp_path).faces) == 1
    assert [r.message.startswith("skipped 7 bad entries: ") for r in caplog.records] == [True]


@pytest.mark.parametrize("form", FORMATS)
def test_rounding_at_the_border_is_cut_and_not_refused(tmp_path: Path, form: Format) -> None:
    picture(tmp_path / "a.jpg")
    form(tmp_path, [(0.5, 1, W + 0.75, H + 1)])
    item = read(tmp_path)[0]
    assert item.faces[0].box == pytest.approx((0.5, 1, W, H)) and item.complete


@pytest.mark.parametrize("form", [voc, coco, darknet, table])
def test_an_unknown_class_is_named(tmp_path: Path, form: Format) -> None:
    picture(tmp_path / "a.jpg")
    file, lines = form(tmp_path, [GOOD], label="dgo")
    assert read(tmp_path)[0].faces[0].label == "dgo"  # whoever does not ask gets what is there
    said = refused(tmp_path, classes=("cat", "dog"))
    assert f"{file} line {lines[0]}: " in said and "class 'dgo' is not among cat, dog" in said
    item = the_item(tmp_path, classes=("cat", "dog"))
    assert not item.faces and item.complete  # what is not looked for is background
    assert len(read(tmp_path, classes=("cat", "dgo"))[0].faces) == 1


@pytest.mark.parametrize("form", [voc, coco])
def test_labels_of_another_size_of_the_picture_are_refused(tmp_path: Path, form: Format) -> None:
    picture(tmp_path / "a.jpg", orientation=6)  # labelled by a program that does not turn pictures upright
    form(tmp_path, [GOOD])
    assert f"labels for a picture of {W} x {H}, it is {H} x {W}" in refused(tmp_path)


def test_a_size_of_zero_says_nothing(tmp_path: Path) -> None:
    picture(tmp_path / "a.jpg")
    file, _ = voc(tmp_path, [GOOD])
    file.write_text(file.read_text().replace(f"<width>{W}</width>", "<width>0</width>"))
    assert len(read(tmp_path)) == 1


@pytest.mark.parametrize("form", FORMATS)
def test_a_picture_that_is_missing_or_damaged_is_named(tmp_path: Path, form: Format) -> None:
    file, _ = form(tmp_path, [GOOD])
    picture(tmp_path / "other.jpg")
    if form is not darknet:  # there the pictures are listed, not the texts
        said = refused(tmp_path)
        assert str(file) in said and "line" in said and "no picture named 'a.jpg'" in said
        with pytest.raises(TrainingError) as caught:
            read(tmp_path, skip_bad=True)
        assert caught.value.code == "no-data"
    picture(tmp_path / "a.jpg")
    data = (tmp_path / "a.jpg").read_bytes()
    (tmp_path / "a.jpg").write_bytes(data[: len(data) // 2])
    assert "truncated" in refused(tmp_path) or "cut short" in refused(tmp_path)


# ---- malformed files ----


def test_malformed_xml_is_named_with_the_line(tmp_path: Path) -> None:
    picture(tmp_path / "a.jpg")
    file, _ = voc(tmp_path, [GOOD, GOOD])
    file.write_text(file.read_text().replace("</bndbox></object>\n<object>", "</bndbox>\n<object>"))
    assert f"{file} line 10: not readable XML (mismatched tag" in refused(tmp_path)
    file.write_bytes(b"\x89PNG\r\n\x1a\n\0\0")
    assert "not readable XML" in refused(tmp_path)
    with pytest.raises(TrainingError) as caught:
        read(tmp_path, skip_bad=True)
    assert caught.value.code == "no-data"


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ('{"images": [],\n"annotations": [}', "line 2: not readable as COCO labels (Expecting value)"),
        ('{"images": [], "annotations": {}}', "no list of annotations"),
        ('["images", "annotations"]', "no list of images"),
        ('{"images": [], "annotations": []}', "no list of categories"),
        ('{"images": [\n7],\n"annotations": [\n8], "categories": [\n9]}', "line 2: an image without id and file_name"),
        ('{"images": [\n7],\n"annotations": [\n8], "categories": [\n9]}', "line 4: annotation 0: "),
        ('{"images": [\n7],\n"annotations": [\n8], "categories": [\n9]}', "line 5: a category without"),
        ('{"images": [{"id": [1], "file_name": "a.jpg"}], "annotations": [{"image_id": {}}], "categories": []}', "unhashable"),
        ('{"images": "annotations"' + "[" * 100_000, "not readable as COCO labels"),
    ],
)
def test_malformed_json_is_named(tmp_path: Path, text: str, what: str) -> None:
    picture(tmp_path / "a.jpg")
    (tmp_path / "labels.json").write_text(text)
    assert what in refused(tmp_path)
    with pytest.raises(TrainingError) as caught:
        read(tmp_path / "labels.json", skip_bad=True)
    assert caught.value.code == "no-data"


def test_json_that_is_no_text_is_named(tmp_path: Path) -> None:
    picture(tmp_path / "a.jpg")
    (tmp_path / "labels.json").write_bytes(b'{"images": [], "annotations": [], "categories": ["\xff\xfe"]}')
    assert "not readable as COCO labels" in refused(tmp_path)


def test_lines_of_entries_follow_the_layout() -> None:
    content = {"a": {"b": [1, "x]"]}, "b": [{"c": [1, 2]}, {"d": "}"}, 3], "c": []}
    assert lines_of_entries(json.dumps(content), "b") == [1, 1, 1]
    text = json.dumps(content, indent=2)
    wanted = [i for i, line in enumerate(text.splitlines(), 1) if line in ("    {", "    3")]
    assert lines_of_entries(text, "b") == wanted
    assert lines_of_entries(text, "c") == lines_of_entries(text, "nothing") == lines_of_entries("{}", "b") == []


@pytest.mark.parametrize("form", [darknet, wider])
def test_text_that_is_none_is_named_with_the_line(tmp_path: Path, form: Format) -> None:
    picture(tmp_path / "a.jpg")
    file, lines = form(tmp_path, [GOOD, GOOD])
    file.write_bytes(file.read_bytes() + b"\xff\xfe\n")
    assert f"{file} line {lines[-1] + 1}: this is not text" in refused(tmp_path)


def test_a_csv_that_is_none_is_refused(tmp_path: Path) -> None:
    picture(tmp_path / "a.jpg")
    file, _ = table(tmp_path, [GOOD])
    file.write_bytes(file.read_bytes() + b'a.jpg,"1')
    assert f"{file} line 3: 2 cells instead of 6" in refused(tmp_path)
    file.write_bytes(file.read_bytes() + b"\xff")
    assert "not a readable csv file" in refused(tmp_path)


def test_a_byte_order_mark_and_windows_line_ends_are_no_matter(tmp_path: Path) -> None:
    for form in FORMATS:
        folder = tmp_path / form.__name__
        picture(folder / "a.jpg")
        file, _ = form(folder, [GOOD])
        file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes().replace(b"\n", b"\r\n"))
        assert read(folder)[0].faces[0].box == pytest.approx(GOOD), form.__name__


# ---- 1-based against 0-based ----


def test_voc_is_zero_based_for_all_folds_or_for_none(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A single 0 among the training boxes says how the dev boxes were counted, too."""
    for stem in ("a", "b"):
        picture(tmp_path / f"{stem}.jpg")
    first, _ = voc(tmp_path, [(-1, 5, 30, 30)])  # written as 0
    second = first.with_name("b.xml")
    second.write_text(first.read_text().replace("<xmin>0", "<xmin>4").replace("a.jpg", "b.jpg"))
    (tmp_path / "ImageSets" / "Main").mkdir(parents=True)
    (tmp_path / "ImageSets" / "Main" / "train.txt").write_text("a\n")
    (tmp_path / "ImageSets" / "Main" / "val.txt").write_text("b\n")
    with caplog.at_level(logging.WARNING):
        assert read(tmp_path, fold="train")[0].faces[0].box == (0, 6, 30, 30)
        assert read(tmp_path, fold="dev")[0].faces[0].box == (4, 6, 30, 30)
        assert read(second)[0].faces[0].box == (4, 6, 30, 30)
    assert all("read as 0-based" in r.message and "a.xml line 4" in r.message for r in caplog.records) and caplog.records


def test_a_negative_corner_does_not_make_voc_zero_based(tmp_path: Path) -> None:
    for stem in ("a", "b"):
        picture(tmp_path / f"{stem}.jpg")
    first, _ = voc(tmp_path, [(-9, 5, 30, 30)])
    first.with_name("b.xml").write_text(first.read_text().replace("<xmin>-8", "<xmin>4").replace("a.jpg", "b.jpg"))
    boxes = {item.name: [face.box for face in item.faces] for item in read(tmp_path, skip_bad=True)}
    assert boxes == {"a.jpg": [], "b.jpg": [(3, 5, 30, 30)]}


# ---- nothing there, or not enough ----


@pytest.mark.parametrize("form", FORMATS)
def test_empty_labels_are_pictures_without_faces(tmp_path: Path, form: Format) -> None:
    picture(tmp_path / "a.jpg")
    form(tmp_path, [])
    if form is table:
        (tmp_path / "boxes.csv").write_text("file,xmin,ymin,xmax,ymax\na.jpg,,,,\n")
    item = read(tmp_path)[0]
    assert not item.faces and item.complete


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("boxes.csv", "file,xmin,ymin,xmax,ymax\n"),
        ("boxes.csv", ""),
        ("labels.json", '{"images": [], "annotations": [], "categories": []}'),
        ("labels.txt", ""),
        ("a.xml", None),
    ],
)
def test_an_empty_data_set_is_no_data(tmp_path: Path, name: str, text: str | None) -> None:
    if text is not None:
        (tmp_path / name).write_text(text)
    for path in (tmp_path, tmp_path / name):
        with pytest.raises(TrainingError) as caught:
            read(path)
        assert caught.value.code == "no-data" and "\n" not in caught.value.line()


def test_one_class_is_enough_for_boxes_and_too_few_for_pictures(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    picture(tmp_path / "a.jpg")
    table(tmp_path, [GOOD])
    items = read(tmp_path, classes=("cat",))
    check_classes(items, ("box",), ("cat",))
    with caplog.at_level(logging.WARNING):
        check_classes(items, ("box",), ("cat", "dog"))
    assert [r.message for r in caplog.records] == ["no picture has a box of dog"]
    with pytest.raises(TrainingError, match="no picture of 1 has a box of face"):
        check_classes(items, (), ("face",))
    for folder in ("dogs", "cats"):
        picture(tmp_path / "folders" / folder / "1.jpg")
        found = read(tmp_path / "folders")
        if folder == "dogs":
            with pytest.raises(TrainingError, match="all pictures are of one class") as caught:
                check_classes(found, ("label",))
            assert caught.value.code == "bad-data"
    check_classes(found, ("label",))
