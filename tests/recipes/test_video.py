"""A world from the command line: trained in two stages, resumed, dreamt, measured; mistakes get one sentence."""

import json
import os
import shutil
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from noiseladder.cli import main
from noiseladder.diffusion.consistency import Consistency
from noiseladder.networks import ConvolutionalNetwork, SpatialNetwork, SplitState
from noiseladder.recipes import trained_world
from noiseladder.recipes.evaluate import Evaluate, measure
from noiseladder.recipes.real_walks import first_long, idle_actions, long_walk, real_walks
from noiseladder.recipes.run_folders import find_run
from noiseladder.recipes.video import Video, draw, halvings, trained_autoencoder
from noiseladder.recipes.video_data import VideoData, actions_of
from noiseladder.training.tensors_file import read_tensors
from noiseladder.video.bouncing import ACTIONS as PUSHES, BouncingWorld
from noiseladder.video.clip import Clip
from noiseladder.video.installed_weights import have_learned_scores
from noiseladder.video.laws import judge
from noiseladder.video.own_history import OwnHistory
from noiseladder.video.remembered import DimMemory, OftenUnseen
from noiseladder.video.store import ClipStore, Description, write_shard
from noiseladder.video.world_model import Dreaming

TINY = {
    "data": "bouncing", "episodes": 40, "episode-frames": 12, "batch": 2, "frames": 4, "depth": 2, "width": 16,
    "blocks": 1, "autoencoder-steps": 2, "threads": 1, "validate-every": 2, "steps": 2,
}  # fmt: skip


