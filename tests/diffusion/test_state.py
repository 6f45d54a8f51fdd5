"""A state is never changed in place, and can be picked from, repeated and moved."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, dataclass

import pytest
import torch
from hypothesis import given, strategies as st
from torch import Tensor

from noiseladder.diffusion.state import State


@dataclass(frozen=True)
class Inner(State):
    value: Tensor


@dataclass(frozen=True)
class Outer(State):
    value: Tensor
    many: tuple[Tensor, ...]
    inner: Inner
    nothing: Tensor | None = None


def numbered(batch: int) -> Outer:
    """Every tensor of sequence i holds i."""
    value = torch.arange(batch, dtype=torch.float32)[:, None].repeat(1, 2)
    return Outer(value, (value, value[:, :1, None]), Inner(value))


@given(st.integers(1, 6).flatmap(lambda b: st.tuples(st.just(b), st.lists(st.integers(0, b - 1), max_size=8))))
def test_an_index_picks_and_repeats_sequences_everywhere(drawn):
    batch, index = drawn
    picked = numbered(batch)[torch.tensor(index, dtype=torch.long)]
    for tensor in (picked.value, picked.many[0], picked.many[1][..., 0], picked.inner.value):
        assert tensor[:, 0].tolist() == index
    assert picked.nothing is None


def test_a_slice_keeps_the_batch_and_the_original_stays_as_it_was():
    state = numbered(4)
    assert state[1:3].inner.value[:, 0].tolist() == [1, 2]
    assert state.value[:, 0].tolist() == [0, 1, 2, 3]


def test_a_branch_can_grow_without_moving_its_siblings():
    state = numbered(2)
    branch = state[torch.tensor([0, 0])]
    branch.value.add_(7)
    assert state.value[0, 0] == 0


def test_a_state_is_frozen():
    with pytest.raises(FrozenInstanceError):
        numbered(1).value = torch.zeros(1)


def test_detaching_cuts_every_tensor_from_its_graph():
    value = torch.ones(2, 2, requires_grad=True)
    state = Outer(value * 2, (value * 3,), Inner(value * 4)).detach()
    assert not any(t.requires_grad for t in (state.value, state.many[0], state.inner.value))


def test_a_state_holds_nothing_but_tensors():
    @dataclass(frozen=True)
    class Wrong(State):
        name: str

    with pytest.raises(TypeError, match="not str"):
        Wrong("memory")[0:1]
