import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from noiseladder.diffusion.denoiser import Denoiser
from noiseladder.diffusion.noise import Cosine
from noiseladder.imitation import Observation
from noiseladder.imitation.eye import Eye
from noiseladder.imitation.policy import Policy
from noiseladder.imitation.policy_knowledge import PolicyKnowledge
from noiseladder.imitation.policy_tokens import PolicyTokens
from noiseladder.networks import MinGRUNetwork, TransformerNetwork

SIZE, CHUNK = 8, 3


def knowledge():
    generator = torch.Generator().manual_seed(0)
    eyes = {camera: Eye(torch.rand(4, 3, generator=generator), 2, (SIZE, SIZE)) for camera in ("front", "side")}
    tokens = PolicyTokens(("front", "side", "state"), (10, 10, 4), CHUNK, 2, torch.zeros(31), torch.full((31,), 0.5))
    return PolicyKnowledge(tokens, eyes)


def policy(kind=TransformerNetwork, **options):
    known = knowledge()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = kind(known.tokens.size, 32, 2, condition_size=1, parts=known.tokens.parts)
        for parameter in network.parameters():  # output weights begin at zero, where nothing depends on anything
            torch.nn.init.normal_(parameter, std=0.2)
    return Policy(Denoiser(network, Cosine()).eval(), known, steps=3, **options)


def observation(seed):
    random = np.random.default_rng(seed)
    pictures = {camera: random.integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8) for camera in ("front", "side")}
    return Observation(pictures, random.normal(size=4).astype(np.float32))


def replaced(seen, **pictures):
    return Observation({**seen.pictures, **pictures}, seen.state)


def test_it_acts_in_chunks_and_repeats_itself_from_its_seed():
    first, second, other = policy(), policy(), policy(seed=1)
    for number in range(3):
        actions = first.act(observation(number))
        assert actions.shape == (CHUNK, 2)
        np.testing.assert_array_equal(actions, second.act(observation(number)))
        assert not np.allclose(actions, other.act(observation(number)))


def test_a_reset_forgets():
    lived, fresh = policy(), policy()
    fresh.episodes_before = 1
    fresh.reset()
    lived.act(observation(0))
    lived.reset()
    lived.generators, fresh.generators = (
        [torch.Generator().manual_seed(5)],
        [torch.Generator().manual_seed(5)],
    )
    np.testing.assert_array_equal(lived.act(observation(1)), fresh.act(observation(1)))


@pytest.mark.parametrize("kind", [TransformerNetwork, MinGRUNetwork])
def test_memory_reaches_as_far_as_it_is_asked_to(kind):
    """Two policies that lived through the same n tokens but not the same before act alike with a memory of n."""
    one, two = policy(kind), policy(kind)
    for first, second in ((0, 7), (1, 1), (2, 2)):
        one.act(observation(first))
        two.act(observation(second))
    # What was done in the tokens that both share has to be the same too.
    two.past[1:] = one.past[1:]
    noise = [torch.Generator().manual_seed(5).get_state()] * 2

    def act(who, memory):
        who.generators[0].set_state(noise[0])
        state, past = who.state, list(who.past)
        found = who.act(observation(3), memory=memory)
        who.state, who.past = state, past
        return found

    for memory in (0, 1, 2):
        np.testing.assert_allclose(act(one, memory), act(two, memory), atol=1e-6)
    for memory in (3, None):
        assert np.abs(act(one, memory) - act(two, memory)).max() > 1e-3
    np.testing.assert_array_equal(act(one, 3), act(one, None))
    assert np.abs(act(one, 0) - act(one, 1)).max() > 1e-3


def test_without_memory_the_beginning_is_like_any_other_moment():
    lived, fresh = policy(), policy()
    lived.act(observation(1))
    for who in (lived, fresh):
        who.generators = [torch.Generator().manual_seed(5)]
    np.testing.assert_array_equal(lived.act(observation(0), memory=0), fresh.act(observation(0), memory=0))
    assert np.abs(policy().act(observation(0)) - policy().act(observation(0), memory=0)).max() > 1e-3


