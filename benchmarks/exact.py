"""How exact the method is: learned denoisers against Kalman filters and hidden Markov chains, samplers against laws.

    .venv/bin/python benchmarks/exact.py [--quick] [--folder RUN]

Prints tables and, as its last line, one flat JSON object. What is learned comes from tests/weights (`noiseladder train
linear_gaussian` and `hidden_markov`), or from the run folder of another `train linear_gaussian`; everything is
measured on fresh sequences. --quick takes fewer of them and shorter roll-outs.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import cast

os.environ.setdefault("OMP_NUM_THREADS", "1")  # small tensors are faster on one thread
sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))  # exact.py and measures.py live with the tests

import torch
from torch import Generator, Tensor
from torch.fx.experimental.proxy_tensor import make_fx

from exact import (
    HiddenMarkovDenoiser,
    JointDenoiser,
    KalmanDenoiser,
    gamble,
    gaussian_kl,
    propagated_covariance,
    sampled_covariance,
)
from measures import (
    UNSEEN,
    chain_fit,
    error_on_pattern,
    exact_ladder,
    excess_loss,
    ladder_gaps,
    roll_out,
    subset_gaps,
    telling_stairs,
    trained,
    trends,
)
from noiseladder.diffusion import scheduling_matrix as matrices
from noiseladder.diffusion.denoiser import Denoiser, hide_pure_noise
from noiseladder.diffusion.guidance import EnergyGuided, MonteCarloGuided, SmootherCorrected
from noiseladder.diffusion.noise import Cosine
from noiseladder.diffusion.particles import particles
from noiseladder.diffusion.sampling import Previous, Step, final, sample
from noiseladder.networks import RecurrentNetwork, RecurrentState
from noiseladder.recipes import hidden_markov, linear_gaussian

PROCESS = linear_gaussian.example()
EXACT = KalmanDenoiser(PROCESS)
CHAIN = HiddenMarkovDenoiser(hidden_markov.example())
STAIRS = telling_stairs(8, -3.0, 6.0)
CHAIN_STAIRS = telling_stairs(40, -6.0, 7.0)


def generator(seed: int) -> Generator:
    """Fresh random numbers."""
    return torch.Generator().manual_seed(seed)


def schedule_bias(quick: bool) -> dict[str, float]:
    """KL of samples to the truth by delay: causal, causal with the smoother's message, and seeing all."""
    truth, found = PROCESS.covariance(16), {}
    print("Schedule bias: KL to the true law of 16 tokens, nats; 200 levels uniform in log-SNR over +-14")
    print(f"{'delay (share of stairs)':<34}{'DDIM':>9}{'ancestral':>11}")

    def row(name: str, key: str, denoiser, matrix: Tensor, ancestral: bool) -> None:
        found[key] = gaussian_kl(sampled_covariance(denoiser, matrix), truth)
        line = f"{name:<34}{found[key]:>9.4f}"
        if ancestral:
            found[f"{key}_ancestral"] = gaussian_kl(propagated_covariance(denoiser, matrix, 1.0), truth)
            line += f"{found[f'{key}_ancestral']:>11.4f}"
        print(line, flush=True)

    for share in (0.0, 0.08, 0.32) if quick else (0.0, 0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 1.0):
        key = "kl_delay0_plain" if share == 0 else f"kl_delay{share:g}_plain"
        matrix = matrices.pyramid(16, 200, round(200 * share))
        row(f"causal, {share:g}", key, KalmanDenoiser(PROCESS), matrix, ancestral=share == 0 or not quick)
    whole = matrices.full_sequence(16, 200)
    corrected = SmootherCorrected(KalmanDenoiser(PROCESS))
    row("causal, 0, smoother-corrected", "kl_delay0_corrected", corrected, whole, ancestral=not quick)
    row("seeing all, 0", "kl_delay0_joint", JointDenoiser(PROCESS), whole, ancestral=not quick)
    return found


