"""The mark in the metadata: written into every format, read back, merged with foreign XMP, unharmed by hostile packets."""

from __future__ import annotations

import io
import time
from pathlib import Path
from typing import Any
from xml.dom import minidom

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from visagist.photo import mark
from visagist.photo.mark import Mark, Step
from visagist.photo.photo import Photo, is_marked, read_history

ENDINGS = [".jpg", ".png", ".webp", ".tif"]
STEPS = (
    Step("makeup", "lipstick", "0123456789ab", {"finish": "glossy", "strength": 0.5, "face": 1, "all": True, "none": None}),
    Step("stylize", "gatys", "", {"style": "星月夜 <&> \n\t\"'", "empty": ""}),
)
FOREIGN = (
    b"""<?xpacket begin="\xef\xbb\xbf" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description rdf:about="" xmlns:dc="http://purl.org/dc/elements/1.1/" xmlns:tiff="http://ns.adobe.com/tiff/1.0/"
 xmlns:xmp="http://ns.adobe.com/xap/1.0/" xmlns:w="http://iptc.org/std/Iptc4xmpExt/2008-02-29/" xmlns:ns7="urn:private"
 tiff:Orientation="6" xmp:Rating="4" ns7:a="&lt;kept&gt;"
 w:DigitalSourceType="http://cv.iptc.org/newscodes/digitalsourcetype/digitalCapture">
<dc:creator><rdf:Seq><rdf:li>\xe5\xbc\xa0\xe4\xb8\x89</rdf:li></rdf:Seq></dc:creator>
<xmp:Thumbnails><rdf:Alt><rdf:li>BASE64FACE</rdf:li></rdf:Alt></xmp:Thumbnails>
</rdf:Description></rdf:RDF></x:xmpmeta>
<?xpacket end="w"?>"""
    + b" " * 2000
)


def photo() -> Photo:
    return Photo.of(np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8))


def encoded(format_: str, xmp: bytes, **options: Any) -> bytes:
    stream, image = io.BytesIO(), Image.fromarray(photo().pixels)
    if format_ == "PNG":
        info = PngInfo()
        info.add_itxt("XML:com.adobe.xmp", xmp.decode("utf-8", "replace"))
        image.save(stream, format_, pnginfo=info, **options)
    elif format_ == "TIFF":
        image.save(stream, format_, tiffinfo={700: xmp}, **options)
    else:
        image.save(stream, format_, xmp=xmp, **options)
    return stream.getvalue()


