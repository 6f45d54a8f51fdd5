"""A hidden Markov chain with Gaussian emissions: many modes, and still every answer is known."""

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
from noiseladder.diffusion.training_levels import Mixture, WithExactEnds, clean, independent, pure_noise
from noiseladder.networks import RecurrentNetwork
from noiseladder.recipes.linear_gaussian import halfway
from noiseladder.training import Experiment, TrainingOptions, generator_for


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
        shares: Tensor = torch.linalg.lstsq(equations, wanted[:, None]).solution[:, 0]
        return shares

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


@dataclass(frozen=True, kw_only=True)
class HiddenMarkovOptions(TrainingOptions):
    """Learn a chain of three modes: samples must jump between them as the chain does, and never stay between."""

    steps: int = 5000
    learning_rate: float = 5e-3
    warmup: int = 200
    weight_decay: float = 0.0
    average: float = 0.998
    checkpoint_every: int = 500
    batch: int = 256
    """Sequences in a batch; every batch is drawn anew."""
    length: int = 12
    """Tokens in a sequence."""
    width: int = 48
    """Width of the recurrent network."""


def experiment(options: HiddenMarkovOptions) -> Experiment:
    """A recurrent network on the example chain."""
    process = example()

    def batches(step: int, generator: Generator) -> Batch:
        return Batch(process.draw(options.batch, options.length, generator).float())

    # Two streams: every token is asked for from the state before it, mostly after a clean history, because that is
    # what a roll-out asks; one stream would practise it on one token of a sequence.
    objective = DiffusionForcing(
        draw_levels=Mixture((clean, WithExactEnds()), (0.6, 0.4)),
        query_levels=Mixture((independent, halfway, pure_noise), (0.5, 0.4, 0.1)),
        query_share=0.7,
    )
    return Experiment(
        denoiser=Denoiser(RecurrentNetwork(1, options.width), LogSNR()),
        objective=objective,
        batches=batches,
        # No validation: a batch is never seen twice, so the averaged weights at the end are the ones to keep.
        picture=lambda denoiser, path: draw_modes(denoiser, path, process, options),
    )


def draw_modes(denoiser: Denoiser, path: Path, process: HiddenMarkovChain, options: TrainingOptions) -> None:
    """A picture of sampled sequences and of where their tokens lie, beside the chain's."""
    from matplotlib.figure import Figure

    generator = generator_for(options.seed, "picture")
    noise = torch.randn(60, 200, 1, 1, generator=generator)
    tokens = torch.cat(list(rollout(denoiser, noise, autoregressive(1, 40))), dim=1)[..., 0]
    figure = Figure(figsize=(8, 3.5), layout="constrained")
    series, shares = figure.subplots(1, 2, width_ratios=(2, 1))
    series.plot(tokens[:3].T, ".-", linewidth=0.5)
    series.set(xlabel="token", title="three roll-outs")
    bins = torch.linspace(-2.2, 2.2, 60).tolist()
    real = process.draw(2000, 60, generator).flatten()
    shares.hist(real, bins, density=True, color="lightgrey", label="the chain")
    shares.hist(tokens.flatten(), bins, density=True, histtype="step", color="tab:blue", label="roll-outs")
    shares.legend()
    figure.savefig(path, dpi=100, format="png")
