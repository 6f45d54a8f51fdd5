"""A policy decides itself what to believe: a sense that surprises it far more than usual is doubted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from .policy import Policy
from .policy_tokens import Trace

# Of the fruit swap's cameras: a third above the most that 10 demonstrations surprised, which nobody had learned from
# (1.0 and 1.5; half of all looks below .4). A black picture is at 10 or more.
LIMITS = {"front": 1.4, "side": 1.95}


@dataclass(frozen=True)
class Suspicion:
    """limits: sense -> surprise, in usual deviations, up to which it is believed wholly.

    From there the level rises in a line and reaches 1, not to be looked at, at twice the limit. A sense without a
    limit is always believed.
    """

    limits: Mapping[str, float]

    def __call__(self, surprise: Mapping[str, float]) -> dict[str, float]:
        """Sense -> level."""
        return {
            name: min(1.0, max(0.0, surprise[name] / limit - 1))
            for name, limit in self.limits.items()
            if name in surprise
        }


def usual_surprise(policy: Policy, traces: Sequence[Trace], first: int = 0) -> dict[str, torch.Tensor]:
    """How far the senses of undisturbed episodes are from what was expected: sense -> (n,), one for each token.

    traces: episodes that were not learned from. first: tokens at the beginning of each that are left out.
    """
    tokens = policy.knowledge.tokens
    found: dict[str, list[torch.Tensor]] = {name: [] for name in tokens.senses}
    for trace in traces:
        count = max(1, len(trace.actions) // tokens.chunk)
        batch = tokens.table([trace]).cut(torch.zeros(1, dtype=torch.long), torch.zeros(1, dtype=torch.long), count)
        assert batch.condition is not None
        with torch.no_grad():
            state = policy.denoiser.initial_state(1)
            for number, (token, begins) in enumerate(zip(batch.tokens.split(1, 1), batch.condition.split(1, 1))):
                if number >= first:
                    for name, size in policy.surprise_of(token, begins, state).items():
                        found[name].append(size)
                state = policy.denoiser.observe(token, begins, state)
    return {name: torch.cat(sizes) for name, sizes in found.items()}
