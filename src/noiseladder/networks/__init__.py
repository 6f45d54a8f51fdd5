"""What learns: each network turns (tokens, levels, condition, state) into (output, state)."""

from .convolutional import ConvolutionalNetwork, ConvolutionalState
from .min_gru import MinGRUNetwork, MinGRUState
from .recurrent import RecurrentNetwork, RecurrentState
from .split import SplitNetwork, SplitState
from .transformer import CacheState, PastState, TransformerNetwork

__all__ = [
    "CacheState",
    "ConvolutionalNetwork",
    "ConvolutionalState",
    "MinGRUNetwork",
    "MinGRUState",
    "PastState",
    "RecurrentNetwork",
    "RecurrentState",
    "SplitNetwork",
    "SplitState",
    "TransformerNetwork",
]
