"""A trained world is a folder: of a run of `train video`, one that ships with the package, or one that was exported."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import noiseladder.video
from noiseladder.diffusion.denoiser import Denoiser, Denoises
from noiseladder.diffusion.noise import Cosine
from noiseladder.training.options import from_json
from noiseladder.training.weights import load_weights
from noiseladder.video.autoencoder import FrameAutoencoder, load_autoencoder
from noiseladder.video.beginnings import FILE as BEGINNINGS, Beginnings
from noiseladder.video.exported_world import (
    FILE as EXPORTED,
    ExportedCodec,
    ExportedDenoiser,
    is_exported,
    load_exported,
)
from noiseladder.video.pixels import PixelCodec
from noiseladder.video.world_model import Dreaming, WorldModel

from .run_folders import RECIPE, WEIGHTS, check_files, open_run, shipped_in
from .shipping import write_shipped
from .video import AUTOENCODER, Video, dreaming as usual_dreaming, network, sampled

SHIPPED = Path(noiseladder.video.__file__).parent / "weights"


class TrainedWorld(NamedTuple):
    """All that dreaming takes, the options it was trained with, and how many weights the network has."""

    denoiser: Denoiser | ExportedDenoiser
    codec: FrameAutoencoder | PixelCodec | ExportedCodec
    beginnings: Beginnings
    recipe: Video
    weights: int

    def model(self, dreaming: Dreaming | None = None) -> WorldModel:
        """One dream; make several for several dreamers."""
        how = dreaming or self.dreaming
        return WorldModel(self.sampler, self.codec, self.beginnings.names, self.beginnings.rows, how)

    @property
    def sampler(self) -> Denoises:
        """What dreams are sampled from: the denoiser, or a distilled one's samples, which it gives in one call; the
        denoiser itself gives means in one call.
        """
        return sampled(self.denoiser, self.recipe)

    @property
    def dreaming(self) -> Dreaming:
        """How it dreams unless somebody wishes otherwise: a distilled world takes one call a frame."""
        return usual_dreaming(self.recipe)


def shipped() -> dict[str, Path]:
    """Name -> folder of the worlds that ship with the package."""
    return shipped_in(SHIPPED)


def load(run: str | Path) -> TrainedWorld:
    """The world of a run folder, a shipped name, or the folder of an exported world.

    Raises ValueError, one sentence, where there is none, or where it is the run of another recipe or not yet whole;
    ImportError for an exported world without ONNX Runtime.
    """
    if is_exported(Path(run)):
        exported = load_exported(Path(run))
        recipe = from_json(Video, exported.note["recipe"], f"the recipe in {Path(run) / EXPORTED}")
        weights = int(exported.note["weights"])
        return TrainedWorld(exported.denoiser, exported.codec, exported.beginnings, recipe, weights)
    folder, values = open_run(run, shipped(), "video", (WEIGHTS, BEGINNINGS))
    options, beginnings = from_json(Video, values, folder / RECIPE), Beginnings.load(folder)
    check_files(folder, codec_files(options))
    codec = PixelCodec(options.size) if options.pixels else load_autoencoder(folder / AUTOENCODER)
    if beginnings.frames.shape[2] != codec.size:
        raise ValueError(
            f"{folder} holds beginnings of size {beginnings.frames.shape[2]} and a world of {codec.size}: the files"
            " belong to different runs"
        )
    denoiser = Denoiser(network(options, codec.token_size, beginnings.rows.shape[1]), Cosine())
    load_weights(folder / WEIGHTS, denoiser)
    weights = sum(weight.numel() for weight in denoiser.parameters())
    return TrainedWorld(denoiser.eval(), codec, beginnings, options, weights)


def codec_files(options: Video) -> tuple[str, ...]:
    """What a run's folder holds of its codec: pixels need nothing."""
    return () if options.pixels else (AUTOENCODER,)


def ship(run: Path, folder: Path) -> None:
    """Write what dreaming needs of a run into another folder."""
    world = load(run)  # nothing half-trained or foreign is shipped
    write_shipped(run, folder, (WEIGHTS, *codec_files(world.recipe)), (BEGINNINGS,))
