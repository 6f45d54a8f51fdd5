"""What learns: each network turns (tokens, levels, condition, state) into (output, state)."""

from .convolutional import ConvolutionalNetwork, ConvolutionalState
from .halves import SplitState
from .min_gru import MinGRUNetwork, MinGRUState
from .recurrent import RecurrentNetwork, RecurrentState
from .spatial import SpatialNetwork
from .split import SplitNetwork
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
    "SpatialNetwork",
    "SplitNetwork",
    "SplitState",
    "TransformerNetwork",
]
