"""The averaged weights: a running mean of the weights of all steps, steadier than the last ones."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from .ranks import own


class WeightAverage:
    """An exponential mean of a module's parameters; this rank's part where they are sharded.

    In the first steps the decay is (1 + step) / (10 + step), so that the random start is soon forgotten.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay = decay
        self.parts = {name: own(p.detach()).clone() for name, p in module.named_parameters()}

    @torch.no_grad()
    def update(self, module: nn.Module, step: int) -> None:
        """Take in the weights after `step` steps."""
        decay = min(self.decay, (1 + step) / (10 + step))
        weights = [own(p.detach()) for _, p in module.named_parameters()]
        torch._foreach_lerp_(list(self.parts.values()), weights, 1 - decay)


@torch.no_grad()
def load_parts(module: nn.Module, parts: Mapping[str, Tensor]) -> None:
    """Set the parameters of a module to this rank's `parts`."""
    for name, parameter in module.named_parameters():
        own(parameter.detach()).copy_(parts[name])


@contextmanager
def with_weights(module: nn.Module, parts: Mapping[str, Tensor]) -> Iterator[None]:
    """Inside the block the module has other weights; after it its own again, to the bit."""
    before = {name: own(p.detach()).clone() for name, p in module.named_parameters()}
    load_parts(module, parts)
    try:
        yield
    finally:
        load_parts(module, before)
