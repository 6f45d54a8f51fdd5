"""Every random number of a run is a function of (seed, what for, step), so a resumed run has no state to restore."""

import hashlib
import operator
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

LARGEST_SEED = 2**31 - 1
"""Of what a user may choose: with what is added to keep seeds apart it stays below 2^32, after which they repeat."""


def check_seed(seed: Any) -> int:
    """A seed that a user chose. Raises ValueError unless it is a whole number from 0 to 2^31 - 1."""
    try:
        number = -1 if isinstance(seed, bool) else operator.index(seed)
    except TypeError:
        number = -1
    if not 0 <= number <= LARGEST_SEED:
        raise ValueError(f"seed is {seed!r}, expected a whole number, 0 to {LARGEST_SEED}")
    return number


def seed_for(seed: int, purpose: str, step: int = 0) -> int:
    """A 32-bit seed; within one purpose no two steps below 2^32 share theirs.

    32 bits because torch's CPU generator looks at no more. The odd factor is a bijection modulo 2^32.
    """
    offset = int.from_bytes(hashlib.blake2b(f"{seed}/{purpose}".encode(), digest_size=4).digest(), "big")
    return (offset + step * 0x9E3779B1) % 2**32


def generator_for(seed: int, purpose: str, step: int = 0, device: torch.device | str = "cpu") -> torch.Generator:
    """A fresh generator for one purpose at one step."""
    return torch.Generator(device).manual_seed(seed_for(seed, purpose, step))


@contextmanager
def seeded(seed: int, purpose: str, step: int = 0, device: torch.device | str = "cpu") -> Iterator[None]:
    """Seed torch's global generators inside the block, and put them back after it.

    For what takes no generator: initial weights and dropout.
    """
    device, number = torch.device(device), seed_for(seed, purpose, step)
    before = torch.get_rng_state()
    on_device = torch.cuda.get_rng_state(device) if device.type == "cuda" else None
    # Not torch.manual_seed, which seeds every kind of device there is: a hundred times slower, once a step.
    torch.default_generator.manual_seed(number)
    if on_device is not None:
        with torch.cuda.device(device):
            torch.cuda.manual_seed(number)
    try:
        yield
    finally:
        torch.set_rng_state(before)
        if on_device is not None:
            torch.cuda.set_rng_state(on_device, device)
