"""A whole swap imagined from its first frame, and what becomes of its actions in the simulator."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import permutations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .fruit_swap import HIGHEST_PLACE, LONGEST_MOVE, LOWEST_PLACE, FruitSwap
from .policy import ENDED, Felt, Policy
from .policy_tokens import STATE
from .tabletop import CAMERAS, FRUITS

LONGEST = 400  # steps
STILL = 10  # steps after the last action, for what rolls to come to rest
Arrangement = tuple[int | None, int | None]
"""The plates of apple and orange, None where a fruit lies on none."""


@dataclass(frozen=True)
class Dream:
    """An episode imagined from the first frame of a seed.

    seen: sense -> (n, size), one row for each token, the first of them real. actions: (n K, A). ended: whether it came
    to an end by itself.
    """

    seed: int
    seen: Mapping[str, Tensor]
    actions: NDArray[np.float32]
    ended: bool


@dataclass(frozen=True)
class Replayed:
    """What the simulator made of a dream's actions.

    places: where the fruits lay in the end. frames: (T, size, 2 size, 3), both cameras, when it was filmed.
    """

    places: Arrangement
    swapped: bool
    frames: tuple[NDArray[np.uint8], ...] = field(default=(), repr=False)


def sent_on(before: Mapping[str, Tensor], actions: Tensor, after: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """The senses `after` some actions with the hand where they sent it: a robot knows that without having to look.

    How far the hand still has to go is imagined; where it was sent is where it had been sent before and the moves
    since then, within the arm's reach.
    """
    moves = actions[..., :3].clamp(-LONGEST_MOVE, LONGEST_MOVE).sum(1)
    sent = before[STATE][:, :3] + before[STATE][:, 4:] + moves
    lowest, highest = (torch.as_tensor(place, dtype=sent.dtype) for place in (LOWEST_PLACE, HIGHEST_PLACE))
    state = after[STATE].clone()
    state[:, :3] = sent.clamp(lowest, highest) - state[:, 4:]
    return {**after, STATE: state}


def dream(world: FruitSwap, policy: Policy, seed: int, steps: int = 1, felt: Felt | None = sent_on) -> Dream:
    """Look once at the beginning of an episode, then only imagine: what is done, what is seen next, and so on.

    steps: of denoising, for what is seen and again for what is done; 1 imagines what happens on average, and more one
    of what may happen. felt: see `Policy.imagine`.
    """
    observation = world.reset(seed)
    policy.reset()
    chunk = policy.knowledge.tokens.chunk
    senses = {name: values for name, values in policy.knowledge.senses(observation).items() if values is not None}
    first = policy.act(observation)
    eyes_closed = {name: 1.0 for name in senses if name != STATE}
    imagined = policy.imagine(LONGEST // chunk - 1, steps, felt, eyes_closed)
    over = imagined.over[0] > ENDED
    ended = bool(over.any())
    last = int(over.int().argmax()) + 1 if ended else len(over)
    seen = {name: torch.cat([senses[name], imagined.seen[name][0, :last]]) for name in senses}
    actions = np.concatenate([first, imagined.actions[0, : last * chunk].numpy()])
    return Dream(seed, seen, actions, ended)


def replay(world: FruitSwap, found: Dream, film: bool = False) -> Replayed:
    """Live a dream's actions from the same beginning, without looking."""
    world.reset(found.seed)
    frames = []
    for action in [*found.actions, *np.zeros((STILL, 4))]:
        observation = world.step(action, look=film)
        if film:
            frames.append(np.concatenate([observation.pictures[camera] for camera in CAMERAS], axis=1))
    apple, orange = (world.slot_of(name) for name in FRUITS)
    return Replayed((apple, orange), (apple, orange) == (world.slots[1], world.slots[0]), tuple(frames))


@dataclass(frozen=True)
class ReadPlaces:
    """Reads off what the eyes say which fruit lies on which plate: the nearest of the six arrangements.

    cameras: their names. means: (6, F), deviation: (F,), of looks at each arrangement with the hand at home.
    """

    cameras: tuple[str, ...]
    means: Tensor
    deviation: Tensor

    @classmethod
    def learn(cls, world: FruitSwap, policy: Policy, looks: int = 8) -> ReadPlaces:
        """From `looks` beginnings of each arrangement, of seeds that nobody else uses."""
        cameras = tuple(name for name in policy.knowledge.tokens.senses if name != STATE)
        found = []
        for places in ARRANGEMENTS:
            seen = [policy.knowledge.senses(world.reset(900_000 + look, slots=places)) for look in range(looks)]
            found.append(torch.stack([_joined(one, cameras)[0] for one in seen]))
        together = torch.stack(found)
        deviation = (together - together.mean(1, keepdim=True)).square().mean((0, 1)).sqrt()
        return cls(cameras, together.mean(1), deviation.clamp(min=0.02))

    def __call__(self, seen: Mapping[str, Tensor | None]) -> Arrangement:
        """Senses -> plates of apple and orange."""
        distance = ((_joined(seen, self.cameras)[-1] - self.means) / self.deviation).square().mean(-1)
        return ARRANGEMENTS[int(distance.argmin())]


ARRANGEMENTS = tuple((apple, orange) for apple, orange in permutations(range(3), 2))


def _joined(seen: Mapping[str, Tensor | None], cameras: tuple[str, ...]) -> Tensor:
    values = [seen[name] for name in cameras]
    return torch.cat([part for part in values if part is not None], dim=-1)
