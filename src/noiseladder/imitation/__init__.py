"""Imitation: a policy with as much memory as it is asked for, and the worlds and demonstrations it learns from."""

from .demonstrator import demonstrate, guess
from .disturbances import Blackout, Distractor, Disturbance, Hand, Jolts, Knock, Noise
from .environment import fruit_swap_environment, register
from .fruit_swap import FruitSwap, Observation

__all__ = [
    "Blackout",
    "Distractor",
    "Disturbance",
    "FruitSwap",
    "Hand",
    "Jolts",
    "Knock",
    "Noise",
    "Observation",
    "demonstrate",
    "fruit_swap_environment",
    "guess",
    "register",
]
