"""The Python in the docs of the method and of forecasting runs as it stands."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

DOCS = Path(__file__).parents[1] / "docs"


def blocks_of(document: str) -> list[str]:
    """The Python blocks of a page."""
    return re.findall(r"```python\n(.*?)```", (DOCS / document).read_text(), flags=re.DOTALL)


def test_the_examples_of_extending_run_one_after_the_other() -> None:
    blocks = blocks_of("extending.md")
    assert len(blocks) >= 5
    namespace: dict[str, object] = {"__name__": "extending"}
    for number, block in enumerate(blocks):
        exec(compile(block, f"docs/extending.md, block {number}", "exec"), namespace)
    assert tuple(namespace["tokens"].shape) == (8, 4, 2)  # type: ignore[attr-defined]
    assert namespace["bounded"].abs().max() <= 0.5  # type: ignore[attr-defined]


def test_the_examples_of_forecasting_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As printed, but for fewer training steps."""
    monkeypatch.chdir(tmp_path)
    values = 10 + np.random.default_rng(0).normal(size=(150, 2))
    times = pd.date_range("2024-01-01", periods=150, name="ds")
    for name in ("rides", "newer_rides"):
        pd.DataFrame(values, times, ["north", "south"]).to_csv(f"{name}.csv")
    entries = [{"start": pd.Period("2024-01-01", freq="D"), "target": values[:, 0], "item_id": "north"}]
    namespace: dict[str, object] = {"__name__": "forecasting", "dataset": entries}
    for number, block in enumerate(blocks_of("forecasting.md")):
        shortened = block.replace("(horizon=30)", "(horizon=30, steps=2, context=20, width=8)")
        assert shortened != block
        exec(compile(shortened, f"docs/forecasting.md, block {number}", "exec"), namespace)
    assert (tmp_path / "fans.png").exists()
    assert len(namespace["forecasts"]) == 1  # type: ignore[arg-type]


def test_the_example_of_the_exact_answers_runs() -> None:
    namespace: dict[str, object] = {}
    (block,) = blocks_of("exact.md")
    exec(compile(block, "docs/exact.md", "exec"), namespace)
    assert tuple(namespace["tokens"].shape) == (8, 16, 1)  # type: ignore[attr-defined]
