"""A run can be killed at any moment and goes on to the same weights, bit for bit."""

import csv
import errno
import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from noiseladder.diffusion.batch import Batch
from noiseladder.recipes.sines import Sines, experiment
from noiseladder.training import Experiment
from noiseladder.training.alone import alone_in
from noiseladder.training.metrics import TensorBoardMetrics
from noiseladder.training.run import run
from noiseladder.training.tensors_file import read_note, read_tensors, write_tensors

STEPS = 12
OPTIONS = Sines(
    steps=STEPS, batch=4, length=6, width=8, warmup=2, validate_every=3, checkpoint_every=4, threads=1, seed=5
)


def start(folder: Path, options: Sines = OPTIONS, resume: bool = False, make=None) -> None:  # type: ignore[no-untyped-def]
    made = (lambda: replace(experiment(options), picture=None)) if make is None else make
    run(made, options, folder, "sines", resume=resume)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("uninterrupted")
    start(folder / "run")
    return folder / "run"


def checkpoint_names(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "checkpoints").iterdir())


def name_of(step: int) -> str:
    return f"step-{step:08d}.safetensors"


def rows_of(folder: Path) -> list[list[str]]:
    with (folder / "metrics.csv").open() as file:
        rows = list(csv.reader(file))
    times = [rows[0].index("seconds"), rows[0].index("tokens_per_second")]
    return [[cell for place, cell in enumerate(row) if place not in times] for row in rows]


def same_run(one: Path, other: Path) -> None:
    mine, note = read_tensors(one / "checkpoints" / name_of(STEPS))
    theirs, other_note = read_tensors(other / "checkpoints" / name_of(STEPS))
    assert mine.keys() == theirs.keys()
    assert {name.partition("/")[0] for name in mine} == {"weights", "average", "best", "optimizer"}
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)
    assert {**note, "seconds": 0} == {**other_note, "seconds": 0}
    assert (one / "weights.safetensors").read_bytes() == (other / "weights.safetensors").read_bytes()
    assert rows_of(one) == rows_of(other)


def test_a_run_folder_is_complete(uninterrupted: Path) -> None:
    assert checkpoint_names(uninterrupted) == [name_of(8), name_of(12)]
    assert json.loads((uninterrupted / "recipe.json").read_text())["width"] == 8
    rows = rows_of(uninterrupted)
    assert [row[0] for row in rows] == ["step", *map(str, range(1, STEPS + 1))]
    validated = rows[0].index("validation_loss")
    assert [row[0] for row in rows[1:] if row[validated]] == ["3", "6", "9", "12"]
    best = read_tensors(uninterrupted / "checkpoints" / name_of(12))[0]
    weights = read_tensors(uninterrupted / "weights.safetensors")[0]
    assert all(torch.equal(best[f"best/{name}"], value) for name, value in weights.items())


KILLED = """
import os, signal, sys
from dataclasses import replace
from pathlib import Path
sys.path.insert(0, sys.argv[2])
import noiseladder.training.durable as durable
import noiseladder.training.loop as loop
import noiseladder.training.metrics as metrics
from training.test_run import OPTIONS, start

def die():
    os.kill(os.getpid(), signal.SIGKILL)

metrics.FLUSH_SECONDS = -1  # rows of steps after the checkpoint are on disk: the resumed run does them again
where = sys.argv[3]
if where == "between checkpoints":
    step = loop.Training.step
    loop.Training.step = lambda training: die() if training.steps_done == 6 else step(training)
else:  # in the middle of writing the second checkpoint: half of it is on disk, under its temporary name
    fsync = os.fsync
    def half(handle):
        written = Path(os.readlink(f"/proc/self/fd/{handle}"))
        if "step-00000008" in written.name:
            os.truncate(written, written.stat().st_size // 2)
            die()
        fsync(handle)
    durable.os.fsync = half
start(Path(sys.argv[1]))
"""


