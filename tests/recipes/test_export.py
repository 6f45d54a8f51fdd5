"""`noiseladder export`: a run leaves PyTorch, and `dream`, `play` and `evaluate` take the folder as they take a run."""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from noiseladder.cli import main
from noiseladder.diffusion.denoiser import Denoiser
from noiseladder.diffusion.noise import Cosine
from noiseladder.recipes import trained_world
from noiseladder.recipes.play import playground_of
from noiseladder.recipes.run_folders import WEIGHTS
from noiseladder.recipes.video import AUTOENCODER, Video, network
from noiseladder.training.options import to_json
from noiseladder.training.weights import save_weights
from noiseladder.video.autoencoder import FrameAutoencoder, as_denoiser
from noiseladder.video.beginnings import Beginnings
from noiseladder.video.bouncing import ACTIONS as PUSHES

SIZE, DEPTH = 64, 2


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `train video` would leave, with weights that nobody trained."""
    folder = tmp_path_factory.mktemp("runs") / "video"
    options = Video(data="bouncing", size=SIZE, depth=DEPTH, width=16, blocks=1)
    recipe = {"recipe": "video", **to_json(options)}
    torch.manual_seed(0)
    codec = FrameAutoencoder(SIZE, DEPTH)
    denoiser = Denoiser(network(options, codec.token_size, len(PUSHES)), Cosine())
    for parameter in denoiser.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    save_weights(folder / WEIGHTS, denoiser, recipe)
    save_weights(folder / AUTOENCODER, as_denoiser(codec), {"recipe": "autoencoder", "size": SIZE, "depth": DEPTH})
    frames = torch.randint(256, (2, 3, SIZE, SIZE, 3), dtype=torch.uint8)
    rows = torch.cat([torch.eye(len(PUSHES)), torch.zeros(1, len(PUSHES))])
    Beginnings(frames, torch.tensor([[-1, 0, 1]] * 2), (*PUSHES, "wait"), rows, 9.0).save(folder)
    (folder / "recipe.json").write_text(json.dumps(recipe))
    return folder


@pytest.mark.slow
def test_an_exported_world_is_taken_like_the_run(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["export", str(run), "--frames", "20"]) == 0
    said = capsys.readouterr()
    out = tmp_path / "exported" / "video"
    assert "20 frames dreamt in both: no pixel differs by more than" in said.out
    assert f"noiseladder play {out.relative_to(tmp_path)}" in said.out
    assert "Warning" not in said.err
    assert "torchvision" not in said.err
    trained, exported = trained_world.load(run), trained_world.load(out)
    assert exported.recipe == trained.recipe
    assert exported.weights == trained.weights > 0
    films = {}
    for name, folder in (("trained", run), ("exported", out)):
        film = tmp_path / f"{name}.png"
        command = ["dream", str(folder), "--frames", "6", "--no-real", "--strip", str(film), "--scale", "1"]
        assert main(command) == 0
        films[name] = np.asarray(Image.open(film)).astype(int)
    assert np.abs(films["trained"] - films["exported"]).max() <= 1
    assert "6 frames of 64x64" in capsys.readouterr().out
    one, other = (playground_of(str(folder)) for folder in (run, out))
    assert (one.rate, len(one.openings)) == (other.rate, len(other.openings))
    assert (one.note[:-1], "ONNX" in one.note) == (other.note.removesuffix(" that ONNX Runtime runs."), False)
    other.world.reset(other.openings[0].frames, other.openings[0].actions, 0)
    assert other.world.step(1).shape == (SIZE, SIZE, 3)
    measured = ["evaluate", str(out), "--walks", "2", "--walk-frames", "60", "--predictions", "2", "--context", "8"]
    assert main(measured) == 0
    assert "gain over copying" in capsys.readouterr().out
    assert main(["export", str(out)]) == 2
    assert "is an exported world already: export the run that it came from" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["export", "nowhere"], "there is no run 'nowhere'"),
        (["export", "{run}", "--frames", "0"], "--frames is 0, expected 1 to 10000"),
        (["export", "{run}", "--folder", "{run}"], "holds no exported world: choose another --folder"),
        (["export", "{half}"], "holds no weights.safetensors"),
        (["dream", "{damaged}"], "world.json is damaged or none of ours: export the world again"),
        (["play", "{damaged}", "--port", "0"], "world.json is damaged or none of ours"),
    ],
)
def test_mistakes_get_one_sentence(
    run: Path, tmp_path: Path, arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    places = {"run": run, "half": tmp_path / "half", "damaged": tmp_path / "damaged"}
    shutil.copytree(run, places["half"])
    (places["half"] / WEIGHTS).unlink()
    places["damaged"].mkdir()
    (places["damaged"] / "world.json").write_text("{}")
    before = sorted(path.name for path in run.iterdir())
    assert main([argument.format(**places) for argument in arguments]) == 2
    said = capsys.readouterr().err
    assert sentence in said
    assert "Traceback" not in said
    assert sorted(path.name for path in run.iterdir()) == before


def test_without_the_extra_it_is_named(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert main(["export", str(run), "--folder", str(tmp_path / "out")]) == 2
    assert "pip install 'noiseladder[runtime]'" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
