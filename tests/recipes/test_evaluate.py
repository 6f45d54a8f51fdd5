"""`noiseladder evaluate`: every figure stands under what it is of; what would be chance is left out and said."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Generator, Tensor

from noiseladder.diffusion.denoiser import Denoised
from noiseladder.diffusion.noise import Cosine
from noiseladder.diffusion.state import State
from noiseladder.recipes import evaluate as recipe
from noiseladder.recipes.evaluate import Evaluate, Row, likeness, measure, places, table
from noiseladder.video.clip import Clip, Frames
from noiseladder.video.evaluation import Dreamer
from noiseladder.video.learned_scores import FrechetScore
from noiseladder.video.metrics import pooled, revisits
from noiseladder.video.world_model import Dreaming

SIZE, CONTEXT, BRIGHTER = 12, 4, 2
EDGES = torch.tensor([1.0, -1.0] * (SIZE // 2))[None, :, None].expand(SIZE, SIZE, 3).flatten()
"""An error of one makes dark columns, the first, lighter by one and light ones darker: edges become weaker by two."""


def growing_light(length: int, first: int = 10) -> Clip:
    """A walk whose frames are columns of dark and of 40 more, BRIGHTER from frame to frame."""
    columns = first + 20 - 20 * EDGES.reshape(SIZE, SIZE, 3)
    frames = columns + BRIGHTER * torch.arange(length)[:, None, None, None]
    return Clip(frames.to(torch.uint8).numpy(), np.eye(3, dtype=np.float32)[[0] * length])


@dataclass(frozen=True)
class SlightlyWrong:
    """A codec of gray levels that gives every frame back with an error of one."""

    size: int = SIZE
    token_shape: tuple[int, ...] = (SIZE * SIZE * 3,)

    def encode(self, frames: Frames) -> Tensor:
        return torch.from_numpy(frames.reshape(len(frames), -1)).float()

    def decode(self, tokens: Tensor) -> Frames:
        return (tokens + EDGES).round().clamp(0, 255).to(torch.uint8).reshape(-1, SIZE, SIZE, 3).numpy()


@dataclass(frozen=True)
class Seen(State):
    """The last real token, (B, D), and how many came after it, (B,)."""

    last: Tensor
    since: Tensor


@dataclass(frozen=True)
class Strays:
    """A denoiser that knows how the light grows and strays from it by `error` more with every frame."""

    error: float
    schedule: Cosine = field(default_factory=Cosine)

    def __call__(self, noisy: Tensor, levels: Tensor, condition: Tensor | None, state: Seen) -> Denoised:
        since = state.since[:, None] + 1
        clean = (state.last + since * (BRIGHTER + self.error * EDGES))[:, None]
        alpha, sigma = self.schedule.shares(levels, noisy)
        return Denoised(clean, (noisy - alpha * clean) / sigma)

    def observe(self, tokens: Tensor, condition: Tensor, state: Seen | None = None, *_: object) -> Seen:
        if state is None:
            return Seen(tokens[:, -1], torch.zeros(len(tokens)))
        return Seen(state.last, state.since + 1)


SAMPLE, MEAN = 1, 3
WORLD: Any = SimpleNamespace(
    sampler=Strays(SAMPLE), denoiser=Strays(MEAN), codec=SlightlyWrong(), recipe=SimpleNamespace(data="elsewhere")
)
DREAMER = Dreamer(WORLD.sampler, WORLD.codec, Dreaming(steps=1))
OPTIONS = Evaluate(context=CONTEXT, predictions=4, block=4)


def test_samples_means_and_the_codec_stand_in_their_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    """h frames ahead a copy is 2 h wrong, a sample h and one more by the codec, a mean 3 h and one more."""
    monkeypatch.setattr(recipe, "have_learned_scores", lambda: False)
    rows, left_out = measure(WORLD, [growing_light(24), growing_light(28)], Dreaming(steps=1), OPTIONS)
    for h in (1, 2, 4, 8, 16):
        row = rows[f"gain over copying, dB, h={h}"]
        wrong = {"dream": SAMPLE * h + 1, "mean": MEAN * h + 1, "rebuilt": 1}
        expected = {column: 20 * np.log10(2 * h / error) for column, error in wrong.items()}
        assert row.columns == pytest.approx(expected, abs=1e-3)
        assert row.of == "2 pieces of walks"
    edges = {"dream": abs(40 - 2 * 17) / 40, "mean": abs(40 - 2 * 49) / 40, "rebuilt": 38 / 40, "real": 1}
    assert rows["sharpness, h=16"].columns == pytest.approx(edges)
    assert rows["drift of blocks"].of == "6 blocks of 4 frames, beside 6 of other walks"
    assert rows["drift of blocks"].columns.keys() == {"dream", "real"}
    assert left_out["revisits, error over random"] == "nobody recorded where the walker stood"


def test_learned_distances_stand_in_their_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the largest error of a pixel for a network."""

    def farthest(one: Tensor, other: Tensor) -> Tensor:
        return (one.int() - other.int()).abs().amax((-3, -2, -1)).float()

    monkeypatch.setattr("noiseladder.video.learned_scores.st_lpips_alex", farthest)
    monkeypatch.setattr(recipe, "have_learned_scores", lambda: True)
    rows, left_out = measure(WORLD, [growing_light(24), growing_light(28)], Dreaming(steps=1), OPTIONS)
    for h in (1, 8, 16):
        expected = {"dream": h + 1, "mean": 3 * h + 1, "copy": 2 * h, "rebuilt": 1, "real": 0}
        assert rows[f"st_lpips_alex, h={h}"].columns == expected
    for name, clips, walks in (("fd_effnet_lite0", 32, 2), ("fvd_transnetv2", 64, 16)):
        assert name not in rows
        assert f"1 pieces of 20 frames of 1 walks, expected at least {clips} of {walks}, as" in left_out[name]
        assert f"take --predictions {2 * clips} and --walks {2 * walks}" in left_out[name]


