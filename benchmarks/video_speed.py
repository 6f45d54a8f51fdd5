"""How fast a dreamt world answers: frames a second, where the time goes, and that it does not grow with the past.

    .venv/bin/python benchmarks/video_speed.py [--quick] [--world doom] [--steps N]

Times are CPU time on one thread at batch 1, frames decoded, medians; what is compared takes turns in one run. Claims:
1. frames a second, and milliseconds of memory, head, decoder and Python.
2. a frame costs the same after 4096 frames of past as after 16.
3. against an implementation of the same weights that keeps a window of 72 frames and runs all of it through the network
   at every denoising call, as published code does: with its vectors kept, and with the window's frames encoded anew.
   What ships is also run as it is exported for ONNX Runtime (extra `runtime`), against the same windows in PyTorch.
4. the share of the machine's matrix peak, which is timed in the same run.
What is not there is null in the last line, which is flat JSON. Quality is measured by video.py.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from noiseladder.diffusion.sampling import DDIM, final, sample
from noiseladder.recipes.real_walks import idle_actions
from noiseladder.recipes.trained_world import TrainedWorld, load
from noiseladder.video.exported_world import load_exported
from noiseladder.video.exporting import export_world
from noiseladder.video.world_model import Dreaming, WorldModel

WINDOW = 72
PASTS = (16, 64, 256, 1024, 4096)
KEYS = (
    "fps64", "fps128", "speedup_over_window", "calls_per_frame", "rollout_frames", "drift_over_real_spread",
    "bouncing_frames_lawful", "psnr_gain_h1", "psnr_gain_h8", "revisit_error_ratio", "diversity_ratio",
)  # fmt: skip


def cpu_ms(action: Callable[[], object], repeats: int) -> float:
    """Median CPU milliseconds of a call."""
    action()
    times = []
    for _ in range(repeats):
        start = time.process_time()
        action()
        times.append(time.process_time() - start)
    return 1000 * statistics.median(times)


def in_turns(actions: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Median CPU milliseconds of each, called A B C A B C, so that all meet the same load."""
    times: dict[str, list[float]] = {name: [] for name in actions}
    for turn in range(repeats + 2):
        for name, action in actions.items():
            start = time.process_time()
            action()
            if turn > 1:  # the first two warm up
                times[name].append(time.process_time() - start)
    return {name: 1000 * statistics.median(found) for name, found in times.items()}


@torch.no_grad()
def recomputed(world: TrainedWorld, tokens: Tensor, conditions: Tensor, steps: int) -> Tensor:
    """One token after a window (1, WINDOW - 1, D), the whole window through the whole network at every call."""
    noise = torch.randn(1, 1, tokens.shape[2])
    levels = Dreaming(steps).matrix[:, 0].tolist()
    known = torch.zeros(1, tokens.shape[1])
    for level, below in pairwise(levels):
        now, then = torch.full((1, 1), level), torch.full((1, 1), below)
        window = torch.cat([tokens, noise], dim=1)
        window_levels = torch.cat([known, now], dim=1)
        network = world.denoiser.network
        hidden = torch.where(window_levels[..., None] < 1, window, 0.0)
        output, _ = network(hidden, window_levels, conditions, world.denoiser.initial_state(1))
        denoised = world.denoiser.interpret(output[:, -1:], noise, now)
        noise = DDIM(world.denoiser.schedule, noise, denoised, now, then)
    return noise


