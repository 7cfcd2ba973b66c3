"""Examples for a stage, in an order that follows from the seed alone, made in other processes."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from visagist.errors import TrainingError, VisagistError
from visagist.recipe import Batch, Item, Recipe

Key = tuple[int, int, int]  # step, position, index of the item


def batches(
    recipe: Recipe,
    items: Sequence[Item],
    *,
    seed: int,
    stage: int,
    batch: int,
    first: int,
    last: int,
    workers: int = 0,
    rank: int = 0,
    world: int = 1,
    pin: bool = False,
) -> Iterator[Batch]:
    """The batches of steps first..last-1. Position p = step * batch + i takes the (p mod n)-th item of a fresh shuffle per epoch;
    process `rank` of `world` makes the positions that leave this remainder.

    workers  processes that make examples, 0 for none
    pin      whether the batches go to a CUDA device
    TrainingError (bad-data) names the item whose example could not be made.
    """
    if first >= last:
        return
    context = None
    if workers > 0 and "fork" in multiprocessing.get_all_start_methods():
        context = "fork"  # items stay shared with this process and need not be picklable
    loader = DataLoader(
        _Examples(recipe, items, seed, stage),
        batch_sampler=_Order(len(items), seed, stage, batch, first, last, rank, world),
        num_workers=workers,
        worker_init_fn=_quiet_worker if workers else None,
        collate_fn=_collate,
        multiprocessing_context=context if workers else None,
        prefetch_factor=3 if workers else None,
        pin_memory=pin,
    )
    for made in loader:
        if isinstance(made, str):
            raise TrainingError(made, code="bad-data")
        yield made


@dataclass(frozen=True)
class _Order:
    """Keys of the examples, batch by batch."""

    count: int
    seed: int
    stage: int
    batch: int
    first: int
    last: int
    rank: int
    world: int

    def __len__(self) -> int:
        return self.last - self.first

    def __iter__(self) -> Iterator[list[Key]]:
        epoch, shuffle = -1, np.empty(0, np.int64)
        for step in range(self.first, self.last):
            keys = []
            for position in range(step * self.batch, (step + 1) * self.batch):
                if position // self.count != epoch:
                    epoch = position // self.count
                    shuffle = np.random.default_rng((self.seed, self.stage, epoch)).permutation(self.count)
                if position % self.world == self.rank:
                    keys.append((step, position, int(shuffle[position % self.count])))
            yield keys


class _Examples(Dataset[dict[str, np.ndarray] | str]):
    """Examples by key; one that fails gives a sentence, since not every exception survives the way between processes."""

    def __init__(self, recipe: Recipe, items: Sequence[Item], seed: int, stage: int) -> None:
        self.recipe, self.items, self.seed, self.stage = recipe, items, seed, stage

    def __getitem__(self, key: Key) -> dict[str, np.ndarray] | str:
        step, position, index = key
        rng = np.random.default_rng((self.seed, self.stage, step, position))
        try:
            return self.recipe.example(self.recipe.compose(self.items, index, rng), rng)
        except VisagistError as error:
            return f"item {self.items[index].name}: {error.line()}"


def _collate(examples: list[dict[str, np.ndarray] | str]) -> Batch | str:
    good: list[dict[str, np.ndarray]] = []
    for example in examples:
        if isinstance(example, str):
            return example
        good.append(example)
    return {name: _stack(name, [np.asarray(example[name]) for example in good]) for name in good[0]}


def _stack(name: str, arrays: list[np.ndarray]) -> Tensor:
    shapes = {array.shape for array in arrays}
    if len(shapes) > 1:
        raise ValueError(f"examples disagree on the shape of {name!r}: {sorted(shapes)}")
    stacked = np.stack(arrays)
    return torch.from_numpy(stacked.astype(np.float32) if stacked.dtype == np.float64 else stacked)


def _quiet_worker(number: int) -> None:
    """One thread each; signals are the parent's business."""
    import cv2

    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # torch ends workers so
    if hasattr(os, "setpgrp"):  # what stops a whole group (timeout, a batch system) reaches the parent alone, who ends in order
        os.setpgrp()
