"""The forward and the inverse model that a policy's weights hold: what comes of deeds, and which deeds came between.

Both only set levels. Forward: the deeds are known and the next look is asked for from level 1. Inverse: deeds are
drawn as they are when acting, the forward model says what each would have shown, and what was seen corrects them all. A
causal network cannot do that in one go: when a token's deeds are denoised, the next look is not there yet.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from noiseladder.diffusion.sampling import draw_noise
from noiseladder.diffusion.state import State
from noiseladder.training import generator_for

from .policy import Policy

SENSES_APART = 0.4  # deviation of what is seen about what is foreseen, usual deviations: benchmarks/imitation.py
Seen = Mapping[str, Tensor | None]


@dataclass(frozen=True)
class Inferred:
    """Deeds that may have led from one look to another.

    expected: (K, A), the average before the second look is known. actions: (N, K, A), samples after it. foreseen:
    sense -> (N, size), what each of them leads to.
    """

    expected: Tensor
    actions: Tensor
    foreseen: Mapping[str, Tensor]

    @property
    def mean(self) -> Tensor:
        """The average deeds, (K, A)."""
        return self.actions.mean(0)


def foresee(policy: Policy, before: Seen, actions: Tensor) -> dict[str, Tensor]:
    """What will be seen on average once `actions` (B, K, A) are done after the look `before`, sense -> (B, size).

    Goes on from what the policy remembers of its B episodes and changes nothing. `before` must be a look that it has
    neither acted on nor watched: it is read here. A sense that is None was not seen.
    Raises ValueError for looks or actions of other sizes.
    """
    policy.check(before, None)
    return policy.knowledge.tokens.seen(_next(policy, policy.state, before, actions)[:, 0])


def infer_actions(
    policy: Policy, before: Seen, after: Seen, samples: int = 128, steps: int = 6, seed: int = 0
) -> Inferred:
    """What may have been done between two looks of one episode: `samples` chunks of actions in the policy's own units.

    `before` must be a look that the policy has neither acted on nor watched. steps: denoising steps of the deeds before
    they are corrected by what was seen after them, with the update of the ensemble Kalman filter (Evensen, 1994), which
    is exact for many samples where all is linear and Gaussian. Raises ValueError unless one episode is lived and at
    least one sense was seen after it.
    """
    tokens, count = policy.knowledge.tokens, len(policy.generators)
    if count != 1 or samples < 2 or steps < 1:
        raise ValueError(
            f"{count} episodes, {samples} samples, {steps} steps: expected 1 episode, at least 2 samples and 1 step"
        )
    policy.check(before, None)
    policy.check(after, None)
    with torch.no_grad():
        memory = policy.state[[0] * samples]
        many = {name: values if values is None else values.expand(samples, -1) for name, values in before.items()}
        token, levels = tokens.known(many)
        generators = [generator_for(seed, "inverse model", number) for number in range(samples)]
        noise = policy.cooled(draw_noise(generators, token.shape))
        fall = torch.linspace(1, 0, steps + 1).tolist()
        rungs = [policy.acting(levels, now) for now in fall]
        done = policy.denoised(token, noise, rungs, policy.begins(samples), policy.denoiser.prepare(memory), generators)
        drawn = tokens.actions(done)[:, 0]
        foreseen = _next(policy, memory, many, drawn)[:, 0]
        seen, missing = tokens.known(after)
        there = tokens.spread(missing)[0, 0, : tokens.seen_size] < 1
        told = [values[:, : tokens.seen_size][:, there] for values in (foreseen, seen[:, 0])]
        deeds = kalman_update(
            tokens.deeds(drawn), told[0], told[1], SENSES_APART, generator_for(seed, "inverse model, looks")
        )
        actions = tokens.actions(
            torch.cat([done[:, 0, : tokens.seen_size], deeds, done[:, 0, tokens.ending :]], dim=-1)
        )
        corrected = _next(policy, memory, many, actions)[:, 0]
    return Inferred(drawn.mean(0), actions, tokens.seen(corrected))


def kalman_update(
    unknown: Tensor, foreseen: Tensor, seen: Tensor, deviation: float, generator: torch.Generator
) -> Tensor:
    """Samples (N, U) corrected by what was `seen`, (1, S), given what each foresaw, (N, S) (Evensen, 1994).

    deviation: of what is seen about what is foreseen. Exact for many samples of a joint Gaussian.
    """
    far, told = unknown - unknown.mean(0), foreseen - foreseen.mean(0)
    inner = told.T @ told / (len(told) - 1) + deviation**2 * torch.eye(told.shape[1])
    cross = told.T @ far / (len(told) - 1)
    doubt = deviation * torch.randn(foreseen.shape, generator=generator)
    gain: Tensor = torch.linalg.solve(inner, cross)
    return unknown + (seen + doubt - foreseen) @ gain


def _next(policy: Policy, state: State, before: Seen, actions: Tensor) -> Tensor:
    """The next token (B, 1, D) on average, of which only what is seen is asked for."""
    tokens = policy.knowledge.tokens
    token, levels = tokens.known(before)
    token = tokens.written(token, actions)
    with torch.no_grad():
        begins = policy.begins(len(token))
        after = policy.denoiser.observe(token, begins, state, policy.remembering(levels, 0.0))
        unknown = torch.ones(*token.shape[:2], len(tokens.parts))
        asked = policy.denoiser(torch.zeros_like(token), tokens.spread(unknown), torch.zeros_like(begins), after)
    expected: Tensor = asked.clean
    return expected
