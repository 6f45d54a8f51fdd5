"""How strongly the past speaks: history guidance against a model that remembers nothing, at constant cost a frame."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from noiseladder.diffusion.denoiser import Denoised
from noiseladder.diffusion.guidance import Guided, mixed
from noiseladder.diffusion.state import State


@dataclass(frozen=True)
class PastGuided(Guided):
    """s = s_0 + strength (s_past - s_0), where s_0 starts from the state before any token (Song et al., 2025).

    The state is the inner denoiser's own, so the strength may change from token to token and nothing is read twice, as
    `HistoryGuided` must. Strength 1 is the plain denoiser, 0 forgets; above 1 is closer to the past than was learned.
    """

    strength: float = 1.0

    @property
    def causal(self) -> bool:
        """As the inner denoiser: each token's guesses are mixed by themselves."""
        return bool(getattr(self.denoiser, "causal", False))

    def __call__(
        self, noisy: Tensor, levels: Tensor, condition: Tensor | None = None, state: State | None = None
    ) -> Denoised:
        """Denoise tokens (B, T, ...) at `levels` (B, T): two calls, or one at strength 1."""
        remembered = self.denoiser(noisy, levels, condition, state)
        if self.strength == 1:
            return remembered
        forgotten = self.denoiser(noisy, levels, condition, self.initial_state(len(noisy)))
        return mixed([(self.strength, remembered), (1 - self.strength, forgotten)])
