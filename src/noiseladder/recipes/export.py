"""`noiseladder export RUN`: a learned world as ONNX graphs, which dream the same frames and faster."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

import torch
from cyclopts import Parameter

from noiseladder.training.options import to_json
from noiseladder.video.exported_world import ExportedCodec, ExportedDenoiser
from noiseladder.video.exporting import export_world

from .real_walks import idle_actions
from .shipping import portable
from .trained_world import load
from .video import sampled

MOST = 10_000  # frames


@dataclass(frozen=True)
class Export:
    """What is exported, and where to."""

    run: str = "doom"
    """The folder of a `noiseladder train video`, or the name of a world that ships."""
    _: KW_ONLY
    folder: Path | None = None
    """Where the graphs are kept; exported/RUN without it. An exported world that is there is replaced."""
    frames: int = 100
    """Frames that both worlds dream; they must be the same."""


def export(options: Annotated[Export, Parameter(name="*")] = Export()) -> None:
    """Write four ONNX graphs, dream in both worlds, and keep the graphs if the frames are the same."""
    if not 1 <= options.frames <= MOST:
        raise ValueError(f"--frames is {options.frames}, expected 1 to {MOST}: a check needs a dream")
    world = load(options.run)
    if isinstance(world.denoiser, ExportedDenoiser) or isinstance(world.codec, ExportedCodec):
        raise ValueError(f"{options.run} is an exported world already: export the run that it came from")
    folder = options.folder or Path("exported") / Path(options.run).resolve().name
    torch.set_num_threads(1)  # as the graphs run, so that the times can be compared
    plan = idle_actions(options.frames, len(world.beginnings.names), 0)
    recipe = portable({"recipe": "video", **to_json(world.recipe)})
    alike = export_world(
        world.denoiser,
        world.codec,
        world.beginnings,
        plan,
        recipe,
        folder,
        world.dreaming,
        partial(sampled, options=world.recipe),
    )
    size = sum(path.stat().st_size for path in folder.glob("*.onnx"))
    print(f"{folder}: encoder, memory, head and decoder, {size / 1e6:.1f} MB")
    print(
        f"{alike.frames} frames dreamt in both: no pixel differs by more than {alike.largest} of 255;"
        f" {alike.frames / alike.exported_seconds:.0f} frames a second of one processor, before"
        f" {alike.frames / alike.seconds:.0f}"
    )
    print(f"noiseladder play {folder}")
