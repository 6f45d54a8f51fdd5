"""A diffusion model becomes a search problem: a node holds a belief, and a child costs only its own new tokens.

After a finished chunk is observed, the state is all that is known of the past, so expanding a node never reads the
prefix again: the states of the selected leaves are gathered, one chunk each is denoised in one batched call, and
observed at a small stabilization level.

Who decides what: without chance, every chunk is a decision, and the world is taken to follow the plan. With
`decided`, a mask over the values of a chunk (its actions), a decision node proposes these values and its chance node
samples the rest of the chunk, the world's answer, again and again. With `alternate`, whole chunks take turns.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from noiseladder.diffusion.denoiser import Denoises
from noiseladder.diffusion.guidance import Inpainted
from noiseladder.diffusion.sampling import DDIM, Step, check_noise, final, walk
from noiseladder.diffusion.scheduling_matrix import check_matrix
from noiseladder.diffusion.state import State

from .keyed_noise import normal
from .search import Children, Leaves, SearchOptions, Tree, Widening, plant, search, tensors

Score = Callable[[Tensor], Tensor]
"""Clean tokens (B, T, ...) -> (B,), one number for each sequence by itself."""

Conditions = Callable[[Leaves], Tensor]
"""What the new tokens of n leaves are conditioned on, chunk and look-ahead: (n, c + l, C)."""

CHUNK, AHEAD, MEMORY = 0, 1, 2  # streams of a node's noise


@dataclass(frozen=True)
class Imagined(State):
    """A node's state: memory of all tokens up to here, and its own chunk of tokens (B, c, ...).

    At a chance node the memory ends before the chunk, of which only the decided values count.
    """

    memory: State
    tokens: Tensor


@dataclass(frozen=True)
class DiffusionTree:
    """`expand` for `search`: one chunk of tokens for each leaf from any denoiser, bare or guided.

    denoiser: its network may be recurrent (all leaves in one call) or a transformer (one call for each length of the
    past, as caches of different lengths are no batch). shape: (c, ...), a chunk without its batch. reward: of a
    chunk, (B, c, ...) -> (B,). value: of what follows, from the chunk and the tokens looked ahead, (B, c + l, ...) ->
    (B,); None is 0. matrix: (rows, c), how a chunk is denoised: few rows are cheap. ahead: (rows, l) for the look-ahead
    after the chunk, which may stop early and then is noisy; None does not look. ended: of a chunk, (B, c, ...) ->
    (B,) bool. level: how noisy a chunk is remembered. decided: (c, ...) bool, see above. alternate: decision chunks
    and chance chunks take turns, a decision first; a decision earns nothing until its outcome is there. label: of a
    chunk, (B, c, ...) -> (B,) whole numbers >= 0, equal for decisions or outcomes that are the same; None: all differ.
    condition: for a denoiser that was trained with one; it may depend on the parents' states, keys, slots and depth.
    step: DDIM; it may not draw noise of its own, as a node's noise belongs to its key.
    """

    denoiser: Denoises
    shape: tuple[int, ...]
    reward: Score
    matrix: Tensor
    value: Score | None = None
    ahead: Tensor | None = None
    ended: Score | None = None
    level: float = 0.0
    decided: Tensor | None = None
    alternate: bool = False
    label: Score | None = None
    condition: Conditions | None = None
    step: Step = DDIM
    dtype: torch.dtype = torch.float32

    def __post_init__(self) -> None:
        check_matrix(self.matrix)
        check_noise(torch.zeros(1, *self.shape), self.matrix, None)
        if self.ahead is not None:
            check_matrix(self.ahead, early_stop=True)
            if self.value is None:
                raise ValueError("looking ahead serves the value, but there is none: pass value=, or ahead=None")
        if self.step.eta > 0 or self.step.redraw_waiting:
            raise ValueError("this step draws noise of its own, but a node's noise belongs to its key: use eta=0")
        if self.decided is not None and (self.decided.shape != self.shape or self.decided.dtype != torch.bool):
            raise ValueError(
                f"decided is {self.decided.dtype} of shape {tuple(self.decided.shape)}, expected bool of a chunk's"
                f" shape {self.shape}"
            )
        if self.decided is not None and self.alternate:
            raise ValueError("decided and alternate are two ways to tell decisions from chance: pass one of them")

    def root(self, memory: State) -> Imagined:
        """The state of a root: what has been observed (batch 1), and no chunk of its own."""
        return Imagined(memory, torch.zeros(1, *self.shape, dtype=self.dtype))

    def __call__(self, leaves: Leaves) -> Children:
        """Denoise and observe one chunk for each leaf."""
        assert isinstance(leaves.states, Imagined)
        memory, given, asked = leaves.states.memory, leaves.states.tokens, torch.from_numpy(leaves.chance)
        noise = normal(leaves.keys, self.shape, CHUNK, self.dtype)
        denoiser = self.denoiser
        if self.decided is not None and bool(asked.any()):
            denoiser = Inpainted(denoiser, given, self.decided & spread(asked, given))
        condition, later = self.conditions(leaves)
        tokens = self.sample(denoiser, noise, self.matrix, memory, condition)
        if self.decided is None:
            after = self.remember(tokens, memory, leaves, condition)
            if not self.alternate:
                return self.judge(tokens, after, leaves, torch.zeros_like(asked), later)
            judged = self.judge(tokens, after, leaves, ~asked, later)
            return replace(judged, rewards=torch.where(asked, judged.rewards, 0.0))
        # A new decision has no consequences yet: its memory ends before the chunk, and it earns nothing.
        after = memory
        if bool(asked.any()):
            after = select(asked, self.remember(tokens, memory, leaves, condition), memory)
        judged = self.judge(tokens, after, leaves, ~asked, later)
        nothing = torch.zeros_like(judged.rewards)
        ended = None if judged.ended is None else judged.ended & asked
        rewards = torch.where(asked, judged.rewards, nothing)
        return replace(judged, rewards=rewards, ended=ended)

    def conditions(self, leaves: Leaves) -> tuple[Tensor | None, Tensor | None]:
        """Conditions of the chunk and of the look-ahead."""
        if self.condition is None:
            return None, None
        chunk = self.shape[0]
        length = chunk + (0 if self.ahead is None else self.ahead.shape[1])
        condition = self.condition(leaves)
        if condition.ndim != 3 or condition.shape[:2] != (len(leaves), length):
            raise ValueError(
                f"condition gave shape {tuple(condition.shape)}, expected ({len(leaves)}, {length}, C): one for each"
                " leaf and each new token, those of the look-ahead included"
            )
        return condition[:, :chunk], condition[:, chunk:]

    def judge(
        self, tokens: Tensor, after: State, leaves: Leaves, chance: Tensor, later: Tensor | None = None
    ) -> Children:
        """Reward, value and end of these chunks."""
        count, seen = len(tokens), tokens
        if self.ahead is not None:
            noise = normal(leaves.keys, (self.ahead.shape[1], *self.shape[1:]), AHEAD, self.dtype)
            seen = torch.cat([tokens, self.sample(self.denoiser, noise, self.ahead, after, later)], dim=1)
        values = torch.zeros(count, dtype=self.dtype) if self.value is None else self.value(seen)
        ended = None if self.ended is None else self.ended(tokens)
        labels = None if self.label is None else self.label(tokens)
        return Children(Imagined(after, tokens), self.reward(tokens), values, ended, chance, labels=labels)

    def sample(
        self, denoiser: Denoises, noise: Tensor, matrix: Tensor, memory: State, condition: Tensor | None
    ) -> Tensor:
        """The sampler's own walk down the matrix, whose checks were done once."""
        return final(walk(denoiser, noise, matrix, condition, memory, self.step))

    def remember(self, tokens: Tensor, memory: State, leaves: Leaves, condition: Tensor | None) -> State:
        """The state after the chunk, read at the stabilization level."""
        noise = normal(leaves.keys, self.shape, MEMORY, self.dtype) if self.level > 0 else None
        return self.denoiser.observe(tokens, condition, memory, self.level, noise)


