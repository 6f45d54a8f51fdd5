"""What every network promises, whatever it learned: causality, states that can be carried and branched, no mixing."""

import math
from typing import Any

import pytest
import torch
from every_network import BIDIRECTIONAL, CAUSAL, CONDITION, TOKEN, Case, draw, every, every_causal, same, tensors
from hypothesis import given, settings, strategies as some
from torch import nn

from noiseladder.diffusion.batch import Batch
from noiseladder.diffusion.denoiser import Denoiser
from noiseladder.diffusion.noise import Cosine
from noiseladder.diffusion.objective import DiffusionForcing, clean_tokens


def read(network: Any, batch: int, length: int, seed: int = 1) -> torch.Tensor:
    tokens, levels, condition = draw(batch, length, seed)
    return network(tokens, levels, condition, network.initial_state(batch))[0]


@every_causal
def test_later_tokens_change_nothing_to_the_bit(case: Case) -> None:
    network = case.build()
    assert network.causal
    tokens, levels, condition = draw(2, 11)
    before = network(tokens, levels, condition, network.initial_state(2))[0]
    for t in range(10):
        changed = [tokens.clone(), levels.clone(), condition.clone()]
        for tensor in changed:
            tensor[:, t + 1 :] = torch.rand_like(tensor[:, t + 1 :])
        after = network(*changed, network.initial_state(2))[0]
        assert torch.equal(after[:, : t + 1], before[:, : t + 1])
        assert not torch.equal(after[:, t + 1], before[:, t + 1])


@every_causal
def test_gradients_flow_from_a_token_to_it_and_later_only(case: Case) -> None:
    network = case.build()
    tokens, levels, condition = draw(1, 8)
    tokens.requires_grad_()
    output = network(tokens, levels, condition, network.initial_state(1))[0]
    for t in range(8):
        (gradient,) = torch.autograd.grad(output[:, t].sum(), tokens, retain_graph=True)
        assert torch.count_nonzero(gradient[:, t + 1 :]) == 0
        assert torch.count_nonzero(gradient[:, t]) > 0
        assert torch.count_nonzero(gradient[:, 0]) > 0  # the first token is always in sight


@every_causal
@given(
    cuts=some.lists(some.integers(1, 12), min_size=1, max_size=12),
    prepared=some.booleans(),
    batch=some.sampled_from([1, 3]),
)
@settings(max_examples=8, deadline=None)
def test_state_carried_in_pieces_equals_reading_the_whole(
    case: Case, cuts: list[int], prepared: bool, batch: int
) -> None:
    network = case.build()
    length = sum(cuts)
    tokens, levels, condition = draw(batch, length)
    whole, end = network(tokens, levels, condition, network.initial_state(batch))
    prepare = getattr(network, "prepare", lambda state: state) if prepared else lambda state: state
    state, start, outputs = network.initial_state(batch), 0, []
    for size in cuts:
        piece = slice(start, start + size)
        output, state = network(tokens[:, piece], levels[:, piece], condition[:, piece], prepare(state))
        outputs.append(output)
        start += size
    same(torch.cat(outputs, dim=1), whole)
    for one, other in zip(tensors(state), tensors(end), strict=True):
        same(one, other)


@every
def test_sequences_of_a_batch_do_not_mix(case: Case) -> None:
    network = case.build()
    tokens, levels, condition = draw(4, 7)
    before = network(tokens, levels, condition, network.initial_state(4))[0]
    tokens[2], levels[2], condition[2] = torch.randn(7, TOKEN), torch.rand(7), torch.randn(7, CONDITION)
    after = network(tokens, levels, condition, network.initial_state(4))[0]
    others = [0, 1, 3]
    assert torch.equal(after[others], before[others])
    assert not torch.equal(after[2], before[2])
    alone = network(tokens[1:2], levels[1:2], condition[1:2], network.initial_state(1))[0]
    same(alone, after[1:2])


