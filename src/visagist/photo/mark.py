"""The mark: what a picture's XMP metadata say about how it was made, written and read back.

Every picture that visagist edits carries the IPTC digital source type of what was done to it and a list of steps in a
namespace of our own. XMP that a photo brought along is kept around them, less what is no longer true of the new pixels.

What is read comes from strangers: packets with a document type (hence with entities), deep nesting or great length count as
unreadable, and nothing here raises on them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from xml.dom import minidom
from xml.parsers import expat

Scalar = str | int | float | bool | None

OURS = "urn:visagist:steps:1#"
RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
IPTC = "http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
TIFF = "http://ns.adobe.com/tiff/1.0/"
XMLNS = "http://www.w3.org/2000/xmlns/"

SOURCE_TYPES = "http://cv.iptc.org/newscodes/digitalsourcetype/"
# From the weakest claim to the strongest: a list of steps is described by its strongest, and so is a photo that says something
# stronger of itself than our steps do.
STRENGTH = (
    "algorithmicallyEnhanced",
    "compositeCapture",
    "algorithmicMedia",
    "compositeWithTrainedAlgorithmicMedia",
    "trainedAlgorithmicMedia",
)

MAX_PACKET = 1 << 20  # bytes of XMP that are looked at
MAX_DEPTH, MAX_NODES, MAX_STEPS, MAX_TEXT = 64, 20_000, 500, 4096

# No longer true of edited, upright pixels, or holding a picture of the face before: orientation, thumbnails, gain maps, motion.
_STALE = {
    (TIFF, "Orientation"),
    ("http://ns.adobe.com/xap/1.0/", "Thumbnails"),
    ("http://ns.adobe.com/xmp/note/", "HasExtendedXMP"),
}
_STALE_SPACES = {
    OURS,
    "http://ns.adobe.com/hdr-gain-map/1.0/",
    "http://ns.google.com/photos/1.0/container/",
    "http://ns.google.com/photos/1.0/camera/",
}
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True)
class Step:
    """One thing done to a photo.

    verb      the command: "makeup"
    system    what did it: "lipstick"
    weights   first 12 hexadecimal digits of the weights' SHA-256, "" where no network was at work
    settings  what it was told, scalars only
    """

    verb: str
    system: str = ""
    weights: str = ""
    settings: Mapping[str, Scalar] = field(default_factory=dict)

    @property
    def source_type(self) -> str:
        """The IPTC term for a picture after this step, without its address.

        Pictures out of nothing are trainedAlgorithmicMedia, rendered people algorithmicMedia; a photo that a network changed is
        compositeWithTrainedAlgorithmicMedia; faces exchanged by geometry alone are compositeCapture; a photo changed by plain
        arithmetic, or drawn on, is algorithmicallyEnhanced.
        """
        if self.verb == "generate":
            return "trainedAlgorithmicMedia"
        if self.verb == "people":
            return "algorithmicMedia"
        if self.verb in ("detect", "landmarks", "classify", "recognize"):
            return "algorithmicallyEnhanced"  # boxes and points drawn on a copy, the face itself untouched
        if self.weights:
            return "compositeWithTrainedAlgorithmicMedia"
        return "compositeCapture" if self.verb == "swap" else "algorithmicallyEnhanced"


@dataclass(frozen=True)
class Mark:
    """What a packet says: our steps in order, and the digital source type (its last word), "" if none."""

    steps: tuple[Step, ...] = ()
    source_type: str = ""


class _Unreadable(Exception):
    """The packet is not XMP that we are willing to walk through."""


def read(packet: bytes) -> Mark:
    """The mark in an XMP packet; an empty one where there is none or the packet is damaged or hostile."""
    try:
        return _Reader(_text(packet)).mark()
    except _Unreadable:
        return Mark()


def write(steps: Sequence[Step], kept: bytes = b"", *, limit: int = MAX_PACKET) -> tuple[bytes, tuple[str, ...]]:
    """The XMP packet for a picture made by these steps from a photo that carried the packet `kept`.

    limit  largest packet in bytes (JPEG holds 65,502)
    Returns the packet, b"" when there is nothing to say, and notes on what could not be kept.
    """
    notes: tuple[str, ...] = ()
    if kept:
        try:
            packet = _merged(steps, _text(kept))
        except _Unreadable:
            notes = ("the photo's own XMP metadata are damaged and were dropped",)
        else:
            if len(packet) <= limit:
                return packet, notes
            notes = ("the photo's own XMP metadata are too long for the format and were dropped",)
    while steps:
        packet = _merged(steps, _EMPTY)
        if len(packet) <= limit:
            return packet, notes
        if len(steps) == 1:  # keep who did it and drop how
            packet = _merged([Step(steps[0].verb[:80], steps[0].system[:80], steps[0].weights[:64])], _EMPTY)
            return packet, (*notes, "the settings are too long for the metadata and were dropped")
        steps = steps[-(len(steps) // 2) :]
        notes = (*notes, "the list of steps is too long for the metadata; the oldest were dropped")
    return b"", notes


_EMPTY = f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="{RDF}"></rdf:RDF></x:xmpmeta>'


def _text(packet: bytes) -> str:
    if len(packet) > MAX_PACKET:
        raise _Unreadable
    try:
        return packet.decode("utf-8-sig").strip("\0 \r\n\t")
    except UnicodeDecodeError as error:
        raise _Unreadable from error


class _Reader:
    """Walks a packet once with expat, within the limits above."""

    def __init__(self, text: str) -> None:
        self.path: list[str] = []
        self.nodes = 0
        self.found: list[dict[str, str]] = []
        self.source = ""
        self.inside = 0  # depth of the list item being read, 0 outside
        parser = expat.ParserCreate(namespace_separator="\n")
        parser.buffer_text = True
        parser.StartDoctypeDeclHandler = self._refuse
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._characters
        try:
            parser.Parse(text.encode(), True)
        except (expat.ExpatError, ValueError) as error:
            raise _Unreadable from error

    def mark(self) -> Mark:
        steps = [
            Step(f.get("verb", ""), f.get("system", ""), f.get("weights", ""), _settings(f.get("settings", ""))) for f in self.found
        ]
        source = self.source.strip()
        return Mark(tuple(steps), source.removeprefix(SOURCE_TYPES) if source.startswith(SOURCE_TYPES) else "")

    def _refuse(self, *_: object) -> None:
        raise _Unreadable

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        self.nodes += 1
        self.path.append(name)
        if len(self.path) > MAX_DEPTH or self.nodes > MAX_NODES:
            raise _Unreadable
        if not self.inside and name == f"{RDF}\nli" and f"{OURS}\nsteps" in self.path:
            if len(self.found) >= MAX_STEPS:
                raise _Unreadable
            self.inside = len(self.path)
            self.found.append({})
        if name == f"{IPTC}\nDigitalSourceType":
            self.source = attributes.get(f"{RDF}\nresource", "")
        for key, value in attributes.items():
            if key == f"{IPTC}\nDigitalSourceType":
                self.source = value[:MAX_TEXT]
            elif self.inside and key.startswith(f"{OURS}\n"):
                self._take(key, value)

    def _end(self, name: str) -> None:
        if len(self.path) == self.inside:
            self.inside = 0
        self.path.pop()

    def _characters(self, text: str) -> None:
        name = self.path[-1]
        if self.inside and name.startswith(f"{OURS}\n"):
            self._take(name, text)
        elif name == f"{IPTC}\nDigitalSourceType" and len(self.source) < MAX_TEXT:
            self.source += text[:MAX_TEXT]

    def _take(self, name: str, text: str) -> None:
        step, key = self.found[-1], name.partition("\n")[2]
        if len(step) < 8 and len(step.get(key, "")) < MAX_TEXT:
            step[key] = (step.get(key, "") + text)[:MAX_TEXT]


def _settings(text: str) -> dict[str, Scalar]:
    try:
        read = json.loads(text) if text else {}
    except (ValueError, RecursionError):
        return {}
    if not isinstance(read, dict):
        return {}
    return {str(k): v for k, v in read.items() if v is None or isinstance(v, (str, int, float, bool))}


def _merged(steps: Sequence[Step], text: str) -> bytes:
    """The packet `text` less what is stale, plus the steps. Prefixes and order of what is kept stay as they were."""
    before = _Reader(text)  # refuses what minidom would choke on
    try:
        document = minidom.parseString(text.encode())
    except (expat.ExpatError, ValueError) as error:
        raise _Unreadable from error
    root = document.documentElement
    if root is None:
        raise _Unreadable
    lists = root.getElementsByTagNameNS(RDF, "RDF") if root.namespaceURI != RDF else [root]
    if not lists or lists[0].localName != "RDF":
        raise _Unreadable
    _drop_stale(lists[0], drop_source=bool(steps))
    if steps:
        lists[0].appendChild(_description(document, steps, before.mark().source_type))
    head, tail = '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>', '<?xpacket end="w"?>'
    body: str = root.toxml()
    return f"{head}\n{body}\n{tail}".encode()


def _drop_stale(rdf: minidom.Element, *, drop_source: bool) -> None:
    def stale(node: minidom.Node) -> bool:
        name = (node.namespaceURI, node.localName)
        return name in _STALE or name[0] in _STALE_SPACES or (drop_source and name == (IPTC, "DigitalSourceType"))

    for description in list(rdf.childNodes):
        if description.nodeType != minidom.Node.ELEMENT_NODE:
            continue
        for attribute in list(description.attributes.values()):
            if stale(attribute):
                description.removeAttributeNode(attribute)
        gone = False
        for child in list(description.childNodes):
            if child.nodeType == minidom.Node.ELEMENT_NODE and stale(child):
                description.removeChild(child)
                gone = True
        names = [a for a in description.attributes.values() if a.namespaceURI != XMLNS and a.localName != "about"]
        if gone and not names and not any(c.nodeType == minidom.Node.ELEMENT_NODE for c in description.childNodes):
            rdf.removeChild(description)


def _description(document: minidom.Document, steps: Sequence[Step], before: str) -> minidom.Element:
    claims = [step.source_type for step in steps]
    claims += [before] if before in STRENGTH else []

    def node(name: str, *children: minidom.Element, text: str = "", **attributes: str) -> minidom.Element:
        element: minidom.Element = document.createElement(name)
        for key, value in attributes.items():
            element.setAttribute(key.replace("__", ":"), value)
        for child in children:
            element.appendChild(child)
        if text:
            element.appendChild(document.createTextNode(_NOT_XML.sub("\ufffd", text)))
        return element

    def item(step: Step) -> minidom.Element:
        fields = {"verb": step.verb, "system": step.system, "weights": step.weights, "settings": _json(step.settings)}
        return node("rdf:li", *(node(f"visagist:{k}", text=v) for k, v in fields.items() if v), rdf__parseType="Resource")

    return node(
        "rdf:Description",
        node("Iptc4xmpExt:DigitalSourceType", text=SOURCE_TYPES + max(claims, key=STRENGTH.index)),
        node("visagist:steps", node("rdf:Seq", *(item(step) for step in steps))),
        rdf__about="",
        xmlns__rdf=RDF,
        xmlns__Iptc4xmpExt=IPTC,
        xmlns__visagist=OURS,
    )


def _json(settings: Mapping[str, Scalar]) -> str:
    plain = {k: v if v is None or isinstance(v, (str, int, float, bool)) else str(v) for k, v in settings.items()}
    return json.dumps(plain) if plain else ""
