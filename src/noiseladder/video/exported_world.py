"""A world that was exported runs in ONNX Runtime: the frames of the world it came from, in less time.

A folder holds four graphs. `encoder` and `decoder` turn frames into tokens and back. `memory` reads a token into the
state, with all that denoising calls have in common done already; `head` is one denoising call. What the levels mean,
the sampler and the dream are those of every other world: only what is multiplied has left PyTorch.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from noiseladder.diffusion.denoiser import Denoiser, Prediction
from noiseladder.diffusion.noise import Cosine, Flow, Linear, LogSNR, NoiseSchedule, Sigmoid
from noiseladder.diffusion.state import State, of_kind
from noiseladder.training.durable import file_hash
from noiseladder.training.tensors_file import read_tensors

from .beginnings import Beginnings
from .clip import Frames
from .segments import to_frames, to_tokens

FILE, START, KIND, VERSION = "world.json", "start.safetensors", "exported world", 1
ENCODER, MEMORY, HEAD, DECODER = "encoder", "memory", "head", "decoder"
GRAPHS = (ENCODER, MEMORY, HEAD, DECODER)
SCHEDULES: Mapping[str, type[NoiseSchedule]] = {kind.__name__: kind for kind in (Cosine, Sigmoid, Linear, LogSNR, Flow)}


def runtime() -> Any:
    """The module onnxruntime. Raises ImportError, with the name of the extra, where it is not installed."""
    try:
        import onnxruntime
    except ImportError as error:
        raise ImportError("an exported world runs in ONNX Runtime: pip install 'noiseladder[runtime]'") from error
    return onnxruntime


class Graph:
    """A graph whose inputs and outputs have fixed shapes, run in the calling thread."""

    def __init__(self, path: Path) -> None:
        onnxruntime = runtime()
        options = onnxruntime.SessionOptions()
        # Batch 1 is too little work to share, and a page needs the other cores for itself.
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self.session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self.names = [given.name for given in self.session.get_inputs()]

    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Its outputs, in order."""
        given = {name: np.ascontiguousarray(value.numpy()) for name, value in zip(self.names, inputs, strict=True)}
        return tuple(torch.from_numpy(value) for value in self.session.run(None, given))


@dataclass(frozen=True)
class ExportedState(State):
    """The tensors that the graphs hand on, each (B, ...)."""

    tensors: tuple[Tensor, ...]


class ExportedNetwork:
    """A network whose halves are graphs of one token: longer pieces and more sequences are run one after the other.

    memory: (tokens, levels, condition, *state) -> state. head: the same -> output. start: the state before any token.
    token_shape, condition_size: of tokens (B, T, *token_shape) and conditions (B, T, C).
    """

    causal = True

    def __init__(
        self, memory: Graph, head: Graph, start: ExportedState, token_shape: tuple[int, ...], condition_size: int
    ) -> None:
        self.memory, self.head, self.start = memory, head, start
        self.token_shape, self.condition_size = token_shape, condition_size

    def initial_state(self, batch: int) -> ExportedState:
        """The state of `batch` sequences before any token."""
        return self.start[[0] * batch]

    def __call__(
        self, tokens: Tensor, levels: Tensor, condition: Tensor | None, state: State
    ) -> tuple[Tensor, ExportedState]:
        """tokens (B, T, ...), levels (B, T), condition (B, T, C) -> output like tokens, state after T."""
        return self.look(tokens, levels, condition, state), self.read(tokens, levels, condition, state)

    def look(self, tokens: Tensor, levels: Tensor, condition: Tensor | None, state: State) -> Tensor:
        """The output alone; every token but the last is read into a state for the next one."""
        condition, held = self.check(tokens, levels, condition, state)
        sequences = []
        for number in range(len(tokens)):
            past = held[number : number + 1].tensors
            outputs: list[Tensor] = []
            for t in range(tokens.shape[1]):
                if t > 0:
                    past = self.memory(*one(number, t - 1, tokens, levels, condition), *past)
                outputs += self.head(*one(number, t, tokens, levels, condition), *past)
            sequences.append(torch.cat(outputs, dim=1))
        return torch.cat(sequences)

    def read(self, tokens: Tensor, levels: Tensor, condition: Tensor | None, state: State) -> ExportedState:
        """The new state alone."""
        condition, held = self.check(tokens, levels, condition, state)
        after = []
        for number in range(len(tokens)):
            past = held[number : number + 1].tensors
            for t in range(tokens.shape[1]):
                past = self.memory(*one(number, t, tokens, levels, condition), *past)
            after.append(past)
        return ExportedState(tuple(torch.cat(parts) for parts in zip(*after, strict=True)))

    def check(
        self, tokens: Tensor, levels: Tensor, condition: Tensor | None, state: State
    ) -> tuple[Tensor, ExportedState]:
        """The condition and the state. Raises ValueError unless the input fits the graphs."""
        held, batch = of_kind(ExportedState, state), tuple(tokens.shape[:2])
        if tokens.dtype != torch.float32 or tuple(tokens.shape[2:]) != self.token_shape or batch[1:] == (0,):
            raise ValueError(
                f"tokens are {tokens.dtype} of shape {tuple(tokens.shape)}, expected float32 of shape"
                f" (B, T, {', '.join(map(str, self.token_shape))}) with T at least 1: this world was exported for those"
            )
        if tuple(levels.shape) != batch:
            raise ValueError(f"levels have shape {tuple(levels.shape)}, expected {batch}: one for every token")
        if condition is None or tuple(condition.shape) != (*batch, self.condition_size):
            shape = "no condition" if condition is None else f"condition of shape {tuple(condition.shape)}"
            raise ValueError(f"{shape} was given, expected {(*batch, self.condition_size)}")
        if len(held.tensors[0]) != batch[0]:
            raise ValueError(f"the state holds {len(held.tensors[0])} sequences and the tokens {batch[0]}")
        return condition, held