@every
def test_level_one_hides_a_token_to_the_bit(case: Case) -> None:
    denoiser = Denoiser(case.build(), Cosine())
    tokens, levels, condition = draw(2, 9)
    hidden = levels == 1
    assert hidden.any()
    before = denoiser(tokens, levels, condition)
    for anything in (math.nan, math.inf, 3.0):
        other = torch.where(hidden[..., None], anything, tokens)
        seen = ~hidden
        assert torch.equal(denoiser(other, levels, condition).clean[seen], before.clean[seen])
        # The clean guess of the hidden token itself is the network's alone: velocity at level 1 is minus clean.
        output = denoiser.network(torch.where(hidden[..., None], 0.0, other), levels, condition, _start(denoiser, 2))
        assert torch.isfinite(output[0]).all()
        state, again = (denoiser.observe(x, condition, level=levels) for x in (tokens, other))
        for one, two in zip(tensors(state), tensors(again), strict=True):
            assert torch.equal(one, two)


@every
def test_what_padding_holds_never_changes_outputs(case: Case) -> None:
    denoiser = Denoiser(case.build(), Cosine())
    tokens, levels, condition = draw(2, 9)
    levels[:, 6:] = 1.0
    before = denoiser(tokens, levels, condition).clean[:, :6]
    tokens[:, 6:] = math.nan
    assert torch.equal(denoiser(tokens, levels, condition).clean[:, :6], before)
    if denoiser.causal:  # nor whether it is there at all
        same(denoiser(tokens[:, :6], levels[:, :6], condition[:, :6]).clean, before)


@every
def test_a_state_is_never_changed_and_can_be_branched(case: Case) -> None:
    network = case.build()
    tokens, levels, condition = draw(3, 6)
    state = network(tokens, levels, condition, network.initial_state(3))[1]
    kept = [tensor.clone() for tensor in tensors(state)]
    more, more_levels, more_condition = draw(3, 4, seed=2)
    output = network(more, more_levels, more_condition, state)[0]
    if hasattr(network, "prepare"):
        network.prepare(state)
        network(more, more_levels, more_condition, network.prepare(state))
    for tensor, copy in zip(tensors(state), kept, strict=True):
        assert torch.equal(tensor, copy)
    index = torch.tensor([2, 0, 0, 2, 1])
    for branch in (state[index], network.prepare(state)[index] if hasattr(network, "prepare") else state[index]):
        branched = network(more[index], more_levels[index], more_condition[index], branch)[0]
        same(branched, output[index])


@pytest.mark.parametrize("case", [c for c in CAUSAL if "min" not in c.name], ids=lambda case: case.name)
@pytest.mark.parametrize("length", [1, 3])
def test_prepare_does_work_early_and_changes_nothing(case: Case, length: int) -> None:
    network = case.build()
    state = network(*draw(2, 7), network.initial_state(2))[1]
    prepared = network.prepare(state)
    assert len(tensors(prepared)) > len(tensors(state))
    assert network.prepare(prepared) is prepared
    given = draw(2, length, seed=3)
    (plain, after), (fast, after_fast) = network(*given, state), network(*given, prepared)
    same(fast, plain, 1e-13)
    for one, other in zip(tensors(after), tensors(after_fast), strict=True):  # what was prepared is used up
        same(one, other, 1e-13)


@every_causal
@pytest.mark.parametrize("known", [0, 3, 9])
@pytest.mark.parametrize("prepared", [False, True])
def test_a_query_reads_the_state_before_its_token(case: Case, known: int, prepared: bool) -> None:
    network = case.build()
    state = network.initial_state(2)
    if known:
        state = network(*draw(2, known, seed=5), state)[1]
    if prepared and hasattr(network, "prepare"):
        state = network.prepare(state)
    tokens, levels, condition = draw(2, 10)
    asked, asked_levels, _ = draw(2, 10, seed=7)
    output, answer = network.query(tokens, levels, condition, state, asked, asked_levels)
    same(output, network(tokens, levels, condition, state)[0])
    for t in range(10):
        now = slice(t, t + 1)
        slow, _ = network(asked[:, now], asked_levels[:, now], condition[:, now], state)
        same(answer[:, now], slow)
        _, state = network(tokens[:, now], levels[:, now], condition[:, now], state)


