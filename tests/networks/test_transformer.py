"""Attention is what its definition says, computed token by token; the cache is bounded; the past can be kept whole."""

import math
from typing import Any

import pytest
import torch
from every_network import BIDIRECTIONAL, Case, draw, same, tensors
from torch import Tensor
from torch.nn import functional as F

from noiseladder.networks import CacheState, TransformerNetwork

BIG = Case("transformer", TransformerNetwork, {"width": 16, "layers": 2, "heads": 2})


def slowly(network: Any, tokens: Tensor, levels: Tensor, condition: Tensor) -> Tensor:
    """The definition: for each token a loop over what it sees, with distances instead of positions."""
    features, skip = network.reader(tokens, levels, condition).pair
    batch, length, width = features.shape
    size = width // network.heads
    rates = 10000.0 ** (-torch.arange(0, size, 2, dtype=torch.float64) / size)
    for layer in network.layers:
        query, key, value = layer.read(layer.norm(features)).unflatten(-1, (3, network.heads, size)).unbind(2)
        mixed = torch.zeros(batch, length, network.heads, size, dtype=torch.float64)
        for t in range(length):
            seen = [s for s in range(t + 1) if s == 0 or t - s < network.cache]
            scores = []
            for s in seen:
                angle = min(t - s, network.cache) * rates
                left, right = query[:, t, :, ::2], query[:, t, :, 1::2]
                # turning the query back by the distance is turning the key forth
                turned = torch.stack(
                    [
                        left * angle.cos() - right * angle.sin(),
                        right * angle.cos() + left * angle.sin(),
                    ],
                    dim=-1,
                ).flatten(-2)
                scores.append((turned * key[:, s]).sum(-1) / math.sqrt(size))
            weights = torch.stack(scores).softmax(0)
            mixed[:, t] = sum(w[..., None] * value[:, s] for w, s in zip(weights, seen, strict=True))
        features = features + layer.mix(mixed.flatten(2))
        features = features + layer.narrow(F.silu(layer.widen(layer.mlp_norm(features))))
    return network.write(network.norm(features)) + skip * tokens


@pytest.mark.parametrize("cache", [2, 3, 5, 8, 13, 40])
def test_attention_is_a_window_and_the_first_token_by_distance(cache: int) -> None:
    network = BIG.build(cache=cache)
    given = draw(2, 17)
    same(network(*given, network.initial_state(2))[0], slowly(network, *given))


def test_the_cache_is_bounded_and_keeps_the_first_token() -> None:
    network = BIG.build(cache=6)
    state = network(*draw(2, 1), network.initial_state(2))[1]
    first = state.keys[0][:, :, 0].clone()
    for step in range(30):
        state = network(*draw(2, 1 + step % 3, seed=step), state)[1]
        assert isinstance(state, CacheState)
        assert all(tensor.shape[2] <= 6 for tensor in tensors(state))
        assert torch.equal(state.keys[0][:, :, 0], first)
    assert all(tensor.shape[2] == 6 for tensor in tensors(state))


def test_numbers_stay_good_after_many_tokens() -> None:
    """In float32, after 8,000 tokens, a token is read as it is after 800: positions do not grow."""
    network = BIG.build(cache=8).float()
    tokens, levels, condition = (x.float() for x in draw(1, 8))
    repeat = (tokens.repeat(1, 100, 1), levels.repeat(1, 100), condition.repeat(1, 100, 1))
    with torch.no_grad():
        early, state = network(*repeat, network.initial_state(1))
        for _ in range(9):
            late, state = network(*repeat, state)
    torch.testing.assert_close(late[:, -8:], early[:, -8:], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("case", BIDIRECTIONAL, ids=lambda case: case.name)
def test_bidirectional_state_is_the_past_as_it_was_read(case: Case) -> None:
    network = case.build()
    assert not network.causal
    tokens, levels, condition = draw(2, 9)
    whole = network(tokens, levels, condition, network.initial_state(2))[0]
    state = network.initial_state(2)
    for piece in (slice(0, 2), slice(2, 5)):
        state = network(tokens[:, piece], levels[:, piece], condition[:, piece], state)[1]
    assert torch.equal(state.tokens, tokens[:, :5])
    assert torch.equal(state.levels, levels[:, :5])
    same(network(tokens[:, 5:], levels[:, 5:], condition[:, 5:], state)[0], whole[:, 5:])
    # every token counts for every other
    tokens[:, -1] += 1.0
    changed = network(tokens, levels, condition, network.initial_state(2))[0]
    assert (changed[:, 0] != whole[:, 0]).all()


def test_bidirectional_past_is_bounded() -> None:
    network = BIDIRECTIONAL[0].build(cache=4)
    tokens, levels, condition = draw(2, 9)
    state = network(tokens, levels, condition, network.initial_state(2))[1]
    assert torch.equal(state.tokens, tokens[:, [0, 6, 7, 8]])


def test_bidirectional_networks_have_no_queries() -> None:
    network = BIDIRECTIONAL[0].build()
    tokens, levels, condition = draw(2, 4)
    with pytest.raises(ValueError, match="two streams need causal=True"):
        network.query(tokens, levels, condition, network.initial_state(2), tokens, levels)


def test_sizes_that_heads_cannot_share_are_refused() -> None:
    with pytest.raises(ValueError, match="width is 18, expected a multiple of twice the number of heads, 8"):
        TransformerNetwork(3, width=18, heads=4)
    with pytest.raises(ValueError, match="cache is 1, expected at least 2"):
        TransformerNetwork(3, cache=1)