@pytest.mark.parametrize("where", ["between checkpoints", "in a checkpoint"])
def test_a_killed_run_resumes_to_the_same_weights_bit_for_bit(uninterrupted: Path, tmp_path: Path, where: str) -> None:
    tests = str(Path(__file__).parents[1])
    folder = tmp_path / "run"
    killed = subprocess.run([sys.executable, "-c", KILLED, str(folder), tests, where], capture_output=True, timeout=120)
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    whole = [name for name in checkpoint_names(folder) if not name.startswith(".")]
    assert whole == [name_of(4)]
    if where == "in a checkpoint":
        assert any(".partial" in name for name in checkpoint_names(folder))
    start(folder, resume=True)
    assert checkpoint_names(folder) == [name_of(8), name_of(12)]
    same_run(folder, uninterrupted)


def interrupting(options: Sines, at_step: int, number: int) -> Experiment:
    made = replace(experiment(options), picture=None)

    def batches(step: int, generator: torch.Generator) -> Batch:
        if step == at_step:
            os.kill(os.getpid(), number)
        return made.batches(step, generator)

    return replace(made, batches=batches)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_request_finishes_the_step_and_saves_it(uninterrupted: Path, tmp_path: Path, number: int) -> None:
    folder, handler = tmp_path / "run", signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt, match=r"stopped at step 7 of 12, .* repeat the command with --resume"):
        start(folder, make=lambda: interrupting(OPTIONS, 6, number))
    assert signal.getsignal(number) is handler
    assert checkpoint_names(folder)[-1] == name_of(7)
    start(folder, resume=True)
    same_run(folder, uninterrupted)


def test_what_is_prepared_can_be_stopped_at_once(tmp_path: Path) -> None:
    folder, prepared = tmp_path / "run", []

    def make() -> Experiment:
        prepared.append("a demonstration")
        os.kill(os.getpid(), signal.SIGINT)
        prepared.append("another")
        return experiment(OPTIONS)

    handler = signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job ignores it from the start
    try:
        with pytest.raises(KeyboardInterrupt, match=r"prepared to train: .* repeat the command"):
            start(folder, make=make)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, handler)
    assert prepared == ["a demonstration"]
    assert not (folder / "recipe.json").exists()
    start(folder)  # the folder is free again


def test_a_run_killed_before_its_first_checkpoint_starts_again(uninterrupted: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "recipe.json").write_text((uninterrupted / "recipe.json").read_text())
    start(folder, resume=True)
    same_run(folder, uninterrupted)


