"""A fork in the road: a deterministic network drives between the two branches, Diffusion Forcing takes either."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Generator, Tensor

from noiseladder.diffusion.batch import Batch
from noiseladder.diffusion.denoiser import Denoiser, Prediction
from noiseladder.diffusion.noise import Cosine
from noiseladder.diffusion.objective import DiffusionForcing
from noiseladder.diffusion.sampling import DDIM, Step, final, sample
from noiseladder.diffusion.scheduling_matrix import autoregressive, full_sequence
from noiseladder.diffusion.training_levels import WithExactEnds, clean, independent
from noiseladder.networks import RecurrentNetwork
from noiseladder.training import Experiment, TrainingOptions, generator_for

from .paths import NEITHER, draw_paths, follows

STEM, LENGTH = 3, 6
"""Tokens before the fork, which every path shares, and tokens in all."""
WOBBLE = 0.08
"""Standard deviation of a path around its branch, at every step and in both directions."""
TOLERANCE = 0.6
"""A token is on a branch when it is no further from it than this: half-way to the average, which ends 1.2 from each."""

SAMPLING_STEPS = 25
"""Sampling steps from noise to a clean token."""


@dataclass(frozen=True, kw_only=True)
class Fork(TrainingOptions):
    """One path, two equally likely ways to go on: does the model take both, or the average?"""

    steps: int = 1500
    learning_rate: float = 8e-3
    average: float = 0.99
    validate_every: int = 500
    checkpoint_every: int = 500
    batch: int = 32
    """Paths in a batch."""
    width: int = 40
    """Width of the recurrent network."""
    samples: int = 2000
    """Paths sampled when training is done."""
    deterministic: bool = False
    """Train the same network to predict the future itself, with a squared error, instead of Diffusion Forcing."""


def experiment(options: Fork) -> Experiment:
    """The same network either way; deterministic means a clean history and a future that is hidden (level 1)."""
    if options.deterministic:
        prediction = Prediction.CLEAN
        objective = DiffusionForcing(WithExactEnds(clean, clean_history=0.0, pure_noise_future=1.0))
    else:
        prediction = Prediction.VELOCITY
        objective = DiffusionForcing(
            # Sampling goes on from clean tokens, so a clean history is practised often, and next tokens most of all.
            WithExactEnds(independent, clean_history=0.7),
            query_levels=WithExactEnds(independent, clean_history=0.0),
            query_share=0.8,
        )

    def batches(step: int, generator: Generator) -> Batch:
        return Batch(draw(options.batch, generator))

    return Experiment(
        denoiser=Denoiser(RecurrentNetwork(2, options.width), Cosine(), prediction),
        objective=objective,
        batches=batches,
        validation=Batch(draw(256, generator_for(options.seed, "validation forks"))),
        picture=lambda denoiser, path: print(report({name_of(options): denoiser}, options, path)),
    )


def variants(options: Fork) -> dict[str, Fork]:
    """What `noiseladder compare fork` trains."""
    return {name_of(each): each for each in (replace(options, deterministic=flag) for flag in (True, False))}


def name_of(options: Fork) -> str:
    """The variant these options make."""
    return "deterministic" if options.deterministic else "Diffusion Forcing"


def branches() -> Tensor:
    """The two ways, without wobble, (2, T, 2): along y = 0, then up to 1.2 or down to -1.2."""
    step = torch.arange(LENGTH)
    along = torch.linspace(-1.6, 1.6, LENGTH)
    away = 1.2 * ((step - STEM + 1) / (LENGTH - STEM)).clamp(min=0)
    return torch.stack([torch.stack([along, away], dim=-1), torch.stack([along, -away], dim=-1)])


def draw(sequences: int, generator: Generator) -> Tensor:
    """Fresh paths, (B, T, 2): a fair coin for the branch, and the wobble."""
    branch = torch.randint(0, 2, (sequences,), generator=generator)
    return branches()[branch] + WOBBLE * torch.randn(sequences, LENGTH, 2, generator=generator)


def continue_paths(denoiser: Denoiser, stems: Tensor, generator: Generator) -> Tensor:
    """Go on from given stems (B, STEM, 2): whole paths (B, T, 2).

    Diffusion Forcing samples one token after the other. The deterministic network says all of them at once, from
    level 1 to 0 in one step: its clean guess, whatever the noise.
    """
    noise = torch.randn(len(stems), LENGTH - STEM, 2, generator=generator)
    if denoiser.prediction is Prediction.CLEAN:
        matrix, step = full_sequence(LENGTH - STEM, 1), DDIM
    else:
        # Ancestral steps (eta 1) draw noise anew, which lets a token that sets out between the branches find one.
        matrix, step = autoregressive(LENGTH - STEM, SAMPLING_STEPS), Step(eta=1.0, generators=generator)
    rows = sample(denoiser, noise, matrix, state=denoiser.observe(stems), step=step)
    return torch.cat([stems, final(rows)], dim=1)


@dataclass(frozen=True)
class Outcome:
    """What became of sampled paths (B, T, 2).

    shares: of the paths, how many keep to the upper and to the lower branch all along. between: how many have a token
    that is near neither branch. switched: how many have every token near a branch, but not always the same.
    furthest: the greatest distance of any token from the nearer branch.
    """

    paths: Tensor
    shares: tuple[float, float]
    between: int
    switched: int
    furthest: float


def judge(paths: Tensor) -> Outcome:
    """Count which branch each path (B, T, 2) takes."""
    taken = follows(paths, branches(), TOLERANCE)
    shares = [float((taken == branch).float().mean()) for branch in (0, 1)]
    away = torch.linalg.vector_norm(paths[:, None] - branches()[None], dim=-1).amin(dim=1).amax(dim=1)
    between = away > TOLERANCE
    switched = (taken == NEITHER) & ~between
    return Outcome(paths, (shares[0], shares[1]), int(between.sum()), int(switched.sum()), float(away.max()))


def measure(denoiser: Denoiser, samples: int, seed: int) -> Outcome:
    """Continue fresh stems with a trained model and judge the paths."""
    generator = generator_for(seed, "fresh forks")
    return judge(continue_paths(denoiser, draw(samples, generator)[:, :STEM], generator))


def report(models: Mapping[str, Denoiser], options: Fork, path: Path) -> str:
    """Measure the models on fresh stems, draw what they do to `path`, and say it in a table."""
    outcomes = {name: measure(denoiser, options.samples, options.seed) for name, denoiser in models.items()}
    truth = judge(draw(options.samples, generator_for(options.seed, "true forks")))
    draw_outcomes(outcomes, path)
    lines = [
        f"{'':18} {'up':>6} {'down':>6} {'between':>8} {'switched':>9} {'furthest':>9}   of {options.samples} paths"
    ]
    for name, outcome in {"truth": truth, **outcomes}.items():
        up, down = outcome.shares
        lines.append(
            f"{name:18} {up:6.1%} {down:6.1%} {outcome.between:8d} {outcome.switched:9d} {outcome.furthest:9.2f}"
        )
    return "\n".join(
        [*lines, f"between: a token further than {TOLERANCE} from both branches; their average ends 1.2 from each"]
    )


def draw_outcomes(outcomes: Mapping[str, Outcome], path: Path) -> None:
    """One panel a model: its paths over the two branches."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(1.2 + 4.2 * len(outcomes), 3.8), layout="constrained")
    panels = figure.subplots(1, len(outcomes), sharey=True, squeeze=False)[0]
    for axes, (name, outcome) in zip(panels, outcomes.items()):
        for number, branch in enumerate(branches()):
            axes.plot(*branch.T, "--", color="black", linewidth=1.2, label=None if number else "the two branches")
        draw_paths(axes, outcome.paths[:150, STEM - 1 :], "tab:blue", "sampled paths (150 shown)")
        axes.plot(*branches()[0, :STEM].T, color="black", linewidth=2.5, label="given")
        up, down = outcome.shares
        axes.set_title(f"{name}\n{up:.0%} up, {down:.0%} down, {outcome.between / len(outcome.paths):.0%} on neither")
        axes.set(xlabel="x", ylim=(-1.5, 1.5))
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("y")
    # Lines that are thin where there are many should be seen in the legend.
    legend = panels[0].legend(loc="upper left", frameon=False, fontsize="small")
    for handle in legend.get_lines():
        handle.set_alpha(1)
    figure.savefig(path, dpi=120, format="png")
