"""A world leaves PyTorch: its halves become ONNX graphs, which must dream the same frames before they are kept."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

from noiseladder.diffusion.consistency import TOP, Distilled
from noiseladder.diffusion.denoiser import Denoiser, Denoises
from noiseladder.training.durable import file_hash, replace_folder, replace_text
from noiseladder.training.tensors_file import write_tensors

from .autoencoder import FrameAutoencoder
from .beginnings import FILE as BEGINNINGS, Beginnings
from .clip import Frames
from .exported_world import (
    FILE,
    GRAPHS,
    KIND,
    START,
    VERSION,
    ExportedState,
    load_exported,
    note_text,
    runtime,
    schedule_note,
)
from .onnx_graphs import OPSET, graphs_of, tensors_of, write_graph
from .pixels import PixelCodec
from .world_model import Dreaming, Snapshot, WorldModel

SAME = 1
"""Most that a pixel may differ, of 255: sums are added in another order, and then rounded to whole numbers."""
STRETCH = 16
"""Frames that the exported world dreams by itself before it is put where the other is."""
WRITTEN = (FILE, START, BEGINNINGS, *(f"{name}.onnx" for name in GRAPHS))
"""All that a folder of an exported world holds."""


@dataclass(frozen=True)
class Alike:
    """How alike two worlds dream. largest: difference of any pixel of `frames` frames, of 255.

    seconds, exported_seconds: processor time of each dream.
    """

    frames: int
    largest: int
    seconds: float
    exported_seconds: float


def export_world(
    denoiser: Denoiser,
    codec: FrameAutoencoder | PixelCodec,
    beginnings: Beginnings,
    plan: Sequence[int],
    recipe: Mapping[str, Any],
    folder: Path,
    dreaming: Dreaming | None = None,
    sampler: Callable[[Denoises], Denoises] = lambda denoiser: denoiser,
) -> Alike:
    """Write a world into a folder that `load_exported` reads, and say how alike both dream the actions `plan`.

    recipe: JSON values, kept beside the graphs. dreaming, sampler: how it dreams, and what its dreams are sampled from,
    given its denoiser; so both dream when they are compared.
    Raises ValueError, and leaves what was there as it was, when the frames differ, for a network whose state has no
    fixed size, and for a folder that holds something else; ImportError without the extra `runtime`; OSError for a full
    disk.
    """
    how = dreaming or Dreaming()
    need_exporter()
    check_place(folder)
    schedule = schedule_note(denoiser.schedule)
    levels = how.matrix[:, 0].clamp(max=TOP if isinstance(sampler(denoiser), Distilled) else 1.0)
    start, parts = graphs_of(denoiser, codec, beginnings.rows.shape[1])
    note: dict[str, Any] = {
        "kind": KIND,
        "version": VERSION,
        "size": codec.size,
        "token_shape": list(codec.token_shape),
        "actions": dict(zip(beginnings.names, beginnings.rows.tolist(), strict=True)),
        "schedule": schedule,
        "dreaming": {**asdict(how), "levels": levels.tolist()},
        "weights": sum(weight.numel() for weight in denoiser.parameters()),
        "state": list(start),
        "graphs": {},
        "made_with": {"torch": str(torch.__version__), "opset": OPSET},
        "recipe": dict(recipe),
    }
    found: list[Alike] = []

    def write(partial: Path) -> None:
        write_tensors(partial / START, start, {"kind": f"start of an {KIND}"})
        beginnings.save(partial)
        for name, part in parts.items():
            path = partial / f"{name}.onnx"
            write_graph(path, part)
            shapes = {label: list(value.shape) for label, value in part.inputs.items()}
            note["graphs"][name] = {
                "file": path.name, "sha256": file_hash(path), "inputs": shapes, "outputs": list(part.outputs)
            }  # fmt: skip
        replace_text(partial / FILE, note_text(note))
        exported = load_exported(partial)
        mine = WorldModel(sampler(denoiser), codec, beginnings.names, beginnings.rows, how)
        its = WorldModel(sampler(exported.denoiser), exported.codec, beginnings.names, beginnings.rows, how)
        found.append(dreamt_by_both(mine, its, beginnings[0], plan))
        if found[0].largest > SAME:
            raise ValueError(
                f"the exported world dreams other frames: a pixel differs by {found[0].largest} of 255 within"
                f" {len(plan)} frames, expected at most {SAME}; nothing was written"
            )
        note["checked"] = {"frames": len(plan), "largest_difference_of_255": found[0].largest}
        replace_text(partial / FILE, note_text(note))
        check_place(folder)  # once more: somebody may have put a file there in the meantime

    replace_folder(folder, write)
    return found[0]


def dreamt_by_both(
    model: WorldModel, exported: WorldModel, beginning: tuple[Frames, Sequence[int]], plan: Sequence[int]
) -> Alike:
    """Two worlds dream after the same actions and with the same noise: a frame of one, a frame of the other.

    A dream is chaotic: after some 200 frames PyTorch itself dreams other frames from a state that differs by a
    millionth. So every STRETCH frames the exported world takes over the moment of the other, and goes on from there.
    """
    largest, seconds = 0, [0.0, 0.0]
    for each in (model, exported):
        each.reset(*beginning, seed=0)
    for number, action in enumerate(plan):
        if number and number % STRETCH == 0:
            exported.restore(taken_over(model.snapshot(), cast(Denoiser, model.denoiser)))
        frames = []
        for place, each in enumerate((model, exported)):
            started = time.process_time()
            frames.append(each.step(action).astype(int))
            seconds[place] += time.process_time() - started
        largest = max(largest, int(np.abs(frames[0] - frames[1]).max()))
    return Alike(len(plan), largest, *seconds)


def taken_over(moment: Snapshot, denoiser: Denoiser) -> Snapshot:
    """A moment of a world as one of the world that was exported from it."""
    return replace(moment, state=ExportedState(tensors_of(denoiser.prepare(moment.state))))


def need_exporter() -> None:
    """Raise ImportError, with the name of the extra, unless graphs can be written and run here."""
    runtime()
    try:
        import onnxscript  # noqa: F401 (torch.onnx imports it, and says so in a longer way)
    except ImportError as error:
        raise ImportError("graphs are written with onnxscript: pip install 'noiseladder[runtime]'") from error


def check_place(folder: Path) -> None:
    """Raise ValueError unless a folder is new, empty, or holds an exported world and nothing else: it is replaced."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    if not folder.is_dir() or not is_ours(folder):
        raise ValueError(f"{folder} is there already and holds no exported world: choose another --folder")
    foreign = sorted(path.name for path in folder.iterdir() if path.name not in WRITTEN or path.is_dir())
    if foreign:
        raise ValueError(
            f"{folder} holds an exported world and {foreign[0]}{' and more' * (len(foreign) > 1)}, which would be lost"
            " with it: move that away, or choose another --folder"
        )


def is_ours(folder: Path) -> bool:
    """Whether a folder's world.json, of whatever version, was written by an export."""
    try:
        return bool(json.loads((folder / FILE).read_text(encoding="utf-8"))["kind"] == KIND)
    except (OSError, ValueError, KeyError, TypeError):
        return False
