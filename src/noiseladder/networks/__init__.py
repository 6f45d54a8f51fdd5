"""What learns: each network turns (tokens, levels, condition, state) into (output, state)."""

from .recurrent import RecurrentNetwork, RecurrentState

__all__ = ["RecurrentNetwork", "RecurrentState"]
