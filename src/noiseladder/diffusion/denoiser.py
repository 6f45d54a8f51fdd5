"""A denoiser is a sequence network that is told how noisy each token is and says what lies under the noise.

`Denoiser.forward` looks at tokens without changing the state; `Denoiser.observe` reads tokens into a new state and
is a Bayes filter: level 1 is the prior (time passes, nothing is seen), level 0 the posterior, between lies a
noisy observation.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Protocol, cast, runtime_checkable

import torch
from torch import Tensor, nn

from .noise import NoiseSchedule, check_levels, spread
from .state import State


class SequenceNetwork(Protocol):
    """Any module that reads a sequence and says what it has read in a State.

    tokens (B, T, ...), levels (B, T) or (B, T, D), condition (B, T, C) or None -> output like tokens, new state.
    `causal`: output t depends on tokens <= t only. A network may also offer `prepare(state) -> State`, which does
    the work that the next calls with this state have in common, `query(...)` for two streams (`AnswersQueries`), and
    the two halves of a call, where one alone is cheaper (`WorksInHalves`).
    """

    causal: bool

    def __call__(
        self, tokens: Tensor, levels: Tensor, condition: Tensor | None, state: State
    ) -> tuple[Tensor, State]: ...

    def initial_state(self, batch: int) -> State:
        """What is known before any token; the same in training and in use."""
        ...


class AnswersQueries(Protocol):
    """A network that can be asked for every token twice in one pass: two streams.

    The main stream is read as always. Query t reads the state after main tokens < t and its own noisy version of
    token t. Returns the outputs of both streams.
    """

    def query(
        self,
        tokens: Tensor,
        levels: Tensor,
        condition: Tensor | None,
        state: State,
        query_tokens: Tensor,
        query_levels: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """tokens, query_tokens (B, T, ...); levels, query_levels (B, T) -> (output, query output)."""
        ...


@runtime_checkable
class AnswersAlone(Protocol):
    """A network that can give the answers of `query` without the outputs of the main stream."""

    def answer(
        self,
        tokens: Tensor,
        levels: Tensor,
        condition: Tensor | None,
        state: State,
        query_tokens: Tensor,
        query_levels: Tensor,
    ) -> Tensor:
        """Shapes as in `AnswersQueries.query`."""
        ...


@runtime_checkable
class WorksInHalves(Protocol):
    """A network that can give the output alone, or the new state alone; arguments as in its call."""

    def look(self, tokens: Tensor, levels: Tensor, condition: Tensor | None, state: State) -> Tensor:
        """The output, without reading the tokens into a state."""
        ...

    def read(self, tokens: Tensor, levels: Tensor, condition: Tensor | None, state: State) -> State:
        """The new state, without looking at what lies under the noise."""
        ...


class Denoises(Protocol):
    """All that sampling, guidance and likelihood need: a denoiser, bare or guided or exact."""

    @property
    def schedule(self) -> NoiseSchedule:
        """What the levels mean."""
        ...

    def __call__(
        self, noisy: Tensor, levels: Tensor, condition: Tensor | None = None, state: State | None = None
    ) -> Denoised:
        """Denoise tokens (B, T, ...) that follow what `state` holds; the state is left as it was."""
        ...

    def observe(
        self,
        tokens: Tensor,
        condition: Tensor | None = None,
        state: State | None = None,
        level: float | Tensor = 0.0,
        noise: Tensor | None = None,
    ) -> State:
        """The state after reading clean tokens (B, T, ...) as if they were at `level`."""
        ...

    def initial_state(self, batch: int) -> State:
        """The state before any token."""
        ...


class Prediction(Enum):
    """What the output of a network stands for.

    At level 1 the network does not see the token (it says nothing), so noise and flow, which could only be copied
    from it, are replaced there by their limit without the token: minus the clean guess, as for velocity.
    """

    NOISE = "noise"
    CLEAN = "clean"
    VELOCITY = "velocity"  # alpha * noise - sigma * clean (Salimans and Ho, 2022)
    FLOW = "flow"  # noise - clean (Liu et al., 2022)


@dataclass(frozen=True)
class Denoised:
    """Best guesses under noisy tokens (B, T, ...): noisy = alpha * clean + sigma * noise, always."""

    clean: Tensor
    noise: Tensor

    def moved_by(self, score: Tensor, alpha: Tensor, sigma: Tensor) -> Denoised:
        """Add a score (gradient of a log-density by the noisy tokens) so that both guesses still explain the input.

        noise - sigma * score, clean + sigma^2 / alpha * score (Dhariwal and Nichol, 2021). Where alpha is 0 the
        token is not seen and the score of a density cannot move it.
        """
        seen = alpha > 0
        score = torch.where(seen, score, 0.0)
        return Denoised(self.clean + sigma**2 / torch.where(seen, alpha, 1.0) * score, self.noise - sigma * score)

    def detach(self) -> Denoised:
        """The same guesses, cut from the autograd graph."""
        return Denoised(self.clean.detach(), self.noise.detach())


class Denoiser(nn.Module):
    """Wraps a network: noisy tokens in, guesses of clean tokens and noise out.

    A token at level 1 is hidden from the network, so nothing depends on it, to the bit; a missing value is a token
    at level 1 and may be NaN.
    """

    def __init__(
        self,
        network: SequenceNetwork,
        schedule: NoiseSchedule,
        prediction: Prediction = Prediction.VELOCITY,
    ):
        super().__init__()
        self.network, self.schedule, self.prediction = network, schedule, prediction
        # A network may have a layer called `read`: only both names together mean halves. Asked once, for it is slow.
        self.in_halves = isinstance(network, WorksInHalves)

    @property
    def causal(self) -> bool:
        """Whether a guess depends on no later token; then samplers run only the tokens that matter."""
        return self.network.causal

    def initial_state(self, batch: int) -> State:
        """The state of `batch` sequences before any token."""
        return self.network.initial_state(batch)

    def prepare(self, state: State) -> State:
        """Do once what all calls that start from `state` have in common; results stay the same."""
        prepare = getattr(self.network, "prepare", None)
        return state if prepare is None else cast(State, prepare(state))

    def forward(
        self, noisy: Tensor, levels: Tensor, condition: Tensor | None = None, state: State | None = None
    ) -> Denoised:
        """Denoise tokens that follow what `state` holds; the state is left as it was.

        noisy: (B, T, ...). levels: (B, T), or (B, T, D) where parts of a token have their own. condition:
        (B, T, C). Raises ValueError for levels outside [0, 1] and shapes that do not fit.
        """
        check_shapes(noisy, levels, condition)
        check_levels(levels)
        state = self.initial_state(len(noisy)) if state is None else state
        hidden = hide_pure_noise(noisy, levels)
        if self.in_halves:
            output = cast(WorksInHalves, self.network).look(hidden, levels, condition, state)
        else:
            output, _ = self.network(hidden, levels, condition, state)
        return self.interpret(output, noisy, levels)

    def observe(
        self,
        tokens: Tensor,
        condition: Tensor | None = None,
        state: State | None = None,
        level: float | Tensor = 0.0,
        noise: Tensor | None = None,
    ) -> State:
        """The state after reading clean `tokens` (B, T, ...) as if they were at `level`: one network call.

        level: a float, or (B, T), or (B, T, D): 0 trusts the tokens, 1 ignores them, between is a noisy
        observation. noise: like tokens, drawn once by the caller; None scales only. The old state is unchanged.
        """
        levels = (
            level
            if isinstance(level, Tensor)
            else torch.full(tokens.shape[:2], level, dtype=tokens.dtype, device=tokens.device)
        )
        state = self.initial_state(len(tokens)) if state is None else state
        if tokens.shape[1] == 0:
            return state
        check_shapes(tokens, levels, condition)
        check_levels(levels)
        seen = spread(levels, tokens) < 1
        if not bool((torch.isfinite(tokens) | ~seen).all()):
            raise ValueError(
                "observed tokens hold NaN or infinite values: give missing values level 1, or mend the data"
            )
        if noise is not None and noise.shape != tokens.shape:
            raise ValueError(f"noise has shape {tuple(noise.shape)}, expected that of the tokens {tuple(tokens.shape)}")
        tokens = torch.where(seen, tokens, 0.0)
        noisy = self.schedule.mix(tokens, torch.zeros_like(tokens) if noise is None else noise, levels)
        hidden = hide_pure_noise(noisy, levels)
        if self.in_halves:
            return cast(WorksInHalves, self.network).read(hidden, levels, condition, state)
        return self.network(hidden, levels, condition, state)[1]

    def interpret(self, output: Tensor, noisy: Tensor, levels: Tensor) -> Denoised:
        """Read the network's output as guesses of clean tokens and noise; exact at both ends."""
        alpha, sigma = self.schedule.shares(levels, noisy)
        hidden, known = alpha == 0, sigma == 0
        seen = noisy.masked_fill(hidden, 0.0)  # so that a clean guess does not depend on a hidden token, NaN included
        match self.prediction:
            case Prediction.VELOCITY:
                power = alpha**2 + sigma**2
                return Denoised((alpha * seen - sigma * output) / power, (sigma * noisy + alpha * output) / power)
            case Prediction.FLOW:
                total = alpha + sigma
                flow = torch.where(hidden, 0.0, output)
                return Denoised((seen - sigma * output) / total, (noisy + alpha * flow) / total)
            case Prediction.NOISE:
                clean = (seen - sigma * output) / alpha.masked_fill(hidden, 1.0)
                return Denoised(torch.where(hidden, -output, clean), torch.where(hidden, noisy, output))
            case Prediction.CLEAN:
                clean = torch.where(known, noisy, output)
                return Denoised(clean, (noisy - alpha * clean) / sigma.masked_fill(known, 1.0))

    def target(self, clean: Tensor, noise: Tensor, levels: Tensor) -> Tensor:
        """The output that a network which knew everything would give; the inverse of `interpret`."""
        alpha, sigma = self.schedule.shares(levels, clean)
        match self.prediction:
            case Prediction.CLEAN:
                return clean
            case Prediction.VELOCITY:
                return alpha * noise - sigma * clean
            case Prediction.NOISE:
                return torch.where(alpha == 0, -clean, noise)
            case Prediction.FLOW:
                return torch.where(alpha == 0, -clean, noise - clean)


