"""Every network for vectors in several sizes, with weights that make all of it matter."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from noiseladder.networks import (
    ConvolutionalNetwork,
    MinGRUNetwork,
    RecurrentNetwork,
    SpatialNetwork,
    SplitNetwork,
    TransformerNetwork,
)

TOKEN, CONDITION = 3, 2


@dataclass(frozen=True)
class Case:
    """How to build a network: `build(parts=..., condition_size=...)`."""

    name: str
    make: Callable[..., nn.Module]
    options: dict[str, Any]

    def build(self, seed: int = 0, **options: Any) -> Any:
        """A network in float64 whose weights are all away from their start, zeros included."""
        torch.manual_seed(seed)
        network = self.make(**{"token_size": TOKEN, "condition_size": CONDITION, **self.options, **options}).double()
        for parameter in network.parameters():
            nn.init.normal_(parameter, std=0.3)
        return network


def one_pixel(token_size: int, **options: Any) -> nn.Module:
    """The network for frames, given one pixel of many colours: here it is a network for vectors like the others."""
    return ConvolutionalNetwork((token_size, 1, 1), **{"halvings": 0, **options})


CAUSAL = [
    Case("convolutional", one_pixel, {"width": 8, "channels": 6}),
    Case("gru", RecurrentNetwork, {"width": 16}),
    Case("gru-3-layers", RecurrentNetwork, {"width": 8, "layers": 3, "blocks": 2}),
    Case("gru-from-zero", RecurrentNetwork, {"width": 8, "layers": 2, "learned_start": False}),
    Case("min-gru", MinGRUNetwork, {"width": 16}),
    Case("min-gru-1-layer", MinGRUNetwork, {"width": 8, "layers": 1, "expansion": 3}),
    Case("split", SplitNetwork, {"width": 16, "layers": 2, "blocks": 2}),
    Case("split-1-layer", SplitNetwork, {"width": 8, "layers": 1, "blocks": 1, "expansion": 2, "head_expansion": 2}),
    Case("split-first-kept", SplitNetwork, {"width": 8, "layers": 1, "blocks": 1, "keep_first": True}),
    Case("spatial", SpatialNetwork, {"places": 3, "width": 16, "layers": 2, "blocks": 2}),
    Case("spatial-1-place", SpatialNetwork, {"places": 1, "width": 8, "layers": 1, "blocks": 1, "expansion": 2}),
    Case("spatial-gru", SpatialNetwork, {"places": 3, "width": 16, "layers": 1, "blocks": 1, "gru_layers": 2}),
    Case("transformer", TransformerNetwork, {"width": 16, "layers": 2, "heads": 2}),
    Case("transformer-cache-4", TransformerNetwork, {"width": 16, "layers": 3, "heads": 4, "cache": 4}),
    Case("transformer-cache-2", TransformerNetwork, {"width": 8, "layers": 2, "heads": 1, "cache": 2}),
]
BIDIRECTIONAL = [
    Case("bidirectional", TransformerNetwork, {"width": 16, "layers": 2, "heads": 2, "causal": False}),
]
every_causal = pytest.mark.parametrize("case", CAUSAL, ids=lambda case: case.name)
every = pytest.mark.parametrize("case", CAUSAL + BIDIRECTIONAL, ids=lambda case: case.name)


def draw(batch: int, length: int, seed: int = 1) -> tuple[Tensor, Tensor, Tensor]:
    """Tokens (B, T, 3), levels (B, T) with exact ends among them, condition (B, T, 2), all float64."""
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randn(batch, length, TOKEN, generator=generator, dtype=torch.float64)
    levels = torch.rand(batch, length, generator=generator, dtype=torch.float64)
    levels[:, 1::5], levels[:, 3::5] = 0.0, 1.0
    return tokens, levels, torch.randn(batch, length, CONDITION, generator=generator, dtype=torch.float64)


def same(one: Tensor, other: Tensor, tolerance: float = 1e-11) -> None:
    """Equal but for the order of additions."""
    torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance)


def tensors(value: Any) -> list[Tensor]:
    """All tensors of a state."""
    found: list[Tensor] = []
    value.map(lambda tensor: (found.append(tensor), tensor)[1])
    return found
