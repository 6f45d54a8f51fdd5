"""Places of a token look at each other within the token and remember each for itself."""

from dataclasses import replace

import pytest
import torch
from every_network import CONDITION, draw, same
from torch import Tensor

from noiseladder.networks import SpatialNetwork, SplitNetwork
from noiseladder.networks.spatial import by_place

PLACES, DEPTH = 3, 2


def network(seed: int = 0, layers: int = 2) -> SpatialNetwork:
    torch.manual_seed(seed)
    made = SpatialNetwork(PLACES * DEPTH, PLACES, 16, layers, 2, CONDITION).double()
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return made


def given(batch: int, length: int, seed: int = 1) -> tuple[Tensor, Tensor, Tensor]:
    tokens = torch.randn(batch, length, PLACES * DEPTH, generator=torch.Generator().manual_seed(seed)).double()
    return tokens, *draw(batch, length, seed)[1:]


def test_values_of_a_place_stand_as_a_convolution_flattens_them() -> None:
    grid = torch.randn(2, 5, DEPTH, PLACES)
    assert torch.equal(by_place(grid.flatten(-2), PLACES), grid.transpose(-1, -2))


def test_what_one_place_shows_reaches_all_places_of_the_same_and_later_tokens() -> None:
    spatial = network()
    tokens, levels, condition = given(1, 4)
    before = spatial(tokens, levels, condition, spatial.initial_state(1))[0]
    changed = tokens.clone()
    changed[0, 1, 2::PLACES] += 1
    after = spatial(changed, levels, condition, spatial.initial_state(1))[0]
    moved = by_place(after - before, PLACES).abs().amin(-1)[0]
    assert torch.equal(after[:, 0], before[:, 0])
    assert (moved[1:] > 0).all()


def test_without_a_table_of_places_their_order_means_nothing() -> None:
    """The same weights at every place: what is learned at one is known at all."""
    spatial = network()
    with torch.no_grad():
        spatial.reader.where.zero_()
        spatial.head.where.zero_()
        spatial.start.copy_(spatial.start[:, :1].expand_as(spatial.start))
    tokens, levels, condition = given(2, 5)
    order = torch.tensor([2, 0, 1])

    def turned(values: Tensor) -> Tensor:
        return by_place(values, PLACES)[:, :, order].transpose(-1, -2).flatten(-2)

    start = spatial.initial_state(2)
    same(spatial(turned(tokens), levels, condition, start)[0], turned(spatial(tokens, levels, condition, start)[0]))
    with torch.no_grad():
        spatial.reader.where.copy_(torch.randn(PLACES, 16))
    there, back = (spatial(x, levels, condition, start)[0] for x in (turned(tokens), tokens))
    assert (there - turned(back)).abs().max() > 1e-3


@pytest.mark.parametrize("kind", [SpatialNetwork, SplitNetwork])
@pytest.mark.parametrize("length", [1, 6])
def test_answers_alone_are_the_second_of_both_streams_and_cost_one_head_less(kind: type, length: int) -> None:
    torch.manual_seed(0)
    options = {"places": PLACES} if kind is SpatialNetwork else {}
    made = kind(PLACES * DEPTH, width=16, condition_size=CONDITION, **options).double()
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    state = made(*given(2, 3), made.initial_state(2))[1]
    asked, asked_levels, _ = given(2, length, seed=4)
    calls: list[int] = []
    made.head.register_forward_hook(lambda *_: calls.append(1))
    both = made.query(*given(2, length), state, asked, asked_levels)
    assert len(calls) == 2
    assert torch.equal(made.answer(*given(2, length), state, asked, asked_levels), both[1])
    assert len(calls) == 3


def test_the_action_decides_how_places_are_mixed() -> None:
    """Its effect depends on what the places hold: turning is no mere shift of the output."""
    spatial = network()
    tokens, levels, _ = given(2, 1)
    state = spatial(*given(2, 5), spatial.initial_state(2))[1]

    def answer(action: int) -> Tensor:
        condition = torch.zeros(2, 1, CONDITION).double()
        condition[..., action] = 1
        return spatial.look(tokens[:1].expand(2, -1, -1), levels[:1].expand(2, -1), condition, state)

    difference = answer(0) - answer(1)
    assert (difference[0] - difference[1]).abs().max() > 1e-3


def test_impossible_places_get_one_sentence() -> None:
    for places in (0, 4):
        with pytest.raises(ValueError, match=rf"token_size is 6 and places {places}, expected a token size that the"):
            SpatialNetwork(6, places)
    with pytest.raises(ValueError, match="width is 200, expected a multiple of its 3 heads"):
        SpatialNetwork(6, 3, 200)


def test_gru_layers_begin_by_adding_nothing() -> None:
    smaller, larger = network(layers=1), SpatialNetwork(PLACES * DEPTH, PLACES, 16, 1, 2, CONDITION, gru_layers=2)
    larger.double().begin_as(smaller)
    answer, state = smaller(*given(2, 5), smaller.initial_state(2))
    mine, held = larger(*given(2, 5), larger.initial_state(2))
    assert torch.equal(mine, answer)
    assert torch.equal(held.hidden[:, :1], state.hidden)
    assert held.hidden.shape[1] == 3
    mine.square().sum().backward()
    assert all(layer.tell.weight.grad.abs().max() > 0 for layer in larger.followers), "and yet they can learn"
    for other in (network(layers=2), SpatialNetwork(PLACES * DEPTH, PLACES, 32, 1, 2, CONDITION).double()):
        with pytest.raises(ValueError, match="differs in more than its GRU layers"):
            larger.begin_as(other)


def test_a_gru_layer_goes_on_from_its_own_last_step() -> None:
    """What one token adds depends on what is held: a minGRU is linear in its state, whatever it reads."""

    def bent(gru_layers: int) -> float:
        torch.manual_seed(0)
        made = SpatialNetwork(PLACES * DEPTH, PLACES, 16, 1, 0, CONDITION, gru_layers=gru_layers).double()
        for parameter in made.parameters():
            torch.nn.init.normal_(parameter, std=0.5)
        tokens = given(1, 4)
        one, other = (torch.randn(1, 1 + gru_layers, PLACES, 16).double() for _ in range(2))

        def after(hidden: Tensor) -> Tensor:
            return made(*tokens, replace(made.initial_state(1), hidden=hidden))[1].hidden[:, -1]

        return (after((one + other) / 2) - (after(one) + after(other)) / 2).abs().max().item()

    assert bent(0) < 1e-12
    assert bent(1) > 1e-2
