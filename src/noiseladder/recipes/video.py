"""A world to walk in, learned from pixels and actions: an autoencoder first, then what happens next."""

import json
import math
import sys
from copy import deepcopy
from dataclasses import dataclass, fields, replace
from hashlib import blake2b
from pathlib import Path

import torch
from torch import Generator

from noiseladder.diffusion.batch import Batch
from noiseladder.diffusion.consistency import Consistency, Distilled
from noiseladder.diffusion.denoiser import Denoiser, Denoises
from noiseladder.diffusion.noise import Cosine
from noiseladder.networks import ConvolutionalNetwork, SpatialNetwork, SplitNetwork
from noiseladder.training import Experiment, Objective, TrainingOptions, seeded
from noiseladder.training.cache_folder import cache_folder
from noiseladder.training.durable import file_hash
from noiseladder.training.options import check_at_least, to_json
from noiseladder.training.run import run
from noiseladder.training.weights import load_weights, read_recipe
from noiseladder.video.autoencoder import COLOURS, PLACES, FrameAutoencoder, load_autoencoder
from noiseladder.video.beginnings import Beginnings, numbers_of
from noiseladder.video.latents import Latents, Pieces, encode_store
from noiseladder.video.own_history import OwnHistory
from noiseladder.video.pixels import PixelCodec, PixelPieces
from noiseladder.video.remembered import DimMemory, OftenUnseen
from noiseladder.video.segments import Segments
from noiseladder.video.store import ClipStore
from noiseladder.video.world_model import Codec, Dreaming, WorldModel

from .autoencoder import Autoencoder, experiment as autoencoder_experiment
from .run_folders import WEIGHTS, check_files, open_run
from .video_data import VideoData, actions_of

VALIDATION = 64
PIXEL_VALIDATION = 8  # sequences whose frames cost a hundred times as much
SMALLEST_PICTURE = 8  # pixels along the side at which the network of `pixels` sees a whole frame at least
AUTOENCODER = "autoencoder.safetensors"
STILL = "the clips have no actions: a world to walk in needs an action for every frame"


@dataclass(frozen=True, kw_only=True)
class Video(TrainingOptions, VideoData):
    """Learn a world from videos and actions: two stages, both of which go on when they were stopped."""

    autoencoder: Path | None = None
    """Weights of a `train autoencoder`; without them it is trained first, in the cache."""
    autoencoder_steps: int = 3000
    """Training steps of the autoencoder, where it is trained first."""
    depth: int = 24
    """Values at each of the 4 x 4 places of a frame's vector, where the autoencoder is trained first."""
    narrow: int = 1
    """What the autoencoder's channels are divided by, where it is trained first."""
    colours_apart: bool = False
    """Whether each colour is a picture, and with `spatial` a place, of its own, as suits shapes of one colour each."""
    start: Path | None = None
    """Weights to begin with, those of a run with the same autoencoder and the same network, which may have fewer GRU
    layers; random ones without it."""
    teacher: Path | None = None
    """Folder of a run, with the same sizes as this one, whose many calls a frame the head learns to make in one; its
    weights and autoencoder are taken, and only the head is trained."""
    rungs: int = 16
    """Calls of the teacher that become one."""
    batch: int = 32
    """Sequences in a batch."""
    frames: int = 32
    """Frames in a sequence."""
    pixels: int = 0
    """Channels, at a frame's full size, of the paper's network, a convolutional GRU that reads and writes pixels, with
    no autoencoder: 16 are many for a processor. 0 is the two halves that the options below are about."""
    spatial: bool = False
    """Whether memory and head keep the 4 x 4 places of a frame; else a frame is one token, read whole."""
    width: int = 448
    """Width of memory and head; of each place where they are kept, of which 192 to 256 is enough."""
    layers: int = 1
    """Layers of the memory."""
    gru_layers: int = 0
    """GRU layers after them, with `spatial`: for what has to be followed while nobody sees it."""
    blocks: int = 3
    """Blocks of the head."""
    keep_first: bool = False
    """Whether the first frame is kept for ever and told to the head, by a memory that reads a frame whole."""
    dreamt: float = 0.25
    """Share of sequences whose history the model dreams by itself."""
    clear: float = 0.4
    """Share of sequences that are remembered clearly; of the others, two thirds dimly and one third at any level."""
    dark: float = 0.0
    """Share of sequences in which nothing is seen for a random stretch, and has to be followed from memory."""
    unseen: float = 1 / 3
    """Share of the questions that are about frames of which nothing is seen yet, as the first of every frame's calls
    is; the others are about frames at any level. Above a half the world dreams in one call a frame."""
    steps: int = 4000
    learning_rate: float = 1.5e-3
    average: float = 0.998
    bfloat16: bool = True
    validate_every: int = 250
    checkpoint_every: int = 250

    def __post_init__(self) -> None:
        TrainingOptions.__post_init__(self)
        VideoData.__post_init__(self)
        check_at_least(self, autoencoder_steps=1, rungs=1, batch=1, frames=1, gru_layers=0, pixels=0)
        if self.pixels:
            without = ("autoencoder", "colours_apart", "gru_layers", "keep_first", "spatial", "teacher")
            given = [f"--{name.replace('_', '-')}" for name in without if getattr(self, name)]
            if given:
                raise ValueError(f"--pixels does without an autoencoder and halves: leave {' and '.join(given)} out")
        if self.keep_first and self.spatial:
            raise ValueError("--keep-first is of a memory that reads a frame whole: leave it or --spatial out")
        if self.gru_layers and not self.spatial:
            raise ValueError("--gru-layers are of a memory that keeps places: give --spatial too, or leave them out")
        for name in ("dreamt", "clear", "dark", "unseen"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"--{name} is {getattr(self, name)}, expected a share, 0 to 1")