@every
def test_parts_of_a_token_have_levels_of_their_own(case: Case) -> None:
    network = case.build(parts=(1, 2))
    tokens, levels, condition = draw(2, 6)
    start = network.initial_state(2)
    by_part = levels[..., None].expand(-1, -1, TOKEN).clone()
    together = network(tokens, levels, condition, start)[0]
    same(network(tokens, by_part, condition, start)[0], together)
    by_part[:, 4, 1:] = 0.37
    apart = network(tokens, by_part, condition, start)[0]
    assert (apart - together)[:, 4].abs().min() > 1e-6
    if network.causal:
        assert torch.equal(apart[:, :4], network(tokens, by_part * 1.0, condition, start)[0][:, :4])
    by_part[:, 2, 1] = 0.9
    with pytest.raises(ValueError, match=r"levels differ within a part.*\(1, 2\)"):
        network(tokens, by_part, condition, start)


@every
def test_pieces_with_levels_by_part_equal_the_whole(case: Case) -> None:
    network = case.build(parts=(2, 1))
    tokens, levels, condition = draw(2, 8)
    by_part = torch.stack([levels, levels, levels.flip(1)], dim=-1)
    whole = network(tokens, by_part, condition, network.initial_state(2))[0]
    _, state = network(tokens[:, :3], by_part[:, :3], condition[:, :3], network.initial_state(2))
    rest = network(tokens[:, 3:], by_part[:, 3:], condition[:, 3:], state)[0]
    same(rest, whole[:, 3:])


@every
def test_levels_expanded_over_the_batch_are_embedded_once_and_mean_the_same(case: Case) -> None:
    network = case.build()
    tokens, levels, condition = draw(3, 5)
    expanded = levels[:1].expand(3, -1)
    assert network.reader.embed(expanded).shape[0] == 1
    start = network.initial_state(3)
    same(network(tokens, expanded, condition, start)[0], network(tokens, expanded.clone(), condition, start)[0])


@every
def test_many_sequences_at_one_level_are_read_as_each_alone(case: Case) -> None:
    """Where all sequences share a level the recurrent network multiplies its weights instead of its features."""
    network = case.build()
    tokens, levels, condition = draw(40, 3)
    start = network(tokens[:, :2], levels[:, :2], condition[:, :2], network.initial_state(40))[1]
    one, given = levels[:1, 2:].expand(40, -1), (tokens[:, 2:], condition[:, 2:])
    together = network(given[0], one, given[1], start)
    apart = network(given[0], one.clone(), given[1], start)
    same(together[0], apart[0])
    for fast, slow in zip(tensors(together[1]), tensors(apart[1]), strict=True):
        same(fast, slow)


@every
def test_building_twice_gives_the_same_weights_and_the_same_loss(case: Case) -> None:
    options = {"token_size": TOKEN, "condition_size": CONDITION, **case.options}
    kept = dict(options)
    losses, weights = [], []
    for _ in range(2):
        torch.manual_seed(3)
        network = case.make(**options)
        denoiser = Denoiser(network, Cosine())
        batch = Batch(torch.randn(4, 6, TOKEN), torch.randn(4, 6, CONDITION))
        losses.append(DiffusionForcing()(denoiser, batch, torch.Generator().manual_seed(0)).item())
        weights.append(network.state_dict())
    assert options == kept
    assert losses[0] == losses[1]
    assert weights[0].keys() == weights[1].keys()
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


