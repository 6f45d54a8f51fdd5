"""What a token costs is counted in operations, never in seconds: flat in the history, less when prepared."""

import pytest
import torch
from every_network import Case, draw, every_causal, tensors
from torch.utils.flop_counter import FlopCounterMode

from noiseladder.diffusion.state import State
from noiseladder.networks import RecurrentNetwork, TransformerNetwork


def flops(network: torch.nn.Module, state: State, batch: int) -> int:
    tokens, levels, condition = draw(batch, 1)
    if network.reader.condition_size == 0:
        condition = None
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(tokens, levels[:1].expand(batch, -1), condition, state)
    total: int = counter.get_total_flops()
    return total


@every_causal
def test_a_token_costs_the_same_after_any_history(case: Case) -> None:
    network = case.build(cache=6) if "cache" in case.options or "heads" in case.options else case.build()
    costs, sizes = set(), set()
    with torch.no_grad():
        for history in (16, 300):
            state = network(*draw(2, history), network.initial_state(2))[1]
            costs.add(flops(network, state, 2))
            sizes.add(sum(tensor.numel() for tensor in tensors(state)))
    assert len(costs) == len(sizes) == 1


@pytest.mark.parametrize("layers", [1, 2, 4])
@pytest.mark.parametrize("batch", [1, 100])
def test_a_prepared_recurrent_network_multiplies_much_less(layers: int, batch: int) -> None:
    network = RecurrentNetwork(3, 128, layers).double()
    state = network.initial_state(batch)
    plain, prepared = (flops(network, s, batch) for s in (state, network.prepare(state)))
    assert plain > 1.4 * prepared


def test_many_sequences_at_one_level_cost_less_each() -> None:
    network = RecurrentNetwork(3, 64).double()
    one, many = (flops(network, network.prepare(network.initial_state(batch)), batch) for batch in (1, 1000))
    assert many < 0.5 * 1000 * one


def test_reading_a_long_sequence_costs_in_proportion_to_its_length() -> None:
    network = TransformerNetwork(3, 16, 2, heads=2, condition_size=2, cache=8).double()
    costs = []
    for length in (64, 128, 192):
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            network(*draw(1, length), network.initial_state(1))
        costs.append(counter.get_total_flops())
    assert costs[2] - costs[1] == costs[1] - costs[0]
