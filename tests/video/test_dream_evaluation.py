"""How dreams are judged: a batch dreams what each would dream alone, the truth is perfect, real blocks do not drift."""

from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from test_world_model import FRAMES, LED, Pixels, denoiser
from torch import Tensor

from noiseladder.diffusion.denoiser import Denoised
from noiseladder.diffusion.noise import Cosine
from noiseladder.diffusion.state import State
from noiseladder.video.clip import Clip, one_hot
from noiseladder.video.evaluation import (
    Dreamer,
    Endurance,
    Foretold,
    closeness,
    endurance,
    long_dream,
    pieces,
    predict,
    sharpness,
    stacked,
)
from noiseladder.video.metrics import BlockStatistics, block_statistics
from noiseladder.video.world_model import Dreaming, WorldModel

PLAN = [2, 0, 1, 1]


def walk(length: int, seed: int, size: int = 4) -> Clip:
    random = np.random.default_rng(seed)
    return Clip(
        random.integers(0, 256, (length, size, size, 3), dtype=np.uint8), one_hot(random.integers(0, 3, length), 3)
    )


@pytest.mark.parametrize("dreaming", [Dreaming(), Dreaming(3, 0.0, 2.0, 1.0)], ids=str)
def test_a_batch_dreams_what_each_would_dream_alone(dreaming: Dreaming) -> None:
    led = one_hot(np.array([-1, *LED, *PLAN]), 3)
    other = walk(len(led), 5)
    both = [Clip(np.concatenate([FRAMES, FRAMES[: len(PLAN)]]), led), other]
    frames, conditions = stacked(both)
    known = len(FRAMES)
    dreamt = torch.stack(
        list(
            Dreamer(denoiser(), Pixels(), dreaming).dreams(
                frames[:, :known], conditions[:, :known], conditions[:, known:], seed=3
            )
        ),
        dim=1,
    )
    model = WorldModel(denoiser(), Pixels(), ("left", "right", "go"), dreaming=dreaming)
    model.reset(FRAMES, LED, seed=3)
    alone = np.stack([model.step(action) for action in PLAN])
    assert np.abs(dreamt[0].numpy().astype(int) - alone).max() <= 1  # rounded
    one, led_to = frames[1:], conditions[1:]
    dreamer = Dreamer(denoiser(), Pixels(), dreaming)
    second, as_the_first = (
        torch.cat(list(dreamer.dreams(one[:, :known], led_to[:, :known], led_to[:, known:], seed))).int()
        for seed in (4, 3)
    )
    assert (dreamt[1].int() - second).abs().max() <= 1, "the second draws its noise from a seed that is one more"
    assert (dreamt[1].int() - as_the_first).abs().max() > 1


@dataclass(frozen=True)
class Clock(State):
    """How many frames have been seen, (B,)."""

    time: Tensor


@dataclass(frozen=True)
class Knows:
    """A denoiser that knows how the walk goes on: token t is `truth[t]`, (T, D)."""

    truth: Tensor
    schedule: Cosine = field(default_factory=Cosine)

    def initial_state(self, batch: int) -> Clock:
        return Clock(torch.zeros(batch, dtype=torch.long))

    def __call__(self, noisy: Tensor, levels: Tensor, condition: Tensor | None, state: Clock) -> Denoised:
        clean = self.truth[state.time][:, None]
        alpha, sigma = self.schedule.shares(levels, noisy)
        return Denoised(clean, torch.where(sigma > 0, (noisy - alpha * clean) / sigma.clamp(min=1e-6), 0.0))

    def observe(self, tokens: Tensor, condition: Tensor, state: Clock | None = None, *_: object) -> Clock:
        before = 0 if state is None else state.time
        return Clock(before + torch.full((len(tokens),), tokens.shape[1]))


def test_who_knows_the_walk_predicts_it_without_error() -> None:
    one = walk(14, 1, size=12)
    codec = Pixels(12, (12 * 12 * 3,))
    dreamer = Dreamer(Knows(codec.encode(one.frames)), codec, Dreaming(3))  # type: ignore[arg-type]
    assert np.array_equal(long_dream(dreamer, one, 6).numpy(), one.frames[6:])
    found = predict(dreamer, [one], context=6, horizon=8)
    assert found.gain.shape == (8,)
    assert bool((found.gain == torch.inf).all())
    assert bool((found.ceiling == torch.inf).all())
    assert found.ssim == pytest.approx(torch.ones(8))
    assert found.sharpness == pytest.approx(torch.ones(8))
    before = one.frames.copy()
    predict(dreamer, [one], context=6, horizon=8)
    assert np.array_equal(one.frames, before)
    with pytest.raises(ValueError, match=r"walks have 14 frames, expected 16"):
        predict(dreamer, [one], context=8, horizon=8)


