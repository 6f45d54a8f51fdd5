"""Frames, not vectors: the laws once more where neighbours matter, and that a picture is read as a picture."""

import pytest
import torch
from every_network import same
from torch import Tensor, nn

from noiseladder.networks import ConvolutionalNetwork

SHAPE = (2, 8, 8)


def build(seed: int = 0) -> ConvolutionalNetwork:
    torch.manual_seed(seed)
    network = ConvolutionalNetwork(SHAPE, width=8, channels=4, halvings=2, condition_size=2).double()
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.2)
    return network


def draw(batch: int, length: int, seed: int = 1) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randn(batch, length, 128, generator=generator, dtype=torch.float64)
    levels = torch.rand(batch, length, generator=generator, dtype=torch.float64)
    return tokens, levels, torch.randn(batch, length, 2, generator=generator, dtype=torch.float64)


def test_later_frames_change_nothing_to_the_bit_and_pieces_equal_the_whole() -> None:
    network = build()
    tokens, levels, condition = draw(2, 5)
    whole, end = network(tokens, levels, condition, network.initial_state(2))
    changed = tokens.clone()
    changed[:, 3:] = 0.5
    other = network(changed, levels, condition, network.initial_state(2))[0]
    assert torch.equal(other[:, :3], whole[:, :3])
    assert not torch.equal(other[:, 3], whole[:, 3])
    first, state = network(tokens[:, :2], levels[:, :2], condition[:, :2], network.initial_state(2))
    rest, state = network(tokens[:, 2:], levels[:, 2:], condition[:, 2:], network.prepare(state))
    same(torch.cat([first, rest], dim=1), whole)
    same(state.hidden, end.hidden)


def test_every_pixel_reaches_every_pixel() -> None:
    network = build()
    tokens, levels, condition = draw(1, 1)
    tokens.requires_grad_()
    output = network(tokens, levels, condition, network.initial_state(1))[0]
    (gradient,) = torch.autograd.grad(output[0, 0, 0], tokens)
    assert torch.count_nonzero(gradient) == 128


def test_what_it_is_told_of_one_sequence_stays_there() -> None:
    network = build()
    tokens, levels, condition = draw(3, 4)
    before = network.query(tokens, levels, condition, network.initial_state(3), tokens, levels)
    condition[1] += 1.0
    after = network.query(tokens, levels, condition, network.initial_state(3), tokens, levels)
    for one, other in zip(before, after, strict=True):
        assert torch.equal(one[[0, 2]], other[[0, 2]])
        assert not torch.equal(one[1], other[1])


def test_frames_that_cannot_be_halved_are_refused() -> None:
    with pytest.raises(ValueError, match=r"frames of shape \(3, 6, 8\) cannot be halved 2 times.*multiples of 4"):
        ConvolutionalNetwork((3, 6, 8))
