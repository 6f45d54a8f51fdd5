"""A denoiser that remembers only the last tokens: between nothing and everything, and the tokens it says it knows."""

import pytest
import torch

from exact import KalmanDenoiser
from noiseladder.diffusion import scheduling_matrix as matrices
from noiseladder.diffusion.guidance import EnergyGuided, HistoryGuided, HistoryTerm
from noiseladder.diffusion.memory import Past, ShortMemory
from noiseladder.diffusion.noise import Cosine
from noiseladder.diffusion.sampling import final, rollout, sample
from noiseladder.recipes import linear_gaussian

PROCESS = linear_gaussian.example()
KALMAN = KalmanDenoiser(PROCESS, Cosine())
HISTORY = PROCESS.draw(3, 9, torch.Generator().manual_seed(0))
NOISY = torch.randn(3, 4, 1, generator=torch.Generator().manual_seed(1)).double()
LEVELS = torch.tensor([[0.2, 0.9, 0.5, 0.7]]).double().expand(3, -1)


def guess(denoiser, state):
    return denoiser(NOISY, LEVELS, None, state).clean


@pytest.mark.parametrize("context", [0, 1, 4])
def test_only_the_last_tokens_are_known(context):
    short = ShortMemory(KALMAN, context)
    last = KALMAN.observe(HISTORY[:, -context:]) if context else KALMAN.initial_state(3)
    assert torch.equal(guess(short, short.observe(HISTORY)), guess(KALMAN, last))


def test_a_long_memory_is_the_whole_one_and_reads_nothing_twice():
    short, state = ShortMemory(KALMAN, 9), None
    KALMAN.readings = 0
    for token in HISTORY.unbind(1):
        state = short.observe(token[:, None], None, state)
    assert KALMAN.readings == 9
    assert torch.allclose(guess(short, state), guess(KALMAN, KALMAN.observe(HISTORY)), atol=1e-12)


def test_tokens_are_remembered_as_they_were_observed():
    levels, noise = torch.rand(3, 9).double(), torch.randn(3, 9, 1).double()
    short = ShortMemory(KALMAN, 4)
    state = short.observe(HISTORY[:, :6], None, None, levels[:, :6], noise[:, :6])
    state = short.observe(HISTORY[:, 6:], None, state, levels[:, 6:], noise[:, 6:])
    last = KALMAN.observe(HISTORY[:, -4:], None, None, levels[:, -4:], noise[:, -4:])
    assert torch.allclose(guess(short, state), guess(KALMAN, last), atol=1e-12)


def test_a_roll_out_with_a_short_memory_is_written_out_by_hand():
    noise, matrix = torch.randn(5, 3, 1, 1).double(), matrices.autoregressive(1, 6)
    short = ShortMemory(KALMAN, 2)
    ours = torch.cat(list(rollout(short, noise, matrix, state=short.observe(HISTORY))), dim=1)
    known = HISTORY
    for start in noise:
        token = final(sample(KALMAN, start, matrix, state=KALMAN.observe(known[:, -2:])))
        known = torch.cat([known, token], dim=1)
    assert torch.allclose(ours, known[:, 9:], atol=1e-12)


def test_inside_a_chunk_finished_tokens_push_older_ones_out():
    noise, short = torch.randn(3, 5, 1).double(), ShortMemory(KALMAN, 2)
    whole = final(sample(short, noise, matrices.autoregressive(5, 6), state=short.observe(HISTORY)))
    singles = rollout(short, noise.split(1, dim=1), matrices.autoregressive(1, 6), state=short.observe(HISTORY))
    assert torch.allclose(whole, torch.cat(list(singles), dim=1), atol=1e-12)


def test_short_memories_branch_and_compose_with_guidance():
    short = ShortMemory(KALMAN, 3)
    guided = EnergyGuided(short, lambda clean: clean[..., 0].square().sum(1))
    state = guided.observe(HISTORY)
    both = guided(NOISY[:2], LEVELS[:2], None, state[torch.tensor([1, 1])]).clean
    last = EnergyGuided(KALMAN, guided.energy)(NOISY[:2], LEVELS[:2], None, KALMAN.observe(HISTORY[[1, 1], -3:])).clean
    assert torch.allclose(both, last, atol=1e-12)


def test_history_guidance_keeps_the_same_past():
    short, guided = ShortMemory(KALMAN, 3), HistoryGuided(KALMAN, (HistoryTerm(1.0),), context=3)
    assert torch.allclose(guess(guided, guided.observe(HISTORY)), guess(short, short.observe(HISTORY)), atol=1e-12)
    nothing = HistoryGuided(KALMAN, (HistoryTerm(1.0),), context=0)
    assert len(nothing.observe(HISTORY).past) == 0


def test_what_makes_no_sense_is_refused():
    with pytest.raises(ValueError, match="context is -1, expected a number of tokens to remember"):
        ShortMemory(KALMAN, -1)
    with pytest.raises(ValueError, match="expected a RecentState: let the guided denoiser itself observe"):
        ShortMemory(KALMAN, 2).observe(HISTORY, None, KALMAN.observe(HISTORY))
    with pytest.raises(ValueError, match="condition at some steps and none at others"):
        Past.of(HISTORY, None, 0.0, None).then(Past.of(HISTORY, HISTORY, 0.0, None))
