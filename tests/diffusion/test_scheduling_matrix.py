"""Laws of scheduling matrices, for every one of them and many lengths."""

import pytest
import torch
from hypothesis import given, settings, strategies as st

from exact import ExactDenoiser, JointDenoiser, KalmanDenoiser
from noiseladder.diffusion import scheduling_matrix as matrices
from noiseladder.diffusion.noise import Cosine, LogSNR
from noiseladder.diffusion.sampling import final, sample
from noiseladder.recipes.linear_gaussian import example

# (make, delays) by name: what a matrix is, and when each of its tokens should start.
MATRICES = {
    "full_sequence": (matrices.full_sequence, lambda t, length, steps: 0),
    "autoregressive": (matrices.autoregressive, lambda t, length, steps: t * steps),
    "pyramid": (lambda length, steps: matrices.pyramid(length, steps, 3), lambda t, length, steps: 3 * t),
    "trapezoid": (
        lambda length, steps: matrices.trapezoid(length, steps, 2),
        lambda t, length, steps: 2 * min(t, length - 1 - t),
    ),
    "keyframes": (
        lambda length, steps: matrices.keyframes(length, steps, 3),
        lambda t, length, steps: 0 if t % 3 == 0 else steps,
    ),
    "chunks": (
        lambda length, steps: matrices.chunks(length, steps, 2),
        lambda t, length, steps: t // 2 * steps,
    ),
}


@pytest.mark.parametrize("name", MATRICES)
@given(length=st.integers(1, 9), steps=st.integers(1, 12))
@settings(max_examples=60, deadline=None)
def test_every_column_waits_walks_the_stairs_and_ends_clean(name, length, steps):
    make, delay = MATRICES[name]
    matrix = make(length, steps)
    delays = [delay(t, length, steps) for t in range(length)]
    assert matrix.shape == (steps + max(delays) + 1, length)
    assert ((matrix >= 0) & (matrix <= 1)).all()
    assert (matrix.diff(dim=0) <= 0).all()
    assert (matrix[0] == 1).all()
    assert (matrix[-1] == 0).all()
    for t, start in enumerate(delays):
        assert (matrix[: start + 1, t] == 1).all()
        assert torch.allclose(matrix[start : start + steps + 1, t], torch.linspace(1, 0, steps + 1))
        assert (matrix[start + steps :, t] == 0).all()
    matrices.check_matrix(matrix)


@given(
    delays=st.lists(st.integers(0, 7), min_size=1, max_size=9),
    stairs=st.lists(st.floats(0.001, 0.999), min_size=0, max_size=6).map(lambda inner: [1.0, *inner, 0.0]),
)
@settings(max_examples=150, deadline=None)
def test_any_delays_and_any_stairs_make_a_valid_matrix(delays, stairs):
    stairs = torch.tensor(sorted(stairs, reverse=True))
    matrix = matrices.staircase(torch.tensor(delays), len(stairs) - 1, stairs)
    matrices.check_matrix(matrix)
    assert len(matrix) == len(stairs) - 1 + max(delays) + 1
    for column, delay in zip(matrix.unbind(1), delays, strict=True):
        assert torch.equal(column[delay : delay + len(stairs)], stairs)


def test_golden_pyramid():
    fifths = (matrices.pyramid(4, 5, 1) * 5).round().long()
    rows = ["".join(map(str, row)) for row in fifths.tolist()]
    assert rows == ["5555", "4555", "3455", "2345", "1234", "0123", "0012", "0001", "0000"]


@pytest.mark.parametrize("length", range(1, 10))
def test_the_trapezoid_ends_clean_and_starts_at_both_ends(length):
    """Published code left a column of its trapezoid at 0 over pure noise."""
    matrix = matrices.trapezoid(length, 4, 2)
    assert (matrix[0] == 1).all()
    assert (matrix[-1] == 0).all()
    assert torch.equal(matrix, matrix.flip(1))
    assert (matrix[1, 0], matrix[1, -1]) == (0.75, 0.75)


@pytest.mark.parametrize("name", MATRICES)
@given(length=st.integers(1, 9), steps=st.integers(1, 6))
@settings(max_examples=15, deadline=None)
def test_the_number_of_calls_is_known_before_sampling(name, length, steps):
    matrix = MATRICES[name][0](length, steps)
    noise = torch.randn(2, length, 1, dtype=torch.float64)
    for denoiser in (KalmanDenoiser(example()), JointDenoiser(example())):
        final(sample(denoiser, noise, matrix))
        assert denoiser.calls == matrices.network_calls(matrix)
        assert denoiser.calls + denoiser.readings == matrices.network_calls(matrix, causal=denoiser.causal)


