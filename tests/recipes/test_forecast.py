import json

import numpy as np
import pandas as pd
import pytest

from noiseladder.cli import main
from noiseladder.recipes.forecast import Series, experiment
from noiseladder.training import generator_for

QUICK = ["--horizon", "4", "--context", "8", "--steps", "4", "--samples", "6"]


@pytest.fixture
def table(tmp_path):
    times = pd.date_range("2024-01-01", periods=90, name="ds")
    values = 10 + np.random.default_rng(0).normal(size=(90, 2))
    path = tmp_path / "rides.csv"
    pd.DataFrame(values, times, ["north", "south"]).to_csv(path)
    return path


def test_the_command_writes_quantiles_samples_a_picture_and_a_model_that_can_be_used_again(table, tmp_path, capsys):
    first, again = tmp_path / "first", tmp_path / "again"
    assert (
        main(["forecast", str(table), *QUICK, "--quantiles", "0.1", "--quantiles", "0.9", "--output", str(first)]) == 0
    )
    quantiles = pd.read_csv(first / "quantiles.csv")
    assert list(quantiles.columns) == ["unique_id", "ds", "mean", "q0.1", "q0.9"]
    assert quantiles["ds"].iloc[0] == "2024-03-31"
    assert len(quantiles) == 2 * 4
    assert (quantiles["q0.1"] <= quantiles["q0.9"]).all()
    assert len(pd.read_csv(first / "samples.csv")) == 2 * 4 * 6
    assert (first / "forecast.png").read_bytes().startswith(b"\x89PNG")
    capsys.readouterr()
    assert main(["forecast", str(table), *QUICK, "--run", str(first), "--output", str(again)]) == 0
    assert "step" not in capsys.readouterr().err  # nothing was trained
    assert (again / "samples.csv").read_text() == (first / "samples.csv").read_text()


@pytest.mark.parametrize(
    ("content", "arguments", "message"),
    [
        (None, [], "there is no file"),
        ("folder", [], r"table\.csv is a folder: give the path of a CSV or Parquet file"),
        ("run", [], r"table\.csv is an earlier forecast: give it as --run, beside the file"),
        ("", [], "is empty"),
        ("ds,a\n", [], "has no rows"),
        ("ds,a\n2024-01-01,1\n2024-01-02,x\n2024-01-03,2\n", [], "column 'a', row 2 holds 'x'"),
        ("ds,a\n2024-01-01,1\n2024-01-02,inf\n2024-01-03,2\n", [], "column 'a', row 2 is infinite"),
        ("ds,a\n2024-01-01,1\n2024-01-01,2\n2024-01-03,2\n", [], "there twice"),
        ("ds,a\n2024-01-02,1\n2024-01-01,2\n2024-01-03,2\n", [], "not sorted"),
        ("ds,a\n2024-01-01,1\n2024-01-02,2\n2024-01-05,2\n", [], "irregular"),
        ("ds,a\n2024-01-01,1\n2024-01-02,2\n2024-01-03,2\n", ["--frequency", "never"], "unknown frequency 'never'"),
        ("unique_id,ds\na,2024-01-01\n", [], "has unique_id but not ds, y|has unique_id, ds but not y"),
        ("steady", [], "series 'a' is constant"),
        ("ended", ["--horizon", "5", "--context", "9"], "'a' has no value in the last 10 steps.*drop it"),
        ("random", ["--horizon", "70"], "too few for a horizon of 70"),
        ("random", ["--horizon", "0"], "--horizon is 0"),
        ("random", ["--quantiles", "90"], "--quantiles holds 90"),
        ("random", ["--minutes", "-1"], "--minutes is -1"),
        ("random", ["--run", "nowhere"], "nowhere"),
        ("random", ["--horizn", "3"], "horizon"),
    ],
)
def test_bad_input_is_one_sentence_and_nothing_is_written(content, arguments, message, tmp_path, capsys):
    import re

    path = tmp_path / "table.csv"
    if content in ("steady", "random", "ended"):
        times = pd.date_range("2024-01-01", periods=90, name="ds")
        noise = np.random.default_rng(0).normal(size=90)
        values = pd.DataFrame({"a": 3.0 + 0 * noise if content == "steady" else noise, "b": noise}, times)
        if content == "ended":
            values.loc[times[-10:], "a"] = np.nan
        values.to_csv(path)
    elif content in ("folder", "run"):
        (path / "model" if content == "run" else path).mkdir(parents=True)
    elif content is not None:
        path.write_text(content)
    output = tmp_path / "output"
    assert main(["forecast", str(path), "--steps", "2", "--output", str(output), *arguments]) == 2
    said = capsys.readouterr().err
    assert re.search(message, said), said
    assert said.count("\n") == 1
    assert not output.exists()


def test_what_was_read_is_said_before_training(table, tmp_path, capsys):
    assert main(["forecast", str(table), *QUICK, "--output", str(tmp_path / "out")]) == 0
    assert capsys.readouterr().out.startswith("2 series of 90 steps (D), 2024-01-01 00:00:00 to 2024-03-30 00:00:00\n")


def test_the_recipe_trains_on_windows_of_a_file(table):
    options = Series(file=table, horizon=4, context=8, held_out=20, batch=3, steps=1)
    made = experiment(options)
    batch = made.batches(0, generator_for(0, "batch", 0))
    assert batch.tokens.shape == (3, 12, 2)
    assert made.validation is not None
    assert made.picture is not None
    json.dumps(str(options))
