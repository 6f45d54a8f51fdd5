import pytest
import torch

from noiseladder.data.windows import cut, draw_starts


def test_starts_are_everywhere_and_fit():
    starts = torch.cat([draw_starts(50, 11, 16, torch.Generator().manual_seed(seed)) for seed in range(200)])
    assert starts.min() == 0
    assert starts.max() == 39
    assert torch.bincount(starts).float().std() / torch.bincount(starts).float().mean() < 0.25


def test_one_batch_covers_the_sequence_evenly():
    starts = draw_starts(1010, 11, 10, torch.Generator().manual_seed(0))
    assert (starts // 100).tolist() == list(range(10))


def test_a_window_that_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="does not fit into 5 steps"):
        draw_starts(5, 6, 2, torch.Generator())


def test_cut():
    values = torch.arange(20.0)[:, None]
    assert cut(values, torch.tensor([3, 7]), 4)[..., 0].tolist() == [[3, 4, 5, 6], [7, 8, 9, 10]]