def experiment(options: Video) -> Experiment:
    """A split network on the vectors of frames, or a convolutional one on their pixels."""
    check_teacher(options)
    check_sizes(options)
    training, held_out = options.split()
    if not training.description.action_names:
        raise ValueError(STILL)
    for clips in (training,) if options.teacher else (training, held_out):
        Segments(clips, options.frames)  # raises ValueError where all are too short
    path = None if options.pixels else autoencoder_of(options)
    codec = PixelCodec(options.size) if path is None else load_fitting(path, options)
    learned = pieces(training, codec, path, options.frames)
    if not learned.condition_size:
        raise ValueError(STILL)
    with seeded(options.seed, "network"):  # the same whether the autoencoder was trained just now or long ago
        denoiser = Denoiser(network(options, codec.token_size, learned.condition_size), Cosine())
    objective: Objective = OwnHistory(
        options.dreamt,
        DimMemory(options.clear, (1 - options.clear) * 2 / 3, dark=options.dark),
        OftenUnseen(options.unseen),
    )
    if options.start is not None:
        begin(denoiser, options.start, options)
    if options.teacher is not None:
        load_weights(options.teacher / WEIGHTS, denoiser)
        # A dreamt frame is remembered clearly or a little dimly: what was learned for any level is not needed again.
        objective = Consistency(deepcopy(denoiser).eval(), DimMemory(options.clear, 1 - options.clear), options.rungs)
        for name, weight in denoiser.named_parameters():
            weight.requires_grad_(name.startswith("network.head."))

    def batches(step: int, generator: Generator) -> Batch:
        return learned.draw(options.batch, generator)

    def validation() -> Batch | None:
        if options.teacher:  # the error of clean guesses is no measure of a student, whose guesses are samples
            return None
        unseen = pieces(held_out, codec, path, options.frames)
        return unseen.spread(PIXEL_VALIDATION if options.pixels else VALIDATION)

    def files(folder: Path) -> None:
        if path is not None:
            there = folder / AUTOENCODER
            if there.is_file() and file_hash(there) != file_hash(path):
                raise ValueError(
                    f"{folder} was trained on the vectors of another autoencoder than {path}, as of other clips: it"
                    " cannot be gone on with; start a new run in another folder"
                )
            there.write_bytes(path.read_bytes())
        names, rows = actions_of(training.description)
        Beginnings.of(held_out, names, rows).save(folder)

    return Experiment(
        denoiser=denoiser,
        objective=objective,
        batches=batches,
        validation=validation(),
        picture=lambda denoiser, path: draw(sampled(denoiser, options), codec, held_out, path, dreaming(options)),
        files=files,
    )


