"""Diffusion Forcing on one page, with nothing but torch: train on noisy sines, then roll out.

A test holds every function here equal to the library. Run it: `python examples/one_page.py` (about a minute).
"""

import math
from itertools import pairwise

import torch
from torch import Generator, Tensor, nn


def shares(levels: Tensor) -> tuple[Tensor, Tensor]:
    """How much signal and noise a token holds at levels (B, T): (1, 0) at level 0, (0, 1) at level 1, exactly."""
    alpha, sigma = torch.cos(levels * math.pi / 2), torch.sin(levels * math.pi / 2)
    return torch.where(levels >= 1, 0.0, alpha)[..., None], torch.where(levels <= 0, 0.0, sigma)[..., None]


class Network(nn.Module):
    """Reads noisy tokens (B, T, D) and their levels (B, T) into a state; says what lies under the noise."""

    def __init__(self, token_size: int, width: int = 64):
        super().__init__()
        self.read = nn.Sequential(nn.Linear(token_size + 3, width), nn.SiLU())
        self.remember = nn.GRU(width, width, batch_first=True)
        self.write = nn.Sequential(nn.Linear(2 * width, width), nn.SiLU(), nn.Linear(width, token_size))

    def forward(self, tokens: Tensor, levels: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        told = torch.stack([levels, *(f(levels * math.pi / 2) for f in (torch.cos, torch.sin))], dim=-1)
        seen = torch.where(levels[..., None] < 1, tokens, 0.0)  # pure noise says nothing
        features = self.read(torch.cat([seen, told], dim=-1))
        states, last = self.remember(features, state[None].contiguous())
        return self.write(torch.cat([states, features], dim=-1)), last[0]


def loss(network: Network, tokens: Tensor, generator: Generator) -> Tensor:
    """Noise every token by its own amount, denoise all of them at once, compare."""
    levels = torch.rand(tokens.shape[:2], generator=generator)
    noise = torch.randn(tokens.shape, generator=generator)
    alpha, sigma = shares(levels)
    velocity, _ = network(alpha * tokens + sigma * noise, levels, start(network, len(tokens)))
    return ((velocity - (alpha * noise - sigma * tokens)) ** 2).mean()


def start(network: Network, batch: int) -> Tensor:
    """The state before any token."""
    return torch.zeros(batch, network.remember.hidden_size)


@torch.no_grad()
def observe(network: Network, tokens: Tensor, state: Tensor, level: float = 0.0) -> Tensor:
    """A Bayes filter: read clean tokens as if at `level`; 1 is the prior, 0 the posterior."""
    levels = torch.full(tokens.shape[:2], level)
    return network(shares(levels)[0] * tokens, levels, state)[1]


def pyramid(tokens: int, steps: int, delay: int) -> Tensor:
    """The near future first: token t waits t * delay rows, then falls from 1 to 0 in `steps` rows."""
    waited = torch.arange(steps + (tokens - 1) * delay + 1)[:, None] - torch.arange(tokens) * delay
    return 1 - (waited / steps).clamp(0, 1)


@torch.no_grad()
def sample(network: Network, noise: Tensor, matrix: Tensor, state: Tensor) -> Tensor:
    """Walk down the matrix: at each row guess what is clean and what is noise, and mix them at the next row."""
    tokens = noise
    for row, next_row in pairwise(matrix):
        levels, next_levels = row.expand(len(tokens), -1), next_row.expand(len(tokens), -1)
        (alpha, sigma), (next_alpha, next_sigma) = shares(levels), shares(next_levels)
        velocity, _ = network(tokens, levels, state)
        clean, noise = alpha * tokens - sigma * velocity, sigma * tokens + alpha * velocity
        moved = next_alpha * clean + next_sigma * noise
        tokens = torch.where((row != next_row)[:, None], moved, tokens)  # who does not move is held
    return tokens


def sines(sequences: int, length: int, generator: Generator) -> Tensor:
    """Points on a circle (B, T, 2) that turn at .4 radians a step from a random phase."""
    angle = torch.rand(sequences, 1, generator=generator) * 2 * math.pi + 0.4 * torch.arange(length)
    return torch.stack([angle.cos(), angle.sin()], dim=-1)


def main() -> None:
    """Train for 2000 steps, then roll out for ten times the training length."""
    torch.set_num_threads(1)  # tensors this small are faster on one core
    generator = Generator().manual_seed(0)
    torch.manual_seed(0)
    network = Network(token_size=2)
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 2000)
    for step in range(2000):
        error = loss(network, sines(64, 16, generator), generator)
        optimizer.zero_grad()
        error.backward()
        optimizer.step()
        schedule.step()
        if step % 400 == 399:
            print(f"step {step + 1}: loss {error.item():.4f}")

    truth = sines(100, 8 + 160, generator)  # ten times the training length
    state = observe(network, truth[:, :8], start(network, 100))
    rolled = []
    for _ in range(40):
        noise = torch.randn(100, 4, 2, generator=generator)
        one_by_one = pyramid(4, steps=20, delay=20)  # a causal network needs a long delay (schedule bias)
        rolled.append(sample(network, noise, one_by_one, state))
        state = observe(network, rolled[-1], state, level=0.02)
    path = torch.cat(rolled, dim=1)
    error = (path - truth[:, 8:]).norm(dim=-1).mean(0)
    print(
        f"distance from the true circle point: {error[:8].mean():.3f} at steps 1-8, {error[-8:].mean():.3f} at 153-160"
    )
    print(f"radius at the end: {path[:, -8:].norm(dim=-1).mean():.3f} (true 1)")


if __name__ == "__main__":
    main()