def train_video(folder: Path | str, **changed: object) -> list[str]:
    """The command that trains a world of next to nothing."""
    options = {**TINY, **{name.replace("_", "-"): value for name, value in changed.items()}, "folder": folder}
    return ["train", "video", *(str(word) for name, value in options.items() for word in (f"--{name}", value))]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run of two steps in it, and a cache beside it."""
    folder = tmp_path_factory.mktemp("video")
    before = os.environ.get("NOISELADDER_CACHE")
    os.environ["NOISELADDER_CACHE"] = str(folder / "cache")
    try:
        assert main(train_video(folder / "run")) == 0
    finally:
        if before is None:
            del os.environ["NOISELADDER_CACHE"]
        else:
            os.environ["NOISELADDER_CACHE"] = before
    return folder


@pytest.fixture
def cached(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NOISELADDER_CACHE", str(home / "cache"))
    return home


def test_a_run_holds_all_that_dreaming_takes(home: Path) -> None:
    names = {path.name for path in (home / "run").iterdir()}
    assert names >= {"weights.safetensors", "autoencoder.safetensors", "beginnings.safetensors", "sample.png"}
    world = trained_world.load(home / "run")
    assert world.recipe.width == 16
    model = world.model()
    assert model.actions == (*PUSHES, "wait")
    frames, led = world.beginnings[3]
    model.reset(frames, led, seed=0)
    assert model.step(4).shape == (64, 64, 3)
    picture = Image.open(home / "run" / "sample.png")
    assert picture.width % 64 == 0


def test_a_head_learns_to_make_one_call_of_its_teachers_many(cached: Path, tmp_path: Path, capsys) -> None:
    student = tmp_path / "student"
    assert main([*train_video(student), "--teacher", str(cached / "run")]) == 0
    taught, learned = (read_tensors(folder / "weights.safetensors")[0] for folder in (cached / "run", student))
    changed = {name for name in taught if not torch.equal(taught[name], learned[name])}
    assert changed
    assert all(name.startswith("network.head.") for name in changed)
    world = trained_world.load(student)
    assert world.dreaming.steps == 1
    model = world.model()
    frames, led = world.beginnings[0]
    differ = []
    for seed in (0, 1):
        model.reset(frames, led, seed)
        differ.append(model.step(0))
        assert model.calls == 1
    assert (differ[0] != differ[1]).any()  # one call, and yet a sample
    trained_world.ship(student, tmp_path / "shipped")
    assert json.loads((tmp_path / "shipped" / "recipe.json").read_text())["teacher"].endswith("run")
    assert main(["dream", str(student), "--frames", "2", "--no-real"]) == 0
    assert "with 1 call a frame" in capsys.readouterr().out


def test_a_teacher_has_to_be_a_run_and_no_student(cached: Path, tmp_path: Path, capsys) -> None:
    def refused(*more: str) -> str:
        assert main([*train_video(tmp_path / "new"), *more]) == 2
        assert not (tmp_path / "new").exists()
        said = capsys.readouterr().err.splitlines()[-1]
        assert said.startswith("noiseladder: ")
        return said

    assert "there is no run" in refused("--teacher", str(tmp_path / "nowhere"))
    assert "is no run folder" in refused("--teacher", str(cached))
    run = str(cached / "run")
    assert "leave --start and --autoencoder out" in refused("--teacher", run, "--start", f"{run}/weights.safetensors")
    shutil.copytree(run, tmp_path / "student")
    recipe = json.loads((tmp_path / "student" / "recipe.json").read_text())
    (tmp_path / "student" / "recipe.json").write_text(json.dumps({**recipe, "teacher": run}))
    assert "learned from a teacher itself" in refused("--teacher", str(tmp_path / "student"))


def test_training_goes_on_without_training_the_autoencoder_again(cached: Path, tmp_path: Path) -> None:
    (autoencoder,) = (cached / "cache" / "video").glob("autoencoder-*")
    before = (autoencoder / "weights.safetensors").stat().st_mtime_ns
    shutil.copytree(cached / "run", tmp_path / "run")
    assert main(["train", "video", "--resume", "--steps", "4", "--folder", str(tmp_path / "run")]) == 0
    assert (autoencoder / "weights.safetensors").stat().st_mtime_ns == before
    one, other = (read_tensors(folder / "run" / "weights.safetensors")[0] for folder in (cached, tmp_path))
    assert any(not torch.equal(one[name], other[name]) for name in one)
    # The same two steps again are the same to the bit, though this time the autoencoder was there already.
    assert main(train_video(tmp_path / "again")) == 0
    again = read_tensors(tmp_path / "again" / "weights.safetensors")[0]
    assert all(torch.equal(one[name], again[name]) for name in one)


def test_an_autoencoder_that_was_stopped_goes_on_first(cached: Path, tmp_path: Path) -> None:
    """A stopped run has weights and a report, but they are not those that were asked for."""
    (autoencoder,) = (cached / "cache" / "video").glob("autoencoder-*")
    (autoencoder / "sample.png").unlink()
    assert main(train_video(tmp_path / "run")) == 0
    assert (autoencoder / "sample.png").is_file()


def test_a_run_may_begin_with_the_weights_of_another(cached: Path, tmp_path: Path) -> None:
    first = cached / "run" / "weights.safetensors"
    changed = {"start": first, "steps": 1, "learning_rate": 1e-9, "dreamt": 0}
    assert main(train_video(tmp_path / "run", **changed)) == 0
    one, other = (read_tensors(folder / "run" / "weights.safetensors")[0] for folder in (cached, tmp_path))
    assert all(torch.allclose(one[name], other[name], atol=1e-6) for name in one)


def test_a_world_may_keep_the_places_of_a_frame(cached: Path, tmp_path: Path) -> None:
    assert main([*train_video(tmp_path / "run", steps=1), "--spatial"]) == 0
    world = trained_world.load(tmp_path / "run")
    assert isinstance(world.denoiser.network, SpatialNetwork)
    model = world.model()
    model.reset(*world.beginnings[0], seed=0)
    assert model.step(1).shape == (64, 64, 3)


def test_a_world_may_be_learned_without_an_autoencoder(
    cached: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = list((cached / "cache" / "video").glob("autoencoder-*"))
    run = tmp_path / "run"
    assert main(train_video(run, pixels=2, depth=3, steps=1, dreamt=0)) == 0
    assert list((cached / "cache" / "video").glob("autoencoder-*")) == before
    assert not (run / "autoencoder.safetensors").exists()
    world = trained_world.load(run)
    assert isinstance(world.denoiser.network, ConvolutionalNetwork)
    assert world.denoiser.network.unet.down[-1].first.in_channels == 2 * 2**3  # 64 pixels, down to 8
    model = world.model()
    model.reset(*world.beginnings[0], seed=0)
    assert model.step(1).shape == (64, 64, 3)
    trained_world.ship(run, tmp_path / "shipped")
    assert trained_world.load(tmp_path / "shipped").codec.token_size == 3 * 64 * 64
    capsys.readouterr()
    assert main([*train_video(tmp_path / "student"), "--teacher", str(run)]) == 2
    assert "learned pixels and has no head that could be taught alone" in capsys.readouterr().err
    assert not (tmp_path / "student").exists()


@pytest.mark.slow
def test_a_world_of_pixels_is_gone_on_with_and_dreamt_and_measured(cached: Path, tmp_path: Path) -> None:
    run, figures = tmp_path / "run", tmp_path / "figures.json"
    assert main(train_video(run, pixels=2)) == 0
    assert main(["train", "video", "--resume", "--steps", "3", "--folder", str(run)]) == 0
    assert main(["dream", str(run), "--frames", "3", "--gif", str(tmp_path / "dream.gif")]) == 0
    options = ["--walks", "2", "--walk-frames", "50", "--predictions", "2", "--block", "5"]
    assert main(["evaluate", str(run), *options, "--json", str(figures)]) == 0
    assert "Infinity" not in figures.read_text()
    found = json.loads(figures.read_text())["gain over copying, dB, h=16"]
    assert found["rebuilt"] is None, "real frames are their own tokens: there is no error, and no number of decibels"
    assert found["dream"] < 30


def test_shares_of_a_training_reach_its_objective(
    cached: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of its own value: dimly are remembered two thirds of what is not remembered clearly."""
    learned = []

    def remembered(*given: Any) -> OwnHistory:
        learned.append(OwnHistory(*given))
        return learned[-1]

    monkeypatch.setattr("noiseladder.recipes.video.OwnHistory", remembered)
    assert main(train_video(tmp_path / "run", steps=1, dreamt=0.5, clear=0.1, dark=0.2, unseen=0.8)) == 0
    (objective,) = learned
    assert objective.share == 0.5
    assert objective.asked == OftenUnseen(0.8)
    assert isinstance(objective.memory, DimMemory)
    assert (objective.memory.clear, objective.memory.dark) == (0.1, 0.2)
    assert objective.memory.dim == pytest.approx(0.6)


