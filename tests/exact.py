"""Denoisers that are exact, in closed form: what a trained network can at best become.

Each implements the `Denoises` protocol, so whatever takes a denoiser (samplers, guidance, likelihood) can be run on
an answer that is known. All are meant for float64; tokens are (B, T, 1) unless said otherwise.
Notation: y = a x + b e is the noisy token, a = alpha(level), b = sigma(level).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise

import torch
from torch import Tensor

from noiseladder.diffusion.denoiser import Denoised, check_levels, check_shapes, hide_pure_noise
from noiseladder.diffusion.noise import LogSNR, NoiseSchedule
from noiseladder.diffusion.sampling import Step, final, sample
from noiseladder.diffusion.state import State
from noiseladder.recipes.hidden_markov import HiddenMarkovChain
from noiseladder.recipes.linear_gaussian import LinearGaussian


class ExactDenoiser:
    """What exact denoisers share: a noisy sequence is read once, giving guesses and a new state."""

    causal = True

    def __init__(self, schedule: NoiseSchedule | None = None):
        self.schedule = LogSNR() if schedule is None else schedule
        self.calls = 0  # how often it was asked for guesses, and for how many tokens
        self.tokens = 0
        self.readings = 0  # how often it was given tokens to read

    def __call__(
        self, noisy: Tensor, levels: Tensor, condition: Tensor | None = None, state: State | None = None
    ) -> Denoised:
        """Denoise what follows `state`; counted in `calls` and `tokens`."""
        self.calls += 1
        self.tokens += noisy.shape[1]
        check_shapes(noisy, levels, condition)
        check_levels(levels)
        state = self.initial_state(len(noisy)) if state is None else state
        # A noise guess at level 1 is the token itself; every other guess is blind to it.
        guess, _ = self.read(hide_pure_noise(noisy, levels), levels, state)
        hidden = (levels == 1).reshape(levels.shape + (1,) * (noisy.ndim - levels.ndim))
        return Denoised(guess.clean, torch.where(hidden, noisy, guess.noise))

    def observe(
        self,
        tokens: Tensor,
        condition: Tensor | None = None,
        state: State | None = None,
        level: float | Tensor = 0.0,
        noise: Tensor | None = None,
    ) -> State:
        """The belief after tokens seen at `level`; counted in `readings`."""
        self.readings += 1
        levels = level if isinstance(level, Tensor) else torch.full(tokens.shape[:2], level).to(tokens)
        state = self.initial_state(len(tokens)) if state is None else state
        tokens = hide_pure_noise(tokens, levels)  # may be NaN where nothing is seen
        noisy = self.schedule.mix(tokens, torch.zeros_like(tokens) if noise is None else noise, levels)
        return self.read(hide_pure_noise(noisy, levels), levels, state)[1]

    def initial_state(self, batch: int) -> State:
        """The prior belief."""
        raise NotImplementedError

    def read(self, noisy: Tensor, levels: Tensor, state: State) -> tuple[Denoised, State]:
        """Guesses for every token, and the belief after the last."""
        raise NotImplementedError


@dataclass(frozen=True)
class GaussianBelief(State):
    """The law of the latent state of the next token: N(mean, covariance)."""

    mean: Tensor  # (B, n)
    covariance: Tensor  # (B, n, n)


@dataclass(frozen=True)
class Prediction:
    """What a filter says about one token before and after it has seen its noisy version; all (B,)."""

    mean: Tensor  # mu: the clean token before
    variance: Tensor  # S: of the clean token before
    noisy_variance: Tensor  # D = a^2 S + b^2
    clean: Tensor  # after
    clean_variance: Tensor  # after
    noise: Tensor  # after


class KalmanDenoiser(ExactDenoiser):
    """The optimal causal denoiser of a linear-Gaussian process: a Kalman filter whose observation noise depends on
    the level (exact-tests.md section 1)."""

    def __init__(self, process: LinearGaussian, schedule: NoiseSchedule | None = None):
        super().__init__(schedule)
        self.process = process

    def initial_state(self, batch: int) -> GaussianBelief:
        covariance = self.process.stationary
        return GaussianBelief(covariance.new_zeros(batch, len(covariance)), covariance.repeat(batch, 1, 1))

    def read(self, noisy: Tensor, levels: Tensor, state: State) -> tuple[Denoised, State]:
        assert isinstance(state, GaussianBelief)
        steps = list(self.steps(noisy, levels, state))
        clean = torch.stack([step.clean for step, _ in steps], dim=1)
        noise = torch.stack([step.noise for step, _ in steps], dim=1)
        return Denoised(clean[..., None], noise[..., None]), steps[-1][1]

    def steps(
        self, noisy: Tensor, levels: Tensor, state: GaussianBelief
    ) -> Iterator[tuple[Prediction, GaussianBelief]]:
        """Token by token: what is said of it, and the belief about the next."""
        process = self.process
        emission, transition = process.emission, process.transition
        mean, covariance = state.mean, state.covariance
        alpha, sigma = self.schedule.alpha(levels), self.schedule.sigma(levels)
        for y, a, b in zip(noisy[..., 0].unbind(1), alpha.unbind(1), sigma.unbind(1), strict=True):
            cross = covariance @ emission  # P C', (B, n)
            mu, variance = mean @ emission, cross @ emission + process.emission_noise
            noisy_variance = a**2 * variance + b**2
            surprise = (y - a * mu) / noisy_variance
            said = Prediction(
                mean=mu,
                variance=variance,
                noisy_variance=noisy_variance,
                clean=mu + a * variance * surprise,
                clean_variance=variance * b**2 / noisy_variance,  # S - a^2 S^2 / D
                noise=b * surprise,  # (y - a x^) / b, also where b is 0
            )
            mean = mean + (a * surprise)[:, None] * cross
            gain = (a**2 / noisy_variance)[:, None, None]
            covariance = covariance - gain * cross[:, :, None] * cross[:, None, :]
            mean, covariance = mean @ transition.T, transition @ covariance @ transition.T + process.state_noise
            yield said, GaussianBelief(mean, covariance)

    def predictions(self, noisy: Tensor, levels: Tensor, state: GaussianBelief | None = None) -> Prediction:
        """What the filter says of every token: all fields (B, T)."""
        state = self.initial_state(len(noisy)) if state is None else state
        said = [step for step, _ in self.steps(hide_pure_noise(noisy, levels), levels, state)]
        return Prediction(
            *(torch.stack([getattr(step, name) for step in said], dim=1) for name in Prediction.__annotations__)
        )

    def negative_log_likelihood(self, tokens: Tensor, seen: Tensor | None = None) -> Tensor:
        """-log p(tokens that are seen) in nats for tokens (B, T, 1), token by token: (B, T), 0 where not seen."""
        levels = torch.zeros(tokens.shape[:2]).to(tokens)
        if seen is not None:
            levels = torch.where(seen, levels, 1.0)
        said = self.predictions(tokens, levels)
        log_density = torch.distributions.Normal(said.mean, said.variance.sqrt()).log_prob(tokens[..., 0])
        return torch.where(levels < 1, -log_density, 0.0)


@dataclass(frozen=True)
class NoisyPast(State):
    """The noisy tokens read so far, with their shares of signal and noise; all (B, P)."""

    tokens: Tensor
    alpha: Tensor
    sigma: Tensor


class JointDenoiser(ExactDenoiser):
    """The optimal denoiser that sees all tokens, past and future: x ~ N(0, covariance), conditioned
    (exact-tests.md section 2)."""

    causal = False

    def __init__(self, process: LinearGaussian, schedule: NoiseSchedule | None = None):
        super().__init__(schedule)
        self.process = process

    def initial_state(self, batch: int) -> NoisyPast:
        nothing = self.process.stationary.new_zeros(batch, 0)
        return NoisyPast(nothing, nothing, nothing)

    def read(self, noisy: Tensor, levels: Tensor, state: State) -> tuple[Denoised, State]:
        assert isinstance(state, NoisyPast)
        past = state.tokens.shape[1]
        everything = NoisyPast(
            torch.cat([state.tokens, noisy[..., 0]], dim=1),
            torch.cat([state.alpha, self.schedule.alpha(levels)], dim=1),
            torch.cat([state.sigma, self.schedule.sigma(levels)], dim=1),
        )
        score = self.joint_score(everything)
        covariance = self.process.covariance(everything.tokens.shape[1])
        clean = -(everything.alpha * score) @ covariance
        noise = -everything.sigma * score
        return Denoised(clean[:, past:, None], noise[:, past:, None]), everything

    def joint_score(self, seen: NoisyPast) -> Tensor:
        """The gradient of log p(y) by y: -(Da Sig Da + N)^-1 y, (B, T)."""
        alpha, sigma = seen.alpha, seen.sigma
        same_levels = bool((alpha == alpha[:1]).all() and (sigma == sigma[:1]).all())
        if same_levels:  # one matrix for the whole batch
            alpha, sigma = alpha[:1], sigma[:1]
        covariance = self.process.covariance(seen.tokens.shape[1])
        noisy_covariance = alpha[:, :, None] * covariance * alpha[:, None, :] + torch.diag_embed(sigma**2)
        if same_levels:
            return -torch.linalg.solve(noisy_covariance[0], seen.tokens.T).T
        return -torch.linalg.solve(noisy_covariance, seen.tokens)


@dataclass(frozen=True)
class ModeBelief(State):
    """The probability of each mode of the next token, (B, K)."""

    probability: Tensor


class HiddenMarkovDenoiser(ExactDenoiser):
    """The optimal causal denoiser of a hidden Markov chain with Gaussian emissions: the forward algorithm on noisy
    emissions (exact-tests.md section 3)."""

    def __init__(self, process: HiddenMarkovChain, schedule: NoiseSchedule | None = None):
        super().__init__(schedule)
        self.process = process

    def initial_state(self, batch: int) -> ModeBelief:
        return ModeBelief(self.process.stationary.repeat(batch, 1))

    def read(self, noisy: Tensor, levels: Tensor, state: State) -> tuple[Denoised, State]:
        assert isinstance(state, ModeBelief)
        steps = list(self.steps(noisy, levels, state))
        clean = torch.stack([guess.clean for guess, _, _ in steps], dim=1)
        noise = torch.stack([guess.noise for guess, _, _ in steps], dim=1)
        return Denoised(clean[..., None], noise[..., None]), steps[-1][2]

    def steps(self, noisy: Tensor, levels: Tensor, state: ModeBelief) -> Iterator[tuple[Denoised, Tensor, ModeBelief]]:
        """Token by token: guesses (B,), the modes' posterior (B, K), and the belief about the next mode."""
        process, belief = self.process, state.probability
        alpha, sigma = self.schedule.alpha(levels), self.schedule.sigma(levels)
        for y, a, b in zip(noisy[..., 0].unbind(1), alpha.unbind(1), sigma.unbind(1), strict=True):
            variance = a**2 * process.spread**2 + b**2
            surprise = (y[:, None] - a[:, None] * process.means) / variance[:, None]  # (B, K)
            evidence = -0.5 * surprise**2 * variance[:, None]  # log N(y; a mu_z, variance) but a constant
            posterior = torch.softmax(evidence + belief.log(), dim=1)
            clean = process.means + (a * process.spread**2)[:, None] * surprise
            guess = Denoised((posterior * clean).sum(1), b * (posterior * surprise).sum(1))
            belief = posterior @ process.transition
            yield guess, posterior, ModeBelief(belief)

    def mode_posterior(self, noisy: Tensor, levels: Tensor) -> Tensor:
        """The probability of each token's mode given noisy tokens up to it, (B, T, K)."""
        hidden = hide_pure_noise(noisy, levels)
        return torch.stack([p for _, p, _ in self.steps(hidden, levels, self.initial_state(len(noisy)))], dim=1)


