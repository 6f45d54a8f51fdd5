"""AdamW with decay on matrices only, and a learning rate that rises in a line and falls in a cosine."""

import math

import torch
from torch import nn

from .options import TrainingOptions


def make_optimizer(module: nn.Module, options: TrainingOptions) -> torch.optim.AdamW:
    """AdamW (Loshchilov and Hutter, 2019). Biases, gains and learned states have one dimension and are not decayed."""
    learned = [parameter for parameter in module.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in learned if p.ndim >= 2], "weight_decay": options.weight_decay},
        {"params": [p for p in learned if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(
        [group for group in groups if group["params"]],
        lr=options.learning_rate,
        betas=(0.9, 0.99),
        fused=True,
    )


def learning_rate(step: int, options: TrainingOptions) -> float:
    """The learning rate of a step, counted from 0; the last step's is just above 0."""
    if step < options.warmup:
        return options.learning_rate * (step + 1) / (options.warmup + 1)
    done = (step - options.warmup) / max(1, options.steps - options.warmup)
    return options.learning_rate * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))
