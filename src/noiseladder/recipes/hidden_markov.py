"""A hidden Markov chain with Gaussian emissions: many modes, and still every answer is known."""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Generator, Tensor


@dataclass(frozen=True, eq=False)
class HiddenMarkovChain:
    """A mode z_t jumps by `transition`; the token is x_t = means[z_t] + spread * e. Float64."""

    transition: Tensor  # Pi[from, to], (K, K)
    means: Tensor  # (K,)
    spread: float

    @cached_property
    def stationary(self) -> Tensor:
        """p with p Pi = p: the share of time in each mode, (K,)."""
        size = len(self.means)
        equations = torch.cat(
            [self.transition.T - torch.eye(size).to(self.transition), torch.ones(1, size).to(self.means)]
        )
        wanted = torch.zeros(size + 1).to(self.means)
        wanted[-1] = 1
        return torch.linalg.lstsq(equations, wanted[:, None]).solution[:, 0]

    def draw_modes(self, sequences: int, length: int, generator: Generator) -> Tensor:
        """Fresh mode sequences, (B, T) long."""
        chance = torch.rand(length, sequences, 1, dtype=torch.float64, generator=generator)
        now = (chance[0] > self.stationary.cumsum(0)[:-1]).sum(-1)
        steps, modes = self.transition.cumsum(1)[:, :-1], [now]
        for draw in chance[1:]:
            now = (draw > steps[now]).sum(-1)
            modes.append(now)
        return torch.stack(modes, dim=1)

    def draw(self, sequences: int, length: int, generator: Generator) -> Tensor:
        """Fresh sequences, (B, T, 1) float64."""
        modes = self.draw_modes(sequences, length, generator)
        noise = torch.randn(sequences, length, dtype=torch.float64, generator=generator)
        return (self.means[modes] + self.spread * noise)[..., None]


def example() -> HiddenMarkovChain:
    """Three modes that last a few steps and are left more often one way round than the other."""
    transition = torch.tensor([[0.80, 0.15, 0.05], [0.05, 0.75, 0.20], [0.20, 0.10, 0.70]], dtype=torch.float64)
    means = torch.tensor([-1.3, 0.0, 1.3], dtype=torch.float64)
    return HiddenMarkovChain(transition, means, spread=0.2)