def learned_filter(denoiser: Denoiser, quick: bool) -> dict[str, float]:
    """The learned denoiser against the Kalman filter: floor, patterns, likelihood, ladder."""
    sequences = 4000 if quick else 40_000
    excess = excess_loss(denoiser, EXACT, sequences, 24, generator(101))
    print(f"\nExcess velocity loss over the Bayes floor, in thousandths; {sequences} fresh sequences")
    middles = [low + 2 for low in excess.edges[:-1]]
    print(f"{'time':>6}" + "".join(f"{f'log-SNR {m:g}':>13}" for m in middles))
    for t, losses in enumerate(excess.loss.tolist()):
        print(f"{t:>6}" + "".join(f"{1000 * loss:>13.3f}" for loss in losses))
    found = {
        "excess_loss_max": float(excess.loss.max()),
        "excess_loss_mean": float(excess.loss.mean()),
        "below_floor_max_se": float(excess.below.max()),
        "below_floor_limit_se": excess.below_limit,
    }
    print(
        f"largest {found['excess_loss_max']:.2e}, mean {found['excess_loss_mean']:.2e}; lowest bin"
        f" {found['below_floor_max_se']:.2f} standard errors below the floor, chance alone gives up to"
        f" {found['below_floor_limit_se']:.2f}"
    )
    print("\nClean guesses against the Kalman filter on patterns never drawn in training, standard deviations")
    for name, pattern in UNSEEN.items():
        key = f"kalman_error_sd_{name.replace(' ', '_')}"
        found[key] = error_on_pattern(denoiser, EXACT, pattern, sequences // 4, 24, generator(102))
        print(f"{name:>12} {found[key]:.4f}")
    found["kalman_error_sd"] = max(v for k, v in found.items() if k.startswith("kalman_error_sd_"))

    gaps = subset_gaps(denoiser, EXACT, 6, 100 if quick else 400, generator(103))
    worst = max(gaps, key=lambda pair: abs(gaps[pair]))
    found["likelihood_gap_nats"] = abs(gaps[worst])
    given, asked = ("".join("x" if member else "." for member in subset) for subset in worst)
    print(f"\nlog p(B | A) of all {len(gaps)} pairs of subsets of 6 tokens: largest gap", end=" ")
    print(f"{found['likelihood_gap_nats']:.4f} nats, at A = {given}, B = {asked}")

    print("\nThe ladder: nats of the next token with its whole history (40 tokens) at one log-SNR")
    print(f"{'log-SNR':>8}{'exact':>9}{'learned':>9}{'gap':>9}")
    rungs = ladder_gaps(denoiser, EXACT, 100 if quick else 400, 40, generator(104))
    for log_snr, gap in rungs.items():
        rung = exact_ladder(EXACT, log_snr)
        print(f"{log_snr:>8g}{rung:>9.4f}{rung + gap:>9.4f}{gap:>9.4f}")
    found["ladder_gap_nats"] = max(map(abs, rungs.values()))
    return found


def recorded_roll_out(denoiser: Denoiser, length: int, random: Generator) -> Tensor:
    """One roll-out (1, length) as `roll_out` gives it, a token at a time recorded once and compiled: some times faster.

    Its first tokens are compared with those of `rollout`. Takes about a minute to compile.
    """
    if shutil.which("g++") is None:
        print("no g++ to compile with: the long roll-out takes hours", file=sys.stderr)
        return roll_out(denoiser, 1, length, STAIRS, random)
    from torch._inductor import config as inductor

    levels = [level.reshape(1, 1) for level in STAIRS.float()]
    step, zero, network = Step(second_order=True), torch.zeros(1, 1), cast(RecurrentNetwork, denoiser.network)

    def token(noise: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        state, tokens, previous = network.prepare(RecurrentState(hidden)), noise, None
        for now, then in pairwise(levels):
            output, _ = network(hide_pure_noise(tokens, now), now, None, state)
            guess = denoiser.interpret(output, tokens, now)
            tokens, previous = (
                step(denoiser.schedule, tokens, guess, now, then, None, previous),
                Previous(guess.clean, now),
            )
        return tokens, network(tokens, zero, None, state)[1].hidden

    start = denoiser.initial_state(1).hidden.contiguous()
    with torch.no_grad(), inductor.patch(freezing=True):
        fast = torch.compile(make_fx(token)(torch.zeros(1, 1, 1), start))
        found, hidden = torch.empty(length), start
        for index in range(length):
            made, hidden = fast(torch.randn(1, 1, 1, generator=random), hidden)
            found[index] = made
            if index == 100:
                check = roll_out(denoiser, 1, 100, STAIRS, generator(105))[0]
                assert torch.allclose(found[:100].double(), check, atol=1e-4)
            if index % 100_000 == 99_999:
                print(f"  {index + 1} tokens", file=sys.stderr, flush=True)
    return found[None].double()


def long_roll_outs(denoiser: Denoiser, quick: bool, alone: int) -> dict[str, float]:
    """Many roll-outs, and one that is as long as all of them together: does anything drift?"""
    found = {}
    many, length = (100, 300) if quick else (100, 10_000)
    for name, sequences, tokens in (("many", many, length), ("one", 1, alone)):
        start = time.perf_counter()
        if sequences == 1 and not quick:
            drawn = recorded_roll_out(denoiser, tokens, generator(105))
        else:
            drawn = roll_out(denoiser, sequences, tokens, STAIRS, generator(105))
        seconds = time.perf_counter() - start
        # One long roll-out is cut into pieces, whose order is the time that a trend would follow.
        table = piecewise_trends(drawn)
        if sequences > 1:
            table = {what: (value.mean, value.standard_errors) for what, value in trends(drawn, EXACT).items()}
        print(f"\n{sequences} roll-out(s) of {tokens} tokens, {seconds:.0f} s: mean, and slope in standard errors")
        for what, value in table.items():
            print(f"{what:>28} {value[0]:>8.4f} {value[1]:>6.2f}")
        found[f"rollout_{name}_trend_max_se"] = max(abs(value[1]) for value in table.values())
        found[f"rollout_{name}_variance"] = table["variance"][0]
        found[f"rollout_{name}_nats"] = table["nats of the true process"][0]
        found[f"rollout_{name}_seconds"] = seconds
        found[f"rollout_{name}_tokens"] = sequences * tokens
    found["rollout_exact_nats"] = exact_ladder(EXACT, 40.0)
    return found


def piecewise_trends(tokens: Tensor, pieces: int = 100) -> dict[str, tuple[float, float]]:
    """Means over consecutive pieces of one roll-out (1, T), and the slope along them in standard errors."""
    values = {
        "variance": tokens[0] ** 2,
        "covariance at lag 1": tokens[0, :-1] * tokens[0, 1:],
        "covariance at lag 4": tokens[0, :-4] * tokens[0, 4:],
        "nats of the true process": EXACT.negative_log_likelihood(tokens[..., None])[0],
    }
    found = {}
    for name, series in values.items():
        means = series[50:][: (len(series) - 50) // pieces * pieces].reshape(pieces, -1).mean(1)
        place = torch.linspace(-0.5, 0.5, pieces, dtype=torch.float64)
        slope = (means * place).sum() / (place**2).sum()
        residual = means - means.mean() - slope * place
        error = (residual.square().sum() / (pieces - 2) / (place**2).sum()).sqrt()
        found[name] = (float(means.mean()), float(slope / error))
    return found


def learned_chain(quick: bool) -> dict[str, float]:
    """Roll-outs of the learned hidden Markov chain, together 100,000 steps, against the chain."""
    tokens = roll_out(trained("hidden_markov"), 100, 100 if quick else 1000, CHAIN_STAIRS, generator(106))
    fit = chain_fit(tokens, CHAIN)
    print(f"\nHidden Markov chain: 100 roll-outs of {tokens.shape[1]} tokens; shares of the modes, then jumps")
    print("chain  ", [round(v, 4) for v in CHAIN.process.stationary.tolist()])
    print("learned", [round(v, 4) for v in fit.found_mass.tolist()])
    for true, seen in zip(CHAIN.process.transition.tolist(), fit.found_transition.tolist(), strict=True):
        print([round(v, 4) for v in true], [round(v, 4) for v in seen])
    print(f"largest deviation {fit.worst:.2f} standard errors; chance alone gives up to {fit.limit:.2f}")
    return {"chain_worst_se": fit.worst, "chain_limit_se": fit.limit, "chain_between_modes": fit.between}


def guidance(quick: bool) -> dict[str, float]:
    """Three tokens tilted by exp(-energy), and the gamble."""
    stiff = torch.tensor([[0.5, 0.2, 0.0], [0.2, 1.0, 0.3], [0.0, 0.3, 2.0]], dtype=torch.float64)
    count, matrix, truth = 4000 if quick else 30_000, matrices.full_sequence(3, 100), PROCESS.covariance(3)

    def energy(clean: Tensor) -> Tensor:
        return 0.5 * torch.einsum("bi,ij,bj->b", clean[..., 0], stiff, clean[..., 0])

    wanted = torch.linalg.inv(torch.linalg.inv(truth) + stiff)
    steered = sampled_covariance(EnergyGuided(JointDenoiser(PROCESS), energy), matrix)
    drawn = generator(107)
    noise = torch.randn(1, count, 3, 1, dtype=torch.float64, generator=drawn)
    chosen = final(particles(JointDenoiser(PROCESS), noise, matrix, energy, Step(1.0, drawn), drawn))
    share, values = chosen.log_weights[0].softmax(0), chosen.tokens[0, ..., 0]
    found = {
        "tilt_kl_none": gaussian_kl(truth, wanted),
        "tilt_kl_gradient": gaussian_kl(steered, wanted),
        "tilt_kl_particles": gaussian_kl((share[:, None] * values).T @ values, wanted),
    }
    print("\nTilting three tokens by exp(-x'Mx / 2): KL to the tilted law, nats")
    for name in ("none", "gradient", "particles"):
        print(f"{name:>12} {found[f'tilt_kl_{name}']:.4f}")

    inner, people, strength = gamble(Cosine()), 300 if quick else 1500, 5.0
    quantiles = torch.special.ndtri((torch.arange(32) + 0.5).double() / 32)
    futures = torch.stack([torch.zeros(32).double(), quantiles], dim=1)[..., None]
    start = torch.randn(people, 2, 1, dtype=torch.float64, generator=drawn)
    rows = matrices.autoregressive(2, 20 if quick else 40)

    def minus_pay(clean: Tensor) -> Tensor:
        return -clean[:, 1, 0]

    def gambles(denoiser) -> float:
        return float((final(sample(denoiser, start, rows))[:, 0, 0] > 0).double().mean())

    found["gamble_share_plain"] = gambles(inner)
    found["gamble_share_monte_carlo"] = gambles(MonteCarloGuided(inner, minus_pay, futures, strength, steps=8))
    noise = torch.randn(1, count // 4, 2, 1, dtype=torch.float64, generator=drawn)
    both = final(
        particles(
            gamble(Cosine(), causal=False),
            noise,
            matrices.full_sequence(2, 60),
            minus_pay,
            Step(1.0, drawn),
            drawn,
            scale=strength,
        )
    )
    weights = both.log_weights[0].softmax(0)
    found["gamble_share_particles"] = float(weights @ (both.tokens[0, :, 0, 0] > 0).double())
    print("The gamble at strength 5: .5 unguided; .378 tilted by the expected pay, .788 by the pay itself")
    for name in ("plain", "monte_carlo", "particles"):
        print(f"{name:>12} {found[f'gamble_share_{name}']:.3f}")
    return found


def main() -> None:
    """Print the tables and the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer sequences, shorter roll-outs")
    parser.add_argument("--folder", type=Path, help="the run folder of a `noiseladder train linear_gaussian`")
    parser.add_argument("--long", type=int, help="tokens of the one long roll-out; 1,000,000, or 2,000 with --quick")
    arguments = parser.parse_args()
    start, quick = time.perf_counter(), arguments.quick
    denoiser = trained("linear_gaussian", arguments.folder)
    found = {
        **schedule_bias(quick),
        **learned_filter(denoiser, quick),
        **learned_chain(quick),
        **guidance(quick),
        **long_roll_outs(denoiser, quick, arguments.long or (2000 if quick else 1_000_000)),
    }
    found["seconds"] = time.perf_counter() - start
    print(json.dumps({key: round(value, 6) for key, value in found.items()}))


if __name__ == "__main__":
    main()
