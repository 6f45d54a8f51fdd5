"""Likelihood: bounds on log p by denoising at every signal-to-noise ratio.

How well a token can be denoised, over all levels, is its likelihood (Kingma et al., 2021). The level of the history
decides what is measured: 1 is the free-running prior (ELBO 1), 0 the teacher-forced posterior (ELBO 2), and
everything between. Any subset given any other follows from the chain rule.
"""

import math
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from .denoiser import Denoises
from .noise import NoiseSchedule, spread
from .sampling import draw_noise
from .state import State


@dataclass(frozen=True)
class Nodes:
    """Where to look: log-SNRs (N,) and the share of the integral that each stands for (N,), falling on +-limit."""

    log_snr: Tensor
    weight: Tensor
    limit: float


def gauss_legendre(points: int = 400, limit: float = 14.0) -> Nodes:
    """Fixed quadrature nodes: for exact denoisers, and wherever noise is not drawn (Golub and Welsch, 1969)."""
    order = torch.arange(1, points, dtype=torch.float64)
    beside = order / (4 * order**2 - 1).sqrt()
    nodes, vectors = torch.linalg.eigh(torch.diag(beside, 1) + torch.diag(beside, -1))
    return Nodes(limit * nodes, limit * 2 * vectors[0] ** 2, limit)


def stratified(points: int, generator: Generator, limit: float = 14.0) -> Nodes:
    """One random log-SNR in each of `points` equal parts of [-limit, limit]: unbiased, for learned denoisers.

    All sequences and tokens share them, so their own error, which falls with points^(3/2), is not in
    `Likelihood.standard_error`: 32 points are off by about .05 nats a value, 128 by an eighth of that.
    """
    offset = torch.rand(points, generator=generator, device=generator.device, dtype=torch.float64).cpu()
    place = (torch.arange(points) + offset) / points
    return Nodes(limit * (2 * place - 1), torch.full((points,), 2 * limit / points, dtype=torch.float64), limit)


@dataclass(frozen=True)
class Likelihood:
    """Upper bounds on -log p, in nats.

    nats: (B, T) per token, 0 where it was not asked for. values: how many numbers a token holds. asked: (T,) bool.
    """

    nats: Tensor
    values: int
    asked: Tensor

    @property
    def per_sequence(self) -> Tensor:
        """Nats of each sequence, (B,)."""
        return self.nats.sum(dim=1)

    @property
    def per_step(self) -> float:
        """Mean nats per token that was asked for."""
        return float(self.nats[:, self.asked].mean())

    @property
    def per_dimension(self) -> float:
        """Mean nats per number."""
        return self.per_step / self.values

    @property
    def standard_error(self) -> float:
        """Standard error of `per_step` over sequences; NaN for a single one."""
        if len(self.nats) < 2:
            return math.nan
        return float(self.nats[:, self.asked].mean(dim=1).std() / math.sqrt(len(self.nats)))


def negative_log_likelihood(
    denoiser: Denoises,
    tokens: Tensor,
    nodes: Nodes,
    noise: Tensor | Generator,
    condition: Tensor | None = None,
    state: State | None = None,
    history_level: float = 0.0,
    given: Tensor | None = None,
    asked: Tensor | None = None,
) -> Likelihood:
    """A bound on -log p(tokens) in nats per token, token after token, with the history at `history_level`.

    tokens: (B, T, ...). nodes: where to look, `gauss_legendre` or `stratified`. noise: a generator, or the draws
    themselves (M, ...) for every token alike: M values shaped like a token, e.g. +1 and -1 for scalar tokens of a
    linear denoiser, whose mean over them is exact. history_level: 0 is ELBO 2 (posterior), 1 is ELBO 1 (prior);
    between, the history is blurred with noise from the generator. given, asked: (T,) bool; tokens that are neither
    are hidden (level 1), given ones are read at level 0 without being counted; by default all others are asked.

    The three terms of the bound: how far level-1 noise is from the prior, KL(N(a x, b^2) | N(0, 1)) at log-SNR
    -limit; half the integral of |x - clean guess|^2 over the SNR; and the decoder N(y / a, b^2 / a^2) at +limit,
    which for smooth densities ends at an error of order exp(-limit). No loss weighting. For images quantised to
    256 values add log of the bin width per value yourself.
    """
    length, values = tokens.shape[1], tokens[0, 0].numel()
    given = torch.zeros(length, dtype=torch.bool) if given is None else given
    asked = ~given if asked is None else asked
    check_subsets(given, asked, length)
    read = given | asked
    if not bool(torch.isfinite(tokens[:, read]).all()):
        raise ValueError("tokens hold NaN or infinite values: no likelihood; ask for the subset that is there")
    tokens = torch.where(spread(read[None].to(tokens.device), tokens), tokens, 0.0)
    at = levels_of(denoiser.schedule, nodes).to(tokens)
    if isinstance(noise, Tensor) and 0 < history_level < 1:
        raise ValueError(f"a history at level {history_level} is blurred with noise: pass a generator as noise")
    sequences = len(tokens)
    state = denoiser.initial_state(sequences) if state is None else state
    nats = torch.zeros(sequences, length, dtype=torch.float64, device=tokens.device)
    for t in range(length):
        token = tokens[:, t : t + 1]
        known = None if condition is None else condition[:, t : t + 1]
        with torch.no_grad():
            if asked[t]:
                nats[:, t] = token_nats(denoiser, token, nodes, at, noise, known, state)
            if t + 1 < length:
                level = 0.0 if given[t] else history_level if asked[t] else 1.0
                blur = None
                if isinstance(noise, Generator) and 0 < level < 1:
                    blur = draw_noise(noise, tuple(token.shape)).to(token)
                state = denoiser.observe(token, known, state, level, blur)
    return Likelihood(nats, values, asked)


