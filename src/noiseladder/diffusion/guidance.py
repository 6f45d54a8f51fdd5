"""Guidance wraps a denoiser and is used as one; wrappers compose, and the sampler knows nothing of them.

Each adds a score to the denoiser's own, or mixes the guesses of several calls. Both guesses move together, so that
noisy = alpha * clean + sigma * noise stays true. The exception to "adds" is `Inpainted`, which replaces.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor

from .denoiser import Denoised, Denoises
from .memory import Past
from .noise import NoiseSchedule, spread
from .sampling import DDIM
from .scheduling_matrix import check_matrix, full_sequence
from .state import State, of_kind

Energy = Callable[[Tensor], Tensor]
"""Clean tokens (B, T, ...) -> (B,), low where the sequence is wanted; each sequence by itself, never a mean."""


@dataclass(frozen=True)
class Guided(ABC):
    """A denoiser around a denoiser: the state of the past is the inner one's unless a wrapper says otherwise."""

    denoiser: Denoises

    @property
    def schedule(self) -> NoiseSchedule:
        """What the levels mean."""
        return self.denoiser.schedule

    def initial_state(self, batch: int) -> State:
        """The state before any token."""
        return self.denoiser.initial_state(batch)

    def prepare(self, state: State) -> State:
        """Do once what all calls that start from `state` have in common."""
        prepare = getattr(self.denoiser, "prepare", None)
        return state if prepare is None else cast(State, prepare(state))

    def observe(
        self,
        tokens: Tensor,
        condition: Tensor | None = None,
        state: State | None = None,
        level: float | Tensor = 0.0,
        noise: Tensor | None = None,
    ) -> State:
        """The state after reading clean tokens (B, T, ...) as if they were at `level`."""
        return self.denoiser.observe(tokens, condition, state, level, noise)

    @abstractmethod
    def __call__(
        self, noisy: Tensor, levels: Tensor, condition: Tensor | None = None, state: State | None = None
    ) -> Denoised:
        """Denoise tokens (B, T, ...) at `levels` (B, T) that follow what `state` holds."""


@dataclass(frozen=True)
class EnergyGuided(Guided):
    """Tilt the law by exp(-scale * energy): noise' = noise + sigma * scale * grad energy(clean guess).

    The gradient (Dhariwal and Nichol, 2021, algorithm 2, with the clean guess as in Chung et al., 2023) flows
    through the clean guess and back through the causal state, so an energy of a late token moves every earlier one.
    A token at level 1 is not seen and so not pushed. Approximate for finite noise; `particles` is exact. Around another
    guidance that differentiates, the gradient flows through that guidance too (second derivatives).
    """

    energy: Energy
    scale: float = 1.0

    def __post_init__(self) -> None:
        check_scale(self.scale)

    def __call__(
        self, noisy: Tensor, levels: Tensor, condition: Tensor | None = None, state: State | None = None
    ) -> Denoised:
        """Raises ValueError if the energy is not one finite number for each sequence or ignores the tokens."""
        with Differentiated(noisy) as leaf:
            denoised = self.denoiser(leaf.noisy, levels, condition, state)
            gradient = leaf.gradient(one_for_each(self.energy(denoised.clean), len(noisy)))
        return leaf.release(denoised).moved_by(-self.scale * gradient, *self.schedule.shares(levels, noisy))