def test_a_student_remembers_clearly_or_dimly(cached: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    learned = []

    def taught(*given: Any) -> Consistency:
        learned.append(Consistency(*given))
        return learned[-1]

    monkeypatch.setattr("noiseladder.recipes.video.Consistency", taught)
    words = train_video(tmp_path / "student", steps=1, clear=0.1, rungs=5, teacher=cached / "run")
    assert main(words) == 0
    (objective,) = learned
    assert objective.rungs == 5
    assert isinstance(objective.memory, DimMemory)
    assert (objective.memory.clear, objective.memory.dim) == (0.1, pytest.approx(0.9))


def test_the_picture_of_a_training_follows_the_actions_of_its_walks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of the context and those after it; what is real stands above."""
    store, length = tmp_path / "clips", 12
    done = np.array([0, 1, 1, 0, 1, 0, 0, 1, 0, 1, 1, 0])
    frames = np.tile(np.arange(length, dtype=np.uint8)[:, None, None, None], (1, 32, 32, 3))
    Description((32, 32), ("left", "right")).write(store)
    write_shard(store, 0, [Clip(frames, np.eye(2, dtype=np.float32)[done])])
    told: list[list[int]] = []

    class Dream:
        """It draws 200 and the number of the action."""

        def __init__(self, *given: Any) -> None:
            pass

        def reset(self, frames: Any, led: list[int], seed: int) -> None:
            told.extend([frames[:, 0, 0, 0].tolist(), list(led), []])

        def step(self, action: int) -> Any:
            told[-1].append(action)
            return np.full((32, 32, 3), 200 + action, np.uint8)

    monkeypatch.setattr("noiseladder.recipes.video.WorldModel", Dream)
    nothing: Any = None
    draw(nothing, nothing, ClipStore.open(store), tmp_path / "sample.png", Dreaming())
    assert told == [list(range(6)), done[:6].tolist(), done[6:].tolist()]
    picture = np.asarray(Image.open(tmp_path / "sample.png"))
    assert picture.shape == (2 * 32, 3 * 32, 3)
    assert picture[0, ::32, 0].tolist() == [6, 8, 10]
    assert picture[32, ::32, 0].tolist() == [200 + action for action in done[6::2]]


@pytest.mark.parametrize(("size", "expected"), [(64, 3), (128, 4), (32, 2), (60, 2), (50, 1), (8, 0), (7, 0), (1, 0)])
def test_a_frame_is_halved_down_to_about_eight_pixels(size: int, expected: int) -> None:
    assert halvings(size) == expected


def test_the_first_frame_may_be_kept(cached: Path, tmp_path: Path) -> None:
    assert main([*train_video(tmp_path / "run", steps=1), "--keep-first"]) == 0
    world = trained_world.load(tmp_path / "run")
    model = world.model()
    model.reset(*world.beginnings[0], seed=0)
    assert model.step(1).shape == (64, 64, 3)
    state = model.snapshot().state
    assert isinstance(state, SplitState)
    assert state.first is not None
    assert state.first.begun.tolist() == [[1.0]]
    assert "network.keep.weight" in read_tensors(tmp_path / "run" / "weights.safetensors")[0]
    without = cached / "run" / "weights.safetensors"
    assert main([*train_video(tmp_path / "other", start=without), "--keep-first"]) == 2
    assert not (tmp_path / "other" / "weights.safetensors").exists()


def test_a_memory_may_grow_by_gru_layers(cached: Path, tmp_path: Path) -> None:
    changed = {"steps": 1, "learning_rate": 1e-9, "dreamt": 0, "dark": 0.5, "unseen": 0.9}
    assert main([*train_video(tmp_path / "small", **changed), "--spatial"]) == 0
    start = tmp_path / "small" / "weights.safetensors"
    grown = [*train_video(tmp_path / "grown", **changed, start=start, gru_layers=1), "--spatial"]
    assert main(grown) == 0
    one, other = (read_tensors(tmp_path / name / "weights.safetensors")[0] for name in ("small", "grown"))
    kept = one.keys() - {"network.start"}
    assert all(torch.allclose(one[name], other[name], atol=1e-6) for name in kept)
    assert other["network.start"].shape[0] == one["network.start"].shape[0] + 1
    assert any(name.startswith("network.followers.") for name in other)
    world = trained_world.load(tmp_path / "grown")
    assert world.dreaming.steps == 1, "it has hardly learned to be asked more than once"
    model = world.model()
    model.reset(*world.beginnings[0], seed=0)
    assert model.step(1).shape == (64, 64, 3)
    other_sizes = [*train_video(tmp_path / "new", **changed, start=start, gru_layers=1, width=32), "--spatial"]
    assert main(other_sizes) == 2
    assert not (tmp_path / "new").exists()


def test_colours_may_be_the_places_of_a_frame(home: Path, cached: Path, tmp_path: Path) -> None:
    words = [*train_video(tmp_path / "run", steps=1, narrow=8), "--spatial", "--colours-apart"]
    assert main(words) == 0
    world = trained_world.load(tmp_path / "run")
    assert isinstance(world.denoiser.network, SpatialNetwork)
    assert world.denoiser.network.start.shape[1] == 3
    assert world.codec.token_size == 3 * 16 * 2
    foreign = ["--autoencoder", str(home / "run" / "autoencoder.safetensors")]
    assert main([*train_video(tmp_path / "other"), "--colours-apart", *foreign]) == 2
    assert not (tmp_path / "other" / "weights.safetensors").exists()


def test_a_decoder_learns_on_while_frames_become_the_same_vectors(
    cached: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = cached / "run" / "autoencoder.safetensors"
    options = {name: TINY[name] for name in ("data", "episodes", "episode-frames", "depth", "batch", "threads")}
    words = ["train", "autoencoder", *(str(word) for name, value in options.items() for word in (f"--{name}", value))]
    words += ["--keep-vectors", "--contrast", "1", "--steps", "2", "--folder", str(tmp_path / "on")]
    assert main(words) == 2
    assert "keep_vectors needs weights to start from" in capsys.readouterr().err
    assert main([*words, "--start", str(first)]) == 0
    one, other = (read_tensors(path)[0] for path in (first, tmp_path / "on" / "weights.safetensors"))
    changed = {name for name in one if not torch.equal(one[name], other[name])}
    assert changed
    assert all(name.startswith("network.grow") for name in changed)


def test_dreams_are_filmed_beside_the_real_world(
    cached: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, gif, strip = str(cached / "run"), tmp_path / "dream.gif", tmp_path / "dream.png"
    assert main(["dream", run, "--frames", "5", "--gif", str(gif), "--strip", str(strip), "--scale", "1"]) == 0
    said = capsys.readouterr().out
    assert "5 frames of 64x64" in said
    assert "real on the left" in said
    film = Image.open(gif)
    assert (film.n_frames, film.size) == (5, (2 * 64 + 2, 64))
    assert Image.open(strip).size == (5 * 64, 2 * 64)
    assert main(["dream", run, "--frames", "3", "--no-real", "--gif", str(gif), "--scale", "2"]) == 0
    assert Image.open(gif).size == (128, 128)


def test_a_dream_is_measured_beside_what_is_real(
    cached: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    figures = tmp_path / "figures.json"
    options = ["--walks", "4", "--walk-frames", "90", "--predictions", "4", "--block", "20"]
    assert main(["evaluate", str(cached / "run"), *options, "--json", str(figures)]) == 0
    found = json.loads(figures.read_text())
    assert {"gain over copying, dB, h=1", "gain over copying, dB, h=16", "drift of blocks"} <= set(found)
    assert found["drift of blocks"]["dream"] > found["drift of blocks"]["real"]  # two steps teach nothing
    assert found["law of count"]["real"] == 1.0 > found["law of count"]["dream"]
    said = capsys.readouterr()
    assert "revisits" not in said.out
    assert "revisits, error over random left out: nobody recorded where the walker stood" in said.err
    assert "drift" not in said.err
    learned = {"st_lpips_alex, h=1", "st_lpips_alex, h=16"}
    assert ("pip install 'noiseladder[perceptual]'" in said.err) == (not have_learned_scores())
    assert learned & set(found) == (learned if have_learned_scores() else set())
    if have_learned_scores():
        look = found["st_lpips_alex, h=1"]
        assert look["dream"] > look["copy"]
        assert look["of"] == "4 pieces of walks"
        assert (
            "fvd_transnetv2 left out: either side has 2 pieces of 48 frames of 2 walks, expected at least" in said.err
        )
    assert said.out.split("\n")[0].split() == ["dream", "mean", "copy", "rebuilt", "real", "of"]
    assert "rebuilt: the true frames as the codec\nhas them" in said.out


def test_learned_scores_are_left_out_without_weights_or_walks(
    cached: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["evaluate", str(cached / "run"), "--walks", "1", "--walk-frames", "50", "--predictions", "2"]
    if have_learned_scores():
        assert main(words) == 0
        said = capsys.readouterr()
        assert "st_lpips_alex, h=1" in said.out
        assert "fd_effnet_lite0 left out: either side has 0 pieces of 48 frames of 0 walks, expected" in said.err
    monkeypatch.setattr("noiseladder.recipes.evaluate.have_learned_scores", lambda: False)
    assert main(words) == 0
    said = capsys.readouterr()
    assert "learned scores left out: their weights are not installed: pip install" in said.err
    assert "st_lpips_alex" not in said.out + said.err


@pytest.mark.parametrize(("walks", "frames", "blocks", "others"), [(3, 81, 1, 4), (2, 112, 2, 2), (1, 112, 2, 0)])
def test_what_could_not_be_measured_is_said(
    walks: int, frames: int, blocks: int, others: int, cached: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where the dream is too short for two blocks, or the other walks for three."""
    words = ["--walks", walks, "--walk-frames", frames, "--predictions", 2, "--block", 40]
    assert main(["evaluate", str(cached / "run"), *map(str, words)]) == 0
    said = capsys.readouterr()
    assert "drift" not in said.out
    assert "drift of blocks left out" in said.err
    assert f"the longest walk has {blocks} blocks of 40 frames to dream and the others {others}, expected" in said.err


def test_a_walk_that_ended_early_does_not_hide_the_drift() -> None:
    """Its one frame is no block, and the other walks have enough of them."""
    world = trained_world.load("doom")
    generator = np.random.default_rng(0)
    walks = [
        Clip(
            generator.integers(256, size=(length, 64, 64, 3), dtype=np.uint8), np.eye(3, dtype=np.float32)[[0] * length]
        )
        for length in (80, 80, 80, 19, 60)
    ]
    options = Evaluate(predictions=2, block=20)
    found, left_out = measure(world, walks, world.dreaming, options)
    assert "drift of blocks" in found
    few = {"learned scores", "fd_effnet_lite0", "fvd_transnetv2"}  # weights may be absent, and here are two pieces
    assert set(left_out) - few == {"revisits, error over random"}


def test_shipping_halves_the_weights_and_changes_no_frame_visibly(home: Path, tmp_path: Path) -> None:
    trained_world.ship(home / "run", tmp_path / "small")
    sizes = [(folder / "weights.safetensors").stat().st_size for folder in (home / "run", tmp_path / "small")]
    assert sizes[1] < 0.7 * sizes[0]
    assert (tmp_path / "small" / "metrics.csv").read_text().count("\n") >= 2
    frames = []
    for folder in (home / "run", tmp_path / "small"):
        world = trained_world.load(folder)
        model = world.model()
        model.reset(*world.beginnings[0], seed=0)
        frames.append(model.step(0).astype(int))
    assert np.abs(frames[0] - frames[1]).mean() < 3


def test_real_walks_are_none_that_were_trained_on(cached: Path) -> None:
    recipe = trained_world.load(cached / "run").recipe
    walks = real_walks(recipe, 20, 3, seed=0)
    assert [len(walk) for walk in walks] == [20, 20, 20]
    known = {
        clip.frames[0].tobytes() for clip in VideoData(data="bouncing", size=64, episodes=40, episode_frames=12).store()
    }
    assert not known & {frame.tobytes() for walk in walks for frame in walk.frames}
    assert walks[0].frames[0].tobytes() == real_walks(recipe, 20, 1, seed=0)[0].frames[0].tobytes()
    assert idle_actions(50, 3, 1) == idle_actions(50, 3, 1) != idle_actions(50, 3, 2)
    assert set(idle_actions(500, 3, 1)) == {0, 1, 2}


def test_the_first_walk_that_is_long_enough_is_followed() -> None:
    asked = []

    def walks(*lengths: int) -> Iterator[Clip]:
        for length in lengths:
            asked.append(length)
            yield Clip(np.zeros((length, 8, 8, 3), np.uint8))

    for lengths, (number, length) in (((9, 5), (0, 9)), ((3, 7, 8, 9), (2, 8)), ((3, 6, 5, 6), (1, 6))):
        asked.clear()
        found, walk = first_long(walks(*lengths), 8)
        assert (found, len(walk)) == (number, length)
        assert len(asked) == (number + 1 if length >= 8 else len(lengths))


@pytest.mark.skipif(find_spec("vizdoom") is None, reason="the engine is not installed")
def test_a_walk_in_doom_that_ends_early_is_not_the_one_that_is_followed() -> None:
    """The first walk of seed 0 touches the armour after 83 frames."""
    recipe = trained_world.load("doom").recipe
    first, second = real_walks(recipe, 120, 2, seed=0)
    assert len(first) == 83
    number, walk = long_walk(recipe, 120, seed=0)
    assert (number, len(walk)) == (1, 120)
    assert np.array_equal(walk.frames, second.frames)
    assert long_walk(recipe, 80, seed=0)[0] == 0


def test_bouncing_clips_are_lawful_and_their_actions_have_names(cached: Path) -> None:
    store = VideoData(data="bouncing", size=64, episodes=40, episode_frames=12).store()
    assert len(store) == 40
    names, rows = actions_of(store.description)
    assert names[-1] == "wait"
    assert not rows[-1].any()
    clip = store[0]
    assert clip.actions is not None
    pushes = np.where(clip.actions.any(1), clip.actions.argmax(1), -1)
    assert judge(torch.from_numpy(clip.frames.copy()), torch.from_numpy(pushes), BouncingWorld()).lawful_frames == 12
    assert actions_of(Description((64, 64), ("a", "b")))[0] == ("a", "b")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["dream", "nowhere"], "there is no run 'nowhere'"),
        (["dream", "{run}", "--frames", "0"], "frames is 0"),
        (["dream", "{run}", "--frames", "1000000000"], "expected at most 100000"),
        (["dream", "{run}", "--steps", "0"], "steps is 0"),
        (["dream", "{run}", "--steps", "100000000000"], "steps is 100000000000, expected a whole number, 1 to 1000"),
        (["evaluate", "{run}", "--steps", "100000000"], "steps is 100000000, expected a whole number, 1 to 1000"),
        (["dream", "{run}", "--seed", "-1"], "seed is -1, expected a whole number, 0 to 2147483647"),
        (["dream", "{run}", "--seed", "99999999999999999999"], "seed is 99999999999999999999, expected a whole number"),
        (["evaluate", "{run}", "--seed", "2147483648"], "seed is 2147483648, expected a whole number"),
        (["dream", "{run}", "--stabilization", "2"], "stabilization is 2"),
        (["dream", "{run}", "--gif", "film.mp4"], "does not end in .gif"),
        (["dream", "{run}", "--frames", "90000", "--gif", "{run}/recipe.json/film.gif"], "could not write"),
        (["dream", "{run}", "--frames", "90000", "--strip", "/proc/no/strip.png"], "could not write"),
        (["evaluate", "{run}", "--json", "{run}"], "could not write"),
        (["evaluate", "{run}", "--walks", "0"], "--walks is 0, expected at least 1"),
        (["evaluate", "{run}", "--predictions", "0"], "--predictions is 0, expected at least 1"),
        (["evaluate", "{run}", "--context", "-3"], "--context is -3, expected at least 1"),
        (["evaluate", "{run}", "--block", "0"], "--block is 0, expected at least 2"),
        (["evaluate", "{run}", "--walk-frames", "47"], "--walk-frames is 47, expected at least 48: 32 of --context"),
        (["evaluate", "{run}", "--seed", "-1"], "--seed is -1, expected 0 to"),
        (["dream", "{empty}"], "it holds no recipe.json"),
        (["dream", "{other}"], "is a run of 'sines'"),
        (["dream", "{half}"], "holds no weights.safetensors"),
        (["train", "video", "--data", "dom", "--folder", "{new}"], "there is no data 'dom'"),
        (["train", "video", "--data", "{empty}", "--folder", "{new}"], "is not a store of clips"),
        (train_video("{new}", size=48), "size is 48, expected 32, 64, 128 or 256"),
        (train_video("{new}", size=32), "--size is 32, expected at least 64 pixels"),
        (train_video("{new}", data="{store}", size=64), "expected 64x64: use --size 32"),
        (train_video("{new}", data="{store}", size=32, depth=0), "depth is 0"),
        (train_video("{new}", episodes=20), "collect more episodes"),
        (train_video("{new}", frames=99), "no clip holds a segment of 99 frames"),
        (train_video("{new}", narrow=3), "narrow is 3, expected 1, 2, 4, 8 or 16"),
        (train_video("{new}", data="{still}", size=32), "the clips have no actions"),
        (train_video("{new}", batch=0), "--batch is 0, expected at least 1"),
        (train_video("{new}", frames=0), "--frames is 0, expected at least 1"),
        (train_video("{new}", width=0), "width is 0, expected at least 1"),
        (train_video("{new}", layers=0), "layers is 0, expected at least 1"),
        (train_video("{new}", blocks=-1), "blocks is -1, expected at least 0"),
        (train_video("{new}", rungs=0), "--rungs is 0, expected at least 1"),
        (train_video("{new}", clear=2), "--clear is 2.0, expected a share, 0 to 1"),
        (train_video("{new}", dreamt="nan"), "--dreamt is nan, expected a share, 0 to 1"),
        (train_video("{new}", dark=-1), "--dark is -1.0, expected a share, 0 to 1"),
        (train_video("{new}", unseen=7), "--unseen is 7.0, expected a share, 0 to 1"),
        (train_video("{new}", gru_layers=1), "--gru-layers are of a memory that keeps places: give --spatial too"),
        ([*train_video("{new}", pixels=4), "--spatial"], "--pixels does without an autoencoder and halves: leave --sp"),
        ([*train_video("{new}"), "--spatial", "--keep-first"], "--keep-first is of a memory that reads a frame whole"),
        ([*train_video("{new}", pixels=4), "--keep-first"], "leave --keep-first out"),
        (train_video("{new}", pixels=-1), "--pixels is -1, expected at least 0"),
        (train_video("{new}", pixels=4, autoencoder="{run}/autoencoder.safetensors"), "leave --autoencoder out"),
        ([*train_video("{new}", gru_layers=-1), "--spatial"], "--gru-layers is -1, expected at least 0"),
        (train_video("{new}", episodes=0), "--episodes is 0, expected at least 1"),
        (train_video("{new}", episode_frames=0), "--episode-frames is 0, expected at least 2"),
        (train_video("{new}", autoencoder_steps=0), "--autoencoder-steps is 0, expected at least 1"),
        (train_video("{new}", learning_rate="inf"), "--learning-rate is inf, expected a number above 0"),
        (train_video("{new}", start="/nowhere"), "there is no file /nowhere"),
        (["train", "autoencoder", "--narrow", "3", "--folder", "{new}"], "narrow is 3, expected 1, 2, 4, 8 or 16"),
        (["train", "autoencoder", "--batch", "0", "--folder", "{new}"], "--batch is 0, expected at least 1"),
        (["train", "autoencoder", "--blur", "-1", "--folder", "{new}"], "blur is -1.0"),
    ],
)  # fmt: skip
def test_mistakes_get_one_sentence_and_leave_nothing(
    cached: Path, tmp_path: Path, arguments: list[str], sentence: str, capfd: pytest.CaptureFixture[str]
) -> None:
    places = {"run": cached / "run"} | {
        name: tmp_path / name for name in ("empty", "other", "half", "new", "store", "still")
    }
    places["empty"].mkdir()
    places["other"].mkdir()
    (places["other"] / "recipe.json").write_text('{"recipe": "sines"}')
    shutil.copytree(cached / "run", places["half"])
    (places["half"] / "weights.safetensors").unlink()
    Description((32, 32), ("go",)).write(places["store"])
    Description((32, 32), ()).write(places["still"])
    for shard in range(2):
        write_shard(places["store"], shard, [Clip(np.zeros((12, 32, 32, 3), np.uint8), np.zeros((12, 1), np.float32))])
        write_shard(places["still"], shard, [Clip(np.zeros((12, 32, 32, 3), np.uint8))])
    assert main([argument.format(**places) for argument in arguments]) == 2
    said = capfd.readouterr().err
    assert sentence in said
    assert "Traceback" not in said
    assert "the autoencoder comes first" not in said
    assert not (places["new"] / "recipe.json").exists()


