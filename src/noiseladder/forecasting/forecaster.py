"""A forecaster learns from one panel and samples joint futures of it: fit, predict, save, load."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from noiseladder.data.normalizer import Normalizer
from noiseladder.diffusion.denoiser import Denoiser
from noiseladder.training.loop import Report, train
from noiseladder.training.options import to_json
from noiseladder.training.randomness import generator_for, seed_for
from noiseladder.training.weights import load_weights, read_recipe, save_weights

from .calendar import Calendar
from .calibration import spread_factor, trusted
from .forecast import Forecast
from .frames import panel_from_frame
from .model import Reading, has_parts, make_denoiser, make_experiment, sample_futures
from .options import ForecasterOptions
from .panel import Panel

if TYPE_CHECKING:
    import pandas as pd

Progress = Callable[[int, Report], None]
"""(member, report) after every training step."""


@dataclass(frozen=True)
class Forecaster:
    """Trained networks and all that turns a panel into tokens and back; `fit` or `load` makes one.

    past: the panel it was fitted on, where a forecast starts unless another past is given. factor: what the spread
    of sampled paths is multiplied by, so that bands held what they promise on windows not trained on.
    """

    members: tuple[Denoiser, ...]
    reading: Reading
    past: Panel
    factor: float = 1.0

    @classmethod
    def fit(
        cls,
        frame: pd.DataFrame | Panel,
        options: ForecasterOptions | None = None,
        calendar: Calendar | None = None,
        progress: Progress | None = None,
    ) -> Forecaster:
        """Train on a data frame (long or wide, see `panel_from_frame`) or a panel.

        calendar: what is known of every day in advance; by default what usually matters at the panel's frequency.
        Raises ValueError for series that are constant or shorter than a context and a horizon.
        """
        panel = frame if isinstance(frame, Panel) else panel_from_frame(frame)
        options = fitted_options(options or ForecasterOptions(), panel)
        check_learnable(panel, options)
        reading = Reading.fit(panel, options, calendar)
        members: list[Denoiser] = []
        for number in range(options.members):
            seed = seed_for(options.seed, "member", number)
            torch.manual_seed(seed)
            experiment = make_experiment(panel, reading)
            for report in train(experiment, replace(options, seed=seed)):
                if progress is not None:
                    progress(number, report)
            members.append(experiment.denoiser)
        fitted = cls(tuple(members), reading, panel)
        return fitted.calibrated() if options.calibrate and options.held_out else fitted

    def calibrated(self, samples: int = 100) -> Forecaster:
        """The same forecaster with the spread that would have been right on the held-out windows."""
        options, panel = self.reading.options, self.past
        first = len(panel) - options.held_out
        origins = range(first, len(panel) - options.horizon + 1, max(1, options.horizon // 2))
        plain = replace(self, factor=1.0)
        sampled = plain.sample([panel.before(origin) for origin in origins], samples=samples)
        truth = torch.stack([panel.values[origin : origin + options.horizon] for origin in origins])
        windows = options.held_out / options.horizon
        return replace(self, factor=trusted(spread_factor(sampled, truth), windows))

    def predict(
        self,
        past: pd.DataFrame | Panel | None = None,
        horizon: int | None = None,
        samples: int = 100,
        seed: int = 0,
    ) -> Forecast:
        """Sample joint futures after `past` (by default the panel that was fitted)."""
        if past is None:
            past = self.past
        panel = past if isinstance(past, Panel) else panel_from_frame(past, self.past.frequency)
        horizon = horizon or self.reading.options.horizon
        drawn = self.sample([panel], horizon, samples, seed)[0]
        return Forecast(drawn, panel.future_times(horizon), panel)

    def sample(self, pasts: Sequence[Panel], horizon: int | None = None, samples: int = 100, seed: int = 0) -> Tensor:
        """Futures of several pasts at once, `(B, samples, horizon, D)`; only their last steps are read."""
        options = self.reading.options
        horizon = options.horizon if horizon is None else horizon
        if horizon < 1 or samples < 1:
            raise ValueError(f"horizon is {horizon} and samples {samples}, expected at least 1 of each")
        contexts, features = zip(*(self._context(past, horizon) for past in pasts))
        generator = generator_for(seed, "samples")
        context, calendar = torch.stack(contexts), torch.stack(features)
        return sample_futures(self.members, self.reading, context, calendar, samples, generator, self.factor)

    def _context(self, past: Panel, horizon: int) -> tuple[Tensor, Tensor]:
        """The last values `(context + 1, D)`, and calendar features `(context + horizon, C)`."""
        context = self.reading.options.context
        if past.names != self.past.names:
            raise ValueError(
                f"the past has the series {', '.join(past.names)}, expected {', '.join(self.past.names)} in this order"
            )
        if len(past) <= context:
            raise ValueError(f"the past has {len(past)} steps, expected at least {context + 1}: the context and one")
        check_recent(past, context)
        recent = past.values[-context - 1 :]
        times = past.times[-context:].append(past.future_times(horizon))
        return recent, self.reading.calendar.features(times)

    def save(self, folder: Path) -> None:
        """Write weights (safetensors) and everything else (their JSON header) into a folder."""
        for number, member in enumerate(self.members):
            save_weights(folder / f"member-{number}.safetensors", member, self._recipe())

    @classmethod
    def load(cls, folder: Path) -> Forecaster:
        """Read what `save` wrote. Raises ValueError for damaged or foreign files, OSError when there are none."""
        first = folder / "member-0.safetensors"
        recipe = read_recipe(first)
        if recipe.get("kind") != "forecaster":
            raise ValueError(f"{first} holds the weights of another recipe, expected a forecaster")
        reading, past = _reading(recipe), _panel(recipe)
        condition = reading.calendar.features(past.times[:1]).shape[1] + len(past.names)
        members: list[Denoiser] = []
        for number in range(reading.options.members):
            member = make_denoiser(len(past.names), condition, recipe["missing"], reading.options)
            load_weights(folder / f"member-{number}.safetensors", member)
            members.append(member.eval())
        return cls(tuple(members), reading, past, recipe["factor"])

    def _recipe(self) -> dict[str, Any]:
        normalizer, past = self.reading.normalizer, self.past.before(len(self.past))
        kept = max(self.reading.options.context + 1, 200)
        statistics = {
            field.name: value.tolist() if isinstance(value := getattr(normalizer, field.name), Tensor) else value
            for field in fields(normalizer)
        }
        return {
            "kind": "forecaster",
            "options": to_json(self.reading.options),
            "normalizer": statistics,
            "calendar": asdict(self.reading.calendar),
            "names": list(past.names),
            "frequency": past.frequency,
            "times": [time.isoformat() for time in past.times[-kept:]],
            # JSON has no NaN: a missing value is null.
            "values": [[None if v != v else v for v in row] for row in past.values[-kept:].tolist()],
            "missing": has_parts(self.members[0]),
            "factor": self.factor,
        }


def fitted_options(options: ForecasterOptions, panel: Panel) -> ForecasterOptions:
    """Options for a short panel: a context and a held-out tail that leave most of it for training."""
    context = min(options.context, max(2, (len(panel) - options.horizon) // 4))
    held_out = min(options.held_out, len(panel) // 5)
    return replace(options, context=context, held_out=held_out if held_out >= options.horizon else 0)


def check_learnable(panel: Panel, options: ForecasterOptions) -> None:
    """Raise ValueError for a horizon that the history cannot teach and for series that never change."""
    if options.horizon < 1:
        raise ValueError(f"horizon is {options.horizon}, expected at least 1")
    needed = options.context + 2 * options.horizon + options.held_out
    if len(panel) < needed:
        raise ValueError(
            f"the history has {len(panel)} steps, too few for a horizon of {options.horizon}: expected at least"
            f" {needed}; use a shorter horizon"
        )
    trained = panel.values[: len(panel) - options.held_out]
    for name, series in zip(panel.names, trained.T):
        known = series[~series.isnan()]
        if bool(known.isinf().any()):
            raise ValueError(f"series {name!r} holds infinite values, expected finite ones or NaN where missing")
        if len(known) < 2 or bool((known == known[0]).all()):
            raise ValueError(f"series {name!r} is constant: there is nothing to learn, drop it")


def check_recent(past: Panel, context: int) -> None:
    """Raise ValueError for a series of which nothing is known where a forecast would start."""
    for name, series in zip(past.names, past.values[-context - 1 :].T):
        if bool(series.isnan().all()):
            raise ValueError(
                f"series {name!r} has no value in the last {context + 1} steps, from which a forecast would start:"
                " drop it"
            )


def _reading(recipe: dict[str, Any]) -> Reading:
    kinds = {"logarithmic": torch.bool, "wandering": torch.bool, "relative": torch.bool}
    statistics: dict[str, Any] = {
        name: torch.tensor(value, dtype=kinds.get(name, torch.float64)) if isinstance(value, list) else value
        for name, value in recipe["normalizer"].items()
    }
    calendar = dict(recipe["calendar"])
    calendar["special_days"] = tuple(tuple(kind) for kind in calendar["special_days"])
    return Reading(Normalizer(**statistics), Calendar(**calendar), ForecasterOptions(**recipe["options"]))


def _panel(recipe: dict[str, Any]) -> Panel:
    import pandas as pd

    rows = [[float("nan") if v is None else v for v in row] for row in recipe["values"]]
    times = pd.DatetimeIndex(recipe["times"], name="ds")
    return Panel(torch.tensor(rows, dtype=torch.float64), times, tuple(recipe["names"]), recipe["frequency"])