@dataclass(frozen=True)
class LevelledGuided(Guided):
    """Energy guidance of a pyramid on a copy whose tokens are all as clean as its cleanest noisy one.

    Far tokens of a pyramid are nearly unseen, so an energy of theirs hardly pulls. Here a copy is denoised down to one
    level in `steps` DDIM steps, guided there, and its clean guess is read back as the guess of the tokens as they are;
    the sampler's own step then mixes the noise back up to each token's level (Chen et al., 2024, the talk's planning).
    Less certain tokens are pulled as if they were as certain as the copy, so by less than the tilted law asks: by about
    half for a linear energy of a linear-Gaussian process. Calls per guess: steps + 1, or 1 where levels are equal.
    """

    energy: Energy
    scale: float = 1.0
    steps: int = 2

    def __post_init__(self) -> None:
        check_scale(self.scale)
        if self.steps < 1:
            raise ValueError(f"steps is {self.steps}, expected at least 1: the copy has to be denoised")

    def __call__(
        self, noisy: Tensor, levels: Tensor, condition: Tensor | None = None, state: State | None = None
    ) -> Denoised:
        """Raises ValueError as EnergyGuided does."""
        lowest = torch.where(levels > 0, levels, 1.0).amin(dim=1, keepdim=True)
        there = torch.minimum(levels, lowest)
        copy, now = noisy, levels
        if not torch.equal(levels, there):
            for done in range(1, self.steps + 1):
                then = there if done == self.steps else levels + (there - levels) * (done / self.steps)
                copy = DDIM(self.schedule, copy, self.denoiser(copy, now, condition, state), now, then)
                now = then
        clean = EnergyGuided(self.denoiser, self.energy, self.scale)(copy, there, condition, state).clean
        alpha, sigma = self.schedule.shares(levels, noisy)
        known = sigma == 0
        clean = torch.where(known, noisy, clean)
        return Denoised(clean, (noisy - alpha * clean) / sigma.masked_fill(known, 1.0))


@dataclass(frozen=True)
class MonteCarloGuided(Guided):
    """Guidance by the energy averaged over whole sampled futures: Monte Carlo guidance (Chen et al., 2024).

    Tokens still at level 1 are undecided. From the state and the noisy decided tokens, every future is sampled to
    the end with DDIM, all in one batch, and the energy is averaged over them, so that what is decided now is pulled by
    the expected outcome and not by one guess of it. Gradients flow through the whole sampling of the futures.

    noise: (futures, T, ...), fixed, so the same input gives the same output. matrix: (rows, T), in which order the
    undecided tokens are sampled; None: all together in `steps` steps, which is cheap and, for a causal denoiser, has
    the schedule bias of no delay (futures vary too little): then pass a pyramid, or wrap a SmootherCorrected.
    Calls per guess: one, and one for each pair of rows on a batch `futures` times as large.
    """

    energy: Energy
    noise: Tensor
    scale: float = 1.0
    steps: int = 4
    matrix: Tensor | None = None

    def __post_init__(self) -> None:
        check_scale(self.scale)
        if self.steps < 1 or len(self.noise) < 1:
            raise ValueError(f"{len(self.noise)} futures in {self.steps} steps, expected at least one of each")
        if self.matrix is not None:
            check_matrix(self.matrix)

    def __call__(
        self, noisy: Tensor, levels: Tensor, condition: Tensor | None = None, state: State | None = None
    ) -> Denoised:
        """Raises ValueError as EnergyGuided does."""
        if self.noise.shape[1:] != noisy.shape[1:]:
            raise ValueError(
                f"the futures' noise has shape {tuple(self.noise.shape)}, expected (futures, *{tuple(noisy.shape[1:])})"
            )
        if not bool((levels == 1).any()):  # all is decided: there is one future
            return EnergyGuided(self.denoiser, self.energy, self.scale)(noisy, levels, condition, state)
        sequences, futures = len(noisy), len(self.noise)
        each = torch.arange(sequences, device=noisy.device).repeat_interleave(futures)
        state = self.initial_state(sequences) if state is None else state
        with Differentiated(noisy) as leaf:
            clean = self.imagine(
                leaf.noisy[each],
                self.noise.to(noisy).repeat(sequences, *(1,) * (noisy.ndim - 1)),
                levels[each],
                None if condition is None else condition[each],
                state[each],
            )
            energy = one_for_each(self.energy(clean), len(each)).reshape(sequences, futures).mean(dim=1)
            gradient = leaf.gradient(energy)
            denoised = self.denoiser(leaf.noisy, levels, condition, state)
        return leaf.release(denoised).moved_by(-self.scale * gradient, *self.schedule.shares(levels, noisy))

    def imagine(self, noisy: Tensor, noise: Tensor, levels: Tensor, condition: Tensor | None, state: State) -> Tensor:
        """Sample the undecided tokens to the end; return clean tokens, for the decided ones their clean guesses."""
        undecided = levels == 1
        tokens = torch.where(spread(undecided, noisy), noise, noisy)
        matrix = full_sequence(noisy.shape[1], self.steps) if self.matrix is None else self.matrix
        for now, then in pairwise(matrix.to(levels)):
            here, there = torch.where(undecided, now, levels), torch.where(undecided, then, levels)
            denoised = self.denoiser(tokens, here, condition, state)
            tokens = DDIM(self.schedule, tokens, denoised, here, there)
        return torch.where(spread(undecided, noisy), tokens, denoised.clean)


