"""What a network keeps of the past; never changed in place, so that it can be branched."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, Self, TypeVar

import torch
from torch import Tensor


@dataclass(frozen=True)
class State:
    """The belief after some tokens: the z of the paper, and the state of a Bayes filter.

    Each network has a subclass of its own whose fields are tensors with the batch first, tuples of them, other
    states, or None. The samplers never look inside.
    """

    def map(self, function: Callable[[Tensor], Tensor]) -> Self:
        """A new state with `function` applied to every tensor."""
        return type(self)(**{f.name: _map(getattr(self, f.name), function) for f in fields(self)})

    def __getitem__(self, index: Tensor | slice | list[int]) -> Self:
        """Pick or repeat sequences of the batch: `state[torch.tensor([0, 0, 2])]` branches the first."""
        return self.map(lambda tensor: tensor[index])

    def detach(self) -> Self:
        """The same state, cut from the autograd graph."""
        return self.map(Tensor.detach)

    def to(self, device: torch.device | str) -> Self:
        """The same state on another device."""
        return self.map(lambda tensor: tensor.to(device))


Kind = TypeVar("Kind", bound=State)


def of_kind(kind: type[Kind], state: State) -> Kind:
    """The state, if it is one that a denoiser with states of this kind made."""
    if not isinstance(state, kind):
        raise ValueError(
            f"the state is a {type(state).__name__}, expected a {kind.__name__}: let the guided denoiser itself observe"
        )
    return state


def _map(value: Any, function: Callable[[Tensor], Tensor]) -> Any:
    match value:
        case Tensor():
            return function(value)
        case State():
            return value.map(function)
        case tuple():
            return tuple(_map(item, function) for item in value)
        case None:
            return None
    raise TypeError(f"a State holds tensors, tuples of them, states or None, not {type(value).__name__}")
