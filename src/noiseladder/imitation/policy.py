"""A policy sees, denoises what it will do next, and remembers as much as it is asked to.

Each token holds what is seen and a chunk of actions. Acting is a posterior update: the senses are read at level 0, or
at the level of how far they are trusted, and the actions are denoised after whatever is remembered.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from math import inf

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor

from noiseladder.diffusion.denoiser import Denoiser
from noiseladder.diffusion.sampling import Step, draw_noise
from noiseladder.diffusion.state import State
from noiseladder.training import generator_for

from .fruit_swap import Observation
from .policy_knowledge import PolicyKnowledge
from .policy_tokens import Trace

Trust = Callable[[Mapping[str, float]], Mapping[str, float]]
"""From how surprising each sense is, in usual deviations, to the level at which it is read."""

Felt = Callable[[Mapping[str, Tensor], Tensor, Mapping[str, Tensor]], Mapping[str, Tensor]]
"""(senses before, actions (B, K, A) since then, senses imagined after them) -> senses that agree with both.

A sense that is left out stays as it was imagined.
"""

Level = float | Mapping[str, float] | Trust
ENDED = 0.5  # of a chunk lies after the end


@dataclass(frozen=True)
class Imagined(Trace):
    """What was imagined of B episodes: seen, sense -> (B, n, size); actions (B, n K, A).

    over: (B, n), for each token the share of its actions that comes after the end.
    """

    over: Tensor = field(kw_only=True)


class Policy:
    """Acts in chunks: `reset()`, then `act(observation)` again and again until `finished`.

    denoiser: causal, trained on tokens of `knowledge`. steps: denoising steps for a chunk; 1 gives the mean of what
    may be done. deeds: the level at which its own actions are remembered. seed: of all noise. eta: how much of the
    noise is drawn anew in each step; 1 keeps away from what lies between two good ways, where 0 now and then ends.
    temperature: of the noise that actions are denoised from; below 1 what is done varies less than in the
    demonstrations, and so does its error.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        knowledge: PolicyKnowledge,
        steps: int = 6,
        deeds: float = 0.0,
        seed: int = 0,
        eta: float = 0.0,
        temperature: float = 1.0,
    ) -> None:
        if steps < 1 or not 0 <= deeds <= 1 or not 0 <= eta <= 1:
            raise ValueError(
                f"steps {steps}, deeds {deeds}, eta {eta}: expected at least 1 step, a level in [0, 1], a share in"
                " [0, 1]"
            )
        self.denoiser, self.knowledge = denoiser, knowledge
        if not 0 <= temperature < inf:
            raise ValueError(
                f"temperature {temperature}: expected a number from 0 on, 1 to vary as the demonstrations do"
            )
        self.steps, self.deeds, self.seed, self.eta, self.temperature = steps, deeds, seed, eta, temperature
        self.episodes_before = 0
        self.reset()

    def reset(self, episodes: int = 1) -> None:
        """Forget everything: `episodes` new ones begin, lived side by side."""
        if episodes < 1:
            raise ValueError(f"{episodes} episodes: expected at least 1")
        first, self.episodes_before = self.episodes_before, self.episodes_before + episodes
        self.generators = [generator_for(self.seed, "policy", first + number) for number in range(episodes)]
        self.state: State = self.denoiser.initial_state(episodes)
        self.past: list[tuple[Tensor, Tensor]] = []
        self.latest: Tensor | None = None  # the last token as it was, before it was read at its levels
        self.over = torch.zeros(episodes)
        self.levels: dict[str, float] = {}

    @property
    def finished(self) -> bool:
        """Whether it holds that all of its episodes have ended: the last chunk lies after the end."""
        return bool((self.over > ENDED).all())

    def act(self, observation: Observation, level: Level = 0.0, memory: int | None = None) -> NDArray[np.float32]:
        """What to do before looking again, (K, A), in the units of the demonstrations.

        A picture may be None: that camera is missing and its part of the token at level 1. level: how far the senses
        are believed, 0 wholly, 1 not at all: one number, or sense -> number for some of them, or a function of the
        surprise of each. memory: how many of the tokens before this one are remembered, None for all, 0 for none.
        Raises ValueError, in one sentence, for an observation that is not what was learned from.
        """
        return self.act_on(self.knowledge.senses(observation), level, memory)[0].numpy()

    def act_on(self, seen: Mapping[str, Tensor | None], level: Level = 0.0, memory: int | None = None) -> Tensor:
        """`act` for the senses of B episodes side by side, sense -> (B, size) or None: actions (B, K, A)."""
        tokens, episodes = self.knowledge.tokens, len(self.generators)
        self.check(seen, memory)
        with torch.no_grad():
            token, levels = tokens.known(seen)
            state = self.denoiser.prepare(self.remembered(memory))
            first = self.begins(episodes)
            begins = torch.zeros_like(first) if memory == 0 else first  # without memory nobody knows that it begins
            if callable(level):
                surprise = self.surprise_of(token, begins, state)
                level = level({name: float(found.max()) for name, found in surprise.items()})
            levels = self.trusted(levels, level)
            self.levels = dict(zip(tokens.senses, levels[0, 0].tolist()))
            rungs = [self.acting(levels, now) for now in torch.linspace(1, 0, self.steps + 1).tolist()]
            noise = draw_noise(self.generators, tuple(token.shape))
            noisy = self.denoised(token, self.cooled(noise), rungs, begins, state)
            done = noisy[..., tokens.seen_size :]
            self.remember(torch.cat([token[..., : tokens.seen_size], done], dim=-1), levels, noise, first)
        self.over = tokens.over(noisy)[:, 0]
        return tokens.actions(noisy)[:, 0]

    def watch(self, seen: Mapping[str, Tensor | None], actions: Tensor) -> None:
        """Remember a look at B episodes, sense -> (B, size) or None, and what somebody else did about it, (B, K, A)."""
        self.check(seen, None)
        tokens, episodes = self.knowledge.tokens, len(self.generators)
        with torch.no_grad():
            token, levels = tokens.known(seen)
            token = tokens.written(token, actions)
            noise = draw_noise(self.generators, tuple(token.shape))
            self.remember(token, levels, noise, self.begins(episodes))

    def imagine(
        self, count: int, steps: int = 8, felt: Felt | None = None, level: float | Mapping[str, float] = 0.0
    ) -> Imagined:
        """What it would see and do next, token after token: first what is seen, then what is done about it.

        Nothing is remembered, though the noise of the episodes goes on. count: tokens; steps: denoising steps for what
        is seen, and again for what is done.
        felt: what is known of the senses from what was done, without having to be learned: where a hand was sent, say.
        level: at which imagined senses are read, by what is done next and by the memory, one number or sense ->
        number. At 0 their errors are taken for facts; at 1 nothing is, which is the prior update of a filter: what is
        imagined on average tells nothing that is not remembered already.
        """
        if count < 1 or steps < 1:
            raise ValueError(f"{count} tokens in {steps} steps: expected at least 1 of both")
        tokens, episodes = self.knowledge.tokens, len(self.generators)
        state, found = self.state, []
        unknown = torch.ones(episodes, 1, len(tokens.parts))
        believed = self.trusted(torch.zeros_like(unknown), level)
        kept = self.remembering(believed, self.deeds)
        fall = torch.linspace(1, 0, steps + 1).tolist()
        many = len(tokens.senses)
        looking = [tokens.spread(torch.cat([now * unknown[..., :many], unknown[..., many:]], dim=-1)) for now in fall]
        acting = [self.acting(believed, now) for now in fall]
        before = self.latest
        with torch.no_grad():
            for number in range(count):
                begins = self.begins(episodes) * (number == 0)
                state = self.denoiser.prepare(state)
                noise = self.cooled(draw_noise(self.generators, (episodes, 1, tokens.size)))
                token = self.denoised(torch.zeros_like(noise), noise, looking, begins, state)
                if felt is not None and before is not None:
                    imagined = {name: values[:, 0] for name, values in tokens.seen(token).items()}
                    told = felt(
                        {name: values[:, 0] for name, values in tokens.seen(before).items()},
                        tokens.actions(before)[:, 0],
                        imagined,
                    )
                    told = {**imagined, **told}
                    self.check(told, None)
                    known, _ = tokens.known(told)
                    token = torch.cat([known[..., : tokens.seen_size], token[..., tokens.seen_size :]], dim=-1)
                # Actions begin from the noise they had.
                doubt = draw_noise(self.generators, tuple(token.shape))
                doubt[..., tokens.seen_size :] = noise[..., tokens.seen_size :]
                done = self.denoised(token, doubt, acting, begins, state)[..., tokens.seen_size :]
                before = torch.cat([token[..., : tokens.seen_size], done], dim=-1)
                found.append(before)
                state = self.denoiser.observe(before, begins, state, kept, doubt)
        together = torch.cat(found, dim=1)
        return Imagined(tokens.seen(together), tokens.actions(together).flatten(1, 2), over=tokens.over(together))

    # Inside

    def denoised(
        self,
        token: Tensor,
        noise: Tensor,
        rungs: Sequence[Tensor],
        begins: Tensor,
        state: State,
        generators: Sequence[Generator] | None = None,
    ) -> Tensor:
        """A token (B, 1, D) taken down levels (B, 1, D), one after the other; what has its level already is held.

        It begins as noisy as the first of `rungs` says, so a sense that is half believed is shown so. generators: of
        fresh noise, one for each of B, those of the episodes without them.
        """
        step = Step(self.eta, generators or self.generators)
        noisy = self.denoiser.schedule.mix(token, noise, rungs[0])
        for here, there in pairwise(rungs):
            fresh = self.temperature * step.draw(noisy) if self.eta > 0 else None
            noisy = step(self.denoiser.schedule, noisy, self.denoiser(noisy, here, begins, state), here, there, fresh)
        return noisy

    def cooled(self, noise: Tensor) -> Tensor:
        """Noise (B, 1, D) from which actions are denoised, at the policy's temperature."""
        size = self.knowledge.tokens.seen_size
        return torch.cat([noise[..., :size], self.temperature * noise[..., size:]], dim=-1)

    def begins(self, episodes: int) -> Tensor:
        """The condition (B, 1, 1) of the next token: 1 where an episode begins with it."""
        return torch.full((episodes, 1, 1), float(not self.past))

    def acting(self, levels: Tensor, now: float) -> Tensor:
        """Levels (B, 1, P) with the actions and the waypoint at `now`, as levels (B, 1, D)."""
        tokens = self.knowledge.tokens
        levels = levels.clone()
        levels[..., len(tokens.senses) :] = now
        return tokens.spread(levels)

    def remembering(self, levels: Tensor, deeds: float) -> Tensor:
        """Levels (B, 1, P) with the actions at `deeds` and a waypoint that is not known, as levels (B, 1, D)."""
        spread = self.acting(levels, deeds)
        spread[..., self.knowledge.tokens.ending + 1 :] = 1.0
        return spread

    def remembered(self, memory: int | None) -> State:
        """The state after the last `memory` tokens: read again, whatever was remembered when they were lived."""
        if memory is None or memory >= len(self.past):
            return self.state
        state = self.denoiser.initial_state(len(self.generators))
        if memory == 0:
            return state
        tokens, levels = (torch.cat(parts, dim=1) for parts in zip(*self.past[-memory:]))
        return self._read(tokens, levels, torch.zeros(*tokens.shape[:2], 1), state)

    def remember(self, token: Tensor, levels: Tensor, noise: Tensor, begins: Tensor) -> None:
        """Take in what was seen, as far as it was believed, and what is done about it."""
        spread = self.remembering(levels, self.deeds)
        noisy = self.denoiser.schedule.mix(token, noise, spread)
        self.past.append((noisy, spread))
        self.latest = token
        self.state = self._read(noisy, spread, begins, self.state)

    def _read(self, noisy: Tensor, levels: Tensor, begins: Tensor, state: State) -> State:
        """`Denoiser.observe` for tokens that have been brought to their levels already."""
        alpha, _ = self.denoiser.schedule.shares(levels, noisy)
        unscaled = torch.where(alpha > 0, noisy / alpha.clamp(min=1e-6), 0.0)
        return self.denoiser.observe(unscaled, begins, state, levels)

    def surprise_of(self, token: Tensor, begins: Tensor, state: State) -> dict[str, Tensor]:
        """How far each sense of tokens (B, 1, D) is from what was expected, (B,), in usual deviations."""
        tokens = self.knowledge.tokens
        unknown = torch.ones(*token.shape[:2], len(tokens.parts))
        guess = self.denoiser(torch.zeros_like(token), tokens.spread(unknown), begins, state).clean
        error = (token - guess)[:, 0, : tokens.seen_size].square().split(tokens.sizes, dim=-1)
        return {name: part.mean(-1).sqrt() for name, part in zip(tokens.senses, error)}

    def trusted(self, levels: Tensor, level: float | Mapping[str, float]) -> Tensor:
        """Levels (B, 1, P) of a known token, raised to what is believed of each sense."""
        senses = self.knowledge.tokens.senses
        by_sense = level if isinstance(level, Mapping) else dict.fromkeys(senses, level)
        unknown = [name for name in by_sense if name not in senses]
        if unknown:
            raise ValueError(f"no sense {unknown[0]!r} to believe or not: expected some of {', '.join(senses)}")
        levels = levels.clone()
        for place, name in enumerate(senses):
            value = float(by_sense.get(name, 0.0))
            if not 0 <= value <= 1:
                raise ValueError(f"level {value:g} of {name}: expected 0, believe it, to 1, do not look at it")
            levels[..., place] = levels[..., place].clamp(min=value)
        return levels

    def check(self, seen: Mapping[str, Tensor | None], memory: int | None) -> None:
        """Raise ValueError unless these senses and this memory are what the policy was trained for."""
        if memory is not None and memory < 0:
            raise ValueError(f"a memory of {memory} tokens: expected 0 for none, a number, or None for all")
        tokens, episodes = self.knowledge.tokens, len(self.generators)
        unknown = [name for name in seen if name not in tokens.senses]
        if unknown:
            raise ValueError(f"no sense {unknown[0]!r} to see with: expected some of {', '.join(tokens.senses)}")
        if all(seen.get(name) is None for name in tokens.senses):
            raise ValueError(f"nothing is seen at all: expected at least one of {', '.join(tokens.senses)}")
        for name, size in zip(tokens.senses, tokens.sizes):
            values = seen.get(name)
            if values is None:
                continue
            if values.shape != (episodes, size):
                raise ValueError(f"{name} has shape {tuple(values.shape)}, expected {(episodes, size)}")
            if not bool(torch.isfinite(values).all()):
                raise ValueError(f"{name} holds NaN or infinite values: give None for a sense that is missing")
