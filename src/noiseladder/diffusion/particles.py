"""Choosing among samples instead of following gradients: best of n, and Feynman-Kac particles."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Generator, Tensor

from .denoiser import Denoised, Denoises
from .guidance import Energy, check_scale, one_for_each
from .sampling import Step, check_noise
from .scheduling_matrix import check_matrix
from .state import State


def best_of(samples: Tensor, energy: Energy) -> Tensor:
    """The sample of lowest energy for each sequence: (B, n, T, ...) -> (B, T, ...)."""
    sequences, count = samples.shape[:2]
    energies = one_for_each(energy(samples.flatten(0, 1)), sequences * count).reshape(sequences, count)
    return samples[torch.arange(sequences, device=samples.device), energies.argmin(dim=1)]


@dataclass(frozen=True)
class Particles:
    """n weighted samples for each sequence.

    tokens: (B, n, T, ...). log_weights: (B, n), not normalised: their mean in the exponential estimates the
    normalising constant, E exp(-scale * energy). The weighted set follows the tilted law.
    """

    tokens: Tensor
    log_weights: Tensor

    def effective(self) -> Tensor:
        """Effective number of particles, (B,), between 1 and n."""
        share = self.log_weights.softmax(dim=1)
        return 1 / (share**2).sum(dim=1)

    def draw(self, generator: Generator) -> Tensor:
        """One particle for each sequence by its weight: (B, T, ...)."""
        share = self.log_weights.softmax(dim=1)
        chosen = torch.multinomial(share, 1, generator=generator)[:, 0]
        return self.tokens[torch.arange(len(chosen), device=chosen.device), chosen]


def particles(
    denoiser: Denoises,
    noise: Tensor,
    matrix: Tensor,
    energy: Energy,
    step: Step,
    generator: Generator,
    scale: float = 1.0,
    condition: Tensor | None = None,
    state: State | None = None,
    resample_below: float = 0.5,
) -> Iterator[Particles]:
    """Sample from the denoiser's law tilted by exp(-scale * energy): Feynman-Kac steering (Singhal et al., 2025).

    Each row's particles are weighted by how much the energy of their clean guess fell; the product telescopes to
    the energy of the sample itself, so the weights are unbiased however good the guesses are. Where the effective
    number falls below `resample_below` * n, particles are resampled (systematic). No network call is added.

    noise: (B, n, T, ...). condition (B, T, C) and state (of B sequences) are shared by the n particles. step: with
    eta > 0, or resampled particles would stay equal; its generators, if several, one for each particle (B * n).
    generator: for resampling. Yields a Particles per row.
    Raises ValueError for what does not fit.
    """
    check_matrix(matrix)
    check_scale(scale)
    if step.eta == 0:
        raise ValueError("particles need a step that draws noise: pass Step(eta=1.0, generators=...)")
    check_noise(noise.flatten(0, 1), matrix, None)
    check_noise(noise[:, 0], matrix, condition)
    sequences, count = noise.shape[:2]
    each = torch.arange(sequences, device=noise.device).repeat_interleave(count)
    condition = None if condition is None else condition[each]
    state = denoiser.initial_state(sequences) if state is None else state
    return _walk_particles(
        denoiser, noise, matrix, energy, step, generator, scale, condition, state[each], resample_below
    )


def _walk_particles(
    denoiser: Denoises,
    noise: Tensor,
    matrix: Tensor,
    energy: Energy,
    step: Step,
    generator: Generator,
    scale: float,
    condition: Tensor | None,
    state: State,
    resample_below: float,
) -> Iterator[Particles]:
    sequences, count = noise.shape[:2]
    tokens = noise.flatten(0, 1)
    log_weights = torch.zeros(sequences, count, dtype=noise.dtype, device=noise.device)
    cost = torch.zeros_like(log_weights)

    def weigh(clean: Tensor) -> None:
        nonlocal log_weights, cost
        new = scale * one_for_each(energy(clean), len(tokens)).reshape(sequences, count)
        log_weights, cost = log_weights + cost - new, new

    for row, next_row in pairwise(matrix.to(noise)):
        if torch.equal(row, next_row):
            yield Particles(tokens.reshape(noise.shape), log_weights)
            continue
        levels, next_levels = row.expand(len(tokens), -1), next_row.expand(len(tokens), -1)
        with torch.no_grad():
            denoised = denoiser(tokens, levels, condition, state)
            weigh(denoised.clean)
            few = Particles(noise, log_weights).effective() < resample_below * count
            if bool(few.any()):
                chosen = torch.where(few[:, None], resample(log_weights, generator), torch.arange(count).to(few.device))
                kept = (chosen + count * torch.arange(sequences, device=noise.device)[:, None]).flatten()
                tokens, denoised = tokens[kept], Denoised(denoised.clean[kept], denoised.noise[kept])
                cost = cost.flatten()[kept].reshape(sequences, count)
                average = log_weights.logsumexp(dim=1, keepdim=True) - math.log(count)
                log_weights = torch.where(few[:, None], average, log_weights)
            fresh = step.draw(tokens)
            tokens = step(denoiser.schedule, tokens, denoised, levels, next_levels, fresh)
        yield Particles(tokens.reshape(noise.shape), log_weights)
    with torch.no_grad():
        weigh(tokens)
    yield Particles(tokens.reshape(noise.shape), log_weights)


def resample(log_weights: Tensor, generator: Generator) -> Tensor:
    """Systematic resampling: indices (B, n) of the particles to keep."""
    sequences, count = log_weights.shape
    share = log_weights.softmax(dim=1)
    start = torch.rand(sequences, 1, generator=generator, device=generator.device).to(share)
    points = (start + torch.arange(count, device=share.device)) / count
    return torch.searchsorted(share.cumsum(dim=1), points.contiguous()).clamp(max=count - 1)
