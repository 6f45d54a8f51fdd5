"""Coming back to a place: which returns are found, and what a dream there is compared with."""

import numpy as np
import pytest
import torch
from torch import Tensor

from noiseladder.video.clip import Clip
from noiseladder.video.returning import Return, come_back, returns_of

THERE, CONTEXT = 30, 4


def walk(length: int = 60, grey: int = 100) -> Clip:
    """Stands still for ten frames, is elsewhere for THERE, and stands where it stood again."""
    poses = np.zeros((length, 3))
    poses[10 : 10 + THERE, 0] = 500.0
    frames = np.full((length, 2, 2, 3), grey, np.uint8)
    frames[10 : 10 + THERE] = grey + 50
    frames[10 + THERE :] = grey + 5  # a true return is nearly the same
    return Clip(frames, np.eye(3, dtype=np.float32)[np.arange(length) % 3], poses)


class Fake:
    """A dreamer that adds `off` to the last frame it saw, and remembers what it was asked."""

    def __init__(self, off: int) -> None:
        self.off = off
        self.asked: list[tuple[Tensor, Tensor, Tensor]] = []
        self.seeds: list[int] = []

    def dreams(self, frames: Tensor, led: Tensor, conditions: Tensor, seed: int):  # type: ignore[no-untyped-def]
        self.asked.append((frames, led, conditions))
        self.seeds.append(seed)
        for number in range(conditions.shape[1]):
            last = number == conditions.shape[1] - 1
            yield frames[:, -1] + torch.tensor(self.off if last else 77, dtype=torch.uint8)


def test_returns_are_those_with_a_context_before_and_time_between() -> None:
    found = returns_of([walk()], CONTEXT, 10_000)
    assert {(each.left, each.back) for each in found} == {
        (left, back) for left in range(CONTEXT - 1, 10) for back in range(40, 60) if back - left >= 20
    }
    assert len(returns_of([walk()], CONTEXT, 7)) == 7
    assert all(each.back - each.left <= 35 for each in returns_of([walk()], CONTEXT, 10_000, longest=35))


def test_what_is_dreamt_on_coming_back_is_held_against_what_was_left() -> None:
    fake, found = Fake(20), [Return(walk(), 9, 41), Return(walk(grey=50), 5, 45)]
    back = come_back(fake, found, CONTEXT, seed=7)  # type: ignore[arg-type]
    assert back.dream == pytest.approx(20 / 255)
    assert back.real == pytest.approx(5 / 255)
    assert back.other == pytest.approx(50 / 255), "from where the walk was meanwhile"
    assert (back.ratio, back.floor, back.count) == pytest.approx((20 / 50, 5 / 50, 2))
    assert fake.seeds == [7, 8]
    for each, (frames, led, conditions) in zip(found, fake.asked, strict=True):
        begin = each.left + 1 - CONTEXT
        actions = torch.from_numpy(np.asarray(each.walk.actions))
        assert torch.equal(frames[0], torch.from_numpy(each.walk.frames[begin : each.left + 1]))
        assert torch.equal(led[0], actions[begin : each.left + 1])
        assert torch.equal(conditions[0], actions[each.left + 1 : each.back + 1])


def test_a_walk_that_never_comes_back_is_refused() -> None:
    with pytest.raises(ValueError, match="no walk comes back to a pose after 20 to 60 frames"):
        returns_of([walk(length=35), Clip(walk().frames, walk().actions)], CONTEXT, 5)
    with pytest.raises(ValueError, match="no walk has poses"):
        returns_of([Clip(walk().frames, walk().actions)], CONTEXT, 5)
