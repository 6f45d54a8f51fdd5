"""Diffusion Forcing for PyTorch: every token stands on its own rung of the noise ladder.

The public names below are imported when they are first used, because `import torch` takes a second or more
and `noiseladder --help` must not wait for it.
"""

from importlib import import_module
from typing import TYPE_CHECKING

__version__ = "0.1.0"

# Room -> its names that are public here. A test holds this table equal to the imports below, which are what
# type checkers and editors read.
_ROOMS: dict[str, tuple[str, ...]] = {}

if TYPE_CHECKING:
    pass

__all__ = ["__version__", *(name for names in _ROOMS.values() for name in names)]

if not TYPE_CHECKING:
    # Hidden from type checkers: with a module __getattr__ in sight they would accept any misspelt name.
    def __getattr__(name):
        for room, names in _ROOMS.items():
            if name in names:
                value = getattr(import_module(f"{__name__}.{room}"), name)
                globals()[name] = value  # found once, an ordinary attribute from then on
                return value
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    def __dir__():
        return sorted({*globals(), *__all__})
