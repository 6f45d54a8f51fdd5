"""What a forecaster is: how far it looks back and ahead, how large its network is, how it is trained and sampled."""

from __future__ import annotations

from dataclasses import dataclass

from noiseladder.training.options import TrainingOptions, check_at_least


@dataclass(frozen=True, kw_only=True)
class ForecasterOptions(TrainingOptions):
    """Options of a forecaster; the defaults were chosen on validation windows (docs/experiments.md)."""

    horizon: int = 30
    """Steps ahead that are practised; a forecast may be shorter or longer."""
    context: int = 56
    """Steps that are read before a forecast."""
    width: int = 64
    """Width of the recurrent network."""
    layers: int = 1
    """Recurrent layers."""
    members: int = 1
    """Networks trained from different starts; each draws its share of the samples."""
    batch: int = 32
    """Windows in a training batch."""
    mirror: bool = True
    """Where every series wanders: rises and falls are equally likely, so windows are also seen upside down."""
    prior: float = 0.2
    """Share of the usual volatility in that of a context."""
    prior_correlation: float = 0.5
    """Share of the usual correlation of increments in that of a context."""
    half_life: float = 0.0
    """Steps after which an increment counts half for a context's volatility; 0 for never."""
    noisy_history: float = 0.2
    """Share of training windows whose future is read at independent levels instead of clean."""
    held_out: int = 600
    """Steps at the end that are not trained on: they choose the weights and calibrate the spread."""
    sampling_steps: int = 8
    """Denoising steps a token."""
    remembered_level: float = 0.0
    """How noisy a sampled token is remembered."""
    calibrate: bool = True
    """Scale the spread of paths so that bands hold what they promise on the held-out windows."""
    steps: int = 1000
    learning_rate: float = 2e-3
    average: float = 0.995
    weight_decay: float = 0.01
    validate_every: int = 250

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least(self, context=1, width=1, layers=1, members=1, batch=1, sampling_steps=1)