def test_frechet_scores_are_of_what_came_and_of_other_walks(monkeypatch: pytest.MonkeyPatch) -> None:
    walks = [growing_light(length, 10 + number) for number, length in enumerate((24, 24, 19, 24, 24, 24))]
    given: dict[str, tuple[list[Tensor], Tensor, Tensor]] = {}

    def score(name: str, value: float) -> Any:
        def scored(dreams: Sequence[Tensor], real: Tensor, other: Tensor) -> list[FrechetScore]:
            given[name] = ([*dreams], real, other)
            return [FrechetScore(value + number, 9.0, 7) for number, _ in enumerate(dreams)]

        return scored

    monkeypatch.setattr(recipe, "fd_effnet_lite0", score("frames", 1.0))
    monkeypatch.setattr(recipe, "fvd_transnetv2", score("clips", 5.0))
    monkeypatch.setattr(recipe, "LEAST_CLIPS", {"fd_effnet_lite0": (2, 2), "fvd_transnetv2": (2, 2)})
    rows, left_out = likeness(DREAMER, walks, OPTIONS)
    assert not left_out
    assert rows["fd_effnet_lite0"] == Row({"dream": 1.0, "rebuilt": 2.0, "real": 9.0}, "7 frames of 2 walks")
    assert rows["fvd_transnetv2"] == Row({"dream": 5.0, "rebuilt": 6.0, "real": 9.0}, "7 clips of 2 walks")
    truth, others = (
        torch.stack([torch.from_numpy(walks[number].frames[CONTEXT:20]) for number in numbers])
        for numbers in ((0, 4), (1, 5))  # every other one: the third is too short, and the ends of the others
    )
    (dream, rebuilt), real, other = given["clips"]
    assert torch.equal(real, truth)
    assert torch.equal(other, others)
    ahead = torch.arange(1, 17)[:, None]
    dreamt, codec = ((film.int() - truth.int()).flatten(2) for film in (dream, rebuilt))
    assert torch.equal(dreamt, ((ahead + 1) * EDGES).int().expand_as(dreamt))
    assert torch.equal(codec, EDGES.int().expand_as(codec))
    for every_fourth, all_of_them in zip((*given["frames"][0], *given["frames"][1:]), (dream, rebuilt, real, other)):
        assert torch.equal(every_fourth, all_of_them[:, ::4])
    for least in ((3, 2), (2, 3)):
        monkeypatch.setattr(recipe, "LEAST_CLIPS", {"fd_effnet_lite0": (2, 2), "fvd_transnetv2": least})
        rows, left_out = likeness(DREAMER, walks, OPTIONS)
        assert rows.keys() == {"fd_effnet_lite0"}
        assert (
            "has 2 pieces of 20 frames of 2 walks, expected at least {} of {}, as".format(*least)
            in left_out["fvd_transnetv2"]
        )


