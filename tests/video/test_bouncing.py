"""The bouncing world: its laws, the decoder that reads its pixels, and the judge that finds what is broken."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Generator, Tensor

from noiseladder.video.bouncing import NO_PUSH, BouncingWorld, Played, Shapes
from noiseladder.video.bouncing_decoder import PRECISION, count_pieces, decode
from noiseladder.video.laws import Tolerance, judge

WORLD = BouncingWorld()
STRICT = Tolerance(place=0.25, radius=0.1, speed=0.1, bar=0.5, out_of_sight=3)


def play(seed: int = 0, count: int = 1, length: int = 120, world: BouncingWorld = WORLD) -> Played:
    return world.play(count, length, Generator().manual_seed(seed))


def shapes(*rows: tuple[float, float, float, float, float]) -> Shapes:
    """One world; x, y, velocity along x and y, radius of each shape."""
    table = torch.tensor([rows], dtype=torch.float64)
    return Shapes(table[..., :2], table[..., 2:4], table[..., 4])


THREE = shapes((10, 20, 1, 0.5, 4), (50, 30, -1, 1, 5), (12, 50, 2, -1, 4.5))


# The world


def test_straight_on_and_back_from_the_wall() -> None:
    moved = WORLD.step(shapes((10, 20, 1, 0.5, 4), (6, 30, -2, 0, 5), (12, 60, 0, 2, 4)), torch.tensor([NO_PUSH]))
    assert moved.position[0].tolist() == [[11, 20.5], [6, 30], [12, 58]]
    assert moved.velocity[0].tolist() == [[1, 0.5], [2, 0], [0, -2]]


def test_only_the_disc_is_pushed_and_never_beyond_the_fastest() -> None:
    start = shapes((30, 30, 0, 0, 4), (30, 30, 0.5, 0.5, 4), (30, 30, 0.5, 0.5, 4))
    pushes = [WORLD.step(start, torch.tensor([number])).velocity for number in range(4)]
    assert [push[0, 0].tolist() for push in pushes] == [[-0.75, 0], [0.75, 0], [0, -0.75], [0, 0.75]]
    assert all(torch.equal(push[0, 1:], start.velocity[0, 1:]) for push in pushes)
    for _ in range(3):
        start = WORLD.step(start, torch.tensor([1]))
    for _ in range(3):
        start = WORLD.step(start, torch.tensor([1]))
    assert start.velocity[0, 0].abs().max() <= WORLD.fastest


def test_the_same_generator_plays_the_same_and_a_world_keeps_its_inputs() -> None:
    one, other = play(3, 2, 20), play(3, 2, 20)
    assert torch.equal(one.frames, other.frames)
    assert torch.equal(one.actions, other.actions)
    assert not torch.equal(one.frames, play(4, 2, 20).frames)
    before = THREE.velocity.clone()
    WORLD.step(THREE, torch.tensor([1]))
    assert torch.equal(THREE.velocity, before)


def test_frames_follow_from_the_states_and_actions_that_led_there() -> None:
    played = play(1, 3, 60)
    assert (played.actions[:, 0] == NO_PUSH).all()
    assert 0.02 < (played.actions >= 0).double().mean() < 0.25
    states = played.states
    for time in range(59):
        now = Shapes(states.position[:, time], states.velocity[:, time], states.radius[:, time])
        following = WORLD.step(now, played.actions[:, time + 1])
        assert torch.equal(following.position, states.position[:, time + 1])
        assert torch.equal(WORLD.render(now), played.frames[:, time])
    reach = states.radius[..., None]
    assert (states.position >= reach).all()
    assert (states.position <= 64 - reach).all()


def test_what_a_model_learns_from() -> None:
    batch = next(WORLD.batches(2, 8, Generator().manual_seed(0)))
    assert batch.tokens.shape == (2, 8, 3, 64, 64)
    assert batch.tokens.min() == -1
    assert batch.tokens.max() == 1
    assert batch.condition is not None
    assert batch.condition.shape == (2, 8, 4)
    played = play(0, 2, 8)
    assert torch.equal((batch.condition.sum(-1) == 1), played.actions >= 0)


@pytest.mark.parametrize(
    "mistake", [{"bar": (40, 20)}, {"bar": (5, 20)}, {"radii": (1.0, 4.0)}, {"speeds": (0.0, 1.0)}, {"fastest": 1.0}]
)
def test_impossible_worlds_are_refused(mistake: dict[str, tuple[float, float]]) -> None:
    with pytest.raises(ValueError, match="expected"):
        replace(WORLD, **mistake)


# The decoder


def test_the_state_is_read_off_the_pixels() -> None:
    played = play(2, 4, 60)
    seen = decode(played.frames.flatten(0, 1), WORLD)
    position, radius = played.states.position.flatten(0, 1), played.states.radius.flatten(0, 1)
    # Full view is what geometry says it is, to the width of an edge.
    x = position[..., 0]
    clear = torch.maximum(WORLD.bar[0] - (x + radius), (x - radius) - WORLD.bar[1])
    assert seen.whole[clear > 1.5].all()
    assert not seen.whole[clear < 0].any()
    inside = (x - radius > WORLD.bar[0] + 0.5) & (x + radius < WORLD.bar[1] - 0.5)
    assert seen.hidden[inside].all()
    assert not seen.hidden[clear > -2].any()
    assert 0.4 < seen.whole.double().mean() < 0.8
    assert (seen.position - position).abs().amax(-1)[seen.whole].max() < PRECISION
    assert (seen.radius - radius).abs()[seen.whole].max() < PRECISION
    assert (seen.pieces[seen.whole] == 1).all()
    assert seen.bar_error.max() == 0


def test_speeds_follow_from_two_places() -> None:
    played = play(5, 1, 60)
    seen = decode(played.frames[0], WORLD)
    both = seen.whole[1:] & seen.whole[:-1]
    straight = (played.states.velocity[0, 1:] == played.states.velocity[0, :-1]).all(-1)
    measured = seen.position[1:] - seen.position[:-1]
    error = (measured - played.states.velocity[0, 1:]).abs().amax(-1)
    assert error[both & straight].max() < 2 * PRECISION


def test_pieces_are_counted_less_holes() -> None:
    def lit(*rows: str) -> Tensor:
        return torch.tensor([[mark == "#" for mark in row] for row in rows])

    assert count_pieces(lit("....", "....")) == 0
    assert count_pieces(lit("##..", "##..")) == 1
    assert count_pieces(lit("#...", "...#")) == 2
    assert count_pieces(lit("#...", ".#..")) == 1, "corners hang together"
    assert count_pieces(lit("#.#", "...", "#.#")) == 4
    assert count_pieces(lit("####", "#..#", "####")) == 0, "one piece, one hole"
    assert count_pieces(torch.stack([lit("#.#"), lit("###")])).tolist() == [2, 1]


def test_a_little_noise_changes_little() -> None:
    played = play(2, 1, 60)
    noise = np.random.default_rng(0).normal(0, 6, played.frames.shape)
    noisy = (played.frames.numpy() + noise).round().clip(0, 255).astype(np.uint8)
    seen, clean = decode(torch.from_numpy(noisy)[0], WORLD), decode(played.frames[0], WORLD)
    whole = clean.whole & seen.whole
    assert whole.double().mean() > 0.3
    assert (seen.position - clean.position).abs().amax(-1)[whole].max() < 0.5
    assert (seen.radius - clean.radius).abs()[whole].max() < 0.5


def noisy(frames: Tensor, amount: float, seed: int = 0) -> Tensor:
    blurred = frames + amount * torch.randn(frames.shape, generator=Generator().manual_seed(seed))
    return blurred.round().clamp(0, 255).to(torch.uint8)


def edge_of_a_square(light: float) -> Tensor:
    """100 times the same frame, in which of the square only its edge is out from behind the bar, `light` of 255."""
    square = (34 + light / 255, 40.3, 1, 1, 5)
    return WORLD.render(shapes((10, 10, 1, 1, 5), square, (50, 50, 1, 1, 5))).expand(100, -1, -1, -1)


@pytest.mark.parametrize("light", [51, 63, 64, 65, 76, 128, 250])
def test_an_edge_that_is_neither_lit_nor_dark_is_not_torn(light: int) -> None:
    """The last bits of its pixels say which of them are lit: the square is as whole as before."""
    clean = edge_of_a_square(light)
    assert (clean[0, 36:45, 39, 1] == light).all()
    seen = decode(noisy(clean, 6), WORLD)
    assert ((seen.pieces == 1) | seen.hidden).all()


def test_dim_light_does_not_hide_a_torn_shape() -> None:
    frames = edge_of_a_square(200).clone()
    frames[:, 39:42, 39:, 1] = 30  # a gap, not quite dark
    assert (decode(noisy(frames, 3), WORLD).pieces[:, 1] == 2).all()
    frames = WORLD.render(THREE).clone()
    frames[0, 4:8, 50:54, 2] = 70  # a stain as bright as the edges above, far from the shape
    assert decode(frames, WORLD).pieces.tolist() == [[1, 1, 2]]
    hole = WORLD.render(THREE).clone()
    hole[0, 29:31, 49:51, 1] = 30
    assert decode(hole, WORLD).pieces.tolist() == [[1, 0, 1]]


# The laws


@pytest.mark.parametrize("seed", range(2))
def test_the_world_keeps_its_own_laws(seed: int) -> None:
    played = play(seed, 1, 150)
    verdict = judge(played.frames[0], played.actions[0], WORLD, STRICT)
    assert verdict.lawful_frames == 150, verdict.shares
    assert set(verdict.shares.values()) == {1.0}


def still(seed: int = 0, length: int = 120) -> tuple[list[Shapes], Tensor]:
    """States without pushes, to be tampered with."""
    current, states = THREE, []
    for _ in range(length):
        states.append(current)
        current = WORLD.step(current, torch.tensor([NO_PUSH]))
    return states, torch.full((length,), NO_PUSH)


def drawn(states: list[Shapes]) -> Tensor:
    return torch.cat([WORLD.render(state) for state in states])


def moved(state: Shapes, shape: int, x: float, y: float) -> Shapes:
    position = state.position.clone()
    position[:, shape] = torch.tensor([x, y], dtype=torch.float64)
    return replace(state, position=position)


def twice(frames: Tensor) -> None:
    frames[40:, 2:6, 2:6, 1] = 255


def swollen(states: list[Shapes]) -> None:
    for time in range(40, 120):
        states[time] = replace(states[time], radius=states[time].radius * torch.tensor([[1.0, 1.0, 1.25]]))


def gone(states: list[Shapes]) -> None:
    for time in range(60, 120):
        states[time] = moved(states[time], 1, 32, 32)  # behind the bar for ever


def jumped(states: list[Shapes]) -> None:
    for time in range(3, 120):
        x, y = states[time].position[0, 0].tolist()
        states[time] = moved(states[time], 0, x, y + 5)


def through_the_wall(states: list[Shapes]) -> None:
    for time in range(3, 40):
        states[time] = moved(states[time], 0, 10, 20 - 1.0 * (time - 3))


def faster_and_faster(states: list[Shapes]) -> None:
    """Two parts in a hundred a frame: no single step is worth a word."""
    current = states[0]
    for time in range(120):
        states[time] = current
        quicker = replace(current, velocity=(current.velocity * 1.02).clamp(-3, 3))
        current = WORLD.step(quicker, torch.tensor([NO_PUSH]))


def elsewhere(states: list[Shapes]) -> None:
    """While the blue disc is behind the bar, it is moved."""
    hidden = [time for time, state in enumerate(states) if 25 + 5 < state.position[0, 2, 0] < 39 - 5]
    for time in range(hidden[0], 120):
        x, y = states[time].position[0, 2].tolist()
        states[time] = moved(states[time], 2, x, (y + 15 - 4.5) % 55 + 4.5)


def nothing(states: list[Shapes]) -> None:
    return


def without_bar(frames: Tensor) -> None:
    frames[50:, :, 25:39] = 0


def leave(frames: Tensor) -> None:
    return


@pytest.mark.parametrize("world", [BouncingWorld(), BouncingWorld.alike()])
def test_places_that_are_right_to_a_few_hundredths_break_no_law(world: BouncingWorld) -> None:
    """A push beside a wall, out of sight, makes much of a small error: that is no fault of who drew the frames."""
    generator = torch.Generator().manual_seed(1_000_003)
    played = world.play(8, 300, generator)
    tremble = 0.05 * (2 * torch.rand(played.states.position.shape, generator=generator, dtype=torch.float64) - 1)
    places, states = played.states.position + tremble, played.states
    for place, velocity, radius, actions in zip(places, states.velocity, states.radius, played.actions):
        verdict = judge(world.render(Shapes(place, velocity, radius)), actions, world)
        assert verdict.lawful_frames == 300, verdict.shares


@pytest.mark.parametrize(
    ("law", "tamper", "spoil"),
    [
        (None, nothing, leave),
        ("count", nothing, twice),
        ("size", swollen, leave),
        ("motion", jumped, leave),
        ("walls", through_the_wall, leave),
        ("speed", faster_and_faster, leave),
        ("permanence", gone, leave),
        ("permanence", elsewhere, leave),
        ("bar", nothing, without_bar),
    ],
)
def test_each_law_finds_who_breaks_it(
    law: str | None, tamper: Callable[[list[Shapes]], None], spoil: Callable[[Tensor], None]
) -> None:
    states, actions = still()
    tamper(states)
    frames = drawn(states)
    spoil(frames)
    verdict = judge(frames, actions, WORLD)
    if law is None:
        assert verdict.lawful_frames == 120
    else:
        assert verdict.shares[law] < 1
        assert verdict.lawful_frames < 120
        assert verdict.lawful_frames == min(
            int((~held).int().argmax()) for held in verdict.laws.values() if not held.all()
        )


def test_pushes_that_do_nothing_break_the_law_of_motion() -> None:
    played = play(0, 1, 100, replace(WORLD, push=1.5))
    assert judge(played.frames[0], played.actions[0], replace(WORLD, push=1.5), STRICT).lawful_frames == 100
    deaf = play(0, 1, 100, replace(WORLD, push=1e-9))
    assert torch.equal(deaf.actions, played.actions)
    verdict = judge(deaf.frames[0], played.actions[0], replace(WORLD, push=1.5))
    assert not verdict.motion.all() or not verdict.permanence.all()


@pytest.mark.parametrize("shape", range(3))
@pytest.mark.parametrize("world", [BouncingWorld(), BouncingWorld.alike()])
def test_a_shape_that_is_not_there_is_missed(world: BouncingWorld, shape: int) -> None:
    played = play(3, 1, 120, world)
    frames = played.frames[0].clone()
    for part in (slice(None, world.bar[0]), slice(world.bar[1], None)):
        frames[:, :, part, shape] = 0
    verdict = judge(frames, played.actions[0], world)
    assert verdict.lawful_frames == 0
    assert verdict.shares["bar"] == 1.0


def test_grey_mud_is_not_lawful() -> None:
    mud = torch.full((80, 64, 64, 3), 128, dtype=torch.uint8)
    assert judge(mud, torch.full((80,), NO_PUSH), WORLD).lawful_frames < 5
    black = torch.zeros_like(mud)
    black[:, :, 25:39] = 128
    assert judge(black, torch.full((80,), NO_PUSH), WORLD).lawful_frames < 80, "shapes that were never there"


@pytest.mark.parametrize("actions", [torch.zeros(4), torch.full((5,), 4), torch.full((5,), -2)])
def test_actions_that_are_none(actions: Tensor) -> None:
    with pytest.raises(ValueError, match="expected"):
        judge(drawn(still(length=5)[0]), actions.long(), WORLD)
    with pytest.raises(ValueError, match="expected uint8"):
        decode(torch.zeros(5, 32, 32, 3, dtype=torch.uint8), WORLD)