@pytest.mark.parametrize("case", [c for c in CAUSAL if "transformer" not in c.name], ids=lambda case: case.name)
def test_the_initial_state_is_one_and_the_same_in_training_and_in_use(case: Case) -> None:
    network = case.build()
    denoiser = Denoiser(network, Cosine())
    tokens, levels, condition = draw(2, 5)
    loss = DiffusionForcing()(denoiser, Batch(tokens, condition), torch.Generator().manual_seed(0))
    loss.backward()
    learned = case.options.get("learned_start", True)
    assert network.start.requires_grad == learned
    if learned:
        assert (network.start.grad.abs() > 0).all()
    used = denoiser(tokens, levels, condition).clean
    with torch.no_grad():
        network.start += 1.0
    changed = denoiser(tokens, levels, condition).clean != used
    assert torch.equal(changed, (levels > 0)[..., None].expand_as(changed))  # a clean token is its own clean guess


@every
def test_bfloat16_autocast_stays_near_float32_and_keeps_the_state_in_float32(case: Case) -> None:
    network = case.build().float()
    tokens, levels, condition = (x.float() for x in draw(2, 9))
    exact, end = network(tokens, levels, condition, network.initial_state(2))
    with torch.autocast("cpu", torch.bfloat16):
        rough, rough_end = network(tokens, levels, condition, network.initial_state(2))
        single, _ = network(tokens[:, :1], levels[:, :1], condition[:, :1], rough_end)
    assert torch.isfinite(single).all()
    assert (rough - exact).std() < 0.05 * exact.std()
    for one, other in zip(tensors(rough_end), tensors(end), strict=True):
        assert one.dtype == other.dtype == torch.float32
    with torch.autocast("cpu", torch.bfloat16):
        network(tokens, levels, condition, network.initial_state(2))[0].float().square().mean().backward()
    unused = {"start"} if not case.options.get("learned_start", True) else set()
    for name, parameter in network.named_parameters():
        assert name in unused or torch.isfinite(parameter.grad).all(), name


@every
def test_float32_agrees_with_float64(case: Case) -> None:
    network = case.build()
    precise = read(network, 2, 9)
    tokens, levels, condition = (x.float() for x in draw(2, 9))
    network = network.float()
    output, state = network(tokens, levels, condition, network.initial_state(2))
    assert output.dtype == torch.float32
    assert all(tensor.dtype == torch.float32 for tensor in tensors(state))
    torch.testing.assert_close(output.double(), precise, rtol=1e-3, atol=1e-3 * precise.std().item())


@every
@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda x, k, c: (x[..., :2], k, c), r"tokens have shape \(2, 6, 2\), expected \(B, T, 3\)"),
        (lambda x, k, c: (x[0], k, c), r"tokens have shape \(6, 3\), expected \(B, T, 3\)"),
        (lambda x, k, c: (x[:, :0], k[:, :0], c[:, :0]), r"tokens have shape \(2, 0, 3\).*T at least 1"),
        (lambda x, k, c: (x.float(), k, c), r"tokens are torch.float32, expected torch.float64"),
        (lambda x, k, c: (x, k[:, :4], c), r"levels have shape \(2, 4\), expected \(2, 6\)"),
        (lambda x, k, c: (x, k[..., None].expand_as(x), c), r"levels have shape \(2, 6, 3\).*parts="),
        (lambda x, k, c: (x, k.long(), c), r"levels are torch.int64, expected floats"),
        (lambda x, k, c: (x, k, None), r"no condition was given, expected \(B, T, 2\)"),
        (lambda x, k, c: (x, k, c[:, :3]), r"condition of shape \(2, 3, 2\) was given, expected \(B, T, 2\)"),
        (lambda x, k, c: (x[:1], k[:1], c[:1]), r"the state holds 2 sequences and the tokens 1"),
    ],
)
def test_what_does_not_fit_gets_one_sentence(case: Case, change: Any, sentence: str) -> None:
    network = case.build()
    with pytest.raises(ValueError, match=sentence):
        network(*change(*draw(2, 6)), network.initial_state(2))


