"""The loop does what it says: same numbers however a batch is cut, the best weights kept, nothing random unseeded."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from noiseladder.diffusion.batch import Batch
from noiseladder.diffusion.denoiser import Denoiser
from noiseladder.diffusion.noise import Cosine
from noiseladder.diffusion.objective import DiffusionForcing
from noiseladder.diffusion.training_levels import clean, independent
from noiseladder.networks import RecurrentNetwork
from noiseladder.recipes.sines import Sines, experiment
from noiseladder.training import Experiment, Ranks, Report, Training, TrainingOptions, generator_for, seeded, train
from noiseladder.training.average import WeightAverage, with_weights
from noiseladder.training.optimizer import learning_rate, make_optimizer
from noiseladder.training.randomness import LARGEST_SEED, check_seed, seed_for
from noiseladder.training.threads import choose_threads

TINY = Sines(steps=6, batch=6, length=8, width=8, warmup=2, validate_every=3, checkpoint_every=2, threads=1, seed=3)


def make(options: Sines = TINY) -> Experiment:
    with seeded(options.seed, "weights"):
        return experiment(options)


def weights_after(options: Sines, made: Experiment | None = None) -> tuple[list[Report], dict[str, torch.Tensor]]:
    training = Training(made or make(options), options, Ranks())
    reports = list(training)
    return reports, {name: p.detach().clone() for name, p in training.denoiser.named_parameters()}


def largest_difference(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    return max((one[name] - other[name]).abs().max().item() for name in one)


def test_the_same_options_give_the_same_weights_whatever_was_drawn_before() -> None:
    one_reports, one = weights_after(TINY)
    torch.manual_seed(99)
    torch.randn(7)
    other_reports, other = weights_after(TINY)
    assert [r.loss for r in one_reports] == [r.loss for r in other_reports]
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert weights_after(replace(TINY, seed=4))[0][0].loss != one_reports[0].loss


def test_training_leaves_the_random_numbers_of_its_caller_alone() -> None:
    torch.manual_seed(5)
    expected = torch.randn(3)
    torch.manual_seed(5)
    weights_after(TINY)
    assert torch.equal(torch.randn(3), expected)


@pytest.mark.parametrize("two_streams", [False, True])
@pytest.mark.parametrize("masked", [False, True])
def test_accumulation_gives_the_loss_and_weights_of_the_whole_batch(two_streams: bool, masked: bool) -> None:
    def made(options: Sines) -> Experiment:
        whole = make(options)

        def batches(step: int, generator: torch.Generator) -> Batch:
            tokens = whole.batches(step, generator).tokens
            # Lengths differ much, so a mean of the parts' means would be another number.
            lengths = torch.tensor([8, 8, 8, 7, 2, 1])
            return Batch(tokens, mask=torch.arange(8) < lengths[:, None] if masked else None)

        queries = DiffusionForcing(clean, query_levels=independent, query_share=0.7)
        return replace(whole, batches=batches, objective=queries if two_streams else whole.objective)

    whole_reports, whole = weights_after(TINY, made(TINY))
    cut = replace(TINY, accumulate=3)
    cut_reports, pieces = weights_after(cut, made(cut))
    for one, other in zip(whole_reports, cut_reports):
        assert one.loss == pytest.approx(other.loss, rel=1e-5)
        assert one.gradient_norm == pytest.approx(other.gradient_norm, rel=1e-4)
    assert largest_difference(whole, pieces) < 2e-5


def test_more_parts_than_sequences_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"6 sequences cannot be cut into 7 parts .*accumulate 7"):
        weights_after(replace(TINY, accumulate=7))


def test_the_parts_of_all_ranks_are_the_batch() -> None:
    covered = [i for rank in range(3) for part in Ranks(rank, 3).parts(11, 2) for i in range(11)[part]]
    assert covered == list(range(11))


def test_the_learning_rate_rises_in_a_line_and_falls_in_a_cosine() -> None:
    options = TrainingOptions(steps=30, warmup=10, learning_rate=2.0)
    rates = [learning_rate(step, options) for step in range(30)]
    assert rates[:10] == pytest.approx([2.0 * (step + 1) / 11 for step in range(10)])
    assert rates[10] == 2.0
    assert rates[20] == pytest.approx(1.0)
    assert 0 < rates[29] < 0.02


def test_only_matrices_are_decayed() -> None:
    network = RecurrentNetwork(1, 8)
    optimizer = make_optimizer(network, TrainingOptions(weight_decay=0.3))
    decay = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    for parameter in network.parameters():
        assert decay[id(parameter)] == (0.3 if parameter.ndim >= 2 else 0.0)


def test_the_average_follows_its_formula() -> None:
    module = nn.Linear(1, 1, bias=False)
    module.weight.data.fill_(1.0)
    average = WeightAverage(module, decay=0.9)
    expected = 1.0
    for step, weight in enumerate([2.0, -1.0, 4.0] + [3.0] * 200):
        module.weight.data.fill_(weight)
        average.update(module, step)
        decay = min(0.9, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * weight
    assert average.parts["weight"].item() == pytest.approx(expected, rel=1e-6)


def test_weights_lent_to_a_module_are_taken_back_even_after_an_error() -> None:
    module = nn.Linear(3, 2)
    before = {name: p.detach().clone() for name, p in module.named_parameters()}
    other = {name: p + 1 for name, p in before.items()}

    def fail_inside() -> None:
        with with_weights(module, other):
            assert torch.equal(module.weight, other["weight"])
            raise RuntimeError("inside")

    with pytest.raises(RuntimeError, match="inside"):
        fail_inside()
    assert all(torch.equal(p, before[name]) for name, p in module.named_parameters())


def test_validation_changes_nothing_and_is_always_on_the_same_noise() -> None:
    training = Training(make(), TINY, Ranks())
    training.step()
    before = training.tensors()
    first, second = training.validate(), training.validate()
    assert first is not None
    assert second is not None
    assert first.loss == second.loss
    assert first.by_level == second.by_level
    after = training.tensors()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_validation_looks_at_the_averaged_weights() -> None:
    training = Training(make(), TINY, Ranks())
    training.step()
    found = training.validate()
    for part in training.average.parts.values():
        part.add_(0.3)
    moved = training.validate()
    assert found is not None
    assert moved is not None
    assert moved.loss != found.loss


def test_validation_by_level_shows_what_each_level_costs() -> None:
    options = replace(TINY, steps=1)
    made = make(options)
    (report,) = train(made, options)
    assert report.validation is not None
    level, loss = report.validation.by_level[-1]
    assert level == 1.0
    # At pure noise the velocity is minus the clean token: its squared error is measured here by hand.
    batch = made.validation
    assert batch is not None
    training = Training(make(options), options, Ranks())
    list(training)
    with torch.no_grad(), with_weights(training.denoiser, training.average.parts):
        guess = training.denoiser(torch.zeros_like(batch.tokens), torch.ones(batch.tokens.shape[:2])).clean
    assert loss == pytest.approx((guess - batch.tokens).square().mean().item(), rel=1e-5)


def test_patience_ends_training_and_the_best_weights_are_kept() -> None:
    # A learning rate this high soon makes things worse.
    options = replace(
        TINY, steps=400, learning_rate=0.5, warmup=0, clip=100.0, validate_every=2, patience=3, average=0.0
    )
    made = make(options)
    reports = list(train(made, options))
    validations = [r.validation for r in reports if r.validation is not None]
    assert len(reports) < 400
    assert [v.best for v in validations[-4:]] == [True, False, False, False]
    best = min(v.loss for v in validations)
    again = Training(made, replace(options, steps=1), Ranks())  # averages nothing, so it validates these weights
    found = again.validate()
    assert found is not None
    assert found.loss == best
    assert not any(p.grad is not None and p.grad.any() for p in made.denoiser.parameters())


def test_leaving_the_loop_leaves_the_averaged_weights() -> None:
    options = replace(TINY, validate_every=1000)
    made = make(options)
    reports = train(made, options)
    for report in reports:
        if report.step == 3:
            break
    reports.close()  # type: ignore[attr-defined]
    training = Training(make(options), options, Ranks())
    for _ in range(3):
        training.step()
    for name, parameter in made.denoiser.named_parameters():
        assert torch.equal(parameter, training.average.parts[name])
    assert not made.denoiser.training


def test_a_loss_that_is_not_finite_stops_with_a_sentence_before_it_reaches_the_weights() -> None:
    def exploding(
        denoiser: Denoiser, batch: Batch, generator: torch.Generator, part: slice = slice(None)
    ) -> torch.Tensor:
        return next(denoiser.parameters()).sum() * math.inf

    training = Training(replace(make(), objective=exploding), TINY, Ranks())
    before = training.tensors()
    with pytest.raises(ValueError, match="at step 1: lower learning_rate"):
        training.step()
    assert all(torch.equal(t, before[name]) for name, t in training.tensors().items())


def test_it_learns() -> None:
    options = replace(TINY, steps=120, batch=32, learning_rate=1e-2, validate_every=60, average=0.9)
    validations = [r.validation for r in train(make(options), options) if r.validation is not None]
    # The untrained network's loss is near 1, the variance of a velocity.
    assert validations[-1].loss < 0.85
    assert validations[-1].loss < validations[0].loss


def test_bfloat16_computes_in_bfloat16_and_keeps_float32_weights() -> None:
    options = replace(TINY, steps=2, bfloat16=True)
    reports, weights = weights_after(options)
    exact, _ = weights_after(replace(options, bfloat16=False))
    assert reports[1].loss != exact[1].loss  # in step 1 the output is still 0
    assert reports[1].loss == pytest.approx(exact[1].loss, rel=0.03)
    assert {w.dtype for w in weights.values()} == {torch.float32}


def test_no_two_steps_share_their_random_numbers() -> None:
    seeds = {seed_for(0, purpose, step) for purpose in ("noise", "batch") for step in range(20_000)}
    assert len(seeds) > 39_990  # within a purpose all differ; between two, chance allows hardly any
    assert len({seed_for(0, "noise", step) for step in range(20_000)}) == 20_000
    draws = torch.stack([torch.randn(4, generator=generator_for(0, "noise", step)) for step in range(2000)])
    assert draws.mean().abs() < 0.05
    assert abs(torch.corrcoef(torch.stack([draws[:-1].flatten(), draws[1:].flatten()]))[0, 1]) < 0.05


def test_the_faster_number_of_threads_is_chosen_and_remembered(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    times = {1: 0.02, 2: 0.002}
    now = {"threads": 1, "clock": 0.0}
    monkeypatch.setattr(torch, "set_num_threads", lambda threads: now.update(threads=threads))
    monkeypatch.setattr("time.perf_counter", lambda: now["clock"])

    def step() -> None:
        now["clock"] += times[now["threads"]]

    assert choose_threads(step, {"width": 1}) == 2
    times[2] = 0.019  # hardly faster than one: not worth a core
    assert choose_threads(step, {"width": 2}) == 1
    assert choose_threads(step, {"width": 1}) == 2  # as remembered, so that bits stay the same
    for file in (tmp_path / "noiseladder").iterdir():
        file.write_text("damaged")
    assert choose_threads(step, {"width": 1}) == 1


def test_threads_set_by_the_user_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    assert choose_threads(lambda: pytest.fail("timed a step"), {}) == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, "--steps is 0, expected at least 1"),
        ({"learning_rate": -1.0}, "--learning-rate is -1.0, expected a number above 0"),
        ({"learning_rate": math.nan}, "--learning-rate is nan"),
        ({"average": 1.0}, r"--average is 1.0, expected a decay in \[0, 1\)"),
        ({"patience": 0}, "--patience is 0, expected at least 1"),
        ({"threads": 0}, "--threads is 0, expected at least 1"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TrainingOptions(**options)  # type: ignore[arg-type]


def test_dropout_is_a_function_of_the_step() -> None:
    """A network that draws from torch's global generator is repeatable too."""

    class Dropping(RecurrentNetwork):
        def forward(self, tokens, levels, condition, state):  # type: ignore[no-untyped-def]
            output, state = super().forward(tokens, levels, condition, state)
            return nn.functional.dropout(output, 0.5, self.training), state

    def made() -> Experiment:
        with seeded(0, "weights"):
            return replace(make(), denoiser=Denoiser(Dropping(1, 8), Cosine()))

    training = Training(made(), TINY, Ranks())
    list(training)
    torch.manual_seed(123)
    whole = Training(made(), TINY, Ranks())
    assert [r.loss for r in whole] == [r.loss for r in Training(made(), TINY, Ranks())]
    assert all(torch.equal(t, whole.tensors()[name]) for name, t in training.tensors().items())


def test_a_seed_that_a_user_chose_is_a_whole_number_of_31_bits() -> None:
    assert [check_seed(seed) for seed in (0, np.int64(7), torch.tensor(7), LARGEST_SEED)] == [0, 7, 7, 2**31 - 1]
    for seed in (-1, -1_000_003, 2**31, 99_999_999_999_999_999_999, 1.0, float("nan"), "1", None, True, [1]):
        with pytest.raises(ValueError, match=r"^seed is .*, expected a whole number, 0 to 2147483647$"):
            check_seed(seed)
