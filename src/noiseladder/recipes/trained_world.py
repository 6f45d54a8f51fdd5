"""A trained world is a folder: of a run of `train video`, or one that ships with the package."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any, NamedTuple

import torch

import noiseladder.video
from noiseladder.diffusion.denoiser import Denoiser
from noiseladder.diffusion.noise import Cosine
from noiseladder.training.durable import replace_text
from noiseladder.training.options import from_json
from noiseladder.training.run import read_recipe_file
from noiseladder.training.tensors_file import read_tensors, write_tensors
from noiseladder.training.weights import load_weights
from noiseladder.video.autoencoder import FrameAutoencoder, load_autoencoder
from noiseladder.video.beginnings import FILE as BEGINNINGS, Beginnings
from noiseladder.video.world_model import Dreaming, WorldModel

from .run_folders import RECIPE, WEIGHTS, find_run, shipped_in
from .video import AUTOENCODER, Video, network

SHIPPED = Path(noiseladder.video.__file__).parent / "weights"
METRICS = "metrics.csv"
LINES = 200  # of a shipped log


class TrainedWorld(NamedTuple):
    """All that dreaming takes, and the options it was trained with."""

    denoiser: Denoiser
    codec: FrameAutoencoder
    beginnings: Beginnings
    recipe: Video

    def model(self, dreaming: Dreaming | None = None) -> WorldModel:
        """One dream; make several for several dreamers."""
        return WorldModel(self.denoiser, self.codec, self.beginnings.names, self.beginnings.rows, dreaming)


def shipped() -> dict[str, Path]:
    """Name -> folder of the worlds that ship with the package."""
    return shipped_in(SHIPPED)


def load(run: str | Path) -> TrainedWorld:
    """The world of a run folder or a shipped name.

    Raises ValueError, one sentence, where there is none, or where it is the run of another recipe or not yet whole.
    """
    folder = find_run(run, shipped(), "video")
    values = read_recipe_file(folder)
    if values.get("recipe") != "video":
        raise ValueError(f"{folder} is a run of {values.get('recipe')!r}, expected one of `noiseladder train video`")
    options = from_json(Video, values)
    for name in (WEIGHTS, AUTOENCODER, BEGINNINGS):
        if not (folder / name).is_file():
            raise ValueError(
                f"{folder} holds no {name}: wait for the training's first checkpoint, resume it, or copy the file too"
            )
    codec, beginnings = load_autoencoder(folder / AUTOENCODER), Beginnings.load(folder)
    if beginnings.frames.shape[2] != codec.size:
        raise ValueError(
            f"{folder} holds beginnings of size {beginnings.frames.shape[2]} and an autoencoder for {codec.size}: the"
            " files belong to different runs"
        )
    denoiser = Denoiser(network(options, codec.token_size, beginnings.rows.shape[1]), Cosine())
    load_weights(folder / WEIGHTS, denoiser)
    return TrainedWorld(denoiser.eval(), codec, beginnings, options)


def ship(run: Path, folder: Path) -> None:
    """Write what dreaming needs of a run into another folder, weights as bfloat16 and the log thinned out."""
    load(run)  # nothing half-trained or foreign is shipped
    for name in (WEIGHTS, AUTOENCODER):
        tensors, note = read_tensors(run / name)
        small = {key: value.bfloat16() if value.dtype == torch.float32 else value for key, value in tensors.items()}
        write_tensors(folder / name, small, {**note, "recipe": portable(note["recipe"])})
    Beginnings.load(run).save(folder)
    replace_text(folder / RECIPE, json.dumps(portable(read_recipe_file(run)), indent=2) + "\n")
    replace_text(folder / METRICS, thinned(run / METRICS))


def portable(recipe: dict[str, Any]) -> dict[str, Any]:
    """A recipe without the folders of the machine it ran on: of a path, the run and the file."""
    paths = {name: str(Path(*Path(recipe[name]).parts[-2:])) for name in ("start", "autoencoder") if recipe.get(name)}
    return {**recipe, **paths}


def thinned(log: Path) -> str:
    """A log of training with `LINES` of its lines at even distances."""
    with log.open(newline="", encoding="utf-8") as file:
        header, *rows = csv.reader(file)
    every = max(1, len(rows) // LINES)
    return "".join(",".join(row) + "\n" for row in [header, *rows[every - 1 :: every]])
