"""Two processes train as one does with the whole batch, copied (DDP) or sharded (fully_shard)."""

import csv
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from noiseladder.training.tensors_file import read_tensors

pytestmark = pytest.mark.slow

OPTIONS = (
    "--steps 30 --batch 6 --length 12 --width 16 --warmup 5 --learning-rate 0.01 --validate-every 10 --seed 2"
    " --checkpoint-every 10 --threads 1"
)
COMMAND = "import sys; from noiseladder.cli import main; sys.exit(main())"


def command(folder: Path, line: str, ranks: int) -> list[str]:
    script = folder.parent / "noiseladder_main.py"
    script.write_text(COMMAND)
    arguments = [str(script), "train", "sines", "--folder", str(folder), *line.split()]
    if ranks == 1:
        return [sys.executable, *arguments]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    launcher = [sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={ranks}", f"--master-port={port}"]
    return [*launcher, *arguments]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}


def train(folder: Path, line: str, ranks: int) -> str:
    done = subprocess.run(command(folder, line, ranks), env=environment(), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stderr


def curve(folder: Path, column: str) -> list[float]:
    with (folder / "metrics.csv").open() as file:
        return [float(row[column]) for row in csv.DictReader(file) if row[column]]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return read_tensors(folder / "weights.safetensors")[0]


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("alone") / "run"
    train(folder, OPTIONS, ranks=1)
    return folder


@pytest.fixture(scope="module", params=["copied", "sharded"])
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp(request.param) / "run"
    said = train(folder, OPTIONS + " --shard" * (request.param == "sharded"), ranks=2)
    assert said.count("on each of 2 ranks") == 1  # only the first rank speaks
    return folder


def test_two_ranks_have_the_loss_curve_of_one(alone: Path, pair: Path) -> None:
    for column, steps in (("loss", 30), ("gradient_norm", 30), ("validation_loss", 3), ("validation_at_0.4", 3)):
        expected = curve(alone, column)
        assert len(expected) == steps
        assert curve(pair, column) == pytest.approx(expected, rel=2e-5)
    assert curve(alone, "loss")[-1] < 0.8 * curve(alone, "loss")[0]  # it is a curve, not a line
    mine, theirs = weights(alone), weights(pair)
    assert mine.keys() == theirs.keys()
    assert max((mine[name] - theirs[name]).abs().max().item() for name in mine) < 1e-5


def test_a_checkpoint_of_two_ranks_goes_on_in_one(alone: Path, pair: Path) -> None:
    last, whole = (f / "checkpoints" / "step-00000030.safetensors" for f in (pair, alone))
    two, one = read_tensors(last)[0], read_tensors(whole)[0]
    assert {name: tuple(t.shape) for name, t in two.items()} == {name: tuple(t.shape) for name, t in one.items()}
    last.unlink()
    assert "going on from step 20" in train(pair, "--resume --no-shard", ranks=1)
    assert curve(pair, "loss") == pytest.approx(curve(alone, "loss"), rel=2e-5)
    mine, theirs = weights(alone), weights(pair)
    assert max((mine[name] - theirs[name]).abs().max().item() for name in mine) < 1e-5


def test_a_checkpoint_of_one_rank_goes_on_sharded_over_two(alone: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    train(folder, OPTIONS, ranks=1)
    (folder / "checkpoints" / "step-00000030.safetensors").unlink()
    assert "going on from step 20" in train(folder, "--resume --shard", ranks=2)
    assert curve(folder, "loss") == pytest.approx(curve(alone, "loss"), rel=2e-5)


def test_ctrl_c_stops_all_ranks_at_the_same_step(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    long = OPTIONS.replace("--steps 30", "--steps 100000")
    running = subprocess.Popen(command(folder, long, 2), env=environment(), stderr=subprocess.PIPE, text=True)
    try:
        first = folder / "checkpoints" / "step-00000010.safetensors"
        deadline = time.monotonic() + 120
        while not first.exists() and time.monotonic() < deadline:
            time.sleep(0.1)
        running.send_signal(signal.SIGINT)
        _, said = running.communicate(timeout=120)
    finally:
        running.kill()
    assert "stopped at step " in said
    step = int(said.partition("stopped at step ")[2].split()[0])
    assert (folder / "checkpoints" / f"step-{step:08d}.safetensors").exists()
