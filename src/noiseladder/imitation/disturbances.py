"""What goes wrong while the arm works, decided before anything is trained: small objects that are put together.

Each says what it does to the world and what it does to the picture of a camera; both do nothing by default, so a new
one is a frozen dataclass with one method. `drawn(seed)` draws one from the ranges that the benchmark uses.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

from .tabletop import CAMERAS, FRUITS, OUT_OF_SIGHT, SLOT_X

NEAR_THE_TABLE = 0.07  # metres of the finger tips


class Touchable(Protocol):
    """What a disturbance may do to the world."""

    def place(self, name: str, position: tuple[float, float, float]) -> None:
        """Put the `hand` or the `distractor` somewhere, metres."""
        ...

    def paint(self, name: str, colour: tuple[float, float, float]) -> None:
        """Give the `distractor` a colour, each part in [0, 1]."""
        ...

    def push(self, fruit: str, shift: tuple[float, float]) -> bool:
        """Move a lying fruit by (x, y) metres; False when the gripper holds it."""
        ...

    def jolt(self, shift: tuple[float, float]) -> None:
        """Shift where the arm wants its finger tips to be by (x, y) metres, whatever it was told."""
        ...

    @property
    def tips(self) -> NDArray[np.float64]:
        """Where the finger tips are, (3,) metres."""
        ...

    def camera_place(self, camera: str) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Where a camera is, where it looks and what is right of it: three vectors (3,)."""
        ...


@dataclass(frozen=True)
class Disturbance:
    """Nothing goes wrong."""

    def touch(self, world: Touchable, step: int) -> None:
        """Called before step number `step` of an episode, step 0 being before the first picture."""

    def picture(self, picture: NDArray[np.uint8], camera: str, step: int, seed: int) -> NDArray[np.uint8]:
        """What arrives in place of `picture` (H, W, 3), which is not written to. `seed` is the episode's."""
        return picture


@dataclass(frozen=True)
class Spell(Disturbance):
    """Something happens before one camera from step `start`, for `steps` steps of a tenth of a second."""

    camera: str = "front"
    start: int = 40
    steps: int = 30

    def __post_init__(self) -> None:
        _check_camera(self.camera)
        _check_span(self.start, self.steps)

    @classmethod
    def drawn(cls, seed: int) -> Self:
        """Either camera, 2 to 5 seconds, somewhere in the first 12 seconds."""
        random = np.random.default_rng(seed)
        return cls(str(random.choice(CAMERAS)), int(random.integers(10, 120)), int(random.integers(20, 51)))

    def during(self, step: int) -> bool:
        """Whether it lasts in this step."""
        return self.start <= step < self.start + self.steps


@dataclass(frozen=True)
class Blackout(Spell):
    """One camera is black for a while."""

    def picture(self, picture: NDArray[np.uint8], camera: str, step: int, seed: int) -> NDArray[np.uint8]:
        """Black while it lasts."""
        dark = camera == self.camera and self.during(step)
        return np.zeros_like(picture) if dark else picture


@dataclass(frozen=True)
class Hand(Spell):
    """A hand comes between one camera and the table and leaves again; it touches nothing.

    In at one edge, across and out at the other, from step `start`, for `steps` steps, `distance` metres away.
    """

    distance: float = 0.25

    def touch(self, world: Touchable, step: int) -> None:
        """Move the hand along."""
        if step == self.start + self.steps:
            world.place("hand", OUT_OF_SIGHT)
        if not self.during(step):
            return
        place, forward, right = world.camera_place(self.camera)
        across = 0.3 * (2 * (step - self.start + 0.5) / self.steps - 1)  # metres, from one edge to the other
        x, y, z = place + self.distance * forward + across * right
        world.place("hand", (float(x), float(y), float(z)))


@dataclass(frozen=True)
class Distractor(Disturbance):
    """A small box that was not there in training stands on the table at (x, y) in metres, away from the plates."""

    x: float = SLOT_X + 0.14
    y: float = 0.08
    colour: tuple[float, float, float] = (0.2, 0.3, 0.9)

    def __post_init__(self) -> None:
        if abs(self.x - SLOT_X) < 0.1 and abs(self.y) < 0.27:
            raise ValueError(
                f"a distractor at ({self.x}, {self.y}) stands among the plates: keep x at least 0.1 from {SLOT_X}"
            )

    @classmethod
    def drawn(cls, seed: int) -> Distractor:
        """In front of the plates, anywhere along them, in any colour."""
        random = np.random.default_rng(seed)
        red, green, blue = (float(part) for part in random.uniform(0.05, 0.95, 3))
        return cls(SLOT_X + float(random.uniform(0.11, 0.2)), float(random.uniform(-0.2, 0.2)), (red, green, blue))

    def touch(self, world: Touchable, step: int) -> None:
        """Put it there before the first picture."""
        if step == 0:
            world.paint("distractor", self.colour)
            world.place("distractor", (self.x, self.y, 0.025))