def select(where: Tensor, one: State, other: State) -> State:
    """Rows of one state where `where` (B,), else of the other, which has the same shapes."""
    others = iter(tensors(other))

    def pick(tensor: Tensor) -> Tensor:
        return torch.where(spread(where, tensor), tensor, next(others))

    return one.map(pick)


def spread(where: Tensor, like: Tensor) -> Tensor:
    """(B,) shaped to broadcast over (B, ...)."""
    return where.reshape(-1, *(1,) * (like.ndim - 1))


def plan(tree: Tree, path: list[int], chance: bool = False) -> Tensor:
    """The tokens along a path from the root, joined over time: (T, ...).

    chance: the problem has `decided` values, so only chunks with the world's answer count, not the proposals.
    """
    chunks = []
    for node in path:
        if tree.parent[node] >= 0 and not (chance and tree.chance[node]):
            state = tree.state(np.array([node]))
            assert isinstance(state, Imagined)
            chunks.append(state.tokens[0])
    if not chunks:
        raise ValueError("the path holds no tokens: search first, then take principal_path(tree)")
    return torch.cat(chunks)


@dataclass(frozen=True)
class Speed:
    """What a second of search does.

    per_second: nodes in a second of the clock. per_core_second: nodes in a second of processor time, which does not
    mind what else the machine does. nodes, calls: how many were measured.
    """

    per_second: float
    per_core_second: float
    nodes: int
    calls: int


def expansions_per_second(
    problem: DiffusionTree, memory: State, batch: int = 256, seconds: float = 2.0, options: SearchOptions | None = None
) -> Speed:
    """Search for some seconds after a first search that warms up, on as many threads as torch has now.

    One expansion is all of: selection, gathering the state, keyed noise, every denoising row of the matrix, reading
    the chunk, reward and value, back-up. memory: the root's, batch 1.
    """
    if options is None:
        options = SearchOptions(batch=batch, decisions=Widening(2.0, 0.5), depth=64)
    for _ in search(problem, plant(problem.root(memory)), options, budget=4 * batch):
        pass
    tree = plant(problem.root(memory), seed=1)
    start, started = time.perf_counter(), time.process_time()
    for _ in search(problem, tree, options):
        if time.perf_counter() - start > seconds:
            break
    elapsed, worked = time.perf_counter() - start, time.process_time() - started
    nodes = len(tree) - 1
    return Speed(nodes / elapsed, nodes / worked, nodes, tree.calls)
