"""A maze from offline data: plans that are faster than what they were learned from."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Generator, Tensor

from noiseladder.diffusion.batch import Batch
from noiseladder.diffusion.denoiser import Denoiser
from noiseladder.diffusion.noise import Cosine
from noiseladder.diffusion.objective import DiffusionForcing
from noiseladder.diffusion.training_levels import DrawLevels, WithExactEnds
from noiseladder.networks import MinGRUNetwork, TransformerNetwork
from noiseladder.planning.knowledge import Knowledge
from noiseladder.planning.plan_tokens import PlanTokens
from noiseladder.planning.planner import Planner
from noiseladder.planning.problems import problem
from noiseladder.planning.recordings import Recording
from noiseladder.planning.stories import Story
from noiseladder.training import Experiment, TrainingOptions, generator_for
from noiseladder.training.options import check_at_least

HELD_OUT = 256
SETTING_OUT = 0.4
"""Share of the sequences whose second token begins where their story does, often at rest."""


@dataclass(frozen=True, kw_only=True)
class Maze(TrainingOptions):
    """Learn to plan in a maze from a recording of somebody who walks in it."""

    maze: str = "large"
    """umaze, medium, large, ogbench-giant-stitch and so on, or your own recording: a .npz or .hdf5 file."""
    near: float = 0.5
    """For a recording of your own: how close to a goal is there."""
    steps: int = 1600
    batch: int = 96
    """Sequences in a batch."""
    tokens: int = 12
    """Tokens in a sequence."""
    steps_per_token: int = 8
    """World steps in a token."""
    stories: int = 8000
    """Stories told before training, from which sequences are cut."""
    story_steps: int = 400
    """World steps in a story."""
    observation_first: bool = False
    """Tokens [observation, actions, reward], as Diffuser has them, in place of [actions, reward, next observation]."""
    told: bool = True
    """Learn from stories; without, from pieces of the recording as it is, which is as slow as its demonstrator."""
    roadless: float = 0.25
    """Share of the sequences that are not told their road, which makes a model that energies can guide without one."""
    recurrent: bool = False
    """A minGRU in place of the causal transformer."""
    width: int = 96
    """Width of the network."""
    layers: int = 3
    """Layers of the network."""
    learning_rate: float = 2e-3
    validate_every: int = 200

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least(self, batch=1, tokens=1, steps_per_token=1, stories=1, story_steps=1, width=1, layers=1)


def network(options: Maze, tokens: PlanTokens) -> MinGRUNetwork | TransformerNetwork:
    """The causal network of a recipe.

    A token of the transformer sees no more tokens than a sequence of the training had: what it makes of more is
    anybody's guess, and plans of twice the length drifted by whole cells.
    """
    if options.recurrent:
        return MinGRUNetwork(tokens.size, options.width, options.layers, tokens.condition_size, tokens.parts)
    cache = max(2, options.tokens)
    return TransformerNetwork(
        tokens.size, options.width, options.layers, 4, tokens.condition_size, tokens.parts, cache=cache
    )


@dataclass(frozen=True)
class FromObservation:
    """Levels (B, T, D) for sequences that begin with an observation: the first token's landing is known.

    Where `begin` is 0 the parts of a token share one level.
    """

    sampler: DrawLevels
    tokens: PlanTokens
    begin: float = 0.7

    def __call__(self, sequences: int, length: int, generator: Generator) -> Tensor:
        """Draw levels; the same for all values of a token but the first."""
        levels = self.sampler(sequences, length, generator)[..., None].repeat(1, 1, self.tokens.size)
        before = self.tokens.parts[0]
        begins = torch.rand(sequences, 1, generator=generator, device=generator.device) < self.begin
        if not self.tokens.observation_first:  # otherwise what is done first is sampled like all that follows
            levels[:, 0, :before] = torch.where(begins, 1.0, levels[:, 0, :before])
        levels[:, 0, before:] = torch.where(begins, 0.0, levels[:, 0, before:])
        return levels


@dataclass(frozen=True)
class LandingsKnown:
    """Levels (B, T, D) for tokens that begin with their observation: of a share of them all but that is asked.

    It is what every plan begins with, whatever is remembered of the time before.
    """

    sampler: DrawLevels
    tokens: PlanTokens
    share: float = 0.7

    def __call__(self, sequences: int, length: int, generator: Generator) -> Tensor:
        """Draw levels; the same for all values of a token but its landing."""
        levels = self.sampler(sequences, length, generator)[..., None].repeat(1, 1, self.tokens.size)
        begins = torch.rand(sequences, length, 1, generator=generator, device=generator.device) < self.share
        landing = slice(self.tokens.parts[0], None)
        levels[..., landing] = torch.where(begins, 0.0, levels[..., landing])
        return levels


def often_hidden(sequences: int, length: int, generator: Generator) -> Tensor:
    """Independent levels, a third of them exactly 1: what a plan starts from."""
    levels = torch.rand(sequences, length, generator=generator, device=generator.device)
    hidden = torch.rand(sequences, length, generator=generator, device=generator.device) < 1 / 3
    return torch.where(hidden, 1.0, levels)


def experiment(options: Maze) -> Experiment:
    """A causal network on stories told from the recording. Raises ValueError where no sequence fits into a story."""
    if options.stories < 1 or options.tokens * options.steps_per_token > options.story_steps:
        raise ValueError(
            f"{options.tokens} tokens of {options.steps_per_token} steps from {options.stories} stories of"
            f" {options.story_steps} steps: expected at least 1 story, as long as a sequence"
        )
    task = problem(options.maze, options.near)
    recording = task.recording(None)
    knowledge = Knowledge.learn(recording, options.steps_per_token, task.near, options.maze, options.observation_first)
    told = [tell(knowledge, recording, options, part) for part in range(-(-options.stories // 2000))]
    tokens = knowledge.tokens

    def batches(step: int, generator: Generator) -> Batch:
        return cut(tokens, told[step % len(told)], options, options.batch, generator)

    asked: DrawLevels = FromObservation(often_hidden, tokens, begin=0.0)
    if options.observation_first:
        asked = LandingsKnown(often_hidden, tokens)
    return Experiment(
        denoiser=Denoiser(network(options, tokens), Cosine()),
        objective=DiffusionForcing(
            FromObservation(WithExactEnds(clean_history=0.6, pure_noise_future=0.2), tokens),
            query_levels=asked,
            query_share=0.5,
        ),
        batches=batches,
        validation=cut(
            tokens,
            tell(knowledge, recording, options, -1),
            options,
            HELD_OUT,
            generator_for(options.seed, "validation cuts"),
        ),
        picture=lambda denoiser, path: draw(denoiser, knowledge, path, options),
        files=knowledge.save,
    )


def tell(knowledge: Knowledge, recording: Recording, options: Maze, part: int) -> Story:
    """Up to 2000 stories; those of different parts have nothing in common."""
    generator, count = generator_for(options.seed, "stories", part + 1), min(2000, options.stories)
    if not options.told:
        return knowledge.stories.recorded(recording, count, options.story_steps, generator)
    return knowledge.stories.tell(count, options.story_steps, generator)


def cut(tokens: PlanTokens, story: Story, options: Maze, count: int, generator: Generator) -> Batch:
    """Random sequences of stories, most of which begin before the story has come to rest."""
    chosen = torch.randint(len(story.actions), (count,), generator=generator)
    part = Story(
        story.observations[chosen],
        story.actions[chosen],
        story.way[chosen],
        story.progress[chosen],
        story.spacing,
    )
    arrival = (part.progress >= part.progress[:, -1:]).int().argmax(1)
    first = torch.rand(count, generator=generator) * (arrival + 3 * options.steps_per_token)
    # Who is seen at rest has mostly arrived. Without more who set out, a model that is not told its road never would.
    begin = 0.0 if tokens.observation_first else -float(options.steps_per_token)
    first = torch.where(torch.rand(count, generator=generator) < SETTING_OUT, begin, first)
    first = first.long().clamp(max=options.story_steps - options.tokens * options.steps_per_token)
    values, condition = tokens.of_story(part, first, options.tokens)
    return Batch(*tokens.untold(values, condition, torch.rand(count, generator=generator) < options.roadless))


def draw(denoiser: Denoiser, knowledge: Knowledge, path: Path, options: Maze) -> None:
    """A picture of plans between random points."""
    from matplotlib.figure import Figure

    generator = generator_for(options.seed, "picture")
    roads = knowledge.roads
    start, goal = roads.anywhere(12, generator), roads.anywhere(12, generator)
    plan = Planner(denoiser, knowledge).plan(knowledge.body.at_rest(start), goal)
    figure = Figure(figsize=(7, 7), layout="constrained")
    axis = figure.subplots()
    axis.plot(*roads.centres.T, ".", color="0.85", markersize=3)
    for begin, end, positions in zip(start, goal, plan.positions):
        line = axis.plot(*torch.cat([begin[None], positions]).T, linewidth=1)[0]
        axis.plot(*end, "*", color=line.get_color(), markersize=9)
    axis.set_aspect("equal")
    axis.set_title("Plans between random points (stars: goals); grey: places the recording visited")
    figure.savefig(path, dpi=100, format="png")
