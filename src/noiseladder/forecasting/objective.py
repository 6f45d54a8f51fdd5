"""The loss of a forecaster: the context is read, and every future token is asked for from the state before it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from torch import Generator, Tensor

from noiseladder.diffusion.batch import Batch
from noiseladder.diffusion.denoiser import AnswersQueries, Denoiser, hide_pure_noise
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
        past, future = (part, slice(None, self.context)), (part, slice(self.context, None))
        known, coming = (None, None) if batch.condition is None else (batch.condition[past], batch.condition[future])
        state = denoiser.observe(clean[past], known, level=(~real[past]).to(clean))
        clean, real = clean[:, self.context :], real[:, self.context :]
        levels, noise, noisy = self.draw(denoiser, clean, real, self.draw_levels, generator)
        asked_levels, asked_noise, asked = self.draw(denoiser, clean, real, self.query_levels or independent, generator)
        output, answer = cast(AnswersQueries, denoiser.network).query(
            hide_pure_noise(noisy, levels)[part],
            levels[part],
            coming,
            state,
            hide_pure_noise(asked, asked_levels)[part],
            asked_levels[part],
        )
        loss = self.query_share * self.compare(denoiser, answer, clean, asked_noise, asked_levels, real, part)
        if self.query_share < 1:
            main = self.compare(denoiser, output, clean, noise, levels, real, part)
            loss = loss + (1 - self.query_share) * main
        return loss
