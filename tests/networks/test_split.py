"""The halves of the split network are its whole, and sampling steps run the light half alone."""

from dataclasses import replace

import pytest
import torch
from every_network import CONDITION, TOKEN, draw, same, tensors
from torch import Tensor

from noiseladder.diffusion.denoiser import Denoiser
from noiseladder.diffusion.noise import Cosine
from noiseladder.diffusion.sampling import final, sample
from noiseladder.diffusion.scheduling_matrix import autoregressive, full_sequence, pyramid
from noiseladder.networks import SplitNetwork, SplitState
from noiseladder.networks.halves import FirstToken


def network(seed: int = 0) -> SplitNetwork:
    torch.manual_seed(seed)
    made = SplitNetwork(TOKEN, 16, 2, 2, CONDITION).double()
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return made


@pytest.mark.parametrize("length", [1, 2, 7])
@pytest.mark.parametrize("prepared", [False, True])
def test_looking_and_reading_are_the_halves_of_a_call(length: int, prepared: bool) -> None:
    split = network()
    state = split(*draw(2, 5), split.initial_state(2))[1]
    given = draw(2, length, seed=4)
    output, after = split(*given, state)
    held = split.prepare(state) if prepared else state
    same(split.look(*given, held), output)
    for one, other in zip(tensors(split.read(*given, held)), tensors(after), strict=True):
        same(one, other)


class Whole(torch.nn.Module):
    """The same network without its halves, as any other is called."""

    causal = True

    def __init__(self, split: SplitNetwork) -> None:
        super().__init__()
        self.split = split
        self.initial_state = split.initial_state

    def forward(self, *given: Tensor) -> tuple[Tensor, object]:
        return self.split(*given)


@pytest.mark.parametrize("matrix", [full_sequence(4, 3), autoregressive(4, 3), pyramid(4, 3, 1)], ids=str)
def test_a_sampler_that_uses_the_halves_draws_what_one_that_does_not_draws(matrix: Tensor) -> None:
    split = network()
    noise, _, condition = draw(3, 4)
    halves, whole = Denoiser(split, Cosine()), Denoiser(Whole(split), Cosine())  # type: ignore[arg-type]
    state = halves.observe(*(draw(3, 6)[i] for i in (0, 2)))
    for one, other in zip(tensors(state), tensors(whole.observe(*(draw(3, 6)[i] for i in (0, 2)))), strict=True):
        same(one, other)
    same(final(sample(halves, noise, matrix, condition, state)), final(sample(whole, noise, matrix, condition, state)))


def test_a_frame_costs_one_memory_and_as_many_heads_as_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    split, calls = network(), {"memory": 0, "head": 0, "past": 0}
    memory = split.memorize

    def counted(*given: Tensor) -> object:
        calls["memory"] += 1
        return memory(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(split, "memorize", counted)
    split.head.register_forward_hook(lambda *_: calls.__setitem__("head", calls["head"] + 1))
    split.head.past.register_forward_hook(lambda *_: calls.__setitem__("past", calls["past"] + 1))
    denoiser = Denoiser(split, Cosine())
    noise, _, condition = draw(1, 1)
    token = final(sample(denoiser, noise, full_sequence(1, 5), condition))
    assert calls == {"memory": 0, "head": 5, "past": 1}
    denoiser.observe(token, condition)
    assert calls == {"memory": 1, "head": 5, "past": 1}


def test_the_token_in_question_reaches_the_output_through_the_head_alone() -> None:
    """What the memory makes of token t is first seen at t + 1."""
    split = network()
    given = draw(1, 6)
    before = split(*given, split.initial_state(1))[0]
    with torch.no_grad():
        split.reader.read.weight += 1.0
    after = split(*given, split.initial_state(1))[0]
    assert torch.equal(after[:, 0], before[:, 0])
    assert not torch.equal(after[:, 1], before[:, 1])


def test_the_action_decides_how_the_past_is_used() -> None:
    """Its effect depends on the state: it is no mere shift of the output."""
    split = network()
    tokens, levels, _ = draw(2, 1)
    state = split(*draw(2, 5), split.initial_state(2))[1]

    def answer(action: int, held: object) -> Tensor:
        condition = torch.zeros(2, 1, CONDITION).double()
        condition[..., action] = 1
        return split.look(tokens[:1].expand(2, -1, -1), levels[:1].expand(2, -1), condition, held)  # type: ignore[arg-type]

    difference = answer(0, state) - answer(1, state)
    assert (difference[0] - difference[1]).abs().max() > 1e-3


def keeping() -> SplitNetwork:
    torch.manual_seed(0)
    return SplitNetwork(TOKEN, 16, 2, 2, CONDITION, keep_first=True).double()


def test_a_kept_first_token_begins_by_adding_nothing() -> None:
    """The same seed gives the same weights and outputs as without it, and a gradient to learn from."""
    torch.manual_seed(0)
    without, split = SplitNetwork(TOKEN, 16, 2, 2, CONDITION).double(), keeping()
    mine = split.state_dict()
    for name, value in without.state_dict().items():
        assert torch.equal(mine.pop(name), value)
    assert mine.keys() == {"keep.weight"}
    for each in (without, split):
        torch.nn.init.normal_(each.head.write.weight, generator=torch.Generator().manual_seed(1))
    given = draw(2, 6)
    output = split(*given, split.initial_state(2))[0]
    assert torch.equal(output, without(*given, without.initial_state(2))[0])
    output.square().mean().backward()
    assert split.keep is not None
    assert split.keep.weight.grad is not None
    assert split.keep.weight.grad.abs().max() > 0


def lively() -> SplitNetwork:
    split = keeping()
    for parameter in split.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return split


def test_the_first_token_stays_as_it_was_read_and_is_told_at_every_later_one() -> None:
    split = lively()
    tokens, levels, condition = draw(3, 40)
    state = split.read(tokens, levels, condition, split.initial_state(3))
    assert state.first is not None
    assert torch.equal(state.first.features, split.reader(tokens, levels, condition).features[:, 0])
    given = draw(3, 8, seed=4)
    before = split(*given, state)[0]
    features = state.first.features.clone()
    features[1] += 1.0  # of the second sequence alone, and nothing else of its state
    after = split(*given, replace(state, first=replace(state.first, features=features)))[0]
    assert torch.equal(before[[0, 2]], after[[0, 2]])
    assert (before - after)[1, 1:].abs().amax(-1).min() > 1e-3


def test_sequences_that_have_and_have_not_begun_may_lie_in_one_state() -> None:
    split = lively()
    begun = split.read(*draw(1, 3), split.initial_state(1))
    both = [torch.cat(pair) for pair in zip(tensors(begun), tensors(split.initial_state(1)), strict=True)]
    mixed = SplitState(both[0], both[1], first=FirstToken(both[2], both[3]))
    given = draw(2, 4, seed=5)
    together = split(*given, mixed)[0]
    for place, state in enumerate((begun, split.initial_state(1))):
        same(together[place : place + 1], split(*(part[place : place + 1] for part in given), state)[0])
