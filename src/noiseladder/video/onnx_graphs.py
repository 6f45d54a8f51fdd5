"""The halves of a denoiser and of its codec as ONNX graphs of one token and of one frame."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from noiseladder.diffusion.denoiser import Denoiser, SequenceNetwork, WorksInHalves, hide_pure_noise
from noiseladder.diffusion.state import State

from .autoencoder import FrameAutoencoder
from .exported_world import DECODER, ENCODER, HEAD, MEMORY
from .pixels import PixelCodec
from .segments import rounded, scaled

OPSET = 20


@dataclass(frozen=True)
class Part:
    """What becomes a graph: a module, the names of its inputs with tensors of their shapes, and of its outputs."""

    module: nn.Module
    inputs: Mapping[str, Tensor]
    outputs: Sequence[str]


def graphs_of(
    denoiser: Denoiser, codec: FrameAutoencoder | PixelCodec, condition_size: int
) -> tuple[dict[str, Tensor], dict[str, Part]]:
    """The tensors of the state before any token, and the four graphs, all by name.

    Raises ValueError for a network that is not causal, or whose state has no fixed size.
    """
    token, frame = torch.zeros(1, 1, *codec.token_shape), torch.zeros(1, codec.size, codec.size, 3, dtype=torch.uint8)
    one = {"tokens": token, "levels": torch.full((1, 1), 0.5), "condition": torch.zeros(1, 1, condition_size)}
    with torch.no_grad():
        start = fixed_start(denoiser, *one.values())
    state = {f"state_{number}": tensor for number, tensor in enumerate(tensors_of(start))}
    halves = {**one, **state}
    return state, {
        ENCODER: Part(Encoding(codec), {"frames": frame}, ("tokens",)),
        MEMORY: Part(Remembering(denoiser, start), halves, [f"next_{name}" for name in state]),
        HEAD: Part(Looking(denoiser, start), halves, ("clean", "noise")),
        DECODER: Part(Decoding(codec), {"tokens": token[0]}, ("frames",)),
    }


def fixed_start(denoiser: Denoiser, token: Tensor, level: Tensor, condition: Tensor) -> State:
    """The state of one sequence before any token, with all that denoising calls have in common done."""
    network = denoiser.network
    what = type(network).__name__
    if not network.causal:
        raise ValueError(f"a {what} looks at later tokens, which a world that is walked in does not have yet")
    start = denoiser.prepare(network.initial_state(1))
    after = denoiser.prepare(read(network, token, level, condition, start))
    if [tensor.shape for tensor in tensors_of(start)] != [tensor.shape for tensor in tensors_of(after)]:
        raise ValueError(
            f"the state of a {what} grows with what it has seen, and a graph has fixed sizes: a recurrent network,"
            " which `train video` trains, can be exported"
        )
    return start


class Encoding(nn.Module):
    """Frames (1, size, size, 3) uint8 -> tokens (1, ...)."""

    def __init__(self, codec: FrameAutoencoder | PixelCodec) -> None:
        super().__init__()
        self.codec = codec

    def forward(self, frames: Tensor) -> Tensor:
        return self.codec.vectors(scaled(frames))


class Decoding(nn.Module):
    """Tokens (1, ...) -> frames (1, size, size, 3) uint8."""

    def __init__(self, codec: FrameAutoencoder | PixelCodec) -> None:
        super().__init__()
        self.codec = codec

    def forward(self, tokens: Tensor) -> Tensor:
        return rounded(self.codec.rebuild(tokens))


class Half(nn.Module):
    """Of a denoiser, for one token of one sequence; `like` is a state, into which tensors are put."""

    def __init__(self, denoiser: Denoiser, like: State) -> None:
        super().__init__()
        self.denoiser, self.like = denoiser, like


class Looking(Half):
    """(tokens, levels, condition, *state) -> guesses of the clean token and the noise."""

    def forward(self, tokens: Tensor, levels: Tensor, condition: Tensor, *state: Tensor) -> tuple[Tensor, Tensor]:
        network, held = self.denoiser.network, filled(self.like, state)
        hidden = hide_pure_noise(tokens, levels)
        if isinstance(network, WorksInHalves):
            output = network.look(hidden, levels, condition, held)
        else:
            output = network(hidden, levels, condition, held)[0]
        guesses = self.denoiser.interpret(output, tokens, levels)
        return guesses.clean, guesses.noise


class Remembering(Half):
    """(tokens, levels, condition, *state) -> state."""

    def forward(self, tokens: Tensor, levels: Tensor, condition: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        network = self.denoiser.network
        after = read(network, hide_pure_noise(tokens, levels), levels, condition, filled(self.like, state))
        return tensors_of(self.denoiser.prepare(after))


def read(network: SequenceNetwork, tokens: Tensor, levels: Tensor, condition: Tensor, state: State) -> State:
    """The state after tokens."""
    if isinstance(network, WorksInHalves):
        return network.read(tokens, levels, condition, state)
    return network(tokens, levels, condition, state)[1]


def tensors_of(state: State) -> tuple[Tensor, ...]:
    """All tensors of a state, in the order in which `filled` takes them."""
    found: list[Tensor] = []

    def keep(tensor: Tensor) -> Tensor:
        found.append(tensor)
        return tensor

    state.map(keep)
    return tuple(found)


def filled(like: State, tensors: Sequence[Tensor]) -> State:
    """A state with the shape of `like` that holds these tensors."""
    left = iter(tensors)
    return like.map(lambda _: next(left))


def write_graph(path: Path, part: Part) -> None:
    """Write a part as ONNX. Raises ValueError for one that ONNX has no words for."""
    given = tuple(tensor.detach().clone() for tensor in part.inputs.values())  # no views: their strides would be kept
    with torch.no_grad(), quiet():
        try:
            program = torch.onnx.export(
                part.module.eval(), given, dynamo=True, opset_version=OPSET, verbose=False,
                input_names=list(part.inputs), output_names=list(part.outputs),
            )  # fmt: skip
        except torch.onnx.errors.OnnxExporterError as error:
            why = str(error).strip().splitlines()[0]
            raise ValueError(f"the {path.stem} cannot be written as ONNX: {why}") from error
        assert program is not None
        forget_where(program.model)
        program.save(path, external_data=False)


def forget_where(model: Any) -> None:
    """Take out the lines of Python that every node came from, and with them the folders of this machine."""
    for node in model.graph.all_nodes():
        node.metadata_props.clear()
        for value in node.outputs:
            value.metadata_props.clear()
    for value in (*model.graph.inputs, *model.graph.initializers.values()):
        value.metadata_props.clear()
    model.graph.metadata_props.clear()
    model.metadata_props.clear()


@contextmanager
def quiet() -> Iterator[None]:
    """Without the exporter's remarks on packages that are not installed and on its own old code."""
    logger = logging.getLogger("torch.onnx")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(before)