def one(number: int, t: int, *values: Tensor) -> list[Tensor]:
    """Token t of sequence `number` of values (B, T, ...), as (1, 1, ...)."""
    return [value[number : number + 1, t : t + 1] for value in values]


@dataclass(frozen=True)
class ExportedCodec:
    """An autoencoder whose halves are graphs of one frame."""

    encoder: Graph
    decoder: Graph
    size: int
    token_shape: tuple[int, ...]

    def encode(self, frames: Frames) -> Tensor:
        """Frames (T, size, size, 3) uint8 -> tokens (T, ...)."""
        return torch.cat([self.encoder(frame)[0] for frame in to_tokens(frames).split(1)])

    def decode(self, tokens: Tensor) -> Frames:
        """Tokens (T, ...) -> frames (T, size, size, 3) uint8."""
        return to_frames(torch.cat([self.decoder(token)[0] for token in tokens.split(1)]))


class ExportedWorld(NamedTuple):
    """All that dreaming takes. note: what world.json says."""

    denoiser: Denoiser
    codec: ExportedCodec
    beginnings: Beginnings
    note: dict[str, Any]


def is_exported(folder: Path) -> bool:
    """Whether a folder holds an exported world."""
    return (folder / FILE).is_file()


def load_exported(folder: Path) -> ExportedWorld:
    """The world in a folder that `export_world` wrote.

    Raises ValueError, one sentence, where files are missing, damaged, or of another version of the format; ImportError
    without ONNX Runtime.
    """
    runtime()
    note = read_note(folder)
    for name in GRAPHS:
        graph = note["graphs"][name]
        path = folder / graph["file"]
        if not path.is_file() or file_hash(path) != graph["sha256"]:
            raise ValueError(f"{path} is missing or not the file that was exported: export the world again")
    start, _ = read_tensors(folder / START)
    graphs = {name: Graph(folder / note["graphs"][name]["file"]) for name in GRAPHS}
    shape, size, beginnings = tuple(note["token_shape"]), int(note["size"]), Beginnings.load(folder)
    network = ExportedNetwork(
        graphs[MEMORY],
        graphs[HEAD],
        ExportedState(tuple(start[name] for name in note["state"])),
        shape,
        beginnings.rows.shape[1],
    )
    schedule = dict(note["schedule"])
    denoiser = Denoiser(network, SCHEDULES[schedule.pop("name")](**schedule), Prediction[note["prediction"]])
    return ExportedWorld(
        denoiser.eval(), ExportedCodec(graphs[ENCODER], graphs[DECODER], size, shape), beginnings, note
    )


def read_note(folder: Path) -> dict[str, Any]:
    """What world.json says. Raises ValueError for a file that is damaged, foreign or of another version."""
    path = folder / FILE
    try:
        note = json.loads(path.read_text(encoding="utf-8"))
        kind, version = note["kind"], note["version"]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is damaged or none of ours: export the world again") from error
    if (kind, version) != (KIND, VERSION):
        raise ValueError(
            f"{path} holds {kind!r} of version {version}, expected {KIND!r} of version {VERSION}: export the world"
            " again"
        )
    return dict(note)


def schedule_note(schedule: NoiseSchedule) -> dict[str, Any]:
    """A schedule as JSON values. Raises ValueError for one that `load_exported` would not know."""
    name = type(schedule).__name__
    if SCHEDULES.get(name) is not type(schedule):
        raise ValueError(f"the noise schedule is {name}, expected one of ours: {', '.join(SCHEDULES)}")
    return {"name": name, **asdict(schedule)}  # type: ignore[call-overload]