@dataclass(frozen=True)
class StoryBelief(State):
    """How probable each story is after some tokens, and how many tokens that were."""

    log_weight: Tensor  # (B, N)
    position: Tensor  # (B,)


class StoryDenoiser(ExactDenoiser):
    """The optimal denoiser of finitely many possible sequences ("stories"), causal or not.

    stories: (N, T, D), the only sequences there are. probability: (N,).
    """

    def __init__(
        self,
        stories: Tensor,
        probability: Tensor,
        schedule: NoiseSchedule | None = None,
        causal: bool = True,
    ):
        super().__init__(schedule)
        self.stories, self.probability, self.causal = stories, probability, causal

    def initial_state(self, batch: int) -> StoryBelief:
        return StoryBelief(self.probability.log().repeat(batch, 1), torch.zeros(batch, dtype=torch.long))

    def read(self, noisy: Tensor, levels: Tensor, state: State) -> tuple[Denoised, State]:
        assert isinstance(state, StoryBelief)
        length = noisy.shape[1]
        places = state.position[:, None] + torch.arange(length)  # sequences of a batch may be at different tokens
        stories = self.stories[:, places].transpose(0, 1)  # (B, N, T, D)
        alpha, sigma = self.schedule.shares(levels, noisy)
        distance = ((noisy[:, None] - alpha[:, None] * stories) ** 2).sum(-1)  # (B, N, T)
        # A token without noise rules stories out; a hidden one says nothing.
        evidence = torch.where(alpha[:, None, :, 0] > 0, -0.5 * distance / sigma[:, None, :, 0] ** 2, 0.0)
        evidence = torch.where(distance == 0, 0.0, evidence.clamp(min=-1e300))
        log_weight = state.log_weight[:, :, None] + evidence.cumsum(-1)
        after = StoryBelief(log_weight[..., -1], state.position + length)
        if not self.causal:
            log_weight = log_weight[..., -1:].expand_as(log_weight)
        clean = torch.einsum("bnt,bntd->btd", torch.softmax(log_weight, dim=1), stories)
        noise = (noisy - alpha * clean) / sigma.masked_fill(sigma == 0, 1.0)
        return Denoised(clean, noise), after


