"""The planner everybody compares with: whole windows of the recording, denoised at one level between start and goal.

Diffuser for mazes (Janner et al., 2022): a bidirectional network learns windows of the recording as they are, always
told their first and last observation; a plan is the window between start and goal, made once and tracked by a
controller. Ours differs in three points that are not its idea: a transformer over groups of steps in place of a U-Net,
DDIM steps, and a cosine schedule.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Generator, Tensor

from noiseladder.diffusion.denoiser import Denoiser
from noiseladder.diffusion.sampling import final, sample
from noiseladder.diffusion.scheduling_matrix import full_sequence
from noiseladder.diffusion.training_levels import DrawLevels
from noiseladder.training.tensors_file import read_tensors, write_tensors

from .keyed_noise import EpisodeKeys, normal
from .pinned import Pinned
from .recordings import Recording

KIND = "windows of a recording"
FILE = "windows.safetensors"
HORIZONS = {"umaze": 128, "medium": 256, "large": 384}
"""Steps in a window, as published; elsewhere 256."""


@dataclass(frozen=True)
class WindowTokens:
    """How a window of `horizon` steps is written: K steps [o, a] in a token, each value of about unit size.

    A token: its first observation, its last one, then all else; the first two have noise levels of their own. middle,
    scale: (O + A,) of the recording.
    """

    horizon: int
    steps: int
    observation_size: int
    middle: tuple[float, ...]
    scale: tuple[float, ...]

    def __post_init__(self) -> None:
        if self.steps < 2 or self.horizon % self.steps:
            raise ValueError(
                f"a window of {self.horizon} steps in tokens of {self.steps}: expected 2 steps or more in a token, and"
                " a window of whole tokens"
            )

    @classmethod
    def learn(cls, recording: Recording, horizon: int, steps: int) -> WindowTokens:
        """Read the units off a recording."""
        rows = np.concatenate([recording.observations, recording.actions], axis=1)
        middle, scale = rows.mean(0, dtype=np.float64), rows.std(0, dtype=np.float64).clip(min=1e-6)
        size = recording.observations.shape[1]
        return cls(horizon, steps, size, tuple(middle.tolist()), tuple(scale.tolist()))

    @property
    def length(self) -> int:
        """Tokens in a window."""
        return self.horizon // self.steps

    @property
    def size(self) -> int:
        """Values of a token."""
        return self.steps * len(self.middle)

    @property
    def parts(self) -> tuple[int, ...]:
        """First observation, last observation, the rest."""
        return self.observation_size, self.observation_size, self.size - 2 * self.observation_size

    @cached_property
    def order(self) -> Tensor:
        """Where each value of a token is in its steps [o, a, o, a, ...]."""
        width, seen = len(self.middle), self.observation_size
        ends = [*range(seen), *range((self.steps - 1) * width, (self.steps - 1) * width + seen)]
        return torch.tensor([*ends, *(value for value in range(self.size) if value not in ends)])

    def join(self, observations: Tensor, actions: Tensor) -> Tensor:
        """(B, H, O), (B, H, A) -> tokens (B, T, D)."""
        rows = (torch.cat([observations, actions], dim=-1) - torch.tensor(self.middle)) / torch.tensor(self.scale)
        return rows.view(len(rows), self.length, self.size)[..., self.order].float()

    def split(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens (B, T, D) -> observations (B, H, O) and actions (B, H, A)."""
        rows = tokens[..., self.order.argsort()].unflatten(-1, (self.steps, -1)).flatten(1, 2)
        rows = rows * torch.tensor(self.scale) + torch.tensor(self.middle)
        return rows[..., : self.observation_size], rows[..., self.observation_size :]

    def ends(self, first: Tensor, last: Tensor) -> tuple[Tensor, Tensor]:
        """Observations (B, O) that a window begins and ends with, as tokens (B, T, D), and where they are, bool."""
        size = self.observation_size
        middle, scale = torch.tensor(self.middle[:size]), torch.tensor(self.scale[:size])
        known = torch.zeros(len(first), self.length, self.size)
        known[:, 0, :size], known[:, -1, size : 2 * size] = (first - middle) / scale, (last - middle) / scale
        return known, self.pinned().expand(len(first), -1, -1)

    def pinned(self) -> Tensor:
        """(1, T, D) bool: the first and the last observation of a window."""
        size, where = self.observation_size, torch.zeros(1, self.length, self.size, dtype=torch.bool)
        where[:, 0, :size] = where[:, -1, size : 2 * size] = True
        return where

    def save(self, folder: Path) -> None:
        """Write windows.safetensors into a folder, atomically."""
        write_tensors(folder / FILE, {}, {"kind": KIND, **asdict(self)})

    @classmethod
    def load(cls, folder: Path) -> WindowTokens:
        """Read it back. Raises ValueError for a damaged or foreign file, OSError where there is none."""
        _, note = read_tensors(folder / FILE)
        if note.pop("kind", None) != KIND:
            raise ValueError(f"{folder / FILE} holds no {KIND}: train the diffuser recipe again")
        return cls(**{**note, "middle": tuple(note["middle"]), "scale": tuple(note["scale"])})


