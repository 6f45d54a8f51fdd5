"""A courtyard made by hand: places around a block, a body without inertia, and networks that never learned."""

from dataclasses import dataclass

import torch

from noiseladder.diffusion.denoiser import Denoised, Denoiser
from noiseladder.diffusion.noise import Cosine
from noiseladder.diffusion.state import State
from noiseladder.networks import TransformerNetwork
from noiseladder.planning.body import Body
from noiseladder.planning.knowledge import Knowledge
from noiseladder.planning.plan_tokens import PlanTokens
from noiseladder.planning.roads import Roads, shortest

SPACING = 0.2


def courtyard(dtype=torch.float32):
    """Places on a grid over [0, 3]^2 without those of a block in its middle; roads join neighbours."""
    line = SPACING * torch.arange(16, dtype=dtype)
    centres = torch.cartesian_prod(line, line)
    centres = centres[(centres - 1.5).abs().amax(1) > 0.75]
    apart = torch.cdist(centres, centres)
    roads = torch.where((apart < 1.5 * SPACING) & (apart > 0), apart, torch.inf)
    tokens = PlanTokens(steps=4, axes=2, speed=0.1, limit=0.0, middle=(1.5, 1.5), extent=1.5, near=0.2)
    body = Body(2, 0.0, 0.1, 1.0, None, 0.0)
    return Knowledge(Roads(centres, roads, shortest(roads), SPACING), body, tokens, "a courtyard")


def random_denoiser(tokens, seed=0, dtype=torch.float32):
    """A small causal network with random weights, large enough to matter."""
    torch.manual_seed(seed)
    network = TransformerNetwork(tokens.size, 16, 2, 2, tokens.condition_size, tokens.parts)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.15)
    return Denoiser(network.to(dtype), Cosine()).eval().requires_grad_(False)


@dataclass(frozen=True)
class Nothing(State):
    """Nothing is remembered, but a state needs a tensor (B, 1)."""

    blank: torch.Tensor


class Walker:
    """An exact model of a body that goes where its road points, and stands still without a road."""

    schedule = Cosine()

    def __init__(self, tokens):
        self.tokens, self.rows = tokens, 0

    def initial_state(self, batch):
        return Nothing(torch.zeros(batch, 1))

    def observe(self, tokens, condition=None, state=None, level=0.0, noise=None):
        return self.initial_state(len(tokens)) if state is None else state

    def __call__(self, noisy, levels, condition=None, state=None):
        self.rows += len(noisy)
        ahead = condition[..., :2]  # a unit vector, or shorter near the end
        share = (torch.arange(self.tokens.steps) + 1) / self.tokens.steps
        path = 2 * share[:, None] * ahead[..., None, :]
        clean = torch.zeros_like(noisy)
        first = self.tokens.sizes[0] + 1
        clean[..., first : first + path[0, 0].numel()] = path.flatten(-2)
        clean[..., : self.tokens.sizes[0]] = (ahead / 0.6).repeat(1, 1, self.tokens.steps)
        alpha, sigma = self.schedule.shares(levels, noisy)
        return Denoised(clean, (noisy - alpha * clean) / sigma.clamp(min=1e-6))
