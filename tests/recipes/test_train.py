"""`noiseladder train` as a user meets it: the recipe's options, one sentence for a mistake, Ctrl-C, --resume."""

import json
import os
import re
import signal
from pathlib import Path

import pytest

from noiseladder.cli import main

SMALL = "--steps 4 --batch 4 --length 6 --width 8 --warmup 1 --validate-every 2 --checkpoint-every 2 --threads 1"


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def train(line: str) -> int:
    return main(["train", *line.split()])


def sentence(capsys: pytest.CaptureFixture[str]) -> str:
    """What the command complains about, which is one line."""
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("noiseladder: ")]
    assert len(lines) == 1
    return lines[0]


def test_train_leaves_a_run_folder_and_says_where(capsys: pytest.CaptureFixture[str]) -> None:
    assert train(f"sines {SMALL}") == 0
    shown = capsys.readouterr()
    assert "runs/sines/report.html shows the run" in shown.out
    assert "step 4/4  loss " in shown.err
    assert "tokens/s  0:00 left" in shown.err
    names = {path.name for path in Path("runs/sines").iterdir()}
    assert names == {"recipe.json", "metrics.csv", "checkpoints", "weights.safetensors", "sample.png", "report.html"}


def test_resume_takes_the_options_of_the_run_and_new_steps(capsys: pytest.CaptureFixture[str]) -> None:
    assert train(f"sines {SMALL} --folder here") == 0
    assert train("sines --folder here --resume --steps 5") == 0
    assert "going on from step 4" in capsys.readouterr().err
    recipe = json.loads(Path("here/recipe.json").read_text())
    assert (recipe["steps"], recipe["width"], recipe["patience"]) == (5, 8, None)


def test_resuming_with_other_options_names_them(capsys: pytest.CaptureFixture[str]) -> None:
    assert train(f"sines {SMALL} --folder here") == 0
    capsys.readouterr()
    assert train("sines --folder here --resume --width 16 --seed 1") == 2
    assert "seed was 0 and is 1; width was 8 and is 16. Resume with" in sentence(capsys)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("sinus", "there is no recipe 'sinus'; did you mean sines?"),
        ("no-such-thing", "the recipes are "),
        ("sines --stebs 3", "Unknown option: --stebs. did you mean --steps?"),
        ("sines --steps many", 'unable to convert "many" into int'),
        ("sines --steps 0", "--steps is 0, expected at least 1"),
        ("sines --resume", "there is no run in runs/sines to resume"),
        ("sines --device warp", "device 'warp' cannot be used here"),
        ("mine.py", "there is no file mine.py"),
        ("--steps 3 sines", "the recipe comes first"),
    ],
)
def test_a_mistake_is_one_sentence_and_status_2(line: str, expected: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert train(line) == 2
    assert expected.lower() in sentence(capsys).lower()
    assert not Path("runs").exists()


def test_a_run_is_not_written_over(capsys: pytest.CaptureFixture[str]) -> None:
    assert train(f"sines {SMALL}") == 0
    capsys.readouterr()
    assert train(f"sines {SMALL}") == 2
    assert "runs/sines holds a run already" in sentence(capsys)


@pytest.mark.parametrize("damage", ["pickle", "cut", "json"])
def test_damaged_files_are_status_2(damage: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert train(f"sines {SMALL}") == 0
    capsys.readouterr()
    last = sorted(Path("runs/sines/checkpoints").iterdir())[-1]
    expected = {"pickle": "is a pickle", "cut": "is damaged", "json": "recipe.json is not JSON"}[damage]
    match damage:
        case "pickle":
            last.write_bytes(b"\x80\x04\x95" + b"." * 100)
        case "cut":
            last.write_bytes(last.read_bytes()[:-1])
        case "json":
            Path("runs/sines/recipe.json").write_text("{")
    assert train("sines --resume") == 2
    assert expected in sentence(capsys)


MINE = '''
"""Mine."""

import os
import re
import signal
from dataclasses import dataclass, replace

from noiseladder.recipes import sines
from noiseladder.training import Experiment


@dataclass(frozen=True, kw_only=True)
class Mine(sines.Sines):
    """My own waves."""

    stop_at: int = -1
    """Press Ctrl-C in this step."""


def experiment(options: Mine) -> Experiment:
    made = sines.experiment(options)

    def batches(step, generator):
        if step == options.stop_at and not os.path.exists("pressed"):
            open("pressed", "w").close()
            os.kill(os.getpid(), signal.SIGINT)
        return made.batches(step, generator)

    return replace(made, batches=batches, picture=None)
'''


def test_ctrl_c_is_status_130_and_says_how_to_go_on(capsys: pytest.CaptureFixture[str]) -> None:
    Path("mine.py").write_text(MINE)
    before = signal.getsignal(signal.SIGINT)  # a background job ignores Ctrl-C from the start
    assert train(f"mine.py {SMALL} --stop-at 2") == 130
    said = sentence(capsys)
    assert "stopped at step 3 of 4, all of it saved in runs/mine" in said
    assert "--resume" in said
    assert signal.getsignal(signal.SIGINT) is before
    assert train("mine.py --resume") == 0
    os.remove("runs/mine/recipe.json")
    assert Path("pressed").exists()


def test_help_shows_the_options_of_the_recipe(capsys: pytest.CaptureFixture[str]) -> None:
    Path("mine.py").write_text(MINE)
    assert train("mine.py --help") == 0
    shown = capsys.readouterr().out
    assert "My own waves." in shown
    assert "--stop-at" in shown
    assert "Press Ctrl-C in this step." in shown
    assert "--learning-rate" in shown


@pytest.mark.parametrize("line", ["", "--help"])
def test_without_a_recipe_all_are_listed(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert train(line) == 0
    assert re.search("^  sines +Noisy sine waves", capsys.readouterr().out, re.MULTILINE)


def test_recipes_to_compare_are_listed_and_what_is_none_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare"]) == 0
    assert "Recipes with variants: fork, regimes, routes" in capsys.readouterr().out
    for line, sentence in (
        ("compare --nonsense", "the recipe comes first: noiseladder compare RECIPE --nonsense"),
        ("compare frok", "there is no recipe 'frok'; did you mean fork?"),
        ("compare sines", "recipe 'sines' has no variants to compare"),
    ):
        assert main(line.split()) == 2
        assert sentence in capsys.readouterr().err


def test_a_file_that_is_no_recipe_is_told_the_shape(capsys: pytest.CaptureFixture[str]) -> None:
    Path("mine.py").write_text("def experiment(options: int): ...")
    assert train("mine.py") == 2
    assert "is not a recipe: expected `def experiment(options: Mine) -> Experiment`" in sentence(capsys)
