"""Every random number of a run is a function of (seed, what for, step), so a resumed run has no state to restore."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch


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
