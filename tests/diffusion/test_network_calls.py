"""The number of network calls is known before sampling."""

import pytest
import torch
from torch import Tensor

from noiseladder.diffusion import scheduling_matrix as scheduling
from noiseladder.diffusion.denoiser import Denoiser
from noiseladder.diffusion.noise import Cosine
from noiseladder.diffusion.sampling import final, sample
from noiseladder.networks.min_gru import MinGRUNetwork

MATRICES = {
    "whole sequence": scheduling.full_sequence(5, 4),
    "autoregressive": scheduling.autoregressive(5, 4),
    "pyramid": scheduling.pyramid(5, 4, 2),
    "trapezoid": scheduling.trapezoid(5, 4, 2),
    "keyframes": scheduling.keyframes(5, 4, 2),
    "chunks": scheduling.chunks(5, 4, 2),
    "with a pause": scheduling.autoregressive(5, 4).repeat_interleave(2, dim=0),
}


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("matrix", MATRICES.values(), ids=MATRICES.keys())
def test_calls_are_predicted(matrix: Tensor, causal: bool) -> None:
    network = MinGRUNetwork(2, width=8, layers=1)
    network.causal = causal  # type: ignore[misc]
    calls = 0

    def count(*_: object) -> None:
        nonlocal calls
        calls += 1

    network.register_forward_hook(count)
    final(sample(Denoiser(network, Cosine()), torch.randn(2, 5, 2), matrix))
    assert calls == scheduling.network_calls(matrix, causal)
