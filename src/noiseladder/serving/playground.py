"""A playground is a world with all that the page must know of it: where walks begin, how fast it runs, what slides."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass, replace
from types import MappingProxyType
from typing import Any

from PIL import Image

from noiseladder.video.clip import Frames
from noiseladder.video.playable import Opening, PlayableWorld, idle_action


@dataclass(frozen=True)
class Slider:
    """How far a number of the world's `dreaming` can be moved on the page, and in which steps."""

    least: float
    most: float
    by: float


SLIDERS: Mapping[str, Slider] = MappingProxyType(
    {
        "steps": Slider(1, 16, 1),
        "stabilization": Slider(0, 0.5, 0.01),
        "history": Slider(0, 4, 0.1),
        "bend": Slider(0.5, 4, 0.1),
        "guidance": Slider(0, 4, 0.1),
    }
)
"""By the names of the fields; a field without a slider stays as it is."""


@dataclass(frozen=True)
class Playground:
    """What is played.

    title: its name. note: one sentence on what it is. rate: frames a second at which it is lived.
    Raises ValueError without openings, and for more than can be shown.
    """

    title: str
    note: str
    world: PlayableWorld
    openings: Sequence[Opening]
    rate: float
    sliders: Mapping[str, Slider] = field(default_factory=lambda: SLIDERS)
    dreaming: Any = field(init=False)
    """How every walk begins to dream: the world's own changes with whoever walks in it."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "dreaming", self.world.dreaming)
        if not 1 <= len(self.openings) <= 64:
            raise ValueError(f"there are {len(self.openings)} openings, expected 1 to 64: real frames to begin with")
        if not 0 < self.rate <= 120:
            raise ValueError(f"rate is {self.rate}, expected more than 0 and at most 120 frames a second")

    @property
    def idle(self) -> int | None:
        """The action that does nothing, if there is one."""
        return idle_action(self.world.actions)

    def described(self) -> dict[str, Any]:
        """All of it as JSON values; real frames as PNG in base64."""
        return {
            "title": self.title,
            "note": self.note,
            "rate": self.rate,
            "actions": list(self.world.actions),
            "idle": self.idle,
            "openings": [
                {"picture": _png(opening.frames[-1]), "later": 0 if opening.later is None else len(opening.later)}
                for opening in self.openings
            ],
        }

    def sliding(self, dreaming: Any) -> list[dict[str, Any]]:
        """The sliders and where they stand, as JSON values."""
        if not is_dataclass(dreaming):
            return []
        return [
            {
                "name": name,
                "least": slider.least,
                "most": slider.most,
                "by": slider.by,
                "value": getattr(dreaming, name),
            }
            for name, slider in self.sliders.items()
            if name in {one.name for one in fields(dreaming)}
        ]

    def slid(self, dreaming: Any, values: Mapping[str, float]) -> Any:
        """`dreaming` with some numbers moved. Raises ValueError, one sentence, for any that cannot be."""
        there = {one["name"] for one in self.sliding(dreaming)}
        moved: dict[str, float] = {}
        for name, value in values.items():
            if name not in there:
                raise ValueError(
                    f"there is nothing called {name!r} to move: {', '.join(sorted(there)) or 'nothing is'}"
                )
            slider = self.sliders[name]
            if not slider.least <= value <= slider.most:
                raise ValueError(f"{name} is {value}, expected {slider.least} to {slider.most}")
            if isinstance(getattr(dreaming, name), int) and value != int(value):
                raise ValueError(f"{name} is {value}, expected a whole number")
            moved[name] = int(value) if isinstance(getattr(dreaming, name), int) else float(value)
        return replace(dreaming, **moved)


def _png(frame: Frames) -> str:
    file = io.BytesIO()
    Image.fromarray(frame).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()