@dataclass(frozen=True)
class HistoryTerm:
    """One part of the history at one level: tokens [start:stop] of all so far, counted as slices are (start=-8: the
    last eight); the rest is at level 1."""

    weight: float
    level: float = 0.0
    start: int | None = None
    stop: int | None = None

    def levels(self, observed: Tensor) -> Tensor:
        """Levels (B, T) at which this term reads a history that was observed at levels (B, T)."""
        levels = torch.ones_like(observed)
        part = slice(self.start, self.stop)
        levels[:, part] = observed[:, part].clamp(min=self.level)
        return levels


@dataclass(frozen=True)
class HistoryState(State):
    """The whole history, and what the inner denoiser makes of it without any part and with each term's part."""

    without: State
    states: tuple[State, ...]
    past: Past | None = None


@dataclass(frozen=True)
class HistoryGuided(Guided):
    """History guidance (Song et al., 2025): s = s_0 + sum of w_i (s_i - s_0), with s_i the score given part i.

    Vanilla: one term with weight w. Temporal: several parts. Fractional: the whole history with weight 1, and at a
    level k with weight w - 1. Predictions are mixed, never samples, so steps with eta > 0 draw the right noise.
    Equal terms are merged, so the calls per guess are the number of distinct histories with weight. Observing reads
    the kept history again for every term, so it costs more the longer the history; `context` keeps the last tokens.
    A history at a level above 0 is blurred with the `noise` given to `observe`; without it, only scaled.
    """

    terms: tuple[HistoryTerm, ...]
    context: int | None = None

    def distinct(self) -> tuple[HistoryTerm, ...]:
        """The terms with equal histories merged; a history at level 1 is none and needs no call of its own."""
        weights: dict[HistoryTerm, float] = {}
        for term in self.terms:
            if term.level < 1:
                history = replace(term, weight=0.0, start=term.start or None)
                weights[history] = weights.get(history, 0.0) + term.weight
        return tuple(replace(history, weight=weight) for history, weight in weights.items())

    def initial_state(self, batch: int) -> HistoryState:
        """No history: all terms agree."""
        start = self.denoiser.initial_state(batch)
        return HistoryState(start, tuple(start for _ in self.distinct()))

    def prepare(self, state: State) -> State:
        """Prepare what each term has made of the history."""
        held = of_kind(HistoryState, state)
        without, *states = (super(HistoryGuided, self).prepare(s) for s in (held.without, *held.states))
        return HistoryState(without, tuple(states), held.past)

    def observe(
        self,
        tokens: Tensor,
        condition: Tensor | None = None,
        state: State | None = None,
        level: float | Tensor = 0.0,
        noise: Tensor | None = None,
    ) -> HistoryState:
        """Append to the history and read it anew for every term."""
        held = self.initial_state(len(tokens)) if state is None else of_kind(HistoryState, state)
        past = Past.of(tokens, condition, level, noise)
        past = past if held.past is None else held.past.then(past)
        past = past if self.context is None else past.last(self.context)

        def read(at: Tensor) -> State:
            if len(past) == 0:
                return self.denoiser.initial_state(len(tokens))
            return self.denoiser.observe(past.tokens, past.condition, None, at, past.noise)

        states = tuple(read(term.levels(past.levels)) for term in self.distinct())
        return HistoryState(read(torch.ones_like(past.levels)), states, past)

    def __call__(
        self, noisy: Tensor, levels: Tensor, condition: Tensor | None = None, state: State | None = None
    ) -> Denoised:
        """The weighted mix of the guesses under every term's history."""
        held = self.initial_state(len(noisy)) if state is None else of_kind(HistoryState, state)
        terms = self.distinct()
        shares = [1 - sum(term.weight for term in terms), *(term.weight for term in terms)]
        return mixed(
            [
                (share, self.denoiser(noisy, levels, condition, past))
                for share, past in zip(shares, (held.without, *held.states), strict=True)
                if abs(share) > 1e-12  # weights like .1 + .2 + .7 leave dust
            ]
        )


