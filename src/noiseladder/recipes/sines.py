"""Noisy sine waves: the smallest experiment, and a pattern for your own."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Generator, Tensor

from noiseladder.diffusion.batch import Batch
from noiseladder.diffusion.denoiser import Denoiser
from noiseladder.diffusion.noise import Cosine
from noiseladder.diffusion.objective import DiffusionForcing
from noiseladder.diffusion.sampling import rollout
from noiseladder.diffusion.scheduling_matrix import autoregressive
from noiseladder.diffusion.training_levels import WithExactEnds
from noiseladder.networks import RecurrentNetwork
from noiseladder.training import Experiment, TrainingOptions, generator_for


@dataclass(frozen=True, kw_only=True)
class Sines(TrainingOptions):
    """Learn to continue sine waves of unknown period, phase and height."""

    steps: int = 1000
    batch: int = 32
    """Sequences in a batch."""
    length: int = 48
    """Tokens in a sequence."""
    width: int = 64
    """Width of the recurrent network."""


def experiment(options: Sines) -> Experiment:
    """A small recurrent network on waves that are made up as they are needed."""

    def batches(step: int, generator: Generator) -> Batch:
        return Batch(waves(options.batch, options.length, generator))

    return Experiment(
        denoiser=Denoiser(RecurrentNetwork(1, options.width), Cosine()),
        objective=DiffusionForcing(WithExactEnds()),
        batches=batches,
        # Other waves than those trained on: another purpose, other random numbers.
        validation=Batch(waves(128, options.length, generator_for(options.seed, "validation waves"))),
        picture=lambda denoiser, path: draw_continuations(denoiser, path, options),
    )


def waves(sequences: int, length: int, generator: Generator) -> Tensor:
    """Sine waves with unit variance and a little noise, (B, T, 1)."""
    period, phase, height = (torch.rand(sequences, 1, generator=generator) for _ in range(3))
    time = torch.arange(length)
    angle = 2 * torch.pi * (time / (8 + 16 * period) + phase)
    noise = torch.randn(sequences, length, generator=generator)
    return ((0.5 + height) * angle.sin() / 0.72 + 0.05 * noise)[..., None]


def draw_continuations(denoiser: Denoiser, path: Path, options: Sines) -> None:
    """A picture of waves that were never seen, and several continuations of each."""
    from matplotlib.figure import Figure

    context, futures, rows = options.length // 2, 8, 3
    generator = generator_for(options.seed, "picture")
    truth = waves(rows, options.length, generator)
    state = denoiser.observe(truth[:, :context].repeat_interleave(futures, dim=0))
    noise = torch.randn(options.length - context, rows * futures, 1, 1, generator=generator)
    future = torch.cat(list(rollout(denoiser, noise, autoregressive(1, 20), state=state)), dim=1)
    figure = Figure(figsize=(8, 5), layout="constrained")
    for axis, wave, continuations in zip(
        figure.subplots(rows, 1, sharex=True), truth, future.unflatten(0, (rows, futures))
    ):
        axis.plot(range(context, options.length), continuations[..., 0].T, color="tab:blue", alpha=0.4, linewidth=1)
        axis.plot(wave[:, 0], color="black", linewidth=1)
        axis.axvline(context - 0.5, color="grey", linestyle=":")
    figure.suptitle("Black: waves never trained on. Blue: eight continuations from the dotted line.")
    figure.savefig(path, dpi=100, format="png")
