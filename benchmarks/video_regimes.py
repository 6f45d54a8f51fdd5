"""Ways to train one network of a video world on one budget, dreamt far beyond a training sequence.

    .venv/bin/python benchmarks/video_regimes.py RUN [--pasts] [--steps 500] [--frames 960] [--folder DIR]
        [--picture FILE]

RUN is a folder of `noiseladder train video`: its data and autoencoder are used, its weights are not. Each regime trains
a network of the recipe's size from the same random weights on the same batches; only the levels in training differ, and
what may be done with them. With --pasts each of what is done against drift is measured alone, with the questions of
Diffusion Forcing: a past that is noisy in training, one that is remembered as noisy in dreams, one that the model has
dreamt, and a network that keeps the first frame. A training that was stopped goes on, one that is done is not done
again. Walks are recorded from seeds that no training saw. Ends in one flat line of JSON; the picture shows both curves
of each.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import torch
from torch import Generator, Tensor

from noiseladder.diffusion.denoiser import Denoiser
from noiseladder.diffusion.noise import Cosine
from noiseladder.diffusion.objective import DiffusionForcing
from noiseladder.diffusion.sampling import DDIM, draw_noise
from noiseladder.diffusion.training_levels import clean, pure_noise, shared
from noiseladder.recipes.real_walks import real_walks
from noiseladder.recipes.trained_world import TrainedWorld, load
from noiseladder.recipes.video import AUTOENCODER, network, vectors
from noiseladder.training import Experiment, TrainingOptions, seeded
from noiseladder.training.durable import file_hash, replace_text
from noiseladder.training.run import read_recipe_file, run
from noiseladder.training.weights import load_weights
from noiseladder.video.evaluation import Dreamer, stacked
from noiseladder.video.latents import Pieces
from noiseladder.video.metrics import block_statistics, drift, psnr_gain
from noiseladder.video.own_history import OwnHistory
from noiseladder.video.remembered import DimMemory, OftenUnseen
from noiseladder.video.world_model import Dreaming

CONTEXT, BLOCK, WALKS, OTHERS = 32, 120, 8, 8
WINDOW, KEPT = 32, 16  # frames that whole-sequence diffusion samples together, and how many of them it begins with
SAMPLING_STEPS = 8
Dream = Callable[[TrainedWorld, Denoiser, Tensor, Tensor, Tensor], Iterator[Tensor]]
"""(world, denoiser, frames, led, conditions) -> frame after frame, as `Dreamer.dreams`."""


@dataclass(frozen=True)
class Regime:
    """How it is trained, and how it then dreams. as_in: the regime whose training it shares, itself without.

    keep_first: whether its network keeps the first frame; its other first weights are those of all.
    """

    name: str
    objective: DiffusionForcing | OwnHistory
    dream: Dream
    colour: str
    as_in: str = ""
    keep_first: bool = False


def next_frame(how: Dreaming) -> Dream:
    """Frame by frame from a state."""

    def dream(
        world: TrainedWorld, denoiser: Denoiser, frames: Tensor, led: Tensor, conditions: Tensor
    ) -> Iterator[Tensor]:
        return Dreamer(denoiser, world.codec, how).dreams(frames, led, conditions, 0)

    return dream


@torch.no_grad()
def windows(
    world: TrainedWorld, denoiser: Denoiser, frames: Tensor, led: Tensor, conditions: Tensor
) -> Iterator[Tensor]:
    """Window by window: the first frames are the last ones of the window before, noised like all others."""
    batch = len(frames)
    known = world.codec.encode(frames[:, -KEPT:].flatten(0, 1).numpy()).unflatten(0, (batch, KEPT))
    led = led[:, -KEPT:]
    generators = [Generator().manual_seed(number) for number in range(batch)]
    for piece in conditions.split(WINDOW - KEPT, dim=1):
        condition = torch.cat([led, piece], dim=1)
        noise = draw_noise(generators, (batch, condition.shape[1], known.shape[-1]))
        noisy, levels = noise, torch.linspace(1, 0, SAMPLING_STEPS + 1)
        for here, there in pairwise(levels):
            now, then = (torch.full(noisy.shape[:2], float(level)) for level in (here, there))
            replaced = denoiser.schedule.mix(known, noise[:, :KEPT], now[:, :KEPT])
            noisy = torch.cat([replaced, noisy[:, KEPT:]], dim=1)
            noisy = DDIM(denoiser.schedule, noisy, denoiser(noisy, now, condition), now, then)
        dreamt = noisy[:, KEPT:]
        yield from (torch.from_numpy(world.codec.decode(token)) for token in dreamt.unbind(1))
        known, led = (torch.cat(pair, dim=1)[:, -KEPT:] for pair in ((known, dreamt), (led, piece)))


REGIMES = (
    Regime(
        "diffusion forcing",
        DiffusionForcing(DimMemory(), query_levels=OftenUnseen(), query_share=1.0),
        next_frame(Dreaming()),
        "C0",
    ),
    Regime(
        "teacher forcing",
        DiffusionForcing(clean, query_levels=OftenUnseen(), query_share=1.0),
        next_frame(Dreaming(stabilization=0.0)),
        "C1",
    ),
    Regime("whole sequence", DiffusionForcing(shared), windows, "C2"),
    Regime(
        "deterministic",
        DiffusionForcing(clean, query_levels=pure_noise, query_share=1.0),
        next_frame(Dreaming(1, stabilization=0.0)),
        "C3",
    ),
)
DREAMT = 0.25  # of the sequences
STILL, DIM = Dreaming(stabilization=0.0), Dreaming()
PASTS = (
    Regime("clean past", OwnHistory(0.0, clean), next_frame(STILL), "C0"),
    Regime("noisy past", OwnHistory(0.0), next_frame(STILL), "C1"),
    Regime("noisy past, dim in dreams", OwnHistory(0.0), next_frame(DIM), "C2", "noisy past"),
    Regime("own dreams", OwnHistory(DREAMT, clean), next_frame(STILL), "C3"),
    Regime("all three", OwnHistory(DREAMT), next_frame(DIM), "C4"),
    Regime("first frame kept", OwnHistory(0.0, clean), next_frame(STILL), "C5", keep_first=True),
)


@dataclass
class Curve:
    """gain: dB over copying the last frame, by frame, (H,). drift: of blocks, in spreads of real ones, (K,)."""

    gain: Tensor
    drift: Tensor


def trained(regime: Regime, world: TrainedWorld, source: Path, folder: Path, steps: int) -> Denoiser:
    """The network after `steps` steps of this regime; trained now, or further, where it is not there yet."""
    options = TrainingOptions(steps=steps, learning_rate=1.5e-3, average=0.99, bfloat16=True, checkpoint_every=100)
    training, _ = world.recipe.split()
    learned = vectors(training, world.codec, source / AUTOENCODER)
    assert learned.actions is not None
    pieces, conditions = Pieces(learned, world.recipe.frames), learned.actions.shape[1]
    recipe = replace(world.recipe, keep_first=regime.keep_first)

    def build() -> Denoiser:
        with seeded(0, "network"):
            return Denoiser(network(recipe, learned.token_size, conditions), Cosine())

    def make() -> Experiment:
        return Experiment(build(), regime.objective, lambda _, generator: pieces.draw(world.recipe.batch, generator))

    learned_from = folder / "autoencoder.sha256"
    source_hash = file_hash(source / AUTOENCODER)
    if learned_from.is_file() and learned_from.read_text() != source_hash:
        raise SystemExit(f"{folder} was trained on another world: give another --folder")
    if (folder / "recipe.json").is_file() and read_recipe_file(folder)["steps"] != steps:
        raise SystemExit(f"{folder} holds a training of other --steps: give another --folder")
    replace_text(learned_from, source_hash)
    if not (folder / "report.html").is_file():
        print(f"{regime.name}: {steps} steps, in {folder}", flush=True)
        run(make, options, folder, f"regime {regime.name}", (folder / "recipe.json").is_file())
    denoiser = build().eval()
    load_weights(folder / "weights.safetensors", denoiser)
    return denoiser


def measured(
    regime: Regime, world: TrainedWorld, denoiser: Denoiser, frames: Tensor, led: Tensor, known: Tensor
) -> Curve:
    """Dream along the walks (B, T, H, W, 3), and hold what comes against them and against blocks of other walks."""
    dreams = regime.dream(world, denoiser, frames[:, :CONTEXT], led[:, :CONTEXT], led[:, CONTEXT:])
    dreamt = torch.stack(list(dreams), dim=1)
    real = block_statistics(known, BLOCK)
    blocks = []
    for place in range(0, dreamt.shape[1] - BLOCK + 1, BLOCK):
        joined = dreamt[:, place : place + BLOCK].flatten(0, 1)
        found = drift(block_statistics(joined, BLOCK), real)
        blocks.append(torch.maximum(found.colour, found.motion).mean())
    gain = psnr_gain(dreamt, frames[:, CONTEXT:], frames[:, :CONTEXT])
    return Curve(gain, torch.stack(blocks))


def draw(regimes: Sequence[Regime], curves: dict[str, Curve], floor: float, path: Path) -> None:
    """Both curves of every regime."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    near, far = figure.subplots(1, 2)
    for regime in regimes:
        curve = curves[regime.name]
        near.plot(range(1, 65), curve.gain[:64], color=regime.colour, label=regime.name)
        middle = [BLOCK * (number + 0.5) for number in range(len(curve.drift))]
        far.plot(middle, curve.drift, color=regime.colour, marker="o", markersize=3)
    near.axhline(0, color="grey", linewidth=0.8)
    near.set(xscale="log", xlabel="frame of the dream", ylabel="dB over copying the last frame", title="Is it right?")
    near.legend(frameon=False)
    far.axhline(floor, color="grey", linewidth=0.8, linestyle="--")
    far.text(0.98, floor, "real walks", color="grey", ha="right", va="bottom", transform=far.get_yaxis_transform())
    far.set(
        yscale="log",
        xlabel="frame of the dream",
        ylabel="divergence from real blocks, in spreads",
        title="Does it last?",
    )
    figure.savefig(path, dpi=150)


