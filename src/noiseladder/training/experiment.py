"""An experiment is what is trained: all that a training loop cannot know by itself."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from torch import Generator, Tensor, nn

from noiseladder.diffusion.batch import Batch
from noiseladder.diffusion.denoiser import Denoiser


class Objective(Protocol):
    """From a batch to a loss; `noiseladder.diffusion.objective.DiffusionForcing` is one."""

    def __call__(self, denoiser: Denoiser, batch: Batch, generator: Generator, part: slice = slice(None)) -> Tensor:
        """The loss of the sequences `part` of the batch, a scalar; the losses of all parts add up to the batch's.

        Whatever is random is drawn from `generator` for the whole batch, whichever part is asked for: then ranks
        and gradient accumulation change nothing but the order of additions.
        """
        ...


Batches = Callable[[int, Generator], Batch]
"""(step, generator) -> the batch of that step, always the same for the same step and generator."""


@dataclass(frozen=True)
class Experiment:
    """What is trained, on what, and how to look at it.

    batches: (step, generator) -> Batch; a pure function, so that a resumed run needs no iterator state.
    validation: sequences that are never trained on; None measures nothing and stops nothing early.
    picture: (denoiser, path) -> writes a PNG of a sample to `path`.
    files: (folder) -> writes what using the weights needs beyond them into the run folder, once, before training.
    blocks: modules that are only ever called as `block(...)`, which `shard` gathers one at a time; without them
        the whole denoiser is gathered for each pass and sharded between the passes.
    """

    denoiser: Denoiser
    objective: Objective
    batches: Batches
    validation: Batch | None = None
    picture: Callable[[Denoiser, Path], None] | None = None
    files: Callable[[Path], None] | None = None
    blocks: Sequence[nn.Module] = ()
