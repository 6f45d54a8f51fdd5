import json

import numpy as np
import pytest

import noiseladder.recipes.imitate as imitate_file
from noiseladder.cli import main
from noiseladder.data.episodes import Episode
from noiseladder.imitation import Observation
from noiseladder.recipes import swap
from noiseladder.recipes.trained_swap import load_drawing, load_policy, ship, shipped
from noiseladder.training.run import run

OPTIONS = swap.Swap(
    steps=3, episodes=3, held_out=1, chunk=4, tokens=4, batch=2, width=16, layers=1, threads=1, validate_every=2,
    drawing_steps=2, spoiled=True,
)  # fmt: skip


def episode(seed):
    random = np.random.default_rng(seed)
    pictures = {camera: random.integers(0, 256, (24, 16, 16, 3), dtype=np.uint8) for camera in ("front", "side")}
    state = random.normal(size=(24, 4)).astype(np.float32)
    return Episode(f"episode {seed}", pictures, state, random.uniform(-1, 1, (24, 4)).astype(np.float32))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(swap, "recorded", lambda options: [episode(seed) for seed in range(options.episodes)])
        patch.setenv("NOISELADDER_CACHE", str(folder.parent / "cache"))
        run(lambda: swap.experiment(OPTIONS), OPTIONS, folder, "swap")
    return folder


def test_what_is_shipped_is_small_and_acts_almost_alike(folder, tmp_path):
    ship(folder, tmp_path / "swap")
    assert (tmp_path / "swap" / "weights.safetensors").stat().st_size < 0.7 * (
        folder / "weights.safetensors"
    ).stat().st_size
    shown = episode(9)
    seen = Observation({camera: frames[0] for camera, frames in shown.pictures.items()}, shown.state[0])
    one, other = load_policy(folder).act(seen), load_policy(tmp_path / "swap").act(seen)
    assert np.abs(one - other).max() < 0.1
    assert load_drawing(tmp_path / "swap").size == 16
    assert json.loads((tmp_path / "swap" / "recipe.json").read_text())["chunk"] == 4
    lines = (tmp_path / "swap" / "metrics.csv").read_text().splitlines()
    assert lines[0].startswith("step,loss")
    assert [line.split(",")[0] for line in lines[1:]] == ["1", "2", "3"]


def test_looking_is_done_once(folder):
    assert len(list((folder.parent / "cache" / "swap-senses").iterdir())) == 3 + 2  # of the spoiled ones, two


def test_what_is_not_there_is_said_in_a_sentence(tmp_path):
    with pytest.raises(ValueError, match=f"{tmp_path} is no run folder, it holds no recipe.json"):
        load_policy(tmp_path)
    (tmp_path / "recipe.json").write_text('{"recipe": "swap"}')
    with pytest.raises(ValueError, match=f"{tmp_path} holds no weights.safetensors: wait for"):
        load_policy(tmp_path)
    with pytest.raises(ValueError, match="there is no run 'nowhere'"):
        load_policy("nowhere")
    for name in shipped():
        with pytest.raises(ValueError, match=f"did you mean {name}"):
            load_policy(f"{name}s")


@pytest.mark.parametrize(
    ("video", "sentence"),
    [("swap.avi", "swap.avi ends in '.avi', expected .mp4 or .gif"), ("file/swap.gif", "swap.gif: Not a directory")],
)
def test_a_film_that_cannot_be_written_is_refused_before_an_arm_moves(video, sentence, tmp_path, monkeypatch, capsys):
    """Before the policy is even read: it would take minutes to find out."""
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setattr(imitate_file, "load_policy", None)
    assert main(["imitate", "swap", "--video", str(tmp_path / video)]) == 2
    assert sentence in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
