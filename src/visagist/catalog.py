"""The table: every system, the paper it comes from, the class that is its recipe; and the way from a name to networks.

Classes stand here as text and are imported on use, so that listing the systems needs no torch. To add a paper, add a row.
"""

from __future__ import annotations

import difflib
import json
import os
import threading
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, fields
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter, ValidationError

from visagist.errors import UsageError, WeightsError
from visagist.weights import device as devices
from visagist.weights import store
from visagist.weights.card import WeightsCard, summary

if TYPE_CHECKING:
    import torch

    from visagist.recipe import Networks, Recipe

Overrides = Mapping[str, Any]


@dataclass(frozen=True)
class System:
    """One row of the table.

    presets   name -> (recipe as "module:Class", its fields that differ from their defaults); the first is the default
    variants  of a system that comes with several weights: their names; "fast-style-starry-night" loads one; "" is the system's own
    """

    name: str
    verb: str
    paper: str
    presets: Mapping[str, tuple[str, Overrides]]
    variants: tuple[str, ...] = ()

    @property
    def default_preset(self) -> str:
        return next(iter(self.presets))

    @property
    def names(self) -> tuple[str, ...]:
        """What its weights are called: the system's name, or one for each variant."""
        return tuple(f"{self.name}-{variant}".rstrip("-") for variant in self.variants) or (self.name,)

    @property
    def files(self) -> dict[str, Path]:
        """The weights that came with the package, by name."""
        return {name: file for name in self.names if (file := store.path(name)).is_file()}

    @property
    def bundled(self) -> Path | None:
        """The first of them, if any."""
        return next(iter(self.files.values()), None)


PAINTINGS = ("starry-night", "the-scream", "shipwreck", "woman-with-hat")  # their pictures, and networks that paint like them
# Style transfer as the program style-transfer (fzliu, 2015) does it.
PROGRAM = {"iterations": 512, "guard": 0.0, "style_scale": 1.2, "gram": "seed", "balance": False, "method": "scipy"}
PROGRAM = {**PROGRAM, "memory": 8, "coarsest": 0, "detail": 0.0, "palette": 0.0, "smooth": 0.0, "ratio": 1e4}
BROUGHT = ("vgg19", "vgg16", "googlenet", "caffenet", "squeezenet1_1")  # feature networks whose weights a user brings
HEAD = {"vertices": 11248, "identities": 32, "expressions": 16}  # with ears, scalp and neck: rendered people are made of it
# How the CNN of the ladder trains in the presets `schedule` and `better`.
FASTER = {"batch": 64, "rate": 2e-3, "decay": 0.01, "falling": True, "mirror": True, "shift": 2, "average": 0.998}
LONGER = {**FASTER, "batch": 128, "epochs": 30, "shift": 4, "smoothing": 0.1, "held": 5000}

