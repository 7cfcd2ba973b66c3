"""The contract between a paper and the training ground: Recipe, Stage, Run, Item.

A paper's file subclasses `Recipe`; `visagist.training` trains any recipe and knows nothing of any paper. What a recipe may
rely on: `example` and `compose` are called with a generator that follows from (seed, stage, step, position) alone, torch's own
generator is set from (seed, stage, step) before every step, and so a stopped and resumed run equals a straight one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    import numpy as np
    import torch
    from torch import Tensor, nn

    from visagist.photo.face import Face
    from visagist.photo.photo import Photo

Batch = dict[str, "Tensor"]
Scalars = dict[str, float]
Networks = dict[str, "nn.Module"]
Optimizers = dict[str, "torch.optim.Optimizer"]


@dataclass(frozen=True, eq=False)
class Item:
    """One neutral thing of a data set, as the readers in `training.data` give it. What is not known is empty.

    name    the file it came from, for messages and for splitting
    photo   decoded on first use
    faces   labelled faces; `complete` says whether they are all the faces there are (outside their boxes one may hide)
    label   class index of the whole picture
    targets other pictures of the same thing by name (for lips: "glazed", "glossy")
    facts   attribute columns of the data set, as numbers or text
    person  who it is, for splits by person
    arrays  what is no picture: vertices of a mesh
    """

    name: str
    load: Callable[[], Photo]
    faces: tuple[Face, ...] = ()
    complete: bool = True
    label: int | None = None
    targets: Mapping[str, Callable[[], Photo]] = field(default_factory=dict)
    facts: Mapping[str, float | str] = field(default_factory=dict)
    person: str | None = None
    arrays: Mapping[str, np.ndarray] = field(default_factory=dict)

    @property
    def photo(self) -> Photo:
        """The photo; readers that keep pictures in memory give the same object every time."""
        return self.load()


@dataclass(frozen=True)
class Tools:
    """What a recipe is handed from outside its room: `Run.tools` in a training, an argument of `Recipe.measure`.

    metrics   the module `visagist.training.metrics`
    finder    finds faces in a photo, or None while no finder is at hand (during training)
    lent      networks of other systems, frozen and ready for use, by the field that names the system (`Recipe.borrows`)
    pictures  photos by the field that names their file (`Recipe.looks_at`)
    """

    metrics: Any
    finder: Callable[[Photo], tuple[Face, ...]] | None = None
    lent: Mapping[str, Networks] = field(default_factory=dict)
    pictures: Mapping[str, Photo] = field(default_factory=dict)


def constant(progress: float) -> float:
    """Learning-rate schedule: none."""
    return 1.0


@dataclass(frozen=True)
class Stage:
    """One phase of a training: which networks learn, how, for how long. Either `step` or `fit` is given.

    trains      names of the networks that learn; all others are frozen (no gradient, eval mode)
    step        (run, batch) -> scalars for the log; calls `run.update(...)` itself
    fit         (run, items) -> scalars, for what needs no loop (PCA, ridge, SVM)
    optimizers  networks -> named optimizers, made afresh when the stage begins
    enter       changes the networks when the stage begins (growing nets); repeated on resume before weights are loaded.
                What changes later than that must be a parameter or a buffer: the checkpoint holds nothing else
    batch       examples per step
    steps       length in steps
    epochs      length in passes over the items instead, 0 for `steps`; it is measured after every pass then
    schedule    progress in [0, 1] -> factor on every learning rate
    average     decay of a moving average of the trained networks, 0 for none; the average is what is measured and shipped.
                Young averages follow faster: the decay is min(average, (1 + step) / (10 + step)). Parameters and running
                statistics are averaged, other buffers copied
    clip        largest norm of the gradient in `run.update`, 0 for none
    watch       metric of `Recipe.measure` to keep the best weights by (smaller is better), "" for the last weights
    patience    stop after this many measurements without improvement of `watch`, 0 for never
    measure     measures the networks of this stage where `Recipe.measure` only fits the finished ones (same arguments after
                the recipe)
    hand_on     whether the next stage goes on from the weights that this one would ship (best, else average); False: from
                the last ones, as growing GANs do
    """

    name: str
    trains: tuple[str, ...]
    step: Callable[[Run, Batch], Mapping[str, Tensor | float]] | None = None
    fit: Callable[[Run, Sequence[Item]], Scalars] | None = None
    optimizers: Callable[[Networks], Optimizers] | None = None
    enter: Callable[[Networks], None] | None = None
    batch: int = 1
    steps: int = 1
    epochs: int = 0
    schedule: Callable[[float], float] = constant
    average: float = 0.0
    clip: float = 0.0
    watch: str = ""
    patience: int = 0
    measure: Callable[[Mapping[str, nn.Module], Sequence[Item], Tools], dict[str, float]] | None = None
    hand_on: bool = True

    def __post_init__(self) -> None:
        if (self.step is None) == (self.fit is None):
            raise ValueError(f"stage {self.name}: give either step or fit")
        if self.step is not None and self.optimizers is None:
            raise ValueError(f"stage {self.name}: a step needs optimizers")

    def over(self, count: int) -> Stage:
        """The same stage with its length in steps, for a training on `count` items."""
        return replace(self, steps=max(1, round(self.epochs * count / self.batch))) if self.epochs else self


@dataclass(frozen=True)
class Recipe:
    """A paper's settings, each written once, and everything that follows from them.

    Subclasses are frozen dataclasses whose fields are scalars, strings or tuples of them; a comment at each field names its
    symbol in the paper. Options of `visagist train` and the settings on the weights card are generated from the fields.
    """

    needs: ClassVar[tuple[str, ...]] = ()  # labels without which an item is of no use: "box", "points", "label", or a target's name
    ships: ClassVar[tuple[str, ...]] = ()  # names of the networks that go into the weights file
    bits: ClassVar[int] = 16  # of large tensors in the weights file, or 8 where that does not show
    exact: ClassVar[bool] = False  # True: in use its networks run in float32 also where bfloat16 is quicker
    borrows: ClassVar[tuple[str, ...]] = ()  # fields that name another system, or its weights: a training is lent its networks
    looks_at: ClassVar[tuple[str, ...]] = ()  # fields that name a picture file which a training is shown

    def networks(self) -> Networks:
        """The networks, freshly initialised from torch's current random state."""
        raise NotImplementedError

    def stages(self) -> tuple[Stage, ...]:
        """The phases of the training, in order."""
        raise NotImplementedError

    def suited(self, items: Sequence[Item]) -> Recipe:
        """The recipe for what these items show, asked for before a training; a classifier takes its classes from them."""
        return self

    def split(self, items: Sequence[Item], validation: Sequence[Item]) -> tuple[Sequence[Item], Sequence[Item]]:
        """What is learnt from and what is measured on meanwhile. `validation` is empty where the data have no folds; a recipe that
        needs some, to end early, holds items back here."""
        return items, validation

    def compose(self, items: Sequence[Item], index: int, rng: np.random.Generator) -> Item:
        """The neutral item behind example `index` (0 <= index < len(items)); detectors compose a scene of several."""
        return items[index]

    def example(self, item: Item, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """One item as arrays, augmentation included; pure. Arrays of one key stack to a batch."""
        raise NotImplementedError

    def preview(self, run: Run, batch: Batch) -> np.ndarray | None:
        """A sheet for the run folder: uint8 [H, W, 3], or None."""
        return None

    def measure(self, nets: Mapping[str, nn.Module], items: Sequence[Item], tools: Tools) -> dict[str, float]:
        """Figures on items the training has not seen, counts included (`n...`)."""
        return {}

    def counted(self, metric: str) -> str:
        """Which of the counts that `measure` gives stands behind this figure, for the weights card."""
        return "n"


@dataclass
class Run:
    """The state of a training: the only mutable thing. Made and advanced by `training.loop`; a step reads and updates it."""

    nets: Networks
    optimizers: Optimizers
    stage: Stage
    step: int
    device: torch.device
    precision: str = "fp32"
    backpropagate: Callable[[Tensor], None] | None = None  # Fabric's backward; plain .backward() when None
    mean: Callable[[Tensor], Tensor] | None = None  # mean of a tensor over the processes of the training; None where there is one
    tools: Tools = field(default_factory=lambda: Tools(None))

    @property
    def progress(self) -> float:
        """How much of the stage is done, in [0, 1)."""
        return self.step / max(1, self.stage.steps)

    def autocast(self) -> Any:
        """Context in which networks run in the run's precision (bfloat16 where it is "bf16"); losses belong outside, in float32."""
        import torch

        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16")

    def backward(self, loss: Tensor) -> None:
        """Add the gradient of a loss; a paper that accumulates calls this several times and then `apply`."""
        if self.backpropagate is not None:
            self.backpropagate(loss)
        else:
            loss.backward()  # type: ignore[no-untyped-call]

    def apply(self, name: str) -> None:
        """Average over the processes, clip, step and zero the optimizer `name`."""
        import torch

        optimizer = self.optimizers[name]
        self._share(optimizer)
        if self.stage.clip > 0:
            parameters = [p for group in optimizer.param_groups for p in group["params"]]
            torch.nn.utils.clip_grad_norm_(parameters, self.stage.clip)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    def update(self, name: str, loss: Tensor) -> None:
        """One step of optimizer `name` down this loss: zero, backward, clip, step."""
        self.optimizers[name].zero_grad(set_to_none=True)
        self.backward(loss)
        self.apply(name)

    def minimize(self, name: str, loss: Callable[[], Tensor]) -> Tensor:
        """One step of an optimizer that evaluates the loss several times (L-BFGS); returns the loss before the step.

        L-BFGS wants contiguous parameters: the loop gives only convolution weights the channels_last layout, never pictures.
        """
        optimizer = self.optimizers[name]

        def closure() -> Tensor:
            optimizer.zero_grad(set_to_none=True)
            value = loss()
            self.backward(value)
            self._share(optimizer)
            return value if self.mean is None else self.mean(value.detach())

        first: Tensor = optimizer.step(closure)  # type: ignore[arg-type, assignment]
        optimizer.zero_grad(set_to_none=True)
        return first

    def _share(self, optimizer: torch.optim.Optimizer) -> None:
        """Average the gradients over the processes. Done here and not by a wrapper around the networks, because that refuses
        gradient penalties (torch.autograd.grad) and networks of which a step uses a part."""
        if self.mean is None:
            return
        import torch

        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        used = self.mean(torch.tensor([float(p.grad is not None) for p in parameters], device=self.device)) > 0
        parameters = [p for p, somewhere in zip(parameters, used.tolist(), strict=True) if somewhere]
        if not parameters:
            return
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        flat = self.mean(torch.cat([g.flatten() for g in gradients]))
        for p, part in zip(parameters, torch.split(flat, [p.numel() for p in parameters]), strict=True):
            p.grad = part.view(p.shape).clone()

    @contextmanager
    def frozen(self, *names: str) -> Iterator[None]:
        """Networks that the loss passes through without learning; their parameters get no gradient inside."""
        parameters = [p for name in names for p in self.nets[name].parameters() if p.requires_grad]
        for p in parameters:
            p.requires_grad_(False)
        try:
            yield
        finally:
            for p in parameters:
                p.requires_grad_(True)