def test_a_missing_camera_is_its_part_at_level_one():
    seen, other = observation(0), observation(1)
    expected = policy().act(replaced(seen, front=None))
    for picture in (seen.pictures["front"], other.pictures["front"]):
        np.testing.assert_array_equal(policy().act(replaced(seen, front=picture), {"front": 1.0}), expected)
    assert np.abs(policy().act(seen) - expected).max() > 1e-3
    trusted = policy()
    trusted.act(replaced(seen, front=None), {"side": 0.25})
    assert trusted.levels == {"front": 1.0, "side": 0.25, "state": 0.0}


def test_what_is_doubted_is_remembered_as_doubted():
    seen = observation(0)
    changed = replaced(seen, side=observation(1).pictures["side"])
    one, two = policy(), policy()
    one.act(seen, {"side": 1.0})
    two.act(changed, {"side": 1.0})
    np.testing.assert_array_equal(one.act(observation(3)), two.act(observation(3)))


def test_a_level_between_lies_between():
    exact, half, blind = (policy().act(observation(0), {"front": level}) for level in (0.0, 0.1, 1.0))
    assert np.abs(half - exact).mean() > 0
    assert np.abs(half - exact).mean() < np.abs(blind - exact).mean()


def test_trust_may_follow_the_surprise():
    told = {}

    def trust(surprise):
        told.update(surprise)
        return {name: 1.0 for name, size in surprise.items() if name == "front" and size > 0}

    suspicious = policy()
    np.testing.assert_array_equal(suspicious.act(observation(0), trust), policy().act(observation(0), {"front": 1.0}))
    assert set(told) == {"front", "side", "state"}
    assert all(size > 0 for size in told.values())
    assert suspicious.levels["front"] == 1


def test_episodes_side_by_side_do_not_touch():
    tokens = knowledge().tokens
    generator = torch.Generator().manual_seed(0)
    seen = {name: torch.randn(3, size, generator=generator) for name, size in zip(tokens.senses, tokens.sizes)}
    several, alone = policy(), policy()
    several.reset(3)
    alone.reset()
    alone.generators = [torch.Generator().manual_seed(9)]
    several.generators = [torch.Generator().manual_seed(number) for number in (8, 9, 10)]
    for _ in range(2):
        together = several.act_on(seen)
        torch.testing.assert_close(together[1:2], alone.act_on({name: part[1:2] for name, part in seen.items()}))


def test_it_ends_by_itself():
    who = policy()
    tokens = who.knowledge.tokens
    assert not who.finished
    who.act(observation(0))
    who.over = torch.tensor([0.9])
    assert who.finished
    who.reset()
    assert not who.finished
    assert float(tokens.over(torch.full((tokens.size,), 1.0))) == 0.5


def test_imagining_changes_nothing():
    who, untouched = policy(), policy()
    who.act(observation(0))
    untouched.act(observation(0))
    before = who.generators[0].get_state()
    dreamt = who.imagine(4)
    assert dreamt.seen["side"].shape == (1, 4, 10)
    assert dreamt.actions.shape == (1, 4 * CHUNK, 2)
    assert dreamt.over.shape == (1, 4)
    who.generators[0].set_state(before)
    np.testing.assert_array_equal(who.act(observation(1)), untouched.act(observation(1)))


def test_knowledge_is_read_back(tmp_path):
    known = knowledge()
    half = torch.rand(known.eyes["front"].colours, math.prod(known.eyes["front"].size)) < 0.5
    known = replace(known, eyes={**known.eyes, "front": replace(known.eyes["front"], where=half)})
    known.save(tmp_path)
    again = PolicyKnowledge.load(tmp_path)
    assert again.tokens.senses == known.tokens.senses
    assert again.tokens.parts == known.tokens.parts
    for camera, picture in observation(0).pictures.items():
        frames = torch.from_numpy(picture[None])
        assert torch.equal(again.eyes[camera](frames), known.eyes[camera](frames))
    assert torch.equal(again.tokens.scale, known.tokens.scale)