SYSTEMS: dict[str, System] = {
    row.name: row
    for row in (
        System(
            name="yolo",
            verb="detect",
            paper="Redmon, Divvala, Girshick, Farhadi: You Only Look Once: Unified, Real-Time Object Detection. CVPR 2016",
            presets={
                "face": ("visagist.detect.yolo_face:YoloFace", {}),
                "face-sheet": ("visagist.detect.yolo:YoloFaceSheet", {}),
                "paper": ("visagist.detect.yolo:Yolo", {}),
            },
        ),
        System(
            name="rcnn",
            verb="detect",
            paper="Girshick, Donahue, Darrell, Malik: Rich Feature Hierarchies for Accurate Object Detection. CVPR 2014",
            presets={"face": ("visagist.detect.rcnn:FaceRCNN", {}), "paper": ("visagist.detect.rcnn:RCNN", {})},
        ),
        System(
            name="fast-rcnn",
            verb="detect",
            paper="Girshick: Fast R-CNN. ICCV 2015",
            presets={"face": ("visagist.detect.fast_rcnn:FaceFastRCNN", {}), "paper": ("visagist.detect.fast_rcnn:FastRCNN", {})},
        ),
        System(
            name="faster-rcnn",
            verb="detect",
            paper="Ren, He, Girshick, Sun: Faster R-CNN: Towards Real-Time Object Detection. NeurIPS 2015",
            presets={
                "face": ("visagist.detect.faster_rcnn:FaceFasterRCNN", {}),
                "paper": ("visagist.detect.faster_rcnn:FasterRCNN", {}),
            },
        ),
        System(
            name="landmarks68",
            verb="landmarks",
            paper="own network; Sun, Xiao, Wei, Liang, Wei: Integral Human Pose Regression. ECCV 2018",
            presets={"default": ("visagist.landmarks.landmarks68:Landmarks68", {})},
        ),
        System(
            name="keypoint-cnn",
            verb="landmarks",
            paper="Kaggle: Facial Keypoints Detection (2013), three convolutions and three dense layers; own network as default",
            presets={
                "best": ("visagist.landmarks.keypoint_cnn:Keypoints", {}),
                "seed": ("visagist.landmarks.keypoint_cnn:SeedKeypoints", {}),
            },
        ),
        System(
            name="lipstick",
            verb="makeup",
            paper="Three-layer ELU fully convolutional network for lip colour (a training text without a publication, 2018)",
            presets={"residual": ("visagist.makeup.lipstick:Lipstick", {}), "seed": ("visagist.makeup.lipstick:SeedLipstick", {})},
        ),
        System(
            name="perceptual",
            verb="stylize",
            paper="own network; levelled as in Gatys, Ecker, Bethge: Texture Synthesis Using CNNs. NeurIPS 2015",
            presets={
                "both": ("visagist.stylize.perceptual:Perceptual", {}),
                "supervised": ("visagist.stylize.perceptual:Perceptual", {"large": 0, "small": 16}),
                "selfsupervised": ("visagist.stylize.perceptual:Perceptual", {"large": 2, "small": 0, "crop": 96}),
                "random": ("visagist.stylize.perceptual:Perceptual", {"steps": 0}),
            },
        ),
        System(
            name="gatys",
            verb="stylize",
            paper="Gatys, Ecker, Bethge: Image Style Transfer Using Convolutional Neural Networks. CVPR 2016",
            presets={
                "default": ("visagist.stylize.gatys:Gatys", {}),
                "seed": ("visagist.stylize.gatys:Gatys", PROGRAM),
                "demo": (
                    "visagist.stylize.gatys:Gatys",
                    PROGRAM | {"lengths": (360, 512), "counts": (32, 16), "ratios": (2e3, 2e4)},
                ),
            },
        ),
        System(
            name="features",
            verb="stylize",
            paper="VGG (ICLR 2015), GoogLeNet (CVPR 2015), CaffeNet (NeurIPS 2012), SqueezeNet 1.1 (2016); a user's own weights",
            presets={name: ("visagist.stylize.brought:FeatureNetwork", {"network": name}) for name in BROUGHT},
        ),
        System(
            name="fast-style",
            verb="stylize",
            paper="Johnson, Alahi, Fei-Fei: Perceptual Losses for Real-Time Style Transfer and Super-Resolution. ECCV 2016",
            presets={"default": ("visagist.stylize.fast_style:FastStyle", {})},
            variants=PAINTINGS,
        ),
        System(
            name="morphable",
            verb="rotate",
            paper="Blanz, Vetter: A Morphable Model for the Synthesis of 3D Faces. SIGGRAPH 1999",
            presets={"default": ("visagist.rotate.turn:MorphableTurn", {}), "head": ("visagist.rotate.turn:MorphableTurn", HEAD)},
            variants=("", "head"),
        ),
        System(
            name="texture",
            verb="rotate",
            paper="Blanz, Vetter: A Morphable Model for the Synthesis of 3D Faces. SIGGRAPH 1999: its texture vectors",
            presets={"default": ("visagist.rotate.texture:FaceTexture", {})},
        ),
        System(
            name="embedding",
            verb="recognize",
            paper="own network; Deng, Guo, Xue, Zafeiriou: ArcFace: Additive Angular Margin Loss. CVPR 2019",
            presets={
                "default": ("visagist.recognize.embedding:Embedding", {}),
                "mobile": ("visagist.recognize.embedding:Embedding", {"network": "mobile", "zoom": 1.0}),
            },
        ),
        System(
            name="shading",
            verb="rotate",
            paper="Kemelmacher-Shlizerman, Basri: 3D Face Reconstruction from a Single Image Using a Single Reference Face Shape. "
            "PAMI 2011",
            presets={"default": ("visagist.rotate.shading:Shading", {})},
        ),
        System(
            name="cifar-best",
            verb="classify",
            paper="own network; Jordan: 94% on CIFAR-10 Training in 3.29 Seconds on a Single GPU. arXiv:2404.00498, 2024",
            presets={"default": ("visagist.classify.cifar_best:Best", {})},
        ),
        System(
            name="cifar-cnn",
            verb="classify",
            paper="Convolutional networks on CIFAR-10 (a training text without a publication, 2018): its final network",
            presets={
                "seed": ("visagist.classify.cifar:Ladder", {"network": "convolutional"}),
                "schedule": ("visagist.classify.cifar:Ladder", {"network": "convolutional", **FASTER}),
                "better": ("visagist.classify.cifar:Ladder", {"network": "convolutional", **LONGER}),
            },
        ),
        System(
            name="cifar-conv2",
            verb="classify",
            paper="Convolutional networks on CIFAR-10 (a training text without a publication, 2018): its first network",
            presets={"seed": ("visagist.classify.cifar:Ladder", {"network": "two-convolutions"})},
        ),
        System(
            name="cifar-dense",
            verb="classify",
            paper="Foster: Generative Deep Learning, chapter 2. O'Reilly 2019: the dense network that convolution is compared with",
            presets={"seed": ("visagist.classify.cifar:Ladder", {"network": "dense"})},
        ),
    )
}


