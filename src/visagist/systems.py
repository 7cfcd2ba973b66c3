"""The table: every system, the paper it comes from, the class that is its recipe.

Classes stand here as text and are imported on use (by `catalog`): listing the systems needs no torch. To add a paper, add a row.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from visagist.weights import store

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


PEOPLE = ("", "rendered")  # learnt from photographs too, or from rendered people alone: weights without anybody's terms
PAINTINGS = ("starry-night", "the-scream", "shipwreck", "woman-with-hat")  # their pictures, and networks that paint like them
# Style transfer as the program style-transfer (fzliu, 2015) does it.
PROGRAM = {"iterations": 512, "guard": 0.0, "style_scale": 1.2, "gram": "seed", "balance": False, "method": "scipy"}
PROGRAM = {**PROGRAM, "memory": 8, "coarsest": 0, "capped": False, "detail": 0.0, "palette": 0.0, "smooth": 0.0, "ratio": 1e4}
BROUGHT = ("vgg19", "vgg16", "googlenet", "caffenet", "squeezenet1_1")  # feature networks whose weights a user brings
HEAD = {"vertices": 11248, "identities": 32, "expressions": 16}  # with ears, scalp and neck: rendered people are made of it
EMBEDDING = "visagist.recognize.embedding:Embedding"
# How the CNN of the ladder trains in the presets `schedule` and `better`.
FASTER = {"batch": 64, "rate": 2e-3, "decay": 0.01, "falling": True, "mirror": True, "shift": 2, "average": 0.998}
LONGER = {**FASTER, "batch": 128, "epochs": 45, "smoothing": 0.02, "held": 5000, "mirrored": True}

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
            variants=PEOPLE,
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
            variants=PEOPLE,
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
            verb="people",
            paper="Blanz, Vetter: A Morphable Model for the Synthesis of 3D Faces. SIGGRAPH 1999: its texture vectors",
            presets={"default": ("visagist.rotate.texture:FaceTexture", {})},
        ),
        System(
            name="embedding",
            verb="recognize",
            paper="own network; Deng, Guo, Xue, Zafeiriou: ArcFace: Additive Angular Margin Loss. CVPR 2019",
            presets={
                "default": ("visagist.recognize.maps:FromMaps", {}),
                "pooled": (EMBEDDING, {}),
                "mobile": (EMBEDDING, {"network": "mobile", "zoom": 1.0}),
                "light-cnn": (EMBEDDING, {"network": "light-cnn", "window": 128, "zoom": 1.0, "dropout": 0.7, "rate": 0.01}),
                "deep": (EMBEDDING, {"network": "deep", "zoom": 1.0, "dimensions": 512}),
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
