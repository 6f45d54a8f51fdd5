"""How models are trained: one loop, the same on one process or many, and runs that survive being killed."""

from .checkpoint import latest_checkpoint, read_checkpoint, restore_checkpoint, save_checkpoint
from .experiment import Batches, Experiment, Objective
from .loop import Report, Training, train
from .options import TrainingOptions
from .randomness import check_seed, generator_for, seeded
from .ranks import Ranks, joined_ranks
from .validation import Validation
from .weights import load_weights, read_recipe, save_weights

__all__ = [
    "Batches",
    "Experiment",
    "Objective",
    "Ranks",
    "Report",
    "Training",
    "TrainingOptions",
    "Validation",
    "check_seed",
    "generator_for",
    "joined_ranks",
    "latest_checkpoint",
    "load_weights",
    "read_checkpoint",
    "read_recipe",
    "restore_checkpoint",
    "save_checkpoint",
    "save_weights",
    "seeded",
    "train",
]
