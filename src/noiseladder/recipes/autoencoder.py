"""Frames as short vectors: the first half of a video world, which its second half, `video`, trains by itself."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Generator

from noiseladder.diffusion.batch import Batch
from noiseladder.diffusion.denoiser import Denoiser
from noiseladder.training import Experiment, TrainingOptions
from noiseladder.training.options import check_at_least
from noiseladder.training.weights import load_weights
from noiseladder.video.autoencoder import FrameAutoencoder, Rebuilding, as_denoiser
from noiseladder.video.segments import Segments, to_frames

from .video_data import VideoData

VALIDATION = 128


@dataclass(frozen=True, kw_only=True)
class Autoencoder(TrainingOptions, VideoData):
    """Learn to write a frame as a short vector."""

    depth: int = 24
    """Values at each of the 4 x 4 places of a vector."""
    narrow: int = 1
    """What the channels of all layers are divided by: 4 is enough for a simple world."""
    colours_apart: bool = False
    """Whether each colour is a picture of its own, read by the same weights."""
    blur: float = 0.1
    """Noise on the vectors in training, whose variance is 1."""
    contrast: float = 0.0
    """How much it counts that small windows vary as much as in real frames: bricks rather than grey walls."""
    start: Path | None = None
    """Weights to begin with, those of an autoencoder of the same size and depth; random ones without it."""
    keep_vectors: bool = False
    """Whether frames become the same vectors as at the start, so that worlds that were learned on them stay valid."""
    batch: int = 32
    """Frames in a batch."""
    steps: int = 3000
    learning_rate: float = 2e-3
    average: float = 0.995
    bfloat16: bool = True
    validate_every: int = 250
    checkpoint_every: int = 250

    def __post_init__(self) -> None:
        TrainingOptions.__post_init__(self)
        VideoData.__post_init__(self)
        check_at_least(self, batch=1)


def experiment(options: Autoencoder) -> Experiment:
    """A convolutional autoencoder on single frames."""
    if options.keep_vectors and options.start is None:
        raise ValueError("keep_vectors needs weights to start from: there are no vectors to keep yet, give --start")
    autoencoder = FrameAutoencoder(options.size, options.depth, options.narrow, options.colours_apart)
    objective, denoiser = Rebuilding(options.blur, options.contrast), as_denoiser(autoencoder)
    if options.start is not None:
        load_weights(options.start, denoiser)
    # Now that nothing is wrong with the options: recording may take minutes.
    training, held_out = options.split()
    frames, unseen = Segments(training, 1), Segments(held_out, 1)

    def batches(step: int, generator: Generator) -> Batch:
        return Batch(frames.draw(options.batch, generator).tokens)

    autoencoder.shrink.requires_grad_(not options.keep_vectors)
    return Experiment(
        denoiser=denoiser,
        objective=objective,
        batches=batches,
        validation=Batch(unseen.spread(VALIDATION).tokens),
        picture=lambda denoiser, path: draw(denoiser, unseen, path),
    )


def draw(denoiser: Denoiser, unseen: Segments, path: Path) -> None:
    """Held-out frames above what is left of them."""
    from PIL import Image

    frames = unseen.spread(12).tokens
    with torch.no_grad():
        rebuilt, _ = denoiser.network(frames, torch.zeros(12, 1), None, denoiser.initial_state(12))
    rows = [torch.from_numpy(to_frames(row[:, 0])) for row in (frames, rebuilt)]
    Image.fromarray(torch.cat([torch.cat(list(row), dim=1) for row in rows]).numpy()).save(path, format="png")