@dataclass(frozen=True, eq=False)
class Loaded:
    """A system ready for use. Shared by everybody who asks for it: read only.

    recipe  the settings the networks were trained with; has the method of its verb (`recipe.detect(nets, photo, ...)`)
    nets    the shipped networks on `device`, frozen, see `weights.device.prepare`
    """

    system: System
    recipe: Any
    nets: Networks
    card: WeightsCard
    device: torch.device
    file: Path

    def inference(self) -> AbstractContextManager[object]:
        """The context in which a verb uses the networks: nothing is recorded for gradients."""
        import torch

        return torch.inference_mode()

    @property
    def half(self) -> bool:
        """Whether bfloat16 is quicker than float32 where the networks are."""
        return devices.quick_bfloat16(self.device)

    @property
    def available(self) -> float:
        """Bytes of memory that are free there, less a reserve."""
        return devices.available(self.device)


def system(name: str) -> System:
    """The row of this name. UsageError "unknown-system" that names the nearest ones."""
    if name in SYSTEMS:
        return SYSTEMS[name]
    near = difflib.get_close_matches(name, SYSTEMS, n=3)
    hint = f"did you mean {' or '.join(near)}?" if near else "there are " + ", ".join(SYSTEMS)
    raise UsageError(f"there is no system {name[:60]!r}", code="unknown-system", hint=hint)


def _preset(row: System, preset: str | None) -> tuple[str, Overrides]:
    name = row.default_preset if preset is None else preset
    if name not in row.presets:
        hint = "there are " + ", ".join(row.presets)
        raise UsageError(f"{row.name} has no preset {name[:60]!r}", code="unknown-preset", hint=hint)
    return row.presets[name]


