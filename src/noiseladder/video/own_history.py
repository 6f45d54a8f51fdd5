"""Learning from one's own dreams: some sequences are remembered as the model itself would have dreamt them."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Generator, Tensor

from noiseladder.diffusion.batch import Batch
from noiseladder.diffusion.denoiser import AnswersQueries, Denoiser, hide_pure_noise
from noiseladder.diffusion.objective import DiffusionForcing, clean_tokens
from noiseladder.diffusion.training_levels import Constant, DrawLevels, clean as clean_levels

from .remembered import DimMemory, OftenUnseen


@dataclass(frozen=True)
class OwnHistory:
    """(denoiser, batch, generator) -> loss: the true next token is asked for after real and after dreamt histories.

    A share of the sequences goes on from a random token by itself, one denoising call a token, with the true actions;
    no gradient flows through that. The question and its answer stay the real ones, so the model learns the way back
    from its own errors (DAgger, Ross et al., 2011; for video Self-Forcing, Huang et al., 2025, without its adversary).
    Without a share it is DiffusionForcing with a query stream and no loss on the main one.

    memory: levels at which the past is remembered. asked: levels of the question. share: of sequences that are dreamt.
    """

    share: float = 0.25
    memory: DrawLevels = field(default_factory=DimMemory)
    asked: DrawLevels = field(default_factory=OftenUnseen)

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1:
            raise ValueError(f"share is {self.share}, expected a part of the sequences, 0 to 1")

    def __call__(self, denoiser: Denoiser, batch: Batch, generator: Generator, part: slice = slice(None)) -> Tensor:
        """The loss of the sequences `part`; all randomness is drawn for the whole batch."""
        clean, real = clean_tokens(batch)
        forcing = DiffusionForcing(self.memory, query_levels=self.asked, query_share=1.0)
        levels, blur, _ = forcing.draw(denoiser, clean, real, self.memory, generator)
        asked_levels, noise, asked = forcing.draw(denoiser, clean, real, self.asked, generator)
        device = generator.device
        dreams = torch.rand(len(clean), 1, generator=generator, device=device) < self.share
        awake = torch.randint(1, clean.shape[1], (len(clean), 1), generator=generator, device=device)
        dreamt = dreams & (torch.arange(clean.shape[1], device=device) >= awake)
        condition = None if batch.condition is None else batch.condition[part]
        history = clean[part]
        if self.share > 0:
            history = dreamt_history(denoiser, history, levels[part], blur[part], condition, dreamt[part])
        remembered = denoiser.schedule.mix(history, blur[part], levels[part])
        network: AnswersQueries = denoiser.network  # type: ignore[assignment]
        _, answer = network.query(
            hide_pure_noise(remembered, levels[part]),
            levels[part],
            condition,
            denoiser.initial_state(len(history)),
            hide_pure_noise(asked, asked_levels)[part],
            asked_levels[part],
        )
        return forcing.compare(denoiser, answer, clean, noise, asked_levels, real, part)

    def at_level(self, level: float) -> DiffusionForcing:
        """What validation looks at: the plain error of questions at one level after a clean history."""
        return DiffusionForcing(clean_levels, query_levels=Constant(level), query_share=1.0)


@torch.no_grad()
def dreamt_history(
    denoiser: Denoiser, clean: Tensor, levels: Tensor, blur: Tensor, condition: Tensor | None, dreamt: Tensor
) -> Tensor:
    """Tokens (B, T, D) in which those that are `dreamt` (B, T) are the model's own guesses after what came before.

    What came before is remembered at `levels` with the noise `blur`, dreamt or not.
    """
    chosen = dreamt.any(dim=1).nonzero().flatten()
    if len(chosen) == 0:
        return clean
    state, tokens = denoiser.initial_state(len(chosen)), []
    unseen = torch.ones(len(chosen), 1, device=clean.device)
    known = [None] * clean.shape[1] if condition is None else condition[chosen].split(1, dim=1)
    steps = zip(*(x[chosen].split(1, dim=1) for x in (clean, levels, blur, dreamt)), known)
    for token, level, noise, own, led in steps:
        if bool(own.any()):
            guess = denoiser(torch.zeros_like(token), unseen, led, state).clean
            token = torch.where(own[..., None], guess.to(token.dtype), token)
        tokens.append(token)
        state = denoiser.observe(token, led, state, level, noise)
    return clean.index_copy(0, chosen, torch.cat(tokens, dim=1))
