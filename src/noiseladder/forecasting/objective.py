"""The loss of a forecaster: the context is read, and every future token is asked for from the state before it."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Generator, Tensor

from noiseladder.diffusion.batch import Batch
from noiseladder.diffusion.denoiser import Denoiser
from noiseladder.diffusion.objective import DiffusionForcing, clean_tokens
from noiseladder.diffusion.training_levels import DrawLevels, clean as clean_levels, independent


@dataclass(frozen=True)
class AfterContext(DiffusionForcing):
    """Two-stream Diffusion Forcing on what follows the first `context` tokens, which are read and have no loss.

    A window is scaled by its context, so tokens inside it know their own scale: they are not practised on. The main
    stream (`draw_levels`) makes the states of the future, the query stream (`query_levels`) is what is asked.
    Missing values are shown at level 1, in the context as after it.
    """

    draw_levels: DrawLevels = clean_levels
    query_levels: DrawLevels | None = independent
    query_share: float = 1.0
    context: int = 0

    def __call__(self, denoiser: Denoiser, batch: Batch, generator: Generator, part: slice = slice(None)) -> Tensor:
        """The loss, a scalar, of the sequences `part`; see DiffusionForcing."""
        clean, real = clean_tokens(batch)
        past, future = (part, slice(None, self.context)), slice(self.context, None)
        known, coming = (None, None) if batch.condition is None else (batch.condition[past], batch.condition[:, future])
        state = denoiser.observe(clean[past], known, level=(~real[past]).to(clean))
        return self.after(denoiser, state, clean[:, future], real[:, future], coming, generator, part)
