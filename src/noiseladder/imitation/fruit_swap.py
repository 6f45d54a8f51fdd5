"""The fruit swap: two fruits on two of three plates change places by way of the third, and the picture never says why.

Apple at i, orange at j, plate k empty: apple to k, orange to i, apple to j. After the first move the table looks as
another episode begins, so what to do next depends on what was done before.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .arm import JOINTS, PINCH, Reach
from .disturbances import Disturbance
from .rendering import Views, need_mujoco
from .tabletop import CAMERAS, FRUITS, OUT_OF_SIGHT, RADIUS, SLOT_X, SLOT_Y, TIMESTEP, tabletop

STEPS_PER_SECOND = 10
TIME_LIMIT = 400  # steps; a demonstration takes about 230
REST_STEPS = 30  # three seconds of nobody touching anything: longer than it takes to pick a fruit up again
LONGEST_MOVE = 0.04  # metres in one step, along each axis
LOWEST_ACTION = np.array([-LONGEST_MOVE, -LONGEST_MOVE, -LONGEST_MOVE, 0.0], dtype=np.float32)
HIGHEST_ACTION = np.array([LONGEST_MOVE, LONGEST_MOVE, LONGEST_MOVE, 1.0], dtype=np.float32)
HOME = np.array([SLOT_X - 0.08, 0.0, 0.22])
LOWEST_PLACE, HIGHEST_PLACE = np.array([0.25, -0.32, 0.012]), np.array([0.65, 0.32, 0.40])
_CLOSED = 0.8  # rad of the gripper's driving joint when nothing is between the fingers


@dataclass(frozen=True)
class Observation:
    """What the robot knows: pictures, camera name -> (size, size, 3) uint8, and state (7,) float32.

    The state is the place of the finger tips in metres, how far the gripper is open, 1 to 0, and how far the tips still
    have to go to where they were sent, in metres: the arm follows its commands by some tenths of a second.
    """

    pictures: dict[str, NDArray[np.uint8]]
    state: NDArray[np.float32]


class FruitSwap:
    """A simulated table, lived one episode at a time; deterministic from the seed of `reset`.

    An action is (dx, dy, dz) of the finger tips in metres, up to 4 cm along each axis, and the gripper, 0 open to 1
    closed; ten of them a second. What is beyond those limits is clipped.
    size: pixels of a picture's side. pictures: without them no OpenGL is needed. Call `close` when done.
    """

    def __init__(self, size: int = 64, pictures: bool = True) -> None:
        if not 16 <= size <= 1024:
            raise ValueError(f"pictures of {size} pixels: expected 16 to 1024")
        mujoco = need_mujoco()
        self._mujoco, self.size = mujoco, size
        self._model = tabletop(size)
        self._data = mujoco.MjData(self._model)
        self._reach = Reach(self._model)
        self._pinch = self._model.site(PINCH).id
        self._driver = self._model.joint("grip_right_driver_joint").qposadr[0]
        self._fruit_positions = {name: self._model.body(name).jntadr[0] for name in FRUITS}
        self._visitors = {name: self._model.body(name).mocapid[0] for name in ("hand", "distractor")}
        self._actuators = [_actuator_of(self._model, name) for name in JOINTS]
        self._fingers = self._model.actuator("grip_fingers_actuator").id
        self.views = Views(self._model, size) if pictures else None
        self._disturbances: tuple[Disturbance, ...] = ()
        self.seed = -1
        self.steps = 0
        self.rested = 0
        self.slots = (0, 1)

    # An episode

    def reset(
        self, seed: int, disturbances: Sequence[Disturbance] = (), slots: tuple[int, int] | None = None
    ) -> Observation:
        """Begin an episode: apple and orange on the plates `slots`, drawn from the seed when not given."""
        if seed < 0:
            raise ValueError(f"seed {seed}: expected 0 or more")
        if slots is not None and not (slots[0] != slots[1] and set(slots) <= {0, 1, 2}):
            raise ValueError(f"apple and orange on plates {slots}: expected two different ones of 0, 1, 2")
        mujoco, data = self._mujoco, self._data
        random = np.random.default_rng((seed, 0))
        drawn = random.permutation(3)
        self.slots = (int(drawn[0]), int(drawn[1])) if slots is None else (int(slots[0]), int(slots[1]))
        self.seed, self.steps, self.rested = seed, 0, 0
        self._disturbances = tuple(disturbances)
        mujoco.mj_resetData(self._model, data)
        self._reach.reset()
        self._target = HOME + random.normal(0, 0.015, 3)
        self._gripper = 0.0
        joints = self._reach(self._target, iterations=20)
        data.qpos[self._reach.positions] = joints
        for name, slot in zip(FRUITS, self.slots):
            x, y = np.array([SLOT_X, SLOT_Y[slot]]) + random.uniform(-0.012, 0.012, 2)
            turn = random.uniform(0, np.pi)  # half of the angle about the vertical
            first = self._address(name)
            data.qpos[first : first + 7] = [x, y, RADIUS + 0.004, np.cos(turn), 0, 0, np.sin(turn)]
        for name in self._visitors:
            self.place(name, OUT_OF_SIGHT)
        self._command(joints)
        mujoco.mj_step(self._model, data, nstep=100)  # what was put down comes to rest
        self._touch()
        return self.observe()

    def step(self, action: ArrayLike, look: bool = True) -> Observation:
        """Act for a tenth of a second. Raises ValueError for an action that is not four finite numbers.

        look: without it nothing is drawn, which takes most of the time, and the observation has no pictures.
        """
        wanted = np.asarray(action, dtype=np.float64)
        if wanted.shape != (4,) or not np.isfinite(wanted).all():
            raise ValueError(f"action {wanted}: expected four finite numbers, dx, dy, dz in metres and the gripper")
        wanted = np.clip(wanted, LOWEST_ACTION, HIGHEST_ACTION)
        self._target = np.clip(self._target + wanted[:3], LOWEST_PLACE, HIGHEST_PLACE)
        self._gripper = float(wanted[3])
        self._command(self._reach(self._target))
        self._mujoco.mj_step(self._model, self._data, nstep=round(1 / (STEPS_PER_SECOND * TIMESTEP)))
        self.steps += 1
        self.rested = self.rested + 1 if self.lies_swapped() else 0
        self._touch()
        return self.observe(look)

    def observe(self, look: bool = True) -> Observation:
        """What the robot sees and feels now, disturbances included; without a `look` it only feels."""
        pictures = {}
        if look and self.views is not None:
            # What was just touched has to be where it is shown.
            self._mujoco.mj_kinematics(self._model, self._data)
            for camera in CAMERAS:
                picture = self.views(self._data, camera)
                for disturbance in self._disturbances:
                    picture = disturbance.picture(picture, camera, self.steps, self.seed)
                pictures[camera] = picture
        state = [*self.tips, self.opening, *(self.sent - self.tips)]
        return Observation(pictures, np.array(state, dtype=np.float32))

    def close(self) -> None:
        """Give the graphics memory back."""
        if self.views is not None:
            self.views.close()

    # What is true, whatever the pictures say

    @property
    def succeeded(self) -> bool:
        """Both fruits have rested in each other's place with an open gripper for three seconds."""
        return self.rested >= REST_STEPS

    @property
    def over(self) -> bool:
        """The episode has ended, well or by its time limit."""
        return self.succeeded or self.steps >= TIME_LIMIT

    @property
    def tips(self) -> NDArray[np.float64]:
        """Where the finger tips are, (3,) metres."""
        return np.array(self._data.site_xpos[self._pinch])

    @property
    def sent(self) -> NDArray[np.float64]:
        """Where the finger tips were last sent to, (3,) metres; they come there a little later."""
        return np.array(self._target)

    @property
    def opening(self) -> float:
        """How far the gripper is open: 1 wide, 0 shut."""
        return float(np.clip(1 - self._data.qpos[self._driver] / _CLOSED, 0, 1))

    def fruit(self, name: str) -> NDArray[np.float64]:
        """Where the centre of a fruit is, (3,) metres."""
        first = self._address(name)
        return np.array(self._data.qpos[first : first + 3])

    def slot_of(self, name: str) -> int | None:
        """The plate that a fruit lies on, or None for one in the air or on the table."""
        x, y, z = self.fruit(name)
        near = [slot for slot in range(3) if np.hypot(x - SLOT_X, y - SLOT_Y[slot]) < 0.055 and z < 0.08]
        return near[0] if near else None

    def held(self) -> str | None:
        """The fruit between the closed fingers."""
        near = [name for name in FRUITS if np.linalg.norm(self.fruit(name) - self.tips) < 0.03]
        return near[0] if near and self._gripper > 0.5 else None

    def lies_swapped(self) -> bool:
        """Both fruits lie still in each other's first place and the gripper is open."""
        places = (self.slot_of("apple"), self.slot_of("orange"))
        return places == (self.slots[1], self.slots[0]) and self.opening > 0.9 and self._speed() < 0.02

    # What disturbances may do

    def place(self, name: str, position: tuple[float, float, float]) -> None:
        """Put the `hand` or the `distractor` somewhere, metres."""
        self._data.mocap_pos[self._visitors[name]] = position

    def paint(self, name: str, colour: tuple[float, float, float]) -> None:
        """Give the `distractor` a colour, each part in [0, 1]."""
        self._model.geom(name).rgba[:3] = colour

    def push(self, fruit: str, shift: tuple[float, float]) -> bool:
        """Move a lying fruit by (x, y) metres; False when the gripper holds it."""
        if self.held() == fruit or self.slot_of(fruit) is None:
            return False
        first = self._address(fruit)
        self._data.qpos[first : first + 2] += shift
        self._data.qpos[first + 2] += 0.008  # over the rim of its plate, and down again
        return True

    def jolt(self, shift: tuple[float, float]) -> None:
        """Shift where the arm wants its finger tips to be by (x, y) metres, whatever it was told."""
        self._target = np.clip(self._target + np.array([*shift, 0.0]), LOWEST_PLACE, HIGHEST_PLACE)
        self._command(self._reach(self._target))

    def camera_place(self, camera: str) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Where a camera is, where it looks and what is right of it: three vectors (3,)."""
        number = self._model.camera(camera).id
        axes = self._data.cam_xmat[number].reshape(3, 3)
        return np.array(self._data.cam_xpos[number]), -axes[:, 2], axes[:, 0]

    # Inside

    def _touch(self) -> None:
        for disturbance in self._disturbances:
            disturbance.touch(self, self.steps)

    def _command(self, joints: NDArray[np.float64]) -> None:
        self._data.ctrl[self._actuators] = joints
        self._data.ctrl[self._fingers] = 255 * self._gripper

    def _address(self, name: str) -> int:
        return int(self._model.jnt_qposadr[self._fruit_positions[name]])

    def _speed(self) -> float:
        """Metres a second of the faster fruit."""
        first = [self._model.jnt_dofadr[joint] for joint in self._fruit_positions.values()]
        return max(float(np.linalg.norm(self._data.qvel[start : start + 3])) for start in first)


def _actuator_of(model: object, joint: str) -> int:
    """The motor that turns a joint."""
    number = model.joint(joint).id  # type: ignore[attr-defined]
    return int(np.flatnonzero(model.actuator_trnid[:, 0] == number)[0])  # type: ignore[attr-defined]
