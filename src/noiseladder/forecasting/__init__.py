"""Forecasting: many joint futures of several series, from a model trained on their past."""

from .calendar import Calendar, us_special_days
from .forecast import Forecast
from .forecaster import Forecaster
from .frames import panel_from_frame, read_table
from .gluon_predictor import GluonPredictor
from .options import ForecasterOptions
from .panel import Panel

__all__ = [
    "Calendar",
    "Forecast",
    "Forecaster",
    "ForecasterOptions",
    "GluonPredictor",
    "Panel",
    "panel_from_frame",
    "read_table",
    "us_special_days",
]