@dataclass(frozen=True)
class Knock(Disturbance):
    """A fruit is moved by (x, y) metres at step `step`, or not at all while the gripper holds it."""

    fruit: str = "orange"
    step: int = 30
    x: float = 0.02
    y: float = 0.02

    def __post_init__(self) -> None:
        if self.fruit not in FRUITS:
            raise ValueError(f"no fruit {self.fruit!r} on the table: expected one of {', '.join(FRUITS)}")

    @classmethod
    def drawn(cls, seed: int) -> Knock:
        """Either fruit, 2 to 4 centimetres in any direction, somewhere in the first 12 seconds."""
        random = np.random.default_rng(seed)
        angle, far = random.uniform(0, 2 * np.pi), random.uniform(0.02, 0.04)
        fruit, step = str(random.choice(FRUITS)), int(random.integers(10, 120))
        return cls(fruit, step, float(far * np.cos(angle)), float(far * np.sin(angle)))

    def touch(self, world: Touchable, step: int) -> None:
        """Knock once."""
        if step == self.step:
            world.push(self.fruit, (self.x, self.y))


@dataclass(frozen=True)
class Jolts(Disturbance):
    """Somebody bumps against the arm now and then, more often while it is busy near the table.

    It happens to whoever shows how it is done, so that there is something to learn from about hands which are not
    where they were sent: grips that miss, fruits that are pushed, places that are not reached at the first try
    (Laskey et al., 2017, disturb demonstrators for the same reason).
    high, low: chance in a step, and in one with the finger tips within 7 centimetres of the table. far: metres, from
    and to, in any horizontal direction.
    """

    seed: int = 0
    high: float = 0.015
    low: float = 0.12
    far: tuple[float, float] = (0.02, 0.07)

    def __post_init__(self) -> None:
        if not (0 <= self.high <= 1 and 0 <= self.low <= 1):
            raise ValueError(f"chances of a jolt {self.high} and {self.low}: expected numbers in [0, 1]")

    def strikes(self, step: int, height: float) -> tuple[float, float] | None:
        """By how far the hand, `height` metres above the table, is shifted in a step, (x, y); the same for a seed."""
        random = np.random.default_rng((self.seed, step, 3))
        chance, angle, far = random.random(), random.uniform(0, 2 * np.pi), random.uniform(*self.far)
        if step < 1 or chance >= (self.low if height < NEAR_THE_TABLE else self.high):
            return None
        return float(far * np.cos(angle)), float(far * np.sin(angle))

    def touch(self, world: Touchable, step: int) -> None:
        """Perhaps bump."""
        shift = self.strikes(step, float(np.float32(world.tips[2])))  # as the robot's state has it
        if shift is not None:
            world.jolt(shift)


@dataclass(frozen=True)
class Noise(Disturbance):
    """Every pixel of every camera is off by a Gaussian of this deviation, in grey levels of 255."""

    deviation: float = 12.0

    def __post_init__(self) -> None:
        if not 0 <= self.deviation < 256:
            raise ValueError(f"a deviation of {self.deviation} grey levels: expected 0 to 255")

    def picture(self, picture: NDArray[np.uint8], camera: str, step: int, seed: int) -> NDArray[np.uint8]:
        """A noisy copy; the same for the same episode, camera and step."""
        random = np.random.default_rng((seed, step, CAMERAS.index(camera)))
        noisy = picture + self.deviation * random.standard_normal(picture.shape, dtype=np.float32)
        return np.clip(np.rint(noisy), 0, 255).astype(np.uint8)


def _check_camera(camera: str) -> None:
    if camera not in CAMERAS:
        raise ValueError(f"no camera {camera!r} here: expected one of {', '.join(CAMERAS)}")


def _check_span(start: int, steps: int) -> None:
    if start < 0 or steps < 1:
        raise ValueError(f"a disturbance from step {start} for {steps} steps: expected start >= 0 and steps >= 1")
