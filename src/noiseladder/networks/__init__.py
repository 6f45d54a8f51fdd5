"""What learns: each network turns (tokens, levels, condition, state) into (output, state)."""

from .min_gru import MinGRUNetwork, MinGRUState
from .recurrent import RecurrentNetwork, RecurrentState
from .split import SplitNetwork, SplitState
from .transformer import CacheState, PastState, TransformerNetwork

__all__ = [
    "CacheState",
    "MinGRUNetwork",
    "MinGRUState",
    "PastState",
    "RecurrentNetwork",
    "RecurrentState",
    "SplitNetwork",
    "SplitState",
    "TransformerNetwork",
]
