"""The worlds that ship dream at once, and know the world that they were learned from."""

from pathlib import Path

import numpy as np
import pytest
import torch

from noiseladder.cli import main
from noiseladder.recipes.real_walks import real_walks
from noiseladder.recipes.trained_world import load, shipped
from noiseladder.recipes.video_data import bouncing_world
from noiseladder.video.bouncing import pushes_of
from noiseladder.video.clip import Clip
from noiseladder.video.evaluation import Dreamer, long_dream, predict
from noiseladder.video.laws import judge
from noiseladder.video.world_model import Dreaming

MEGABYTE = 1e6


def test_a_doom_ships_and_is_small() -> None:
    assert "doom" in shipped()
    for folder in shipped().values():
        assert sum(path.stat().st_size for path in folder.glob("*.safetensors")) < 12 * MEGABYTE
        assert sum(path.stat().st_size for path in folder.glob("*.csv")) < 0.3 * MEGABYTE
        assert (folder / "metrics.csv").stat().st_size < 100_000


@pytest.mark.parametrize("name", sorted(shipped()))
def test_the_next_frames_of_unseen_walks_are_known_better_than_by_copying(name: str) -> None:
    world = load(name)
    rows = torch.cat([world.beginnings.rows, torch.zeros_like(world.beginnings.rows[:1])])  # -1 is not known
    begun = [world.beginnings[number] for number in range(len(world.beginnings))]
    walks = [Clip(frames, rows[led].numpy()) for frames, led in begun]
    mean = predict(Dreamer(world.denoiser, world.codec, Dreaming(steps=1)), walks, context=4, horizon=4)
    assert mean.gain.min() > 1.5, mean.gain
    assert (mean.ceiling > mean.gain - 0.5).all()
    sample = predict(Dreamer(world.sampler, world.codec, world.dreaming), walks, context=4, horizon=4)
    assert sample.gain.min() > 0, sample.gain  # a sample is further from what came than the mean, and sharper
    if world.recipe.teacher is not None:
        assert (sample.sharpness > mean.sharpness).all()


def test_the_bouncing_world_that_ships_keeps_counts_sizes_speeds_and_walls() -> None:
    world, length = load("bouncing"), 300
    walk = real_walks(world.recipe, 32 + length, 1, 7)[0]
    dreamer = Dreamer(world.sampler, world.codec, world.dreaming)
    frames = torch.cat([torch.from_numpy(walk.frames[:32]), long_dream(dreamer, walk, 32)])
    law = judge(frames, pushes_of(torch.from_numpy(np.asarray(walk.actions))), bouncing_world(world.recipe))
    for name in ("count", "size", "speed", "walls", "bar"):
        assert law.shares[name] == 1.0, law.shares
    assert law.shares["motion"] > 0.95, law.shares
    assert world.dreaming.steps == 1


def test_a_dream_from_a_kept_beginning_needs_no_engine(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    strip = tmp_path / "dream.png"
    assert main(["dream", "doom", "--no-real", "--frames", "24", "--strip", str(strip)]) == 0
    assert "24 frames of 64x64" in capsys.readouterr().out
    assert strip.is_file()


def test_a_hundred_frames_later_it_is_still_a_picture() -> None:
    world = load("doom")
    model = world.model()
    frames, led = world.beginnings[1]
    model.reset(frames, led, seed=3)
    shown = np.stack([model.step(number // 7 % 3) for number in range(100)])
    assert 10 < shown[-20:].std() < 120
    assert np.abs(np.diff(shown[-20:].astype(float), axis=0)).mean() > 0.5  # it has not come to a halt