@dataclass(frozen=True)
class Windows:
    """Random windows of a recording, none of which crosses the end of a trajectory.

    Raises ValueError where no trajectory is as long as a window.
    """

    recording: Recording
    tokens: WindowTokens

    def __post_init__(self) -> None:
        if not len(self.begins):
            raise ValueError(f"no trajectory of the recording has {self.tokens.horizon} steps: give a shorter horizon")

    @cached_property
    def begins(self) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        """Rows at which a window may begin."""
        ends, horizon = self.recording.ends, self.tokens.horizon
        last = np.flatnonzero(ends)[np.searchsorted(np.flatnonzero(ends), np.arange(len(ends)))]
        return np.flatnonzero(np.arange(len(ends)) + horizon - 1 <= last)

    def draw(self, begins: np.ndarray[tuple[int], np.dtype[np.int64]], count: int, generator: Generator) -> Tensor:
        """`count` of the windows that begin at these rows, as tokens (B, T, D)."""
        chosen = begins[torch.randint(len(begins), (count,), generator=generator).numpy()]
        rows = chosen[:, None] + np.arange(self.tokens.horizon)
        observations, actions = self.recording.observations[rows], self.recording.actions[rows]
        return self.tokens.join(torch.from_numpy(observations), torch.from_numpy(actions))


@dataclass(frozen=True)
class BetweenEnds:
    """Levels (B, T, D) for training: a window's first and last observation are known, the rest as `sampler` says."""

    sampler: DrawLevels
    tokens: WindowTokens

    def __call__(self, sequences: int, length: int, generator: Generator) -> Tensor:
        """Draw levels."""
        levels = self.sampler(sequences, length, generator)[..., None].expand(-1, -1, self.tokens.size)
        return torch.where(self.tokens.pinned(), 0.0, levels)


class DiffuserPlanner:
    """One plan from start to goal, then step by step what its controller says; an evaluator's planner.

    steps: of denoising. own_actions: does the plan's actions, blindly, and plans again at its end, in place of the
    controller: the next position minus this one plus the next velocity minus this one, as published for Maze2D.
    seed: of all noise; each episode has its own.
    """

    def __init__(
        self, denoiser: Denoiser, tokens: WindowTokens, steps: int = 32, own_actions: bool = False, seed: int = 0
    ) -> None:
        self.denoiser, self.tokens, self.steps, self.own_actions = denoiser, tokens, steps, own_actions
        self.keys, self.passed = EpisodeKeys(seed), 0
        self.planned: Tensor | None = None

    def reset(self, episodes: int) -> None:
        """Forget the plan: new episodes begin."""
        self.keys.reset(episodes)
        self.passed, self.planned = 0, None

    def plan(self, observation: Tensor, goal: Tensor) -> Tensor:
        """observation (B, O), goal (B, P) -> the next actions (B, h, A). Raises ValueError for shapes that differ."""
        size = self.tokens.observation_size
        if observation.ndim != 2 or observation.shape[1] != size or len(goal) != len(observation):
            raise ValueError(
                f"observation has shape {tuple(observation.shape)} and goal {tuple(goal.shape)}, expected (B, {size})"
                " and a goal for each"
            )
        observation, goal = observation.float(), goal.float()
        if self.own_actions:
            return self.whole(observation, goal)[1]
        if self.planned is None:
            self.planned, self.passed = self.whole(observation, goal)[0], 0
        self.passed += 1
        axes = goal.shape[1]
        target = self.planned[:, min(self.passed, self.tokens.horizon - 1)]
        if self.passed >= self.tokens.horizon:
            target = torch.cat([target[:, :axes], torch.zeros_like(target[:, axes:])], dim=1)
        error = target - observation
        return (error[:, :axes] + (error[:, axes:] if size > axes else 0.0)).clamp(-1, 1)[:, None]

    def whole(self, observation: Tensor, goal: Tensor) -> tuple[Tensor, Tensor]:
        """A window from here to rest at the goal: observations (B, H, O), actions (B, H, A)."""
        tokens, count = self.tokens, len(observation)
        last = torch.cat([goal, observation.new_zeros(count, tokens.observation_size - goal.shape[1])], dim=1)
        known, where = tokens.ends(observation, last)
        noise = normal(self.keys.next(count), (tokens.length, tokens.size))
        denoiser = Pinned(self.denoiser, known, where)
        return tokens.split(final(sample(denoiser, noise, full_sequence(tokens.length, self.steps))))