def gamble(schedule: NoiseSchedule | None = None, causal: bool = True) -> StoryDenoiser:
    """First a decision (-1 safe, 1 gamble), then its pay: safe .6 surely, gamble 1 or 0 with equal chance."""
    stories = torch.tensor([[-1.0, 0.6], [1.0, 1.0], [1.0, 0.0]], dtype=torch.float64)[..., None]
    return StoryDenoiser(stories, torch.tensor([0.5, 0.25, 0.25], dtype=torch.float64), schedule, causal)


def gaussian_kl(covariance: Tensor, truth: Tensor) -> float:
    """KL(N(0, covariance) || N(0, truth)) in nats."""
    ratio = torch.linalg.solve(truth, covariance)
    return float(0.5 * (ratio.diagonal().sum() - len(truth) - torch.linalg.slogdet(ratio).logabsdet))


@dataclass(frozen=True)
class UnitNoiseStep(Step):
    """A step that draws unit vectors in place of noise, to read off how a sampler answers each drawn number.

    The batch has one row for every number of the starting noise and one for every number that will be drawn; a
    sampler with a linear denoiser is then known completely: its sample has covariance `rows.T @ rows`.
    """

    first: int = 0  # rows of the batch that belong to the starting noise
    drawn: list[int] = field(default_factory=list)  # how many numbers each call drew

    def draw(self, like: Tensor) -> Tensor:
        """For each of the numbers to draw (B, n, 1), a 1 in a row of its own."""
        start = self.first + sum(self.drawn)
        self.drawn.append(like.shape[1])
        places = torch.arange(like.shape[1])
        units = torch.zeros_like(like)
        units[start + places, places, 0] = 1
        return units