@pytest.mark.parametrize(
    ("recipe", "sentence"),
    [
        ({"width": "abc"}, "recipe.json says that width is 'abc', expected a whole number: restore it"),
        ({"data": 5}, "recipe.json says that data is 5, expected a text: restore it"),
        (None, "recipe.json does not say steps, learning_rate, seed: it is not what a training wrote, restore it"),
    ],
)
def test_a_recipe_that_was_changed_gets_one_sentence(
    recipe: dict[str, object] | None, sentence: str, cached: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(cached / "run", tmp_path / "run")
    path = tmp_path / "run" / "recipe.json"
    path.write_text(json.dumps({"recipe": "video"} if recipe is None else {**json.loads(path.read_text()), **recipe}))
    for command in (["dream"], ["evaluate"], ["export"]):
        assert main([*command, str(tmp_path / "run")]) == 2
        assert f"{tmp_path / 'run'}/{sentence}" in capsys.readouterr().err


@pytest.mark.parametrize("seed", [-1, -1_000_003, 2**31])
def test_no_seed_undoes_what_keeps_walks_unseen(seed: int, cached: Path) -> None:
    """UNSEEN - 1,000,003 would be seed 0, from which training records."""
    recipe = trained_world.load(cached / "run").recipe
    for walks in (lambda: real_walks(recipe, 20, 1, seed), lambda: long_walk(recipe, 20, seed)):
        with pytest.raises(ValueError, match=rf"seed is {seed}, expected a whole number, 0 to 2147483647"):
            walks()


def own_clips(folder: Path, seed: int) -> None:
    """A store of clips in `folder`, in place of what is there."""
    shutil.rmtree(folder, ignore_errors=True)
    Description((64, 64), ("go",)).write(folder)
    generator = np.random.default_rng(seed)
    for shard in range(2):
        frames = generator.integers(256, size=(8, 64, 64, 3), dtype=np.uint8)
        write_shard(folder, shard, [Clip(frames, np.ones((8, 1), np.float32))])


def test_clips_collected_anew_get_an_autoencoder_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained: list[Path] = []
    monkeypatch.setattr("noiseladder.recipes.video.run", lambda make, wanted, folder, *more: trained.append(folder))
    monkeypatch.setenv("NOISELADDER_CACHE", str(tmp_path / "cache"))
    keys = []
    for place, seed in (("one", 0), ("other", 1), ("one", 2), ("one", 0)):
        (tmp_path / place).mkdir(exist_ok=True)
        monkeypatch.chdir(tmp_path / place)
        own_clips(Path("clips"), seed)
        trained_autoencoder(Video(data="clips"))
        keys.append(trained[-1].name)
    assert len(set(keys)) == 3
    assert keys[3] == keys[0], "the same clips again"
    # As they were before clips of one's own were told apart: what lies in caches stays of use.
    for options, key in (
        (Video(), "94304e196b5c"),
        (Video(data="doom-mazes", narrow=2), "29eae253eaf4"),
        (
            Video(data="bouncing", episodes=40, episode_frames=12, depth=2, autoencoder_steps=2, threads=1),
            "09cc66331c2a",
        ),
    ):
        trained_autoencoder(options)
        assert trained[-1].name == f"autoencoder-{key}"


@pytest.mark.slow
def test_a_run_is_not_gone_on_with_on_other_clips(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("NOISELADDER_CACHE", str(tmp_path / "cache"))
    own_clips(tmp_path / "clips", 0)
    run = tmp_path / "run"
    assert main(train_video(run, data=tmp_path / "clips")) == 0
    before = {path.name: path.read_bytes() for path in run.glob("*.safetensors")}
    resumed = ["train", "video", "--resume", "--steps", "4", "--folder", str(run)]
    own_clips(tmp_path / "clips", 1)
    assert main(resumed) == 2
    assert "was trained on the vectors of another autoencoder" in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in run.glob("*.safetensors")} == before
    own_clips(tmp_path / "clips", 0)
    assert main(resumed) == 0


def test_a_run_is_found_by_folder_or_name(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "recipe.json").write_text("{}")
    assert find_run(tmp_path / "run", {}, "video") == tmp_path / "run"
    assert find_run("doom", {"doom": tmp_path}, "video") == tmp_path
    with pytest.raises(ValueError, match=r"did you mean doom\?"):
        find_run("dom", {"doom": tmp_path}, "video")
    with pytest.raises(
        ValueError, match=r"folder of a `noiseladder train video`, or the name of a model that ships: doom"
    ):
        find_run("elsewhere", {"doom": tmp_path}, "video")
