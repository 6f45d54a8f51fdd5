"""A world that was exported runs in ONNX Runtime: the frames of the world it came from, in less time.

A folder holds four graphs. `encoder` and `decoder` turn frames into tokens and back. `memory` reads a token at its
level into the state, with all done that denoising calls have in common; `head` is one denoising call. The sampler and
the dream are those of every other world.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from noiseladder.diffusion.denoiser import Denoised
from noiseladder.diffusion.noise import Cosine, Flow, Linear, LogSNR, NoiseSchedule, Sigmoid, check_levels, spread
from noiseladder.diffusion.state import State, of_kind
from noiseladder.training.durable import file_hash
from noiseladder.training.tensors_file import read_tensors

from .beginnings import Beginnings
from .clip import Frames

FILE, START, KIND, VERSION = "world.json", "start.safetensors", "exported world", 2
SUM = "sha256"
"""Entry of world.json: the hash of all others, as JSON with sorted keys."""
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


class ExportedDenoiser:
    """A denoiser whose work is done by graphs of one token: longer pieces, and more sequences, one after the other.

    memory: (tokens, levels, condition, *state) -> state, of noisy tokens. head: the same -> clean, noise. start: the
    state before any token. token_shape, condition_size: of tokens (B, T, *token_shape) and conditions (B, T, C).
    """

    causal = True

    def __init__(
        self,
        schedule: NoiseSchedule,
        memory: Graph,
        head: Graph,
        start: ExportedState,
        token_shape: tuple[int, ...],
        condition_size: int,
    ) -> None:
        self._schedule, self.memory, self.head, self.start = schedule, memory, head, start
        self.token_shape, self.condition_size = token_shape, condition_size

    @property
    def schedule(self) -> NoiseSchedule:
        """What the levels mean."""
        return self._schedule

    def initial_state(self, batch: int) -> ExportedState:
        """The state of `batch` sequences before any token."""
        return self.start[[0] * batch]

    def __call__(
        self, noisy: Tensor, levels: Tensor, condition: Tensor | None = None, state: State | None = None
    ) -> Denoised:
        """Denoise tokens (B, T, ...) at `levels` (B, T); each is read into a state for the next one."""
        known, held = self.check(noisy, levels, condition, state)
        sequences = []
        for number in range(len(noisy)):
            past = held[number : number + 1].tensors
            guesses = []
            for t in range(noisy.shape[1]):
                if t > 0:
                    past = self.memory(*one(number, t - 1, noisy, levels, known), *past)
                guesses.append(self.head(*one(number, t, noisy, levels, known), *past))
            sequences.append(joined(guesses, dim=1))
        return Denoised(*joined(sequences, dim=0))

    def observe(
        self,
        tokens: Tensor,
        condition: Tensor | None = None,
        state: State | None = None,
        level: float | Tensor = 0.0,
        noise: Tensor | None = None,
    ) -> ExportedState:
        """The state after reading clean tokens (B, T, ...) as if they were at `level`, a float or (B, T)."""
        levels = level if isinstance(level, Tensor) else torch.full(tokens.shape[:2], level)
        known, held = self.check(tokens, levels, condition, state)
        noisy = self.schedule.mix(tokens, torch.zeros_like(tokens) if noise is None else noise, levels)
        after = []
        for number in range(len(tokens)):
            past = held[number : number + 1].tensors
            for t in range(tokens.shape[1]):
                past = self.memory(*one(number, t, noisy, levels, known), *past)
            after.append(past)
        return ExportedState(joined(after, dim=0))

    def check(
        self, tokens: Tensor, levels: Tensor, condition: Tensor | None, state: State | None
    ) -> tuple[Tensor, ExportedState]:
        """The condition and the state. Raises ValueError unless the input fits the graphs."""
        held = self.initial_state(len(tokens)) if state is None else of_kind(ExportedState, state)
        batch = tuple(tokens.shape[:2])
        if tokens.dtype != torch.float32 or tuple(tokens.shape[2:]) != self.token_shape or batch[1:] == (0,):
            raise ValueError(
                f"tokens are {tokens.dtype} of shape {tuple(tokens.shape)}, expected float32 of shape"
                f" (B, T, {', '.join(map(str, self.token_shape))}) with T at least 1: this world was exported for those"
            )
        if tuple(levels.shape) != batch:
            raise ValueError(f"levels have shape {tuple(levels.shape)}, expected {batch}: one for every token")
        check_levels(levels)
        if condition is None or tuple(condition.shape) != (*batch, self.condition_size):
            shape = "no condition" if condition is None else f"condition of shape {tuple(condition.shape)}"
            raise ValueError(f"{shape} was given, expected {(*batch, self.condition_size)}")
        if len(held.tensors[0]) != batch[0]:
            raise ValueError(f"the state holds {len(held.tensors[0])} sequences and the tokens {batch[0]}")
        if not bool((torch.isfinite(tokens) | (spread(levels, tokens) == 1)).all()):
            raise ValueError("tokens hold NaN or infinite values: give missing values level 1, or mend the data")
        return condition, held


def one(number: int, t: int, *values: Tensor) -> list[Tensor]:
    """Token t of sequence `number` of values (B, T, ...), as (1, 1, ...)."""
    return [value[number : number + 1, t : t + 1] for value in values]


def joined(parts: Sequence[Sequence[Tensor]], dim: int) -> tuple[Tensor, ...]:
    """The first of all parts joined, the second of all, and so on; one part is what it is."""
    return tuple(parts[0]) if len(parts) == 1 else tuple(torch.cat(each, dim=dim) for each in zip(*parts, strict=True))


@dataclass(frozen=True)
class ExportedCodec:
    """An autoencoder whose halves are graphs of one frame."""

    encoder: Graph
    decoder: Graph
    size: int
    token_shape: tuple[int, ...]

    def encode(self, frames: Frames) -> Tensor:
        """Frames (T, size, size, 3) uint8 -> tokens (T, ...)."""
        shown = torch.from_numpy(np.array(frames))  # a copy: frames may lie in a memory map, which torch cannot hold
        return torch.cat([self.encoder(frame)[0] for frame in shown.split(1)])

    def decode(self, tokens: Tensor) -> Frames:
        """Tokens (T, ...) -> frames (T, size, size, 3) uint8."""
        if not bool(torch.isfinite(tokens).all()):
            raise ValueError("tokens hold NaN or infinity: the model that made them has blown up")
        frames: Frames = torch.cat([self.decoder(token)[0] for token in tokens.split(1)]).numpy()
        return frames


class ExportedWorld(NamedTuple):
    """All that dreaming takes. note: what world.json says."""

    denoiser: ExportedDenoiser
    codec: ExportedCodec
    beginnings: Beginnings
    note: dict[str, Any]


def is_exported(folder: Path) -> bool:
    """Whether a folder holds an exported world."""
    return (folder / FILE).is_file()


def load_exported(folder: Path) -> ExportedWorld:
    """The world in a folder that `export_world` wrote.

    Raises ValueError, one sentence, where files are damaged, of another version of the format or do not belong
    together; OSError for one that is missing; ImportError without ONNX Runtime.
    """
    runtime()
    note = read_note(folder)
    try:
        return _read(folder, note)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{folder / FILE} is damaged, an entry is missing or of another kind: export the world again"
        ) from error


def _read(folder: Path, note: dict[str, Any]) -> ExportedWorld:
    for name in GRAPHS:
        graph = note["graphs"][name]
        path = folder / graph["file"]
        if not path.is_file() or file_hash(path) != graph["sha256"]:
            raise ValueError(f"{path} is missing or not the file that was exported: export the world again")
    start, _ = read_tensors(folder / START)
    graphs = {name: Graph(folder / note["graphs"][name]["file"]) for name in GRAPHS}
    shape, size, beginnings = tuple(note["token_shape"]), int(note["size"]), Beginnings.load(folder)
    if beginnings.frames.shape[2] != size:
        raise ValueError(
            f"{folder} holds beginnings of size {beginnings.frames.shape[2]} and graphs for {size}: the files belong to"
            " different worlds"
        )
    schedule = dict(note["schedule"])
    denoiser = ExportedDenoiser(
        SCHEDULES[schedule.pop("name")](**schedule),
        graphs[MEMORY],
        graphs[HEAD],
        ExportedState(tuple(start[name] for name in note["state"])),
        shape,
        beginnings.rows.shape[1],
    )
    return ExportedWorld(denoiser, ExportedCodec(graphs[ENCODER], graphs[DECODER], size, shape), beginnings, note)


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
    if note.pop(SUM, None) != _sum(note):
        raise ValueError(f"{path} is not what was exported, an entry was changed: export the world again")
    return dict(note)


def note_text(note: Mapping[str, Any]) -> str:
    """What world.json says: a note, and the hash by which `read_note` knows that nobody changed it."""
    return json.dumps({**note, SUM: _sum(note)}, indent=2) + "\n"


def _sum(note: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(note, sort_keys=True).encode()).hexdigest()


def schedule_note(schedule: NoiseSchedule) -> dict[str, Any]:
    """A schedule as JSON values. Raises ValueError for one that `load_exported` would not know."""
    name = type(schedule).__name__
    if SCHEDULES.get(name) is not type(schedule):
        raise ValueError(f"the noise schedule is {name}, expected one of ours: {', '.join(SCHEDULES)}")
    return {"name": name, **asdict(schedule)}  # type: ignore[call-overload]