@every
def test_a_condition_for_a_network_without_conditions_is_refused(case: Case) -> None:
    network = case.build(condition_size=0)
    tokens, levels, condition = draw(2, 6)
    network(tokens, levels, None, network.initial_state(2))
    with pytest.raises(ValueError, match="expected none: this network was built with condition_size=0"):
        network(tokens, levels, condition, network.initial_state(2))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"parts": (1, 1)}, r"parts are \(1, 1\), which sum to 2"),
        ({"parts": (4, -1)}, r"parts are \(4, -1\)"),
        ({"token_size": 0}, "token_size is 0"),
        ({"width": 0}, "width is 0"),
        ({"condition_size": -1}, "condition_size is -1"),
    ],
)
@every
def test_impossible_sizes_are_refused(case: Case, options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        case.build(**options)


COUNTED = {
    "convolutional": ("channels", "halvings"),
    "gru": ("layers", "blocks"),
    "min-gru": ("layers", "expansion"),
    "split": ("layers", "blocks", "expansion", "head_expansion"),
    "spatial": ("layers", "blocks", "expansion", "head_expansion"),
    "transformer": ("layers", "heads", "expansion"),
}


@pytest.mark.parametrize(
    ("case", "counted"), [(case, counted) for case in CAUSAL for counted in COUNTED.get(case.name, ())]
)
def test_a_network_of_too_few_parts_is_refused(case: Case, counted: str) -> None:
    least = 0 if counted in ("blocks", "halvings") else 1
    with pytest.raises(ValueError, match=f"{counted} is {least - 1}, expected at least {least}"):
        case.build(**{counted: least - 1})


@pytest.mark.parametrize(
    "case",
    [case for case in CAUSAL + BIDIRECTIONAL if case.name in {"gru", "min-gru", "transformer", "bidirectional"}],
    ids=lambda case: case.name,
)
def test_a_little_training_comes_near_what_can_be_known_and_never_below(case: Case) -> None:
    """Sequences of one repeated value: without memory the best velocity loss is 1, with it the floor is known."""
    torch.manual_seed(0)
    network = case.make(**{"token_size": 1, **case.options, "width": 32})
    denoiser = Denoiser(network, Cosine())
    optimizer = torch.optim.AdamW(denoiser.parameters(), lr=5e-3)
    generator = torch.Generator().manual_seed(0)
    objective = DiffusionForcing()

    def repeated(sequences: int) -> Batch:
        return Batch(torch.randn(sequences, 1, 1, generator=generator).expand(-1, 8, -1))

    def floor(levels: torch.Tensor) -> float:
        """Mean of (variance of the value given what was seen) / sigma^2, the best velocity error."""
        snr, sigma = Cosine().snr(levels), Cosine().sigma(levels)
        seen = snr.cumsum(1) if network.causal else snr.sum(1, keepdim=True)
        return (1 / (1 + seen) / sigma**2).mean().item()

    held_out, draws = repeated(4096), torch.Generator().manual_seed(1)
    best = floor(objective.draw(denoiser, *clean_tokens(held_out), objective.draw_levels, draws)[0].double())

    def loss_now() -> float:
        with torch.no_grad():
            return objective(denoiser, held_out, torch.Generator().manual_seed(1)).item()

    assert 0.95 < loss_now() < 1.05  # a silent network explains nothing of a velocity with unit variance
    for _ in range(150):
        optimizer.zero_grad()
        objective(denoiser, repeated(64), generator).backward()
        nn.utils.clip_grad_norm_(denoiser.parameters(), 1.0)
        optimizer.step()
    assert best - 0.03 < loss_now() < best + 0.3 * (1 - best)


def _start(denoiser: Denoiser, batch: int) -> Any:
    return denoiser.initial_state(batch)
