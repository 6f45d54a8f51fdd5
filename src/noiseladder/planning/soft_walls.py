"""How hard MuJoCo's walls push by how deep a body is in them: its default solimp, for all mazes here."""

import torch
from torch import Tensor

STIFFEST, SOFTEST, WIDTH = 0.95, 0.9, 0.001


def impedance_at(depth: Tensor) -> Tensor:
    """MuJoCo's d(r) for depths in metres: from .9 at the surface to .95 one millimetre deep, along two parabolas."""
    part = (depth / WIDTH).clamp(0, 1)
    bent = torch.where(part <= 0.5, 2 * part**2, 1 - 2 * (1 - part) ** 2)
    return SOFTEST + bent * (STIFFEST - SOFTEST)