def test_revisits_are_pooled_over_walks_of_the_same_horizon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two places in turns, ten frames each: one walk is dreamt as it was, of the other the dream forgets its places."""
    length = CONTEXT + 90
    place = np.maximum(np.arange(length) - CONTEXT, 0) // 10 % 2
    poses = np.stack([100.0 * place, 0 * place, 0 * place], 1).astype(np.float32)
    frames = np.tile((255 * place).astype(np.uint8)[:, None, None, None], (1, 4, 4, 3))
    walk = Clip(frames, np.eye(3, dtype=np.float32)[[0] * length], poses)
    other, short = Clip(frames, walk.actions, poses), walk[: CONTEXT + 5]
    forgotten = torch.randint(0, 256, (90, 4, 4, 3), dtype=torch.uint8, generator=Generator().manual_seed(1))
    kept = torch.cat([torch.from_numpy(frames[CONTEXT : CONTEXT + 60]), forgotten[60:]])
    asked = []

    def long_dream(dreamer: Dreamer, part: Clip, context: int, seed: int) -> Tensor:
        asked.append((len(part), seed))
        return forgotten[: len(part) - context]

    monkeypatch.setattr(recipe, "long_dream", long_dream)
    monkeypatch.setattr(recipe, "REVISITED", 60)
    row = places(DREAMER, [short, walk, other], OPTIONS, {id(walk): kept})
    assert asked == [(CONTEXT + 60, 2)]
    stood = torch.from_numpy(poses[CONTEXT : CONTEXT + 60])
    mine = [revisits(film[:60], stood, Generator().manual_seed(0)) for film in (kept, forgotten)]
    assert row.columns["dream"] == pytest.approx(pooled(mine).ratio)
    assert mine[0].ratio == 0 < row.columns["dream"] < mine[1].ratio
    assert row.columns["real"] == 0
    assert row.of == f"{2 * mine[0].pairs} pairs of 2 walks, within 60 frames"
    monkeypatch.setattr(recipe, "LEAST_PAIRS", 100_000)
    with pytest.raises(ValueError, match=r"within 60 frames of 1 walks \d+ pairs .* expected at least 100000"):
        places(DREAMER, [walk], OPTIONS, {})
    with pytest.raises(ValueError, match="within 5 frames of 1 walks 0 pairs"):
        places(DREAMER, [short], OPTIONS, {})


def test_a_table_has_a_dash_where_a_figure_would_say_nothing() -> None:
    lines = table({"gain": Row({"dream": 1.5, "rebuilt": 12}, "3 pieces"), "drift": Row({"real": 1}, "9 blocks")})
    head, gain, drift = (line.split() for line in lines.split("\n"))
    assert head == ["dream", "mean", "copy", "rebuilt", "real", "of"]
    assert gain == ["gain", "1.500", "-", "-", "12.000", "-", "3", "pieces"]
    assert drift == ["drift", "-", "-", "-", "-", "1.000", "9", "blocks"]