@pytest.mark.parametrize("ending", ENDINGS)
def test_history_is_read_back(ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"a{ending}"
    done = photo()
    for step in STEPS:
        done = done.edited(done.pixels, step)
    done.save(path)
    assert Photo.open(path).history == STEPS
    assert read_history(path) == STEPS
    assert is_marked(path)
    again = Photo.open(path)
    again.edited(again.pixels, Step("rotate")).save(path, overwrite=True)
    assert Photo.open(path).history == (*STEPS, Step("rotate"))


@pytest.mark.parametrize("ending", ENDINGS)
def test_no_history_no_mark(ending: str, tmp_path: Path) -> None:
    photo().save(tmp_path / f"a{ending}")
    assert not is_marked(tmp_path / f"a{ending}")
    assert b"xmpmeta" not in (tmp_path / f"a{ending}").read_bytes()


def test_is_marked_says_no_rather_than_fail(tmp_path: Path) -> None:
    (tmp_path / "text.jpg").write_text("no photo")
    (tmp_path / "empty.jpg").write_bytes(b"")
    for path in (tmp_path / "text.jpg", tmp_path / "empty.jpg", tmp_path / "none.jpg", tmp_path):
        assert not is_marked(path)


def test_is_marked_does_not_decode(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.jpg"
    photo().edited(photo().pixels, STEPS[0]).save(path)

    def no(*_: Any) -> None:
        raise AssertionError

    monkeypatch.setattr(Image.Image, "load", no)
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", no)
    assert is_marked(path)


def test_mark_behind_the_pixels_of_a_png(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    photo().edited(photo().pixels, STEPS[0]).save(path)
    data = path.read_bytes()
    start = data.index(b"iTXt") - 4
    length = int.from_bytes(data[start : start + 4], "big") + 12
    chunk, rest = data[start : start + length], data[:start] + data[start + length :]
    path.write_bytes(rest[:-12] + chunk + rest[-12:])
    assert is_marked(path)
    assert Photo.open(path).history == STEPS[:1]


@pytest.mark.parametrize(
    ("steps", "claim"),
    [
        ([Step("makeup", "lipstick", "0123")], "compositeWithTrainedAlgorithmicMedia"),
        ([Step("makeup", "lipstick")], "algorithmicallyEnhanced"),
        ([Step("swap", "landmark-warp")], "compositeCapture"),
        ([Step("generate", "pggan", "0123"), Step("makeup", "lipstick")], "trainedAlgorithmicMedia"),
        ([Step("makeup", "lipstick", "0123"), Step("makeup", "lipstick")], "compositeWithTrainedAlgorithmicMedia"),
        ([Step("detect", "yolo", "0123")], "algorithmicallyEnhanced"),
    ],
)
def test_source_type_is_the_strongest(steps: list[Step], claim: str) -> None:
    packet, _ = mark.write(steps)
    assert mark.read(packet).source_type == claim
    assert f"http://cv.iptc.org/newscodes/digitalsourcetype/{claim}<".encode() in packet


def test_source_type_of_the_photo_is_not_watered_down() -> None:
    generated, _ = mark.write([Step("generate")])
    packet, _ = mark.write([Step("makeup", "lipstick")], generated)
    assert mark.read(packet) == Mark((Step("makeup", "lipstick"),), "trainedAlgorithmicMedia")


@pytest.mark.parametrize("format_", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("ending", ENDINGS)
def test_foreign_xmp_is_kept(format_: str, ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"a{ending}"
    found = Photo.decode(encoded(format_, FOREIGN))
    assert found.history == ()
    assert found.edited(found.pixels, STEPS[1]).save(path) == ()
    again = Photo.open(path)
    assert again.history == STEPS[1:]
    text = again.encoding.xmp.decode()
    assert "张三" in text
    assert 'xmp:Rating="4"' in text
    assert 'ns7:a="&lt;kept&gt;"' in text
    for gone in ("digitalCapture", "BASE64FACE", "Orientation"):
        assert gone not in text
    minidom.parseString(text.strip("\0\ufeff "))
    found.save(path, overwrite=True)  # without a step of ours: kept, with no mark and no claim of ours
    text = Photo.open(path).encoding.xmp.decode()
    assert "digitalCapture" in text
    assert "visagist" not in text


def test_orientation_in_xmp_is_applied_once(tmp_path: Path) -> None:
    found = Photo.decode(encoded("JPEG", FOREIGN))
    assert found.size == (30, 20)
    found.save(tmp_path / "a.jpg")
    assert Photo.open(tmp_path / "a.jpg").size == (30, 20)


def test_steps_as_other_programs_write_them() -> None:
    """XMP toolkits turn structures into attributes or nested descriptions."""
    for item in (
        '<rdf:li v:verb="makeup" v:system="lipstick"/>',
        '<rdf:li><rdf:Description v:verb="makeup" v:system="lipstick"/></rdf:li>',
        '<rdf:li rdf:parseType="Resource"><v:verb>makeup</v:verb><v:system>lip<!-- -->stick</v:system></rdf:li>',
    ):
        packet = f"""<rdf:RDF xmlns:rdf="{mark.RDF}"><rdf:Description xmlns:v="{mark.OURS}">
            <v:steps><rdf:Seq>{item}{item}</rdf:Seq></v:steps></rdf:Description></rdf:RDF>"""
        assert mark.read(packet.encode()).steps == (Step("makeup", "lipstick"),) * 2
        assert mark.read(mark.write([Step("swap")], packet.encode())[0]).steps == (Step("swap"),)


LAUGHS = "<!DOCTYPE r [" + '<!ENTITY a0 "ha">' + "".join(f'<!ENTITY a{i} "{f"&a{i - 1};" * 10}">' for i in range(1, 12)) + "]>"
BODY = f'<rdf:RDF xmlns:rdf="{mark.RDF}"><rdf:Description/></rdf:RDF>'
HOSTILE = {
    "laughs": f"{LAUGHS}<r>&a11;</r>".encode(),
    "laughs in place": (LAUGHS + BODY.replace("<rdf:Description/>", "<rdf:Description>&a11;</rdf:Description>")).encode(),
    "external": b'<!DOCTYPE r [<!ENTITY x SYSTEM "file:///etc/passwd">]><r>&x;</r>',
    "parameter entity": b'<!DOCTYPE r [<!ENTITY % p SYSTEM "http://127.0.0.1:1/x"> %p;]><r/>',
    "deep": b"<a>" * 100_000 + b"</a>" * 100_000,
    "deep, not closed": b"<a>" * 100_000,
    "wide": b"<a>" + b"<b/>" * 200_000 + b"</a>",
    "huge": b"<a>" + b" " * (mark.MAX_PACKET + 1) + b"</a>",
    "attributes": b"<a " + b" ".join(b'a%d="b"' % i for i in range(50_000)) + b"/>",
    "zeros": b"\0" * 5000,
    "binary": bytes(range(256)) * 20,
    "utf-16": FOREIGN.decode("utf-8").encode("utf-16"),
    "other declaration": b'<?xml version="1.0" encoding="utf-7"?><r/>',
    "no rdf": b"<r/>",
    "rdf as text": b"rdf:RDF",
    "many steps": f'<r xmlns:rdf="{mark.RDF}" xmlns:v="{mark.OURS}"><v:steps>{"<rdf:li/>" * 5000}</v:steps></r>'.encode(),
    "nothing": b"",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_packets(name: str) -> None:
    start = time.process_time()
    assert mark.read(HOSTILE[name]) == Mark()
    packet, notes = mark.write([STEPS[0]], HOSTILE[name])
    assert mark.read(packet).steps == (STEPS[0],)
    assert bool(notes) == (name != "nothing")
    assert time.process_time() - start < 2


@pytest.mark.parametrize("format_", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("name", ["laughs", "external", "zeros", "no rdf"])
def test_hostile_packets_in_photos(format_: str, name: str, tmp_path: Path) -> None:
    found = Photo.decode(encoded(format_, HOSTILE[name]))
    assert found.history == ()
    found.edited(found.pixels, STEPS[0]).save(tmp_path / "a.png")
    assert Photo.open(tmp_path / "a.png").history == STEPS[:1]


@pytest.mark.parametrize(
    "settings", ['{"a": NaN}', "[1]", "null", "{", '{"a": {"b": 1}, "c": 2}', "[" * 50_000, '{"a": ' + "9" * 5000 + "}", "\u2028"]
)
def test_hostile_settings(settings: str) -> None:
    text = settings.replace("&", "&amp;").replace("<", "&lt;")
    packet = f"""<rdf:RDF xmlns:rdf="{mark.RDF}" xmlns:v="{mark.OURS}"><rdf:Description><v:steps><rdf:Seq><rdf:li>
        <v:verb>x</v:verb><v:settings>{text}</v:settings></rdf:li></rdf:Seq></v:steps></rdf:Description></rdf:RDF>"""
    (step,) = mark.read(packet.encode()).steps
    assert step.verb == "x"
    assert dict(step.settings) in ({}, {"c": 2}) or step.settings["a"] != step.settings["a"]


def test_too_much_for_a_jpeg(tmp_path: Path) -> None:
    long = photo().edited(photo().pixels, Step("makeup", settings={"text": "x" * 70_000}))
    assert long.save(tmp_path / "a.jpg") == ("the settings are too long for the metadata and were dropped",)
    assert Photo.open(tmp_path / "a.jpg").history == (Step("makeup"),)
    many = photo()
    for i in range(600):
        many = many.edited(many.pixels, Step("makeup", "lipstick", "0123456789ab", {"i": i, "finish": "glossy"}))
    assert "the oldest were dropped" in many.save(tmp_path / "b.jpg")[0]
    kept = Photo.open(tmp_path / "b.jpg").history
    assert kept == many.history[-len(kept) :]
    assert len(kept) >= 75
    foreign = FOREIGN.replace(b"BASE64FACE", b"").replace(b"<dc:creator>", b"<dc:a>" + b"y" * 80_000 + b"</dc:a><dc:creator>")
    found = Photo.decode(encoded("PNG", foreign))
    assert found.edited(found.pixels, STEPS[0]).save(tmp_path / "c.jpg")[0].startswith("the photo's own XMP metadata are too long")
    assert Photo.open(tmp_path / "c.jpg").history == STEPS[:1]


names = st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), max_size=30)
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**60), 2**60)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=30)
)


@given(
    st.lists(
        st.builds(Step, names, names, names, st.dictionaries(st.text(max_size=9), scalars, max_size=4)), min_size=1, max_size=4
    )
)
def test_whatever_is_written_is_read(steps: list[Step]) -> None:
    packet, notes = mark.write(steps)
    found = mark.read(packet).steps
    assert notes == ()
    assert [dict(s.settings) for s in found] == [dict(s.settings) for s in steps]


@given(st.binary(max_size=300))
def test_rubbish_is_no_mark(data: bytes) -> None:
    assert mark.read(data) == Mark()
    assert mark.write([], data)[0] == b"" or b"RDF" in data


@given(st.integers(0, len(FOREIGN) - 1), st.integers(0, 255))
def test_flipped_bytes(place: int, value: int) -> None:
    packet = bytearray(mark.write(STEPS, FOREIGN)[0])
    packet[place % len(packet)] = value
    mark.read(bytes(packet))
    assert mark.read(mark.write(STEPS, bytes(packet))[0]).steps == STEPS
