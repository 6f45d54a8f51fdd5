"""How fast the method and its networks are: tables of ratios that were measured in one run, then one line of JSON.

    .venv/bin/python benchmarks/speed.py [--quick]

Times are CPU time; what is compared takes turns (A B A B) and the median of the ratios counts, because other work on
the machine moves single timings by a factor of two. Training is compared with a 1024 x 1024 matrix product that is
timed in the same round. Four claims:

1. roll-out: a token costs the same after 4096 tokens as after 16 (recurrent networks; attention whose cache is full).
2. hoisting: preparing what the sampling steps of a token share pays, with the same network in the same loop.
3. training: the share of the matrix peak that forward, backward and AdamW of a transformer reach together.
4. bf16: what autocast changes, which needs a CPU with bf16 instructions.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

from noiseladder.diffusion.batch import Batch
from noiseladder.diffusion.denoiser import Denoiser
from noiseladder.diffusion.noise import Cosine
from noiseladder.diffusion.objective import DiffusionForcing
from noiseladder.diffusion.sampling import final, sample
from noiseladder.diffusion.scheduling_matrix import autoregressive
from noiseladder.diffusion.state import State
from noiseladder.networks import MinGRUNetwork, RecurrentNetwork, TransformerNetwork

STEPS = 20  # of sampling, for each token
Action = Callable[[], object]


@dataclass(frozen=True)
class Rounds:
    """How often each claim is measured."""

    rollout: int = 41
    hoisting: int = 41
    training: int = 9


QUICK = Rounds(rollout=15, hoisting=15, training=3)


class Plain(Denoiser):
    """The same denoiser without preparation: every call starts from the bare state."""

    def prepare(self, state: State) -> State:
        return state


def cpu_seconds(action: Action, repeats: int = 1) -> float:
    """CPU time of one call, of all threads together."""
    start = time.process_time()
    for _ in range(repeats):
        action()
    return (time.process_time() - start) / repeats


def take_turns(actions: list[Action], rounds: int, repeats: int = 1) -> list[list[float]]:
    """CPU seconds of every action in every round, after one round that does not count."""
    for action in actions:
        action()
    return [list(times) for times in zip(*([cpu_seconds(a, repeats) for a in actions] for _ in range(rounds)))]


def ratio(above: list[float], below: list[float]) -> float:
    """Median of the ratios of the rounds."""
    return statistics.median(a / b for a, b in zip(above, below))


def table(title: str, columns: list[str], rows: list[list[str]]) -> None:
    """Print a table with its columns aligned."""
    widths = [max(len(row[place]) for row in [columns, *rows]) for place in range(len(columns))]
    print(f"\n{title}")
    for row in [columns, *rows]:
        print("  " + "  ".join(cell.rjust(width) for cell, width in zip(row, widths)))


def denoiser_of(network: torch.nn.Module) -> Denoiser:
    """A denoiser whose network says something: output layers start at zero."""
    torch.manual_seed(0)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    return Denoiser(network, Cosine())  # type: ignore[arg-type]


def measure_rollout(rounds: int) -> float:
    """Cost of the next token, sampled and read, after 16 and after 4096 tokens: the worst ratio of the networks."""
    cache = 16
    networks = {
        "GRU, width 128": RecurrentNetwork(8, 128),
        "minGRU, width 128, 2 layers": MinGRUNetwork(8, 128, 2),
        f"transformer, width 128, 2 layers, cache {cache}": TransformerNetwork(8, 128, 2, cache=cache),
    }
    matrix = autoregressive(1, STEPS)
    rows, worst = [], 0.0
    for name, network in networks.items():
        denoiser = denoiser_of(network)
        actions: list[Action] = []
        for history in (16, 4096):
            with torch.no_grad():
                state = denoiser.observe(torch.randn(1, history, 8))
            noise = torch.randn(1, 1, 8)

            def next_token(state: State = state, noise: torch.Tensor = noise, of: Denoiser = denoiser) -> None:
                with torch.no_grad():
                    of.observe(final(sample(of, noise, matrix, state=state)), state=state)

            actions.append(next_token)
        short, long = take_turns(actions, rounds, repeats=3)
        flat = ratio(long, short)
        worst = max(worst, flat)
        times = [f"{1e3 * statistics.median(t):.2f}" for t in (short, long)]
        rows.append([name, *times, f"{flat:.3f}"])
    table(
        f"1. One more token of a roll-out at batch 1 ({STEPS} denoising calls and one reading), CPU ms",
        ["network", "after 16", "after 4096", "ratio"],
        rows,
    )
    return worst


def measure_hoisting(rounds: int) -> dict[str, float]:
    """Prepared against plain: the denoiser's call, and the whole sampler around it."""
    matrix = autoregressive(1, STEPS)
    rows, figures = [], {}
    for width, layers in ((128, 1), (256, 2)):
        for batch in (1, 2000):
            network = RecurrentNetwork(8, width, layers)
            hoisted = denoiser_of(network)
            plain = Plain(network, Cosine())
            noise = torch.randn(batch, 1, 8)
            with torch.no_grad():
                state = hoisted.observe(torch.randn(batch, 1, 8))

            def loop(
                denoiser: Denoiser, noise: torch.Tensor = noise, state: State = state
            ) -> Callable[[], torch.Tensor]:
                return lambda: final(sample(denoiser, noise, matrix, state=state))

            def calls(denoiser: Denoiser, noise: torch.Tensor = noise, state: State = state) -> Action:
                levels = [matrix[row].expand(len(noise), -1) for row in range(STEPS)]

                @torch.no_grad()
                def run() -> None:
                    start = denoiser.prepare(state)
                    for level in levels:
                        denoiser(noise, level, None, start)

                return run

            assert torch.allclose(loop(hoisted)(), loop(plain)(), atol=1e-5)
            actions = [calls(hoisted), calls(plain), loop(hoisted), loop(plain)]
            few = max(3, rounds // 4) if batch > 1 else rounds
            call, plain_call, sampled, plain_sampled = take_turns(actions, few)
            microseconds = [1e6 * statistics.median(t) / STEPS for t in (call, plain_call, sampled, plain_sampled)]
            ratios = ratio(plain_call, call), ratio(plain_sampled, sampled)
            shown = [f"{m:.0f}" for m in microseconds]
            rows.append(
                [
                    f"width {width}, {layers} layer{'s'[: layers - 1]}, batch {batch}",
                    *shown[:2],
                    f"{ratios[0]:.2f}",
                    *shown[2:],
                    f"{ratios[1]:.2f}",
                ]
            )
            key = f"w{width}_b{batch}"
            figures |= {f"hoisted_call_{key}": ratios[0], f"hoisted_sampler_{key}": ratios[1]}
            if (width, batch) == (128, 1):
                figures["sample_call_microseconds_b1"] = microseconds[2]
    table(
        f"2. GRU: prepared against plain, CPU microseconds per sampling step ({STEPS} steps of one token)",
        ["network", "denoise", "plain", "ratio", "in sample()", "plain", "ratio"],
        rows,
    )
    print(
        "  The headline is width 128, batch 2000, in sample(): how the forecaster uses it. At batch 1 a step is mostly"
    )
    print("  the fixed price of its operations, which preparing cannot lower.")
    return figures


def training_step(sequences: int, length: int, bf16: bool) -> tuple[Action, int]:
    """One step of the objective and AdamW on a transformer of width 256, and its FLOPs."""
    torch.manual_seed(0)
    denoiser = Denoiser(TransformerNetwork(32, 256, layers=4, heads=4), Cosine())
    optimizer = torch.optim.AdamW(denoiser.parameters(), 1e-3, fused=True)
    batch, generator = Batch(torch.randn(sequences, length, 32)), torch.Generator().manual_seed(0)
    objective = DiffusionForcing()

    def step() -> None:
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            loss = objective(denoiser, batch, generator)
        loss.backward()
        optimizer.step()

    step()
    with FlopCounterMode(display=False) as counter:
        step()
    return step, counter.get_total_flops()


def measure_training(rounds: int) -> dict[str, float]:
    """Share of the matrix peak in training, and bf16 against fp32, with one thread and with two."""
    left, right = torch.randn(2, 1024, 1024)
    product = 2 * 1024**3
    rows, figures = [], {}
    before = torch.get_num_threads()
    sequences, length = 32, 64
    for threads in (1, 2):
        torch.set_num_threads(threads)
        step, flops = training_step(sequences, length, bf16=False)
        rough, _ = training_step(sequences, length, bf16=True)
        peaks = [lambda: left @ right] * 3  # around and between: the machine changes within a round
        times = []
        for _ in range(rounds):
            first = cpu_seconds(peaks[0], 5)
            full = cpu_seconds(step)
            second = cpu_seconds(peaks[1], 5)
            half = cpu_seconds(rough)
            times.append((statistics.mean((first, second)), full, half))
        peak, full_times, half_times = (list(column) for column in zip(*times))
        share = statistics.median((flops / f) / (product / p) for p, f in zip(peak, full_times))
        gain = ratio(full_times, half_times)
        speed = [1e-9 * flops / statistics.median(t) for t in (full_times, half_times)]
        rows.append(
            [
                str(threads),
                f"{1e-9 * product / statistics.median(peak):.0f}",
                f"{speed[0]:.0f}",
                f"{100 * share:.0f} %",
                f"{sequences * length / statistics.median(full_times):.0f}",
                f"{speed[1]:.0f}",
                f"{gain:.2f}",
            ]
        )
        suffix = "" if threads == 1 else "_two_threads"
        figures |= {f"training_share_of_peak{suffix}": share, f"bf16_over_fp32{suffix}": gain}
    torch.set_num_threads(before)
    table(
        f"3. Training a transformer (width 256, 4 layers, {sequences} x {length} tokens: forward, backward, AdamW),"
        " GFLOP per CPU second of all threads",
        ["threads", "matrix peak", "fp32", "share of peak", "tokens/s", "bf16", "bf16/fp32"],
        rows,
    )
    return figures


def cpu_has_bf16() -> bool:
    """Whether the processor multiplies bfloat16 itself (AVX-512 BF16 or AMX)."""
    file = Path("/proc/cpuinfo")
    flags = set(file.read_text().split()) if file.exists() else set()
    return bool(flags & {"avx512_bf16", "amx_bf16", "bf16"})


def main() -> None:
    """Measure, print, and end in one line of JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    rounds = QUICK if parser.parse_args().quick else Rounds()
    torch.set_num_threads(1)
    flatness = measure_rollout(rounds.rollout)
    hoisting = measure_hoisting(rounds.hoisting)
    training = measure_training(rounds.training)
    native = cpu_has_bf16()
    print("\n4. bf16:", end=" ")
    if native:
        print("this CPU has bf16 instructions; the bar is 1.2 times the speed of fp32.")
    else:
        print("this CPU has no bf16 instructions (avx512_bf16, AMX), so bf16 is converted back and forth and")
        print("   cannot be faster than fp32; the bar of 1.2 needs a CPU that has them.")
    figures: dict[str, float | bool] = {
        "hoisted_over_plain": hoisting["hoisted_sampler_w128_b2000"],
        "rollout_flatness_4096_over_16": flatness,
        **hoisting,
        **training,
        "cpu_has_bf16": native,
    }
    print(
        json.dumps(
            {key: value if value is True or value is False else round(value, 3) for key, value in figures.items()}
        )
    )


if __name__ == "__main__":
    main()