def recipe_class(name: str, preset: str | None = None) -> type[Recipe]:
    """The class behind a system and preset (default the first); imports its room."""
    module, _, attribute = _preset(system(name), preset)[0].partition(":")
    found: type[Recipe] = getattr(import_module(module), attribute)
    return found


def recipe(name: str, preset: str | None = None, **settings: Any) -> Recipe:
    """The recipe of a system: the preset's settings, changed by these. UsageError "bad-setting" for what does not fit the class."""
    cls = recipe_class(name, preset)
    try:
        return _made(cls, {**_preset(system(name), preset)[1], **settings})
    except ValueError as error:
        raise UsageError(f"{name}: {error}", code="bad-setting") from None


def settings_of(recipe: Recipe, preset: str) -> dict[str, Any]:
    """What the card keeps of a recipe, ready for JSON: the preset and every field."""
    made: dict[str, Any] = json.loads(json.dumps({"preset": preset, **asdict(recipe)}))
    return made


def _made(cls: type[Recipe], settings: Overrides) -> Recipe:
    """An instance of the class from settings as JSON has them (lists for tuples). ValueError in one line when they do not fit.

    A field that the settings lack takes its default: recipes grow, and a new field's default is what was done before it.
    """
    known = [field.name for field in fields(cls)]
    unknown = [name for name in settings if name not in known]
    if unknown:
        raise ValueError(f"{cls.__name__} has no setting {', '.join(name[:40] for name in unknown[:3])}")
    try:
        return TypeAdapter(cls).validate_json(json.dumps(dict(settings)), strict=True)
    except ValidationError as error:
        raise ValueError(summary(error)) from None


_cache: dict[tuple[Path, str], tuple[tuple[int, ...], Loaded]] = {}
_lock = threading.RLock()


def load(name: str | os.PathLike[str], device: str = "auto", *, verb: str | None = None) -> Loaded:
    """A system ready for use, by its name (the bundled weights), or by the path of a weights file or run folder.

    A name of the table wins over a path; write "./yolo" for a folder of that name. Kept: asking again for the same, unchanged
    file and device costs nothing. verb: what the system must be able to do. UsageError: unknown-system, wrong-verb, no-device;
    WeightsError: whatever can be wrong with a file.
    """
    where = devices.choose(device)
    file = _file_of(name, verb)
    state = tuple(v for p in (file, file.with_suffix(".json")) if p.exists() for v in (p.stat().st_mtime_ns, p.stat().st_size))
    key = file.resolve(), str(where)
    with _lock:  # two threads that ask at once get one copy
        if key not in _cache or _cache[key][0] != state:
            _cache[key] = state, _read(file, where)
        loaded = _cache[key][1]
    _check_verb(loaded.system, verb, str(name))
    return loaded


def features(name: str | os.PathLike[str], device: str = "auto") -> Loaded:
    """A feature network under the net name "features", by name, path or run folder. WeightsError, UsageError "wrong-verb"."""
    text = os.fspath(name)
    if text in BROUGHT and not os.path.exists(text):
        text = f"./{text}{store.SUFFIX}"
        if not os.path.isfile(text):
            hint = f"make it with `visagist convert FILE --network {name}`, or name another place with --features PATH"
            raise WeightsError(f"the weights of {name} do not come with visagist", code="missing", path=text, hint=hint)
    loaded = load(text, device, verb="stylize")
    if "features" not in loaded.nets:
        hint = f"choose perceptual, {', '.join(BROUGHT)}, or a weights file of one of them"
        raise UsageError(f"{os.fspath(name)[:80]} is {loaded.system.name}, not a feature network", code="wrong-verb", hint=hint)
    return loaded


def painting(name: object) -> Path | None:
    """The picture of the painting of this name; None for another name, or where there is a file of this name."""
    known = isinstance(name, str) and name in PAINTINGS and not os.path.exists(name)
    return Path(__file__).parent / "stylize" / "paintings" / f"{name}.jpg" if known else None


