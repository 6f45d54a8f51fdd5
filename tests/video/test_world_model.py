"""A dream: begun with real frames, the same from the same seed, taken back as if it had never been."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from torch import Tensor

from noiseladder.diffusion.denoiser import Denoised, Denoiser
from noiseladder.diffusion.noise import Cosine
from noiseladder.networks import MinGRUNetwork
from noiseladder.video.clip import Frames
from noiseladder.video.past_guided import PastGuided
from noiseladder.video.world_model import Dreaming, WorldModel

SIZE = 4


@dataclass(frozen=True)
class Pixels:
    """A codec that keeps everything."""

    size: int = SIZE
    token_shape: tuple[int, ...] = (SIZE * SIZE * 3,)

    def encode(self, frames: Frames) -> Tensor:
        return torch.from_numpy(frames.reshape(len(frames), -1)).float() / 127.5 - 1

    def decode(self, tokens: Tensor) -> Frames:
        unit = ((tokens.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
        return unit.reshape(-1, self.size, self.size, 3).numpy()


def denoiser() -> Denoiser:
    torch.manual_seed(0)
    network = MinGRUNetwork(SIZE * SIZE * 3, 16, 2, condition_size=3)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return Denoiser(network, Cosine()).eval()


def world(dreaming: Dreaming | None = None) -> WorldModel:
    return WorldModel(denoiser(), Pixels(), ("left", "right", "go"), dreaming=dreaming)


FRAMES = np.random.default_rng(0).integers(0, 256, (5, SIZE, SIZE, 3), dtype=np.uint8)
LED = [0, 2, 1, 2]
PLAN = [2, 2, 0, 1, 2, 0]


def walk(model: WorldModel, plan: list[int] = PLAN) -> list[list[int]]:
    return [model.step(action).flatten().tolist() for action in plan]


def test_a_dream_begins_with_the_last_real_frame_and_goes_on_in_frames() -> None:
    model = world()
    assert (model.size, model.actions) == (SIZE, ("left", "right", "go"))
    assert np.array_equal(model.reset(FRAMES, LED, seed=1), FRAMES[-1])
    assert model.levels == ()
    frame = model.step(1)
    assert frame.dtype == np.uint8
    assert frame.shape == (SIZE, SIZE, 3)
    assert np.array_equal(model.frame, frame)
    assert model.levels == pytest.approx((1.0, 0.2, 0.0), abs=1e-3)


def test_calls_a_frame_are_told_and_are_those_that_are_made() -> None:
    for dreaming, expected in ((Dreaming(steps=3), 3), (Dreaming(steps=3, history=2.0), 6)):
        model, made = world(dreaming), 0

        def counted(*arguments: object) -> None:
            nonlocal made
            made += 1

        model.reset(FRAMES, LED, seed=1)
        assert model.calls == 0
        handle = model.denoiser.register_forward_hook(counted)
        model.step(1)
        handle.remove()
        assert (model.calls, made) == (expected, expected)


def test_the_same_seed_and_actions_dream_the_same_and_others_do_not() -> None:
    model = world()
    model.reset(FRAMES, LED, seed=1)
    first = walk(model)
    model.reset(FRAMES, LED, seed=1)
    assert walk(model) == first
    model.reset(FRAMES, LED, seed=2)
    assert walk(model) != first
    model.reset(FRAMES, LED, seed=1)
    assert walk(model, [1, *PLAN[1:]])[0] != first[0]
    model.reset(FRAMES, [-1, *LED], seed=1)  # what led to the first frame may be said to be unknown
    assert walk(model) == first
    model.reset(FRAMES[1:], LED[1:], seed=1)
    assert walk(model) != first


def test_a_dream_is_what_the_method_says() -> None:
    """Observe at 0, denoise from noise, observe at the stabilization level: by hand."""
    model, plain = world(Dreaming(steps=3, stabilization=0.2, bend=2.0)), denoiser()
    model.reset(FRAMES, LED, seed=7)
    dreamt = model.step(2)
    again = model.step(0)
    eye, codec, generator = torch.eye(3), Pixels(), torch.Generator().manual_seed(7)
    known = torch.cat([torch.zeros(1, 3), eye[LED]])[None]
    state, frames = plain.observe(codec.encode(FRAMES)[None], known), []
    for action in (2, 0):
        token = torch.randn(1, 1, SIZE * SIZE * 3, generator=generator)
        for level, below in ((1.0, 4 / 9), (4 / 9, 1 / 9), (1 / 9, 0.0)):
            guess: Denoised = plain(token, torch.tensor([[level]]), eye[action][None, None], state)
            token = plain.schedule.mix(guess.clean, guess.noise, torch.tensor([[below]]))
        frames.append(codec.decode(token[0])[0])
        blur = torch.randn(token.shape, generator=generator)
        state = plain.observe(token, eye[action][None, None], state, 0.2, blur)
    for mine, theirs in zip((dreamt, again), frames):
        assert np.abs(mine.astype(int) - theirs.astype(int)).max() <= 1  # rounded


def test_levels_fall_evenly_or_with_a_bend() -> None:
    assert torch.allclose(Dreaming(steps=4, bend=1.0).matrix[:, 0], torch.tensor([1.0, 0.75, 0.5, 0.25, 0.0]))
    assert torch.allclose(Dreaming(steps=2, bend=3.0).matrix[:, 0], torch.tensor([1.0, 0.125, 0.0]))
    assert Dreaming(steps=1).matrix.tolist() == [[1.0], [0.0]]
    assert Dreaming(steps=1000).matrix.shape == (1001, 1)


def test_taking_back_is_as_if_it_had_never_been() -> None:
    model = world()
    model.reset(FRAMES, LED, seed=1)
    walk(model)
    here = model.snapshot()
    onward = walk(model)
    walk(model, [0, 0])
    assert np.array_equal(model.restore(here), here.frame)
    assert np.array_equal(model.frame, here.frame)
    assert walk(model) == onward
    model.restore(here)
    assert walk(model, [0, *PLAN[1:]])[1:] != onward[1:]
    other = world()  # a snapshot is all of a dream
    other.restore(here)
    assert walk(other) == onward


def test_options_may_change_between_steps() -> None:
    model = world()
    model.reset(FRAMES, LED, seed=1)
    model.step(0)
    here = model.snapshot()
    plain = walk(model, [2])
    for options in (
        replace(model.dreaming, steps=5),
        replace(model.dreaming, history=2.0),
        replace(model.dreaming, stabilization=0.9),
    ):
        model.restore(here)
        model.dreaming = options
        changed = walk(model, [2, 2])
        assert len(model.levels) == options.steps + 1
        # How a frame is remembered shows in the next one only.
        assert (changed[0] != plain[0]) == (options.stabilization == here_level())
    model.restore(here)
    model.dreaming = Dreaming()
    assert walk(model, [2]) == plain


def here_level() -> float:
    return Dreaming().stabilization


def test_the_strength_of_the_past_lies_on_a_line() -> None:
    plain = denoiser()
    state = plain.observe(Pixels().encode(FRAMES)[None], torch.zeros(1, 5, 3))
    noisy, levels, condition = torch.randn(1, 1, SIZE * SIZE * 3), torch.tensor([[0.6]]), torch.eye(3)[1][None, None]

    def guess(strength: float) -> Tensor:
        return PastGuided(plain, strength)(noisy, levels, condition, state).clean

    assert torch.equal(guess(1.0), plain(noisy, levels, condition, state).clean)
    torch.testing.assert_close(guess(0.0), plain(noisy, levels, condition, plain.initial_state(1)).clean)
    torch.testing.assert_close(guess(3.0), guess(0.0) + 3 * (guess(1.0) - guess(0.0)))
    both = PastGuided(plain, 2.5)(noisy, levels, condition, state)
    alpha, sigma = plain.schedule.shares(levels, noisy)
    torch.testing.assert_close(alpha * both.clean + sigma * both.noise, noisy)


def test_what_does_not_fit_gets_one_sentence() -> None:
    model = world()
    for before in (lambda: model.step(0), lambda: model.frame):
        with pytest.raises(ValueError, match=r"has not begun: call reset"):
            before()
    with pytest.raises(ValueError, match=r"nothing to keep yet"):
        model.snapshot()
    with pytest.raises(ValueError, match=r"frames are uint8 of shape \(5, 2, 4, 3\), expected uint8 of shape \(T, 4"):
        model.reset(FRAMES[:, :2], LED, seed=0)
    with pytest.raises(ValueError, match=r"frames are float64"):
        model.reset(FRAMES / 255, LED, seed=0)
    with pytest.raises(ValueError, match=r"at least one frame"):
        model.reset(FRAMES[:0], [], seed=0)
    with pytest.raises(ValueError, match=r"3 actions for 5 frames, expected 4"):
        model.reset(FRAMES, LED[:3], seed=0)
    with pytest.raises(ValueError, match=r"unknown action 3, expected 0 to 2: left, right, go"):
        model.reset(FRAMES, [0, 1, 2, 3], seed=0)
    model.reset(FRAMES, LED, seed=0)
    before = model.frame
    for action in (3, -1, 0.5, 1.0, True, "1", "left", None, float("nan"), float("inf"), [1], np.array([1, 2])):
        with pytest.raises(ValueError, match=r"unknown action .*, expected 0 to 2: left, right, go"):
            model.step(action)  # type: ignore[arg-type]
    for action in (3, 0.5, True, "left", None, float("nan")):
        with pytest.raises(ValueError, match=r"unknown action"):
            model.reset(FRAMES, [0, 1, 2, action], seed=0)  # type: ignore[list-item]
    for seed in (None, -1, 2**31, 99_999_999_999_999_999_999, 1.5, "x", True):
        with pytest.raises(ValueError, match=r"seed is .*, expected a whole number, 0 to 2147483647"):
            model.reset(FRAMES[:1], [], seed)  # type: ignore[arg-type]
    assert np.array_equal(model.frame, before), "a reset that is refused changes nothing"
    for number in (np.int64(1), np.uint8(1), torch.tensor(1)):
        model.step(number)  # type: ignore[arg-type]
    for options in (
        {"steps": 0},
        {"steps": 1.5},
        {"steps": 1001},
        {"steps": 100_000_000_000},
        {"steps": float("inf")},
        {"steps": "x"},
        {"steps": None},
        {"steps": True},
        {"stabilization": 1.1},
        {"history": -1.0},
        {"history": float("nan")},
        {"bend": 0.0},
    ):
        with pytest.raises(ValueError, match=next(iter(options))):
            Dreaming(**options)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"action_rows have shape \(2, 2\)"):
        WorldModel(denoiser(), Pixels(), ("a", "b", "c"), torch.eye(2))


def test_a_dream_that_blows_up_says_so() -> None:
    model = world()
    model.reset(FRAMES, LED, seed=0)
    with torch.no_grad():
        model.denoiser.network.writer.write.bias.fill_(torch.inf)  # type: ignore[union-attr]
    with pytest.raises(ValueError, match=r"blown up"):
        model.step(0)
