"""DeepAR as GluonTS ships it (Salinas et al., 2020): one recurrent network for all series, Student-t outputs."""

from __future__ import annotations

import logging
import tempfile
import warnings
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from noiseladder.forecasting.calendar import Calendar
from noiseladder.forecasting.panel import Panel


@dataclass
class DeepAR:
    """Trained on levels, or on log-returns where `returns` is set; the calendar is given as known covariates."""

    returns: bool
    name: str = "DeepAR"
    context: int = 60
    epochs: int = 15
    batches: int = 50
    width: int = 64

    def fit(self, training: Panel, calendar: Calendar | None, horizon: int) -> None:
        """Train on all windows of the training part."""
        from gluonts.torch import DeepAREstimator

        self.calendar, self.horizon = calendar, horizon
        for name in ("lightning", "lightning.pytorch", "lightning.fabric", "pytorch_lightning"):
            logging.getLogger(name).setLevel(logging.ERROR)
        torch.manual_seed(0)
        covariates = 0 if calendar is None else calendar.features(training.times[:1]).shape[1]
        estimator = DeepAREstimator(
            freq=training.frequency,
            prediction_length=horizon,
            context_length=self.context,
            hidden_size=self.width,
            scaling=not self.returns,  # the mean of |returns| says little more than the volatility of the context
            num_feat_static_cat=1,
            cardinality=[len(training.names)],
            num_feat_dynamic_real=covariates,
            num_batches_per_epoch=self.batches,
            batch_size=64,
            nonnegative_pred_samples=not self.returns,
            trainer_kwargs={
                "max_epochs": self.epochs,
                "accelerator": "cpu",
                "logger": False,
                "enable_progress_bar": False,
                "enable_model_summary": False,
                "default_root_dir": tempfile.mkdtemp(),
            },
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.predictor = estimator.train(self._dataset(training, ahead=0))

    def sample(self, past: Panel, samples: int, generator: torch.Generator) -> Tensor:
        """Ancestral samples of every series."""
        torch.manual_seed(int(torch.randint(2**31, (1,), generator=generator)))
        forecasts = self.predictor.predict(self._dataset(past, ahead=self.horizon), num_samples=samples)
        paths = torch.from_numpy(np.stack([forecast.samples for forecast in forecasts], -1)).double()
        return (past.values[-1].log() + (paths * self.scale).cumsum(1)).exp() if self.returns else paths

    def _dataset(self, panel: Panel, ahead: int) -> list[dict[str, object]]:
        values = panel.values
        if self.returns:
            values = values.log().diff(dim=0, prepend=values[:1].log())
            self.scale = getattr(self, "scale", values.std(0))
            values = values / self.scale
        items: list[dict[str, object]] = []
        known = None
        if self.calendar is not None:
            times = panel.times if ahead == 0 else panel.times.append(panel.future_times(ahead))
            known = self.calendar.features(times).numpy().T
        for number, series in enumerate(values.T):
            item: dict[str, object] = {
                "target": series.float().numpy(),
                "start": panel.times[0].to_period(panel.frequency),
                "feat_static_cat": [number],
            }
            items.append(item if known is None else item | {"feat_dynamic_real": known})
        return items
