"""A walk through a world that others use too: through the true bouncing world, and through a dream."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch

from noiseladder.serving.playground import SLIDERS, Playground
from noiseladder.serving.walk import EMPTY, GAP, MARKED_SECONDS, MARKS_A_SECOND, Walk
from noiseladder.video.playable import Opening
from noiseladder.video.true_bouncing import RATE, TrueBouncing
from serving.served import counting, opening
from video.test_world_model import FRAMES, PLAN, world as dream


def bouncing() -> Playground:
    world = TrueBouncing()
    return Playground("Bouncing", "True.", world, [world.opening(seed) for seed in range(3)], RATE)


def dreaming(seed: int | None = 1) -> Playground:
    start = Opening(FRAMES, np.array([-1, 0, 2, 1, 2]), seed=seed)
    return Playground("Dream", "A small network that learned nothing.", dream(), [start], 10.0)


@pytest.mark.parametrize("make", [bouncing, dreaming])
def test_two_walks_through_one_world_are_those_of_two_worlds(make) -> None:
    """To the bit: whose turn it was before does not show."""
    alone = []
    for plan in (PLAN, PLAN[::-1]):
        walk = Walk(make())
        walk.reset(0)
        alone.append([walk.step(action).frame for action in plan])
    shared = make()
    one, two = Walk(shared), Walk(shared)
    one.reset(0)
    two.reset(0)
    for number, actions in enumerate(zip(PLAN, PLAN[::-1])):
        for walk, action, expected in zip((one, two), actions, alone):
            np.testing.assert_array_equal(walk.step(action).frame, expected[number])
    assert any((first != second).any() for first, second in zip(*alone))


@pytest.mark.parametrize("make", [bouncing, dreaming])
def test_what_is_taken_back_comes_again(make) -> None:
    walk = Walk(make())
    walk.reset(0)
    first = [walk.step(0) for _ in range(40)]
    back = walk.back()
    second = round(walk.playground.rate)
    assert second <= 40 - back.number < second + second / MARKS_A_SECOND
    np.testing.assert_array_equal(back.frame, first[back.number - 1].frame)
    for number in range(back.number, 40):
        np.testing.assert_array_equal(walk.step(0).frame, first[number].frame)


def test_sliders_move_a_dream_and_only_that_walk() -> None:
    playground = dreaming()
    one, two = Walk(playground), Walk(playground)
    for walk in (one, two):
        walk.reset(0)
    assert {"steps", "stabilization", "history"} <= {slider["name"] for slider in one.sliders()}
    one.slide({"steps": 5, "stabilization": 0.2})
    levels = one.step(0).levels
    assert (len(levels), levels[0], levels[-1]) == (6, 1, 0)
    assert [*levels] == sorted(levels, reverse=True)
    assert one.step(0).remembered == 0.2
    assert len(two.step(0).levels) == 1 + two.dreaming.steps
    with pytest.raises(ValueError, match="expected 0 to"):
        one.slide({"steps": 6, "stabilization": 2})
    assert one.dreaming.steps == 5, "all or nothing"
    one.step(0)
    assert Walk(playground).dreaming == two.dreaming, "who comes later begins as the first did"


def test_a_true_world_has_nothing_to_slide() -> None:
    walk = Walk(bouncing())
    assert walk.sliders() == []
    with pytest.raises(ValueError, match="nothing is"):
        walk.slide({"steps": 2})


def test_only_so_many_moments_are_kept() -> None:
    """A moment of a dream may be megabytes."""
    walk = Walk(counting())
    walk.reset(0)
    for _ in range(1000):
        walk.step(0)
    assert len(walk._marks) == MARKS_A_SECOND * MARKED_SECONDS + 1
    assert {later.number - earlier.number for earlier, later in pairwise(walk._marks)} == {5}


def test_a_film_has_an_end() -> None:
    walk = Walk(counting(rate=2.0))
    walk.reset(0)
    walk.record()
    for _ in range(200):
        walk.step(0)
    assert len(walk.film()) == 60  # half a minute
    with pytest.raises(ValueError, match="nothing is being recorded"):
        walk.film()


def test_a_film_shows_the_real_walk_first() -> None:
    """On the left, as on the page and in the films of `noiseladder dream`."""
    walk = Walk(counting(openings=[opening(later=5)]))
    walk.reset(0)
    walk.record()
    for _ in range(3):
        shown = walk.follow()
    frame = walk.film()[-1]
    np.testing.assert_array_equal(frame[:, :8], shown.real)
    np.testing.assert_array_equal(frame[:, -8:], shown.frame)


def test_a_dream_stands_on_the_right_of_a_film_before_and_after_the_real_walk_stands_beside_it() -> None:
    walk = Walk(counting(openings=[opening(), opening(later=5)]))
    walk.reset(0)
    walk.record()
    alone = [walk.step(2), walk.step(1)]
    walk.reset(1)
    beside = walk.follow()
    left = walk.step(2)
    film = walk.film()
    assert {frame.shape for frame in film} == {(8, 8 + GAP + 8, 3)}
    for frame, shown in zip(film[1:], (*alone, beside, left), strict=True):
        np.testing.assert_array_equal(frame[:, -8:], shown.frame)
    for number in (0, 1, 2, 4):
        assert (film[number][:, : 8 + GAP] == EMPTY).all(), "nothing real was to be seen"
    np.testing.assert_array_equal(film[3][:, :8], beside.real)


def test_a_recording_that_begins_beside_the_real_walk_begins_with_it() -> None:
    walk = Walk(counting(openings=[opening(later=5)]))
    walk.reset(0)
    walk.follow()
    shown = walk.follow()
    walk.record()
    first = walk.film()[0]
    np.testing.assert_array_equal(first[:, :8], shown.real)
    np.testing.assert_array_equal(first[:, -8:], shown.frame)


def test_frames_are_our_own() -> None:
    """A world may draw its next frame into the same memory."""
    playground = counting()
    canvas = np.zeros((8, 8, 3), np.uint8)

    def step(action: int):
        canvas[:] += 1
        return canvas

    playground.world.step = step  # type: ignore[method-assign]
    walk = Walk(playground)
    walk.reset(0)
    first = walk.step(0).frame
    walk.step(0)
    assert (first == 1).all()


def test_a_world_that_gives_no_frames_is_found_out() -> None:
    playground = counting()
    playground.world.step = lambda action: torch.zeros(3, 8, 8)  # type: ignore[assignment]
    walk = Walk(playground)
    walk.reset(0)
    with pytest.raises(TypeError, match="uint8"):
        walk.step(0)


def test_a_playground_needs_somewhere_to_begin() -> None:
    with pytest.raises(ValueError, match="0 openings"):
        replace(bouncing(), openings=[])
    with pytest.raises(ValueError, match="rate is 0"):
        replace(bouncing(), rate=0)


def test_every_number_of_a_dream_has_a_slider() -> None:
    assert set(vars(dream().dreaming)) <= set(SLIDERS)
