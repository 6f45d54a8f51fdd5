"""A run lives in a folder: recipe, metrics, checkpoints, weights, a sample and a report; it can be stopped any time."""

from __future__ import annotations

import json
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import torch

from .alone import alone_in
from .checkpoint import checkpoints, latest_checkpoint, read_checkpoint, restore_checkpoint, save_checkpoint
from .durable import replace_file, replace_text, sweep
from .experiment import Experiment
from .loop import Training
from .metrics import CSVMetrics, Sink, TensorBoardMetrics
from .options import TrainingOptions, check_same_recipe, to_json
from .progress import Progress
from .randomness import seeded
from .ranks import Ranks, joined_ranks, own, whole
from .report import write_report
from .weights import load_weights, save_tensors

INTERRUPTED = 130
"""What a shell calls the exit status of a program stopped by Ctrl-C."""
BEFORE_TRAINING = "stopped while it prepared to train: what is finished of that is kept; to go on, repeat the command"
AFTER_TRAINING = (
    "stopped after the last step, the weights are saved; for what is missing, repeat the command with --resume"
)


def run(
    make: Callable[[], Experiment],
    options: TrainingOptions,
    folder: Path,
    name: str,
    resume: bool = False,
    tensorboard: bool = False,
) -> None:
    """Train what `make` makes and keep everything in `folder`; every rank calls this.

    make: called with seeded random numbers. name: of the recipe. resume: go on from the last checkpoint in the
    folder; the weights become the same, bit for bit, as if the run had never stopped.
    While it trains, Ctrl-C and SIGTERM write a checkpoint and raise KeyboardInterrupt with a sentence on how to go on;
    before and after that they stop it at once.
    Raises ValueError for a folder that holds a run already or in which another process trains, nothing to resume, a
    damaged checkpoint or one of another recipe, and for a loss that is not finite; OSError for a full disk, which harms
    no earlier checkpoint.
    """
    recipe = {"recipe": name, **to_json(options)}
    device = find_device(options.device)
    with joined_ranks(device) as ranks, ExitStack() as closing:
        check_folder(folder, recipe, resume)
        ranks.wait()  # nobody writes before everybody has looked
        if ranks.first:
            closing.enter_context(alone_in(folder))
            sweep(folder)
            sweep(folder / "checkpoints")
        # What cannot be made leaves nothing behind that looks like a run.
        try:
            training, experiment = start_or_restore(make, options, folder, recipe, ranks)
        except KeyboardInterrupt as stopped:  # with a sentence where something else was trained first
            raise stopped if stopped.args else KeyboardInterrupt(BEFORE_TRAINING) from None
        if ranks.first:
            replace_text(folder / "recipe.json", json.dumps(recipe, indent=2) + "\n")
            if experiment.files is not None:
                experiment.files(folder)
        sinks: list[Sink] = []
        if ranks.first:
            sinks.append(CSVMetrics(folder / "metrics.csv", training.steps_done))
            if tensorboard:
                sinks.append(TensorBoardMetrics(folder / "tensorboard", training.steps_done))
            for sink in sinks:
                closing.callback(sink.close)
            progress = Progress(sys.stderr, options.steps, training.steps_done)
            closing.callback(progress.close)
            print(greeting(training, folder, ranks), file=sys.stderr)
        with stop_requests() as stop_asked:
            for report in training:
                for sink in sinks:
                    sink.add(report)
                if ranks.first:
                    progress.add(report)
                stopping = ranks.any(stop_asked(), device)
                if stopping or training.done or training.steps_done % options.checkpoint_every == 0:
                    save(folder, training, recipe, sinks)
                if stopping and not training.done:
                    if not ranks.first:
                        raise SystemExit(INTERRUPTED)  # the first rank speaks for all
                    progress.close()
                    write_report(folder, recipe, training.threads)
                    raise KeyboardInterrupt(
                        f"stopped at step {training.steps_done} of {options.steps}, all of it saved in {folder}; to go"
                        " on, repeat the command with --resume"
                    )
        # Also when there was nothing left to do: the run may have been killed just before its weights were written.
        save_kept(folder, training, recipe)
        if ranks.first:
            progress.close()
        try:
            show(folder, training, experiment, make, recipe)
        except KeyboardInterrupt:
            raise KeyboardInterrupt(AFTER_TRAINING) from None
        ranks.wait()


def start_or_restore(
    make: Callable[[], Experiment],
    options: TrainingOptions,
    folder: Path,
    recipe: Mapping[str, Any],
    ranks: Ranks,
) -> tuple[Training, Experiment]:
    """A new run, or the one whose checkpoints are in the folder."""
    experiment = make_seeded(make, options)
    if not checkpoints(folder / "checkpoints"):
        return Training(experiment, options, ranks), experiment
    path = latest_checkpoint(folder / "checkpoints")
    tensors, note = read_checkpoint(path, recipe)
    training = Training(experiment, options, ranks, threads=note["threads"])
    restore_checkpoint(training, path, tensors, note)
    return training, experiment


