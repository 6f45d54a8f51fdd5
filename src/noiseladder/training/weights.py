"""A trained denoiser as one file: its weights, and in the header the recipe it was built from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from noiseladder.diffusion.denoiser import Denoiser

from .tensors_file import read_note, read_tensors, write_tensors

KIND = "weights"


def save_weights(path: Path, denoiser: Denoiser, recipe: Mapping[str, Any]) -> None:
    """Write the weights of a denoiser and its recipe (JSON values) to one safetensors file, atomically.

    Raises OSError for a full disk; the old file stays.
    """
    save_tensors(path, denoiser.state_dict(), denoiser, recipe)


def save_tensors(path: Path, tensors: Mapping[str, Tensor], like: Denoiser, recipe: Mapping[str, Any]) -> None:
    """`save_weights` for weights that the denoiser `like` does not hold now."""
    note = {"kind": KIND, "recipe": dict(recipe), **_method(like)}
    write_tensors(path, tensors, note)


def read_recipe(path: Path) -> dict[str, Any]:
    """The recipe in a file of weights, from which the denoiser for `load_weights` is built.

    Raises ValueError for a damaged or foreign file or a pickle, OSError when there is none.
    """
    return cast(dict[str, Any], _check_kind(path, read_note(path))["recipe"])


def load_weights(path: Path, denoiser: Denoiser) -> dict[str, Any]:
    """Give a denoiser the weights of a file, and return the recipe in it.

    Raises ValueError, saying what differs, when they were trained for another network, schedule or prediction,
    and for a damaged or foreign file or a pickle; OSError when there is none. Then the denoiser is as it was.
    """
    tensors, note = read_tensors(path)
    _check_kind(path, note)
    for name, mine in _method(denoiser).items():
        if note.get(name) != mine:
            raise ValueError(f"{path} was trained with {name} {note.get(name)}, this denoiser has {mine}")
    check_fits(path, tensors, denoiser.state_dict())
    with torch.no_grad():
        for name, value in denoiser.state_dict().items():
            value.copy_(tensors[name])
    return cast(dict[str, Any], note["recipe"])


def check_fits(path: Path, saved: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    """Raise ValueError, saying what differs, unless both have the same names and shapes."""
    differing = [f"{name} is missing" for name in expected if name not in saved]
    differing += [f"{name} is not expected" for name in saved if name not in expected]
    differing += [
        f"{name} is {tuple(saved[name].shape)}, expected {tuple(tensor.shape)}"
        for name, tensor in expected.items()
        if name in saved and saved[name].shape != tensor.shape
    ]
    if differing:
        more = f" and {len(differing) - 4} more" if len(differing) > 4 else ""
        raise ValueError(
            f"{path} holds the weights of another network: {'; '.join(differing[:4])}{more}. Build the denoiser with"
            " the options it was trained with"
        )


def _method(denoiser: Denoiser) -> dict[str, str]:
    """What the weights mean nothing without."""
    return {"schedule": repr(denoiser.schedule), "prediction": denoiser.prediction.name}


def _check_kind(path: Path, note: dict[str, Any]) -> dict[str, Any]:
    if note.get("kind") != KIND:
        raise ValueError(f"{path} holds a {note.get('kind')}, expected the weights of a trained model")
    return note