def autoencoder_of(options: Video) -> Path:
    """Weights of the autoencoder: those that are given, the teacher's, or such as are trained now."""
    return options.autoencoder or (options.teacher and options.teacher / AUTOENCODER) or trained_autoencoder(options)


def load_fitting(path: Path, options: Video) -> FrameAutoencoder:
    """The autoencoder in a file. Raises ValueError where it does not fit the options."""
    codec = load_autoencoder(path)
    if codec.colours != (COLOURS if options.colours_apart else 1):
        raise ValueError(f"the autoencoder {path} does not fit: give --colours-apart exactly where it was trained so")
    if codec.size != options.size:
        raise ValueError(f"the autoencoder {path} is for frames of size {codec.size}, expected {options.size}")
    return codec


def pieces(
    store: ClipStore, codec: FrameAutoencoder | PixelCodec, path: Path | None, length: int
) -> Pieces | PixelPieces:
    """All pieces of `length` frames in a store as tokens: vectors by the autoencoder of `path`, or pixels."""
    if isinstance(codec, PixelCodec):
        return PixelPieces(Segments(store, length), codec)
    assert path is not None
    return Pieces(vectors(store, codec, path), length)


def begin(denoiser: Denoiser, path: Path, options: Video) -> None:
    """Give a denoiser the weights of a run, which may have fewer GRU layers than these options say.

    Raises ValueError, saying what differs, for those of another network.
    """
    fewer = read_recipe(path).get("gru_layers", 0)
    grown = denoiser.network
    if not isinstance(grown, SpatialNetwork) or fewer >= options.gru_layers:
        load_weights(path, denoiser)
        return
    reader = grown.reader
    smaller = network(replace(options, gru_layers=fewer), reader.token_size, reader.condition_size)
    load_weights(path, Denoiser(smaller, denoiser.schedule))
    assert isinstance(smaller, SpatialNetwork)
    grown.begin_as(smaller)


def check_teacher(options: Video) -> None:
    """Raise ValueError for a teacher that is no run, that learned from one itself, or that has rivals."""
    if options.teacher is None:
        return
    if options.start is not None or options.autoencoder is not None:
        raise ValueError("--teacher brings weights and an autoencoder: leave --start and --autoencoder out")
    folder, recipe = open_run(options.teacher, {}, "video", (WEIGHTS,))
    if recipe.get("pixels"):
        raise ValueError(f"{options.teacher} learned pixels and has no head that could be taught alone")
    check_files(folder, (AUTOENCODER,))
    if recipe.get("teacher"):
        raise ValueError(f"{options.teacher} learned from a teacher itself: give that one")


def check_sizes(options: Video) -> None:
    """Raise ValueError, before anything is recorded or trained, for what no autoencoder or network can have."""
    with torch.device("meta"):  # no memory, no time, and no random numbers
        if options.pixels:
            network(options, PixelCodec(options.size).token_size, 1)
        else:
            codec = FrameAutoencoder(options.size, options.depth, options.narrow, options.colours_apart)
            network(options, codec.token_size, 1)
    for weights in (options.start, options.autoencoder):
        if weights is not None:
            read_recipe(weights)


def sampled(denoiser: Denoises, options: Video) -> Denoises:
    """What dreams are sampled from: a student is looked at in its own way."""
    return denoiser if options.teacher is None else Distilled(denoiser)


def dreaming(options: Video) -> Dreaming:
    """How a world with these options dreams unless somebody wishes otherwise."""
    return Dreaming() if options.teacher is None and options.unseen <= 0.5 else Dreaming(steps=1)