def token_nats(
    denoiser: Denoises,
    token: Tensor,
    nodes: Nodes,
    at: Tensor,
    noise: Tensor | Generator,
    condition: Tensor | None,
    state: State,
) -> Tensor:
    """The bound on -log p(token | state) in nats, (B,), for token (B, 1, ...): one batched denoising call.

    at: the levels of the nodes, and the one at the lowest log-SNR after them, (N + 1,).
    """
    sequences, points, values = len(token), len(nodes.log_snr), token[0].numel()
    schedule = denoiser.schedule
    at, lowest = at[:-1], at[-1]
    snr = schedule.snr(at).double()
    repeats = points * (len(noise) if isinstance(noise, Tensor) else 1)
    each = torch.arange(sequences, device=token.device).repeat_interleave(repeats)
    if isinstance(noise, Tensor):
        drawn = noise.to(token)[:, None].repeat(sequences * points, *(1,) * (token.ndim - 1))
        at = at.repeat_interleave(len(noise))
    else:
        drawn = draw_noise(noise, (len(each), *token.shape[1:])).to(token)
    clean, query = token[each], at.repeat(sequences)[:, None]
    noisy = schedule.mix(clean, drawn, query)
    guess = denoiser(noisy, query, None if condition is None else condition[each], state[each]).clean
    error = (guess - clean).double().flatten(1).square().sum(dim=1).reshape(sequences, points, -1).mean(dim=2)
    diffusion = 0.5 * (error * snr * nodes.weight.to(snr)).sum(dim=1)  # d snr = snr d log-snr
    alpha, sigma = float(schedule.alpha(lowest)), float(schedule.sigma(lowest))
    power = token.double().flatten(1).square().sum(dim=1)
    prior = 0.5 * (alpha**2 * power + values * (sigma**2 - 1 - 2 * math.log(sigma)))
    decoder = 0.5 * values * (math.log(2 * math.pi * math.e) - nodes.limit)
    return prior + diffusion + decoder


def conditional_likelihood(
    denoiser: Denoises,
    tokens: Tensor,
    asked: Tensor,
    given: Tensor,
    nodes: Nodes,
    noise: Tensor | Generator,
    condition: Tensor | None = None,
    state: State | None = None,
) -> Tensor:
    """-log p(asked tokens | given tokens) in nats, (B,), for any two subsets (T,) of the tokens (B, T, ...).

    log p(x_B | x_A) = log p(x_A, x_B) - log p(x_A), each read causally with missing tokens at level 1, so A may lie
    in B's future. A difference of two bounds: exact as far as the denoiser is, but no bound by itself unless A comes
    first. The standard error is that of the mean over sequences.
    """
    check_subsets(given, asked, tokens.shape[1])
    last_given = int(given.nonzero().max()) if bool(given.any()) else -1
    if last_given < int(asked.nonzero().min()):  # what is given comes first: one bound, no difference
        return negative_log_likelihood(
            denoiser, tokens, nodes, noise, condition, state, given=given, asked=asked
        ).per_sequence
    joint = negative_log_likelihood(denoiser, tokens, nodes, noise, condition, state, asked=asked | given)
    alone = negative_log_likelihood(denoiser, tokens, nodes, noise, condition, state, asked=given)
    return joint.per_sequence - alone.per_sequence


def levels_of(schedule: NoiseSchedule, nodes: Nodes) -> Tensor:
    """The levels of the nodes, and the one at the lowest log-SNR after them: (N + 1,), float64.

    Raises ValueError when the schedule does not reach the nodes' limit.
    """
    ends = torch.tensor([nodes.limit, -nodes.limit], dtype=torch.float64)
    reached = schedule.log_snr(schedule.level_of_log_snr(ends * (1 - 1e-6)))  # inside: an exact end is infinite
    if not torch.allclose(reached, ends, atol=1e-3):
        raise ValueError(
            f"the schedule's log-SNR goes from {float(reached[0]):.3g} to {float(reached[1]):.3g} and never reaches"
            f" +-{nodes.limit:g}: pass nodes with a smaller limit"
        )
    return schedule.level_of_log_snr(torch.cat([nodes.log_snr.double(), ends[1:]]))


def check_subsets(given: Tensor, asked: Tensor, length: int) -> None:
    """Raise ValueError unless both are (T,) bool, at least one token is asked, and none is both."""
    for name, subset in (("given", given), ("asked", asked)):
        if subset.dtype != torch.bool or subset.shape != (length,):
            raise ValueError(f"{name} is {subset.dtype} of shape {tuple(subset.shape)}, expected bool ({length},)")
    if not bool(asked.any()):
        raise ValueError("no token is asked for: set at least one entry of `asked` to True")
    if bool((given & asked).any()):
        raise ValueError("a token is both given and asked for: its likelihood would be that of a certainty")