def make_seeded(make: Callable[[], Experiment], options: TrainingOptions) -> Experiment:
    """The experiment with the first weights that belong to its seed."""
    with seeded(options.seed, "weights"):
        return make()


def save(folder: Path, training: Training, recipe: Mapping[str, Any], sinks: list[Sink]) -> None:
    """Metrics, a checkpoint, and the weights worth keeping; every rank must call."""
    for sink in sinks:
        sink.flush()
    save_checkpoint(folder / "checkpoints", training, recipe)
    save_kept(folder, training, recipe)


def save_kept(folder: Path, training: Training, recipe: Mapping[str, Any]) -> None:
    """The weights worth keeping; every rank must call."""
    like = dict(training.denoiser.named_parameters())
    kept = {name: whole(part, like[name]) for name, part in training.kept().items()}
    if training.ranks.first:
        tensors = {name: kept.get(name, own(value)) for name, value in training.denoiser.state_dict().items()}
        save_tensors(folder / "weights.safetensors", tensors, training.denoiser, recipe)


def show(
    folder: Path,
    training: Training,
    experiment: Experiment,
    make: Callable[[], Experiment],
    recipe: Mapping[str, Any],
) -> None:
    """A picture of a sample and the report, by the first rank."""
    training.finish()
    if not training.ranks.first:
        return
    denoiser = training.denoiser
    if training.ranks.count > 1 and training.options.shard:
        # A sharded denoiser needs all ranks for each call: draw with a whole one.
        denoiser = make_seeded(make, training.options).denoiser.to(training.device).eval()
        load_weights(folder / "weights.safetensors", denoiser)
    picture = experiment.picture
    if picture is not None:
        with torch.no_grad(), seeded(training.options.seed, "picture", device=training.device):
            replace_file(folder / "sample.png", lambda path: picture(denoiser, path))
    write_report(folder, recipe, training.threads)
    print(f"{folder / 'report.html'} shows the run; {folder / 'weights.safetensors'} is the model")


def greeting(training: Training, folder: Path, ranks: Ranks) -> str:
    """What is about to happen, in one line."""
    size = sum(p.numel() for p in training.denoiser.parameters())
    verb = f"going on from step {training.steps_done}" if training.steps_done else "training"
    where = f"{training.threads} thread{'s' * (training.threads > 1)}"
    if training.device.type != "cpu":
        where = str(training.device)
    several = f" on each of {ranks.count} ranks" if ranks.count > 1 else ""
    return f"{verb}: {size:,} weights, {where}{several}, {folder}"


def check_folder(folder: Path, recipe: Mapping[str, Any], resume: bool) -> None:
    """Raise ValueError unless a run may start, or with `resume` go on, in this folder."""
    started = folder / "recipe.json"
    if resume:
        if not started.exists():
            raise ValueError(f"there is no run in {folder} to resume: leave out --resume to start one")
        check_same_recipe(read_recipe_file(folder), recipe)
    elif started.exists() or checkpoints(folder / "checkpoints"):
        raise ValueError(f"{folder} holds a run already: add --resume to go on with it, or choose another --folder")


def read_recipe_file(folder: Path) -> dict[str, Any]:
    """The recipe of the run in a folder. Raises ValueError when it is not JSON, OSError when there is none."""
    path = folder / "recipe.json"
    try:
        recipe = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not JSON ({error}): restore it, or start a new run elsewhere") from error
    if not isinstance(recipe, dict):
        raise ValueError(f"{path} holds a {type(recipe).__name__}, expected the options of a run by name")
    return recipe


def find_device(name: str) -> torch.device:
    """The device of this rank. Raises ValueError when there is none of that name."""
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"device {name!r} cannot be used here ({str(error).splitlines()[0]}): try cpu") from error
    return device


@contextmanager
def stop_requests() -> Iterator[Callable[[], bool]]:
    """Inside the block Ctrl-C and SIGTERM only ask; the second one stops at once, as ever."""
    asked = threading.Event()
    before: dict[signal.Signals, Any] = {}

    def ask(number: int, frame: object) -> None:
        if asked.is_set():
            raise KeyboardInterrupt("stopped at once; the last checkpoint is whole")
        asked.set()

    with suppress(ValueError):  # signals belong to the main thread; elsewhere they keep their meaning
        for number in (signal.SIGINT, signal.SIGTERM):
            before[number] = signal.signal(number, ask)
    try:
        yield asked.is_set
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
