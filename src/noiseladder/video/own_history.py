"""Learning from one's own dreams: some sequences are remembered as the model itself would have dreamt them."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Generator, Tensor

from noiseladder.diffusion.batch import Batch
from noiseladder.diffusion.denoiser import Denoiser, answers, hide_pure_noise
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
        dreams = torch.rand(len(clean), generator=generator, device=device) < self.share
        # One for all sequences of a batch: what comes before is read in one call.
        awake = int(torch.randint(1, max(2, clean.shape[1]), (), generator=generator, device=device))
        condition = None if batch.condition is None else batch.condition[part]
        history = clean[part]
        if self.share > 0:
            history = dreamt_history(denoiser, history, levels[part], blur[part], condition, dreams[part], awake)
        remembered = denoiser.schedule.mix(history, blur[part], levels[part])
        answer = answers(
            denoiser.network,
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
    denoiser: Denoiser,
    clean: Tensor,
    levels: Tensor,
    blur: Tensor,
    condition: Tensor | None,
    dreams: Tensor,
    awake: int,
) -> Tensor:
    """Tokens (B, T, D) in which all from `awake` on are the model's own guesses, in the sequences `dreams` (B,).

    What came before is remembered at `levels` (B, T) with the noise `blur`, dreamt or not.
    """
    chosen = dreams.nonzero().flatten()
    length = clean.shape[1]
    if len(chosen) == 0 or awake >= length:
        return clean
    tokens, levels, blur = clean[chosen], levels[chosen], blur[chosen]
    led = None if condition is None else condition[chosen]

    def of(time: slice) -> Tensor | None:
        return None if led is None else led[:, time]

    known = slice(0, awake)
    state = denoiser.observe(tokens[:, known], of(known), None, levels[:, known], blur[:, known])
    unseen, nothing = torch.ones_like(levels[:, :1]), torch.zeros_like(tokens[:, :1])
    parts = [tokens[:, known]]
    for place in range(awake, length):
        now = slice(place, place + 1)
        parts.append(denoiser(nothing, unseen, of(now), state).clean.to(tokens.dtype))
        if place + 1 < length:
            state = denoiser.observe(parts[-1], of(now), state, levels[:, now], blur[:, now])
    return clean.index_copy(0, chosen, torch.cat(parts, dim=1))
