"""Crossing paths: the shapes are told apart, memory keeps to those trained on, forgetting joins them anew."""

import pytest
import torch

from noiseladder.recipes.cross import (
    LENGTH,
    SHAPES,
    Cross,
    cut_anywhere,
    draw,
    experiment,
    measure,
    sample_paths,
    shape_of,
    shapes,
    shares,
)
from noiseladder.recipes.paths import NEITHER
from noiseladder.training import generator_for, seeded, train


def test_each_shape_is_recognised_and_the_middle_line_is_none() -> None:
    straight = shapes()[:1].clone()
    straight[..., 1] = 0
    assert shape_of(torch.cat([shapes(), straight])).tolist() == [0, 1, 2, 3, NEITHER]


def test_training_paths_have_the_first_two_shapes_only() -> None:
    found = shares(draw(4000, generator_for(3, "test crosses")))
    assert sum(found[:2]) == pytest.approx(1)
    assert 0.47 < found[0] < 0.53


def test_pieces_are_parts_of_paths_and_the_rest_is_masked() -> None:
    paths = draw(200, generator_for(4, "test crosses"))
    batch = cut_anywhere(paths, generator_for(5, "test crosses"))
    assert batch.mask is not None
    lengths = batch.mask.sum(dim=1)
    assert set(lengths.tolist()) == set(range(1, LENGTH + 1))
    for path, piece, length in zip(paths, batch.tokens, lengths.tolist()):
        assert torch.equal(piece[:length], path[LENGTH - length :])


def test_a_context_as_long_as_the_path_is_full_memory() -> None:
    denoiser = experiment(Cross(width=8)).denoiser
    torch.nn.init.normal_(denoiser.network.writer.write.weight)
    first = draw(3, generator_for(6, "test crosses"))[:, :1]

    def go(context: int | None) -> torch.Tensor:
        return sample_paths(denoiser, first, generator_for(7, "noise"), context, steps=3)

    torch.testing.assert_close(go(LENGTH), go(None), atol=1e-4, rtol=1e-4)
    assert not torch.allclose(go(1), go(None), atol=1e-2)
    with pytest.raises(ValueError, match="at least 1"):
        go(0)


@pytest.mark.slow
def test_one_model_keeps_to_two_shapes_with_memory_and_joins_all_four_without() -> None:
    options = Cross(threads=1)
    with seeded(options.seed, "weights"):
        made = experiment(options)
    for _ in train(made, options):
        pass
    full = shape_of(measure(made.denoiser, 600, 11, context=None))
    assert float((full[:600] == 0).float().mean()) >= 0.99  # from the upper start
    assert float((full[600:] == 1).float().mean()) >= 0.99
    forgetful = shares(measure(made.denoiser, 600, 11, context=1))
    assert min(forgetful[: len(SHAPES)]) >= 0.15, forgetful