def test_pieces_lie_in_walks_and_sharpness_is_contrast_of_neighbours() -> None:
    walks = [walk(10, 1), walk(3, 2), walk(8, 3)]
    found = pieces(walks, 4, 100)
    assert {len(piece) for piece in found} == {4}
    assert len(found) == 4 + 3  # every other frame of the two that are long enough
    assert len(pieces(walks, 4, 2)) == 2
    with pytest.raises(ValueError, match="no walk has 11 frames"):
        pieces(walks, 11, 1)
    flat = torch.full((1, 4, 4, 3), 77, dtype=torch.uint8)
    board = torch.zeros(1, 4, 4, 3, dtype=torch.uint8)
    board[:, ::2, ::2] = board[:, 1::2, 1::2] = 255
    assert sharpness(torch.cat([flat, board])).tolist() == [0.0, 1.0]
    with pytest.raises(ValueError, match="some walks have no actions"):
        stacked([walks[0], Clip(walks[0].frames)])


def test_real_blocks_do_not_drift_and_a_frozen_dream_does() -> None:
    real = [block_statistics(torch.from_numpy(walk(600, seed, 8).frames), 50) for seed in range(3)]
    frozen = torch.from_numpy(walk(1, 9, 8).frames).expand(600, -1, -1, -1)
    calm, still = (endurance(dream, real[1], real[2]) for dream in (real[0], block_statistics(frozen, 50)))
    assert calm.floor == pytest.approx(1.0, abs=0.25)
    assert calm.drift == pytest.approx(1.0, abs=0.25)
    assert still.drift > 5


def striped(dark: int, light: int, frames: int = 1) -> Tensor:
    """Frames of 12x12 whose columns are dark and light in turns, (1, frames, 12, 12, 3)."""
    columns = torch.tensor([dark, light] * 6, dtype=torch.uint8)
    return columns[None, None, None, :, None].expand(1, frames, 12, 12, 3)


def test_closeness_by_hand() -> None:
    """What stood before is 50 away everywhere, the dream 10 and then 20, the codec's frames 1 and then 2."""
    foretold = Foretold(
        known=torch.cat([striped(0, 0), striped(150, 150)], 1),
        truth=striped(100, 200, 2),
        dream=torch.cat([striped(110, 190), striped(120, 180)], 1),
        rebuilt=torch.cat([striped(101, 199), striped(102, 198)], 1),
    )
    found = closeness(foretold)
    assert found.gain.tolist() == pytest.approx([20 * np.log10(50 / 10), 20 * np.log10(50 / 20)], abs=1e-4)
    assert found.ceiling.tolist() == pytest.approx([20 * np.log10(50 / 1), 20 * np.log10(50 / 2)], abs=1e-4)
    assert found.psnr.tolist() == pytest.approx([20 * np.log10(255 / 10), 20 * np.log10(255 / 20)], abs=1e-4)
    assert found.sharpness.tolist() == pytest.approx([0.8, 0.6]), "edges of 80 and of 60 where there are 100"


def test_drift_is_of_the_last_quarter_and_the_floor_of_all_real_blocks() -> None:
    found = Endurance(
        colour=torch.tensor([9.0, 9, 9, 9, 9, 9, 2, 4]),
        motion=torch.tensor([8.0, 8, 8, 8, 8, 8, 1, 1]),
        real_colour=torch.tensor([1.0, 1, 1, 1]),
        real_motion=torch.tensor([3.0, 1, 1, 1]),
    )
    assert found.drift == 3.0
    assert found.floor == 1.5
    swapped = Endurance(found.motion, found.colour, found.real_motion, found.real_colour)
    assert (swapped.drift, swapped.floor) == (3.0, 1.5), "the larger of both kinds"


def test_a_dream_and_its_walk_are_held_against_other_walks() -> None:
    """Not against each other: the walk that the dream followed is no measure of it."""

    def blocks(*shares: float) -> BlockStatistics:
        two = torch.tensor([[share, 1 - share] for share in shares])
        return BlockStatistics(two, two.flip(1), torch.zeros(len(shares)), torch.zeros(len(shares)))

    found = endurance(blocks(0.5, 1.0), blocks(0.75, 0.75, 0.9), blocks(0.25, 0.5, 0.75))
    # The others are 1/2 on average; a quarter is .2908 nats from the mean of the two that are not it, a half 0.
    spread = 2 / 3 * (0.25 * np.log(0.25 / 0.625) + 0.75 * np.log(0.75 / 0.375))
    assert found.colour.tolist() == pytest.approx([0, np.log(2) / spread], rel=2e-3, abs=1e-6)
    quarter = (0.25 * np.log(0.5) + 0.75 * np.log(1.5)) / spread
    tenth = (0.1 * np.log(0.2) + 0.9 * np.log(1.8)) / spread
    assert found.real_colour.tolist() == pytest.approx([quarter, quarter, tenth], rel=2e-3)
    assert torch.allclose(found.motion, found.colour)
    assert torch.allclose(found.real_motion, found.real_colour)
