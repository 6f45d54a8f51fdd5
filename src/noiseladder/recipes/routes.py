"""Two routes around an island: a policy that samples takes one of them, the average of the two runs aground."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Generator, Tensor

from noiseladder.diffusion.batch import Batch
from noiseladder.diffusion.denoiser import Denoiser
from noiseladder.diffusion.noise import Cosine
from noiseladder.diffusion.objective import DiffusionForcing
from noiseladder.diffusion.training_levels import clean
from noiseladder.imitation.policy import Policy
from noiseladder.imitation.policy_knowledge import PolicyKnowledge
from noiseladder.imitation.policy_levels import Asked, Means, Remembered
from noiseladder.imitation.policy_tokens import PolicyTokens, Trace
from noiseladder.imitation.two_routes import Helm, TwoRoutes, sail
from noiseladder.networks import MinGRUNetwork
from noiseladder.training import Experiment, TrainingOptions, generator_for

COURSE = TwoRoutes()
STEPS, ETA = 16, 1.0  # of the sampler: with eta 0 about seven times as many end between the two routes


@dataclass(frozen=True, kw_only=True)
class Routes(TrainingOptions):
    """Learn to sail around an island from passages on both sides of it."""

    steps: int = 1500
    passages: int = 150
    """Demonstrations to learn from."""
    chunk: int = 8
    """Actions in a token."""
    moves: int = 2
    """How many of an action's values are moves that add up."""
    tokens: int = 7
    """Tokens in a sequence."""
    batch: int = 64
    """Sequences in a batch."""
    width: int = 128
    """Width of the network."""
    layers: int = 3
    """Layers of the network."""
    cloning: bool = False
    """Learn the average action instead, which is deterministic cloning; the network is the same."""
    average: float = 0.995


def experiment(options: Routes) -> Experiment:
    """A causal recurrent network on passages around the island."""
    traces = passages(options.passages, first=0)
    tokens = PolicyTokens.fit(traces, options.chunk, options.moves)
    table, held_out = tokens.table(traces), tokens.table(passages(64, first=1_000_000))

    def batches(step: int, generator: Generator) -> Batch:
        return table.draw(options.batch, options.tokens, 0.5, generator)

    if options.cloning:
        objective = DiffusionForcing(clean, query_levels=Means(tokens), query_share=1.0)
    else:
        objective = DiffusionForcing(Remembered(tokens), query_levels=Asked(tokens), query_share=0.8)

    def picture(denoiser: Denoiser, path: Path) -> None:
        print(draw({"": denoiser}, options, path))

    return Experiment(
        denoiser=Denoiser(MinGRUNetwork(tokens.size, options.width, options.layers, 1, tokens.parts), Cosine()),
        objective=objective,
        batches=batches,
        validation=held_out.draw(256, options.tokens, 0.5, generator_for(options.seed, "validation passages")),
        picture=picture,
        files=PolicyKnowledge(tokens, {}).save,
    )


def passages(count: int, first: int) -> list[Trace]:
    """Demonstrations with seeds `first`, `first` + 1, ..."""
    helm = Helm(COURSE)
    shown = (helm.demonstration(first + number) for number in range(count))
    return [PolicyKnowledge.trace(episode, {}) for episode in shown]


def voyages(policy: Policy, boats: int, seed: int) -> Tensor:
    """Where boats steered by a policy go, (B, T + 1, 2), until the course's time is up."""
    position = COURSE.start([generator_for(seed, "boats", number) for number in range(boats)])
    policy.reset(boats)
    seen = [position]
    while len(seen) <= COURSE.time_limit:
        for action in policy.act_on({"state": position}).unbind(1):
            position = COURSE.step(position, action)
            seen.append(position)
    return torch.stack(seen, dim=1)


def policy_of(denoiser: Denoiser, options: Routes) -> Policy:
    """The policy of these options; cloning has only one step to take, to the average."""
    tokens = PolicyTokens.fit(passages(options.passages, first=0), options.chunk, options.moves)
    steps, eta = (1, 0.0) if options.cloning else (STEPS, ETA)
    return Policy(denoiser, PolicyKnowledge(tokens, {}), steps, seed=options.seed, eta=eta)


def variants(options: Routes) -> dict[str, Routes]:
    """What is compared: the same network with another question."""
    return {"diffusion": replace(options, cloning=False), "cloning": replace(options, cloning=True)}


def report(models: Mapping[str, Denoiser], options: Routes, path: Path) -> str:
    """Draw the voyages of every variant and say how many run aground."""
    return draw(models, options, path, boats=500)


def draw(models: Mapping[str, Denoiser], options: Routes, path: Path, boats: int = 100) -> str:
    """A picture of voyages, side by side; returns a line for each model."""
    from matplotlib.figure import Figure
    from matplotlib.patches import Circle

    figure = Figure(figsize=(5 * len(models), 4.4), layout="constrained")
    lines, chosen = [], variants(options)
    for axis, (name, denoiser) in zip(figure.subplots(1, len(models), squeeze=False)[0], models.items()):
        paths = voyages(policy_of(denoiser, chosen.get(name, options)), boats, options.seed)
        crashed, arrived = sail(COURSE, paths)
        axis.add_patch(Circle((0, 0), COURSE.radius, color="0.8"))
        for voyage, hit in zip(paths[:60], crashed):
            ends = COURSE.arrived(voyage).long().argmax() if bool(COURSE.arrived(voyage).any()) else len(voyage)
            axis.plot(*voyage[: int(ends) + 1].T, color="tab:red" if hit else "tab:blue", linewidth=0.7)
        axis.set(xlim=(-1.1, 1.2), ylim=(-COURSE.shore, COURSE.shore), aspect="equal")
        line = f"{int(crashed.sum())} of {boats} boats run aground, {int(arrived.sum())} arrive"
        axis.set_title(f"{name}: {line}" if name else line, fontsize=9)
        lines.append(f"{name}: {line}" if name else line)
    figure.savefig(path, dpi=100, format="png")
    return "\n".join(lines)