@pytest.mark.parametrize(
    ("seen", "options", "sentence"),
    [
        (Observation({"front": observation(0).pictures["front"]}, observation(0).state), {}, "lacks camera side"),
        (replaced(observation(0), side=np.zeros((4, 4, 3), np.uint8)), {}, "camera side has a picture of uint8"),
        (Observation(observation(0).pictures, np.full(4, np.nan, np.float32)), {}, "state holds NaN"),
        (Observation(observation(0).pictures, np.zeros(3, np.float32)), {}, "state has shape"),
        (observation(0), {"level": 1.5}, "level 1.5 of front"),
        (observation(0), {"level": {"wrist": 1.0}}, "no sense 'wrist'"),
        (observation(0), {"memory": -1}, "memory of -1"),
    ],
)
def test_bad_input_is_said_in_a_sentence(seen, options, sentence):
    with pytest.raises(ValueError, match=sentence):
        policy().act(seen, **options)


def test_noise_that_is_drawn_anew_belongs_to_the_episode_and_may_be_left_out():
    still, stirred, again = policy(), policy(eta=1.0), policy(eta=1.0)
    found = stirred.act(observation(0))
    np.testing.assert_array_equal(found, again.act(observation(0)))
    assert np.abs(found - still.act(observation(0))).max() > 1e-3


def test_without_temperature_the_seed_does_not_matter():
    cold = [policy(seed=seed, temperature=0.0).act(observation(0)) for seed in (0, 1)]
    np.testing.assert_array_equal(*cold)
    warm = [policy(seed=seed, temperature=0.1).act(observation(0)) for seed in (0, 1)]
    hot = [policy(seed=seed).act(observation(0)) for seed in (0, 1)]
    assert 0 < np.abs(warm[0] - warm[1]).mean() < np.abs(hot[0] - hot[1]).mean()
    for wrong in (-1.0, math.inf, math.nan):
        with pytest.raises(ValueError, match="temperature"):
            policy(temperature=wrong)


def test_what_is_known_of_the_last_deeds_is_exact_however_dimly_they_are_remembered():
    who, told = policy(deeds=0.7), []
    done = who.act(observation(0))

    def felt(before, actions, after):
        told.append(actions)
        return after

    who.imagine(1, steps=1, felt=felt)
    np.testing.assert_allclose(told[0][0].numpy(), done, atol=1e-5)
    with pytest.raises(ValueError, match="0 tokens in 1 steps"):
        who.imagine(0, steps=1)


def test_what_is_felt_has_to_be_senses():
    who = policy()
    who.act(observation(0))
    with pytest.raises(ValueError, match="front has shape"):
        who.imagine(1, felt=lambda before, actions, after: {**after, "front": after["front"][:, :3]})
    with pytest.raises(ValueError, match="state holds NaN"):
        who.imagine(1, felt=lambda before, actions, after: {**after, "state": after["state"] * math.nan})


def test_what_is_not_felt_stays_as_it_was_imagined():
    def imagined(felt):
        who = policy()
        who.act(observation(0))
        return who.imagine(2, felt=felt)

    plain = imagined(None)
    some = imagined(lambda before, actions, after: {"state": after["state"]})
    torch.testing.assert_close(some.seen["front"], plain.seen["front"])
    torch.testing.assert_close(some.actions, plain.actions)


