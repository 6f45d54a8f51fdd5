import numpy as np
import pytest
import torch

from noiseladder.diffusion.denoiser import Denoiser
from noiseladder.diffusion.noise import Cosine
from noiseladder.imitation import FruitSwap, demonstrate
from noiseladder.imitation.dreaming import ARRANGEMENTS, Dream, ReadPlaces, dream, replay, sent_on
from noiseladder.imitation.eye import Eye
from noiseladder.imitation.policy import Policy
from noiseladder.imitation.policy_knowledge import PolicyKnowledge
from noiseladder.imitation.policy_tokens import PolicyTokens
from noiseladder.networks import TransformerNetwork

pytest.importorskip("mujoco")
pytest.importorskip("ogbench", reason="the arm's files: pip install --no-deps ogbench==1.2.2")


@pytest.fixture(scope="module")
def world():
    try:
        made = FruitSwap(32)
    except OSError as error:
        pytest.skip(str(error))
    yield made
    made.close()


@pytest.fixture(scope="module")
def policy(world):
    """Untrained, with eyes for the colours of the fruits."""
    palette = torch.tensor([[0.5, 0.08, 0.09], [0.75, 0.4, 0.07], [0.5, 0.42, 0.31], [0.35, 0.38, 0.4]])
    eyes = {camera: Eye(palette, 2, (32, 32)) for camera in ("front", "side")}
    scale = torch.cat([torch.full((27,), 0.3), torch.full((33,), 0.02)])
    tokens = PolicyTokens(("front", "side", "state"), (10, 10, 7), 8, 4, torch.zeros(60), scale)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = TransformerNetwork(tokens.size, 16, 1, 4, 1, tokens.parts)
    return Policy(Denoiser(network, Cosine()).eval(), PolicyKnowledge(tokens, eyes), steps=2)


def test_places_are_read_off_looks_that_were_not_learned_from(world, policy):
    read = ReadPlaces.learn(world, policy, looks=3)
    for places in ARRANGEMENTS:
        for seed in (1, 2):
            assert read(policy.knowledge.senses(world.reset(seed, slots=places))) == places


def test_a_dream_is_as_long_as_its_actions_and_the_simulator_obeys_it(world, policy):
    found = dream(world, policy, 3, steps=1)
    assert len(found.actions) == 8 * len(found.seen["front"])
    observation = world.reset(3)
    torch.testing.assert_close(found.seen["state"][0], torch.from_numpy(observation.state))
    lived = replay(world, Dream(3, found.seen, found.actions[:4], False), film=True)
    assert len(lived.frames) == 4 + 10
    assert lived.frames[0].shape == (32, 64, 3)
    assert lived.places == world.slots
    assert not lived.swapped


def test_a_replayed_demonstration_swaps(world):
    world.reset(4)
    actions = []
    for action in demonstrate(world, 4):
        actions.append(action)
        world.step(action, look=False)
        if world.over:
            break
    slots = world.slots
    lived = replay(world, Dream(4, {}, np.stack(actions).astype(np.float32), True))
    assert lived.swapped
    assert lived.places == (slots[1], slots[0])


def test_the_imagined_hand_is_where_its_actions_sent_it(world):
    """`sent_on` against the arm itself: what is imagined of the tips comes out right once their lag is right."""
    before = world.reset(5)
    actions = np.random.default_rng(0).uniform(-0.06, 0.06, (1, 5, 4)).astype(np.float32)  # some beyond the limits
    actions[..., 2] = -0.03  # down to the lowest place
    for action in actions[0]:
        after = world.step(action, look=False)
    wrong = torch.from_numpy(after.state.copy())[None]
    wrong[:, :3] += 0.05
    told = sent_on({"state": torch.from_numpy(before.state)[None]}, torch.from_numpy(actions), {"state": wrong})
    torch.testing.assert_close(told["state"][0], torch.from_numpy(after.state), atol=2e-4, rtol=0)


def test_what_is_felt_enters_the_dream(policy):
    """Whatever `felt` says of the senses after some actions is what is seen, and what is done follows from it."""
    senses = {"front": torch.zeros(1, 10), "side": torch.zeros(1, 10), "state": torch.zeros(1, 7)}
    policy.reset()
    policy.act_on(senses)
    given = []

    def felt(before, actions, after):
        given.append((before, actions))
        return {**after, "state": torch.full_like(after["state"], 0.25)}

    found = policy.imagine(3, steps=1, felt=felt)
    torch.testing.assert_close(found.seen["state"], torch.full((1, 3, 7), 0.25))
    assert len(given) == 3
    torch.testing.assert_close(given[1][1][0], found.actions[0, :8])
    torch.testing.assert_close(given[2][0]["front"], found.seen["front"][:, 1])
