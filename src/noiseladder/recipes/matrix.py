"""The scheduling matrix as a figure: one of ours by its name, or yours from a file, checked and drawn."""

import io
import os
import warnings
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
from cyclopts import Parameter
from matplotlib.figure import Figure
from rich.console import Console
from torch import Tensor

from noiseladder.diffusion import scheduling_matrix
from noiseladder.diffusion.noise import Cosine
from noiseladder.recipes.matrix_picture import heat_map, text_grid

# More cells than this are grey in any picture and take seconds to make.
LARGEST = 4_000_000


@dataclass(frozen=True)
class Matrix:
    """Which matrix to draw, and where."""

    name: str
    """full-sequence, autoregressive, pyramid, trapezoid, keyframes, chunks; or a .csv or .npy file with your
    own: a row for each sampling step, a column for each token."""
    _: KW_ONLY
    tokens: int = 16
    """Tokens of a named matrix."""
    steps: int = 20
    """Rows in which one token goes from noise to clean, in a named matrix."""
    delay: int | None = None
    """Rows by which a token starts after its neighbour, for pyramid and trapezoid (1)."""
    every: int | None = None
    """Distance between keyframes (4)."""
    size: int | None = None
    """Tokens in a chunk (4)."""
    given: tuple[int, ...] = ()
    """Tokens of your own matrix whose values are given; only these may start below level 1."""
    early_stop: bool = False
    """Allow columns of your own matrix to end above level 0."""
    output: Path | None = None
    """The picture; its ending says the format. matrix-NAME.png if not given."""


@dataclass(frozen=True)
class _Named:
    """A matrix that has a name on the command line: its function, and the one option it takes, if any."""

    make: Callable[..., Tensor]
    option: str | None = None
    default: int = 0
    smallest: int = 1


NAMED = {
    "full-sequence": _Named(scheduling_matrix.full_sequence),
    "autoregressive": _Named(scheduling_matrix.autoregressive),
    "pyramid": _Named(scheduling_matrix.pyramid, "delay", default=1, smallest=0),
    "trapezoid": _Named(scheduling_matrix.trapezoid, "delay", default=1, smallest=0),
    "keyframes": _Named(scheduling_matrix.keyframes, "every", default=4),
    "chunks": _Named(scheduling_matrix.chunks, "size", default=4),
}


def draw_matrix(options: Annotated[Matrix, Parameter(name="*", negative=())]) -> None:
    """Draw a scheduling matrix in the terminal and as a picture, and say what sampling with it costs."""
    matrix = make_matrix(options)
    rows, tokens = matrix.shape
    calls = scheduling_matrix.network_calls(matrix)
    label = options.name if options.name in NAMED else Path(options.name).name
    cost = f"{rows} rows, {calls} network calls"
    output = options.output or Path(f"matrix-{Path(options.name).stem}.png")
    save(heat_map(matrix, title=f"{label}: {tokens} tokens, {cost}"), output)

    console = Console(highlight=False)
    console.print(text_grid(matrix, width=console.width, height=40))
    console.print(f"{label}: {tokens} tokens, {cost}")
    if options.name == "pyramid":
        least = scheduling_matrix.causal_delay(Cosine(), options.steps)
        if rows < options.steps + (tokens - 1) * least + 1:
            console.print(f"a causal network needs --delay {least} for unbiased samples (Cosine schedule)")
    console.print(f"picture: {output}", soft_wrap=True)


def make_matrix(options: Matrix) -> Tensor:
    """The matrix (rows, T) that the options name; ValueError says why sampling could not follow it."""
    if options.name in NAMED:
        matrix = _make_named(options)
        given, early_stop = None, False
    else:
        matrix = read_matrix(Path(options.name))
        given, early_stop = _given(options.given, matrix), options.early_stop
    scheduling_matrix.check_matrix(matrix, given=given, early_stop=early_stop)
    return matrix