def going_to_a_place():
    """A policy whose tokens end with a waypoint."""
    plain = knowledge()
    tokens = PolicyTokens(
        ("front", "side", "state"), (10, 10, 4), CHUNK, 2, torch.zeros(33), torch.full((33,), 0.5), 2, waypoint=True
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = MinGRUNetwork(tokens.size, 16, 1, condition_size=1, parts=tokens.parts)
        for parameter in network.parameters():  # output weights begin at zero, where nothing depends on anything
            torch.nn.init.normal_(parameter, std=0.2)
    return Policy(Denoiser(network, Cosine()).eval(), PolicyKnowledge(tokens, plain.eyes), steps=2)


def test_a_waypoint_is_unknown_to_the_look_and_the_memory_of_a_dream(monkeypatch):
    who = going_to_a_place()
    who.act(observation(0))
    rungs, kept = [], []
    denoised, observe = who.denoised, who.denoiser.observe

    def down(token, noise, levels, *others):
        rungs.append(torch.stack([level[0, 0] for level in levels]))
        return denoised(token, noise, levels, *others)

    def remembered(token, condition, state, levels, noise):
        kept.append(levels[0, 0])
        return observe(token, condition, state, levels, noise)

    monkeypatch.setattr(who, "denoised", down)
    monkeypatch.setattr(who.denoiser, "observe", remembered)
    who.imagine(2, steps=2)
    looks, deeds = torch.stack(rungs[::2]), torch.stack(rungs[1::2])
    assert looks[..., :24].unique().tolist() == [0, 0.5, 1]
    assert looks[..., 24:].min() == 1
    assert deeds[..., :24].max() == 0
    assert torch.equal(deeds[..., -1], deeds[..., 24])
    assert deeds[..., 24:].unique().tolist() == [0, 0.5, 1]
    assert torch.stack(kept)[..., -2:].min() == 1
    assert torch.stack(kept)[..., :-2].max() == 0


def test_a_waypoint_is_answered_and_not_remembered():
    who = going_to_a_place()
    tokens = who.knowledge.tokens
    assert who.act(observation(0)).shape == (CHUNK, 2)
    states = []
    for change, where in ((0.0, -1), (1.0, -1), (1.0, -4)):
        who.reset()
        token = torch.ones(1, 1, tokens.size)
        token[..., where] += change
        noise = torch.zeros_like(token)
        who.remember(token, tokens.known(who.knowledge.senses(observation(0)))[1], noise, who.begins(1))
        states.append(who.state.hidden)
    assert torch.equal(states[0], states[1])
    assert not torch.equal(states[0], states[2])


def test_what_is_imagined_first_is_what_is_seen_and_then_what_is_done_about_it():
    """The actions of an imagined token are those that are sampled after its own senses, with the same noise."""
    who = policy()
    who.act(observation(0))
    before, state, past = who.generators[0].get_state(), who.state, list(who.past)
    dreamt = who.imagine(1, steps=3)
    who.generators[0].set_state(before)
    acted = who.act_on({name: values[:, 0] for name, values in dreamt.seen.items()})
    torch.testing.assert_close(dreamt.actions, acted, atol=1e-4, rtol=1e-4)
    assert who.state is not state
    assert len(who.past) == len(past) + 1


def test_what_is_imagined_can_be_doubted():
    """The level reaches the first deed and the second look, and not the first look; one sense may be doubted alone."""

    def imagined(level):
        who = policy()
        who.act(observation(0))
        return who.imagine(3, steps=1, level=level)

    clear, dim = imagined(0.0), imagined(0.5)
    torch.testing.assert_close(clear.seen["front"][:, 0], dim.seen["front"][:, 0])
    assert (clear.actions[:, 0] - dim.actions[:, 0]).abs().max() > 1e-4
    assert (clear.seen["front"][:, 1] - dim.seen["front"][:, 1]).abs().max() > 1e-4
    one = imagined({"front": 0.5})
    assert (one.seen["front"][:, 1] - dim.seen["front"][:, 1]).abs().max() > 1e-4
    with pytest.raises(ValueError, match=r"level 1\.5 of front"):
        imagined(1.5)


def test_what_is_imagined_with_eyes_closed_is_not_believed():
    """At level 1 a camera is imagined and nothing follows from it: neither what is done nor what is seen next."""

    def imagined(level, odd):
        who = policy()
        who.act(observation(0))

        def felt(before, actions, after):
            return {**after, "front": after["front"] + odd}

        return who.imagine(3, steps=1, felt=felt, level=level)

    plain, odd = (imagined({"front": 1.0}, odd) for odd in (0.0, 3.0))
    torch.testing.assert_close(odd.seen["front"], plain.seen["front"] + 3.0)
    torch.testing.assert_close(odd.seen["side"], plain.seen["side"])
    torch.testing.assert_close(odd.actions, plain.actions)
    believed = imagined(0.0, 3.0)
    assert (believed.actions - imagined(0.0, 0.0).actions).abs().max() > 1e-4


@pytest.mark.parametrize("options", [{"deeds": 2.0}, {"deeds": -0.5}, {"eta": 1.5}])
def test_bad_options(options):
    with pytest.raises(ValueError, match="expected at least 1 step"):
        policy(**options)