@torch.no_grad()
def main() -> None:
    """Measure, and end in one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--world", default="doom", help="run folder or name of a world")
    parser.add_argument("--steps", type=int, help="denoising calls a frame; without it as the world is made for")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    repeats = 20 if asked.quick else 100
    world = load(asked.world)
    asked.steps = asked.steps or world.dreaming.steps
    model = world.model(Dreaming(steps=asked.steps))
    figures: dict[str, float | None] = {**dict.fromkeys(KEYS), "calls_per_frame": asked.steps}
    frames, led = world.beginnings[0]
    model.reset(frames, led, 0)
    plan = iter(idle_actions(100_000, len(model.actions), 0))
    token, action = torch.randn(1, 1, *world.codec.token_shape), world.beginnings.rows[:1][None]
    state = world.denoiser.prepare(world.denoiser.observe(token, action))
    level = torch.full((1, 1), 0.5)
    parts: dict[str, Callable[[], object]] = {
        "whole frame": lambda: model.step(next(plan)),
        "memory, once": lambda: world.denoiser.observe(token, action, state, 0.05, token),
        "prepare, once": lambda: world.denoiser.prepare(world.denoiser.initial_state(1)),
        "head, a call": lambda: world.denoiser(token, level, action, state),
        "decoder, once": lambda: world.codec.decode(token[0]),
        "sampler without network": lambda: final(sample(Free(world), token, model.dreaming.matrix, action, state)),
    }
    found = in_turns(parts, repeats)
    whole = found["whole frame"]
    head = asked.steps * found["head, a call"]
    rest = whole - head - found["memory, once"] - found["prepare, once"] - found["decoder, once"]
    print(f"{world.codec.size}x{world.codec.size}, {asked.steps} calls a frame, batch 1, one thread, CPU time")
    for name, ms in found.items():
        print(f"  {name:26}{ms:8.2f} ms")
    print(f"  what is left for Python   {rest:8.2f} ms;  {1000 / whole:.0f} frames/s")
    figures.update({f"fps{world.codec.size}": 1000 / whole, "ms_frame": whole, "ms_head_call": found["head, a call"]})
    figures.update(
        ms_memory=found["memory, once"], ms_decoder=found["decoder, once"], ms_python=rest,
        ms_prepare=found["prepare, once"],
    )  # fmt: skip

    with FlopCounterMode(display=False) as counter:
        model.step(0)
    square = torch.randn(1024, 1024)
    peak = 2 * 1024**3 / (1e6 * cpu_ms(lambda: square @ square, 10))
    reached = counter.get_total_flops() / (1e6 * whole)
    print(
        f"  {counter.get_total_flops() / 1e6:.0f} MFLOP a frame: {reached:.0f} of {peak:.0f} GFLOP/s, the matrix peak"
    )
    figures.update(mflop_frame=counter.get_total_flops() / 1e6, share_of_peak=reached / peak)

    print("\na frame after n frames of past")
    pasts: dict[str, Callable[[], object]] = {}
    for length in PASTS[:3] if asked.quick else PASTS:
        one = long_past(world, length, asked.steps)
        pasts[str(length)] = lambda one=one: one.step(0)  # type: ignore[misc]
    after = in_turns(pasts, repeats // 2)
    for name, ms in after.items():
        print(f"  {name:>6}: {ms:6.2f} ms, {ms / after['16']:.2f} of the first")
    figures["flatness"] = max(after.values()) / after["16"]

    tokens = torch.randn(1, WINDOW - 1, *world.codec.token_shape)
    conditions = world.beginnings.rows[torch.zeros(WINDOW, dtype=torch.long)][None]
    shown = np.zeros((WINDOW - 1, world.codec.size, world.codec.size, 3), np.uint8)

    def kept() -> None:
        world.codec.decode(recomputed(world, tokens, conditions, asked.steps)[0])

    def anew() -> None:
        world.codec.encode(shown)
        kept()

    racers: dict[str, Callable[[], object]] = {
        "ours": lambda: model.step(0), "window, vectors kept": kept, "window, encoded": anew,
    }  # fmt: skip
    if all(find_spec(name) is not None for name in ("onnx", "onnxruntime", "onnxscript")):
        graphs = exported(world, model.dreaming)
        racers["ours, exported"] = lambda: graphs.step(0)
    race = in_turns(racers, repeats // 4)
    print(f"\nagainst a window of {WINDOW} frames recomputed at every call, same weights, decoded")
    for name, ms in race.items():
        faster = ", ".join(f"{ms / race[mine]:.1f} times {mine}" for mine in race if mine.startswith("ours"))
        print(f"  {name:24}{ms:8.2f} ms, {faster}")
    for mine, suffix in (("ours", ""), ("ours, exported", "_exported")):
        if mine in race:
            figures[f"speedup_over_window{suffix}"] = race["window, vectors kept"] / race[mine]
            figures[f"speedup_over_window_encoded{suffix}"] = race["window, encoded"] / race[mine]
    print(json.dumps({name: None if value is None else round(value, 4) for name, value in figures.items()}))


def exported(world: TrainedWorld, dreaming: Dreaming) -> WorldModel:
    """The same world in ONNX Runtime, checked to give the same frames, at the same beginning."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "world"
        plan = idle_actions(20, len(world.beginnings.names), 0)
        export_world(world.denoiser, world.codec, world.beginnings, plan, {}, folder)  # type: ignore[arg-type]
        graphs = load_exported(folder)
    model = WorldModel(graphs.denoiser, graphs.codec, world.beginnings.names, world.beginnings.rows, dreaming)
    model.reset(*world.beginnings[0], 0)
    return model


class Free:
    """A denoiser that costs nothing: what is left is the sampler itself."""

    causal = True

    def __init__(self, world: TrainedWorld) -> None:
        self.schedule = world.denoiser.schedule
        guess = torch.zeros(1, 1, *world.codec.token_shape)
        self.guess = world.denoiser.interpret(guess, guess, torch.full((1, 1), 0.5))

    def __call__(self, *given: object) -> object:
        return self.guess

    def initial_state(self, batch: int) -> None:
        return None


def long_past(world: TrainedWorld, length: int, steps: int) -> WorldModel:
    """A dream that has seen `length` frames: those of a beginning, over and over."""
    model = world.model(Dreaming(steps=steps))
    frames, led = world.beginnings[0]
    often = -(-length // len(frames))
    model.reset(np.tile(frames, (often, 1, 1, 1))[:length], (led * often)[:length], 0)
    return model


if __name__ == "__main__":
    main()
