"""The fruit swap as a Gymnasium environment, `noiseladder/FruitSwap-v0`, registered when it is asked for.

    import gymnasium, noiseladder.imitation as imitation
    imitation.register()
    environment = gymnasium.make("noiseladder/FruitSwap-v0")

or in one line, without the import: `gymnasium.make("noiseladder.imitation.registration:noiseladder/FruitSwap-v0")`.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib import import_module
from typing import Any

import numpy as np

from .disturbances import Disturbance
from .fruit_swap import HIGHEST_ACTION, LOWEST_ACTION, STEPS_PER_SECOND, TIME_LIMIT, FruitSwap, Observation
from .tabletop import CAMERAS

NAME = "noiseladder/FruitSwap-v0"


def register() -> str:
    """Make `gymnasium.make` know the environment, and return its name; calling it again changes nothing."""
    gymnasium = need_gymnasium()
    if NAME not in gymnasium.registry:
        # The time limit is the world's own: a wrapper's would not know of it.
        gymnasium.register(id=NAME, entry_point=fruit_swap_environment)
    return NAME


def fruit_swap_environment(
    size: int = 64, disturbances: Sequence[Disturbance] = (), render_mode: str | None = None
) -> Any:
    """A `gymnasium.Env` around `FruitSwap`.

    Observations: a dict of `front` and `side`, (size, size, 3) uint8, and `state` (7,) float32, see `Observation`.
    Actions: see `FruitSwap`. Reward 1 and the end when both fruits have rested
    swapped for three seconds, truncation at the time limit. `info["success"]`, `info["slots"]` (apple, orange at the
    beginning). `reset(options={"slots": (0, 2), "disturbances": [...]})` overrules both.
    render_mode: "rgb_array" for both views side by side.
    """
    return _environment_class()(size, disturbances, render_mode)


def need_gymnasium() -> Any:
    """Gymnasium, or an ImportError that names the extra it comes with."""
    try:
        return import_module("gymnasium")
    except ImportError as error:
        raise ImportError("environments need gymnasium: pip install 'noiseladder[imitation]'") from error


@cache
def _environment_class() -> Any:
    gymnasium = need_gymnasium()
    parent: Any = gymnasium.Env

    class FruitSwapEnvironment(parent):  # type: ignore[misc]
        """See `fruit_swap_environment`."""

        metadata = {"render_modes": ["rgb_array"], "render_fps": STEPS_PER_SECOND}  # noqa: RUF012

        def __init__(self, size: int, disturbances: Sequence[Disturbance], render_mode: str | None) -> None:
            if render_mode not in (None, "rgb_array"):
                raise ValueError(f"render_mode {render_mode!r}: expected 'rgb_array' or None")
            self.render_mode = render_mode
            self.world = FruitSwap(size)
            self._disturbances = tuple(disturbances)
            self._last: Observation | None = None
            box = gymnasium.spaces.Box
            pictures = {camera: box(0, 255, (size, size, 3), np.uint8) for camera in CAMERAS}
            lowest = np.array([-1, -1, -0.1, 0, -1, -1, -1], np.float32)
            highest = np.array([1.5, 1, 1.5, 1, 1, 1, 1], np.float32)
            self.observation_space = gymnasium.spaces.Dict({**pictures, "state": box(lowest, highest)})
            self.action_space = box(LOWEST_ACTION, HIGHEST_ACTION)

        def reset(
            self, *, seed: int | None = None, options: dict[str, Any] | None = None
        ) -> tuple[dict[str, Any], dict[str, Any]]:
            super().reset(seed=seed)
            # One number from gymnasium's own generator, so that episodes after a seeded reset are settled too.
            number = int(self.np_random.integers(2**31)) if seed is None else seed
            options = options or {}
            disturbances = options.get("disturbances", self._disturbances)
            return self._told(self.world.reset(number, disturbances, options.get("slots")))

        def step(self, action: Any) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
            if self._last is None:
                raise ValueError("step before reset: call reset first")
            observation, info = self._told(self.world.step(action))
            ended = self.world.succeeded
            return observation, float(ended), ended, not ended and self.world.steps >= TIME_LIMIT, info

        def render(self) -> Any:
            if self.render_mode is None or self._last is None:
                return None
            return np.concatenate([self._last.pictures[camera] for camera in CAMERAS], axis=1)

        def close(self) -> None:
            self.world.close()

        def _told(self, observation: Observation) -> tuple[dict[str, Any], dict[str, Any]]:
            self._last = observation
            found = {**observation.pictures, "state": observation.state}
            return found, {"success": self.world.succeeded, "slots": self.world.slots}

    return FruitSwapEnvironment
