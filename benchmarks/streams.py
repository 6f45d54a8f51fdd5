"""What a query stream and exact ends buy: one small network, trained five ways, asked where each way of sampling asks.

    .venv/bin/python benchmarks/streams.py [--quick]

The process is the linear-Gaussian example, whose optimal denoiser is a Kalman filter. After 8 clean tokens 16 follow;
at random rows of three scheduling matrices the learned clean guesses of the tokens that move are compared with the
filter's: root mean square distance in standard deviations of a token. Prints a table and, last, one flat JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # small tensors are faster on one thread
sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))  # exact.py lives with the tests

import torch
from torch import Generator, Tensor

from exact import KalmanDenoiser
from noiseladder.diffusion.batch import Batch
from noiseladder.diffusion.denoiser import Denoiser
from noiseladder.diffusion.noise import Cosine
from noiseladder.diffusion.objective import DiffusionForcing
from noiseladder.diffusion.scheduling_matrix import autoregressive, causal_delay, full_sequence, pyramid
from noiseladder.diffusion.training_levels import Mixture, WithExactEnds, clean, independent
from noiseladder.networks import RecurrentNetwork
from noiseladder.recipes import linear_gaussian
from noiseladder.training import Experiment, TrainingOptions, generator_for, seeded, train

PROCESS = linear_gaussian.example()
FILTER = KalmanDenoiser(PROCESS, Cosine())
CONTEXT, FUTURE, STEPS = 8, 16, 20

WAYS = {
    "one stream": DiffusionForcing(independent),
    "one stream, exact ends": DiffusionForcing(WithExactEnds(independent)),
    "two streams, clean history": DiffusionForcing(clean, query_levels=independent, query_share=1.0),
    "two streams, noisy history": DiffusionForcing(independent, query_levels=independent, query_share=0.5),
    "two streams, either history": DiffusionForcing(
        Mixture((WithExactEnds(independent), clean), (0.5, 0.5)), query_levels=independent, query_share=0.5
    ),
}
MATRICES = {
    "horizon 1": autoregressive(FUTURE, STEPS),
    "pyramid": pyramid(FUTURE, STEPS, causal_delay(Cosine(), STEPS)),
    "whole sequence": full_sequence(FUTURE, STEPS),
}


def learn(objective: DiffusionForcing, steps: int, seed: int) -> Denoiser:
    """The network of one way of training."""

    def batches(step: int, generator: Generator) -> Batch:
        return Batch(PROCESS.draw(64, CONTEXT + FUTURE, generator).float())

    options = TrainingOptions(steps=steps, learning_rate=5e-3, average=0.99, weight_decay=0.0, seed=seed, threads=1)
    with seeded(seed, "weights"):
        experiment = Experiment(Denoiser(RecurrentNetwork(1, 48), Cosine()), objective, batches)
    for _ in train(experiment, options):
        pass
    return experiment.denoiser


@torch.no_grad()
def distance(denoiser: Denoiser, matrix: Tensor, sequences: int = 2000) -> float:
    """Root mean square distance from the filter's clean guesses, over the tokens that move in random rows."""
    generator = generator_for(0, "streams")
    tokens = PROCESS.draw(sequences, CONTEXT + FUTURE, generator)
    past, future = tokens[:, :CONTEXT], tokens[:, CONTEXT:]
    rows = torch.randint(0, len(matrix) - 1, (sequences,), generator=generator)
    levels, moving = matrix[rows], matrix[rows] != matrix[rows + 1]
    noisy = FILTER.schedule.mix(future, torch.randn(future.shape, generator=generator).double(), levels.double())
    ours = denoiser(noisy.float(), levels, None, denoiser.observe(past.float())).clean.double()
    exact = FILTER(noisy, levels.double(), None, FILTER.observe(past)).clean
    return float((ours - exact)[moving].square().mean().sqrt())


def main() -> None:
    """Train, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="one seed and few training steps")
    quick = parser.parse_args().quick
    steps, seeds = (200, (0,)) if quick else (1000, (0, 1, 2))
    print(
        f"distance from the Kalman filter in standard deviations, {steps} steps, seeds {seeds}: mean (lowest, highest)"
    )
    print(f"{'trained with':<28}" + "".join(f"{name:>26}" for name in MATRICES))
    found: dict[str, float] = {}
    for way, objective in WAYS.items():
        models = [learn(objective, steps, seed) for seed in seeds]
        cells = []
        for name, matrix in MATRICES.items():
            errors = [distance(model, matrix) for model in models]
            mean = sum(errors) / len(errors)
            found[f"{way}, {name}".replace(",", "").replace(" ", "_")] = mean
            cells.append(f"{mean:.4f} ({min(errors):.4f}, {max(errors):.4f})")
        print(f"{way:<28}" + "".join(f"{cell:>26}" for cell in cells), flush=True)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
