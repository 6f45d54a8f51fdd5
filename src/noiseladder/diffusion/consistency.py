"""Distillation to one call: a student learns to jump at once where its teacher walks down the levels step by step."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Generator, Tensor

from .batch import Batch
from .denoiser import Denoised, Denoiser, answers, hide_pure_noise
from .guidance import Guided
from .noise import spread
from .objective import DiffusionForcing, clean_tokens
from .sampling import DDIM, Step
from .state import State
from .training_levels import Constant, DrawLevels, clean as clean_levels

TOP = 0.999
"""The level at which a student begins: pure noise for all purposes, but at exactly 1 a network sees no token at all."""


@dataclass(frozen=True)
class Distilled(Guided):
    """A student's denoiser as it is sampled from: a token at level 1 is looked at as if it were at TOP.

    So all samplers begin as the student learned to, and no schedule or matrix has to know of it. The denoiser inside is
    the same network with its means.
    """

    @property
    def causal(self) -> bool:
        """As the inner denoiser."""
        return bool(getattr(self.denoiser, "causal", False))

    def __call__(
        self, noisy: Tensor, levels: Tensor, condition: Tensor | None = None, state: State | None = None
    ) -> Denoised:
        """Denoise tokens (B, T, ...) at `levels` (B, T); what is said of a token at level 1 depends on that token."""
        missing = spread(levels == 1, noisy) & ~torch.isfinite(noisy)
        return self.denoiser(noisy.masked_fill(missing, 0.0), levels.clamp(max=TOP), condition, state)


@dataclass(frozen=True)
class Consistency:
    """(denoiser, batch, generator) -> loss of consistency distillation (Song et al., 2023, equation 7), two streams.

    The clean guess of the student at one rung of a ladder of levels is to be its own guess at the rung below, where
    the teacher's step leads; on the ground, at level 0, that is the token itself. What one call then gives from pure
    noise is where the teacher's whole walk ends: a sample, not a mean. Begin with the teacher's weights. Sample the
    student with one call, or with several and `Step(eta=1)`: a clean guess is no score any more.

    teacher: is never changed. memory: levels of the main stream, the past; it has no loss. rungs: of the ladder, which
    falls evenly. step: the teacher's formula. unseen: share of the tokens that are asked for at level 1 exactly, where
    the student keeps the teacher's guess: the student itself then still gives the mean in one call, and `Distilled` of
    it a sample. knee: errors smaller than this, in the tokens' units, count squared,
    larger ones singly (pseudo-Huber, Song and Dhariwal, 2024): means of far samples pull less.
    """

    teacher: Denoiser
    memory: DrawLevels = clean_levels
    rungs: int = 32
    step: Step = field(default=DDIM)
    unseen: float = 0.25
    knee: float = 0.03

    def __post_init__(self) -> None:
        if self.rungs < 1 or not self.knee > 0 or not 0 <= self.unseen < 1:
            raise ValueError(
                f"{self.rungs} rungs, a knee of {self.knee:g}, a share of {self.unseen:g} unseen: expected at least 1"
                " rung, a knee above 0 and a share below 1"
            )
        if self.step.eta > 0 or self.step.second_order:
            raise ValueError("the teacher's step has to be deterministic and of first order: use eta=0 and one step")
        self.teacher.requires_grad_(False)

    def __call__(self, denoiser: Denoiser, batch: Batch, generator: Generator, part: slice = slice(None)) -> Tensor:
        """The loss of the sequences `part`; all randomness is drawn for the whole batch."""
        clean, real = clean_tokens(batch)
        forcing = DiffusionForcing(self.memory)
        levels, _, remembered = forcing.draw(denoiser, clean, real, self.memory, generator)
        high, _, noisy = forcing.draw(denoiser, clean, real, self.on_a_rung, generator)
        low = (high.clamp(max=TOP) - TOP / self.rungs).clamp(min=0)
        condition = None if batch.condition is None else batch.condition[part]
        past = (hide_pure_noise(remembered, levels)[part], levels[part], condition)
        high, low, noisy, counted = high[part], low[part], noisy[part], spread(real, clean)[part]
        with torch.no_grad():
            shown = asked(self.teacher, past, noisy, high)
            led = self.step(denoiser.schedule, noisy, shown, high, low)
            hidden = spread(high, noisy) == 1
            goal = torch.where(hidden, shown.clean, asked(denoiser, past, led, low).clean)
        error = asked(denoiser, past, noisy, high).clean - goal
        loss = (error.square() + self.knee**2).sqrt() - self.knee
        whole = spread(real, clean).expand_as(clean).sum()
        return (loss * counted).sum() / whole.clamp(min=1)

    def on_a_rung(self, sequences: int, length: int, generator: Generator) -> Tensor:
        """Levels (B, T), each a rung above the ground, up to TOP, or exactly 1."""
        shape, device = (sequences, length), generator.device
        rung = torch.randint(1, self.rungs + 1, shape, generator=generator, device=device)
        unseen = torch.rand(shape, generator=generator, device=device) < self.unseen
        return torch.where(unseen, 1.0, rung * (TOP / self.rungs))

    def at_level(self, level: float) -> DiffusionForcing:
        """What validation looks at: the error of clean guesses, which at high levels a student that samples has more
        of than its teacher, by as much as samples differ from their mean.
        """
        return DiffusionForcing(clean_levels, query_levels=Constant(level), query_share=1.0)


def asked(denoiser: Denoiser, past: tuple[Tensor, Tensor, Tensor | None], noisy: Tensor, levels: Tensor) -> Denoised:
    """Guesses for tokens (B, T, ...) at levels (B, T), each from the state before it."""
    state = denoiser.initial_state(len(noisy))
    answer = answers(denoiser.network, *past, state, hide_pure_noise(noisy, levels), levels)
    return denoiser.interpret(answer, noisy, levels)
