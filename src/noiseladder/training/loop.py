"""The training loop: draw a batch, lower its loss, average the weights, now and then validate; watch it as it runs."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import Generator, Tensor, nn

from noiseladder.diffusion.batch import Batch
from noiseladder.diffusion.denoiser import Denoiser

from .average import WeightAverage, load_parts, with_weights
from .experiment import Experiment, Objective
from .optimizer import learning_rate, make_optimizer
from .options import TrainingOptions
from .randomness import generator_for, seeded
from .ranks import Ranks, own, part_of, spread_over_ranks, sync_gradients, whole
from .threads import choose_threads
from .validation import CHUNK, DRAWS, LEVELS, Validation, at_level


@dataclass(frozen=True)
class Report:
    """What one step did.

    step: steps done, from 1. loss: of this step's batch. gradient_norm: before clipping. seconds: of training so
    far, over resumptions. tokens_per_second: a running mean. validation: in the steps that validate.
    """

    step: int
    loss: float
    gradient_norm: float
    learning_rate: float
    seconds: float
    tokens_per_second: float
    validation: Validation | None = None


def train(experiment: Experiment, options: TrainingOptions, ranks: Ranks | None = None) -> Iterator[Report]:
    """Train `experiment.denoiser` in place, one Report a step; leave the loop whenever you like.

    When the loop ends, or is left, the denoiser holds the best validated weights, or without validation the
    averaged ones, and is in evaluation mode. Nothing is written: `run` keeps a folder with checkpoints.
    Raises ValueError when the loss is no longer finite.
    """
    threads = torch.get_num_threads()
    training = Training(experiment, options, ranks or Ranks())
    try:
        yield from training
    finally:
        training.finish()
        torch.set_num_threads(threads)


class Training:
    """A training run in memory: iterate over it for its reports; between two of them it is whole and can be saved.

    threads: what an earlier part of this run used; otherwise the options say, or it is timed (training/threads.py).
    """

    def __init__(
        self,
        experiment: Experiment,
        options: TrainingOptions,
        ranks: Ranks,
        threads: int | None = None,
    ) -> None:
        self.experiment, self.options, self.ranks = experiment, options, ranks
        self.device = torch.device(options.device)
        self.denoiser = experiment.denoiser.to(self.device).train()
        self.validation_batch = None if experiment.validation is None else experiment.validation.to(self.device)
        loss = LossOf(self.denoiser)
        self.module: nn.Module = loss
        self.threads = threads or options.threads or self._choose_threads()
        torch.set_num_threads(self.threads)
        if ranks.count > 1:
            unused = self._leaves_weights_unused()
            self.module = spread_over_ranks(loss, experiment.blocks, ranks, options.shard, unused)
        self.optimizer = make_optimizer(self.denoiser, options)
        self.average = WeightAverage(self.denoiser, options.average)
        self.best: dict[str, Tensor] | None = None
        self.best_loss = math.inf
        self.validations_since_best = 0
        self.steps_done = 0
        self.seconds = 0.0
        self.tokens_per_second = 0.0

    def __iter__(self) -> Iterator[Report]:
        while not self.done:
            yield self.step()

    @property
    def done(self) -> bool:
        """Whether all steps are done, or validation has stopped getting better."""
        patience = self.options.patience
        return self.steps_done >= self.options.steps or (
            patience is not None and self.validations_since_best >= patience
        )

    def step(self) -> Report:
        """One step of the optimizer."""
        start, step, options = time.perf_counter(), self.steps_done, self.options
        batch = self._batch(step)
        rate = learning_rate(step, options)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        loss = self._backward(batch, step)
        norm = torch.nn.utils.clip_grad_norm_(self.denoiser.parameters(), options.clip)
        length = float(whole(own(norm), norm))
        if not (math.isfinite(loss) and math.isfinite(length)):
            raise ValueError(
                f"the loss is {loss:g} and its gradient {length:g} at step {step + 1}: lower learning_rate"
                f" ({options.learning_rate:g}), or look for extreme values in the data"
            )
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.average.update(self.denoiser, step)
        self.steps_done += 1
        self._keep_time(time.perf_counter() - start, math.prod(batch.tokens.shape[:2]))
        validation = None
        if self.steps_done % options.validate_every == 0 or self.steps_done == options.steps:
            validation = self.validate()
        return Report(self.steps_done, loss, length, rate, self.seconds, self.tokens_per_second, validation)

    def validate(self) -> Validation | None:
        """Measure the averaged weights, and keep them if they are the best so far."""
        batch = self.validation_batch
        if batch is None:
            return None
        start = time.perf_counter()
        with ExitStack() as stack:
            stack.enter_context(torch.no_grad())
            stack.enter_context(with_weights(self.denoiser, self.average.parts))
            self.module.eval()
            stack.callback(self.module.train)
            draws = [self._validation_loss(self.experiment.objective, batch, draw) for draw in range(DRAWS)]
            by_level = [self._validation_loss(at_level(self.experiment.objective, k), batch, 0) for k in LEVELS]
        loss = sum(draws) / DRAWS
        better = loss < self.best_loss
        if better:
            self.best = {name: part.clone() for name, part in self.average.parts.items()}
            self.best_loss, self.validations_since_best = loss, 0
        else:
            self.validations_since_best += 1
        self.seconds += time.perf_counter() - start
        return Validation(loss, tuple(zip(LEVELS, by_level, strict=True)), better)

    def kept(self) -> dict[str, Tensor]:
        """The weights worth keeping: the best validated, or the average where nothing was validated."""
        return self.average.parts if self.best is None else self.best

    def finish(self) -> None:
        """Give the denoiser the weights worth keeping."""
        load_parts(self.denoiser, self.kept())
        self.denoiser.eval()

    # What a checkpoint holds.

    def tensors(self) -> dict[str, Tensor]:
        """Everything that changes in training, by name, whole even where it is sharded; every rank must call."""
        found = {f"weights/{name}": whole(own(p.detach()), p) for name, p in self.denoiser.named_parameters()}
        found |= {f"buffers/{name}": buffer for name, buffer in self._buffers().items()}
        for name, parameter in self.denoiser.named_parameters():
            found[f"average/{name}"] = whole(self.average.parts[name], parameter)
            if self.best is not None:
                found[f"best/{name}"] = whole(self.best[name], parameter)
            for key, value in self.optimizer.state.get(parameter, {}).items():
                found[f"optimizer/{key}/{name}"] = whole(own(value), value)
        return found

    def note(self) -> dict[str, Any]:
        """Everything else that a resumed run needs, as JSON values."""
        return {
            "step": self.steps_done,
            "seconds": self.seconds,
            "threads": self.threads,
            "best_loss": self.best_loss if self.best is not None else None,
            "validations_since_best": self.validations_since_best,
        }

    def restore(self, tensors: Mapping[str, Tensor], note: Mapping[str, Any]) -> None:
        """Become the run that wrote `tensors` and `note`; their names and shapes must be this run's."""
        parameters = dict(self.denoiser.named_parameters())

        def parts(kind: str) -> dict[str, Tensor]:
            return {name: part_of(tensors[f"{kind}/{name}"], p).clone() for name, p in parameters.items()}

        load_parts(self.denoiser, parts("weights"))
        for name, buffer in self._buffers().items():
            buffer.copy_(tensors[f"buffers/{name}"])
        self.average.parts = parts("average")
        self.best = None if note["best_loss"] is None else parts("best")
        self.best_loss = math.inf if note["best_loss"] is None else note["best_loss"]
        for name, parameter in parameters.items():
            saved = {
                key: tensors[f"optimizer/{key}/{name}"]
                for key in ("step", "exp_avg", "exp_avg_sq")
                if f"optimizer/{key}/{name}" in tensors
            }
            if saved:  # a weight that never had a gradient has no state
                state = {"step": saved["step"].to(self.device)}
                for key in ("exp_avg", "exp_avg_sq"):
                    state[key] = torch.zeros_like(parameter)
                    own(state[key]).copy_(part_of(saved[key], parameter))
                self.optimizer.state[parameter] = state
        self.steps_done, self.seconds = note["step"], note["seconds"]
        self.validations_since_best = note["validations_since_best"]

    # How a step is made.

    def _batch(self, step: int) -> Batch:
        return self.experiment.batches(step, generator_for(self.options.seed, "batch", step)).to(self.device)

    def _loss(self, objective: Objective, batch: Batch, generator: Generator, part: slice) -> Tensor:
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.options.bfloat16):
            loss: Tensor = self.module(objective, batch, generator, part)
        return loss

    def _backward(self, batch: Batch, step: int) -> float:
        """Leave the gradient of the batch's loss in the weights; the loss over all ranks."""
        seed, parts = self.options.seed, self.ranks.parts(len(batch), self.options.accumulate)
        total = torch.zeros((), device=self.device)
        with seeded(seed, f"dropout {self.ranks.index}", step, self.device):
            for part in parts:
                sync_gradients(self.module, part is parts[-1])
                # A fresh generator: every part draws the numbers of the whole batch.
                generator = generator_for(seed, "noise", step, self.device)
                loss = self._loss(self.experiment.objective, batch, generator, part)
                # The losses of the parts add up; ranks average their gradients, so each counts for all.
                (loss * self.ranks.count).backward()
                total += loss.detach()
        return float(self.ranks.sum(total))

    def _validation_loss(self, objective: Objective, batch: Batch, draw: int) -> float:
        pieces = math.ceil(len(batch) / (CHUNK * self.ranks.count))
        total = torch.zeros((), device=self.device)
        for part in self.ranks.parts(len(batch), pieces):
            generator = generator_for(self.options.seed, "validation", draw, self.device)
            total += self._loss(objective, batch, generator, part)
        return float(self.ranks.sum(total))

    def _buffers(self) -> dict[str, Tensor]:
        """What a module keeps beside its parameters and wants saved."""
        names = {name for name, _ in self.denoiser.named_parameters()}
        return {name: value for name, value in self.denoiser.state_dict().items() if name not in names}

    def _choose_threads(self) -> int:
        if self.device.type != "cpu" or self.ranks.count > 1:
            return torch.get_num_threads()
        buffers = {name: value.clone() for name, value in self._buffers().items()}
        batch = self._batch(0)
        # What decides how long a step takes; not the seed, for one.
        work = {
            "network": type(self.denoiser.network).__name__,
            "weights": [list(parameter.shape) for parameter in self.denoiser.parameters()],
            "batch": list(batch.tokens.shape),
            "accumulate": self.options.accumulate,
            "bfloat16": self.options.bfloat16,
        }
        try:
            return choose_threads(lambda: self._backward(batch, 0), work)
        finally:
            self._undo(buffers)

    def _leaves_weights_unused(self) -> bool:
        """Whether a backward pass leaves some weights without a gradient: tried before the ranks are joined."""
        buffers = {name: value.clone() for name, value in self._buffers().items()}
        loss = self._loss(
            self.experiment.objective,
            self._batch(0),
            generator_for(self.options.seed, "noise", 0, self.device),
            self.ranks.parts(len(self._batch(0)), self.options.accumulate)[0],
        )
        loss.backward()
        unused = any(p.grad is None for p in self.denoiser.parameters() if p.requires_grad)
        self._undo(buffers)
        return unused

    def _undo(self, buffers: Mapping[str, Tensor]) -> None:
        """Forget a pass that was only a trial."""
        self.denoiser.zero_grad()
        for name, buffer in self._buffers().items():
            buffer.copy_(buffers[name])

    def _keep_time(self, seconds: float, tokens: int) -> None:
        self.seconds += seconds
        rate = tokens / max(seconds, 1e-9)
        # Follows changes within some twenty steps; the first step, which warms up, counts no more than others.
        share = max(0.05, 1 / self.steps_done) if self.tokens_per_second else 1.0
        self.tokens_per_second += share * (rate - self.tokens_per_second)


class LossOf(nn.Module):
    """A denoiser and an objective as one module call, which is where DDP and fully_shard hook in."""

    def __init__(self, denoiser: Denoiser) -> None:
        super().__init__()
        self.denoiser = denoiser

    def forward(self, objective: Objective, batch: Batch, generator: Generator, part: slice) -> Tensor:
        """The loss of one part of a batch."""
        return objective(self.denoiser, batch, generator, part)