def _make_named(options: Matrix) -> Tensor:
    named = NAMED[options.name]
    for option, value in (("delay", options.delay), ("every", options.every), ("size", options.size)):
        if value is not None and option != named.option:
            takes = f"takes --{named.option}" if named.option else "takes --tokens and --steps only"
            raise ValueError(f"--{option} {value} does not apply to {options.name}, which {takes}")
    if options.given or options.early_stop:
        raise ValueError(f"--given and --early-stop are for a matrix from a file, not for {options.name}")
    if options.tokens < 1 or options.steps < 1:
        raise ValueError(f"--tokens {options.tokens} --steps {options.steps}: both must be at least 1")
    arguments = []
    if named.option is not None:
        given = getattr(options, named.option)
        value = named.default if given is None else given
        if value < named.smallest:
            raise ValueError(f"--{named.option} {value}: must be at least {named.smallest}")
        arguments.append(value)
    longest = options.steps + options.tokens * max(options.steps, *arguments, 0)
    if options.tokens * longest > LARGEST:
        raise ValueError(
            f"--tokens {options.tokens} --steps {options.steps} may make a matrix of {longest} rows, too"
            f" large to draw: tokens times rows must stay below {LARGEST}"
        )
    return named.make(options.tokens, options.steps, *arguments)


def read_matrix(path: Path) -> Tensor:
    """Read a matrix (rows, T) from a .csv file of numbers or a .npy file, never running code from it."""
    if path.suffix not in (".csv", ".npy"):
        nearest = get_close_matches(str(path), NAMED, n=1)
        hint = f"did you mean {nearest[0]}?" if nearest else f"the names are {', '.join(NAMED)}"
        raise ValueError(f"unknown matrix {str(path)!r}, neither a name nor a .csv or .npy file; {hint}")
    with path.open("rb"):  # a missing or unreadable file gets its own sentence, not numpy's
        pass
    array = _read_npy(path) if path.suffix == ".npy" else _read_csv(path)
    if array.dtype.kind not in "fiu" or array.size == 0:
        raise ValueError(f"{path} holds {array.size} values of {array.dtype}, expected levels from 0 to 1")
    return torch.from_numpy(array.astype(np.float32))


def _read_npy(path: Path) -> np.ndarray:
    try:
        array = np.load(path, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise ValueError(f"{path} is not a .npy file of plain numbers") from error
    if not isinstance(array, np.ndarray):
        raise ValueError(f"{path} is an archive of several arrays, expected a .npy file with one")
    return array


def _read_csv(path: Path) -> np.ndarray:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of an empty file, which read_matrix reports itself
        try:
            return np.loadtxt(path, delimiter=",", ndmin=2)
        except ValueError as error:
            reason = str(error).split(";")[0]  # what follows is advice about numpy
            raise ValueError(f"{path} is not a table of numbers: {reason}") from error


def _given(tokens: tuple[int, ...], matrix: Tensor) -> Tensor | None:
    if not tokens:
        return None
    length = matrix.shape[-1]
    outside = [token for token in tokens if not 0 <= token < length]
    if outside:
        raise ValueError(f"--given {outside[0]}: the matrix has tokens 0 to {length - 1}")
    given = torch.zeros(length, dtype=torch.bool)
    given[list(tokens)] = True
    return given


def save(figure: Figure, path: Path) -> None:
    """Write a figure; the file appears complete or not at all."""
    ending = path.suffix.removeprefix(".")
    formats = figure.canvas.get_supported_filetypes()
    if ending not in formats:
        raise ValueError(f"cannot draw {path}: its ending must be one of {', '.join(sorted(formats))}")
    if not path.parent.is_dir():
        raise ValueError(f"cannot draw {path}: there is no folder {path.parent}")
    picture = io.BytesIO()
    figure.savefig(picture, format=ending, dpi=160)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        unfinished.write_bytes(picture.getvalue())
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