def test_a_row_in_which_nothing_moves_costs_no_call():
    matrix = torch.tensor([[1.0, 1.0], [0.5, 1.0], [0.5, 1.0], [0.0, 0.5], [0.0, 0.0]])
    denoiser = KalmanDenoiser(example())
    final(sample(denoiser, torch.randn(1, 2, 1, dtype=torch.float64), matrix))
    assert denoiser.calls == matrices.network_calls(matrix) == 3


class Recording(KalmanDenoiser):
    """Writes down how many tokens each call is shown."""

    def __init__(self):
        super().__init__(example())
        self.widths = []

    def __call__(self, noisy, levels, condition=None, state=None):
        self.widths.append(noisy.shape[1])
        return ExactDenoiser.__call__(self, noisy, levels, condition, state)


def test_autoregressive_sampling_shows_a_causal_denoiser_one_token_at_a_time():
    """Published code recomputed the whole window at every step."""
    denoiser = Recording()
    final(sample(denoiser, torch.randn(3, 6, 1, dtype=torch.float64), matrices.autoregressive(6, 4)))
    assert denoiser.widths == [1] * 24


def test_a_pyramid_shows_a_causal_denoiser_only_the_tokens_on_the_stairs():
    denoiser = Recording()
    final(sample(denoiser, torch.randn(3, 8, 1, dtype=torch.float64), matrices.pyramid(8, 4, 2)))
    assert max(denoiser.widths) == 2  # four rows of stairs, two rows apart


def test_log_snr_stairs_fall_evenly_between_exact_ends():
    for schedule in (Cosine(), LogSNR()):
        stairs = matrices.log_snr_stairs(schedule, 28).double()
        assert (stairs[0], stairs[-1]) == (1, 0)
        inner = schedule.log_snr(stairs[4:-4])
        assert torch.allclose(inner, torch.arange(-10, 11).double(), atol=1e-3)


def test_the_causal_delay_is_a_lag_of_nine_nats():
    """.32 of stairs that are uniform in log-SNR over +-14 (exact-tests.md section 5: 9 / 28), and more of Cosine's."""
    assert matrices.causal_delay(LogSNR(), 200) == pytest.approx(9 / 28 * 200, abs=1)
    assert 0.6 <= matrices.causal_delay(Cosine(), 100) / 100 <= 0.8


@pytest.mark.parametrize(
    ("matrix", "options", "said"),
    [
        (torch.tensor([[1.0, 1.0], [0.2, 0.5], [0.3, 0.0]]), {}, "column 0 .* rises from 0.2 to 0.3 after row 1"),
        (torch.tensor([[1.0, 1.0], [0.5, 1.5]]), {}, r"holds 1.5 in row 1, column 1; levels lie\s+in \[0, 1\]"),
        (torch.tensor([[1.0, float("nan")], [0.0, 0.0]]), {}, "holds nan in row 0, column 1"),
        (torch.tensor([[1.0, 0.5], [0.0, 0.0]]), {}, "column 1 .* starts at 0.5, not at 1"),
        (torch.tensor([[1.0, 1.0], [0.0, 0.5]]), {}, "column 1 .* ends at 0.5, not at 0"),
        (torch.tensor([1.0, 0.0]), {}, "shape"),
        (torch.tensor([[1, 1], [0, 0]]), {}, "expected floats"),
        (torch.zeros(0, 3), {}, "shape"),
    ],
)
def test_a_matrix_that_cannot_be_walked_is_refused(matrix, options, said):
    with pytest.raises(ValueError, match=said):
        matrices.check_matrix(matrix, **options)
    with pytest.raises(ValueError, match=said):
        sample(KalmanDenoiser(example()), torch.zeros(1, matrix.shape[-1], 1), matrix)


def test_given_tokens_may_start_cleaner_and_early_stops_may_end_noisier():
    warm = torch.tensor([[0.4, 1.0], [0.0, 0.0]])
    matrices.check_matrix(warm, given=torch.tensor([True, False]))
    with pytest.raises(ValueError, match="column 0"):
        matrices.check_matrix(warm, given=torch.tensor([False, True]))
    matrices.check_matrix(torch.tensor([[1.0, 1.0], [0.0, 0.5]]), early_stop=True)


@pytest.mark.parametrize(
    "make",
    [
        lambda: matrices.staircase(torch.tensor([0, 1]), 0),
        lambda: matrices.staircase(torch.tensor([0, -1]), 3),
        lambda: matrices.staircase(torch.tensor([0.0, 1.0]), 3),
        lambda: matrices.staircase(torch.tensor([], dtype=torch.long), 3),
        lambda: matrices.staircase(torch.tensor([0, 1]), 3, torch.tensor([1.0, 0.0])),
    ],
)
def test_impossible_staircases_are_refused(make):
    with pytest.raises(ValueError, match="expected"):
        make()
