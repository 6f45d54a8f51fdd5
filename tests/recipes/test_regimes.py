"""The ball in a box: the data, what counts as broken, and what each regime is good for."""

import pytest
import torch

from noiseladder.recipes.regimes import (
    GIVEN,
    SPEED,
    TOTAL,
    WALL,
    Regime,
    Regimes,
    breaks_at,
    energy_distance,
    experiment,
    flights,
    fold,
    judge,
    roll_out,
    ways_of_sampling,
)
from noiseladder.training import generator_for, seeded, train


def test_true_flights_stay_inside_keep_their_pace_and_never_break() -> None:
    tracks = flights(500, TOTAL, generator_for(1, "test flights"))
    assert float(tracks.abs().max()) <= WALL
    assert float(tracks.diff(dim=1).norm(dim=-1).max()) <= SPEED + 1e-4  # float32
    assert bool((breaks_at(tracks) == TOTAL + 1).all())
    # Uniform in the box: variance WALL^2 / 3.
    assert float(tracks.var(dim=(0, 1)).mean()) == pytest.approx(WALL**2 / 3, rel=0.05)


def test_walls_are_mirrors() -> None:
    free = torch.tensor([0.0, WALL, WALL + 0.5, -WALL - 0.5, 3 * WALL, 4 * WALL])
    torch.testing.assert_close(fold(free), torch.tensor([0.0, WALL, WALL - 0.5, -WALL + 0.5, -WALL, 0.0]))


def test_flights_that_leave_stop_race_or_are_not_numbers_break_when_they_do() -> None:
    good = flights(1, 60, generator_for(2, "test flights"))
    left, stopped, racing, undefined = (good.clone() for _ in range(4))
    left[:, 29:] = WALL + SPEED + 0.1
    stopped[:, 20:] = good[:, 20:21]
    racing[:, 20:] += torch.tensor([0.7, 0.0]) * (torch.arange(40) % 2)[:, None]
    undefined[:, 10:] = torch.nan
    assert breaks_at(left).tolist() == [30]
    assert 21 < int(breaks_at(stopped)) < 30
    assert 21 < int(breaks_at(racing)) < 40
    assert breaks_at(undefined).tolist() == [11]


def test_the_energy_distance_tells_laws_apart() -> None:
    generator = generator_for(3, "points")
    one, same, other = (torch.randn(2000, 3, generator=generator) for _ in range(3))
    assert abs(energy_distance(one, same)) < 0.01
    assert energy_distance(one, other + 0.5) > 0.05


def test_every_way_of_sampling_rolls_out_the_asked_length() -> None:
    denoiser = experiment(Regimes(width=8)).denoiser
    given = flights(2, GIVEN, generator_for(4, "test flights"))
    for matrix in ways_of_sampling(2).values():
        assert roll_out(denoiser, given, matrix, generator_for(5, "noise"), 0.1, total=40).shape == (2, 40, 2)


@pytest.mark.slow
def test_token_by_token_independent_levels_keep_the_law_that_shared_levels_lose() -> None:
    truth = flights(1024, GIVEN + TOTAL, generator_for(0, "true flights"))[:, GIVEN:]
    given = flights(48, GIVEN, generator_for(0, "fresh flights"))
    found = {}
    for regime in (Regime.INDEPENDENT, Regime.SHARED):
        options = Regimes(threads=1, regime=regime)
        with seeded(options.seed, "weights"):
            made = experiment(options)
        for _ in train(made, options):
            pass
        matrix = ways_of_sampling(options.sampling_steps)["horizon 1"]
        tracks = roll_out(made.denoiser, given, matrix, generator_for(0, "noise horizon 1"))
        found[regime] = judge(tracks, truth)
    assert found[Regime.INDEPENDENT].whole >= 0.9
    assert found[Regime.INDEPENDENT].distance[1] < 0.05
    assert found[Regime.SHARED].distance[1] > 0.2
