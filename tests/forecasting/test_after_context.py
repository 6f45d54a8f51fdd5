import torch

from noiseladder.diffusion.batch import Batch
from noiseladder.diffusion.denoiser import Denoiser
from noiseladder.diffusion.noise import Cosine
from noiseladder.diffusion.training_levels import Constant
from noiseladder.forecasting.objective import AfterContext
from noiseladder.networks import RecurrentNetwork

CONTEXT = 4


def denoiser(parts: bool = False) -> Denoiser:
    torch.manual_seed(0)
    made = Denoiser(RecurrentNetwork(2, 8, parts=(1, 1) if parts else ()), Cosine())
    torch.nn.init.normal_(made.network.writer.write.weight)  # it starts at zero, and then nothing matters
    return made


def loss(tokens: torch.Tensor, mask: torch.Tensor | None = None, **changes: object) -> float:
    objective = AfterContext(context=CONTEXT, **changes)
    batch = Batch(tokens, mask=mask)
    return objective(denoiser(mask is not None), batch, torch.Generator().manual_seed(1)).item()


def test_the_context_is_read_but_has_no_loss():
    tokens = torch.randn(3, 9, 2, generator=torch.Generator().manual_seed(0))
    changed = tokens.clone()
    changed[:, 0] += 1
    assert loss(tokens) != loss(changed)
    # With every future value missing nothing is left to count.
    mask = torch.ones(3, 9, 2, dtype=torch.bool)
    mask[:, CONTEXT:] = False
    assert loss(tokens, mask) == 0


def test_at_level_one_the_loss_is_that_of_a_prediction_from_the_clean_past():
    tokens = torch.randn(3, 9, 2, generator=torch.Generator().manual_seed(0))
    model, squares = denoiser(), []
    for t in range(CONTEXT, 9):
        state = model.observe(tokens[:, :t])
        guess = model(torch.zeros(3, 1, 2), torch.ones(3, 1), state=state).clean[:, 0]
        squares.append((guess - tokens[:, t]) ** 2)
    expected = float(torch.stack(squares).mean())
    torch.testing.assert_close(loss(tokens, query_levels=Constant(1.0)), expected, rtol=1e-4, atol=0)


def test_missing_values_may_hold_anything():
    tokens = torch.randn(3, 9, 2, generator=torch.Generator().manual_seed(0))
    mask = torch.rand(3, 9, 2, generator=torch.Generator().manual_seed(2)) < 0.7
    assert loss(tokens, mask) == loss(torch.where(mask, tokens, torch.nan), mask)