def main() -> None:
    """Train, dream, measure, draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder of a `noiseladder train video`")
    parser.add_argument("--pasts", action="store_true", help="what is done against drift, each alone")
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--frames", type=int, default=960)
    parser.add_argument("--folder", type=Path, default=Path("runs/regimes"))
    parser.add_argument("--picture", type=Path)
    asked = parser.parse_args()
    if asked.frames < BLOCK:
        parser.error(f"--frames is {asked.frames}, expected at least {BLOCK}, a block")
    world = load(asked.run)
    if world.recipe.pixels:
        parser.error(f"{asked.run} learned pixels: the regimes are compared on an autoencoder's vectors")
    length = CONTEXT + asked.frames
    walks = [walk for walk in real_walks(world.recipe, length, WALKS + OTHERS + 4, 0) if len(walk) == length]
    frames, led = stacked(walks[:WALKS])
    known = torch.cat([torch.from_numpy(walk.frames) for walk in walks[WALKS:]])
    floor = drift(block_statistics(frames[:, CONTEXT:].flatten(0, 1), BLOCK), block_statistics(known, BLOCK))
    real = max(floor.colour.mean().item(), floor.motion.mean().item())
    curves, figures = {}, {"real_walks": round(real, 3)}
    print(f"\n{'':26}{'dB at 1':>9}{'4':>8}{'16':>8}{'64':>8}{'spreads, first block':>22}{'last':>8}")
    regimes = PASTS if asked.pasts else REGIMES
    for regime in regimes:
        name = regime.name.replace(",", "").replace(" ", "_")
        folder = asked.folder / (regime.as_in or regime.name).replace(" ", "_")
        denoiser = trained(regime, world, asked.run, folder, asked.steps)
        curve = curves[regime.name] = measured(regime, world, denoiser, frames, led, known)
        gains = [curve.gain[h - 1].item() for h in (1, 4, 16, 64)]
        print(
            f"{regime.name:26}{gains[0]:9.2f}"
            + "".join(f"{gain:8.2f}" for gain in gains[1:])
            + f"{curve.drift[0].item():22.1f}{curve.drift[-1].item():8.1f}",
            flush=True,
        )
        figures |= {f"{name}_gain_h{h}": round(gain, 3) for h, gain in zip((1, 4, 16, 64), gains)}
        figures |= {f"{name}_drift_first": round(curve.drift[0].item(), 3)}
        figures |= {f"{name}_drift_last": round(curve.drift[-1].item(), 3)}
    print(f"{'real walks':26}{'':33}{real:22.1f}{real:8.1f}")
    if asked.picture is not None:
        draw(regimes, curves, real, asked.picture)
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