@dataclass(frozen=True)
class ConditionState(State):
    """The past as it was, and the past without its condition."""

    conditioned: State
    unconditioned: State


@dataclass(frozen=True)
class ConditionGuided(Guided):
    """Classifier-free guidance on the condition (Ho and Salimans, 2022): s = s_0 + scale (s_c - s_0).

    s_0 is asked with a condition of zeros, as trained by `DiffusionForcing(drop_condition=...)`. Scale 1 is the
    plain denoiser, 0 ignores the condition.
    """

    scale: float = 1.0

    @property
    def causal(self) -> bool:
        """As the inner denoiser: each token's guesses are mixed by themselves."""
        return bool(getattr(self.denoiser, "causal", False))

    def initial_state(self, batch: int) -> ConditionState:
        """Nothing is known: both pasts are the same."""
        start = self.denoiser.initial_state(batch)
        return ConditionState(start, start)

    def prepare(self, state: State) -> State:
        """Prepare both pasts."""
        pair = of_kind(ConditionState, state)
        return ConditionState(super().prepare(pair.conditioned), super().prepare(pair.unconditioned))

    def observe(
        self,
        tokens: Tensor,
        condition: Tensor | None = None,
        state: State | None = None,
        level: float | Tensor = 0.0,
        noise: Tensor | None = None,
    ) -> ConditionState:
        """Read the tokens twice, with and without their condition."""
        condition = needed(condition)
        pair = self.initial_state(len(tokens)) if state is None else of_kind(ConditionState, state)
        return ConditionState(
            self.denoiser.observe(tokens, condition, pair.conditioned, level, noise),
            self.denoiser.observe(tokens, torch.zeros_like(condition), pair.unconditioned, level, noise),
        )

    def __call__(
        self, noisy: Tensor, levels: Tensor, condition: Tensor | None = None, state: State | None = None
    ) -> Denoised:
        """Raises ValueError without a condition."""
        condition = needed(condition)
        pair = self.initial_state(len(noisy)) if state is None else of_kind(ConditionState, state)
        guess = self.denoiser(noisy, levels, condition, pair.conditioned)
        if self.scale == 1:
            return guess
        free = self.denoiser(noisy, levels, torch.zeros_like(condition), pair.unconditioned)
        return mixed([(self.scale, guess), (1 - self.scale, free)])


@dataclass(frozen=True)
class Inpainted(Guided):
    """Values known in advance replace the clean guess, wherever in the sequence they are (as Diffuser's goals).

    known: (1, T, ...) or (B, T, ...). where: bool, the same shape, True where `known` holds. A causal
    denoiser tells earlier tokens nothing of it; add an EnergyGuided pull or use a bidirectional network.
    """

    known: Tensor
    where: Tensor

    def __call__(
        self, noisy: Tensor, levels: Tensor, condition: Tensor | None = None, state: State | None = None
    ) -> Denoised:
        """The denoiser's guesses with the known values put in."""
        denoised = self.denoiser(noisy, levels, condition, state)
        alpha, sigma = self.schedule.shares(levels, noisy)
        known, where = repeated(self.known.to(noisy), len(noisy)), repeated(self.where, len(noisy))
        noise = (noisy - alpha * known) / sigma.masked_fill(sigma == 0, 1.0)
        replaced = where & (sigma > 0)
        return Denoised(
            torch.where(replaced, known, denoised.clean),
            torch.where(replaced, noise, denoised.noise),
        )


