"""The table: three plates in a row, an apple and an orange, an arm behind them and two cameras."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .arm import arm_with_gripper
from .rendering import need_mujoco

FRUITS = ("apple", "orange")
CAMERAS = ("front", "side")
SLOT_X, SLOT_Y = 0.45, (-0.17, 0.0, 0.17)  # metres; the arm stands at the origin
RADIUS = 0.034
OUT_OF_SIGHT = (0.0, 0.0, -3.0)  # where the hand and the distractor are when nobody needs them
TIMESTEP = 0.004

_APPLE, _ORANGE = (190, 25, 30), (240, 130, 20)


def tabletop(size: int) -> Any:
    """The compiled MuJoCo model; `size` is the largest picture that may be asked of it, in pixels."""
    mujoco = need_mujoco()
    specification = arm_with_gripper()
    specification.option.timestep = TIMESTEP
    specification.option.integrator = mujoco.mjtIntegrator.mjINT_IMPLICITFAST
    # Shadows and smoothed edges cost more than everything else in software OpenGL; so does a large canvas.
    quality, canvas = specification.visual.quality, specification.visual.global_
    quality.shadowsize, quality.offsamples = 0, 0
    quality.numslices, quality.numstacks, quality.numquads = 16, 8, 2  # of what is round, and of each side of a box
    canvas.offwidth = canvas.offheight = size
    light = specification.visual.headlight
    light.ambient, light.diffuse, light.specular = [0.4] * 3, [0.25] * 3, [0.1] * 3
    world = specification.worldbody
    world.add_light(pos=[0.3, 0.3, 1.5], dir=[0, -0.2, -1], diffuse=[0.4] * 3, castshadow=False)
    _add_room(mujoco, world)
    for y in SLOT_Y:
        _add_plate(mujoco, world, y)
    for name, colour in zip(FRUITS, (_APPLE, _ORANGE)):
        _add_fruit(mujoco, specification, name, colour)
    _add_visitors(mujoco, world)
    world.add_camera(name="front", pos=[1.05, 0.0, 0.62], xyaxes=[0, 1, 0, -0.62, 0, 0.78], fovy=42)
    world.add_camera(name="side", pos=[0.45, -0.78, 0.42], xyaxes=[1, 0, 0, 0, 0.5, 0.86], fovy=42)
    return specification.compile()


def _add_room(mujoco: Any, world: Any) -> None:
    box, plane = mujoco.mjtGeom.mjGEOM_BOX, mujoco.mjtGeom.mjGEOM_PLANE
    world.add_geom(type=plane, size=[3, 3, 0.1], pos=[0, 0, -0.4], rgba=[0.35, 0.37, 0.4, 1])
    for size, place, colour in (
        ([0.02, 1.5, 1.5], [1.2, 0, 0.5], [0.75, 0.76, 0.72, 1]),
        ([2, 0.02, 1.5], [0.3, 1.2, 0.5], [0.66, 0.7, 0.74, 1]),
        ([0.02, 1.5, 1.5], [-0.9, 0, 0.5], [0.6, 0.66, 0.6, 1]),
    ):
        world.add_geom(type=box, size=size, pos=place, rgba=colour, contype=0, conaffinity=0)
    world.add_geom(
        name="table",
        type=box,
        size=[0.45, 0.5, 0.02],
        pos=[0.35, 0, -0.02],
        rgba=[0.72, 0.6, 0.45, 1],
        friction=[1, 0.02, 0.005],
    )


def _add_plate(mujoco: Any, world: Any, y: float) -> None:
    """A disc with a rim of ten short walls, which keep a rolling fruit."""
    plate = world.add_body(pos=[SLOT_X, y, 0])
    plate.add_geom(
        type=mujoco.mjtGeom.mjGEOM_CYLINDER, size=[0.06, 0.002, 0], pos=[0, 0, 0.002], rgba=[0.9, 0.92, 0.95, 1]
    )
    for angle in np.linspace(0, 2 * np.pi, 10, endpoint=False):
        plate.add_geom(
            type=mujoco.mjtGeom.mjGEOM_BOX,
            size=[0.004, 0.019, 0.006],
            pos=[0.058 * np.cos(angle), 0.058 * np.sin(angle), 0.006],
            quat=[np.cos(angle / 2), 0, 0, np.sin(angle / 2)],
            rgba=[0.75, 0.8, 0.9, 1],
        )


def _add_fruit(mujoco: Any, specification: Any, name: str, colour: tuple[int, int, int]) -> None:
    texture = specification.add_texture(
        name=name, type=mujoco.mjtTexture.mjTEXTURE_CUBE, width=64, height=6 * 64, nchannel=3
    )
    texture.data = np.concatenate([_peel(colour, face) for face in range(6)]).tobytes()
    material = specification.add_material(name=name)
    material.textures[mujoco.mjtTextureRole.mjTEXROLE_RGB] = name
    fruit = specification.worldbody.add_body(name=name, pos=[SLOT_X, 0, RADIUS + 0.01])
    fruit.add_freejoint()
    fruit.add_geom(
        name=name,
        type=mujoco.mjtGeom.mjGEOM_ELLIPSOID,
        size=[RADIUS, RADIUS, 0.93 * RADIUS],
        material=name,
        mass=0.12,
        condim=6,  # friction against sliding, spinning and rolling
        friction=[1.2, 0.02, 0.004],
        solref=[0.01, 1],
        priority=1,
    )
    if name == "apple":
        fruit.add_geom(
            type=mujoco.mjtGeom.mjGEOM_CAPSULE,
            size=[0.003, 0.008, 0],
            pos=[0, 0, RADIUS + 0.002],
            rgba=[0.3, 0.2, 0.1, 1],
            contype=0,
            conaffinity=0,
            mass=0,
        )


def _add_visitors(mujoco: Any, world: Any) -> None:
    """A hand that nothing can touch and a toy that stands in the way; both wait out of sight."""
    box = mujoco.mjtGeom.mjGEOM_BOX
    hand = world.add_body(name="hand", mocap=True, pos=OUT_OF_SIGHT)
    hand.add_geom(type=box, size=[0.05, 0.09, 0.02], rgba=[0.85, 0.65, 0.55, 1], contype=0, conaffinity=0)
    toy = world.add_body(name="distractor", mocap=True, pos=OUT_OF_SIGHT)
    toy.add_geom(name="distractor", type=box, size=[0.025, 0.025, 0.025], rgba=[0.2, 0.3, 0.9, 1])


def _peel(colour: tuple[int, int, int], face: int) -> NDArray[np.uint8]:
    """A face of a fruit's skin, `(64, 64, 3)`: flecks, so that turning it can be seen. The same on every machine."""
    noise = np.random.default_rng(face).random((64, 64, 1))
    skin = np.array(colour) - 35.0 * noise * np.array([1.0, 1.0, 0.4])
    if colour == _APPLE:
        skin += 18 * np.sin(40 * np.linspace(0, 1, 64))[None, :, None] * np.array([1.0, 0.6, 0.3])
        skin[noise[..., 0] > 0.985] = (230, 190, 120)
    face_of_skin: NDArray[np.uint8] = np.clip(skin, 0, 255).astype(np.uint8)
    return face_of_skin
