"""A scheduling matrix as a picture: who is denoised when, as a heat map and as a grid of digits.

It lives among the recipes and not beside the matrices themselves because the method imports torch only.
"""

import math

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from rich.style import Style
from rich.text import Text
from torch import Tensor

# From a clean token (pale) to pure noise (dark): one hue, so that the order survives printing in grey.
CLEAN, NOISE = (247, 247, 242), (38, 50, 92)


def heat_map(matrix: Tensor, title: str) -> Figure:
    """Draw a matrix (rows, T) with the tokens to the right and the sampling steps downwards."""
    from matplotlib.colors import LinearSegmentedColormap

    rows, tokens = matrix.shape
    # Cells of one size as long as they fit on a page: a wide matrix looks wide, a long one long.
    cell = min(0.3, 9 / tokens, 9 / rows)
    figure = Figure(figsize=(max(3.2, cell * tokens) + 1.9, max(2.4, cell * rows) + 1.1), layout="constrained")
    axes = figure.add_subplot()
    colours = LinearSegmentedColormap.from_list("ladder", [[c / 255 for c in end] for end in (CLEAN, NOISE)])
    image = axes.imshow(matrix.numpy(), cmap=colours, vmin=0, vmax=1, aspect="auto", interpolation="nearest")
    axes.set(xlabel="token", ylabel="sampling step", title=title)
    axes.title.set_fontsize("medium")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    if rows <= 60 and tokens <= 60:  # thin lines between the cells, while there is room for them
        axes.set_xticks([token - 0.5 for token in range(1, tokens)], minor=True)
        axes.set_yticks([row - 0.5 for row in range(1, rows)], minor=True)
        axes.grid(which="minor", color="white", linewidth=0.6)
        axes.tick_params(which="minor", length=0)
    axes.spines[:].set_visible(False)
    bar = figure.colorbar(image, ax=axes, label="noise level", ticks=[0, 0.5, 1], pad=0.03, aspect=40, fraction=0.05)
    bar.ax.set_yticklabels(["0 clean", "0.5", "1 noise"])
    return figure


def text_grid(matrix: Tensor, width: int = 80, height: int = 40) -> Text:
    """Draw a matrix (rows, T) in `width` characters and `height` lines: every n-th row if it is larger.

    A digit is a level in tenths; `#` is exactly 1 and `.` exactly 0, so the ends never lie.
    """
    rows, tokens = matrix.shape
    gutter = len(str(rows - 1)) + 1
    row_stride = math.ceil(rows / height)
    token_stride = math.ceil(tokens / max(1, (width - gutter) // 2))
    picture = Text()
    for row in range(0, rows, row_stride):
        picture.append(f"{row:>{gutter - 1}} ", style="dim")
        for level in matrix[row, ::token_stride].tolist():
            picture.append(f" {_character(level)}", style=_shade(level))
        picture.append("\n")
    indent = " " * (gutter + 1)
    picture.append(f"{indent}tokens to the right, sampling steps down; # noise, . clean", style="dim")
    for stride, name in ((row_stride, "row"), (token_stride, "token")):
        if stride > 1:
            picture.append(f"\n{indent}one {name} in {stride} is shown", style="dim")
    return picture


def _character(level: float) -> str:
    if level in (0, 1):
        return "#" if level else "."
    return str(min(9, max(1, round(level * 10))))


def _shade(level: float) -> Style:
    red, green, blue = (round(clean + level * (noise - clean)) for clean, noise in zip(CLEAN, NOISE))
    ink = "#ffffff" if level > 0.5 else "#333333"
    return Style(color=ink, bgcolor=f"#{red:02x}{green:02x}{blue:02x}")