@dataclass(frozen=True)
class SmootherCorrected(Guided):
    """The exact repair of schedule bias: later noisy tokens send their message back through the causal state.

    A causal denoiser gives grad log p(y_t | y_<t) only; the joint score has grad_y sum over s > t of log p(y_s | y_<s)
    as well. Here p(y_s | y_<s) = N(alpha mu_s, alpha^2 S_s + sigma^2) with mu_s the clean guess with token s hidden,
    and S_s, its covariance, from the slope of the clean guess by its own token. Exact where the clean tokens are
    jointly Gaussian given the past, approximate otherwise. A token at exactly level 1 sends and receives no message:
    its clean guess stays the causal one, so impute a missing token from later ones at a level just below 1.
    Costs, for T tokens of D values, two calls on a batch T times as large and D + 1 gradients per guess.
    """

    def __call__(
        self, noisy: Tensor, levels: Tensor, condition: Tensor | None = None, state: State | None = None
    ) -> Denoised:
        """The causal guesses with the later tokens' message added."""
        if not getattr(self.denoiser, "causal", True):
            raise ValueError("SmootherCorrected repairs causal denoisers; this one sees later tokens already")
        if levels.ndim > 2:
            raise ValueError(f"levels have shape {tuple(levels.shape)}, expected one for each token, (B, T)")
        sequences, length = noisy.shape[:2]
        state = self.initial_state(sequences) if state is None else state
        moved = ((levels > 0) & (levels < 1)).any(dim=0)  # tokens that a message can reach
        speaking = [s for s in range(1, length) if bool((levels[:, s] < 1).any() and moved[:s].any())]
        with Differentiated(noisy) as leaf:
            denoised = self.denoiser(leaf.noisy, levels, condition, state)
            score = torch.zeros_like(noisy)
            if speaking:
                listening = leaf.noisy * 1  # the message goes to earlier tokens only, a second derivative to all
                log_density = self.log_density(leaf.noisy, listening, levels, condition, state, speaking)
                score = leaf.gradient(log_density, listening)
        return leaf.release(denoised).moved_by(score, *self.schedule.shares(levels, noisy))

    def log_density(
        self,
        said: Tensor,
        noisy: Tensor,
        levels: Tensor,
        condition: Tensor | None,
        state: State,
        speaking: list[int],
    ) -> Tensor:
        """sum over speaking s of log p(said_s | noisy_<s), (B,); said and noisy are the same numbers (B, T, ...)."""
        sequences, length = noisy.shape[:2]
        token = noisy.shape[2:]
        copies = torch.arange(sequences, device=noisy.device).repeat_interleave(len(speaking))
        place = torch.tensor(speaking, device=noisy.device).repeat(sequences)
        every = torch.arange(len(copies), device=noisy.device)
        own = place[:, None] == torch.arange(length, device=noisy.device)  # (copies, T): True at s
        known = None if condition is None else condition[copies]

        def guess(value: Tensor, level: float) -> Tensor:
            """Clean guess of token s, (copies, D), when its own value and level are these."""
            tokens = torch.where(spread(own, noisy), value.reshape(-1, 1, *token), noisy[copies])
            at = torch.where(own, level, levels[copies])
            return self.denoiser(tokens, at, known, state[copies]).clean[every, place].flatten(1)

        mean = guess(torch.zeros_like(noisy[copies, place]), 1.0)
        even = float(self.schedule.level_of_log_snr(torch.zeros((), dtype=torch.float64)))  # alpha = sigma here
        alpha = float(self.schedule.alpha(torch.tensor(even, dtype=torch.float64)))
        value = (alpha * mean).detach().requires_grad_()
        answer = guess(value, even)
        slope = torch.stack(
            [torch.autograd.grad(one.sum(), value, retain_graph=True)[0] for one in answer.unbind(1)], dim=1
        ).detach()
        # The clean guess's covariance V = (sigma^2 / alpha) slope; the covariance before its own token was seen is
        # S = V (1 - alpha^2 / sigma^2 V)^-1, here with alpha = sigma.
        shrunk, axes = torch.linalg.eigh(alpha * (slope + slope.mT) / 2)
        shrunk = shrunk.clamp(0, 1 - 1e-9 if noisy.dtype == torch.float64 else 1 - 1e-5)
        prior = shrunk / (1 - shrunk)  # eigenvalues of S
        alpha_s, sigma_s = self.schedule.shares(levels[copies, place], mean)
        residual = (said[copies, place].flatten(1) - alpha_s * mean)[:, None] @ axes
        variance = (alpha_s**2 * prior + sigma_s**2).clamp(min=1e-12)
        log_density: Tensor = -0.5 * (residual.squeeze(1) ** 2 / variance).sum(dim=1)
        return log_density.reshape(sequences, -1).sum(dim=1)


