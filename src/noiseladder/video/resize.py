"""A picture made small: its middle square, each pixel the mean of the area it covers."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def shrink(picture: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """The middle square of a picture (H, W, 3), as (size, size, 3); ValueError when it is smaller than that."""
    height, width = picture.shape[:2]
    side = min(height, width)
    if side < size:
        raise ValueError(f"frames are {width}x{height}, expected at least {size}x{size}: choose a smaller size")
    top, left = (height - side) // 2, (width - side) // 2
    square = np.ascontiguousarray(picture[top : top + side, left : left + side])
    if side == size:
        return square
    return np.asarray(Image.fromarray(square).resize((size, size), Image.Resampling.BOX))
