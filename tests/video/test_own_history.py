"""Learning from own dreams: what is remembered is what would be dreamt, what is asked for stays the truth."""

from typing import Any

import pytest
import torch
from torch import Generator, Tensor, nn

from noiseladder.diffusion.batch import Batch
from noiseladder.diffusion.denoiser import Denoiser
from noiseladder.diffusion.noise import Cosine
from noiseladder.diffusion.objective import DiffusionForcing
from noiseladder.diffusion.training_levels import Constant, clean, independent
from noiseladder.networks import SplitNetwork
from noiseladder.training.validation import at_level
from noiseladder.video.own_history import OwnHistory, dreamt_history
from noiseladder.video.remembered import DimMemory, OftenUnseen


def denoiser(seed: int = 0, trained: bool = False) -> Denoiser:
    torch.manual_seed(seed)
    network = SplitNetwork(3, 16, 1, 1, 2).double()
    if not trained:
        for parameter in network.parameters():
            nn.init.normal_(parameter, std=0.3)
    return Denoiser(network, Cosine())


def batch(sequences: int = 8, length: int = 6) -> Batch:
    generator = Generator().manual_seed(2)
    return Batch(
        torch.randn(sequences, length, 3, generator=generator, dtype=torch.float64),
        torch.randn(sequences, length, 2, generator=generator, dtype=torch.float64),
    )


def test_without_dreams_it_is_diffusion_forcing_with_two_streams() -> None:
    forcing = DiffusionForcing(independent, query_levels=OftenUnseen(), query_share=1.0)
    one = forcing(denoiser(), batch(), Generator().manual_seed(4))
    other = OwnHistory(0.0, independent)(denoiser(), batch(), Generator().manual_seed(4))
    torch.testing.assert_close(one, other, rtol=1e-12, atol=0)


def test_validation_asks_at_one_level_after_a_clean_history() -> None:
    asked = at_level(OwnHistory(0.5), 0.8)
    expected = DiffusionForcing(clean, query_levels=Constant(0.8), query_share=1.0)
    one, other = (f(denoiser(), batch(), Generator().manual_seed(4)) for f in (asked, expected))
    assert torch.equal(one, other)


def test_losses_of_parts_add_up_and_a_seed_repeats() -> None:
    objective, given = OwnHistory(0.5), batch()

    def loss(part: slice) -> float:
        return objective(denoiser(), given, Generator().manual_seed(5), part).item()

    assert loss(slice(0, 3)) + loss(slice(3, 8)) == pytest.approx(loss(slice(0, 8)), rel=1e-9)
    assert loss(slice(0, 8)) != pytest.approx(OwnHistory(0.0)(denoiser(), given, Generator().manual_seed(5)).item())


def test_a_dreamt_history_is_what_one_step_dreams_remember() -> None:
    model, given = denoiser(), batch(3, 5)
    assert given.condition is not None
    dreams = torch.tensor([False, True, True])
    levels, blur = torch.full((3, 5), 0.2, dtype=torch.float64), torch.randn(3, 5, 3, dtype=torch.float64)
    first = 2
    history = dreamt_history(model, given.tokens, levels, blur, given.condition, dreams, first)
    assert torch.equal(history[0], given.tokens[0])
    assert torch.equal(history[:, :first], given.tokens[:, :first])
    assert not history.requires_grad
    for number in (1, 2):
        one = slice(number, number + 1)
        led = given.condition[one]
        state = model.observe(given.tokens[one, :first], led[:, :first], None, 0.2, blur[one, :first])
        for t in range(first, 5):
            now = slice(t, t + 1)
            unseen = torch.zeros(1, 1, 3, dtype=torch.float64)
            guess = model(unseen, torch.ones(1, 1, dtype=torch.float64), led[:, now], state).clean
            torch.testing.assert_close(history[one, now], guess)
            state = model.observe(guess, led[:, now], state, 0.2, blur[one, now])
    nothing = torch.zeros_like(dreams)
    assert dreamt_history(model, given.tokens, levels, blur, given.condition, nothing, first) is given.tokens
    assert dreamt_history(model, given.tokens, levels, blur, given.condition, dreams, 5) is given.tokens


def test_dreams_carry_no_gradient_but_the_question_does() -> None:
    model = denoiser()
    OwnHistory(1.0)(model, batch(), Generator().manual_seed(1)).backward()
    gradients = [parameter.grad for parameter in model.parameters()]
    assert all(gradient is not None and bool(gradient.isfinite().all()) for gradient in gradients)


def test_so_many_sequences_are_dreamt_as_the_share_says(monkeypatch: pytest.MonkeyPatch) -> None:
    shares = []

    def dreamt(*arguments: Any) -> Tensor:
        shares.append(arguments[5].double().mean().item())
        return arguments[1]

    monkeypatch.setattr("noiseladder.video.own_history.dreamt_history", dreamt)
    for share in (0.2, 1.0):
        OwnHistory(share)(denoiser(), batch(2000, 2), Generator().manual_seed(3))
    assert shares == pytest.approx([0.2, 1.0], abs=0.03)


def test_levels_of_memory_and_of_questions() -> None:
    levels = DimMemory(0.5, 0.3, 0.2)(4000, 6, Generator().manual_seed(0))
    clear, dim = (levels == 0).all(1), (levels.amax(1) <= 0.2)
    assert clear.double().mean().item() == pytest.approx(0.5, abs=0.03)
    assert dim.double().mean().item() == pytest.approx(0.8, abs=0.03)
    assert levels[~dim].max() > 0.9
    asked = OftenUnseen(0.25)(2000, 6, Generator().manual_seed(0))
    assert (asked == 1).double().mean().item() == pytest.approx(0.25, abs=0.02)
    assert 0 <= asked.min() < 0.01
    with pytest.raises(ValueError, match=r"share is 1\.5"):
        OwnHistory(1.5)
    for shares in ((2.0, -0.6), (-0.1, 0.5), (0.6, 0.5), (float("nan"), 0.5)):
        with pytest.raises(ValueError, match=r"expected shares that are at most 1 together"):
            DimMemory(*shares)
    assert DimMemory(0.9, (1 - 0.9) * 2 / 3).dim > 0
    assert DimMemory(0.7, 1 - 0.7).dim > 0
    with pytest.raises(ValueError, match=r"dimmest is 1\.5, expected a level"):
        DimMemory(dimmest=1.5)
    with pytest.raises(ValueError, match=r"dark is 2, expected a share of the sequences"):
        DimMemory(dark=2)
    with pytest.raises(ValueError, match=r"unseen is 2, expected a share of the tokens"):
        OftenUnseen(2)


def test_in_the_dark_nothing_is_seen_for_one_stretch() -> None:
    seen = DimMemory(0.5, 0.3, 0.2)(4000, 30, Generator().manual_seed(0))
    partly = DimMemory(0.5, 0.3, 0.2, dark=0.4)(4000, 30, Generator().manual_seed(0))
    hidden = (partly == 1) & (seen < 1)
    assert hidden.any(1).double().mean().item() == pytest.approx(0.4, abs=0.04)
    assert torch.equal(partly[~hidden], seen[~hidden])
    edges = hidden.int().diff(dim=1).abs().sum(1) + hidden[:, 0] + hidden[:, -1]
    assert set(edges[hidden.any(1)].tolist()) == {2}, "one beginning and one end"
    lengths = hidden.sum(1)[hidden.any(1)]
    assert lengths.min() == 1
    assert lengths.max() > 25