class Differentiated:
    """Noisy tokens as a leaf to differentiate by, also inside another guidance that differentiates.

    Inside, the outer gradient flows through all that the inner guidance does, its own gradient included.
    """

    def __init__(self, noisy: Tensor):
        if torch.is_inference_mode_enabled():
            raise ValueError("guidance needs gradients, which inference_mode() forbids: use torch.no_grad() instead")
        self.nested = torch.is_grad_enabled() and noisy.requires_grad
        self.noisy = noisy if self.nested else noisy.detach().requires_grad_()
        self.mode = torch.enable_grad()

    def __enter__(self) -> "Differentiated":
        self.mode.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self.mode.__exit__(*error)

    def gradient(self, values: Tensor, by: Tensor | None = None) -> Tensor:
        """d values / d noisy (or `by`) for values (B,) that each depend on their own sequence."""
        by = self.noisy if by is None else by
        if not values.requires_grad:
            raise ValueError("the energy does not depend on the tokens, or was cut from their gradient: use torch ops")
        (gradient,) = torch.autograd.grad(
            values.sum(), by, retain_graph=True, create_graph=self.nested, allow_unused=True
        )
        return torch.zeros_like(by) if gradient is None else gradient

    def release(self, denoised: Denoised) -> Denoised:
        """The guesses, with their graph only where an outer guidance needs it."""
        return denoised if self.nested else denoised.detach()


def check_scale(scale: float) -> None:
    """Raise ValueError for a strength that makes every guess infinite; a negative one asks for high energy."""
    if not math.isfinite(scale):
        raise ValueError(f"scale is {scale}, expected a finite number: how strongly the energy counts")


def one_for_each(energy: Tensor, sequences: int) -> Tensor:
    """The energy, checked: one finite number for each sequence."""
    if energy.shape != (sequences,):
        raise ValueError(
            f"the energy returned shape {tuple(energy.shape)}, expected ({sequences},): one number for each sequence,"
            " summed over its tokens, never a mean over the batch"
        )
    if not bool(torch.isfinite(energy).all()):
        raise ValueError("the energy returned NaN or infinite values")
    return energy


def mixed(parts: list[tuple[float, Denoised]]) -> Denoised:
    """The weighted sum of guesses of the same noisy tokens; the weights sum to 1."""
    return Denoised(
        torch.stack([share * guess.clean for share, guess in parts]).sum(dim=0),
        torch.stack([share * guess.noise for share, guess in parts]).sum(dim=0),
    )


def repeated(values: Tensor, sequences: int) -> Tensor:
    """Values for one or B sequences, repeated for `sequences` when those are copies of the B, one after the other."""
    if len(values) in (1, sequences):
        return values
    if sequences % len(values):
        raise ValueError(f"values for {len(values)} sequences do not fit {sequences} sequences")
    return values.repeat_interleave(sequences // len(values), dim=0)


def needed(condition: Tensor | None) -> Tensor:
    """The condition, or ValueError."""
    if condition is None:
        raise ValueError("ConditionGuided needs a condition (B, T, C): there is nothing to be guided by")
    return condition