def hide_pure_noise(noisy: Tensor, levels: Tensor) -> Tensor:
    """Zero the tokens at level 1: they tell the network nothing."""
    return torch.where(spread(levels, noisy) < 1, noisy, 0.0)


def answers(
    network: SequenceNetwork,
    tokens: Tensor,
    levels: Tensor,
    condition: Tensor | None,
    state: State,
    query_tokens: Tensor,
    query_levels: Tensor,
) -> Tensor:
    """The answers of a network that is asked for every token twice; the main stream, which has no loss, if it must."""
    if isinstance(network, AnswersAlone):
        return network.answer(tokens, levels, condition, state, query_tokens, query_levels)
    in_streams = cast(AnswersQueries, network)
    return in_streams.query(tokens, levels, condition, state, query_tokens, query_levels)[1]


def check_shapes(tokens: Tensor, levels: Tensor, condition: Tensor | None) -> None:
    """Raise ValueError unless tokens, levels and condition belong together."""
    if tokens.ndim < 3 or not tokens.is_floating_point():
        raise ValueError(
            f"tokens are {tokens.dtype} of shape {tuple(tokens.shape)}, expected floats of shape (B, T, ...)"
        )
    if levels.shape != tokens.shape[: levels.ndim] or levels.ndim < 2 or not levels.is_floating_point():
        raise ValueError(
            f"levels are {levels.dtype} of shape {tuple(levels.shape)}, expected floats of shape"
            f" {tuple(tokens.shape[:2])}: one level per token (or one per part, {tuple(tokens.shape)})"
        )
    if tokens.numel() == 0:
        raise ValueError(f"tokens have shape {tuple(tokens.shape)}, expected at least one sequence, step and value")
    if condition is not None and condition.shape[:2] != tokens.shape[:2]:
        raise ValueError(
            f"condition has shape {tuple(condition.shape)}, expected (B, T, C) with B, T = {tuple(tokens.shape[:2])}"
        )