def sampled_covariance(denoiser: ExactDenoiser, matrix: Tensor, eta: float = 0.0) -> Tensor:
    """The covariance of what `sample` gives with a linear denoiser, exactly: (T, T)."""
    length = matrix.shape[1]
    numbers = length + (int((matrix.diff(dim=0) != 0).sum()) if eta > 0 else 0)
    noise = torch.zeros(numbers, length, 1, dtype=torch.float64)
    noise[:length, :, 0] = torch.eye(length)
    unused = torch.Generator()
    rows = final(sample(denoiser, noise, matrix, step=UnitNoiseStep(eta, unused, first=length)))[..., 0]
    return rows.T @ rows


def propagated_covariance(denoiser: ExactDenoiser, matrix: Tensor, eta: float = 0.0) -> Tensor:
    """The same as `sampled_covariance`, row by row: cheaper where much noise is drawn."""
    length = matrix.shape[1]
    everything = torch.ones(length, dtype=torch.bool)
    covariance = torch.eye(length, dtype=torch.float64)
    for now, then in pairwise(matrix):
        drawn = int((now != then).sum()) if eta > 0 else 0
        basis = torch.zeros(length + drawn, length, 1, dtype=torch.float64)
        basis[:length, :, 0] = torch.eye(length)
        step = UnitNoiseStep(eta, torch.Generator(), first=length)
        rows = torch.stack([now, then])
        moved = final(sample(denoiser, basis, rows, step=step, given=everything, early_stop=True))[..., 0]
        held, fresh = moved[:length], moved[length:]
        covariance = held.T @ covariance @ held + fresh.T @ fresh
    return covariance
