"""Two paths that cross: a model that remembers where it came from goes straight on, one that forgets may turn off."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Generator, Tensor

from noiseladder.diffusion.batch import Batch
from noiseladder.diffusion.denoiser import Denoiser
from noiseladder.diffusion.memory import ShortMemory
from noiseladder.diffusion.noise import Cosine
from noiseladder.diffusion.objective import DiffusionForcing
from noiseladder.diffusion.sampling import Step, rollout
from noiseladder.diffusion.scheduling_matrix import autoregressive
from noiseladder.diffusion.training_levels import WithExactEnds, independent
from noiseladder.networks import RecurrentNetwork
from noiseladder.training import Experiment, TrainingOptions, generator_for

from .paths import LATE, NEITHER, distances_off_course, draw_paths, nearest_within

LENGTH = 12
"""Tokens in a path; the first is given when sampling."""
MIDDLE = (4, 7)
"""The tokens from .. to (exclusive) that both paths share: both run along y = 0 there."""
WOBBLE = 0.05
"""Standard deviation of a path around its course, at every step and in both directions."""
TOLERANCE = 0.3
"""A path has a shape when it is never further off its course than this, and ends within twice this of its end."""
SHAPES = ("up, down", "down, up", "up, up", "down, down")
"""Where a path starts and where it ends; the first two are trained on."""
COLOURS = ("tab:blue", "tab:cyan", "tab:red", "tab:orange")
CONTEXTS = (None, 1, 2, 3, 4, 5, 6, 8)
"""How many tokens are remembered in the report; None is all."""


@dataclass(frozen=True, kw_only=True)
class Cross(TrainingOptions):
    """Two paths share a middle: how much of the past must be remembered to end where training ended?"""

    steps: int = 1000
    learning_rate: float = 8e-3
    average: float = 0.99
    validate_every: int = 500
    checkpoint_every: int = 500
    batch: int = 32
    """Paths in a batch."""
    width: int = 40
    """Width of the recurrent network."""
    samples: int = 500
    """Paths sampled from each start, for each context length, when training is done."""


def experiment(options: Cross) -> Experiment:
    """One model. It sees pieces of paths that begin anywhere, so beginning to look half-way is nothing new to it."""

    def batches(step: int, generator: Generator) -> Batch:
        return cut_anywhere(draw(options.batch, generator), generator)

    generator = generator_for(options.seed, "validation crosses")
    return Experiment(
        denoiser=Denoiser(RecurrentNetwork(2, options.width), Cosine()),
        objective=DiffusionForcing(
            WithExactEnds(independent, clean_history=0.5),
            query_levels=WithExactEnds(independent, clean_history=0.0),
            query_share=0.8,
        ),
        batches=batches,
        validation=cut_anywhere(draw(256, generator), generator),
        picture=lambda denoiser, path: print(report(denoiser, options, path)),
    )


def shapes() -> Tensor:
    """The four ways to join a start to an end, without wobble, in the order of SHAPES: (4, T, 2)."""
    step = torch.arange(LENGTH)
    along = torch.linspace(-1.6, 1.6, LENGTH)
    before = (1 - step / MIDDLE[0]).clamp(min=0)
    after = ((step - MIDDLE[1] + 1) / (LENGTH - MIDDLE[1])).clamp(min=0)
    signs = ((1, -1), (-1, 1), (1, 1), (-1, -1))
    return torch.stack([torch.stack([along, start * before + end * after], dim=-1) for start, end in signs])


def shape_of(paths: Tensor) -> Tensor:
    """Which of the SHAPES each path (B, T, 2) has, or NEITHER: (B,)."""
    corners = shapes()
    # Points between the tokens, so that a course is a line and not a row of dots.
    between = torch.arange(8)[:, None] / 8
    courses = torch.lerp(corners[:, :-1, None], corners[:, 1:, None], between).flatten(1, 2)
    courses = torch.cat([courses, corners[:, -1:]], dim=1)
    return nearest_within(distances_off_course(paths, courses), TOLERANCE)


def draw(sequences: int, generator: Generator) -> Tensor:
    """Fresh training paths, (B, T, 2): a fair coin for which of the first two shapes, and the wobble."""
    shape = torch.randint(0, 2, (sequences,), generator=generator)
    return shapes()[shape] + WOBBLE * torch.randn(sequences, LENGTH, 2, generator=generator)


def cut_anywhere(paths: Tensor, generator: Generator) -> Batch:
    """Half of the paths whole, of the others the piece from a random token on; what is cut off is masked."""
    start = torch.randint(0, LENGTH, (len(paths), 1), generator=generator)
    whole = torch.rand(len(paths), 1, generator=generator) < 0.5
    place = torch.arange(LENGTH) + torch.where(whole, 0, start)
    inside = place < LENGTH
    pieces = paths.gather(1, place.clamp(max=LENGTH - 1)[..., None].expand(-1, -1, paths.shape[-1]))
    return Batch(pieces, mask=inside)


def sample_paths(
    denoiser: Denoiser, first: Tensor, generator: Generator, context: int | None = None, steps: int = 25
) -> Tensor:
    """Whole paths (B, T, 2) that go on from a first token (B, 1, 2), one token after the other.

    context: before each token the state is built anew from this many last tokens; None remembers all.
    steps: sampling steps a token.
    """
    if context is not None and context < 1:
        raise ValueError(f"context is {context}, expected at least 1 token to go on from, or None for all")
    remembering = denoiser if context is None else ShortMemory(denoiser, context)
    noise = (torch.randn(len(first), 1, 2, generator=generator) for _ in range(first.shape[1], LENGTH))
    step, state = Step(eta=1.0, generators=generator), remembering.observe(first)
    return torch.cat([first, *rollout(remembering, noise, autoregressive(1, steps), state=state, step=step)], dim=1)


def shares(paths: Tensor) -> tuple[float, ...]:
    """The share of paths (B, T, 2) that have each of the SHAPES, and of those that have none: five numbers."""
    found = shape_of(paths)
    return tuple(float((found == shape).float().mean()) for shape in (*range(len(SHAPES)), NEITHER))


def fresh_starts(samples: int, generator: Generator) -> Tensor:
    """First tokens of paths: `samples` at the upper start, then as many at the lower, (B, 1, 2)."""
    start = shapes()[:2, :1].repeat_interleave(samples, dim=0)
    return start + WOBBLE * torch.randn(start.shape, generator=generator)


def measure(denoiser: Denoiser, samples: int, seed: int, context: int | None) -> Tensor:
    """Sample paths from fresh starts, as many from each, remembering `context` tokens: (2 samples, T, 2)."""
    generator = generator_for(seed, "fresh crosses")
    return sample_paths(denoiser, fresh_starts(samples, generator), generator, context)


def report(denoiser: Denoiser, options: Cross, path: Path) -> str:
    """Sample with every context length, draw what comes out to `path`, and say it in a table."""
    found = {context: measure(denoiser, options.samples, options.seed, context) for context in CONTEXTS}
    draw_crossings(found, path)
    header = "".join(f"{name:>12}" for name in (*SHAPES, "none"))
    lines = [f"{'remembers':>10}{header}   of {2 * options.samples} paths (the first two shapes are trained on)"]
    for context, paths in found.items():
        lines.append(f"{'all' if context is None else context:>10}" + "".join(f"{s:12.1%}" for s in shares(paths)))
    rule = f"within {TOLERANCE} of its course, and ends within {LATE * TOLERANCE} of its end"
    return "\n".join([*lines, f"a path has a shape when it stays {rule}"])


def draw_crossings(found: Mapping[int | None, Tensor], path: Path) -> None:
    """The training paths, samples with full and with the shortest memory, and the shapes against memory."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 6.6), layout="constrained")
    ((data, full), (short, curve)) = figure.subplots(2, 2)
    shortest = min(context for context in found if context is not None)
    for axes, paths, title in (
        (data, draw(150, torch.Generator().manual_seed(0)), "What it is trained on: two paths that share a middle"),
        (full, found[None], "Remembers everything: the same two"),
        (short, found[shortest], "Remembers one token: all four ways through the middle"),
    ):
        shape = shape_of(paths)
        for number, (name, colour) in enumerate(zip(SHAPES, COLOURS)):
            draw_paths(axes, paths[shape == number][:40], colour, name, strength=0.35)
        draw_paths(axes, paths[shape == NEITHER][:15], "black", "none of these", strength=0.5)
        axes.set_title(title, fontsize="medium")
        axes.set(xlabel="x", ylabel="y", ylim=(-1.25, 1.25))
    contexts = [context for context in found if context is not None]
    table = torch.tensor([shares(found[context])[: len(SHAPES)] for context in contexts]) * 100
    places, styles = range(len(contexts)), ("o-", "s-", "o--", "s--")
    for number, (name, colour, style) in enumerate(zip(SHAPES, COLOURS, styles)):
        curve.plot(places, table[:, number], style, color=colour, label=name, markersize=4)
    curve.set_xticks(places, [str(context) for context in contexts])
    curve.set(xlabel="tokens remembered, chosen when sampling", ylabel="share of samples, %", ylim=(-2, 65))
    curve.set_title("The same model, more and more memory", fontsize="medium")
    legend = curve.legend(title="start, end", frameon=False, fontsize="small", ncols=2, loc="upper left")
    legend.get_title().set_fontsize("small")
    for axes in (data, full, short, curve):
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=120, format="png")
