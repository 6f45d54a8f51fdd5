"""A linear-Gaussian system, whose optimal causal denoiser is known: the Kalman filter."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from torch import Generator, Tensor

from noiseladder.diffusion.batch import Batch
from noiseladder.diffusion.denoiser import Denoiser
from noiseladder.diffusion.noise import LogSNR
from noiseladder.diffusion.objective import DiffusionForcing
from noiseladder.diffusion.sampling import rollout
from noiseladder.diffusion.scheduling_matrix import autoregressive
from noiseladder.diffusion.training_levels import (
    DrawLevels,
    Mixture,
    WithExactEnds,
    independent,
)
from noiseladder.networks import RecurrentNetwork
from noiseladder.training import Experiment, TrainingOptions, generator_for


@dataclass(frozen=True, eq=False)
class LinearGaussian:
    """s_t = A s_(t-1) + w, x_t = C s_t + v: a latent that turns and forgets, seen through one noisy number.

    Float64. The emission is scaled so that x has unit variance in the stationary law, from which sequences start.
    x is not Markov, so a denoiser must carry a state.
    """

    transition: Tensor  # A, (n, n)
    state_noise: Tensor  # Q, the covariance of w, (n, n)
    emission: Tensor  # C, (n,)
    emission_noise: Tensor  # R, the variance of v, ()

    @cached_property
    def stationary(self) -> Tensor:
        """P with P = A P A' + Q: the covariance of the latent before anything is seen, (n, n)."""
        size = len(self.transition)
        identity = torch.eye(size * size, dtype=self.transition.dtype)
        vector: Tensor = torch.linalg.solve(
            identity - torch.kron(self.transition, self.transition), self.state_noise.reshape(-1)
        )
        return vector.reshape(size, size)

    def autocovariance(self, lags: int) -> Tensor:
        """Covariance of x_t and x_(t+k) for k = 0 .. lags - 1, (lags,)."""
        values, covariance = [], self.stationary
        for _ in range(lags):
            values.append(self.emission @ covariance @ self.emission)
            covariance = self.transition @ covariance
        values[0] = values[0] + self.emission_noise
        return torch.stack(values)

    def covariance(self, length: int) -> Tensor:
        """Covariance of `length` consecutive tokens, (T, T)."""
        position = torch.arange(length)
        return self.autocovariance(length)[(position[:, None] - position[None, :]).abs()]

    def draw(self, sequences: int, length: int, generator: Generator) -> Tensor:
        """Fresh sequences, (B, T, 1) float64."""
        root: Tensor = torch.linalg.cholesky(self.covariance(length))
        noise = torch.randn(sequences, length, dtype=root.dtype, generator=generator)
        return (noise @ root.T)[..., None]


def example() -> LinearGaussian:
    """The system of the exact tests: two latent numbers that rotate and decay."""
    transition = 0.97 * torch.tensor([[0.95, 0.30], [-0.30, 0.85]], dtype=torch.float64)
    state_noise = torch.tensor([0.05, 0.08], dtype=torch.float64).diag()
    emission = torch.tensor([1.0, 0.4], dtype=torch.float64)
    emission_noise = torch.tensor(0.02, dtype=torch.float64)
    variance = LinearGaussian(transition, state_noise, emission, emission_noise).autocovariance(1)[0]
    return LinearGaussian(transition, state_noise, emission / variance.sqrt(), emission_noise / variance)


@dataclass(frozen=True, kw_only=True)
class LinearGaussianOptions(TrainingOptions):
    """Become the Kalman filter of a small system, at every noise level: the test that the method learns the truth."""

    steps: int = 10000
    learning_rate: float = 5e-3
    warmup: int = 200
    weight_decay: float = 0.0
    average: float = 0.998
    checkpoint_every: int = 500
    batch: int = 256
    """Sequences in a batch; every batch is drawn anew."""
    length: int = 24
    """Tokens in a sequence."""
    width: int = 48
    """Width of the recurrent network."""


def experiment(options: LinearGaussianOptions) -> Experiment:
    """A recurrent network on the example system, asked at all patterns of levels."""
    process = example()

    def batches(step: int, generator: Generator) -> Batch:
        return Batch(process.draw(options.batch, options.length, generator).float())

    return Experiment(
        denoiser=Denoiser(RecurrentNetwork(1, options.width), LogSNR()),
        objective=DiffusionForcing(any_pattern()),
        batches=batches,
        # No validation: a batch is never seen twice, so the averaged weights at the end are the ones to keep.
        picture=lambda denoiser, path: draw_autocovariance(denoiser, path, process.autocovariance(16), options),
    )


def any_pattern() -> DrawLevels:
    """Levels for a network that will be asked anything, without the patterns it is tested on.

    Levels that are all equal, that only rise or fall, or that are clean in one place alone are never drawn: how the
    network answers them is what it has understood (tests/recipes).
    """
    return WithExactEnds(
        Mixture((independent, clustered, scattered_ends, halfway), (0.25, 0.35, 0.15, 0.25)),
        clean_history=0.25,
        pure_noise_future=0.15,
    )


def clustered(sequences: int, length: int, generator: Generator) -> Tensor:
    """Levels around a centre of each sequence, with a spread of its own: much like another, never the same."""
    centre, spread = (independent(sequences, 1, generator) for _ in range(2))
    around = torch.randn(sequences, length, generator=generator, device=generator.device)
    return (1.1 * centre - 0.05 + 0.3 * spread * around).clamp(0, 1)


def scattered_ends(sequences: int, length: int, generator: Generator) -> Tensor:
    """Independent levels of which some, anywhere, are exactly 0 or exactly 1: seen and missing values."""
    levels = independent(sequences, length, generator)
    exact = independent(sequences, length, generator) < independent(sequences, 1, generator)
    return torch.where(exact, independent(sequences, length, generator).round(), levels)


def halfway(sequences: int, length: int, generator: Generator) -> Tensor:
    """Levels around 1/2, where signal and noise are alike and there is most to be learned (log-SNR about +-3.4)."""
    around = torch.randn(sequences, length, generator=generator, device=generator.device)
    return (0.5 + 0.12 * around).clamp(0, 1)


def draw_autocovariance(denoiser: Denoiser, path: Path, truth: Tensor, options: TrainingOptions) -> None:
    """A picture of how sampled sequences remember themselves, beside the truth."""
    from matplotlib.figure import Figure

    sequences, length, lags = 200, 64, len(truth)
    generator = generator_for(options.seed, "picture")
    noise = torch.randn(length, sequences, 1, 1, generator=generator)
    tokens = torch.cat(list(rollout(denoiser, noise, autoregressive(1, 40))), dim=1)[..., 0]
    sampled = torch.stack([(tokens[:, : length - k] * tokens[:, k:]).mean() for k in range(lags)])
    figure = Figure(figsize=(6, 3.5), layout="constrained")
    axis = figure.subplots()
    axis.plot(truth, color="black", label="the system")
    axis.plot(sampled, "o", color="tab:blue", label=f"{sequences} roll-outs of {length} tokens")
    axis.set(xlabel="lag", ylabel="autocovariance")
    axis.legend()
    figure.savefig(path, dpi=100, format="png")
