"""What leaving PyTorch buys: frames a second of a world as ONNX graphs against the same world in PyTorch.

    .venv/bin/python benchmarks/exported_speed.py [--quick] [--world doom] [--steps N]

CPU time on one thread at batch 1, frames decoded, medians; all take turns in one run. The frames must be the same
before anything is timed (`noiseladder export`). Two rivals that round are timed beside, with how far their frames are
from PyTorch's when every frame begins at the same moment: PyTorch in bfloat16 where it is safe (autocast), and the
graphs with the products of memory and head in 8-bit integers (dynamic quantization). The last line is flat JSON.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from video_speed import in_turns

from noiseladder.recipes.real_walks import idle_actions
from noiseladder.recipes.trained_world import load
from noiseladder.video.clip import Frames
from noiseladder.video.exported_world import HEAD, MEMORY, Graph, load_exported
from noiseladder.video.exporting import export_world, taken_over
from noiseladder.video.world_model import Dreaming, WorldModel


class Rounded(WorldModel):
    """A dream whose steps run under bfloat16 autocast."""

    def step(self, action: int) -> Frames:
        """The next frame."""
        with torch.autocast("cpu", torch.bfloat16):
            return super().step(action)


def in_integers(folder: Path) -> dict[str, Graph]:
    """Memory and head with their matrix products in 8-bit integers, by name."""
    import logging

    from onnxruntime.quantization import QuantType, quantize_dynamic

    logging.getLogger().setLevel(logging.ERROR)  # it recommends what the exporter has done already
    graphs = {}
    for name in (MEMORY, HEAD):
        path = folder / f"{name}-integers.onnx"
        quantize_dynamic(
            folder / f"{name}.onnx", path, weight_type=QuantType.QInt8, op_types_to_quantize=["MatMul", "Gemm"]
        )
        graphs[name] = Graph(path)
    return graphs


def closeness(true: WorldModel, other: WorldModel, plan: list[int], exported: bool) -> float:
    """PSNR in decibels of the other's frames against the true ones, every frame from the same moment."""
    errors = []
    for action in plan:
        here = true.snapshot()
        other.restore(taken_over(here, true.denoiser) if exported else here)  # type: ignore[attr-defined]
        frames = [model.step(action).astype(float) for model in (true, other)]
        errors.append(np.square(frames[0] - frames[1]).mean())
    return 10 * math.log10(255**2 / max(float(np.mean(errors)), 1e-12))


@torch.no_grad()
def main() -> None:
    """Measure, and end in one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--world", default="doom", help="run folder or name of a world")
    parser.add_argument("--steps", type=int, default=Dreaming.steps, help="denoising calls a frame")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    repeats, checked = (20, 40) if asked.quick else (200, 500)
    world, dreaming = load(asked.world), Dreaming(steps=asked.steps)
    plan = idle_actions(checked, len(world.beginnings.names), 0)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "world"
        alike = export_world(world.denoiser, world.codec, world.beginnings, plan, {}, folder)  # type: ignore[arg-type]
        graphs, coarse = load_exported(folder), load_exported(folder)
        integers = in_integers(folder)
        coarse.denoiser.memory, coarse.denoiser.head = integers[MEMORY], integers[HEAD]
    print(
        f"{world.codec.size}x{world.codec.size}, {asked.steps} calls a frame, batch 1, one thread, CPU time;"
        f" {alike.frames} frames are the same but for {alike.largest} of 255"
    )
    named = world.beginnings.names, world.beginnings.rows, dreaming
    models = {
        "PyTorch": WorldModel(world.denoiser, world.codec, *named),
        "ONNX Runtime": WorldModel(graphs.denoiser, graphs.codec, *named),
        "PyTorch, bfloat16": Rounded(world.denoiser, world.codec, *named),
        "ONNX Runtime, integers": WorldModel(coarse.denoiser, coarse.codec, *named),
    }
    for model in models.values():
        model.reset(*world.beginnings[0], seed=0)
    far = {
        name: closeness(models["PyTorch"], model, plan, name.startswith("ONNX"))
        for name, model in models.items()
        if model is not models["PyTorch"]
    }
    frame = in_turns({name: partial(model.step, 0) for name, model in models.items()}, repeats)
    for name, ms in frame.items():
        beside = f", {far[name]:.1f} dB from PyTorch's frames" if name in far else ""
        print(f"  {name:24}{ms:8.2f} ms,{1000 / ms:6.0f} frames/s, {frame['PyTorch'] / ms:.2f} times{beside}")

    token, row = torch.randn(1, 1, *world.codec.token_shape), world.beginnings.rows[:1][None]
    level, shown = torch.full((1, 1), 0.5), world.beginnings.frames[0, :1].numpy()
    parts: dict[str, Callable[[], object]] = {}
    for name, (denoiser, codec) in {
        "PyTorch": (world.denoiser, world.codec),
        "ONNX Runtime": (graphs.denoiser, graphs.codec),
        "ONNX Runtime, integers": (coarse.denoiser, coarse.codec),
    }.items():
        ready = getattr(denoiser, "prepare", lambda state: state)  # of a graph the state is ready for the head
        state = ready(denoiser.observe(token, row))
        parts[f"memory: {name}"] = lambda d=denoiser, r=ready, s=state: r(d.observe(token, row, s, 0.05, token))
        parts[f"head: {name}"] = partial(denoiser, token, level, row, state)
        parts[f"decoder: {name}"] = partial(codec.decode, token[0])
        parts[f"encoder: {name}"] = partial(codec.encode, shown)
    part = in_turns(parts, repeats)
    print(f"\n{'ms':24}{'memory':>9}{'head':>9}{'decoder':>9}{'encoder':>9}")
    for name in ("PyTorch", "ONNX Runtime", "ONNX Runtime, integers"):
        columns = (f"{part[f'{half}: {name}']:9.2f}" for half in ("memory", "head", "decoder", "encoder"))
        print(f"  {name:22}{''.join(columns)}")
    figures = {
        "calls_per_frame": asked.steps,
        "frames_checked": alike.frames,
        "largest_difference_of_255": alike.largest,
        f"fps{world.codec.size}_torch": 1000 / frame["PyTorch"],
        f"fps{world.codec.size}_onnx": 1000 / frame["ONNX Runtime"],
        "speedup_onnx": frame["PyTorch"] / frame["ONNX Runtime"],
        "speedup_bfloat16": frame["PyTorch"] / frame["PyTorch, bfloat16"],
        "speedup_integers": frame["PyTorch"] / frame["ONNX Runtime, integers"],
        "db_bfloat16": far["PyTorch, bfloat16"],
        "db_integers": far["ONNX Runtime, integers"],
    }
    print(json.dumps({name: round(value, 4) for name, value in figures.items()}))


if __name__ == "__main__":
    main()
