"""One call of a distilled network gives samples, where one call of its teacher gives their mean."""

import copy

import pytest
import torch
from torch import Generator, Tensor

from noiseladder.diffusion.batch import Batch
from noiseladder.diffusion.consistency import TOP, Consistency, Distilled
from noiseladder.diffusion.denoiser import Denoiser
from noiseladder.diffusion.noise import Cosine
from noiseladder.diffusion.objective import DiffusionForcing
from noiseladder.diffusion.sampling import DDIM, Step, final, sample
from noiseladder.diffusion.training_levels import clean
from noiseladder.networks import SplitNetwork

KEPT, NEW = 0.8, 0.6  # x_t = KEPT x_(t-1) + NEW noise: given x_(t-1) = 1, a token has mean .8 and deviation .6


def sequences(count: int, generator: Generator, length: int = 6) -> Batch:
    tokens = [torch.randn(count, 1, generator=generator)]
    for _ in range(length - 1):
        tokens.append(KEPT * tokens[-1] + NEW * torch.randn(count, 1, generator=generator))
    return Batch(torch.stack(tokens, dim=1))


def often_unseen(count: int, length: int, generator: Generator) -> Tensor:
    levels = torch.rand(count, length, generator=generator)
    return torch.where(torch.rand(count, length, generator=generator) < 0.3, 1.0, levels)


def fit(denoiser: Denoiser, objective: object, steps: int, rate: float, generator: Generator) -> None:
    optimizer = torch.optim.AdamW(denoiser.parameters(), rate)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = rate * (1 - step / steps)
        loss = objective(denoiser, sequences(128, generator), generator)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def samples(denoiser: Denoiser, levels: list[float], step: Step = DDIM) -> Tensor:
    """What 4,000 sequences in which the last token was 1 go on with."""
    noise = torch.randn(4000, 1, 1, generator=Generator().manual_seed(9))
    matrix = torch.tensor(levels)[:, None]
    given = torch.tensor([levels[0] < 1])
    with torch.no_grad():
        state = denoiser.observe(torch.ones(4000, 1, 1))
        return final(sample(denoiser, noise, matrix, None, state, step, given=given))


@pytest.mark.slow
def test_one_call_of_the_student_is_a_sample_where_one_of_its_teacher_is_a_mean() -> None:
    generator = Generator().manual_seed(0)
    torch.manual_seed(0)
    teacher = Denoiser(SplitNetwork(1, 32, 1, 2), Cosine())
    fit(teacher, DiffusionForcing(clean, query_levels=often_unseen, query_share=1.0), 800, 3e-3, generator)
    assert samples(teacher, [1.0, 0.0]).std() < 0.01
    walked = samples(teacher, [1 - rung / 32 for rung in range(33)])
    assert abs(walked.std() - NEW) < 0.1
    student = copy.deepcopy(teacher).requires_grad_(True)
    fit(student, Consistency(teacher.eval()), 600, 2e-3, generator)
    mean = samples(student, [1.0, 0.0])
    assert mean.std() < 0.01
    assert abs(mean.mean() - KEPT) < 0.12
    sampled = Distilled(student)
    for levels, step in (([1.0, 0.0], DDIM), ([1.0, 0.5, 0.0], Step(1.0, Generator().manual_seed(1)))):
        found = samples(sampled, levels, step)
        assert abs(found.mean() - KEPT) < 0.12
        assert abs(found.std() - NEW) < 0.1
    again = samples(student, [TOP, 0.0])
    torch.testing.assert_close(samples(sampled, [1.0, 0.0]), again, rtol=1e-4, atol=1e-4)


def test_the_teacher_is_left_as_it_was_and_the_loss_of_parts_adds_up() -> None:
    torch.manual_seed(0)
    teacher = Denoiser(SplitNetwork(1, 8, 1, 1), Cosine())
    torch.nn.init.normal_(teacher.network.head.write.weight)
    student = copy.deepcopy(teacher)
    objective = Consistency(teacher, rungs=4)
    batch = sequences(6, Generator().manual_seed(1))
    mask = torch.ones(6, 6, dtype=torch.bool)
    mask[:, 4:] = False
    batch = Batch(torch.where(mask[..., None], batch.tokens, torch.nan), None, mask)
    whole = objective(student, batch, Generator().manual_seed(2))
    parts = [objective(student, batch, Generator().manual_seed(2), part) for part in (slice(0, 2), slice(2, 6))]
    torch.testing.assert_close(sum(parts), whole)
    whole.backward()
    assert all(parameter.grad is None for parameter in teacher.parameters())
    assert student.network.head.write.weight.grad.abs().sum() > 0


def test_on_the_lowest_rung_the_goal_is_the_teachers_own_step() -> None:
    """With a single rung from level TOP to 0 the student learns the teacher's clean guess, nothing else."""
    torch.manual_seed(0)
    teacher = Denoiser(SplitNetwork(1, 8, 1, 1), Cosine())
    torch.nn.init.normal_(teacher.network.head.write.weight)
    student = copy.deepcopy(teacher)
    batch = sequences(4, Generator().manual_seed(1))
    for unseen in (0.0, 0.9):
        loss = Consistency(teacher, rungs=1, unseen=unseen)(student, batch, Generator().manual_seed(2))
        assert loss.item() < 1e-12
    with torch.no_grad():
        student.network.head.write.bias += 0.1
    assert Consistency(teacher, rungs=1)(student, batch, Generator().manual_seed(2)).item() > 1e-3


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"rungs": 0}, "0 rungs, a knee of 0.03"),
        ({"knee": 0.0}, "32 rungs, a knee of 0,"),
        ({"step": Step(1.0, Generator())}, "has to be deterministic"),
    ],
)
def test_impossible_ladders_are_refused(options: dict[str, object], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        Consistency(Denoiser(SplitNetwork(1, 8, 1, 1), Cosine()), **options)
