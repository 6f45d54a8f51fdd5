"""Values known in advance are shown to the denoiser, clean, in every step (Janner et al., 2022).

Unlike `Inpainted` it tells the network so: this is for denoisers that take levels of parts.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from noiseladder.diffusion.denoiser import Denoised
from noiseladder.diffusion.guidance import Guided
from noiseladder.diffusion.state import State


@dataclass(frozen=True)
class Pinned(Guided):
    """A denoiser that knows some values already. known: (B, T, D); where: (B, T, D) bool.

    A batch n times as large holds n copies of each sequence, one after the other.
    """

    known: Tensor
    where: Tensor

    def __call__(
        self, noisy: Tensor, levels: Tensor, condition: Tensor | None = None, state: State | None = None
    ) -> Denoised:
        """The denoiser's guesses with the known values put in."""
        copies = len(noisy) // len(self.known)
        known, where = (values.repeat_interleave(copies, dim=0) for values in (self.known, self.where))
        shown = torch.where(where, 0.0, levels[..., None].expand(noisy.shape))
        denoised = self.denoiser(torch.where(where, known, noisy), shown, condition, state)
        alpha, sigma = self.schedule.shares(levels, noisy)
        noise = (noisy - alpha * known) / sigma.masked_fill(sigma == 0, 1.0)
        return Denoised(torch.where(where, known, denoised.clean), torch.where(where, noise, denoised.noise))