def network(
    options: Video, token_size: int, condition_size: int
) -> SplitNetwork | SpatialNetwork | ConvolutionalNetwork:
    """The memory and the head; or, of pixels, the two in one."""
    if options.pixels:
        shape = (COLOURS, options.size, options.size)
        return ConvolutionalNetwork(
            shape, options.pixels, halvings=halvings(options.size), condition_size=condition_size
        )
    if options.spatial:
        places = COLOURS if options.colours_apart else PLACES
        sizes = (token_size, places, options.width, options.layers, options.blocks, condition_size)
        return SpatialNetwork(*sizes, gru_layers=options.gru_layers)
    return SplitNetwork(
        token_size,
        options.width,
        options.layers,
        options.blocks,
        condition_size,
        keep_first=options.keep_first,
    )


def halvings(size: int) -> int:
    """How often a side of `size` pixels can be halved and is SMALLEST_PICTURE or more afterwards."""
    most = int(math.log2(max(1.0, size / SMALLEST_PICTURE)))
    return sum(size % 2**count == 0 for count in range(1, most + 1))


def trained_autoencoder(options: Video) -> Path:
    """Weights of an autoencoder with these options; trained in the cache now, or further, unless it is done."""
    wanted = Autoencoder(
        **{field.name: getattr(options, field.name) for field in fields(VideoData)},
        depth=options.depth,
        narrow=options.narrow,
        colours_apart=options.colours_apart,
        steps=options.autoencoder_steps,
        threads=options.threads,
        seed=options.seed,
        device=options.device,
    )
    # Options that came later and stand as they always did leave the name of what was trained before them alone.
    newer = ("contrast", "start", "keep_vectors", "narrow", "colours_apart")
    later = {field.name: field.default for field in fields(wanted) if field.name in newer}
    named = {name: value for name, value in to_json(wanted).items() if later.get(name, wanted) != value}
    if not options.recorded:  # the folder of a store can hold other clips another day
        named["clips"] = options.store().contents
    key = blake2b(json.dumps(named, sort_keys=True).encode(), digest_size=6).hexdigest()
    folder = cache_folder() / "video" / f"autoencoder-{key}"
    if not (folder / "sample.png").is_file():  # drawn when all steps are done, and only then
        print(f"the autoencoder comes first, in {folder}", file=sys.stderr)
        resume = (folder / "recipe.json").is_file()
        run(lambda: autoencoder_experiment(wanted), wanted, folder, "autoencoder", resume)
    return folder / WEIGHTS


def vectors(store: ClipStore, codec: FrameAutoencoder, path: Path) -> Latents:
    """All frames of a store as vectors, from the cache or encoded now."""
    folder = cache_folder() / "video" / f"vectors-{store.description.key}-{file_hash(path)[:12]}"

    def done(shard: int, shards: int) -> None:
        if sys.stderr.isatty():
            sys.stderr.write(f"\r\x1b[2Kencoding frames: shard {shard}/{shards}" + "\n" * (shard == shards))
            sys.stderr.flush()

    return encode_store(store, codec, folder, done)


def draw(denoiser: Denoises, codec: Codec, held_out: ClipStore, path: Path, how: Dreaming) -> None:
    """Held-out walks above the dreams that the same actions lead to, after a context of up to 16 frames."""
    import numpy as np
    from PIL import Image

    names, rows = actions_of(held_out.description)
    strips = []
    shown = min(40, int(held_out.lengths.min()))
    context = max(1, min(16, shown // 2))
    for number in range(min(4, len(held_out))):
        clip = held_out[number][:shown]
        led = numbers_of(torch.from_numpy(np.asarray(clip.actions)), rows).tolist()
        model = WorldModel(denoiser, codec, names, rows, how)
        model.reset(clip.frames[:context], led[:context], seed=number)
        dream = [model.step(action) for action in led[context:]]
        strips += [np.concatenate(list(clip.frames[context::2]), 1), np.concatenate(dream[::2], 1)]
    Image.fromarray(np.concatenate(strips)).save(path, format="png")
