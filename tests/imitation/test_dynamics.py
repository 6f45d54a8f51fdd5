"""What is foreseen follows from deeds, and deeds from what was seen after them."""

import pytest
import torch

from noiseladder.diffusion.denoiser import Denoiser
from noiseladder.diffusion.noise import Cosine
from noiseladder.imitation import dynamics
from noiseladder.imitation.dynamics import foresee, infer_actions, kalman_update
from noiseladder.imitation.policy import Policy
from noiseladder.imitation.policy_knowledge import PolicyKnowledge
from noiseladder.imitation.policy_tokens import PolicyTokens
from noiseladder.networks import MinGRUNetwork

CHUNK = 3


def policy(waypoint=False, **options):
    """One of random weights that looks through no eye: what it senses is given."""
    size = 21 + 2 * waypoint
    tokens = PolicyTokens(
        ("front", "side", "state"), (5, 5, 4), CHUNK, 2, torch.zeros(size), torch.full((size,), 0.5), 2, waypoint
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = MinGRUNetwork(tokens.size, 32, 2, condition_size=1, parts=tokens.parts)
        for parameter in network.parameters():  # output weights begin at zero, where nothing depends on anything
            torch.nn.init.normal_(parameter, std=0.2)
    return Policy(Denoiser(network, Cosine()).eval(), PolicyKnowledge(tokens, {}), steps=3, **options)


def look(seed):
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(1, size, generator=generator) for name, size in (("front", 5), ("side", 5), ("state", 4))}


def test_the_kalman_update_of_a_gaussian_is_exact():
    """x of mean 1 and variance 4, y = 3 x and noise of variance 1; given y = 9: mean 1 + 12 (9 - 3) / 37, 4 / 37."""
    generator = torch.Generator().manual_seed(0)
    unknown = 1 + 2 * torch.randn(200_000, 1, generator=generator)
    found = kalman_update(unknown, 3 * unknown, torch.tensor([[9.0]]), 1.0, generator)
    assert found.mean().item() == pytest.approx(1 + 12 * 6 / 37, abs=0.005)
    assert found.var().item() == pytest.approx(4 / 37, rel=0.03)


def test_what_is_foreseen_is_what_is_imagined_after_the_same_deeds():
    """The look that `imagine` makes up after its own deeds is the one foreseen when they are given."""
    who = policy()
    who.act_on(look(5))
    before, seen = who.state, look(0)
    actions = torch.randn(1, CHUNK, 2, generator=torch.Generator().manual_seed(1))
    told = foresee(who, seen, actions)
    assert who.state is before
    who.watch(seen, actions)
    dreamt = who.imagine(1, steps=1)
    for name, values in told.items():
        torch.testing.assert_close(values, dreamt.seen[name][:, 0], atol=1e-5, rtol=1e-5)


def test_other_deeds_are_foreseen_to_lead_elsewhere():
    who = policy()
    before, _ = look(0), look(1)
    rest, moved = (foresee(who, before, torch.full((1, CHUNK, 2), value)) for value in (0.0, 2.0))
    assert max((rest[name] - moved[name]).abs().max() for name in rest) > 1e-3


def test_deeds_that_are_inferred_foretell_the_look_better_than_those_expected(monkeypatch):
    monkeypatch.setattr(dynamics, "SENSES_APART", 1e-5)  # random weights hardly see what is done
    who = policy()
    before, _ = look(0), look(1)
    done = infer_actions(who, before, before, samples=8, seed=3).actions[:1]  # as likely as others
    after = foresee(who, before, done)
    found = infer_actions(who, before, after, samples=256)
    again = infer_actions(who, before, after, samples=256)
    assert torch.equal(found.actions, again.actions)
    assert found.actions.shape == (256, CHUNK, 2)

    def off(actions):
        told = foresee(who, before, actions[None])
        return sum((told[name] - after[name]).square().sum().item() for name in told)

    assert off(found.mean) < 0.7 * off(found.expected)


def test_a_sense_that_is_missing_afterwards_does_not_count(monkeypatch):
    who = policy()
    used = []

    def spy(unknown, foreseen, seen, *others):
        used.append((foreseen.shape[1], seen))
        return kalman_update(unknown, foreseen, seen, *others)

    monkeypatch.setattr(dynamics, "kalman_update", spy)
    after = look(1)
    infer_actions(who, look(0), {**after, "front": None}, samples=16)
    size, seen = used[0]
    assert size == 9  # side and state
    torch.testing.assert_close(seen, torch.cat([after["side"], after["state"]], dim=1) / 0.5)


@pytest.mark.parametrize("options", [{"eta": 1.0}, {"temperature": 0.5}])
def test_deeds_are_inferred_as_the_policy_draws_them(options):
    who = policy(**options)
    assert bool(torch.isfinite(infer_actions(who, look(0), look(1), samples=8).actions).all())
    still = policy(temperature=0.0)
    assert infer_actions(still, look(0), look(0), samples=4, steps=1).expected.shape == (CHUNK, 2)


def test_a_sense_that_nobody_has_is_refused():
    with pytest.raises(ValueError, match="no sense 'frnt' to see with: expected some of front, side, state"):
        foresee(policy(), {"frnt": torch.zeros(1, 5), "state": torch.zeros(1, 4)}, torch.zeros(1, CHUNK, 2))
    who = policy()
    with pytest.raises(ValueError, match="the actions hold NaN"):
        who.watch(look(0), torch.full((1, CHUNK, 2), torch.nan))
    assert not who.past


@pytest.mark.parametrize("options", [{"samples": 1}, {"steps": 0}])
def test_too_few_samples_are_refused(options):
    who = policy()
    before, after = look(0), look(1)
    with pytest.raises(ValueError, match="expected 1 episode, at least 2 samples and 1 step"):
        infer_actions(who, before, after, **options)


def test_actions_of_another_shape_are_refused():
    who = policy()
    before, _ = look(0), look(1)
    with pytest.raises(ValueError, match=r"actions have shape \(1, 4, 2\), expected \(1, 3, 2\)"):
        foresee(who, before, torch.zeros(1, 4, 2))
    with pytest.raises(ValueError, match=r"actions have shape"):
        who.watch(before, torch.zeros(1, CHUNK, 3))


def test_a_forward_model_does_not_know_where_the_deeds_were_to_lead():
    """The waypoint of what was done is not known: whatever stands in its place changes nothing."""
    who, levels = policy(waypoint=True), []
    observe = who.denoiser.observe
    who.denoiser.observe = lambda token, begins, state, level: (
        levels.append(level) or observe(token, begins, state, level)
    )
    before = {"front": torch.zeros(1, 5), "side": torch.zeros(1, 5), "state": torch.zeros(1, 4)}
    foresee(who, before, torch.zeros(1, CHUNK, 2))
    assert levels[0][..., -2:].min() == 1
    assert levels[0][..., :-2].max() == 0
    found = infer_actions(who, before, before, samples=4)
    assert found.actions.shape == (4, CHUNK, 2)
