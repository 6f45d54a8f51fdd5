"""A run on one page: curves, validation by noise level, a sample and the recipe, in one file that needs no network."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from html import escape
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .durable import replace_text
from .metrics import AT_LEVEL, read_rows
from .progress import compact, duration

if TYPE_CHECKING:
    from matplotlib.axes import Axes

POINTS = 400
"""Points of a curve; more steps than that are averaged."""

STYLE = """
:root { color-scheme: light }
body { font: 16px/1.5 system-ui, sans-serif; color: #222; background: #fff; max-width: 52rem; margin: 2rem auto;
  padding: 0 1rem }
h1 { font-size: 1.6rem } h2 { font-size: 1.2rem; margin-top: 2rem }
img, svg { max-width: 100%; height: auto } table { border-collapse: collapse }
td, th { padding: .15rem 1rem .15rem 0; text-align: left; vertical-align: top } th { font-weight: 600 }
.figures td { font-variant-numeric: tabular-nums }
"""


def write_report(folder: Path, recipe: Mapping[str, Any], threads: int) -> None:
    """Write `report.html` of a run folder, from its metrics.csv and sample.png."""
    rows = read_rows(folder / "metrics.csv")
    sample = folder / "sample.png"
    parts = [
        f"<h1>{escape(str(recipe.get('recipe', folder.name)))}</h1>",
        _table(summary(rows, threads), "figures"),
        "<h2>Loss</h2>",
        _svg(draw_loss, rows),
        "<h2>Validation by noise level</h2>",
        "<p>Squared error of the network's output with every token at one level: 0 is a clean token, 1 pure noise.</p>",
        _svg(draw_levels, rows) if any(_by_level(row) for row in rows) else "<p>Nothing was validated.</p>",
        "<h2>A sample</h2>",
        _image(sample) if sample.exists() else "<p>There is none yet: it is drawn when training ends.</p>",
        "<h2>Recipe</h2>",
        _table({name: value for name, value in recipe.items() if name != "recipe"}, "recipe"),
    ]
    title = escape(f"{recipe.get('recipe', 'run')}: {folder.name}")
    replace_text(
        folder / "report.html",
        f'<!doctype html>\n<html lang="en">\n<head><meta charset="utf-8"><title>{title}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{STYLE}</style></head>\n<body>\n'
        + "\n".join(parts)
        + "\n</body>\n</html>\n",
    )


def summary(rows: Sequence[Mapping[str, float]], threads: int) -> dict[str, str]:
    """What a run came to, by name."""
    if not rows:
        return {"steps": "0"}
    last = rows[-1]
    found = {
        "steps": f"{last['step']:.0f}",
        "training time": duration(last["seconds"]),
        "tokens per second": compact(last["tokens_per_second"]),
        "processor threads": str(threads),
        "last loss": f"{last['loss']:.4f}",
    }
    validated = [row for row in rows if "validation_loss" in row]
    if validated:
        best = min(validated, key=lambda row: row["validation_loss"])
        found["best validation"] = f"{best['validation_loss']:.4f} at step {best['step']:.0f}"
    return found


def draw_loss(axis: Axes, rows: Sequence[Mapping[str, float]]) -> None:
    """Training loss, averaged over neighbouring steps, and validation loss."""
    size = max(1, -(-len(rows) // POINTS))
    groups = [rows[start : start + size] for start in range(0, len(rows), size)]
    axis.plot(
        [group[-1]["step"] for group in groups],
        [sum(row["loss"] for row in group) / len(group) for group in groups],
        color="tab:blue",
        linewidth=1,
        label="training" if size == 1 else f"training, mean of {size} steps",
    )
    validated = [row for row in rows if "validation_loss" in row]
    if validated:
        steps, losses = zip(*((row["step"], row["validation_loss"]) for row in validated))
        axis.plot(steps, losses, color="tab:orange", marker=".", label="validation (averaged weights)")
    axis.set_xlabel("step")
    axis.set_ylabel("loss")
    if rows and min(row["loss"] for row in rows) > 0:
        axis.set_yscale("log")
    axis.legend(frameon=False)


def draw_levels(axis: Axes, rows: Sequence[Mapping[str, float]]) -> None:
    """Error against noise level: the first validation, the last, and one between."""
    validated = [row for row in rows if _by_level(row)]
    for index in sorted({0, len(validated) // 2, len(validated) - 1}):
        levels = _by_level(validated[index])
        shade = 0.35 + 0.65 * (index + 1) / len(validated)
        axis.plot(
            *zip(*levels), marker=".", color="tab:blue", alpha=shade, label=f"step {validated[index]['step']:.0f}"
        )
    axis.set_xlabel("noise level")
    axis.set_ylabel("squared error")
    axis.set_ylim(bottom=0)
    axis.legend(frameon=False)


def _by_level(row: Mapping[str, float]) -> list[tuple[float, float]]:
    return [(level, row[name]) for level, name in AT_LEVEL.items() if name in row]


def _svg(draw: Any, rows: Sequence[Mapping[str, float]]) -> str:
    from matplotlib.figure import Figure  # takes half a second

    figure = Figure(figsize=(7.5, 3.2), layout="constrained")
    axis = figure.subplots()
    axis.spines[["top", "right"]].set_visible(False)
    draw(axis, rows)
    text = StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None})
    # From the tag on: an XML prologue and a document type with a web address have no place inside a page.
    return text.getvalue()[text.getvalue().index("<svg") :]


def _image(path: Path) -> str:
    data = base64.b64encode(path.read_bytes()).decode()
    return f'<img alt="A sample of the trained model" src="data:image/png;base64,{data}">'


def _table(values: Mapping[str, Any], kind: str) -> str:
    rows = "".join(
        f"<tr><th>{escape(str(name))}</th><td>{escape(str(value))}</td></tr>" for name, value in values.items()
    )
    return f'<table class="{kind}">{rows}</table>'