def test_a_run_may_be_made_longer(uninterrupted: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    start(folder, replace(OPTIONS, steps=4))
    start(folder, replace(OPTIONS, steps=6), resume=True)
    assert checkpoint_names(folder) == [name_of(4), name_of(6)]
    assert json.loads((folder / "recipe.json").read_text())["steps"] == 6


def test_resuming_what_is_done_trains_no_more(uninterrupted: Path) -> None:
    before = (uninterrupted / "weights.safetensors").read_bytes()
    rows = rows_of(uninterrupted)
    (uninterrupted / "weights.safetensors").unlink()  # as if killed just before it was written
    start(uninterrupted, resume=True)
    assert (uninterrupted / "weights.safetensors").read_bytes() == before
    assert rows_of(uninterrupted) == rows


def test_a_changed_recipe_is_refused_with_every_option_that_differs(uninterrupted: Path) -> None:
    before = {path: path.read_bytes() for path in uninterrupted.rglob("*") if path.is_file()}
    with pytest.raises(ValueError, match=r"learning_rate was 0.001 and is 0.5; width was 8 and is 16\. Resume with"):
        start(uninterrupted, replace(OPTIONS, width=16, learning_rate=0.5), resume=True)
    assert all(path.read_bytes() == content for path, content in before.items())


def test_a_run_is_never_written_over(uninterrupted: Path) -> None:
    with pytest.raises(ValueError, match="holds a run already: add --resume"):
        start(uninterrupted)


def test_two_processes_do_not_train_in_one_folder(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with alone_in(folder):
        with pytest.raises(
            ValueError, match=r"another process trains in .*run: wait for it, stop it, or choose another"
        ):
            start(folder)
        assert not folder.exists()
        start(tmp_path / "other")
    start(folder)
    with alone_in(folder), pytest.raises(ValueError, match="another process"):
        start(folder, resume=True)


def test_nothing_to_resume(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"there is no run in .* to resume"):
        start(tmp_path / "none", resume=True)
    assert not (tmp_path / "none").exists()


@pytest.fixture
def two_checkpoints(tmp_path: Path) -> Path:
    start(tmp_path / "run", replace(OPTIONS, steps=8))
    return tmp_path / "run"


def test_a_damaged_checkpoint_names_the_one_before(two_checkpoints: Path) -> None:
    last = two_checkpoints / "checkpoints" / name_of(8)
    last.write_bytes(last.read_bytes()[:-10])
    with pytest.raises(ValueError, match=f"damaged, cut short .* Remove it to resume from {name_of(4)}"):
        start(two_checkpoints, resume=True)
    last.unlink()
    start(two_checkpoints, replace(OPTIONS, steps=8), resume=True)


def test_a_pickle_in_place_of_a_checkpoint_is_refused(two_checkpoints: Path) -> None:
    torch.save({"weights": 1}, two_checkpoints / "checkpoints" / name_of(8))
    with pytest.raises(ValueError, match="is a pickle"):
        start(two_checkpoints, resume=True)


def test_a_checkpoint_of_another_network_says_what_differs(two_checkpoints: Path) -> None:
    """The same options, but the recipe's code has changed since."""
    path = two_checkpoints / "checkpoints" / name_of(8)
    tensors, note = read_tensors(path)
    tensors["weights/network.start"] = torch.zeros(3, 3)
    write_tensors(path, tensors, note)
    with pytest.raises(ValueError, match=r"network\.start is \(3, 3\), expected \(1, 8\)"):
        start(two_checkpoints, replace(OPTIONS, steps=8), resume=True)


def test_the_threads_of_a_run_stay_those_it_was_started_with(two_checkpoints: Path) -> None:
    path = two_checkpoints / "checkpoints" / name_of(8)
    tensors, note = read_tensors(path)
    write_tensors(path, tensors, {**note, "threads": 2})
    before = torch.get_num_threads()
    try:
        start(two_checkpoints, resume=True)
    finally:
        torch.set_num_threads(before)
    assert read_note(two_checkpoints / "checkpoints" / name_of(12))["threads"] == 2


def test_a_full_disk_stops_with_a_sentence_and_the_last_checkpoint_can_be_resumed(
    uninterrupted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from noiseladder.training import tensors_file

    folder, save_file = tmp_path / "run", tensors_file.save_file

    def full(tensors, path, metadata):  # type: ignore[no-untyped-def]
        if "step-00000008" in path.name:
            path.write_bytes(b"half")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        save_file(tensors, path, metadata)

    monkeypatch.setattr(tensors_file, "save_file", full)
    with pytest.raises(OSError, match="No space left on device; what was there before is untouched"):
        start(folder)
    assert checkpoint_names(folder) == [name_of(4)]
    monkeypatch.setattr(tensors_file, "save_file", save_file)
    start(folder, resume=True)
    same_run(folder, uninterrupted)


def test_the_report_is_one_page_without_a_network(tmp_path: Path) -> None:
    run(lambda: experiment(OPTIONS), OPTIONS, tmp_path / "run", "<sines>")
    page = (tmp_path / "run" / "report.html").read_text()
    assert (tmp_path / "run" / "sample.png").read_bytes().startswith(b"\x89PNG")
    assert 'src="data:image/png;base64,iVBOR' in page
    assert page.count("<svg") == 2
    assert "<sines>" not in page  # escaped
    assert "&lt;sines&gt;" in page
    assert "<script" not in page
    # Namespaces of SVG are names, not addresses that are fetched: nothing with src= or href= leaves the page.
    for attribute in ('src="', 'href="', "url("):
        for rest in page.split(attribute)[1:]:
            assert rest.startswith(("data:", "#")), rest[:60]


def test_tensorboard_gets_the_same_numbers(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    run(lambda: replace(experiment(OPTIONS), picture=None), OPTIONS, tmp_path / "run", "sines", tensorboard=True)
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    events.Reload()
    assert [event.step for event in events.Scalars("loss")] == list(range(1, STEPS + 1))
    rows = rows_of(tmp_path / "run")
    assert events.Scalars("loss")[2].value == pytest.approx(float(rows[3][1]), rel=1e-6)
    assert [event.step for event in events.Scalars("validation_loss")] == [3, 6, 9, 12]


def test_without_tensorboard_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(ImportError, match=r"pip install 'noiseladder\[tensorboard\]'"):
        TensorBoardMetrics(tmp_path)
