"""What every data set hands to the objective."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """A batch of B sequences of T tokens.

    tokens: (B, T, ...), in the units the network learns (normalised).
    condition: (B, T, C) or None; known at every step, also in the future: actions, calendar.
    mask: (B, T), or (B, T, D) where parts of a token can be missing; True where the value is real.
        What is not real is shown at level 1 and has no loss, so it may hold anything, NaN included.
    """

    tokens: Tensor
    condition: Tensor | None = None
    mask: Tensor | None = None

    def __post_init__(self) -> None:
        shape = tuple(self.tokens.shape)
        if self.tokens.ndim < 3:
            raise ValueError(f"tokens have shape {shape}, expected (B, T, ...): sequences, steps, token")
        if not self.tokens.is_floating_point():
            raise ValueError(f"tokens are {self.tokens.dtype}, expected floats: call .float() on them")
        if self.condition is not None and self.condition.shape[:2] != self.tokens.shape[:2]:
            raise ValueError(
                f"condition has shape {tuple(self.condition.shape)}, expected (B, T, C) with the B and T of"
                f" the tokens {shape}"
            )
        if self.mask is not None and (
            self.mask.dtype != torch.bool
            or self.mask.ndim < 2
            or self.mask.shape != self.tokens.shape[: self.mask.ndim]
        ):
            raise ValueError(
                f"mask is {self.mask.dtype} of shape {tuple(self.mask.shape)}, expected bool of shape"
                f" {shape[:2]} or {shape}: True where a value is real"
            )

    def __len__(self) -> int:
        """Number of sequences."""
        return len(self.tokens)

    def __getitem__(self, index: slice | Tensor) -> "Batch":
        """Pick sequences."""
        return Batch(
            self.tokens[index],
            None if self.condition is None else self.condition[index],
            None if self.mask is None else self.mask[index],
        )

    def to(self, device: torch.device | str) -> "Batch":
        """The same batch on another device."""
        return Batch(
            self.tokens.to(device),
            None if self.condition is None else self.condition.to(device),
            None if self.mask is None else self.mask.to(device),
        )
