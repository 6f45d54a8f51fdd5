"""A world model as a Gymnasium environment: agents that know nothing of dreams can live in one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from importlib import import_module
from typing import Any

import numpy as np

from .clip import Frames
from .playable import Opening, PlayableWorld, checked_action, numbered

Judge = Callable[[Frames], tuple[float, bool]]


def no_reward(frame: Frames) -> tuple[float, bool]:
    """Reward 0 and no end: a world of frames and actions does not know what anybody wants."""
    return 0.0, False


def WorldModelEnv(
    world: PlayableWorld,
    openings: Sequence[Opening],
    judge: Judge = no_reward,
    time_limit: int = 500,
    rate: float = 12.0,
    render_mode: str | None = None,
) -> Any:
    """A `gymnasium.Env` in which a `PlayableWorld` is lived.

    Observations: frames (H, W, 3) uint8. Actions: Discrete, the numbers of the world's actions. Each reset draws one of
    the openings, and the seed of the world's noise, from the environment's generator; `reset(options={"opening": 2})`
    chooses. judge: frame -> (reward, whether the episode ends here). Truncated after `time_limit` steps. rate: frames a
    second, for recordings. render_mode: "rgb_array". `info["opening"]` is the number of the opening.
    Several environments may share a world, one after the other: each goes back to its own moment before it steps.

    Raises ValueError without openings or for openings of different sizes, ImportError without Gymnasium.
    """
    if not openings:
        raise ValueError("there are no openings: give at least one Opening, real frames to begin with")
    sizes = {opening.frames.shape[1:] for opening in openings}
    if len(sizes) > 1:
        raise ValueError(f"the openings have frames of shapes {sorted(sizes)}, expected one size")
    if time_limit < 1:
        raise ValueError(f"time_limit is {time_limit}, expected at least 1 step")
    if render_mode not in (None, "rgb_array"):
        raise ValueError(f"render_mode {render_mode!r}: expected 'rgb_array' or None")
    return _environment_class()(world, tuple(openings), judge, time_limit, rate, render_mode)


def _need_gymnasium() -> Any:
    try:
        return import_module("gymnasium")
    except ImportError as error:
        raise ImportError("environments need gymnasium: pip install 'noiseladder[video]'") from error


@cache
def _environment_class() -> Any:
    gymnasium = _need_gymnasium()
    parent: Any = gymnasium.Env

    class WorldModelEnvironment(parent):  # type: ignore[misc]
        """See `WorldModelEnv`."""

        metadata = {"render_modes": ["rgb_array"], "render_fps": 12.0}  # noqa: RUF012

        def __init__(
            self,
            world: PlayableWorld,
            openings: tuple[Opening, ...],
            judge: Judge,
            time_limit: int,
            rate: float,
            render_mode: str | None,
        ) -> None:
            self.world, self.openings, self.judge, self.time_limit = world, openings, judge, time_limit
            self.render_mode = render_mode
            self.metadata = {**type(self).metadata, "render_fps": rate}
            self.observation_space = gymnasium.spaces.Box(0, 255, openings[0].frames.shape[1:], np.uint8)
            self.action_space = gymnasium.spaces.Discrete(len(world.actions))
            self._frame: Frames | None = None
            self._moment: Any = None
            self._steps = self._opening = 0

        def reset(
            self, *, seed: int | None = None, options: dict[str, Any] | None = None
        ) -> tuple[Frames, dict[str, Any]]:
            super().reset(seed=seed)
            drawn, noise = int(self.np_random.integers(len(self.openings))), int(self.np_random.integers(2**31))
            chosen = (options or {}).get("opening", drawn)
            wanted = numbered(chosen, len(self.openings))
            if wanted is None:
                raise ValueError(f"there is no opening {chosen!r}: they are numbered 0 to {len(self.openings) - 1}")
            opening = self.openings[wanted]
            frame = self.world.reset(opening.frames, opening.actions, noise if opening.seed is None else opening.seed)
            self._frame, self._steps, self._opening = frame.copy(), 0, wanted
            self._moment = self.world.snapshot()
            return frame.copy(), {"opening": wanted}

        def step(self, action: Any) -> tuple[Frames, float, bool, bool, dict[str, Any]]:
            if self._frame is None:
                raise ValueError("step before reset: call reset first")
            number = checked_action(action, self.world.actions)
            self.world.restore(self._moment)  # another environment may have been there since
            frame = self.world.step(number)
            self._frame, self._moment = frame.copy(), self.world.snapshot()
            self._steps += 1
            reward, ended = self.judge(frame)
            return frame.copy(), float(reward), bool(ended), self._steps >= self.time_limit, {"opening": self._opening}

        def render(self) -> Any:
            return None if self.render_mode is None or self._frame is None else self._frame.copy()

    return WorldModelEnvironment