def forget() -> None:
    """Drop all networks that `load` keeps; their memory goes when nobody else uses them."""
    with _lock:
        _cache.clear()


def _file_of(name: str | os.PathLike[str], verb: str | None) -> Path:
    text = os.fspath(name)
    row = next((row for row in SYSTEMS.values() if text == row.name or text in row.names), None)
    if row is not None:
        _check_verb(row, verb, text)
        file = row.bundled if text == row.name else row.files.get(text)
        if file is None:
            hint = f"train it with `visagist train {row.name} --data PATH --out RUN` and name the run folder instead"
            raise WeightsError(f"no weights for {text} came with this version", code="missing", hint=hint)
        return file
    if os.path.exists(text) or os.sep in text or text.endswith(store.SUFFIX):
        return store.find(text)
    system(text)
    raise AssertionError("unreachable: an unknown name raises")


def _check_verb(row: System, verb: str | None, asked: str) -> None:
    if verb is not None and row.verb != verb:
        fitting = ", ".join(other.name for other in SYSTEMS.values() if other.verb == verb)
        what = f"{asked[:80]} is {row.name}, a system for {row.verb}, not for {verb}"
        raise UsageError(what, code="wrong-verb", hint=f"for {verb} there are: {fitting}")


def _read(file: Path, where: torch.device) -> Loaded:
    tensors, card = store.read(file)
    if card.system not in SYSTEMS:
        what = f"the weights are for {card.system[:60]!r}, a system this version does not know"
        raise WeightsError(what, code="wrong-system", path=file)
    recipe = _recipe_of(card, file)
    try:
        nets = _fitting(recipe, tensors, file)
    except (RuntimeError, ValueError, ArithmeticError) as error:
        raise WeightsError(f"the card's settings make no network ({error})", code="wrong-settings", path=file) from None
    for prefix, net in nets.items():
        own = {name.removeprefix(prefix + "."): value for name, value in tensors.items() if name.startswith(prefix + ".")}
        net.load_state_dict(own, strict=True)
        devices.prepare(net, where, exact=recipe.exact)
    return Loaded(SYSTEMS[card.system], recipe, nets, card, where, file)


def _fitting(recipe: Recipe, tensors: Mapping[str, torch.Tensor], file: Path) -> Networks:
    """The recipe's networks, to which these tensors belong. WeightsError "wrong-shape"."""
    import torch

    try:
        with torch.device("meta"):  # nothing is allocated before names and shapes are known to fit: a card may lie about sizes
            problems = store.compare(_shipped(recipe), tensors)
    except RuntimeError:  # a network that computes while it is built needs memory to be built
        problems = []
    if not problems:
        with torch.random.fork_rng(devices=[]):  # networks draw their first weights; loading must not disturb anybody's seed
            nets = _shipped(recipe)
        problems = store.compare(nets, tensors)
    if problems:
        raise store.mismatch(problems, file)
    return nets


def _recipe_of(card: WeightsCard, file: Path) -> Recipe:
    """The recipe as the card tells it."""
    settings = dict(card.settings)
    row = SYSTEMS[card.system]
    preset = settings.pop("preset", "") or row.default_preset  # a recipe made in Python need not be a preset
    if not isinstance(preset, str) or preset not in row.presets:
        hint = f"{row.name} has " + ", ".join(row.presets)
        raise WeightsError(f"the card names the preset {str(preset)[:40]!r}", code="wrong-settings", path=file, hint=hint)
    try:
        return _made(recipe_class(row.name, preset), settings)
    except ValueError as error:
        raise WeightsError(f"the card's settings do not fit: {error}", code="wrong-settings", path=file) from None


def _shipped(recipe: Recipe) -> Networks:
    nets = recipe.networks()
    return {name: nets[name] for name in recipe.ships or tuple(nets)}
