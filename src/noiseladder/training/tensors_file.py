"""One file holds named tensors and a JSON note (safetensors): nothing in it can run, and damage is noticed.

The note travels in the header, so a file is complete in itself; a digest in it covers the tensors and the note.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from .durable import replace_file

NOTE = "noiseladder"


def write_tensors(path: Path, tensors: Mapping[str, Tensor], note: Mapping[str, Any]) -> None:
    """Write tensors and a note (JSON values), atomically. Raises OSError for a full disk; the old file stays."""
    # Copies: safetensors refuses tensors that share memory, as tied weights do.
    flat = {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in tensors.items()}
    # One entry: safetensors writes several in random order, and equal weights should be equal files.
    metadata = {NOTE: json.dumps({"digest": _digest(flat, note), "note": dict(note)})}

    def write(partial: Path) -> None:
        try:
            save_file(flat, partial, metadata)
        except SafetensorError as error:
            raise _as_os_error(error) from error

    replace_file(path, write)


def read_note(path: Path) -> dict[str, Any]:
    """The note alone, without the tensors. Raises ValueError for a file that is not ours, OSError for none."""
    return _read(path, with_tensors=False)[1]


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors (on the CPU) and note. Raises ValueError for a damaged or foreign file, OSError for none."""
    return _read(path, with_tensors=True)


def _read(path: Path, with_tensors: bool) -> tuple[dict[str, Tensor], dict[str, Any]]:
    if path.is_dir():
        inside = " in it" if any(path.glob("*.safetensors")) else ""
        raise IsADirectoryError(f"{path} is a folder: give the file of weights{inside}, in safetensors format")
    if not path.exists():
        raise FileNotFoundError(f"there is no file {path}: expected weights in safetensors format")
    _refuse_pickle(path)
    tensors: dict[str, Tensor] = {}
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if with_tensors:
                # Copies: what is read lies in the file's memory map, badly aligned and gone with the file.
                tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(
            f"{path} is damaged, cut short or not a safetensors file ({error}): use another checkpoint, or train again"
        ) from error
    if NOTE not in metadata:
        raise ValueError(f"{path} is a safetensors file, but not one of ours: it holds no noiseladder note")
    try:
        header = json.loads(metadata[NOTE])
        digest, note = header["digest"], dict(header["note"])
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is damaged: its note cannot be read; use another checkpoint") from error
    if with_tensors and _digest(tensors, note) != digest:
        raise ValueError(
            f"{path} is damaged: it does not hold what was written (the checksum differs); use another"
            " checkpoint, or train again"
        )
    return tensors, note


def _refuse_pickle(path: Path) -> None:
    """Raise ValueError for a pickle, which could run anything, without opening it as one."""
    with path.open("rb") as file:
        head = file.read(9)
    # Protocol 2 and later start with \x80 and the protocol; torch.save makes a zip archive of a pickle. A header
    # of safetensors may start with the same two bytes, its length, but then comes the JSON at byte 8.
    pickled = (head[:1] == b"\x80" and head[1:2] <= b"\x05") or head.startswith(b"PK\x03\x04")
    if pickled and head[8:] != b"{":
        raise ValueError(
            f"{path} is a pickle, and reading one may run anything: expected weights in safetensors format. If you"
            " trust it, convert it yourself (torch.load, then safetensors.torch.save_file)"
        )


def _digest(tensors: Mapping[str, Tensor], note: Mapping[str, Any]) -> str:
    digest = hashlib.blake2b(json.dumps(note, sort_keys=True).encode(), digest_size=16)
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _as_os_error(error: SafetensorError) -> OSError:
    # safetensors is written in Rust and says "No space left on device (os error 28)" in its own exception.
    number = str(error).rpartition("os error ")[2].partition(")")[0]
    return OSError(int(number), os.strerror(int(number))) if number.isdigit() else OSError(str(error))
