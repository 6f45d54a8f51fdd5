"""The page that explains the method computes what the library computes."""

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import Generator, Tensor, nn

from noiseladder.diffusion.batch import Batch
from noiseladder.diffusion.denoiser import Denoiser
from noiseladder.diffusion.noise import Cosine
from noiseladder.diffusion.objective import DiffusionForcing
from noiseladder.diffusion.sampling import final, sample
from noiseladder.diffusion.scheduling_matrix import pyramid
from noiseladder.diffusion.state import State


@pytest.fixture(scope="module")
def page() -> ModuleType:
    path = Path(__file__).parents[2] / "examples" / "one_page.py"
    specification = importlib.util.spec_from_file_location("one_page", path)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


@dataclass(frozen=True)
class Hidden(State):
    hidden: Tensor


class OnePageNetwork(nn.Module):
    """The page's network behind the library's interface."""

    causal = True

    def __init__(self, network: nn.Module):
        super().__init__()
        self.inner = network

    def initial_state(self, batch: int) -> Hidden:
        return Hidden(torch.zeros(batch, self.inner.remember.hidden_size))

    def forward(self, tokens: Tensor, levels: Tensor, condition: Tensor | None, state: Hidden) -> tuple[Tensor, Hidden]:
        output, hidden = self.inner(tokens, levels, state.hidden)
        return output, Hidden(hidden)


@pytest.fixture
def network(page: ModuleType) -> nn.Module:
    torch.manual_seed(0)
    return page.Network(2)


@pytest.fixture
def denoiser(network: nn.Module) -> Denoiser:
    return Denoiser(OnePageNetwork(network), Cosine())


def test_the_loss_is_the_library_s(page: ModuleType, network: nn.Module, denoiser: Denoiser) -> None:
    tokens = page.sines(5, 16, Generator().manual_seed(1))
    ours = DiffusionForcing()(denoiser, Batch(tokens), Generator().manual_seed(2))
    assert page.loss(network, tokens, Generator().manual_seed(2)).item() == pytest.approx(ours.item(), rel=1e-6)


@pytest.mark.parametrize("level", [0.0, 0.02, 0.5, 1.0])
def test_observing_is_the_library_s(page: ModuleType, network: nn.Module, denoiser: Denoiser, level: float) -> None:
    tokens = page.sines(5, 6, Generator().manual_seed(1))
    ours = denoiser.observe(tokens, level=level)
    theirs = page.observe(network, tokens, page.start(network, 5), level)
    torch.testing.assert_close(theirs, ours.hidden)


@pytest.mark.parametrize(("steps", "delay"), [(5, 1), (7, 0), (4, 4)])
def test_sampling_is_the_library_s(
    page: ModuleType, network: nn.Module, denoiser: Denoiser, steps: int, delay: int
) -> None:
    assert torch.equal(page.pyramid(4, steps, delay), pyramid(4, steps, delay))
    noise = torch.randn(3, 4, 2, generator=Generator().manual_seed(3))
    before = page.sines(3, 6, Generator().manual_seed(1))
    ours = final(sample(denoiser, noise, pyramid(4, steps, delay), state=denoiser.observe(before)))
    state = page.observe(network, before, page.start(network, 3))
    theirs = page.sample(network, noise, page.pyramid(4, steps, delay), state)
    torch.testing.assert_close(theirs, ours, atol=1e-5, rtol=1e-5)
