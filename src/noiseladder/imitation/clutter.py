"""Something of a known colour that does not belong there, added to what an eye has read: to learn not to be fooled.

What an eye says of a colour are its moments, and those of two things add up. So a strange thing can be put into
pictures that were taken without it, at the price of a few sums; it stays where it is, as things do.
"""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from .eye import FEW, VALUES

LARGEST = 0.02  # of the picture; a fruit covers about .01
EXTENT = (0.03, 0.12)  # of the thing, in half pictures


def cluttered(read: Tensor, amount: Tensor, place: Tensor, extent: Tensor) -> Tensor:
    """What an eye would say of a colour (..., VALUES) if there were one more thing of it in the picture.

    amount: (...), its share of the picture, 0 for none. place: (..., 2), its middle in [-1, 1]. extent: (..., 2).
    """
    there = read[..., 0] ** 2
    seen = (there / (there + FEW)).clamp(min=1e-6)[..., None]
    mean, deviation = read[..., 1:3] / seen, read[..., 3:] / seen
    together = (there + amount)[..., None].clamp(min=1e-12)
    first, second = there[..., None] / together, amount[..., None] / together
    middle = first * mean + second * place
    square = first * (deviation**2 + mean**2) + second * (extent**2 + place**2)
    told = together / (together + FEW)
    spread = (square - middle**2).clamp(min=0).sqrt()
    return torch.cat([together.sqrt(), told * middle, told * spread], dim=-1)


def clutter(read: Tensor, share: float, generator: Generator) -> Tensor:
    """Put a thing of one random colour into a share of the sequences, read (B, T, VALUES colours), of one camera."""
    episodes, colours = len(read), read.shape[-1] // VALUES

    def chance(*shape: int) -> Tensor:
        return torch.rand(episodes, 1, *shape, generator=generator)

    which = (chance(1) * colours).long() == torch.arange(colours)
    amount = torch.where(which & (chance(1) < share), LARGEST * chance(1), 0.0)
    place = 2 * chance(1, 2) - 1
    extent = EXTENT[0] + (EXTENT[1] - EXTENT[0]) * chance(1, 2)
    by_colour = read.unflatten(-1, (colours, VALUES))
    changed = cluttered(
        by_colour,
        amount.expand(by_colour.shape[:-1]),
        place.expand(*by_colour.shape[:-1], 2),
        extent.expand(*by_colour.shape[:-1], 2),
    )
    return torch.where((amount > 0)[..., None], changed, by_colour).flatten(-2)
